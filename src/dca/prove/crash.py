"""The crash sweep: a process is killed at every boundary it crosses, and the next ones must mend it."""

import queue
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dca.apps.reckoning import reckon, unsettled
from dca.domain.errors import DcaError, Unmended
from dca.prove.crash_bench import CROSSED, Begin, Bench, Life
from dca.prove.crash_forks import COMMAND, STREAMER, Child, Forks
from dca.prove.crash_scripts import PATIENCE_S, Script, measured

T = TypeVar("T")

WITHIN_S = 30.0
"""Seconds within which everything must be well again."""
LINGER_S = 3.0
"""So long a victim that has done its part may take to cross what only time brings."""
REST_S = 0.7
"""What only time brings comes in a dry pass too."""
AGE_S = 1.1
"""By then what was prepared is older than any grace."""
TRIES = 15
"""How often a kill that did not happen is tried again: ordinals shift a little between runs."""
GATHERED = frozenset({"verdicts.write"})
"""Commits of the half-second poll: two verdicts come in one of them or in two, as time has it."""
CARETAKERS = ("order_manager", "consistency_checker", "cooldown_manager", "asset_caretaker")
KILLED = -9


@dataclass(frozen=True, slots=True)
class Point:
    """Where a victim is killed: the `ordinal`th time it crosses `boundary`."""

    script: Script
    boundary: str
    ordinal: int

    @property
    def text(self) -> str:
        return f"{self.script.name} {self.boundary}:{self.ordinal}"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a point. `wrong` is empty when all was well after `took_s` seconds."""

    point: Point
    delivered: bool
    wrong: str = ""
    took_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Line:
    """What one script came to on one database. `complaints` is empty when all was as it must be.

    `spared` are the boundaries that it crosses and was not killed at, because nobody wanted it.
    """

    script: Script
    database: str
    results: tuple[Result, ...] = ()
    complaints: tuple[str, ...] = ()
    spared: tuple[Point, ...] = ()

    @property
    def delivered(self) -> int:
        return sum(one.delivered for one in self.results)

    @property
    def recovered(self) -> int:
        return sum(one.delivered and not one.wrong for one in self.results)

    @property
    def slowest_s(self) -> float:
        return max((one.took_s for one in self.results), default=0.0)

    @property
    def holds(self) -> bool:
        tried = len(self.results)
        return not self.complaints and tried == self.recovered and tried + len(self.spared) > 0

    def fields(self) -> dict[str, Any]:
        """The line as JSON-ready values, with each boundary."""
        return {
            "purpose": self.script.name,
            "words": self.script.words,
            "victim": self.script.victim,
            "database": self.database,
            "boundaries": len(self.results),
            "spared": len(self.spared),
            "delivered": self.delivered,
            "recovered": self.recovered,
            "slowest_s": round(self.slowest_s, 2),
            "complaints": list(self.complaints),
            "points": [
                {
                    "boundary": one.point.boundary,
                    "ordinal": one.point.ordinal,
                    "delivered": one.delivered,
                    "wrong": one.wrong,
                    "recovered_s": round(one.took_s, 2),
                }
                for one in self.results
            ],
        }


@dataclass(frozen=True, slots=True)
class Course:
    """A script whose begin was prepared and whose boundaries are known; no begin where it failed."""

    script: Script
    begin: Begin | None
    points: tuple[Point, ...]
    complaints: tuple[str, ...]


# One life


def _well(life: Life, script: Script) -> bool:
    return script.reached(life) and measured(life) and not unsettled(life)


def _run_to_end(life: Life, script: Script, at: str, rest_s: float) -> Child:
    """The victim ran until it died or ended; a streamer was told to stop after its part was done."""
    script.arrange(life)
    settings = {**script.settings, "CRASH_AT": at, "CRASH_LOG": CROSSED}
    victim = life.start(script.victim, settings, *script.arguments)
    drive = lambda: script.drive(life)  # noqa: E731
    if script.victim == STREAMER:
        life.until(f"{script.name} is done", lambda: victim.ended() or _well(life, script), drive, PATIENCE_S)
        limit = life.clock.monotonic() + rest_s
        life.until(
            "it has rested", lambda: victim.ended() or life.clock.monotonic() > limit, drive, PATIENCE_S
        )
        victim.stop()
    life.until(f"{script.victim} has ended", victim.ended, drive, PATIENCE_S)
    return victim


def course(bench: Bench, script: Script, keep: Path | None = None) -> Course:
    """The script was prepared, and run without a death. Raises Unmended when it did not get there.

    It is run twice, because what time brings may cross a boundary once more or less: those points
    count that are there each time.
    """
    with bench.life() as life, _kept(life, keep, script.name):
        script.prepare(life)
        threading.Event().wait(AGE_S)
        begin = life.begin()
    crossed = _crossed(bench, script, begin, keep) & _crossed(bench, script, begin, keep)
    points = tuple(
        Point(script, name, ordinal) for name, count in crossed.items() for ordinal in range(1, count + 1)
    )
    missing = sorted(script.crosses - {name.partition("_")[2] for name in crossed})
    complaints = (f"{script.name} does not cross {', '.join(missing)}",) if missing else ()
    return Course(script, begin, points, complaints)


def _crossed(bench: Bench, script: Script, begin: Begin, keep: Path | None) -> Counter[str]:
    """How often the victim crosses each boundary when it is left alive."""
    with bench.life(begin) as life, _kept(life, keep, script.name):
        victim = _run_to_end(life, script, "", REST_S)
        if victim.code != 0:
            raise Unmended(f"{script.name}: without a death {script.victim} ended with {victim.code}")
        _mend(life, script)
        return Counter(life.crossed(1))


@contextmanager
def _kept(life: Life, keep: Path | None, name: str) -> Iterator[None]:
    """What an error leaves behind can be looked at afterwards."""
    try:
        yield
    except DcaError:
        if keep is not None:
            shutil.copytree(life.folder, keep / name.replace(" ", "_"), dirs_exist_ok=True)
        raise


def tried(bench: Bench, begin: Begin | None, point: Point, keep: Path | None = None) -> Result:
    """The victim was killed at the point, and what came of it is known."""
    with bench.life(begin) as life:
        wrong, delivered, took_s = "", False, 0.0
        try:
            with _kept(life, keep, point.text):
                victim = _run_to_end(life, point.script, f"{point.boundary}:{point.ordinal}", LINGER_S)
                delivered = victim.code == KILLED and _died_at(life, point)
                took_s = _mend(life, point.script) if delivered else 0.0
        except DcaError as error:
            wrong = str(error)
        return Result(point, delivered, wrong, took_s)


def _died_at(life: Life, point: Point) -> bool:
    crossed = life.crossed(1)
    return crossed[-1:] == [point.boundary] and crossed.count(point.boundary) == point.ordinal


def _mend(life: Life, script: Script) -> float:
    """The streamer runs again, each caretaker made a pass, and all is well; seconds until it was.

    Raises Unmended when it is not.
    """
    begun, well_after = life.clock.monotonic(), list[float]()

    def drive() -> None:
        script.drive(life)
        if not well_after and _well(life, script):
            well_after.append(life.clock.monotonic() - begun)

    life.start(STREAMER, script.settings)
    for name in dict.fromkeys((*CARETAKERS, script.victim)):
        if name in (STREAMER, COMMAND):
            continue
        caretaker = life.start(name, script.settings)
        life.until(f"{name} has ended", caretaker.ended, drive, PATIENCE_S)
        if caretaker.code not in (0, 75):
            raise Unmended(f"{name} ended with {caretaker.code}")
    life.until(f"{script.name} is done after a death", lambda: _well(life, script), drive, PATIENCE_S)
    drive()
    if well_after[0] > WITHIN_S:
        raise Unmended(f"well only after {well_after[0]:.0f} seconds")
    _judge(life, script)
    return well_after[0]


def _judge(life: Life, script: Script) -> None:
    """Raises Unmended when an invariant does not hold."""
    report = reckon(life)
    wrong = [one for one in report["violations"] if not one.startswith(tuple(script.forgives))]
    if wrong or (report["unexplained"] != "0.00" and not script.moves_coins):
        raise Unmended(f"{wrong}, unexplained {report['unexplained']}")


# All of them


@dataclass
class Sweep:
    """Lives on several benches at once, each with a database of its own of the same kind."""

    database: str
    benches: "queue.SimpleQueue[Bench]"
    pool: ThreadPoolExecutor
    keep: Path | None = None

    def on_a_bench(self, work: Callable[[Bench], T]) -> T:
        bench = self.benches.get()
        try:
            return work(bench)
        finally:
            self.benches.put(bench)

    def point(self, begin: Begin | None, point: Point) -> Result:
        """Tried until the kill was delivered; one that went wrong is not tried again."""
        for _ in range(TRIES):
            result = self.on_a_bench(lambda bench: tried(bench, begin, point, self.keep))
            if result.delivered or result.wrong:
                break
        return result

    def script(self, script: Script, wanted: Callable[[Point], bool] = lambda point: True) -> Line:
        """Every boundary of the script, or each one `wanted`, was tried."""
        return next(self.scripts([script], lambda points: [point for point in points if wanted(point)]))

    def scripts(
        self,
        scripts: Sequence[Script],
        chosen: Callable[[Sequence[Point]], Sequence[Point]] = lambda points: points,
        counted: Callable[[int, int], None] = lambda done, of: None,
    ) -> Iterator[Line]:
        """What each script came to in turn, at those boundaries of all of them that are `chosen`.

        `counted` hears after each boundary how many were tried, and of how many.
        """
        courses = list(self.pool.map(self._course, scripts))
        wanted = {point.text for point in chosen([point for one in courses for point in one.points])}
        work = [(one.begin, point) for one in courses for point in one.points if point.text in wanted]
        results = self.pool.map(lambda one: self.point(*one), work)
        done = 0
        for one in courses:
            found: list[Result] = []
            for _ in range(sum(point.text in wanted for point in one.points)):
                found.append(next(results))
                done += 1
                counted(done, len(work))
            yield self._line(one, tuple(found), wanted)

    def _course(self, script: Script) -> Course:
        try:
            return self.on_a_bench(lambda bench: course(bench, script, self.keep))
        except DcaError as error:
            return Course(script, None, (), (str(error),))

    def _line(self, found: Course, results: tuple[Result, ...], wanted: Collection[str]) -> Line:
        killed = {one.point.boundary for one in results if one.delivered}
        absent = [one for one in results if _came_together(one, killed)]
        results = tuple(one for one in results if one not in absent)
        wrong = [f"{one.point.text}: {one.wrong}" for one in results if one.wrong]
        missed = [
            f"{one.point.text}: never delivered" for one in results if not one.delivered and not one.wrong
        ]
        unmet = {one.point.text for one in absent}
        spared = tuple(one for one in found.points if one.text not in wanted or one.text in unmet)
        return Line(found.script, self.database, results, (*found.complaints, *wrong, *missed), spared)


def _came_together(one: Result, killed: Collection[str]) -> bool:
    """Whether a commit did not come that gathers what time brings, and an earlier one of it was killed."""
    effect = one.point.boundary.partition("_")[2]
    return not one.delivered and not one.wrong and effect in GATHERED and one.point.boundary in killed


@contextmanager
def sweeping(name: str, urls: Sequence[str], folder: Path, *, keep: Path | None = None) -> Iterator[Sweep]:
    """A sweep in `folder` on databases that it may empty, one for each life at a time."""
    with ExitStack() as stack:
        forks = stack.enter_context(Forks())
        pool = stack.enter_context(ThreadPoolExecutor(len(urls)))
        benches: queue.SimpleQueue[Bench] = queue.SimpleQueue()
        for number, url in enumerate(urls, 1):
            bench = Bench(folder / str(number), url, forks)
            stack.callback(bench.close)
            benches.put(bench)
        yield Sweep(name, benches, pool, keep)
