"""What the streamer holds in memory of its assets, and how it sees that the database knows better."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from dca.domain.market import Quote
from dca.ports import Situation, Tx
from dca.service.brief import Brief, read_brief
from dca.service.verdicts import Verdict
from dca.strategy.dca import Wait

Revision = tuple[int, int, int]
"""Version of the asset, id and version of its unfinished cycle (0, 0 without one)."""


@dataclass(slots=True)
class Watched:
    """What the streamer holds in memory of one asset, so that a quiet quote costs no SQL."""

    brief: Brief
    reason: str | Wait = "no quote yet"
    verdict: Verdict | None = None
    hold_until: datetime | None = None
    only_buys: bool = False
    jobs: int = 0
    tried: tuple[Quote, Brief] | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def asset_id(self) -> int:
        return self.brief.situation.asset.id

    @property
    def symbol(self) -> str:
        return self.brief.situation.asset.asset_symbol

    @property
    def explained(self) -> str:
        return self.reason.reason if isinstance(self.reason, Wait) else self.reason


def is_traded(brief: Brief) -> bool:
    """Whether there is anything to do for the asset: a disabled one is still sold by its rules."""
    cycle = brief.cycle
    return brief.situation.asset.is_enabled or (cycle is not None and (cycle.quantity > 0 or brief.busy))


def revision_of(brief: Brief) -> Revision:
    cycle = brief.cycle
    return (brief.situation.asset.version, cycle.id if cycle else 0, cycle.version if cycle else 0)


def changed(
    tx: Tx, known: Mapping[int, Brief], *, by_hand: bool = False
) -> tuple[dict[int, Revision], dict[int, Brief]]:
    """The revision of every asset, and a new brief for each that is not as `known`.

    `by_hand`: also where only the rows differ, because somebody edited them and left the version.
    """
    revision = tx.revision()
    other = {
        asset_id
        for asset_id, seen in revision.items()
        if asset_id not in known or revision_of(known[asset_id]) != seen
    }
    if by_hand:
        other |= {one.asset.id for one in tx.situations() if _differs(one, known.get(one.asset.id))}
    briefs = {asset_id: read_brief(tx, asset_id) for asset_id in other}
    return revision, {asset_id: brief for asset_id, brief in briefs.items() if brief is not None}


def _differs(situation: Situation, brief: Brief | None) -> bool:
    return brief is None or brief.situation != situation
