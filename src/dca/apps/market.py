"""A market that is moved by hand until the streamer has done what the price asks for."""

import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from dca.apps.judge import Books
from dca.apps.offline import Offline
from dca.apps.reckoning import reckon, settle
from dca.domain.cycle import Cycle
from dca.domain.errors import DcaError
from dca.ports import Clock

PATIENCE_S = 30.0
LOOK_S = 0.02
SPREAD = Decimal(3)


class Unmet(DcaError):
    """What was waited for did not happen, or does not hold."""


def waited(
    clock: Clock,
    what: str,
    holds: Callable[[], bool],
    patience_s: float,
    *,
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """`holds` is true; until then `meanwhile` is done again and again. Raises Unmet."""
    pause = threading.Event()
    limit = clock.monotonic() + patience_s
    while not holds():
        if clock.monotonic() > limit:
            raise Unmet(f"waited in vain until {what}")
        meanwhile()
        pause.wait(LOOK_S)


class Market:
    """Moves the price of BTC/USD, and starts the streamer again whenever it has died."""

    def __init__(self, run: Offline) -> None:
        self.run = run
        self.deaths: list[int] = []

    def price(self, price: str) -> None:
        bid = Decimal(price)
        self.run.control("quote", {"symbol": "BTC/USD", "bid": str(bid), "ask": str(bid + SPREAD)})

    def at(self, price: str, what: str, holds: Callable[[], bool]) -> None:
        """`holds` became true while the price stood there. Raises Unmet."""
        self.until(what, holds, meanwhile=lambda: self._again(price))

    def until(
        self, what: str, holds: Callable[[], bool], *, meanwhile: Callable[[], None] = lambda: None
    ) -> None:
        """`holds` is true; `meanwhile` is done again and again. Raises Unmet after PATIENCE_S."""
        waited(self.run.clock, what, holds, PATIENCE_S, meanwhile=meanwhile)

    def _again(self, price: str) -> None:
        self.price(price)
        streamer = self.run.streamer
        if streamer is not None and streamer.poll() is not None:
            self.deaths.append(streamer.returncode)
            self.run.start_streamer(CRASH_AT="")

    def cycles(self) -> list[Cycle]:
        return Books.read(self.run.store).cycles

    def first(self) -> Cycle:
        return self.cycles()[0]

    def bought(self) -> None:
        self.at("20000", "the base order is filled", lambda: self.first().quantity > 0)

    def fell(self) -> None:
        self.at("19500", "the safety order is filled", lambda: self.first().safety_orders == 1)

    def rose(self) -> None:
        self.at("21000", "the cycle is complete", lambda: self.first().finished)

    def whole_cycle(self) -> None:
        """Base order, safety order and take profit of the first cycle, whatever dies meanwhile."""
        self.bought()
        self.fell()
        self.rose()

    def orders(self) -> int:
        """How many orders the exchange has accepted."""
        return int(self.run.control("status")["orders"])

    def holds(self) -> dict[str, Any]:
        """The statement, once everything is at rest. Raises Unmet when anything does not hold."""
        settle(self.run)
        report = reckon(self.run)
        if not report["holds"]:
            raise Unmet(f"{report['violations']}, unexplained {report['unexplained']}")
        return report
