"""The instruments on the wire, and the many names each of them has."""

from collections.abc import Iterable
from uuid import NAMESPACE_DNS, uuid5

from dca.domain.market import Instrument, compact
from dca.domain.money import plain
from dca.paper.wire import Json

COINS = {"BTC": "Bitcoin", "ETH": "Ethereum", "SOL": "Solana", "LTC": "Litecoin", "DOGE": "Dogecoin"}
KNOWN_IDS = {"BTC/USD": "276e2673-764b-4ab6-a611-caf665ca6340"}
KNOWN_POSITION_IDS = {"BTC/USD": "64bbff51-59d6-4b3c-9351-13ad85e3c752"}


def asset_id(symbol: str) -> str:
    """The id by which orders and assets name `symbol`."""
    return KNOWN_IDS.get(symbol) or str(uuid5(NAMESPACE_DNS, f"asset.{compact(symbol)}"))


def position_asset_id(symbol: str) -> str:
    """The id by which positions name it: a different one (alpaca-py issue 490)."""
    return KNOWN_POSITION_IDS.get(symbol) or str(uuid5(NAMESPACE_DNS, f"position.{compact(symbol)}"))


def names(instruments: Iterable[Instrument]) -> dict[str, str]:
    """Every name that leads to a symbol."""
    found: dict[str, str] = {}
    for instrument in instruments:
        symbol = instrument.symbol
        for name in (symbol, compact(symbol), asset_id(symbol), position_asset_id(symbol)):
            found[name] = symbol
    return found


def wire(instrument: Instrument) -> Json:
    """The asset object (OpenAPI Trading: Assets). Clients still need `easy_to_borrow`."""
    base = instrument.symbol.partition("/")[0]
    return {
        "id": asset_id(instrument.symbol),
        "class": "crypto",
        "exchange": "CRYPTO",
        "symbol": instrument.symbol,
        "name": f"{COINS.get(base, base)} / US Dollar",
        "status": "active" if instrument.tradable else "inactive",
        "tradable": instrument.tradable,
        "marginable": False,
        "maintenance_margin_requirement": 100,
        "margin_requirement_long": "100",
        "margin_requirement_short": "100",
        "shortable": False,
        "easy_to_borrow": False,
        "fractionable": True,
        "attributes": [],
        "min_order_size": plain(instrument.min_order_size),
        "min_trade_increment": plain(instrument.min_trade_increment),
        "price_increment": plain(instrument.price_increment),
    }
