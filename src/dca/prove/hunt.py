"""The hunt: every mutant lives the same lives until the judge catches it."""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from types import FrameType
from typing import Any

from dca.prove.lives import live, nursery, silence
from dca.prove.mutants import MUTANTS, Mutant

LONGEST_S = 30.0
"""A life costs about a second of computing. One that costs so many hangs, however busy the machine is."""
SEEDS = 100


@dataclass(frozen=True, slots=True)
class Caught:
    """What came of a mutant: the first seed that showed it and the invariant it broke, None when none
    of its lives did. `lives` were lived."""

    name: str
    origin: str
    lives: int
    seed: int | None = None
    invariant: str | None = None
    what: str = ""

    def fields(self) -> dict[str, Any]:
        """JSON-ready."""
        return {name: getattr(self, name) for name in self.__slots__}


class Hangs(BaseException):
    """A life does not come to its end."""


def hunt(mutant: Mutant, template: Path, *, first: int = 0, seeds: int = SEEDS) -> Caught:
    """The mutant lived until it was caught, or every seed."""
    with silence(), mutant.installed():
        for number, seed in enumerate(range(first, first + seeds), 1):
            found = _violation(seed, template, mutant)
            if found is not None:
                invariant, _, what = found.partition(" ")
                return Caught(mutant.name, mutant.origin, number, seed, invariant.rstrip(":"), what)
    return Caught(mutant.name, mutant.origin, seeds)


def _violation(seed: int, template: Path, mutant: Mutant) -> str | None:
    try:
        with _within(LONGEST_S):
            violations = live(seed, template, chances=mutant.chances).violations
    except Hangs:
        return f"HANG the life was not over after {LONGEST_S:g} s of computing"
    return violations[0] if violations else None


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Raises Hangs inside when that costs more computing; for the main thread of a process."""

    def too_long(number: int, frame: FrameType | None) -> None:
        raise Hangs

    before = signal.signal(signal.SIGVTALRM, too_long)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _hunted(work: tuple[str, Path, int, int]) -> Caught:
    name, template, first, seeds = work
    mutant = next(one for one in MUTANTS if one.name == name)
    return hunt(mutant, template, first=first, seeds=seeds)


def hunt_all(
    names: Sequence[str] = (),
    *,
    first: int = 0,
    seeds: int = SEEDS,
    jobs: int = 1,
    told: Callable[[Caught], None] = lambda _: None,
) -> list[Caught]:
    """Every mutant, or those named, in their order; `told` is called after each.

    Each has a process of its own, so that nothing of one is left for the next.
    """
    wanted = [one.name for one in MUTANTS if not names or one.name in names]
    found: dict[str, Caught] = {}
    with nursery() as template:
        work = [(name, template, first, seeds) for name in wanted]
        with get_context("spawn").Pool(max(1, jobs), maxtasksperchild=1) as pool:
            for caught in pool.imap_unordered(_hunted, work):
                found[caught.name] = caught
                told(caught)
    return [found[name] for name in wanted]
