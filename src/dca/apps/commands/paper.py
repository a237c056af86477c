"""`dca paper` and `dca demo`: everything offline."""

import argparse
from decimal import Decimal
from pathlib import Path
from typing import Any

from dca.apps.commands.options import amount, command


def add(commands: Any) -> None:
    _paper_commands(commands)
    _demo_command(commands)


def _paper_commands(commands: Any) -> None:
    group = command(commands, "paper", "the offline paper exchange", "dca paper serve --walk 20000")
    paper = group.add_subparsers(required=True, metavar="COMMAND")
    serving = command(paper, "serve", "run it until stopped", "dca paper serve --port 8787 --walk 20000")
    serving.add_argument("--port", type=int, default=8787, help="0 takes a free one (default 8787)")
    serving.add_argument("--cash", type=amount, default=Decimal(10_000), help="USD at the start")
    serving.add_argument("--seed", type=int, default=1, help="of the random walk and of partial fills")
    serving.add_argument("--state", type=Path, help="a file that keeps the account over restarts")
    serving.add_argument("--faults", type=Path, help="a TOML file of faults to inject, and of switches")
    serving.add_argument("--replay", type=Path, help="a candle file to play as BTC/USD")
    serving.add_argument("--symbol", default="BTC/USD", help="the symbol that is played (default BTC/USD)")
    serving.add_argument("--start", help="first day of the replay, such as 2023-03-09")
    serving.add_argument("--end", help="the day before which the replay ends")
    serving.add_argument("--walk", type=amount, help="start price of a random walk instead of a replay")
    serving.set_defaults(run=_paper_serve)


def _demo_command(commands: Any) -> None:
    words = "trade recorded days offline and account for every cent"
    showing = command(commands, "demo", words, "dca demo --start 2023-03-09 --end 2023-03-10")
    showing.add_argument("--json", action="store_true", help="print the statement as JSON")
    showing.add_argument("--speed", type=float, default=4000.0, help="times real time (default 4000)")
    showing.add_argument("--start", default="2023-03-09", help="first day (default 2023-03-09)")
    showing.add_argument("--end", default="2023-03-14", help="the day before which it ends")
    showing.add_argument("--database-url", help="trade on this database instead of a new SQLite file")
    showing.add_argument("--keep", type=Path, help="keep database, logs and exchange state here")
    showing.set_defaults(run=_demo)


def _paper_serve(options: argparse.Namespace) -> None:
    from dca.apps.paper import serve

    serve(options)


def _demo(options: argparse.Namespace) -> int:
    from dca.apps.demo import run

    return run(options)
