"""`dca prove`: everything that shows whether the program can be trusted, and a page that says so."""

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import dca
from dca.apps.sweep import swept
from dca.prove import deaths
from dca.prove.crash import Line
from dca.prove.hunt import Caught, hunt_all
from dca.prove.lives import REACHED, Tally, campaign, window

GATE = 20
"""Lives that are lived twice, in processes that hash differently."""
DEATH_SEEDS = (0, 1, 2, 3, 4)
"""Lives that end once at each of their boundaries; the first of them also at pairs."""
THREE = 3
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of proof: whether it holds, and the lines that say what was tried."""

    title: str
    holds: bool
    lines: list[str]


def prove(
    *, seeds: int, first: int, jobs: int, quick: bool, databases: Sequence[str] | None, say: Say
) -> list[Part]:
    """Every part was tried, one after the other; with `quick` a sample of each."""
    parts: list[Part] = []
    wanted: list[Callable[[], Part]] = [
        _gate,
        partial(_lives, seeds, first, jobs),
        partial(_deaths, jobs, quick),
        partial(_mutants, jobs, quick),
        partial(_sweep, jobs, quick, databases),
    ]
    for part in wanted:
        parts.append(part())
        say(f"{parts[-1].title}: {'holds' if parts[-1].holds else 'DOES NOT HOLD'}")
        for line in parts[-1].lines:
            say(f"  {line}")
    return parts


def page(parts: Iterable[Part], at: str) -> str:
    """The proof as Markdown."""
    head = [
        "# Proof",
        "",
        f"Made by `dca prove` on {at}, Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"version {dca.__version__}. How to read it and how to repeat it: [prove.md](prove.md).",
    ]
    for part in parts:
        head += ["", f"## {part.title}: {'holds' if part.holds else 'DOES NOT HOLD'}", ""]
        head += part.lines
    return "\n".join(head) + "\n"


def _gate() -> Part:
    """The same seeds in two processes that order sets differently give the same digest."""
    digests = [_digest(seed) for seed in ("1", "2")]
    same = None not in digests and digests[0] == digests[1]
    line = f"{GATE} lives, digests {' and '.join(str(one) for one in digests)}"
    return Part("Determinism", same, [line])


def _digest(hash_seed: str) -> str | None:
    """None when the lives did not come to an end."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "lives.json"
        command = [sys.executable, "-m", "dca.apps.cli", "prove", "lives", "--seeds", str(GATE)]
        subprocess.run(  # noqa: S603
            [*command, "--json", str(file)],
            env={"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=False,
        )
        found: str | None = json.loads(file.read_text())["digest"] if file.exists() else None
    return found


def _lives(seeds: int, first: int, jobs: int) -> Part:
    tally = campaign(window(first, seeds), jobs=jobs)
    return Part("Seeded lives", tally.holds, lives_lines(tally, jobs))


def lives_lines(tally: Tally, jobs: int) -> list[str]:
    """What the campaign tried, reached and found."""
    lives = len(tally.seeds)
    pace = lives / tally.took_s * 60 / max(jobs, 1) if tally.took_s else 0
    bound = f" (so fewer than {THREE / lives:.2%} of such lives, at 95 %)" if not tally.violations else ""
    found = [
        f"{lives} lives from seed {min(tally.seeds)}, {tally.hours:.0f} virtual hours, {tally.boundaries} "
        f"boundaries, {tally.fills} fills, {tally.cycles} cycles ({tally.cycles / tally.hours:.1f} an hour); "
        f"{pace:.0f} lives a minute per process; digest {tally.digest}",
        "",
        f"{len(tally.violations)} lives broke an invariant{bound}.",
        "",
    ]
    found += [f"- seed {seed}: {broken[0]}" for seed, broken in sorted(tally.violations.items())]
    found += [f"- not reached: {one}" for one in tally.missed()]
    found += ["", "| times | in lives | what was reached |", "|---:|---:|---|"]
    found += [
        f"| {tally.happened[name]} | {tally.lives_with[name]} | {words} |"
        for name, (_, words) in REACHED.items()
    ]
    return found


def _deaths(jobs: int, quick: bool) -> Part:
    most = 40 if quick else None
    seeds = DEATH_SEEDS[:1] if quick else DEATH_SEEDS
    found = [deaths.sweep(seed, jobs=jobs, most=most) for seed in seeds]
    pairs = deaths.sweep(seeds[0], pairs=True, jobs=jobs, most=most)
    lines = ["| life | boundaries | lives ended | delivered | not recovered |", "|---|---:|---:|---:|---:|"]
    for name, one in [*((f"seed {one.seed}", one) for one in found), (f"seed {pairs.seed}, twice", pairs)]:
        lines.append(f"| {name} | {one.points} | {len(one.ended)} | {one.delivered} | {len(one.broken)} |")
    for one in [*found, pairs]:
        lines += [f"- {ended.at} {', '.join(ended.met)}: {ended.violations[0]}" for ended in one.broken]
    # A second death that comes after the life's own end of that path meets nobody.
    holds = all(one.holds for one in found) and not pairs.broken
    return Part("Deaths at every boundary, simulated", holds, lines)


def _mutants(jobs: int, quick: bool) -> Part:
    found = hunt_all(seeds=10 if quick else 100, jobs=jobs)
    return Part("Mutants", all(one.seed is not None for one in found), mutant_lines(found))


def mutant_lines(found: Sequence[Caught]) -> list[str]:
    """The table of mistakes and catches."""
    caught = [one for one in found if one.seed is not None]
    lines = [f"{len(caught)} of {len(found)} caught.", "", "| mistake | seed | caught by |", "|---|---:|---|"]
    for one in found:
        by = f"{one.seed} | {one.invariant}" if one.seed is not None else f"survived {one.lives} lives | -"
        lines.append(f"| {one.origin} (`{one.name}`) | {by} |")
    return lines


def _sweep(jobs: int, quick: bool, databases: Sequence[str] | None) -> Part:
    lines = swept(databases, ["base"] if quick else None, jobs + 1)
    return Part("Real processes killed", all(line.holds for line in lines), sweep_lines(lines))


def sweep_lines(lines: Sequence[Line]) -> list[str]:
    """A row for each purpose and database."""
    rows = [
        f"| {line.script.name} | {line.script.victim} | {line.database} | {len(line.results)} "
        f"| {line.delivered} | {line.recovered} | {line.slowest_s:.1f} s |"
        for line in lines
    ]
    complaints = [f"- {line.database} {line.script.name}: {one}" for line in lines for one in line.complaints]
    head = ["| purpose | killed | database | boundaries | delivered | mended | slowest |"]
    return [*head, "|---|---|---|---:|---:|---:|---:|", *rows, *complaints]
