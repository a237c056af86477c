"""The changes of a cycle that no order makes: its beginning, waking, trailing, and ends in error."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from dca.domain.asset import Asset
from dca.domain.cycle import Cycle, CycleStatus, check_move, without_stop
from dca.domain.errors import StaleWrite
from dca.domain.money import ZERO, plain
from dca.domain.record import Event, Message
from dca.ports import Clock, Situation, Store, Tx
from dca.strategy.dca import Change, ClearStop, MoveStop, StartStop, Trail, wakes_at

log = logging.getLogger(__name__)


def change(store: Store, clock: Clock, cycle: Cycle, action: Change) -> None:
    """`cycle` is what `action` makes it. Raises StaleWrite when it changed since it was read."""
    now = clock.now()
    after = _changed(cycle, action)
    check_move(cycle, after.status)

    def write(tx: Tx) -> None:
        tx.update_cycle(replace(after, updated_at=now))
        if after.status is not cycle.status:
            name = f"cycle_{after.status}"
            tx.add_event(
                Event(name=name, at=now, reason=action.reason, asset_id=cycle.asset_id, cycle_id=cycle.id)
            )

    store.write(write)
    if after.status is not cycle.status:
        log.info(f"cycle_{after.status}", extra={"cycle_id": cycle.id, "reason": action.reason})


def _changed(cycle: Cycle, action: Change) -> Cycle:
    if isinstance(action, Trail):
        return replace(cycle, status=CycleStatus.TRAILING, highest_trailing_price=action.peak)
    if isinstance(action, MoveStop):
        return replace(cycle, stop_price=action.price)
    if isinstance(action, StartStop):
        return replace(cycle, stop_since=action.since)
    if isinstance(action, ClearStop):
        return replace(cycle, stop_since=None)
    return replace(cycle, status=CycleStatus.WATCHING, highest_trailing_price=None)


def reset_stop(tx: Tx, cycle: Cycle, clock: Clock) -> None:
    """The stop is where the rules put it, and the time spent below it is forgotten. Raises StaleWrite."""
    after = without_stop(cycle)
    if after != cycle:
        tx.update_cycle(replace(after, updated_at=clock.now()))


def begin(store: Store, clock: Clock, asset: Asset) -> Cycle | None:
    """The enabled asset has a cycle, which rests while the cooldown of the one before it lasts.

    None, and nothing written, when it has one already or is not enabled any more.
    """
    now = clock.now()

    def write(tx: Tx) -> Cycle | None:
        situation = tx.situation(asset.id)
        if situation is None or situation.cycle is not None or not situation.asset.is_enabled:
            return None
        return begun(tx, situation.asset, now)

    return store.write(write)


def begun(tx: Tx, asset: Asset, now: datetime) -> Cycle | None:
    """The next cycle of the asset, resting or awake; None when it has an unfinished one."""
    cycle = tx.insert_cycle(asset.id, CycleStatus.COOLDOWN, at=now)
    if cycle is None:
        return None
    if cycle.previous_completed_at is None or now >= wakes_at(cycle, asset):
        cycle = tx.update_cycle(replace(cycle, status=CycleStatus.WATCHING))
    why = "the asset had no cycle"
    tx.add_event(Event(name="cycle_begun", at=now, reason=why, asset_id=asset.id, cycle_id=cycle.id))
    return cycle


def put_back(tx: Tx, cycle: Cycle) -> Cycle:
    """The cycle stands in the database as it is given, under its own id.

    No check of the move: it is what the venue's orders and fills make of it, whatever stood there.
    Raises StaleWrite when the asset has another unfinished cycle, or somebody else changed this one.
    """
    before = tx.cycle(cycle.id)
    if before is None:
        before = tx.insert_cycle(cycle.asset_id, cycle.status, at=cycle.created_at, number=cycle.id)
    if before is None:
        raise StaleWrite(f"asset {cycle.asset_id} has another unfinished cycle")
    ended = before.previous_completed_at
    return tx.update_cycle(replace(cycle, version=before.version, previous_completed_at=ended))


def fail(store: Store, clock: Clock, situation: Situation, why: str, data: Mapping[str, Any]) -> None:
    """The cycle, whose coins are gone, is over in error; a fresh one watches. A person is told.

    Raises StaleWrite when the asset or the cycle changed since it was read, or trades.
    """
    asset, cycle = situation.asset, situation.cycle
    assert cycle is not None
    check_move(cycle, CycleStatus.ERROR)
    now = clock.now()

    def write(tx: Tx) -> None:
        tx.update_cycle(_ended(cycle, clock))
        if any(order.live for order in tx.orders_of(cycle.id)):
            raise StaleWrite(f"cycle {cycle.id} trades")
        tx.insert_cycle(asset.id, CycleStatus.WATCHING, at=now)
        # Nothing is there any more, so nobody else's coins are either.
        tx.update_asset(replace(asset, accepted_difference=ZERO, updated_at=now))
        event = Event(
            name="error_cycle", at=now, reason=why, asset_id=asset.id, cycle_id=cycle.id, data=dict(data)
        )
        tx.add_event(event)
        text = f"{asset.asset_symbol}: {why}"
        tx.add_message(Message(key=f"error:c{cycle.id}", name="error_cycle", text=text, at=now))

    store.write(write)
    log.error("error_cycle", extra={"symbol": asset.asset_symbol, "cycle_id": cycle.id, "reason": why})


def end(store: Store, clock: Clock, cycle: Cycle, why: str, *, asset_gone: bool = False) -> None:
    """`cycle`, which is not its asset's own, is over in error. Raises StaleWrite."""
    ended, told = _ended(cycle, clock), None
    if asset_gone:
        # The index of this column leads over the asset, which MariaDB would miss.
        ended = replace(ended, completed_at=cycle.completed_at)
        if cycle.quantity > 0:
            told = f"cycle {cycle.id} has ended, {why}: {plain(cycle.quantity)} coins are yours to sell"
    _rewrite(store, clock, ended, "stray_cycle_ended", why, told)


def put_right(store: Store, clock: Clock, cycle: Cycle, why: str) -> None:
    """`cycle` has its asset's place if it is unfinished, else has left it. Raises StaleWrite."""
    ended = replace(cycle, completed_at=cycle.completed_at or clock.now()) if cycle.finished else cycle
    _rewrite(store, clock, ended, "cycle_put_right", why)


def _ended(cycle: Cycle, clock: Clock) -> Cycle:
    now = clock.now()
    return replace(
        cycle,
        status=CycleStatus.ERROR,
        completed_at=now,
        updated_at=now,
        latest_order_id=None,
        latest_order_created_at=None,
    )


def _rewrite(store: Store, clock: Clock, cycle: Cycle, name: str, why: str, told: str | None = None) -> None:
    now = clock.now()

    def write(tx: Tx) -> None:
        tx.update_cycle(replace(cycle, updated_at=now))
        if told is not None:
            tx.add_message(Message(key=f"error:c{cycle.id}", name="error_cycle", text=told, at=now))
        tx.add_event(Event(name=name, at=now, reason=why, asset_id=cycle.asset_id, cycle_id=cycle.id))

    store.write(write)
    log.warning(name, extra={"cycle_id": cycle.id, "reason": why})
