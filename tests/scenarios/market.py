"""A market that a test moves by hand until the streamer has done what the price asks for."""

import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal as D
from pathlib import Path
from typing import Any

from build import rules

from dca.apps.judge import Books
from dca.apps.offline import Offline
from dca.apps.reckoning import reckon, settle
from dca.domain.cycle import Cycle

PATIENCE_S = 30.0
QUICK = {"GRACE_S": "1", "RECONCILE_EVERY_S": "0.5", "REQUEST_TIMEOUT_S": "2"}
RULES = rules(base_order_amount=D(100), safety_order_amount=D(100), cooldown_period=3600)


def offline(folder: Path, **changes: Any) -> Offline:
    """An exchange whose prices are set by hand, at the speed of the wall."""
    now = datetime.now(UTC)
    base: dict[str, Any] = {
        "start": now,
        "end": now,
        "speed": 1.0,
        "replay": None,
        "lead_s": 0.0,
        "extra": QUICK,
    }
    return Offline(folder=folder, **{**base, **changes})


def until(what: str, holds: Callable[[], bool], *, meanwhile: Callable[[], None] = lambda: None) -> None:
    """`holds` is true; `meanwhile` is done again and again. Fails with `what` after PATIENCE_S."""
    limit = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < limit, f"waited in vain until {what}"
        meanwhile()
        time.sleep(0.02)


class Market:
    """Moves the price of BTC/USD, and starts the streamer again whenever it has died."""

    def __init__(self, run: Offline) -> None:
        self.run = run
        self.deaths: list[int] = []

    def price(self, price: str) -> None:
        bid = D(price)
        self.run.control("quote", {"symbol": "BTC/USD", "bid": str(bid), "ask": str(bid + 3)})

    def at(self, price: str, what: str, holds: Callable[[], bool]) -> None:
        until(what, holds, meanwhile=lambda: self._again(price))

    def _again(self, price: str) -> None:
        self.price(price)
        streamer = self.run.streamer
        if streamer is not None and streamer.poll() is not None:
            self.deaths.append(streamer.returncode)
            self.run.start_streamer(CRASH_AT="")

    def cycles(self) -> list[Cycle]:
        return Books.read(self.run.store).cycles

    def whole_cycle(self) -> None:
        """Base order, safety order and take profit of the first cycle, whatever dies meanwhile."""
        self.at("20000", "the base order is filled", lambda: self.cycles()[0].quantity > 0)
        self.at("19500", "the safety order is filled", lambda: self.cycles()[0].safety_orders == 1)
        self.at("21000", "the cycle is complete", lambda: self.cycles()[0].finished)

    def holds(self) -> dict[str, Any]:
        """The statement, after everything came to rest and every invariant was found to hold."""
        settle(self.run)
        report = reckon(self.run)
        assert report["violations"] == []
        assert report["unexplained"] == "0.00"
        return report


def output(run: Offline) -> str:
    return (run.folder / "main_app.out").read_text()


def second(run: Offline, **extra: str) -> subprocess.CompletedProcess[str]:
    """Another streamer, started beside the first."""
    import sys

    from dca.apps.offline import SOURCE

    return subprocess.run(
        [sys.executable, str(SOURCE / "main_app.py")],
        env={**run.environment, **extra},
        cwd=run.folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
