"""Where a scenario plays: on a paper exchange of its own, or on an Alpaca paper account."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Protocol

from dotenv import dotenv_values

from dca.adapters.clock import SystemClock
from dca.apps.market import Market, Unmet, waited
from dca.apps.offline import Offline
from dca.apps.world import World
from dca.domain.asset import Rules
from dca.domain.errors import ConfigError
from dca.domain.order import is_ours
from dca.service.pipeline import cancel

SYMBOL = "BTC/USD"
RULES = Rules(
    base_order_amount=Decimal(100),
    safety_order_amount=Decimal(100),
    max_safety_orders=3,
    safety_order_deviation=Decimal(2),
    take_profit_percent=Decimal("1.5"),
    cooldown_period=3600,
)
SMALLEST = replace(RULES, base_order_amount=Decimal(12), safety_order_amount=Decimal(12), max_safety_orders=1)
QUICK = {"GRACE_S": "1", "RECONCILE_EVERY_S": "0.5", "REQUEST_TIMEOUT_S": "2"}
ENV_FILE = Path(".env.test")
PATIENCE_S = 90.0


class Stage(Protocol):
    """One asset, its database and its venue; the streamer is not running yet."""

    @property
    def world(self) -> World: ...

    @property
    def rules(self) -> Rules: ...

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        """`holds` is true. Raises Unmet when that takes too long."""

    def bought(self) -> None:
        """The streamer's base order has filled. Raises Unmet."""


@dataclass(frozen=True, slots=True)
class Local:
    """On a paper exchange; `market` moves its prices."""

    market: Market
    rules: Rules = RULES

    @property
    def world(self) -> Offline:
        return self.market.run

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        self.market.until(what, holds)

    def bought(self) -> None:
        self.market.bought()


@contextmanager
def local(
    *, rules: Rules = RULES, price: str | None = "20000", database_url: str | None = None, **extra: str
) -> Iterator[Local]:
    """A paper exchange at `price`, at the speed of the wall. It is gone afterwards, with its folder."""
    now = SystemClock().now()
    with tempfile.TemporaryDirectory(prefix="dca-test-") as folder:
        run = Offline(
            folder=Path(folder),
            start=now,
            end=now,
            speed=1.0,
            replay=None,
            lead_s=0.0,
            database_url=database_url,
            extra={**QUICK, **extra},
        )
        with run:
            run.add_asset(SYMBOL, rules)
            market = Market(run)
            if price is not None:
                market.price(price)
            yield Local(market, rules)


@dataclass(frozen=True, slots=True)
class Account:
    """On an Alpaca paper account, with a database of its own that is thrown away."""

    world: World
    rules: Rules = SMALLEST

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        waited(self.world.clock, what, holds, PATIENCE_S)

    def bought(self) -> None:
        self.until("the base order has filled", lambda: self.world.owned() > 0)

    def clean(self) -> None:
        """Nothing that was placed from this database is open or held at the venue any more."""
        broker, install = self.world.broker, self.world.store.install
        for order in broker.open_orders():
            if is_ours(order.key, install):
                cancel(order.venue_id, order.key, broker=broker)
        self.until("canceled orders are gone", lambda: not self._open())
        closed = self.world.dca("cycle", "close", SYMBOL, "--yes")
        if self.world.owned() > 0 and closed.returncode != 0:
            raise Unmet(f"coins of the test are left on the account: {closed.stdout}{closed.stderr}")

    def _open(self) -> bool:
        install = self.world.store.install
        return any(is_ours(order.key, install) for order in self.world.broker.open_orders())


@contextmanager
def account() -> Iterator[Account]:
    """The paper account of the keys in ENV_FILE, cleaned up afterwards also when interrupted.

    Raises ConfigError when the file is missing, or when its address is not a paper account's.
    """
    with tempfile.TemporaryDirectory(prefix="dca-test-") as folder:
        world = World(folder=Path(folder), environment=_account_environment(Path(folder)))
        with world:
            world.add_asset(SYMBOL, SMALLEST)
            stage = Account(world)
            try:
                yield stage
            finally:
                world.stop()
                stage.clean()


def _account_environment(folder: Path) -> dict[str, str]:
    if not ENV_FILE.is_file():
        raise ConfigError(
            f"{ENV_FILE} is missing: put APCA_API_KEY_ID and APCA_API_SECRET_KEY of a paper account in it"
        )
    given = {name: text for name, text in dotenv_values(ENV_FILE).items() if text is not None}
    # An armed setting must not open the way to real money here.
    given.pop("LIVE_TRADING", None)
    given.pop("LIVE_ACCOUNT", None)
    return {
        **given,
        "DCA_ENV_FILE": os.devnull,
        "DATABASE_URL": f"sqlite:///{folder / 'dca.sqlite3'}",
        "DCA_RUN_DIR": str(folder),
        "RECONCILE_EVERY_S": "5",
        "GRACE_S": "5",
    }
