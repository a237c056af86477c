"""Counts the account and keeps its history, so that every change of cash and coins can be explained."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from dca.domain.account import Activity, Balance, day_of
from dca.domain.folding import unmeasured_buys
from dca.domain.money import plain
from dca.domain.record import Event, Message
from dca.ports import Broker, Clock, CycleRecord, Store, Tx
from dca.service.caretakers.runner import Repair
from dca.service.ledger import EXECUTED, MOMENT, USD, Sheet, Statement, is_listed_fee, statement

UNEXPLAINED = "statement_unexplained"
LATE = timedelta(days=3)
"""How long after it happened something may come into the venue's history: fees do a day later."""
PATIENCE = timedelta(hours=6)
SOON = timedelta(hours=1)
"""A fee that was not measured by then is not going to be."""
AGAIN = timedelta(minutes=30)
LOOKS, SETTLE_S = 2, 5.0
END = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class View:
    """`news` is what the books do not have yet of the venue's history, `last` the count before.

    `count` is what the account holds, None when it changed while it was read. `busy` says what is under
    way that may change it, None when nothing is. `today` is the statement of the day up to that count;
    None, too, once a person was told that this day does not add up.
    """

    news: Sequence[Activity]
    last: Balance | None
    count: Balance | None
    busy: str | None
    today: Statement | None


@dataclass(frozen=True, slots=True)
class Work(Repair):
    """One row, or some, that the books lack."""

    news: Sequence[Activity] = field(default=(), kw_only=True)
    count: Balance | None = field(default=None, kw_only=True)
    today: Statement | None = field(default=None, kw_only=True)


class Bookkeeper:
    """Reads the account's history into `dca_activities`, and counts the account in `dca_balances`.

    It counts at a quiet instant: no order of ours is live or ended a moment ago, and cash and positions
    are the same before and after the history was read. While orders are at work it leaves the count to
    the next pass, but not for longer than PATIENCE; a fee that is only estimated at such a count is
    explained once it was measured.
    """

    name = "bookkeeper"

    def __init__(
        self, store: Store, broker: Broker, clock: Clock, grace: timedelta, rest: Callable[[float], object]
    ) -> None:
        self._store = store
        self._broker = broker
        self._clock = clock
        self._grace = grace
        self._rest = rest

    def look(self) -> View:
        """What is doubtful is looked at again: the venue's history may lag behind its balances."""
        view = self._glance()
        for _ in range(LOOKS - 1):
            if view.count is not None and (view.today is None or view.today.explained):
                break
            self._rest(SETTLE_S)
            view = self._glance()
        return view

    def _glance(self) -> View:
        now = self._clock.now()
        last = self._store.read(lambda tx: tx.last_balance(END))
        since = (now if last is None else last.at) - LATE
        held = self._held()
        listed = self._broker.activities(since)
        count = Balance(at=now, cash=held[0], coins=held[1]) if self._held() == held else None

        def read(tx: Tx) -> View:
            news = _unknown(tx, listed, since, last)
            busy = _busy(tx, self._clock.now(), self._grace)
            today = None
            if count is not None and not _was_told(tx, now):
                today = statement(tx, *day_of(now), count=count, news=news)
            return View(news, last, count, busy, today)

        return self._store.read(read)

    def _held(self) -> tuple[Decimal, dict[str, str]]:
        cash = self._broker.account().cash
        positions = self._broker.positions()
        return cash, {symbol: plain(positions[symbol].qty) for symbol in sorted(positions)}

    def plan(self, view: View, now: datetime) -> list[Work]:
        work = []
        if view.news:
            work.append(Work("note", "history", f"{len(view.news)} new activities", news=view.news))
        if view.count is None or not _due(view.count, view):
            return work
        if not _repeats(view.count, view):
            why = "the account is at rest" if view.busy is None else f"for hours {view.busy}"
            work.append(Work("count", "account", why, count=view.count))
        if view.today is not None and not view.today.explained:
            work.append(Work("tell", "account", _words(view.today, view.busy), today=view.today))
        return work

    def mend(self, repair: Work) -> str | None:
        if repair.count is not None:
            count = repair.count
            self._store.write(lambda tx: tx.add_balance(count))
            return None
        if repair.today is not None:
            today = repair.today
            told = self._store.write(lambda tx: _tell(tx, today, repair.reason, self._clock.now()))
            return None if told else "somebody else has told it"
        noted = self._store.write(lambda tx: sum([tx.add_activity(one) for one in repair.news]))
        return None if noted else "they are in the books by now"


def _unknown(tx: Tx, listed: Iterable[Activity], since: datetime, last: Balance | None) -> list[Activity]:
    known = {one.id for one in tx.activities(since - LATE, END)}
    return [_placed(one, last) for one in listed if one.id not in known]


def _placed(activity: Activity, last: Balance | None) -> Activity:
    """One that tells its day only happened after the last count, which did not see it yet."""
    of_the_day = activity.kind != EXECUTED and activity.at == day_of(activity.at)[0]
    if last is None or not of_the_day or activity.at > last.at:
        return activity
    return replace(activity, at=last.at + MOMENT)


def _busy(tx: Tx, now: datetime, grace: timedelta) -> str | None:
    """What of ours is under way, or was a moment ago."""
    live = tx.live_orders()
    if live:
        return f"order {live[0].key} is at work"
    ended = [one.cycle.previous_completed_at for one in tx.situations() if one.cycle is not None]
    records = tx.open_records()
    ended += [order.updated_at for record in records for order in record.orders]
    if any(at is not None and now - at < grace for at in ended):
        return "an order ended a moment ago"
    waiting = any(_fee_to_come(record, now) for record in records)
    return "the fee of a buy is not measured yet" if waiting else None


def _fee_to_come(record: CycleRecord, now: datetime) -> bool:
    return any(now - order.updated_at < SOON for order in unmeasured_buys(record.orders, record.fills))


def _due(count: Balance, view: View) -> bool:
    return view.busy is None or (view.last is not None and count.at - view.last.at >= PATIENCE)


def _repeats(count: Balance, view: View) -> bool:
    """Whether the last count said the same, and nothing has happened since."""
    if view.last is None or any(not is_listed_fee(one) for one in view.news):
        return False
    same = (count.cash, count.coins) == (view.last.cash, view.last.coins)
    return same and count.at - view.last.at < AGAIN


def _words(today: Statement, busy: str | None) -> str:
    """What is missing or too much, for a person."""
    parts = [_part(sheet) for sheet in today.sheets if not sheet.explained]
    doubt = "" if busy is None else f" ({busy}, so it may be explained later)"
    day = f"{today.since:%Y-%m-%d}"
    return (
        f"on {day} until {today.until:%H:%M} UTC the account does not add up: {', '.join(parts)}{doubt}; "
        f"see: dca report statement --day {day}"
    )


def _part(sheet: Sheet) -> str:
    amount = f"{abs(sheet.unexplained) if sheet.unit == USD else plain(abs(sheet.unexplained))} {sheet.unit}"
    worth = "" if sheet.unit == USD or sheet.worth is None else f" (worth {abs(sheet.worth)} USD)"
    return f"{amount}{worth} {'missing' if sheet.unexplained < 0 else 'too much'}"


def _name(at: datetime) -> str:
    return f"{UNEXPLAINED}:{at:%Y-%m-%d}"


def _was_told(tx: Tx, now: datetime) -> bool:
    return any(event.uid == _name(now) for event in tx.events(limit=1, name=UNEXPLAINED))


def _tell(tx: Tx, today: Statement, words: str, now: datetime) -> bool:
    """The event and the message of the day are there; False when they were before."""
    name = _name(today.since)
    event = Event(name=UNEXPLAINED, at=now, reason=words, data=today.fields(), uid=name)
    told = tx.add_event(event)
    if told:
        tx.add_message(Message(key=name, name=UNEXPLAINED, text=words, at=now))
    return told
