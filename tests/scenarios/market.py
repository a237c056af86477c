"""Offline runs for tests: an exchange whose prices are set by hand, and a second streamer."""

import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal as D
from pathlib import Path
from typing import Any

from build import rules

from dca.apps.market import Market
from dca.apps.offline import Offline
from dca.apps.stage import QUICK

PATIENCE_S = 30.0
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


def output(run: Offline) -> str:
    return (run.folder / "main_app.out").read_text()


def second(run: Offline, **extra: str) -> subprocess.CompletedProcess[str]:
    """Another streamer, started beside the first."""
    import sys

    from dca.apps.world import SOURCE

    return subprocess.run(
        [sys.executable, str(SOURCE / "main_app.py")],
        env={**run.environment, **extra},
        cwd=run.folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


__all__ = ["PATIENCE_S", "QUICK", "RULES", "Market", "offline", "output", "second", "until"]
