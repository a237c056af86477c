"""The exchange's own record: every request, every change of an order, every execution.

The record is also the state: what the exchange knows is folded from it, in memory as it is written
and from the file after a restart, so the two cannot disagree.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from dca.domain.errors import ConfigError
from dca.domain.market import Quote
from dca.domain.money import plain
from dca.domain.order import Side
from dca.paper.ledger import Deposit, Execution
from dca.paper.orders import PaperOrder, to_row
from dca.paper.wire import Json, dumps, stamp


class Entry(Protocol):
    """One line of the log. It is rendered when somebody looks, not when it happens."""

    def row(self) -> Json: ...


@dataclass(frozen=True, slots=True)
class Started:
    """The exchange started, for the `run`-th time on this state."""

    run: int
    at: datetime

    def row(self) -> Json:
        return {"kind": "start", "at": stamp(self.at), "run": self.run}


@dataclass(frozen=True, slots=True)
class Change:
    """Orders took these values, together with an execution if there is one.

    `event` is what the trade-update stream said of the first order; None when it said nothing.
    """

    at: datetime
    event: str | None
    orders: tuple[PaperOrder, ...]
    execution: Execution | None = None

    def row(self) -> Json:
        return {
            "kind": "order",
            "at": stamp(self.at),
            "event": self.event,
            "orders": [to_row(order) for order in self.orders],
            "execution": self.execution.row() if self.execution else None,
        }


@dataclass(frozen=True, slots=True)
class Deposited:
    deposit: Deposit

    def row(self) -> Json:
        return {"kind": "deposit", "at": stamp(self.deposit.at), **self.deposit.row()}


@dataclass(frozen=True, slots=True)
class Quoted:
    """A quote that was set by hand. Quotes from a tape are not logged: the tape is their record."""

    quote: Quote

    def row(self) -> Json:
        bid, ask = plain(self.quote.bid), plain(self.quote.ask)
        return {
            "kind": "quote",
            "at": stamp(self.quote.at),
            "symbol": self.quote.symbol,
            "bid": bid,
            "ask": ask,
        }


@dataclass(frozen=True, slots=True)
class Held:
    """Nothing executes on `side` of a symbol any more, or again, by hand."""

    symbol: str
    side: Side
    on: bool
    at: datetime

    def row(self) -> Json:
        return {
            "kind": "hold",
            "at": stamp(self.at),
            "symbol": self.symbol,
            "side": str(self.side),
            "on": self.on,
        }


@dataclass(frozen=True, slots=True)
class Changed:
    """The account, its fees or an instrument became different. It is no state: a restart forgets it."""

    what: str
    values: Json
    at: datetime

    def row(self) -> Json:
        return {"kind": "change", "at": stamp(self.at), "what": self.what, **self.values}


@dataclass(frozen=True, slots=True)
class Requested:
    """A request and its answer. `error` is the body of a refusal, None when it was accepted.

    `fault` names the injected faults that struck the request, its answer or its orders.
    """

    at: datetime
    method: str
    path: str
    query: str
    body: bytes
    status: int
    error: Json | None
    fault: str | None = None

    def row(self) -> Json:
        return {
            "kind": "request",
            "at": stamp(self.at),
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "body": _readable(self.body),
            "status": self.status,
            "accepted": self.error is None,
            "error": self.error,
            "fault": self.fault,
        }


def _readable(body: bytes) -> object:
    if not body:
        return None
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class Earlier:
    """An entry of an earlier run, as the state file has it."""

    content: Json

    def row(self) -> Json:
        return self.content


class Log:
    """All entries, and the file they go to, if any. An entry is in the file before anybody hears of it."""

    def __init__(self, earlier: list[Json], file: BinaryIO | None) -> None:
        self.entries: list[Entry] = [Earlier(row) for row in earlier]
        self._file = file

    def add(self, entry: Entry) -> None:
        if self._file is not None:
            row = {"seq": len(self.entries) + 1, **entry.row()}
            self._file.write(dumps(row) + b"\n")
        self.entries.append(entry)

    def rows(self, after: int = 0) -> list[Json]:
        """The entries whose `seq` is above `after`."""
        return [
            {"seq": seq, **entry.row()} for seq, entry in enumerate(self.entries[after:], start=after + 1)
        ]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def open_log(path: Path | None) -> tuple[Log, list[Json]]:
    """The log, and the rows that were in its file already.

    A last line without its end was being written when the process was killed; it never happened
    and is cut off. Raises ConfigError when any other line cannot be read. The file is not synced:
    it survives the death of the process, not of the machine.
    """
    if path is None:
        return Log([], None), []
    whole, _, _ = _content(path).rpartition(b"\n")
    rows = [_row(path, number, line) for number, line in enumerate(whole.splitlines(), start=1)]
    file = path.open("ab", buffering=0)
    file.truncate(len(whole) + 1 if whole else 0)
    return Log(rows, file), rows


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _row(path: Path, number: int, line: bytes) -> Json:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ConfigError(f"{path}: line {number} is damaged: {error}") from error
    if not isinstance(row, dict) or "kind" not in row:
        raise ConfigError(f"{path}: line {number} is not an entry of a paper exchange")
    return row
