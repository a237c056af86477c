"""A cycle: one round of averaging down, from watching to sold."""

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from dca.domain.errors import IllegalTransition
from dca.domain.money import ZERO


class CycleStatus(StrEnum):
    WATCHING = "watching"
    BUYING = "buying"
    SELLING = "selling"
    TRAILING = "trailing"
    COOLDOWN = "cooldown"
    COMPLETE = "complete"
    ERROR = "error"


_C = CycleStatus
_WORKING = frozenset({_C.WATCHING, _C.BUYING, _C.SELLING, _C.TRAILING, _C.COMPLETE, _C.ERROR})
MOVES: dict[CycleStatus, frozenset[CycleStatus]] = {
    _C.COOLDOWN: frozenset({_C.COOLDOWN, _C.WATCHING, _C.ERROR}),
    _C.WATCHING: _WORKING,
    _C.BUYING: _WORKING,
    _C.SELLING: _WORKING,
    _C.TRAILING: _WORKING,
    _C.COMPLETE: frozenset(),
    _C.ERROR: frozenset(),
}
UNFINISHED = frozenset(_C) - {_C.COMPLETE, _C.ERROR}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """A row of `dca_cycles`. Quantity, average and step count are folded from its fills.

    `stop_price` is where the stop stands once it has moved up (None: where the rules put it), and
    `stop_since` is since when the bid is at or below the stop. `previous_completed_at` is when the
    cycle before this one ended; it is read with the row and is not a column.
    """

    id: int
    asset_id: int
    status: CycleStatus
    quantity: Decimal = ZERO
    average_purchase_price: Decimal = ZERO
    safety_orders: int = 0
    latest_order_id: str | None = None
    latest_order_created_at: datetime | None = None
    last_order_fill_price: Decimal | None = None
    highest_trailing_price: Decimal | None = None
    completed_at: datetime | None = None
    sell_price: Decimal | None = None
    stop_price: Decimal | None = None
    stop_since: datetime | None = None
    created_at: datetime
    updated_at: datetime
    version: int = 1
    previous_completed_at: datetime | None = None

    @property
    def finished(self) -> bool:
        return self.status not in UNFINISHED

    @property
    def owned(self) -> Decimal:
        """The coins that are there. Those of a cycle in error are gone; its quantity says what was
        lost."""
        return ZERO if self.status is CycleStatus.ERROR else self.quantity


def without_stop(cycle: Cycle) -> Cycle:
    """`cycle` with its stop where the rules put it: another average price makes another stop."""
    return replace(cycle, stop_price=None, stop_since=None)


def check_move(cycle: Cycle, to: CycleStatus) -> None:
    """Raises IllegalTransition unless MOVES lets `cycle` go to `to`."""
    if to not in MOVES[cycle.status]:
        raise IllegalTransition(f"cycle {cycle.id}: {cycle.status} -> {to} is not a move")
