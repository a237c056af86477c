"""The trading API's handlers for the account: assets, positions, clock, activities."""

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal

from dca.domain.market import Quote, compact
from dca.domain.money import HUNDRED, ZERO, floor_to, plain
from dca.matching.book import QTY_STEP
from dca.paper import assets
from dca.paper.exchange import Exchange
from dca.paper.gate import Answer, Call
from dca.paper.ledger import reserved_cash, reserved_coins
from dca.paper.orders import NEW_YORK
from dca.paper.refusals import Refusal, bad_body, not_found
from dca.paper.trading import Orders
from dca.paper.wire import Json, cents, number, stamp, truth

RATIO_STEP = Decimal("0.000000001")


class Account:
    """What the account has."""

    def __init__(self, exchange: Exchange, orders: Orders) -> None:
        self.exchange = exchange
        self.orders = orders

    def equity(self) -> Decimal:
        """Cash plus coins at their bids; coins without a price count nothing."""
        ledger, quotes = self.exchange.ledger, self.exchange.quotes
        values = (held.qty * quotes[name].bid for name, held in ledger.coins.items() if name in quotes)
        return ledger.cash + sum(values, ZERO)

    def get(self, call: Call) -> Answer:
        """The account. `buying_power` is twice the cash, which is why no one should size on it."""
        cash, equity = self.exchange.ledger.cash, self.equity()
        spendable = cash - reserved_cash(self.exchange.open.values())
        coins, doubled = cents(equity - cash), cents(spendable * 2)
        born = self.exchange.born
        return Answer(
            {
                "id": self.exchange.account_id,
                "account_number": "PA3" + self.exchange.account_id[:9].replace("-", "").upper(),
                "status": "ACTIVE",
                "crypto_status": "ACTIVE",
                "crypto_tier": self.exchange.switches.crypto_tier,
                "currency": "USD",
                "cash": cents(cash),
                **dict.fromkeys(("equity", "last_equity", "portfolio_value"), cents(equity)),
                **dict.fromkeys(("buying_power", "regt_buying_power", "effective_buying_power"), doubled),
                **dict.fromkeys(("non_marginable_buying_power", "options_buying_power"), cents(spendable)),
                **dict.fromkeys(("long_market_value", "position_market_value"), coins),
                **dict.fromkeys(_ZEROS, "0"),
                "multiplier": "2",
                "balance_asof": born.date().isoformat(),
                "created_at": stamp(born),
                **dict.fromkeys(_FLAGS, False),
                "shorting_enabled": True,
                "options_approved_level": 3,
                "options_trading_level": 3,
                "admin_configurations": {},
                "user_configurations": None,
                **self.exchange.flags,
            }
        )

    # Assets and clock

    def list_assets(self, call: Call) -> Answer:
        wanted = call.query.get("asset_class", "us_equity") == "crypto"
        status = call.query.get("status")
        found = [assets.wire(item) for item in self.exchange.instruments.values()] if wanted else []
        return Answer([item for item in found if status in (None, item["status"])])

    def asset(self, call: Call) -> Answer:
        symbol = self.exchange.symbol(call.path["symbol"])
        if symbol is None:
            raise not_found(f"asset not found for {call.path['symbol']}")
        return Answer(assets.wire(self.exchange.instruments[symbol]))

    def clock(self, call: Call) -> Answer:
        """The hours of US equities, which mean nothing to crypto. Holidays are not known here."""
        now = self.exchange.clock.now().astimezone(NEW_YORK)
        opens, closes = _next(now, time(9, 30)), _next(now, time(16))
        return Answer(
            {
                "timestamp": now.isoformat(),
                "is_open": closes < opens,
                "next_open": opens.isoformat(),
                "next_close": closes.isoformat(),
            }
        )

    # Positions

    def positions(self, call: Call) -> Answer:
        return Answer([self._position(symbol) for symbol in self.exchange.ledger.coins])

    def position(self, call: Call) -> Answer:
        return Answer(self._position(self._held(call)))

    def _held(self, call: Call) -> str:
        """The symbol of a position that exists. The form with a slash is unknown here."""
        name = call.path["symbol"]
        symbol = None if "/" in name else self.exchange.symbol(name)
        if symbol is None or symbol not in self.exchange.ledger.coins:
            raise not_found("position does not exist")
        return symbol

    def _position(self, symbol: str) -> Json:
        held = self.exchange.ledger.coins[symbol]
        available = held.qty - reserved_coins(self.exchange.open.values(), symbol)
        basis = held.qty * held.average
        return {
            "asset_id": assets.position_asset_id(symbol),
            "symbol": compact(symbol),
            "exchange": "CRYPTO",
            "asset_class": "crypto",
            "asset_marginable": False,
            "avg_entry_price": plain(held.average.quantize(RATIO_STEP)),
            "qty": plain(held.qty),
            "qty_available": plain(available),
            "side": "long",
            "cost_basis": plain(basis.quantize(RATIO_STEP)),
            **_valuation(held.qty, basis, self.exchange.quotes.get(symbol)),
        }

    def close(self, call: Call) -> Answer:
        symbol = self._held(call)
        return self._closed(symbol, self._part(symbol, call))

    def _part(self, symbol: str, call: Call) -> Decimal:
        held = self.exchange.ledger.coins[symbol].qty
        qty, percentage = call.query.get("qty"), call.query.get("percentage")
        if qty and percentage:
            raise bad_body("only one of qty or percentage is accepted")
        try:
            wanted = number(qty) if qty else held * number(percentage or "100") / HUNDRED
        except ValueError as error:
            raise bad_body("invalid qty or percentage") from error
        if wanted <= 0 or (percentage and number(percentage) > HUNDRED):
            raise bad_body("invalid qty or percentage")
        return floor_to(wanted, QTY_STEP)

    def _closed(self, symbol: str, qty: Decimal) -> Answer:
        body = {"symbol": symbol, "qty": qty, "side": "sell", "type": "market", "time_in_force": "gtc"}
        return self.orders.placed(body)

    def close_all(self, call: Call) -> Answer:
        """Each position is sold whole; orders are canceled before that where it was asked for."""
        if truth(call.query.get("cancel_orders")):
            self.orders.cancel_each(tuple(self.exchange.open))
            self.orders.finish(tuple(self.exchange.open))
        results: list[Json] = []
        effects: list[Callable[[], None]] = []
        placed: list[str] = []
        for symbol, held in tuple(self.exchange.ledger.coins.items()):
            result: Json = {"symbol": compact(symbol), "status": 200}
            try:
                answer = self._closed(symbol, held.qty)
                result["body"] = answer.body
                placed += answer.placed
                if answer.after is not None:
                    effects.append(answer.after)
            except Refusal as refusal:
                result |= {"status": refusal.status, "body": refusal.body}
            results.append(result)

        def work() -> None:
            for effect in effects:
                effect()

        return Answer(results, 207, work, placed=tuple(placed))


_ZEROS = (
    "accrued_fees",
    "pending_transfer_in",
    "pending_reg_taf_fees",
    "intraday_adjustments",
    "short_market_value",
    "initial_margin",
    "maintenance_margin",
    "last_maintenance_margin",
    "sma",
)
_FLAGS = ("trading_blocked", "transfers_blocked", "account_blocked", "trade_suspended_by_user")


def _valuation(qty: Decimal, basis: Decimal, quote: Quote | None) -> Json:
    """What a position is worth; nulls where there is no price, and no ratio to a basis of zero."""
    if quote is None:
        return dict.fromkeys(_VALUES)
    value = qty * quote.bid
    gain = value - basis
    ratio = plain((gain / basis).quantize(RATIO_STEP)) if basis else "0"
    amounts = (value, gain, gain)
    market_value, gained, today = (plain(amount.quantize(RATIO_STEP)) for amount in amounts)
    price = plain(quote.bid)
    shown = (market_value, gained, ratio, today, ratio, price, price, "0")
    return dict(zip(_VALUES, shown, strict=True))


_VALUES = (
    "market_value",
    "unrealized_pl",
    "unrealized_plpc",
    "unrealized_intraday_pl",
    "unrealized_intraday_plpc",
    "current_price",
    "lastday_price",
    "change_today",
)


def _next(now: datetime, at: time) -> datetime:
    """The next working day's moment `at` after `now`, in the zone of `now`."""
    day: date = now.date()
    while True:
        moment = datetime.combine(day, at, tzinfo=now.tzinfo)
        if moment > now and day.weekday() < 5:
            return moment
        day += timedelta(days=1)
