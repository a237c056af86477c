"""`dca demo`: the real streamer trades recorded days on the paper exchange, and every cent is shown.

Not a show: the same main_app, caretakers, settings and database code that trade for real, over real
sockets. It disturbs itself on purpose, and says so.
"""

import argparse
import json
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.console import Console

from dca.apps import statement
from dca.apps.disturbance import Disturbance
from dca.apps.offline import Offline
from dca.apps.progress import Plain, Progress, Screen
from dca.apps.reckoning import reckon, settle
from dca.apps.rounds import Rounds
from dca.apps.statement import with_operations
from dca.domain.asset import Rules
from dca.domain.errors import ConfigError, DcaError

SYMBOL = "BTC/USD"
CASH = Decimal(10_000)
RULES = Rules(
    base_order_amount=Decimal(100),
    safety_order_amount=Decimal(100),
    max_safety_orders=6,
    safety_order_deviation=Decimal("1.2"),
    safety_order_step_scale=Decimal("1.1"),
    safety_order_volume_scale=Decimal("1.2"),
    take_profit_percent=Decimal("1.5"),
    cooldown_period=600,
    buy_order_price_deviation_percent=Decimal(1),
)
LOOK_S = 0.5
EVENTS = 100


def run(options: argparse.Namespace) -> int:
    """The demo ran and its statement is printed; 1 when anything in it does not hold."""
    console = Console(stderr=options.json)
    with _folder(options.keep) as folder:
        offline = Offline(
            folder=folder,
            start=_day(options.start),
            end=_day(options.end),
            speed=options.speed,
            database_url=options.database_url,
            cash=CASH,
        )
        console.print(f"paper exchange, streamer, caretakers and database in {folder}", highlight=False)
        with offline:
            offline.add_asset(SYMBOL, RULES)
            offline.start_streamer()
            report = _traded(offline, Screen(console) if console.is_terminal else Plain(console))
        if options.json:
            json.dump(report, sys.stdout, indent=2)
            print()
        else:
            statement.show(report, console)
        if options.keep is not None:
            console.print(f"database, logs and exchange log are kept in {folder}", highlight=False)
    return 0 if report["holds"] else 1


def _traded(offline: Offline, progress: Progress) -> dict[str, Any]:
    """The statement after the whole replay, with what was disturbed and what was repaired."""
    disturbance = Disturbance(offline, SYMBOL, progress.tell)
    rounds = Rounds(offline, disturbance)
    with progress, rounds:
        watch(offline, progress)
    settle(offline)
    left = rounds.once("consistency_checker")
    report = reckon(offline)
    events = offline.store.read(lambda tx: tx.events(limit=EVENTS, name="watchdog_restart"))
    stopped = offline.dca("stop")
    if stopped.returncode != 0:
        raise DcaError(f"the streamer did not stop: {stopped.stdout}{stopped.stderr}")
    return with_operations(report, disturbance, rounds, restarts=len(events), left=left)


def watch(offline: Offline, progress: Progress) -> None:
    """The replay has ended; meanwhile `progress` was shown. Raises DcaError when nothing trades."""
    pause = threading.Event()
    while True:
        state = offline.control("status")
        progress.show(state, offline.store)
        if state["replay"]["ended"]:
            return
        pause.wait(LOOK_S)


def _day(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError as error:
        raise ConfigError(f"{text!r} is not a day such as 2023-03-09") from error


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        if keep.exists() and any(keep.iterdir()):
            raise ConfigError(f"{keep} is not empty; name a new folder to keep the demo in")
        yield keep.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="dca-demo-") as folder:
        yield Path(folder)
