"""Cancel and replace: one operation in named stages, so that it can die at any of them."""

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from dca.domain.errors import IllegalTransition


class Stage(StrEnum):
    """Where a replacement stands. BLOCKED: the old order ended in a way that leaves nothing to submit,
    or what to submit was denied; the operation is over."""

    CANCEL_SENT = "cancel_sent"
    CANCEL_CONFIRMED = "cancel_confirmed"
    SUBMIT_SENT = "submit_sent"
    SUBMIT_CONFIRMED = "submit_confirmed"
    BLOCKED = "blocked"


_S = Stage
MOVES: dict[Stage, frozenset[Stage]] = {
    _S.CANCEL_SENT: frozenset({_S.CANCEL_CONFIRMED, _S.BLOCKED}),
    _S.CANCEL_CONFIRMED: frozenset({_S.SUBMIT_SENT, _S.BLOCKED}),
    _S.SUBMIT_SENT: frozenset({_S.SUBMIT_CONFIRMED, _S.CANCEL_CONFIRMED, _S.BLOCKED}),
    _S.SUBMIT_CONFIRMED: frozenset(),
    _S.BLOCKED: frozenset(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """A row of `dca_replacements`: the order `old_key` makes way for `new_key` (None: not made yet).

    `limit` is the price at which a person wants a buy sent anew; None: at the market's.
    """

    old_key: str
    cycle_id: int
    stage: Stage
    reason: str
    created_at: datetime
    updated_at: datetime
    new_key: str | None = None
    limit: Decimal | None = None
    version: int = 1

    @property
    def over(self) -> bool:
        return not MOVES[self.stage]


def advance(replacement: Replacement, to: Stage, *, at: datetime, new_key: str | None = None) -> Replacement:
    """The replacement at stage `to`. Raises IllegalTransition when MOVES has no such edge."""
    if to not in MOVES[replacement.stage]:
        raise IllegalTransition(f"replacement of {replacement.old_key}: {replacement.stage} -> {to}")
    return replace(replacement, stage=to, updated_at=at, new_key=new_key or replacement.new_key)
