"""The one way an order goes to the venue: reviewed, journaled and committed, then sent."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from dca.boundaries import crossing
from dca.domain.errors import DuplicateKey, InDoubt, Rejected
from dca.domain.order import Intent, Order, OrderStatus, VenueOrder
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
    error: Rejected


@dataclass(frozen=True, slots=True)
class Unclear:
    """The order is journaled and in flight; whether the venue has it must be asked."""

    key: str


@dataclass(frozen=True, slots=True)
class Beaten:
    """Somebody else journaled this order, or another one of the same cycle, first: do nothing."""

    key: str


Outcome = Sent | Refused | Unclear | Beaten | Denied
Reviewed = Callable[[Tx], Approved | Denied]


def place(reviewed: Reviewed, *, store: Store, broker: Broker, clock: Clock) -> Outcome:
    """What was approved is in the journal, and was sent once unless somebody else was first.

    The review happens in the transaction that journals, so nothing changes between the two, and the
    row is committed before the first byte leaves: whatever dies afterwards, the order can be asked
    for by its key. Raises StoreUnavailable when it could not be journaled, and what `reviewed`
    raises; then nothing was sent. What the venue answered is returned, not recorded: that is the
    recorder's.
    """

    def journal(tx: Tx) -> Order | Denied | Beaten:
        answer = reviewed(tx)
        if isinstance(answer, Denied):
            return answer
        now = clock.now()
        order = Order(intent=answer.intent, status=OrderStatus.IN_FLIGHT, created_at=now, updated_at=now)
        return order if tx.insert_order(order) else Beaten(order.key)

    crossing("before_journal")
    journaled = store.write(journal)
    if not isinstance(journaled, Order):
        return journaled
    crossing("after_journal")
    outcome = _send(journaled, broker)
    log.info("order_sent", extra={"key": journaled.key, "reason": journaled.intent.reason})
    return outcome


def _send(order: Order, broker: Broker) -> Outcome:
    crossing("before_submit")
    try:
        seen = broker.submit(order.intent)
    except DuplicateKey:
        # The key is ours alone, so the venue has this very order: to be asked, not to be ended.
        return Unclear(order.key)
    except Rejected as error:
        return Refused(order.key, error)
    except InDoubt as error:
        log.warning("order_unclear", extra={"key": order.key, "error": str(error)})
        return Unclear(order.key)
    finally:
        crossing("after_submit")
    return Sent(seen)


def cancel(venue_id: str, key: str, *, broker: Broker) -> None:
    """The venue was asked to cancel the order `key`. Whether it is canceled only its next status tells:
    a fill may win, and a refusal or a lost answer says nothing about the order."""
    crossing("before_cancel")
    try:
        broker.cancel(venue_id)
    except (Rejected, InDoubt) as error:
        log.warning("cancel_unclear", extra={"key": key, "error": str(error)})
    finally:
        crossing("after_cancel")


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
