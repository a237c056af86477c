"""The event streams over plain HTTP (server-sent events): the past from the exchange's log, then live.

A stream is a place in what has happened; it looks on from there whenever something has. So nothing is
kept for a slow reader, and replayed and live events cannot differ.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from dca.domain.money import plain
from dca.domain.order import Side
from dca.paper.activities import Activities, Activity, Transfer
from dca.paper.assets import asset_id
from dca.paper.exchange import Exchange, Update
from dca.paper.gate import Answer, Call
from dca.paper.ledger import Deposit, Execution
from dca.paper.log import Change, Deposited, Earlier, Entry, Log
from dca.paper.orders import from_row
from dca.paper.refusals import Refusal
from dca.paper.trade_stream import update_wire
from dca.paper.wire import Json, dumps, instant, stamp

HEARTBEAT_S = 15.0
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
LAST_ID = "7" + "Z" * 25
RANDOM_BITS = 80


@dataclass(frozen=True, slots=True)
class Event:
    """What happened; it is rendered when it is sent."""

    id: str
    at: datetime
    wire: Callable[[], Json]


Feed = Callable[[], list[Event]]
"""What happened since it was asked last, or ever."""


@dataclass(slots=True, eq=False)
class _Listener:
    bell: asyncio.Event = field(default_factory=asyncio.Event)
    dropped: bool = False


class Events:
    """The handlers of `/v2/events/trades` and `/v2beta1/events/activities`."""

    def __init__(self, exchange: Exchange, activities: Activities) -> None:
        self._exchange = exchange
        self._activities = activities
        self._listeners: set[_Listener] = set()
        self._told = 0

    def trades(self, call: Call) -> Answer:
        return self._answer(call, Updates(self._exchange.log))

    def activities(self, call: Call) -> Answer:
        return self._answer(call, History(self._exchange, self._activities))

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    def look(self) -> None:
        """Whoever listens knows of everything that is in the log."""
        if self._told != len(self._exchange.log.entries):
            self._told = len(self._exchange.log.entries)
            self._ring()

    def drop(self) -> None:
        """Every stream ends."""
        for listener in self._listeners:
            listener.dropped = True
        self._ring()

    def _ring(self) -> None:
        for listener in self._listeners:
            listener.bell.set()

    def _answer(self, call: Call, feed: Feed) -> Answer:
        window = window_of(call)
        if not window.replays:
            feed()
        return Answer(events=self._stream(feed, window))

    async def _stream(self, feed: Feed, window: "Window") -> AsyncIterator[bytes]:
        listener = _Listener()
        self._listeners.add(listener)
        try:
            yield b"retry: 1000\n\n"
            while not listener.dropped:
                listener.bell.clear()
                over = window.over(self._exchange.clock.now())
                for event in feed():
                    if window.holds(event):
                        yield b"id: %s\ndata: %s\n\n" % (event.id.encode(), dumps(event.wire()))
                if over:
                    return
                with suppress(TimeoutError):
                    await asyncio.wait_for(listener.bell.wait(), HEARTBEAT_S)
                    continue
                yield b":heartbeat\n\n"
        finally:
            self._listeners.discard(listener)


# What has happened


class _Reader:
    """Reads the log once, in pieces."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._place = 0

    def later(self) -> list[tuple[int, Entry]]:
        """The entries since the last time, each with its number."""
        entries = self._log.entries[self._place :]
        numbered = list(enumerate(entries, start=self._place + 1))
        self._place += len(entries)
        return numbered


class Updates:
    """The events of orders."""

    def __init__(self, log: Log) -> None:
        self._reader = _Reader(log)

    def __call__(self) -> list[Event]:
        return [_update(seq, entry) for seq, entry in self._reader.later() if _is_update(entry)]


class History:
    """Executions, fees and transfers, each from the moment at which it was listed."""

    def __init__(self, exchange: Exchange, activities: Activities) -> None:
        self._exchange = exchange
        self._activities = activities
        self._reader = _Reader(exchange.log)
        self._owed: list[Event] = []
        self._transfers = 0

    def __call__(self) -> list[Event]:
        """Ids are made so that what is listed later has the higher one, also within a millisecond."""
        now, found = self._exchange.clock.now(), self._owed
        for seq, entry in self._reader.later():
            executed, deposit = _executed(entry), _deposited(entry)
            if executed is not None:
                found.append(self._event(2 * seq, executed.at, _trade_wire, executed))
                listed_at = self._activities.fee_listed_at(executed)
                found.append(self._event(2 * seq + 1, listed_at, _fee_wire, executed))
            if deposit is not None and deposit.listed:
                transfer = Transfer(deposit, self._transfers)
                found.append(self._event(2 * seq, deposit.at, _transfer_wire, transfer))
                self._transfers += 1
        self._owed = [event for event in found if event.at > now]
        return sorted((event for event in found if event.at <= now), key=lambda event: event.id)

    def _event(self, number: int, at: datetime, wire: Callable[[Any], Json], what: object) -> Event:
        name = ulid(at, number)
        known = {"account_id": self._exchange.account_id, "at": stamp(at), "event_id": name}
        return Event(name, at, lambda: known | {"status": "executed", "currency": "USD"} | wire(what))


def _executed(entry: Entry) -> Execution | None:
    if isinstance(entry, Earlier):
        row = entry.content.get("execution")
        return Execution.from_row(row) if row else None
    return entry.execution if isinstance(entry, Change) else None


def _deposited(entry: Entry) -> Deposit | None:
    if isinstance(entry, Earlier):
        row = entry.content
        if row["kind"] != "deposit":
            return None
        amount, listed = Decimal(row["amount"]), bool(row.get("listed"))
        return Deposit(asset=row["asset"], amount=amount, at=instant(row["at"]), listed=listed)
    return entry.deposit if isinstance(entry, Deposited) else None


# Which of them a stream tells


@dataclass(frozen=True, slots=True)
class Window:
    """From which to which event. Both ends belong to it, but for an id that the client has heard."""

    since: datetime | None = None
    until: datetime | None = None
    since_id: str = ""
    until_id: str = LAST_ID
    heard: str = ""

    @property
    def replays(self) -> bool:
        return bool(self.since or self.since_id or self.heard)

    def holds(self, event: Event) -> bool:
        return (
            max(self.since_id, self.heard) <= event.id <= self.until_id
            and event.id != self.heard
            and (self.since is None or self.since <= event.at)
            and (self.until is None or event.at <= self.until)
        )

    def over(self, now: datetime) -> bool:
        """Nothing that happens at `now` or later belongs to it."""
        return (self.until is not None and self.until < now) or self.until_id < ulid(now, 0)


def window_of(call: Call) -> Window:
    """The window that a request asks for. Raises Refusal."""
    query = call.query
    if query.get("since") and query.get("since_id"):
        raise _bad("since and since_id can't be used at the same time")
    for end, start in (("until", "since"), ("until_id", "since_id")):
        if query.get(end) and not query.get(start):
            raise _bad(f"{start} is required if {end} is specified")
    heard = call.last_event_id
    return Window(
        since=None if heard else _instant(query, "since"),
        until=_instant(query, "until"),
        since_id="" if heard else _id(query.get("since_id", "")),
        until_id=_id(query.get("until_id", "")) or LAST_ID,
        heard=_id(heard),
    )


def _instant(query: Mapping[str, str], name: str) -> datetime | None:
    try:
        return instant(query[name]) if query.get(name) else None
    except ValueError as error:
        raise _bad(f"invalid {name}") from error


def _id(given: str) -> str:
    """The venue refuses an id that is no ULID."""
    name = given.upper()
    if given and (len(name) != len(LAST_ID) or name > LAST_ID or set(name) - set(CROCKFORD)):
        raise _bad(f"invalid event id: {given}")
    return name


def _bad(message: str) -> Refusal:
    return Refusal(400, message, 40010000)


def ulid(at: datetime, number: int) -> str:
    """An id that sorts by time, to the millisecond, and then by `number`."""
    value = (at - EPOCH) // MILLISECOND << RANDOM_BITS | number
    return "".join(CROCKFORD[value >> 5 * place & 31] for place in reversed(range(26)))


# How they look


def _is_update(entry: Entry) -> bool:
    if isinstance(entry, Earlier):
        return entry.content["kind"] == "order" and bool(entry.content["event"])
    return isinstance(entry, Change) and entry.event is not None


def _update(seq: int, entry: Entry) -> Event:
    at = entry.at if isinstance(entry, Change) else instant(entry.row()["at"])
    name = ulid(at, seq)
    return Event(name, at, lambda: _update_wire(name, entry.row()))


def _update_wire(name: str, row: Json) -> Json:
    """As on the socket; an event without an execution has an id of its own in place of the execution's."""
    executed = Execution.from_row(row["execution"]) if row["execution"] else None
    at, execution_id = instant(row["at"]), executed.id if executed else str(uuid5(NAMESPACE_OID, name))
    update = Update(row["event"], from_row(row["orders"][0]), execution_id, executed, at)
    return {"at": stamp(at), "event_id": name, **update_wire(update)}


def _trade_wire(executed: Execution) -> Json:
    """The unified activity (OpenAPI Trading: ActivityEventV2)."""
    shown, cost = Activity(executed, is_fee=False).wire(), executed.qty * executed.price
    same = ("order_id", "symbol", "side", "order_status", "cum_qty", "leaves_qty")
    return {
        "activity_type": "TRD",
        "ref_id": executed.id,
        "executed_at": stamp(executed.at),
        "settle_date": executed.at.date().isoformat(),
        "qty": shown["qty"],
        "price": shown["price"],
        "net_amount": plain(-cost if executed.side is Side.BUY else cost),
        "details": {
            "asset_id": asset_id(executed.symbol),
            "client_order_id": executed.client_order_id,
            "execution_type": "fill",
            "commission": "0",
            **{name: shown[name] for name in same},
        },
    }


def _fee_wire(executed: Execution) -> Json:
    """How this stream shows the fees of crypto is not documented."""
    shown = Activity(executed, is_fee=True).wire()
    return {
        "activity_type": "FEE",
        "activity_subtype": "CFEE",
        "ref_id": executed.fee_id,
        "executed_at": stamp(executed.at),
        "settle_date": shown["date"],
        "details": {"system_date": shown["date"], "symbol": shown["symbol"]},
        **{name: shown[name] for name in ("qty", "price", "net_amount")},
    }


def _transfer_wire(transfer: Transfer) -> Json:
    shown = transfer.wire()
    coins = {name: shown[name] for name in ("qty",) if name in shown}
    symbol = {name: shown[name] for name in ("symbol",) if name in shown}
    return {
        "activity_type": shown["activity_type"],
        "ref_id": transfer.id.partition("::")[2],
        "executed_at": shown["created_at"],
        "settle_date": shown["date"],
        "net_amount": shown["net_amount"],
        "details": {"system_date": shown["date"], **symbol},
        **coins,
    }
