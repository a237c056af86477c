"""`dca status`."""

import argparse
import json
import os
import select
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import RenderableType
from rich.live import Live
from rich.text import Text

from dca import settings as env
from dca import wiring
from dca.apps.commands.options import command, symbol
from dca.apps.page import page
from dca.apps.status import Json, collect
from dca.apps.words import console
from dca.domain.errors import ConfigError, StoreUnavailable
from dca.ports import Store

WATCH_S = 2.0
SHORTEST_S = 0.5


def add(commands: Any) -> None:
    words = "how everything stands: process, caretakers, assets with what they wait for, orders, today"
    status = command(commands, "status", words, "dca status --watch")
    status.add_argument("symbols", nargs="*", type=symbol, help="such as BTC/USD; every asset without")
    form = status.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print it as JSON")
    form.add_argument(
        "--watch",
        type=float,
        nargs="?",
        const=WATCH_S,
        metavar="SECONDS",
        help=f"show it anew every so often (default {WATCH_S:g}); q ends it",
    )
    status.set_defaults(run=_status)


def _status(options: argparse.Namespace) -> None:
    settings = env.local()
    with wiring.opened(settings) as store:
        _refuse_unknown(store, options.symbols)
        if options.watch is not None:
            _watch(settings, store, options)
            return
        report = collect(settings, store, options.symbols)
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        console().print(page(report))


def _refuse_unknown(store: Store, symbols: list[str]) -> None:
    known = {asset.asset_symbol for asset in store.read(lambda tx: tx.assets())}
    unknown = [name for name in symbols if name not in known]
    if unknown:
        raise ConfigError(f"there is no asset {', '.join(unknown)}; see: dca asset list")


def _watch(settings: env.Settings, store: Store, options: argparse.Namespace) -> None:
    """The page is on the screen until q or Ctrl-C. A database that is away does not end it."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigError("--watch needs a terminal; without one use --json")
    pause_s = max(options.watch, SHORTEST_S)
    with _keys(), Live(screen=True, auto_refresh=False) as live:
        while True:
            live.update(_now(settings, store, options.symbols), refresh=True)
            if _pressed(pause_s) in ("q", "Q"):
                return


def _now(settings: env.Settings, store: Store, symbols: list[str]) -> RenderableType:
    try:
        report: Json = collect(settings, store, symbols)
    except StoreUnavailable as error:
        return Text(f"the database does not answer: {error}", "bold red")
    return page(report)


@contextmanager
def _keys() -> Iterator[None]:
    """Keys come one by one, without Enter, while inside."""
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _pressed(within_s: float) -> str:
    """The next key; empty when none was pressed in time."""
    ready, _, _ = select.select([sys.stdin], [], [], within_s)
    return os.read(sys.stdin.fileno(), 1).decode(errors="replace") if ready else ""
