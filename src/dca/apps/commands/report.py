"""`dca report`."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from dca import settings as env
from dca import wiring
from dca.apps import ledger, pnl
from dca.apps.commands.options import command
from dca.apps.prices import prices
from dca.apps.words import console
from dca.domain.errors import ConfigError


def add(commands: Any) -> None:
    group = command(commands, "report", "what trading came to", "dca report pnl --by day")
    reports = group.add_subparsers(required=True, metavar="COMMAND")
    words = "profit and loss: finished cycles on the UTC day they ended, open ones at the bid"
    profit = command(reports, "pnl", words, "dca report pnl --since 2026-01-01 --by asset --csv pnl.csv")
    profit.add_argument("--since", metavar="DAY", help="the first day, such as 2026-01-01 (UTC)")
    profit.add_argument("--until", metavar="DAY", help="the last day")
    profit.add_argument("--by", choices=pnl.GROUPS, default="cycle", help="what a row is (default cycle)")
    _forms(profit)
    profit.set_defaults(run=_pnl)
    words = "the account: cash and coins at the venue, and what explains every change, to the cent"
    account = command(reports, "statement", words, "dca report statement --day 2026-11-20")
    account.add_argument("--day", metavar="DAY", help="the first day, such as 2026-01-01 (UTC); else today")
    account.add_argument("--to", metavar="DAY", help="the last day, where it is another one")
    _forms(account)
    account.set_defaults(run=_statement)


def _forms(parser: argparse.ArgumentParser) -> None:
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", metavar="FILE", help="write exact numbers as CSV; - is the terminal")
    form.add_argument("--json", action="store_true", help="print exact numbers as JSON")


def _statement(options: argparse.Namespace) -> None:
    settings = env.local()
    day = options.day or f"{wiring.clock(settings).now():%Y-%m-%d}"
    since, until = pnl.span(day, options.to or day)
    with wiring.opened(settings) as store:
        found = ledger.report(store, since, until)
    if options.csv is not None:
        _write(options.csv, ledger.as_csv(found))
    elif options.json:
        print(json.dumps(found, indent=2))
    else:
        console().print(ledger.page(found))


def _pnl(options: argparse.Namespace) -> None:
    since, until = pnl.span(options.since, options.until)
    settings = env.local()
    with wiring.opened(settings) as store:
        books = pnl.books(store, since, until)
        found = prices(settings, store, sorted({one.symbol for one in books.open}))
    report = pnl.report(books, options.by, found.known)
    if options.csv is not None:
        _write(options.csv, pnl.as_csv(report))
    elif options.json:
        print(json.dumps(report, indent=2))
    else:
        console().print(pnl.page(report))
    if found.error:
        print(f"the venue did not tell its prices, older ones are used: {found.error}", file=sys.stderr)


def _write(name: str, text: str) -> None:
    if name == "-":
        print(text, end="")
        return
    try:
        Path(name).write_text(text)
    except OSError as error:
        raise ConfigError(f"{name} cannot be written: {error.strerror}") from error
