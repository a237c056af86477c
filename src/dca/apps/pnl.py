"""`dca report pnl`: what finished cycles earned, and what open ones are worth, to the last digit."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dca.apps.prices import Price
from dca.apps.words import lasting, usd
from dca.domain.cycle import CycleStatus
from dca.domain.errors import ConfigError
from dca.domain.money import ZERO, plain
from dca.ports import CycleRecord, Store, Tx
from dca.strategy.profit import Profit, most_bound, profit

Json = dict[str, Any]
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
END = datetime(9999, 1, 1, tzinfo=UTC)
GROUPS = ("cycle", "asset", "day")


@dataclass(frozen=True, slots=True)
class Traded:
    """A cycle, finished or not, with what it came to."""

    record: CycleRecord
    symbol: str
    profit: Profit

    @property
    def ended_at(self) -> datetime | None:
        return self.record.cycle.completed_at

    @property
    def duration_s(self) -> float | None:
        """From the first fill to the end; None where either is missing."""
        began = self.profit.began_at
        return None if began is None or self.ended_at is None else (self.ended_at - began).total_seconds()


@dataclass(frozen=True, slots=True)
class Books:
    """The cycles that ended in a span of time, and those that are open now."""

    closed: Sequence[Traded]
    open: Sequence[Traded]


def books(store: Store, since: datetime, until: datetime) -> Books:
    """Cycles that ended from `since` on and before `until`, and every open one that holds anything."""

    def read(tx: Tx) -> Books:
        symbols = {asset.id: asset.asset_symbol for asset in tx.assets()}
        closed = [_traded(record, symbols) for record in tx.closed_records(since, until) if record.fills]
        opened = [_traded(record, symbols) for record in tx.open_records() if record.fills]
        return Books(sorted(closed, key=_ended), opened)

    return store.read(read)


def _traded(record: CycleRecord, symbols: Mapping[int, str]) -> Traded:
    symbol = symbols.get(record.cycle.asset_id, f"asset {record.cycle.asset_id}")
    return Traded(record, symbol, profit(record.fills, finished=record.cycle.finished))


def _ended(one: Traded) -> tuple[datetime, int]:
    return one.ended_at or BEGINNING, one.record.cycle.id


def report(found: Books, group: str, known: Mapping[str, Price]) -> Json:
    """Rows by `group`, the total of the finished, and the open ones at the bid; amounts as text.

    Amounts are exact: the rows of every grouping add up to the same total, to the last digit.
    """
    grouped: dict[Any, list[Traded]] = {}
    for one in found.closed:
        grouped.setdefault(_GROUP[group](one), []).append(one)
    rows = [{group: name, **_row(members, group)} for name, members in grouped.items()]
    opened = [_open(one, known.get(one.symbol)) for one in found.open]
    return {
        "by": group,
        "rows": sorted(rows, key=lambda row: row["asset"]) if group == "asset" else rows,
        "total": _row(found.closed, "total"),
        "open": opened,
        "open_total_usd": _sum(opened, "net_usd"),
    }


_GROUP: dict[str, Callable[[Traded], Any]] = {
    "cycle": lambda one: one.record.cycle.id,
    "asset": lambda one: one.symbol,
    "day": lambda one: f"{_ended(one)[0]:%Y-%m-%d}",
}


def _row(members: Sequence[Traded], group: str) -> Json:
    """What these cycles came to together; the duration is their average."""
    spans = [one.duration_s for one in members if one.duration_s is not None]
    made = [one.profit for one in members]
    row: Json = {
        "cycles": len(members),
        "safety_orders": sum(one.record.cycle.safety_orders for one in members),
        "duration_s": str(round(sum(spans) / len(spans))) if spans else None,
        "cost_usd": _plain(one.cost for one in made),
        "proceeds_usd": _plain(one.proceeds for one in made),
        "gross_usd": _plain(one.gross for one in made),
        "fees_usd": _plain(one.fees for one in made),
        "net_usd": _plain(one.net for one in made),
        "max_capital_usd": plain(most_bound(made)),
    }
    if group != "cycle":
        return row
    (only,) = members
    return {**_identified(only), **row}


def _identified(one: Traded) -> Json:
    return {
        "asset": one.symbol,
        "status": str(one.record.cycle.status),
        "began_at": None if one.profit.began_at is None else one.profit.began_at.isoformat(),
        "ended_at": None if one.ended_at is None else one.ended_at.isoformat(),
        "quantity_left": plain(one.profit.quantity),
    }


def _open(one: Traded, price: Price | None) -> Json:
    """An open cycle as if all it owns were sold at the bid without a fee; unknown without a price."""
    value = None if price is None else one.profit.quantity * price.quote.bid
    return {
        "cycle": one.record.cycle.id,
        **_identified(one),
        "safety_orders": one.record.cycle.safety_orders,
        "cost_usd": plain(one.profit.cost),
        "proceeds_usd": plain(one.profit.proceeds),
        "fees_usd": plain(one.profit.fees),
        "max_capital_usd": plain(most_bound([one.profit])),
        "bid": None if price is None else plain(price.quote.bid),
        "bid_at": None if price is None else price.quote.at.isoformat(),
        "value_usd": None if value is None else plain(value),
        "net_usd": None if value is None else plain(one.profit.net + value),
    }


def _plain(amounts: Iterable[Decimal]) -> str:
    return plain(sum(amounts, ZERO))


def _sum(rows: Sequence[Json], name: str) -> str | None:
    """None where one of them is not known: a part is no total."""
    values = [row[name] for row in rows]
    return None if None in values else _plain(Decimal(value) for value in values)


def as_csv(report: Json) -> str:
    """Every row and every open cycle, exact, one line each; `kind` tells them apart.

    There is no line of totals, so that a sum over a column is one.
    """
    lines = [{"kind": report["by"], **row} for row in report["rows"]]
    lines += [{"kind": "open", **row} for row in report["open"]]
    names = list(dict.fromkeys(["kind", report["by"], *(name for line in lines for name in line)]))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def span(since: str | None, until: str | None) -> tuple[datetime, datetime]:
    """From the beginning of one day to the end of another, in UTC. Raises ConfigError."""
    begin = BEGINNING if since is None else _day(since)
    end = END if until is None else _day(until) + timedelta(days=1)
    if begin >= end:
        raise ConfigError(f"the first day, {begin:%Y-%m-%d}, is after the last one, {until}")
    return begin, end


def _day(text: str) -> datetime:
    try:
        found = datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
        if not BEGINNING <= found < END:
            raise ValueError("the books know no such time")
        return found
    except ValueError as error:
        raise ConfigError(f"{text!r} is not a day such as 2026-01-31") from error


def page(report: Json) -> RenderableType:
    """The report as it stands on a terminal."""
    parts: list[RenderableType] = []
    if report["rows"]:
        parts.append(_rows(report))
    else:
        parts.append(Text("no cycle has ended in that time"))
    lost = sum(row.get("status") == CycleStatus.ERROR for row in report["rows"])
    if lost:
        parts.append(Text(f"{lost} ended in error: what their coins cost counts as lost", "yellow"))
    if report["open"]:
        parts += [Text(), _opened(report)]
    return Group(*parts)


def _table(*columns: tuple[str, bool]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold", pad_edge=False)
    for name, right in columns:
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    return table


def _rows(report: Json) -> Table:
    by_cycle = report["by"] == "cycle"
    extra = (("asset", False), ("ended", False)) if by_cycle else (("cycles", True),)
    numbers = ("safety", "lasted", "gross", "fees", "net", "capital")
    table = _table((report["by"], by_cycle), *extra, *((name, True) for name in numbers))
    for row in report["rows"]:
        more = (row["asset"], _ended_text(row)) if by_cycle else (str(row["cycles"]),)
        table.add_row(str(row[report["by"]]), *more, *_numbers(row))
    total = report["total"]
    count = f"{total['cycles']} cycle{'' if total['cycles'] == 1 else 's'}"
    more = (count, "") if by_cycle else (str(total["cycles"]),)
    table.add_row("total", *more, *_numbers(total), style="bold")
    return table


def _ended_text(row: Json) -> str:
    ended = "-" if row["ended_at"] is None else row["ended_at"][2:16].replace("T", " ")
    return f"{ended} ERROR" if row["status"] == CycleStatus.ERROR else ended


def _numbers(row: Json) -> list[str]:
    return [
        str(row["safety_orders"]),
        "-" if row["duration_s"] is None else lasting(int(row["duration_s"])),
        usd(Decimal(row["gross_usd"])),
        f"{Decimal(row['fees_usd']):,.2f}",
        usd(Decimal(row["net_usd"])),
        f"{Decimal(row['max_capital_usd']):,.2f}",
    ]


def _opened(report: Json) -> Table:
    table = _table(
        ("open", True),
        ("asset", False),
        ("quantity", True),
        ("cost", True),
        ("bid", True),
        ("worth", True),
        ("net", True),
    )
    for row in report["open"]:
        table.add_row(
            str(row["cycle"]),
            row["asset"],
            row["quantity_left"],
            f"{Decimal(row['cost_usd']) - Decimal(row['proceeds_usd']):,.2f}",
            row["bid"] or "?",
            "?" if row["value_usd"] is None else f"{Decimal(row['value_usd']):,.2f}",
            "?" if row["net_usd"] is None else usd(Decimal(row["net_usd"])),
        )
    total = report["open_total_usd"]
    table.add_row("total", *[""] * 5, "?" if total is None else usd(Decimal(total)), style="bold")
    return table
