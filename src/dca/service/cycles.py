"""The changes of a cycle that no order makes: waking from the cooldown, trailing a price."""

import logging
from dataclasses import replace

from dca.domain.cycle import Cycle, CycleStatus, check_move
from dca.domain.record import Event
from dca.ports import Clock, Store, Tx
from dca.strategy.dca import StopTrailing, Trail, Wake

log = logging.getLogger(__name__)


def change(store: Store, clock: Clock, cycle: Cycle, action: Wake | Trail | StopTrailing) -> None:
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


def _changed(cycle: Cycle, action: Wake | Trail | StopTrailing) -> Cycle:
    if isinstance(action, Trail):
        return replace(cycle, status=CycleStatus.TRAILING, highest_trailing_price=action.peak)
    return replace(cycle, status=CycleStatus.WATCHING, highest_trailing_price=None)
