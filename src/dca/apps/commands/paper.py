"""`dca paper` and `dca demo`: everything offline."""

import argparse
from decimal import Decimal
from pathlib import Path
from typing import Any

from dca.apps.commands.options import amount


def add(commands: Any) -> None:
    _paper_commands(commands)
    _demo_command(commands)


def _paper_commands(commands: Any) -> None:
    paper = commands.add_parser("paper", help="the offline paper exchange")
    paper = paper.add_subparsers(required=True, metavar="COMMAND")
    command = paper.add_parser("serve", help="run it until stopped")
    command.add_argument("--port", type=int, default=8787, help="0 takes a free one (default 8787)")
    command.add_argument("--cash", type=amount, default=Decimal(10_000), help="USD at the start")
    command.add_argument("--seed", type=int, default=1, help="of the random walk and of partial fills")
    command.add_argument("--state", type=Path, help="a file that keeps the account over restarts")
    command.add_argument("--replay", type=Path, help="a candle file to play as BTC/USD")
    command.add_argument("--symbol", default="BTC/USD", help="the symbol that is played (default BTC/USD)")
    command.add_argument("--start", help="first day of the replay, such as 2023-03-09")
    command.add_argument("--end", help="the day before which the replay ends")
    command.add_argument("--walk", type=amount, help="start price of a random walk instead of a replay")
    command.set_defaults(run=_paper_serve)


def _demo_command(commands: Any) -> None:
    command = commands.add_parser("demo", help="trade recorded days offline and account for every cent")
    command.add_argument("--json", action="store_true", help="print the statement as JSON")
    command.add_argument("--speed", type=float, default=4000.0, help="times real time (default 4000)")
    command.add_argument("--start", default="2023-03-09", help="first day (default 2023-03-09)")
    command.add_argument("--end", default="2023-03-14", help="the day before which it ends")
    command.add_argument("--database-url", help="trade on this database instead of a new SQLite file")
    command.add_argument("--keep", type=Path, help="keep database, logs and exchange state here")
    command.set_defaults(run=_demo)


def _paper_serve(options: argparse.Namespace) -> None:
    from dca.apps.paper import serve

    serve(options)


def _demo(options: argparse.Namespace) -> int:
    from dca.apps.demo import run

    return run(options)
