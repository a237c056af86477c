"""Catching up: what the streams may have missed is asked for and recorded like anything else."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from dca.domain.asset import Asset
from dca.domain.cycle import Cycle
from dca.domain.errors import IllegalTransition
from dca.domain.fees import COIN_STEP, FeeRates
from dca.domain.folding import unmeasured_buys
from dca.domain.money import ZERO
from dca.domain.order import Order, OrderStatus, Side, VenueOrder, is_ours
from dca.domain.position import Fill, gross
from dca.domain.record import Heartbeat
from dca.ports import Broker, Clock, Store, Tx
from dca.service.adoption import forgotten
from dca.service.reconcile import (
    CLOCK_SLACK,
    Journal,
    Lose,
    Record,
    Repair,
    Seen,
    Sweep,
    Vanish,
    reconcile,
    sweep_from,
    to_ask,
    to_fetch,
)
from dca.service.recorder import Recorded, Recorder

log = logging.getLogger(__name__)

SWEEP = "sweep"
"""The heartbeat that says until when all orders were read."""
SWEEP_EVERY_S = 900.0
FIRST_SWEEP = timedelta(days=1)
"""How far the very first sweep looks back."""


class CatchUp:
    """Brings the journal to what the venue knows. Half a view concludes nothing: reads raise."""

    def __init__(
        self, store: Store, broker: Broker, clock: Clock, recorder: Recorder, *, grace_s: float
    ) -> None:
        self._store = store
        self._broker = broker
        self._clock = clock
        self._recorder = recorder
        self._grace = clock.span(grace_s)
        self._swept_at: datetime | None = None

    def everything(self, *, sweep: bool = False) -> None:
        """Every live order, and every order of ours the venue shows, is recorded as it stands.

        With `sweep`, and without it every SWEEP_EVERY_S, orders that are over are read too: the stream
        may have lost what came after their end. One that contradicts our books halts its asset, and the
        others are recorded all the same. Raises Unavailable when the venue cannot be read,
        StoreUnavailable when the database cannot.
        """
        now = self._clock.now()
        since = self._sweep_since(now, forced=sweep)
        shown = {one.key: one for one in self._broker.open_orders()}
        swept = None if since is None else Sweep(since, self._broker.orders_since(since))
        if swept is not None:
            shown |= {one.key: one for one in swept.orders}
        mine = [key for key in shown if is_ours(key, self._store.install)]
        journal = self._store.read(lambda tx: _journal(tx, self._store.install, mine, live=True))
        for repair in self._repairs(journal, now, to_ask(journal, shown), shown, swept):
            with self._halting(repair.key):
                self._apply(repair)
        if swept is not None:
            self._note_sweep(now, len(swept.orders))
        for cycle_id in self._store.read(_unmeasured):
            self.fees(cycle_id)

    def _sweep_since(self, now: datetime, *, forced: bool) -> datetime | None:
        """Since when all orders are to be read; None while that is not due. The first time goes on where
        the process before this one stopped."""
        last = self._swept_at
        if last is not None and not forced and now - last < self._clock.span(SWEEP_EVERY_S):
            return None
        if last is None:
            beats = self._store.read(lambda tx: tx.heartbeats())
            last = next((beat.at for beat in beats if beat.name == SWEEP), now - FIRST_SWEEP)
        return min([last, *self._store.read(lambda tx: _ended_since(tx, last))]) - CLOCK_SLACK

    def _note_sweep(self, at: datetime, orders: int) -> None:
        self._swept_at = at
        self._store.write(lambda tx: tx.beat(Heartbeat(name=SWEEP, at=at, detail={"orders": orders})))

    def _repairs(
        self,
        journal: Journal,
        at: datetime,
        ask: Sequence[str],
        shown: Mapping[str, VenueOrder],
        sweep: Sweep | None,
    ) -> list[Repair]:
        """What must be written; the venue is asked for the orders `ask` and whatever else it takes."""
        found = {key: self._broker.find(key) for key in ask}
        shown = {**shown, **{key: one for key, one in found.items() if one is not None}}
        unknown = [key for key, one in found.items() if one is None]
        since = sweep_from(journal, unknown, at, self._grace)
        if since is not None and (sweep is None or sweep.since > since):
            sweep = Sweep(since, self._broker.orders_since(since))
            shown = {**{one.key: one for one in sweep.orders if one.key in journal.orders}, **shown}
        executions = {one.key: self._broker.executions(one.venue_id) for one in to_fetch(journal, shown)}
        seen = Seen(at=at, shown=shown, unknown=unknown, executions=executions, sweep=sweep)
        return reconcile(journal, seen, self._grace)

    def _apply(self, repair: Repair) -> Recorded:
        if isinstance(repair, Record):
            result = self._recorder.record(repair.seen, repair.executions, source="catch_up")
            if result.missing > 0:
                log.warning("executions_missing", extra={"key": repair.key, "missing": str(result.missing)})
            return result
        if isinstance(repair, Lose):
            return self._recorder.refuse(
                repair.key, repair.why, status=OrderStatus.LOST, version=repair.version
            )
        if isinstance(repair, Vanish):
            log.error("order_vanished", extra={"key": repair.key})
            return self._recorder.vanish(repair.key, repair.why)
        return self._unknown(repair.seen)

    def _unknown(self, seen: VenueOrder) -> Recorded:
        """An order of ours that the journal lacks, as after a backup was restored: it is booked where
        the cycle that its key names goes on, else a person hears of it."""
        if forgotten(self._store, self._clock, seen):
            return self.order(seen.key)
        self._recorder.tell_unknown(seen)
        return Recorded(None)

    @contextmanager
    def _halting(self, key: str) -> Iterator[None]:
        try:
            yield
        except IllegalTransition as error:
            log.error("order_contradicts", extra={"key": key, "error": str(error)})
            record = self._store.read(lambda tx: tx.cycle_record(key))
            if record is not None:
                self._recorder.halt(record.cycle.asset_id, str(error))

    def order(self, key: str) -> Recorded:
        """The order `key` is recorded as the venue shows it; see `reconcile` for one it does not know."""
        now = self._clock.now()
        journal = self._store.read(lambda tx: _journal(tx, self._store.install, [key]))
        order = journal.orders.get(key)
        if order is None or _is_settled(order, journal.stored[key]):
            return Recorded(order)
        repairs = self._repairs(journal, now, [key], {}, None)
        return self._apply(repairs[0]) if repairs else Recorded(order)

    def settle(self, key: str) -> Recorded:
        """The same, and the fee of a buy that ended is measured, as nobody else may do it soon."""
        result = self.order(key)
        if result.ended and result.order is not None and result.order.intent.side is Side.BUY:
            self.fees(result.order.intent.cycle_id)
        return result

    def fees(self, cycle_id: int) -> None:
        """The coin fees of a cycle's ended buys are what the position shows was taken.

        The venue's fills carry no fee (docs/alpaca.md, fees), and which rate applies depends
        on how the order met the book, so what is owned is measured: position minus what our books
        say. A difference that fees cannot explain is left alone, as drift for a person to see.
        """
        found = self._store.read(lambda tx: _unmeasured_of(tx, cycle_id))
        if found is None:
            return
        asset, cycle, owned, buys = found
        symbol = asset.asset_symbol
        # Coins beside ours that a person said are right are none of ours.
        held = self._broker.holding(symbol).qty - asset.accepted_difference
        corrections = measured(buys, held - owned)
        if corrections is None or sum(corrections.values(), ZERO) != owned - held:
            log.warning("position_differs", extra={"symbol": symbol, "held": str(held), "owned": str(owned)})
        if corrections is not None:
            self._recorder.correct_fees(cycle, corrections)


def is_settled(order: Order, fills: Sequence[Fill]) -> bool:
    """Whether the venue can show nothing of `order` that is not stored."""
    return _is_settled(order, gross(fill for fill in fills if fill.order_key == order.key))


def _is_settled(order: Order, stored: Decimal) -> bool:
    filled = order.status is OrderStatus.FILLED and stored >= order.filled_qty
    return filled or order.status in (OrderStatus.REJECTED, OrderStatus.DRY_RUN)


def _journal(tx: Tx, install: str, keys: Iterable[str], *, live: bool = False) -> Journal:
    """The orders `keys`, with all live ones if wanted, as far as they are there."""
    wanted = [*(order.key for order in (tx.live_orders() if live else ())), *keys]
    orders, stored = {}, {}
    for key in dict.fromkeys(wanted):
        record = tx.cycle_record(key)
        if record is not None:
            orders[key] = next(order for order in record.orders if order.key == key)
            stored[key] = gross(fill for fill in record.fills if fill.order_key == key)
    return Journal(install, orders, stored)


def _ended_since(tx: Tx, at: datetime) -> list[datetime]:
    """When those orders of unfinished cycles were sent that ended after `at`: they may be older."""
    orders = (order for record in tx.open_records() for order in record.orders)
    return [order.created_at for order in orders if not order.live and order.updated_at >= at]


@dataclass(frozen=True, slots=True)
class Bought:
    """An ended buy whose fee is still an estimate: gross coins and the estimate."""

    key: str
    qty: Decimal
    fee: Decimal


def measured(buys: Sequence[Bought], surplus: Decimal) -> dict[str, Decimal] | None:
    """The correction of each buy's estimated fee, where the venue holds `surplus` more coins than the
    books own; None when no fee explains that.

    More coins than ours may be there: whose they are no fee can tell, so the estimates stay.
    """
    estimate = sum((buy.fee for buy in buys), ZERO)
    if surplus > estimate:
        return shared(ZERO, buys)
    if estimate - surplus <= FeeRates.HIGHEST * sum((buy.qty for buy in buys), ZERO):
        return shared(-surplus, buys)
    return None


def bought(orders: Iterable[Order], fills: Sequence[Fill]) -> list[Bought]:
    """Ended buys whose fee is still an estimate."""
    found = []
    for order in unmeasured_buys(orders, fills):
        mine = [fill for fill in fills if fill.order_key == order.key]
        found.append(Bought(order.key, gross(mine), sum((fill.fee for fill in mine), ZERO)))
    return found


def shared(correction: Decimal, buys: Sequence[Bought]) -> dict[str, Decimal]:
    """`correction` spread over `buys` in proportion to their estimates, to the last digit."""
    total = sum((buy.fee for buy in buys), ZERO)
    left = correction
    parts = {}
    for buy in buys[:-1]:
        parts[buy.key] = (correction * buy.fee / total).quantize(COIN_STEP) if total else ZERO
        left -= parts[buy.key]
    return {**parts, buys[-1].key: left}


def _unmeasured_of(tx: Tx, cycle_id: int) -> tuple[Asset, Cycle, Decimal, list[Bought]] | None:
    """Asset and cycle, what all its cycles own, and the unmeasured buys; None while it is not quiet."""
    cycle = tx.cycle(cycle_id)
    situation = None if cycle is None else tx.situation(cycle.asset_id)
    orders = tx.orders_of(cycle_id)
    if cycle is None or situation is None or cycle.finished or any(order.live for order in orders):
        return None
    buys = bought(orders, tx.fills_of(cycle_id))
    return (situation.asset, cycle, tx.owned(situation.asset.id), buys) if buys else None


def _unmeasured(tx: Tx) -> list[int]:
    """Unfinished cycles with buys whose fee was never measured."""
    return [
        record.cycle.id
        for record in tx.open_records()
        if record.cycle.quantity > 0 and unmeasured_buys(record.orders, record.fills)
    ]
