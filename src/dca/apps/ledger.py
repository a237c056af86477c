"""`dca report statement`: what became of cash and coins at the venue, and what explains it, to the cent."""

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dca.apps import pnl
from dca.apps.findings import Findings, ok, warn
from dca.apps.words import usd, when
from dca.domain.account import Balance, day_of
from dca.domain.money import CENT
from dca.ports import Store, Tx
from dca.service.caretakers.bookkeeper import UNEXPLAINED
from dca.service.ledger import Line, statement

Json = dict[str, Any]
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
REMEMBERED = timedelta(days=7)
LABELS = {
    "opening": "opening balance",
    Line.BUYS: "buys",
    Line.SELLS: "sells",
    Line.FEES: "fees",
    Line.FEE_DIFFERENCE: "fees other than expected",
    Line.TRANSFERS: "transfers",
    Line.BY_OTHERS: "by others",
    Line.OTHER: "other",
    "rounding": "rounding",
    "unexplained": "unexplained",
    "closing": "closing balance",
}
ALWAYS = frozenset({"opening", Line.BUYS, Line.SELLS, Line.FEES, Line.TRANSFERS, "unexplained", "closing"})


def report(store: Store, since: datetime, until: datetime) -> Json:
    """The statement as JSON-ready values, with the profit that the P/L report shows for the same days.

    Without two counts around any of that time `statement` is None; `books_since` and `books_until` say
    when the account was counted first and last, None when it never was.
    """

    def read(tx: Tx) -> Json:
        found = statement(tx, since, until)
        first, last = tx.first_balance(BEGINNING), tx.last_balance(pnl.END)
        return {
            "statement": None if found is None else found.fields(),
            "books_since": None if first is None else first.at.isoformat(),
            "books_until": None if last is None else last.at.isoformat(),
        }

    realised = pnl.report(pnl.books(store, since, until), "day", {})["total"]["net_usd"]
    days = {"first_day": f"{since:%Y-%m-%d}", "last_day": f"{until - timedelta(days=1):%Y-%m-%d}"}
    return {**days, **store.read(read), "realised_usd": realised}


def check(store: Store, now: datetime) -> Findings:
    """Whether the account adds up, today and on the last day on which it did not."""

    def read(tx: Tx) -> tuple[Balance | None, str | None]:
        told = [one.at for one in tx.events(limit=1, name=UNEXPLAINED) if now - one.at < REMEMBERED]
        for at in (now, *told):
            found = statement(tx, *day_of(at))
            if found is not None and not found.explained:
                return None, f"{at:%Y-%m-%d}"
        return tx.last_balance(pnl.END), None

    last, day = store.read(read)
    if day is not None:
        seen = f"on {day} cash or coins changed, and nothing explains it"
        yield warn("statement", seen, f"dca report statement --day {day}")
    elif last is not None:
        yield ok("statement", f"counted {when(last.at)}, every cent is explained")


def as_csv(found: Json) -> str:
    """A line for USD and one for each symbol; none where nothing was counted."""
    text = io.StringIO()
    names = ["since", "until", "unit", *LABELS, "unexplained_usd"]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    shown = found["statement"]
    if shown is not None:
        for sheet in (shown["cash"], *shown["coins"]):
            writer.writerow({"since": shown["since"], "until": shown["until"], **sheet})
    return text.getvalue()


def page(found: Json) -> RenderableType:
    """The report as it stands on a terminal. What is not explained is red."""
    shown = found["statement"]
    if shown is None:
        return Text(_without_books(found), "yellow")
    since, until = (datetime.fromisoformat(shown[name]) for name in ("since", "until"))
    style = "green" if shown["explained"] else "bold red"
    parts: list[RenderableType] = [
        Text(f"from {when(since)} until {when(until)}, as counted at the venue"),
        Text(),
        _cash(shown),
    ]
    if shown["coins"]:
        parts += [Text(), _coins(shown["coins"])]
    return Group(
        *parts,
        Text(),
        Text(f"realised profit of cycles that ended: {usd(Decimal(found['realised_usd']))} USD"),
        Text(_verdict(shown), style),
    )


def _without_books(found: Json) -> str:
    if found["books_since"] is None:
        return "there are no books yet: scripts/bookkeeper.py counts the account, hourly from cron"
    first, last = (when(datetime.fromisoformat(found[name])) for name in ("books_since", "books_until"))
    return f"nothing was counted in that time: there are books from {first} until {last}"


def _cash(shown: Json) -> Table:
    """USD, line by line."""
    cash = shown["cash"]
    table = _table(("USD", False), ("", True))
    for name in _named([cash]):
        balance = name in ("opening", "closing")
        amount = Decimal(cash[name])
        words = f"{amount:,.2f}" if balance else usd(amount)
        table.add_row(LABELS[name], words, style="bold" if balance else _style(name, cash))
        if name == Line.OTHER:
            for other in shown["other"]:
                table.add_row(f"  {other['kind']}, in {other['unit']}", other["amount"])
    return table


def _coins(sheets: Sequence[Json]) -> Table:
    """A row for each symbol."""
    names = _named(sheets)
    table = _table(("coins", False), *((name.replace("_", " "), True) for name in names))
    for sheet in sheets:
        table.add_row(sheet["unit"], *(sheet[name] for name in names), style=_style("unexplained", sheet))
    return table


def _table(*columns: tuple[str, bool]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for name, right in columns:
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    return table


def _named(sheets: Sequence[Json]) -> list[str]:
    """The lines to show: those that always stand there, and those in which something does."""
    return [name for name in LABELS if name in ALWAYS or any(Decimal(sheet[name]) for sheet in sheets)]


def _style(name: str, sheet: Json) -> str:
    worth = sheet["unexplained_usd"]
    explained = worth is not None and abs(Decimal(worth)) < CENT
    return "" if name != "unexplained" or explained else "bold red"


def _verdict(shown: Json) -> str:
    if shown["explained"]:
        return "every cent is explained"
    worth = shown["unexplained_usd"]
    total = "" if worth is None or abs(Decimal(worth)) < CENT else f"{usd(Decimal(worth))} USD: "
    return f"{total}no fill, fee or transfer explains this; look at the account's history at the venue"
