"""How times, amounts and rows of words stand on the terminal."""

import sys
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dca.domain.money import CENT

WIDE = 200
"""Columns where no terminal says how many there are: what is piped is not cut."""

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def lasting(seconds: float) -> str:
    """A span in its two largest units: `12 s`, `3 min`, `2 h 5 min`, `3 d 4 h`."""
    left = max(int(seconds), 0)
    if left < 60:
        return f"{left} s"
    parts: list[str] = []
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count} {unit}")
    return " ".join(part for part in parts[:2] if not part.startswith("0 "))


def when(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def usd(amount: Decimal) -> str:
    """In cents, with its sign; never -0.00."""
    rounded = amount.quantize(CENT)
    return f"{rounded if rounded else abs(rounded):+,.2f}"


def console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=WIDE)


def grid(rows: Sequence[tuple[str, str]]) -> Table:
    """Rows of a label and words; a label that is repeated stands once."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    before = None
    for label, words in rows:
        table.add_row("" if label == before else label, Text(words))
        before = label
    return table
