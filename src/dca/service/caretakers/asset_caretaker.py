"""Gives every enabled asset that has no cycle one."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from dca.domain.asset import Asset
from dca.ports import Clock, Situation, Store, Tx
from dca.service import cycles
from dca.service.caretakers.runner import Repair


@dataclass(frozen=True, slots=True)
class View:
    """Every asset with its cycle. `strays` are assets with an unfinished cycle in the wrong place:
    which one is right is the consistency_checker's to say."""

    situations: Sequence[Situation]
    strays: Collection[int]


@dataclass(frozen=True, slots=True)
class Beginning(Repair):
    asset: Asset


class AssetCaretaker:
    """dca.service.caretakers.runner.Caretaker."""

    name = "asset_caretaker"

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def look(self) -> View:
        def read(tx: Tx) -> View:
            strays = {cycle.asset_id for cycle in tx.stray_cycles() if not cycle.finished}
            return View(tx.situations(), strays)

        return self._store.read(read)

    def plan(self, view: View, now: datetime) -> list[Beginning]:
        return [
            Beginning("begin_cycle", asset.asset_symbol, "the asset is enabled and has no cycle", asset)
            for asset, cycle in ((one.asset, one.cycle) for one in view.situations)
            if asset.is_enabled and cycle is None and asset.id not in view.strays
        ]

    def mend(self, repair: Beginning) -> str | None:
        begun = cycles.begin(self._store, self._clock, repair.asset)
        return "it has a cycle, or is disabled, by now" if begun is None else None
