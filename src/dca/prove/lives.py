"""A campaign of seeded lives: what was tried, how often, what held, and whether that proves anything."""

import gc
import logging
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from dca.adapters.clock import SystemClock
from dca.adapters.db import migrate
from dca.prove.fates import CHANCES
from dca.prove.world import Life, World

INSTALL = "0a1b2c3d"
MEMORY = Path("/dev/shm")  # noqa: S108
REGRESSIONS: tuple[int, ...] = (
    *(425, 453, 476, 1000, 2005, 3158),
    *(9, 249, 2011, 2780, 3321, 4210, 4923, 6050, 7834),
)
"""Every seed that ever failed; they are lived first. A change of what a life draws makes other lives of
them, so each mistake that was found has a test of its own as well."""
ENOUGH = 40
"""Of fewer lives nobody can demand that they reach everything."""

FAULT_SHARE = 0.05
REACHED: dict[str, tuple[float, str]] = {
    "fill_before_answer": (0.30, "an order filled before its request was answered"),
    "second_request_refused": (0.02, "the venue refused a key that it had, and the order was adopted"),
    "sent_again": (0.05, "a lost order was sent again under its own key"),
    "in_flight_30_s_then_found": (0.05, "an order was in the dark for 30 s, and then found"),
    "arrived_after_30_s": (0.05, "a request arrived 30 s after its sender gave up"),
    "looked_too_early": (0.10, "the venue did not show an order yet that it had"),
    "lost_and_never_seen": (0.05, "an order was given up, and the venue never had it"),
    "cancel_lost_to_fill": (0.02, "a fill won against a cancel that was accepted"),
    "partial_then_cancel": (0.05, "an order filled in part and was canceled"),
    "fill_found_by_catching_up": (0.30, "catching up found a fill that the stream had lost"),
    "kept_out_by_the_lease": (0.10, "a second streamer was kept out by the lease"),
    "cron_overlapped": (0.10, "two passes of a caretaker met"),
    "beaten_by_a_version": (0.01, "a caretaker was beaten by somebody else's change"),
    "halted_and_released": (0.10, "trading was halted and released"),
    "streamer_started": (0.20, "the watchdog started a streamer again"),
    "circuit_opened_and_closed": (0.05, "a circuit opened, and closed again"),
    "denied_by_the_budget": (0.05, "a request found no place in the budget"),
    "stop_loss_sold": (0.10, "a stop loss sold"),
    "replacement_finished": (0.05, "a replacement came to its end"),
    "replacement_blocked": (0.02, "a replacement was blocked"),
    "reservation_denied": (0.03, "money that was reserved, or missing, kept an order back"),
}
"""What must have been reached, in at least this share of all lives; or the campaign proves nothing."""


@dataclass
class Tally:
    """What a campaign came to."""

    seeds: list[int] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)
    lives_with: Counter[str] = field(default_factory=Counter)
    violations: dict[int, list[str]] = field(default_factory=dict)
    digests: dict[int, str] = field(default_factory=dict)
    hours: float = 0.0
    boundaries: int = 0
    fills: int = 0
    cycles: int = 0
    took_s: float = 0.0

    def add(self, life: Life) -> None:
        self.seeds.append(life.seed)
        self.happened += life.happened
        self.lives_with.update(name for name, times in life.happened.items() if times)
        self.digests[life.seed] = life.digest
        if life.violations:
            self.violations[life.seed] = life.violations
        self.hours += life.hours
        self.boundaries += life.boundaries
        self.fills += life.fills
        self.cycles += life.cycles

    @property
    def digest(self) -> str:
        """The same for two campaigns of the same seeds."""
        lines = (f"{seed} {self.digests[seed]}\n" for seed in sorted(self.digests))
        return blake2b("".join(lines).encode(), digest_size=8).hexdigest()

    def missed(self) -> list[str]:
        """What should have been reached and was not: then nothing is proven."""
        if len(self.seeds) < ENOUGH:
            return []
        wanted = {**dict.fromkeys(CHANCES, FAULT_SHARE), **{name: one[0] for name, one in REACHED.items()}}
        return [
            f"{name}: in {self.lives_with[name]} of {len(self.seeds)} lives, wanted {share:.0%}"
            for name, share in wanted.items()
            if self.lives_with[name] < int(share * len(self.seeds))
        ]

    @property
    def holds(self) -> bool:
        return not self.violations and not self.missed()

    def fields(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "lives": len(self.seeds),
            "first": min(self.seeds, default=None),
            "last": max(self.seeds, default=None),
            "virtual_hours": round(self.hours, 1),
            "boundaries": self.boundaries,
            "fills": self.fills,
            "cycles": self.cycles,
            "took_s": round(self.took_s, 1),
            "digest": self.digest,
            "violations": {str(seed): found for seed, found in self.violations.items()},
            "missed": self.missed(),
            "happened": dict(sorted(self.happened.items())),
            "lives_with": dict(sorted(self.lives_with.items())),
        }


@contextmanager
def nursery() -> Iterator[Path]:
    """A folder, in memory where there is one, with a template of the database."""
    place = MEMORY if MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="dca-lives-", dir=place) as folder:
        template = Path(folder) / "template.sqlite3"
        migrate.upgrade(f"sqlite:///{template}")
        with closing(sqlite3.connect(template)) as connection:
            # The keys of orders begin with it, so it must not be drawn by chance.
            connection.execute("UPDATE dca_install SET nonce = ?", (INSTALL,))
            connection.commit()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        yield template


def live(
    seed: int, template: Path, *, chances: Mapping[str, float] | None = None, trace: bool = False
) -> Life:
    """One life on a database of its own."""
    with tempfile.TemporaryDirectory(dir=template.parent) as folder, undisturbed():
        database = Path(folder) / "life.sqlite3"
        shutil.copy(template, database)
        return World(seed, database, chances=chances, trace=trace).live()


@contextmanager
def undisturbed() -> Iterator[None]:
    """A life is short: what it leaves is collected once, at its end, and not on the way."""
    was = gc.isenabled()
    gc.disable()
    gc.freeze()
    try:
        yield
    finally:
        if was:
            gc.enable()
        gc.collect()


@contextmanager
def silence() -> Iterator[None]:
    """What the program logs is formatted nowhere: lives are read in the database."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _lived(work: tuple[int, Path]) -> Life:
    with silence():
        return live(*work)


def campaign(seeds: Iterable[int], *, jobs: int = 1, told: Callable[[Tally], None] = lambda _: None) -> Tally:
    """Every seed was lived; `told` is called after each."""
    tally, begun = Tally(), SystemClock().monotonic()
    with nursery() as template:
        for life in _lives([(seed, template) for seed in dict.fromkeys(seeds)], jobs):
            tally.add(life)
            tally.took_s = SystemClock().monotonic() - begun
            told(tally)
    return tally


def _lives(work: Sequence[tuple[int, Path]], jobs: int) -> Iterator[Life]:
    if jobs <= 1:
        yield from map(_lived, work)
        return
    with get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(_lived, work, chunksize=4)


def window(first: int, count: int) -> Iterable[int]:
    """The seeds of a campaign, those that failed before at its head."""
    return chain(REGRESSIONS, range(first, first + count))
