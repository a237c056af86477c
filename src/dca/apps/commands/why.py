"""`dca why`."""

import argparse
import json
from typing import Any

from dca import settings as env
from dca import wiring
from dca.apps import why
from dca.apps.commands.options import command, with_symbol
from dca.apps.words import console, grid


def add(commands: Any) -> None:
    words = "what the bot decides of an asset and why, now or at any time before"
    asking = command(commands, "why", words, "dca why BTC/USD --at 14:30")
    with_symbol(asking)
    which = asking.add_mutually_exclusive_group()
    which.add_argument("--at", metavar="TIME", help="14:30 for today, or 2026-01-31T14:30; local time")
    which.add_argument("--last", type=int, metavar="N", help="the last N changes of mind")
    asking.add_argument("--json", action="store_true", help="print it as JSON")
    asking.set_defaults(run=_why)


def _why(options: argparse.Namespace) -> None:
    settings = env.local()
    report: Any
    with wiring.opened(settings) as store:
        if options.at is not None:
            at = why.instant(options.at, wiring.clock(settings))
            report = why.then(store, options.symbol, at)
            rows = why.rows_then(report)
        elif options.last is not None:
            report = why.last(store, options.symbol, max(options.last, 1))
            rows = why.rows_last(report)
        else:
            report = why.now(settings, store, options.symbol)
            rows = why.rows(report)
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        console().print(grid(rows))
