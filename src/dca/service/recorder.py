"""What the venue showed becomes rows: the only writer of fills, and of a cycle that trades.

Trade updates, answers to orders and what REST shows when catching up all come through `record`.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from dca.domain.asset import Asset
from dca.domain.cycle import Cycle, CycleStatus, check_move, without_stop
from dca.domain.errors import StaleWrite
from dca.domain.fees import FeeRates
from dca.domain.folding import corrected_fee, filled, folded, observe
from dca.domain.market import compact
from dca.domain.money import ZERO, plain
from dca.domain.order import KEY, Execution, Order, OrderStatus, Purpose, Side, VenueOrder, is_ours, move
from dca.domain.position import Fill, average_price, fold, gross
from dca.domain.record import Event, Message
from dca.ports import Clock, CycleRecord, Store, T, Tx
from dca.strategy.dca import shown

log = logging.getLogger(__name__)
ATTEMPTS = 20
FOLDED = (
    "status",
    "quantity",
    "average_purchase_price",
    "safety_orders",
    "latest_order_id",
    "latest_order_created_at",
    "last_order_fill_price",
)
"""The columns of a cycle that its orders and fills decide."""


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
        # What people trade by themselves on the account comes by here too, and is in no journal.
        foreign = KEY.match(seen.key) is None
        result = (
            Recorded(None) if foreign else self._write(lambda tx: self._record(tx, seen, executions, source))
        )
        if result.order is None:
            self._unknown(seen, source)
        return result

    def refuse(
        self, key: str, why: str, *, status: OrderStatus = OrderStatus.REJECTED, version: int | None = None
    ) -> Recorded:
        """The order is over without the venue ever having had it; nothing is written where it is not at
        the `version` any more from which that was concluded."""
        return self._write(lambda tx: self._refuse(tx, key, why, status, version))

    def vanish(self, key: str, why: str) -> Recorded:
        """The order that the venue had open is canceled, with the fills that are stored."""
        return self._write(lambda tx: self._vanish(tx, key, why))

    def refold(self, cycle_id: int, why: str) -> bool:
        """The columns of the unfinished cycle are what its fills and orders make; whether they were
        not. The event shows both."""
        return self._write(lambda tx: self._refold(tx, cycle_id, why))

    def adopt(self, asset: Asset, cycle: Cycle, order: Order) -> None:
        """What was traded past us is booked as `order`, which is over already, and the halt is lifted.

        Raises StaleWrite when the asset or its cycle is not as it was read, or has a live order.
        """
        self._store.write(lambda tx: self._adopt(tx, asset, cycle, order))

    def halt(self, asset_id: int, why: str, data: Mapping[str, Any] | None = None) -> None:
        """No order of ours for the asset until a person looked; the first reason stays."""

        def work(tx: Tx) -> None:
            situation = tx.situation(asset_id)
            if situation is not None and situation.asset.halted_reason is None:
                self._halt(tx, situation.asset, why, self._clock.now(), data)

        self._write(work)

    def mark_unclear(self, key: str) -> None:
        """From now on no refusal can end the order; only what the venue shows can."""

        def mark(tx: Tx) -> None:
            order = tx.order(key)
            if order is not None and not order.unclear:
                tx.update_order(replace(order, unclear=True, updated_at=self._clock.now()))

        self._write(mark)

    def correct_fees(self, cycle: Cycle, corrections: Mapping[str, Decimal]) -> None:
        """The coin fee of each ended buy is its estimate plus its correction, once and for ever.

        Nothing is written when the cycle is not as it was when the position was read, or trades.
        """
        self._write(lambda tx: self._correct_fees(tx, cycle, corrections))

    def _write(self, work: Callable[[Tx], T]) -> T:
        for _ in range(ATTEMPTS):
            try:
                return self._store.write(work)
            except StaleWrite:
                # Somebody else recorded something on the same rows: read again, decide again.
                continue
        raise StaleWrite(f"lost {ATTEMPTS} races for the same rows in a row")

    def _record(self, tx: Tx, seen: VenueOrder, executions: Sequence[Execution], source: str) -> Recorded:
        record = tx.cycle_record(seen.key)
        if record is None:
            return Recorded(None)
        cycle, order = record.cycle, _order_in(record, seen.key)
        if (compact(seen.symbol), seen.side) != (compact(order.intent.symbol), order.intent.side):
            return self._another(tx, cycle, order, seen)
        now = self._clock.now()
        new = [fill for fill in self._fills(order, executions) if tx.insert_fill(fill)]
        fills = record.fills + new
        known = gross(fill for fill in fills if fill.order_key == order.key)
        after = observe(order, seen, known, now)
        missing = max(after.filled_qty - known, ZERO)
        if after is order and not new:
            return Recorded(order, cycle.asset_id, missing)
        stored = self._settle(tx, _with(record, after, fills), order, after, new, now)
        tx.add_event(_order_event(cycle, order, after, new, seen, source, now))
        if known > 0 and not after.live:
            _tell_bought(tx, stored, after, fills, now)
        _log_order(after, new, source)
        return Recorded(after, cycle.asset_id, missing, order.live and not after.live, changed=True)

    def _another(self, tx: Tx, cycle: Cycle, order: Order, seen: VenueOrder) -> Recorded:
        """The venue has another order under the key, so it can never have had this one.

        That happens to a database restored from a backup: it makes keys a second time.
        """
        why = f"the venue has a {seen.side} of {seen.symbol} under the key {order.key}"
        asset = _asset(tx, cycle)
        if asset is None or asset.halted_reason is None:
            self._halt(tx, asset, why, self._clock.now())
        return self._refuse(tx, order.key, why, OrderStatus.LOST)

    def _fills(self, order: Order, executions: Sequence[Execution]) -> list[Fill]:
        wish = order.intent
        return [filled(order.key, wish.cycle_id, wish.side, one, self._fees) for one in executions]

    def _settle(
        self,
        tx: Tx,
        record: CycleRecord,
        before: Order,
        order: Order,
        new: Sequence[Fill],
        now: datetime,
    ) -> Cycle:
        """`order` is stored where it changed, and the cycle folded anew; the cycle as it is then.

        A finished cycle never changes: coins that turn up halt the asset.
        """
        cycle = record.cycle
        after = cycle
        if not cycle.finished:
            bought = any(fill.side is Side.BUY and fill.qty > 0 for fill in new)
            after = folded(without_stop(cycle) if bought else cycle, record.orders, record.fills, now)
        if after is not cycle:
            check_move(cycle, after.status)
            if after.finished and _asset(tx, cycle) is None:
                # The index of this column leads over the asset, which MariaDB would miss.
                after = replace(after, completed_at=None)
        _store(tx, before, order, cycle, after)
        if cycle.finished:
            if new:
                why = f"order {order.key} filled after its cycle was {cycle.status}"
                self._halt(tx, _asset(tx, cycle), why, now)
        elif after.status is CycleStatus.COMPLETE:
            self._complete(tx, order.intent.symbol, after, record, now)
        return after

    def _halt(
        self, tx: Tx, asset: Asset | None, why: str, now: datetime, data: Mapping[str, Any] | None = None
    ) -> None:
        if asset is None:
            # Somebody removed its row, so nothing is traded; that coins turned up must still be known.
            tx.add_message(Message(key=f"halted:{why}"[:190], name="asset_halted", text=why, at=now))
            return
        halted = tx.update_asset(replace(asset, halted_reason=why, updated_at=now))
        tx.add_event(Event(name="asset_halted", at=now, reason=why, asset_id=asset.id, data=dict(data or {})))
        key, text = f"halted:a{asset.id}-v{halted.version}", f"{asset.asset_symbol} is halted: {why}"
        tx.add_message(Message(key=key, name="asset_halted", text=text, at=now))
        log.error("asset_halted", extra={"symbol": asset.asset_symbol, "reason": why})

    def _complete(self, tx: Tx, symbol: str, cycle: Cycle, record: CycleRecord, now: datetime) -> None:
        asset, stopped = _asset(tx, cycle), ended_by(record) is Purpose.STOP_LOSS
        if asset is not None:
            sold = replace(asset, last_sell_price=cycle.sell_price, stopped_out=stopped, updated_at=now)
            tx.update_asset(sold)
            tx.insert_cycle(asset.id, CycleStatus.COOLDOWN, at=now)
        position = fold(record.fills)
        profit = position.proceeds - position.cost
        numbers = {
            "profit_usd": plain(profit),
            "cost_usd": plain(position.cost),
            "proceeds_usd": plain(position.proceeds),
            "dust": plain(cycle.quantity),
            "safety_orders": cycle.safety_orders,
            "stopped": stopped,
        }
        text = f"{symbol}: cycle {cycle.id} {'stopped' if stopped else 'complete'}, {profit:+.2f} USD"
        tx.add_event(
            Event(
                name="cycle_completed",
                at=now,
                reason=text,
                asset_id=cycle.asset_id,
                cycle_id=cycle.id,
                data=numbers,
            )
        )
        name = "stop_loss" if stopped else "take_profit"
        tx.add_message(Message(key=f"completed:c{cycle.id}", name=name, text=text, at=now))
        log.info("cycle_completed", extra={"symbol": symbol, "cycle_id": cycle.id, **numbers})

    def _refuse(
        self, tx: Tx, key: str, why: str, status: OrderStatus, version: int | None = None
    ) -> Recorded:
        record = tx.cycle_record(key)
        if record is None:
            return Recorded(None)
        cycle, order = record.cycle, _order_in(record, key)
        if version is not None and order.version != version:
            return Recorded(order, cycle.asset_id)
        if order.unclear and status is OrderStatus.REJECTED and order.sent_at is not None:
            # It was lost for certain before it was sent again, and that changed nothing.
            status = OrderStatus.LOST
        if order.status is not OrderStatus.IN_FLIGHT or (order.unclear and status is OrderStatus.REJECTED):
            return Recorded(order, cycle.asset_id)
        now = self._clock.now()
        after = move(order, status, at=now, detail=why)
        stored = tx.update_order(after)
        if not cycle.finished:
            # Its columns stay, but everybody who holds the cycle in memory must look again.
            tx.update_cycle(replace(cycle, updated_at=now))
        tx.add_event(_order_event(cycle, order, after, [], None, why, now))
        log.warning(f"order_{status}", extra={"key": key, "reason": why})
        return Recorded(stored, cycle.asset_id, ended=True, changed=True)

    def _vanish(self, tx: Tx, key: str, why: str) -> Recorded:
        record = tx.cycle_record(key)
        if record is None:
            return Recorded(None)
        cycle, order = record.cycle, _order_in(record, key)
        if order.status not in (OrderStatus.OPEN, OrderStatus.PARTIAL):
            return Recorded(order, cycle.asset_id)
        now = self._clock.now()
        after = move(order, OrderStatus.CANCELED, at=now, detail=why)
        self._settle(tx, _with(record, after, record.fills), order, after, [], now)
        tx.add_event(_order_event(cycle, order, after, [], None, why, now))
        return Recorded(after, cycle.asset_id, ended=True, changed=True)

    def _refold(self, tx: Tx, cycle_id: int, why: str) -> bool:
        cycle = tx.cycle(cycle_id)
        if cycle is None or cycle.finished:
            return False
        now = self._clock.now()
        orders, fills = tx.orders_of(cycle_id), tx.fills_of(cycle_id)
        after = folded(cycle, orders, fills, now)
        if after is cycle:
            return False
        # No check of the move: whatever stood there, it was not the program that moved it there.
        tx.update_cycle(after)
        before, now_is = columns(cycle), columns(after)
        data = {name: {"before": before[name], "after": now_is[name]} for name in differing(cycle, after)}
        tx.add_event(
            Event(
                name="cycle_refolded",
                at=now,
                reason=why,
                asset_id=cycle.asset_id,
                cycle_id=cycle.id,
                data=data,
            )
        )
        if after.status is CycleStatus.COMPLETE:
            self._complete(tx, orders[-1].intent.symbol, after, CycleRecord(after, orders, fills), now)
        log.warning("cycle_refolded", extra={"cycle_id": cycle.id, "reason": why, **data})
        return True

    def _adopt(self, tx: Tx, asset: Asset, cycle: Cycle, order: Order) -> None:
        now = self._clock.now()
        if not tx.insert_order(order):
            raise StaleWrite(f"{asset.asset_symbol} trades")
        tx.update_asset(replace(asset, halted_reason=None, accepted_difference=ZERO, updated_at=now))
        fill = _adopted_fill(order)
        tx.insert_fill(fill)
        # Coins end a rest: what is held is looked after.
        awake = CycleStatus.WATCHING if cycle.status is CycleStatus.COOLDOWN else cycle.status
        cycle = replace(cycle, status=awake)
        record = CycleRecord(cycle, tx.orders_of(cycle.id), tx.fills_of(cycle.id))
        self._settle(tx, record, order, order, [fill], now)
        data = {"qty": plain(fill.qty), "price": plain(fill.price), "side": str(fill.side)}
        tx.add_event(
            Event(
                name="position_adopted",
                at=now,
                reason=order.intent.reason,
                asset_id=asset.id,
                cycle_id=cycle.id,
                order_key=order.key,
                data=data,
            )
        )
        log.info("position_adopted", extra={"symbol": asset.asset_symbol, "key": order.key, **data})

    def _correct_fees(self, tx: Tx, cycle: Cycle, corrections: Mapping[str, Decimal]) -> None:
        now = self._clock.now()
        new = [corrected_fee(key, cycle.id, correction, now) for key, correction in corrections.items()]
        record = tx.cycle_record(new[0].order_key)
        if record is None or record.cycle.version != cycle.version or cycle.finished:
            return
        if any(order.live for order in record.orders):
            return
        stored = [fill for fill in new if tx.insert_fill(fill)]
        order = _order_in(record, new[0].order_key)
        after = CycleRecord(record.cycle, record.orders, record.fills + stored)
        self._settle(tx, after, order, order, stored, now)

    def tell_unknown(self, seen: VenueOrder) -> None:
        """It is written down, once, that the venue has an order of ours which no journal of this database
        knows; a person hears of one that filled."""
        now, uid = self._clock.now(), f"unknown:{seen.key}"
        why = f"the venue has the order {seen.key} of {seen.symbol}, which this database does not know"
        text = (
            f"{why}; it filled {plain(seen.filled_qty)}: what the venue knows shows "
            "dca rebuild --from venue --dry-run"
        )
        data = {"venue_id": seen.venue_id, "venue_status": str(seen.status)}

        def write(tx: Tx) -> None:
            tx.add_event(
                Event(name="order_unknown", at=now, reason=why, order_key=seen.key, data=data, uid=uid)
            )
            if seen.filled_qty > 0:
                tx.add_message(Message(key=uid, name="order_unknown", text=text, at=now))

        self._write(write)
        self._unknown(seen, "catch_up")

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


def columns(cycle: Cycle) -> dict[str, Any]:
    """What fills and orders decide of a cycle, JSON-ready."""
    return {name: _text(getattr(cycle, name)) for name in FOLDED}


def differing(before: Cycle, after: Cycle) -> list[str]:
    """The names of those columns that are not the same in both."""
    return [name for name in FOLDED if getattr(before, name) != getattr(after, name)]


def _text(value: Any) -> Any:
    if isinstance(value, Decimal):
        return plain(value)
    return value.isoformat() if isinstance(value, datetime) else value


def _with(record: CycleRecord, order: Order, fills: list[Fill]) -> CycleRecord:
    """`record` with `order` as it is now, and with `fills`."""
    orders = [order if other.key == order.key else other for other in record.orders]
    return CycleRecord(record.cycle, orders, fills)


def _adopted_fill(order: Order) -> Fill:
    """The one fill of an adopted order. The venue took its fee from whoever traded."""
    assert order.filled_avg_price is not None
    return Fill(
        id=f"adopted:{order.key}",
        order_key=order.key,
        cycle_id=order.intent.cycle_id,
        side=order.intent.side,
        qty=order.filled_qty,
        price=order.filled_avg_price,
        fee=ZERO,
        cum_qty=order.filled_qty,
        at=order.updated_at,
    )


def _tell_bought(tx: Tx, cycle: Cycle, order: Order, fills: Sequence[Fill], now: datetime) -> None:
    """A person is told once that a base or a safety order has bought."""
    intent = order.intent
    if cycle.finished or intent.purpose not in (Purpose.BASE, Purpose.SAFETY):
        return
    mine = [fill for fill in fills if fill.order_key == order.key]
    price = average_price(mine)
    assert price is not None
    bought = f"{plain(gross(mine))} bought at {shown(price)}"
    if intent.purpose is Purpose.BASE:
        key, name = f"started:c{cycle.id}", "cycle_started"
        text = f"{intent.symbol}: cycle {cycle.id} started, {bought}"
    else:
        key, name = f"safety:c{cycle.id}-{intent.step}", "safety_order"
        average = shown(cycle.average_purchase_price)
        text = f"{intent.symbol}: safety order {intent.step}, {bought}; the average is {average} now"
    tx.add_message(Message(key=key, name=name, text=text, at=now))


def ended_by(record: CycleRecord) -> Purpose | None:
    """What the newest sale was for; None when nothing was sold."""
    sold = {fill.order_key for fill in record.fills if fill.side is Side.SELL}
    return next((order.intent.purpose for order in reversed(record.orders) if order.key in sold), None)


def _order_in(record: CycleRecord, key: str) -> Order:
    return next(order for order in record.orders if order.key == key)


def _asset(tx: Tx, cycle: Cycle) -> Asset | None:
    """The cycle's asset; None when somebody removed its row without asking the foreign key."""
    situation = tx.situation(cycle.asset_id)
    return None if situation is None else situation.asset


def _event_uid(before: Order, after: Order, new: Sequence[Fill]) -> str:
    """The row and its version; fills that leave it as it was have a name of their own."""
    if after is not before or not new:
        return f"{after.key}#{before.version + 1}"
    return f"{after.key}#{before.version}:{plain(max(fill.cum_qty for fill in new))}"


def _order_event(
    cycle: Cycle,
    before: Order,
    order: Order,
    new: Sequence[Fill],
    seen: VenueOrder | None,
    source: str,
    now: datetime,
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
        uid=_event_uid(before, order, new),
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
