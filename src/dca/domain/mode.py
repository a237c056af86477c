"""Modes: how far trading is restricted. The strictest of all that are in force counts."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

OPERATOR = "operator"
"""The source of what a person restricted; a person lifts it."""


class Mode(StrEnum):
    """NORMAL: everything. REDUCE_ONLY: nothing is bought, what is held is sold by its rules.
    HALTED: no order of any kind is sent."""

    NORMAL = "normal"
    REDUCE_ONLY = "reduce_only"
    HALTED = "halted"


_SEVERITY = {mode: number for number, mode in enumerate(Mode)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Restriction:
    """A row of `dca_modes`: `source` wants no looser mode than `mode`, because of `reason`.

    It ends by itself at `until`; None means that its source or an operator must lift it.
    """

    source: str
    mode: Mode
    reason: str
    since: datetime
    until: datetime | None = None

    def holds(self, at: datetime) -> bool:
        return self.until is None or at < self.until


def in_force(restrictions: Iterable[Restriction], at: datetime) -> list[Restriction]:
    """Those that hold at that instant, the strictest first, then the oldest."""
    holding = [one for one in restrictions if one.holds(at)]
    return sorted(holding, key=lambda one: (-_SEVERITY[one.mode], one.since, one.source))


def mode_of(restrictions: Iterable[Restriction], at: datetime) -> Mode:
    """The strictest mode that is in force."""
    return next((one.mode for one in in_force(restrictions, at)), Mode.NORMAL)


def reasons(restrictions: Iterable[Restriction], at: datetime) -> dict[Mode, str]:
    """Why each mode that is in force is, in the words of its oldest source."""
    found: dict[Mode, str] = {}
    for one in in_force(restrictions, at):
        by = "" if one.source == OPERATOR else f" ({one.source})"
        found.setdefault(one.mode, f"{one.reason}{by}")
    return found


def stricter(one: Mode, other: Mode) -> bool:
    """Whether `one` allows less than `other`."""
    return _SEVERITY[one] > _SEVERITY[other]
