"""Deaths on purpose: a life without misfortune, lived again and again, and ended once at each of its
boundaries; and twice, where the second death meets the recovery from the first."""

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from dca.domain.errors import DcaError
from dca.prove.lives import nursery, silence, undisturbed
from dca.prove.world import World

LIFE_S = 900.0
QUIET_S = 600.0
"""Long enough for whole cycles, and for every caretaker to come by after the last death."""
RECOVERY = 50
"""So many boundaries after a death the second one may come."""
EVERY = 25
"""Of the first deaths, every so many-th is followed by second ones."""


@dataclass(frozen=True, slots=True)
class Ended:
    """One life with deaths at the boundaries `at`: whom and where they met, and what did not hold."""

    at: tuple[int, ...]
    met: tuple[str, ...]
    violations: tuple[str, ...]

    @property
    def delivered(self) -> bool:
        return len(self.met) == len(self.at)


@dataclass
class Deaths:
    """What came of a life's deaths. `points` are the boundaries of that life."""

    seed: int
    points: int
    ended: list[Ended] = field(default_factory=list)

    @property
    def delivered(self) -> int:
        return sum(one.delivered for one in self.ended)

    @property
    def broken(self) -> list[Ended]:
        return [one for one in self.ended if one.violations]

    @property
    def holds(self) -> bool:
        """Whether every death was delivered and none left anything that does not hold."""
        return self.points > 0 and not self.broken and self.delivered == len(self.ended)

    def fields(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "seed": self.seed,
            "points": self.points,
            "lives": len(self.ended),
            "delivered": self.delivered,
            "met": dict(sorted(self.met().items())),
            "broken": [{"at": one.at, "met": one.met, "violations": one.violations} for one in self.broken],
        }

    def met(self) -> Counter[str]:
        """How often a death met each process at each kind of boundary."""
        return Counter(name for one in self.ended for name in one.met)


def boundaries(seed: int, template: Path) -> int:
    """How many boundaries the life of `seed` has, when nobody dies."""
    world = _lived(seed, template, ())
    if world.oracle.violations:
        raise DcaError(f"seed {seed} breaks an invariant without any death: {world.oracle.violations[0]}")
    return world.at_calm


def _lived(seed: int, template: Path, kill_at: Sequence[int]) -> World:
    with silence(), undisturbed(), tempfile.TemporaryDirectory(dir=template.parent) as folder:
        database = Path(folder) / "life.sqlite3"
        shutil.copy(template, database)
        world = World(seed, database, chances={}, life_s=LIFE_S, quiet_s=QUIET_S, kill_at=tuple(kill_at))
        world.live()
        return world


def _die(seed: int, template: Path, kill_at: tuple[int, ...]) -> Ended:
    world = _lived(seed, template, kill_at)
    return Ended(kill_at, tuple(world.killed), tuple(world.oracle.violations))


def sweep(
    seed: int,
    *,
    pairs: bool = False,
    jobs: int = 1,
    most: int | None = None,
    told: Callable[[Deaths], None] = lambda _: None,
) -> Deaths:
    """The life of `seed` was ended at every boundary, or with `pairs` at every chosen pair of them.

    `most`: no more than so many lives, evenly spread. `told` is called after each.
    """
    with nursery() as template:
        found = Deaths(seed, boundaries(seed, template))
        chosen = [(point,) for point in range(1, found.points + 1)] if not pairs else _pairs(found.points)
        if most is not None and len(chosen) > most:
            chosen = [chosen[number * len(chosen) // most] for number in range(most)]
        for ended in _all(partial(_die, seed, template), chosen, jobs):
            found.ended.append(ended)
            told(found)
    return found


def _pairs(points: int) -> list[tuple[int, ...]]:
    firsts = range(1, points + 1, EVERY)
    return [(first, first + more) for first in firsts for more in range(1, RECOVERY + 1)]


def _all(
    die: Callable[[tuple[int, ...]], Ended], chosen: Sequence[tuple[int, ...]], jobs: int
) -> Iterator[Ended]:
    if jobs <= 1:
        yield from map(die, chosen)
        return
    with get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(die, chosen, chunksize=4)
