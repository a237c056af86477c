"""The one way an order goes to the venue: reviewed, journaled and committed, then sent."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from dca.domain.errors import DuplicateKey, InDoubt, Rejected
from dca.domain.order import Intent, Order, OrderStatus, Side, VenueOrder, move
from dca.domain.record import Event
from dca.ports import Broker, Clock, Store, Tx
from dca.risk.review import Approved, Denied

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sent:
    """The venue has the order."""

    seen: VenueOrder


@dataclass(frozen=True, slots=True)
class Refused:
    """The venue proved that it does not want the order; nothing of it exists there."""

    key: str
    side: Side
    error: Rejected


@dataclass(frozen=True, slots=True)
class Unclear:
    """The order is journaled and in flight; whether the venue has it must be asked."""

    key: str


@dataclass(frozen=True, slots=True)
class Beaten:
    """Somebody else journaled this order, or another one of the same cycle, first: do nothing."""

    key: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """The journal has another order under this key; `differing` names what is not the same. Nothing was
    sent."""

    key: str
    differing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NotSent:
    """A dry run: the order is in the journal, marked as what would have been sent."""

    key: str


Outcome = Sent | Refused | Unclear | Beaten | Conflict | NotSent | Denied
Reviewed = Callable[[Tx], Approved | Denied]


PAYLOAD = ("symbol", "side", "qty", "limit", "time_in_force")
"""What the venue is sent beside the key."""


def place(
    reviewed: Reviewed,
    *,
    store: Store,
    broker: Broker,
    clock: Clock,
    again: Order | None = None,
    dry_run: bool = False,
) -> Outcome:
    """What was approved is in the journal, and was sent once unless somebody else was first.

    The review happens in the transaction that journals, so nothing changes between the two, and the
    row is committed before the first byte leaves: whatever dies afterwards, the order can be asked
    for by its key. `again` is an order that the venue never had (LOST) and that is wished for once
    more: the same row under the same key, so that the venue refuses the second if it had the first
    after all. With `dry_run` everything happens but the sending.

    Raises StoreUnavailable when it could not be journaled, and what `reviewed` raises; then nothing was
    sent. What the venue answered is returned, not recorded: that is the recorder's.
    """

    def journal(tx: Tx) -> Order | Denied | Beaten | Conflict:
        answer = reviewed(tx)
        if isinstance(answer, Denied):
            return answer
        now = clock.now()
        if again is not None:
            return _revived(tx, again, now)
        status = OrderStatus.DRY_RUN if dry_run else OrderStatus.IN_FLIGHT
        order = Order(intent=answer.intent, status=status, created_at=now, updated_at=now)
        return order if tx.insert_order(order) else _in_the_way(tx, order.intent)

    begun = clock.monotonic()
    journaled = store.write(journal)
    if not isinstance(journaled, Order):
        return journaled
    if dry_run:
        return NotSent(journaled.key)
    took_ms = round((clock.monotonic() - begun) * 1000, 3)
    outcome = _send(journaled, broker)
    wish = journaled.intent
    log.info("order_sent", extra={"key": wish.key, "reason": wish.reason, "journaled_in_ms": took_ms})
    return outcome


def _revived(tx: Tx, lost: Order, now: datetime) -> Order | Beaten:
    order = replace(move(lost, OrderStatus.IN_FLIGHT, at=now), sent_at=now)
    if not tx.revive_order(order):
        return Beaten(order.key)
    event = Event(
        name="order_in_flight",
        at=now,
        reason="sent again: the venue had not got it",
        cycle_id=order.intent.cycle_id,
        order_key=order.key,
        uid=f"{order.key}#{lost.version + 1}",
    )
    tx.add_event(event)
    return order


def _in_the_way(tx: Tx, intent: Intent) -> Beaten | Conflict:
    there = tx.order(intent.key)
    if there is None:
        return Beaten(intent.key)
    differing = tuple(name for name in PAYLOAD if getattr(there.intent, name) != getattr(intent, name))
    return Conflict(intent.key, differing) if differing else Beaten(intent.key)


def _send(order: Order, broker: Broker) -> Outcome:
    try:
        seen = broker.submit(order.intent)
    except DuplicateKey:
        # The key is ours alone, so the venue has this very order: to be asked, not to be ended.
        return Unclear(order.key)
    except Rejected as error:
        return Refused(order.key, order.intent.side, error)
    except InDoubt as error:
        log.warning("order_unclear", extra={"key": order.key, "error": str(error)})
        return Unclear(order.key)
    return Sent(seen)


def cancel(venue_id: str, key: str, *, broker: Broker) -> None:
    """The venue was asked to cancel the order `key`. Whether it is canceled only its next status tells:
    a fill may win, and a refusal or a lost answer says nothing about the order."""
    try:
        broker.cancel(venue_id)
    except (Rejected, InDoubt) as error:
        log.warning("cancel_unclear", extra={"key": key, "error": str(error)})


def try_out(intent: Intent, *, broker: Broker, settled: Callable[[bool], bool]) -> bool:
    """Whether an order far from the market was listed; it is canceled again.

    For checks of an account by hand: the order belongs to no cycle and no journal. `settled` waits
    until the order is listed (True) or no longer listed (False), and says whether that happened.
    """
    seen = broker.submit(intent)
    try:
        return settled(True)
    finally:
        cancel(seen.venue_id, seen.key, broker=broker)
        settled(False)
