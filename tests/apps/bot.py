"""The bot without its streamer, on a paper exchange: what that would do, a test does step by step."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal as D
from pathlib import Path

from build import rules

from dca import settings as env
from dca import wiring
from dca.domain.asset import Rules
from dca.paper.serve import Running
from dca.ports import Store
from dca.service import assets, funds
from dca.service.brief import Brief
from dca.service.operating import Desk
from dca.service.trader import Outcome

BTC = "BTC/USD"
RULES = rules(base_order_amount=D(100), safety_order_amount=D(100), cooldown_period=3600)


def environment(exchange: Running, database_url: str, run_dir: Path) -> dict[str, str]:
    return {
        "DCA_ENV_FILE": str(run_dir / "none"),
        "APCA_API_KEY_ID": "PAPER",
        "APCA_API_SECRET_KEY": "paper-secret",
        "APCA_API_BASE_URL": exchange.base_url,
        "APCA_API_DATA_URL": exchange.base_url,
        "APCA_API_STREAM_URL": exchange.trade_url,
        "APCA_API_DATA_STREAM_URL": exchange.data_url,
        "DATABASE_URL": database_url,
        "DCA_RUN_DIR": str(run_dir),
    }


@dataclass
class Bot:
    """The bot without its streamer: what that would do, a test does step by step."""

    exchange: Running
    store: Store
    desk: Desk
    environment: dict[str, str]
    dca: Callable[..., tuple[int, str, str]]

    def add(self, symbol: str = BTC, chosen: Rules = RULES) -> None:
        assets.add(self.store, self.desk.clock, symbol, chosen)

    def price(self, bid: str, symbol: str = BTC) -> None:
        self.exchange.control.quote(symbol, bid, str(D(bid) + 3))

    def read_funds(self) -> None:
        funds.refresh(self.store, self.desk.broker, self.desk.clock)

    def at(self, bid: str, symbol: str = BTC) -> Outcome:
        """What the streamer would do at that price is done and booked."""
        self.price(bid, symbol)
        self.read_funds()
        quote = self.desk.broker.latest_quote(symbol)
        outcome = self.desk.trader.act(self.desk.brief(symbol), quote, before=quote)
        self.desk.catch_up.everything()
        return outcome

    def brief(self, symbol: str = BTC) -> Brief:
        return self.desk.brief(symbol)

    def events(self) -> list[str]:
        return [event.name for event in self.store.read(lambda tx: tx.events())]

    def posted(self, side: str) -> int:
        """How many orders of that side reached the exchange."""
        rows = [row for row in self.exchange.control.log() if row["kind"] == "request"]
        bodies = [row["body"] for row in rows if row["method"] == "POST" and row["path"] == "/v2/orders"]
        return sum(body["side"] == side for body in bodies)


def start(bot_environment: dict[str, str]) -> tuple[Store, Desk]:
    settings = env.load(bot_environment, env_file=Path(os.devnull))
    store = wiring.store(settings)
    # Nobody trades beside a test, so there is nothing to wait for.
    desk = wiring.desk(settings, store, rest=lambda seconds: None)
    desk.trader.instruments = desk.broker.instruments()
    return store, desk
