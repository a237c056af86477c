"""Wakes cycles whose cooldown has passed, or whose price has fallen far enough."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from dca.domain.cycle import Cycle, CycleStatus
from dca.domain.market import Quote
from dca.domain.mode import Mode, Restriction, mode_of
from dca.ports import Broker, Clock, Situation, Store, Tx
from dca.service import cycles
from dca.service.caretakers.runner import Repair
from dca.strategy.dca import Wake, restart_trigger, resting, wakes_at


@dataclass(frozen=True, slots=True)
class View:
    """Resting cycles, and the quotes of those that a price could wake."""

    resting: Sequence[Situation]
    quotes: Mapping[str, Quote]


@dataclass(frozen=True, slots=True)
class Waking(Repair):
    cycle: Cycle


class CooldownManager:
    """dca.service.caretakers.runner.Caretaker.

    Time wakes disabled and paused assets too, for it has passed; a halted one stays as it is. A
    price wakes only what would buy at it.
    """

    name = "cooldown_manager"

    def __init__(self, store: Store, broker: Broker, clock: Clock) -> None:
        self._store = store
        self._broker = broker
        self._clock = clock

    def look(self) -> View:
        def read(tx: Tx) -> tuple[list[Situation], list[Restriction]]:
            return tx.situations(), tx.modes()

        situations, restrictions = self._store.read(read)
        found = [one for one in situations if _rests(one)]
        now = self._clock.now()
        stopped = mode_of(restrictions, now) is not Mode.NORMAL
        symbols = [] if stopped else [one.asset.asset_symbol for one in found if _waits_for_price(one, now)]
        return View(found, self._broker.latest_quotes(symbols) if symbols else {})

    def plan(self, view: View, now: datetime) -> list[Waking]:
        found = []
        for one in view.resting:
            assert one.cycle is not None
            symbol = one.asset.asset_symbol
            wish = resting(one.cycle, one.asset, view.quotes.get(symbol), now)
            if isinstance(wish, Wake):
                found.append(Waking("wake", symbol, wish.reason, one.cycle))
        return found

    def mend(self, repair: Waking) -> str | None:
        cycles.change(self._store, self._clock, repair.cycle, Wake(repair.reason))
        return None


def _rests(one: Situation) -> bool:
    resting = one.cycle is not None and one.cycle.status is CycleStatus.COOLDOWN
    return resting and one.asset.halted_reason is None


def _waits_for_price(one: Situation, now: datetime) -> bool:
    assert one.cycle is not None
    return now < wakes_at(one.cycle, one.asset) and restart_trigger(one.asset) is not None
