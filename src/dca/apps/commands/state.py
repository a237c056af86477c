"""`dca status`, `dca halt` and `dca resume`."""

import argparse
import json
from typing import Any

from dca import settings as env
from dca import wiring
from dca.apps import status as status_page
from dca.service import assets


def add(commands: Any) -> None:
    command = commands.add_parser("status", help="assets, cycles, orders in flight, heartbeats")
    command.add_argument("--json", action="store_true")
    command.set_defaults(run=_status)
    command = commands.add_parser("halt", help="send no more orders, in any process, until resumed")
    command.add_argument("reason", help="why; it is shown until trading is resumed")
    command.set_defaults(run=lambda options: _halt(options.reason))
    command = commands.add_parser("resume", help="end a halt")
    command.set_defaults(run=lambda options: _halt(None))


def _status(options: argparse.Namespace) -> None:
    settings = env.load()
    with wiring.opened(settings) as store:
        report = status_page.collect(store, wiring.clock(settings))
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        status_page.show(report)


def _halt(reason: str | None) -> None:
    settings = env.load()
    with wiring.opened(settings) as store:
        assets.halt(store, wiring.clock(settings), reason)
    print("trading resumed" if reason is None else f"trading halted: {reason}")
