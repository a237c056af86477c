"""What the venue showed becomes rows: the only writer of fills, and of a cycle that trades.

Trade updates, answers to orders and what REST shows when catching up all come through `record`.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from dca.boundaries import crossing
from dca.domain.asset import Asset
from dca.domain.cycle import Cycle, CycleStatus, check_move
from dca.domain.errors import StaleWrite
from dca.domain.fees import FeeRates
from dca.domain.folding import fee_fill_id, folded, observe
from dca.domain.money import ZERO, plain
from dca.domain.order import Execution, Order, OrderStatus, Side, VenueOrder, is_ours, move
from dca.domain.position import Fill, fold, gross
from dca.domain.record import Event, Message
from dca.ports import Clock, CycleRecord, Store, T, Tx

log = logging.getLogger(__name__)
ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Recorded:
    """What recording changed. `order` is None when the order is not in the journal.

    `missing` is the quantity the venue counts as filled but of which no execution is stored yet;
    `ended` is true when this made the order end, `changed` when any row was written.
    """

    order: Order | None
    asset_id: int | None = None
    missing: Decimal = ZERO
    ended: bool = False
    changed: bool = False


class Recorder:
    """Writes what the venue shows, one transaction for one thing that happened."""

    def __init__(self, store: Store, clock: Clock, fees: FeeRates) -> None:
        self._store = store
        self._clock = clock
        self._fees = fees

    def record(self, seen: VenueOrder, executions: Sequence[Execution] = (), *, source: str) -> Recorded:
        """Order, fills and cycle show what the venue showed. Repeating it changes nothing.

        Raises StoreUnavailable; then nothing is written and the same call may be repeated.
        """
        result = self._write(lambda tx: self._record(tx, seen, executions, source))
        if result.order is None:
            self._unknown(seen, source)
        return result

    def refuse(self, key: str, why: str, *, status: OrderStatus = OrderStatus.REJECTED) -> Recorded:
        """The order is over without the venue ever having had it."""
        return self._write(lambda tx: self._refuse(tx, key, why, status))

    def halt(self, asset_id: int, why: str) -> None:
        """No order of ours for the asset until a person looked; the first reason stays."""

        def work(tx: Tx) -> None:
            situation = tx.situation(asset_id)
            if situation is not None and situation.asset.halted_reason is None:
                self._halt(tx, situation.asset, why, self._clock.now())

        self._write(work)

    def mark_unclear(self, key: str) -> None:
        """From now on no refusal can end the order; only what the venue shows can."""

        def mark(tx: Tx) -> None:
            order = tx.order(key)
            if order is not None and not order.unclear:
                tx.update_order(replace(order, unclear=True, updated_at=self._clock.now()))

        self._write(mark)

    def correct_fees(self, cycle_id: int, corrections: Mapping[str, Decimal]) -> None:
        """The coin fee of each ended buy is its estimate plus its correction, once and for ever."""
        self._write(lambda tx: self._correct_fees(tx, cycle_id, corrections))

    def _write(self, work: Callable[[Tx], T]) -> T:
        crossing("before_record")
        for _ in range(ATTEMPTS):
            try:
                result = self._store.write(work)
            except StaleWrite:
                # Somebody else recorded something on the same rows: read again, decide again.
                continue
            crossing("after_record")
            return result
        raise StaleWrite(f"lost {ATTEMPTS} races for the same rows in a row")

    def _record(self, tx: Tx, seen: VenueOrder, executions: Sequence[Execution], source: str) -> Recorded:
        record = tx.cycle_record(seen.key)
        if record is None:
            return Recorded(None)
        cycle, order = record.cycle, _order_in(record, seen.key)
        now = self._clock.now()
        new = [fill for fill in self._fills(order, executions) if tx.insert_fill(fill)]
        fills = record.fills + new
        known = gross(fill for fill in fills if fill.order_key == order.key)
        after = observe(order, seen, known, now)
        missing = max(after.filled_qty - known, ZERO)
        if after is order and not new:
            return Recorded(order, cycle.asset_id, missing)
        orders = [after if other.key == order.key else other for other in record.orders]
        self._settle(tx, CycleRecord(cycle, orders, fills), order, after, new, now)
        tx.add_event(_order_event(cycle, after, new, seen, source, now))
        _log_order(after, new, source)
        return Recorded(after, cycle.asset_id, missing, order.live and not after.live, changed=True)

    def _fills(self, order: Order, executions: Sequence[Execution]) -> list[Fill]:
        side = order.intent.side
        return [
            Fill(
                id=execution.id,
                order_key=order.key,
                cycle_id=order.intent.cycle_id,
                side=side,
                qty=execution.qty,
                price=execution.price,
                fee=self._fees.estimate(side, execution.qty, execution.price),
                cum_qty=execution.cum_qty,
                at=execution.at,
            )
            for execution in executions
        ]

    def _settle(
        self,
        tx: Tx,
        record: CycleRecord,
        before: Order,
        order: Order,
        new: Sequence[Fill],
        now: datetime,
    ) -> None:
        """`order` is stored where it changed, and the cycle folded anew.

        A finished cycle never changes: coins that turn up halt the asset.
        """
        cycle = record.cycle
        after = cycle if cycle.finished else folded(cycle, record.orders, record.fills, now)
        if after is not cycle:
            check_move(cycle, after.status)
        _store(tx, before, order, cycle, after)
        if cycle.finished:
            if new:
                why = f"order {order.key} filled after its cycle was {cycle.status}"
                self._halt(tx, _asset(tx, cycle), why, now)
        elif after.status is CycleStatus.COMPLETE:
            self._complete(tx, _asset(tx, cycle), after, record.fills, now)

    def _halt(self, tx: Tx, asset: Asset, why: str, now: datetime) -> None:
        tx.update_asset(replace(asset, halted_reason=why, updated_at=now))
        tx.add_event(Event(name="asset_halted", at=now, reason=why, asset_id=asset.id))
        tx.add_message(Message(key=f"halted:{asset.id}:{why}"[:190], name="asset_halted", text=why, at=now))
        log.error("asset_halted", extra={"symbol": asset.asset_symbol, "reason": why})

    def _complete(self, tx: Tx, asset: Asset, cycle: Cycle, fills: Sequence[Fill], now: datetime) -> None:
        tx.update_asset(replace(asset, last_sell_price=cycle.sell_price, updated_at=now))
        tx.insert_cycle(asset.id, CycleStatus.COOLDOWN, at=now)
        position = fold(fills)
        profit = position.proceeds - position.cost
        numbers = {
            "profit_usd": plain(profit),
            "cost_usd": plain(position.cost),
            "proceeds_usd": plain(position.proceeds),
            "dust": plain(cycle.quantity),
            "safety_orders": cycle.safety_orders,
        }
        text = f"{asset.asset_symbol}: cycle {cycle.id} complete, {profit:+.2f} USD"
        tx.add_event(
            Event(
                name="cycle_completed",
                at=now,
                reason=text,
                asset_id=asset.id,
                cycle_id=cycle.id,
                data=numbers,
            )
        )
        tx.add_message(Message(key=f"completed:c{cycle.id}", name="take_profit", text=text, at=now))
        log.info("cycle_completed", extra={"symbol": asset.asset_symbol, "cycle_id": cycle.id, **numbers})

    def _refuse(self, tx: Tx, key: str, why: str, status: OrderStatus) -> Recorded:
        record = tx.cycle_record(key)
        if record is None:
            return Recorded(None)
        cycle, order = record.cycle, _order_in(record, key)
        if order.status is not OrderStatus.IN_FLIGHT or (order.unclear and status is OrderStatus.REJECTED):
            return Recorded(order, cycle.asset_id)
        now = self._clock.now()
        stored = tx.update_order(move(order, status, at=now, detail=why))
        if not cycle.finished:
            # Its columns stay, but everybody who holds the cycle in memory must look again.
            tx.update_cycle(replace(cycle, updated_at=now))
        tx.add_event(_order_event(cycle, stored, [], None, why, now))
        log.warning(f"order_{status}", extra={"key": key, "reason": why})
        return Recorded(stored, cycle.asset_id, ended=True, changed=True)

    def _correct_fees(self, tx: Tx, cycle_id: int, corrections: Mapping[str, Decimal]) -> None:
        now = self._clock.now()
        new = [
            Fill(
                id=fee_fill_id(key),
                order_key=key,
                cycle_id=cycle_id,
                side=Side.BUY,
                qty=ZERO,
                price=ZERO,
                fee=correction,
                cum_qty=ZERO,
                at=now,
            )
            for key, correction in corrections.items()
        ]
        record = tx.cycle_record(new[0].order_key)
        if record is None or record.cycle.finished:
            return
        stored = [fill for fill in new if tx.insert_fill(fill)]
        order = _order_in(record, new[0].order_key)
        after = CycleRecord(record.cycle, record.orders, record.fills + stored)
        self._settle(tx, after, order, order, stored, now)

    def _unknown(self, seen: VenueOrder, source: str) -> None:
        ours = is_ours(seen.key, self._store.install)
        name = "order_not_journaled" if ours else "order_not_ours"
        level = logging.ERROR if ours else logging.WARNING
        log.log(level, name, extra={"key": seen.key, "symbol": seen.symbol, "source": source})


def _store(tx: Tx, before: Order, order: Order, cycle: Cycle, after: Cycle) -> None:
    """What changed is written, both at once where both did."""
    if order is not before and after is not cycle:
        tx.update_order_and_cycle(order, after)
    elif order is not before:
        tx.update_order(order)
    elif after is not cycle:
        tx.update_cycle(after)


def _order_in(record: CycleRecord, key: str) -> Order:
    return next(order for order in record.orders if order.key == key)


def _asset(tx: Tx, cycle: Cycle) -> Asset:
    situation = tx.situation(cycle.asset_id)
    assert situation is not None, "a cycle always has its asset"
    return situation.asset


def _order_event(
    cycle: Cycle, order: Order, new: Sequence[Fill], seen: VenueOrder | None, source: str, now: datetime
) -> Event:
    data: dict[str, Any] = {"filled_qty": plain(order.filled_qty)}
    if seen is not None:
        data |= {"venue_id": seen.venue_id, "venue_status": str(seen.status), "source": source}
    if new:
        data["fills"] = [{"id": fill.id, "qty": plain(fill.qty), "price": plain(fill.price)} for fill in new]
    return Event(
        name=f"order_{order.status}",
        at=now,
        reason=order.detail or order.intent.reason,
        asset_id=cycle.asset_id,
        cycle_id=cycle.id,
        order_key=order.key,
        data=data,
    )


def _log_order(order: Order, new: Sequence[Fill], source: str) -> None:
    log.info(
        f"order_{order.status}",
        extra={
            "key": order.key,
            "filled_qty": plain(order.filled_qty),
            "new_fills": len(new),
            "source": source,
        },
    )
