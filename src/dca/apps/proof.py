"""`dca prove`: everything that shows whether the program can be trusted, and a page that says so."""

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path

import dca
from dca.adapters.clock import SystemClock
from dca.apps.sweep import SQLITE, Choice, Swept, a_dozen, every, once_each, swept
from dca.prove import deaths
from dca.prove.crash import Line
from dca.prove.fates import CHANCES
from dca.prove.hunt import Caught, hunt_all
from dca.prove.lives import REACHED, Tally, campaign, window
from dca.prove.mutants import MUTANTS

THREE = 3
QUICKLY_CAUGHT = (
    "journal_after_sending",
    "sends_another_body",
    "two_live_orders",
    "fills_counted_twice",
    "coin_fee_ignored",
    "sales_not_subtracted",
    "nothing_is_caught_up",
    "steps_cost_double",
    "chases_the_market",
    "no_lease",
)
"""Mistakes that show in the first life or two, whatever it draws: each gets something wrong that every
life does."""
GATE, LIVES, DEATHS, MISTAKES, SWEEP = (
    "Determinism",
    "Seeded lives",
    "Deaths, simulated",
    "Mutants",
    "Real processes killed",
)
Show = Callable[[str, int, int], None]
"""Hears which part runs, how much of it is done, and of how much; 0 where nobody knows."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much of each part is tried."""

    words: str
    twice: int
    """Lives that are lived twice, in processes that hash differently."""
    lives: int
    ended: tuple[int, ...]
    """Lives that end once at each of their boundaries, or at `at_most` of them; the first also at `pairs`."""
    at_most: int | None
    pairs: int | None
    mutants: tuple[str, ...]
    """Only these mistakes; all where there are none."""
    each: int
    """So many lives a mistake may survive."""
    share: float
    """So many of the mistakes must be caught within that."""
    points: Choice
    purposes: tuple[str, ...] | None = None
    databases: tuple[str, ...] | None = None


QUICK = Size(
    "This is a sample of every part: it shows that the proof works here and that nothing is badly wrong. "
    "`dca prove` takes about ten minutes and shows much more.",
    twice=1,
    lives=24,
    ended=(0,),
    at_most=16,
    pairs=8,
    mutants=QUICKLY_CAUGHT,
    each=6,
    share=1.0,
    points=a_dozen,
    purposes=("base",),
    databases=(SQLITE,),
)
USUAL = Size(
    "Every part was tried, but not every combination: processes were killed once at each boundary, in the "
    "first purpose that crosses it, and each mistake had few lives to show itself. `dca prove --full` tries "
    "everything.",
    twice=20,
    lives=200,
    ended=(0,),
    at_most=None,
    pairs=100,
    mutants=(),
    each=30,
    share=0.8,
    points=once_each,
)
FULL = Size(
    "Everything was tried: each boundary in every purpose, on each database that is named here.",
    twice=20,
    lives=200,
    ended=(0, 1, 2, 3, 4),
    at_most=None,
    pairs=None,
    mutants=(),
    each=100,
    share=1.0,
    points=every,
)


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody asked for. Without databases: those of the size."""

    size: Size
    seeds: int
    first: int = 0
    jobs: int = 1
    databases: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of proof: what was tried and how often, what came of it, and what did not hold."""

    title: str
    holds: bool
    tried: str
    times: int
    result: str
    wrong: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    took_s: float = 0.0


@dataclass
class Proof:
    """What came of all parts."""

    size: Size
    parts: list[Part] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    took_s: float = 0.0

    @property
    def holds(self) -> bool:
        return bool(self.parts) and all(part.holds for part in self.parts)


def prove(
    wish: Wish, *, show: Show = lambda part, done, of: None, told: Callable[[Part], None] = lambda part: None
) -> Proof:
    """Every part was tried, one after the other; `told` hears of each as soon as it is through."""
    clock, proof = SystemClock(), Proof(wish.size)
    begun = clock.monotonic()
    for part in _parts(wish, show, proof):
        now = clock.monotonic() - begun
        proof.parts.append(replace(part, took_s=now - proof.took_s))
        proof.took_s = now
        told(proof.parts[-1])
    return proof


def _parts(wish: Wish, show: Show, proof: Proof) -> Iterator[Part]:
    yield _gate(wish, show)
    yield _lives(wish, show)
    yield _deaths(wish, show)
    yield _mutants(wish, show)
    found = _killed(wish, show)
    proof.lines, proof.versions = found.lines, found.versions
    yield sweep_part(found.lines)


# The same seeds in two processes


def _gate(wish: Wish, show: Show) -> Part:
    show(GATE, 0, 0)
    with tempfile.TemporaryDirectory() as name:
        files = [Path(name) / f"{seed}.json" for seed in ("1", "2")]
        started = [_living(wish.size.twice, file) for file in files]
        for process in started:
            process.wait()
        found = [json.loads(file.read_text()) if file.exists() else {} for file in files]
    return gate_part([(one.get("lives", 0), one.get("digest")) for one in found])


def _living(lives: int, told: Path) -> "subprocess.Popen[bytes]":
    """A process that lives so many seeds, and hashes as the name of the file says."""
    command = [sys.executable, "-m", "dca.apps.cli", "prove", "lives", "--seeds", str(lives)]
    return subprocess.Popen(  # noqa: S603
        [*command, "--json", str(told)],
        env={"PYTHONHASHSEED": told.stem},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def gate_part(found: Sequence[tuple[int, str | None]]) -> Part:
    """`found`: for each process how many lives it lived, and their digest; None when it did not end."""
    digests = [digest for _, digest in found]
    same = None not in digests and len(set(digests)) == 1
    lives = min(number for number, _ in found)
    words = " and ".join(str(digest) for digest in digests)
    return Part(
        GATE,
        same,
        "the same lives twice, in two processes that order sets differently",
        lives,
        "the same to the last event" if same else "NOT the same",
        () if same else (f"the digests of two processes are {words}",),
        (f"{lives:,} lives; their digests: {words}.",),
    )


# Lives


def _lives(wish: Wish, show: Show) -> Part:
    seeds = list(dict.fromkeys(window(wish.first, wish.seeds)))
    show(LIVES, 0, len(seeds))
    tally = campaign(seeds, jobs=wish.jobs, told=lambda one: show(LIVES, len(one.seeds), len(seeds)))
    return lives_part(tally, wish.jobs)


def lives_part(tally: Tally, jobs: int) -> Part:
    """What the campaign tried, reached and found."""
    lives, broken = len(tally.seeds), len(tally.violations)
    bound = f"none broke a rule: fewer than {min(THREE / lives, 1) * 100:.2f} % of such lives would, at 95 %"
    wrong = [
        f"the life of seed {seed}: {found[0]} (its story: `dca prove lives --seed {seed} --trace`)"
        for seed, found in sorted(tally.violations.items())
    ]
    missed = [f"the lives did not reach what they claim to test: {one}" for one in tally.missed()]
    result = f"{broken:,} broke a rule" if broken else bound
    return Part(
        LIVES,
        tally.holds,
        "whole lives of the bot, full of misfortune",
        lives,
        "INVALID, " + result if missed else result,
        (*wrong, *missed),
        tuple(_lives_lines(tally, jobs)),
    )


def _lives_lines(tally: Tally, jobs: int) -> list[str]:
    pace = len(tally.seeds) / tally.took_s * 60 / max(jobs, 1) if tally.took_s else 0
    hourly = tally.cycles / tally.hours if tally.hours else 0
    return [
        f"{len(tally.seeds):,} lives from seed {min(tally.seeds)}: {tally.hours:,.0f} virtual hours, "
        f"{tally.fills:,} fills, {tally.cycles:,} completed cycles ({hourly:.1f} an hour), "
        f"{tally.boundaries:,} boundaries; {pace:,.0f} lives a minute per process; digest {tally.digest}.",
        "",
        "| what was reached | times | in lives |",
        "|---|---:|---:|",
        *(_row(words, tally.happened[name], tally.lives_with[name]) for name, (_, words) in REACHED.items()),
        "",
        "| what went wrong on the way | times | in lives |",
        "|---|---:|---:|",
        *(
            _row(name.replace("_", " "), tally.happened[name], tally.lives_with[name])
            for name in sorted(CHANCES)
        ),
    ]


def _row(*cells: str | int) -> str:
    """A row of a table; what would end a cell is written so that it does not."""
    words = [f"{cell:,}" if isinstance(cell, int) else cell.replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(words)} |"


# Deaths


def _deaths(wish: Wish, show: Show) -> Part:
    size = wish.size

    def counted(found: deaths.Deaths) -> None:
        show(
            f"{DEATHS}, seed {found.seed}", len(found.ended), min(size.at_most or found.points, found.points)
        )

    def counted_pairs(found: deaths.Deaths) -> None:
        every_pair = len(range(0, found.points, deaths.EVERY)) * deaths.RECOVERY
        show(f"{DEATHS}, twice", len(found.ended), min(size.pairs or every_pair, every_pair))

    show(DEATHS, 0, 0)
    die = partial(deaths.sweep, jobs=wish.jobs)
    found = [die(seed, most=size.at_most, told=counted) for seed in size.ended]
    pairs = die(size.ended[0], pairs=True, most=size.pairs, told=counted_pairs)
    return deaths_part(found, pairs)


def deaths_part(found: Sequence[deaths.Deaths], pairs: deaths.Deaths) -> Part:
    """What came of lives that ended once, and of one that ended twice."""
    lines = ["| life | boundaries | deaths tried | delivered | not recovered |", "|---|---:|---:|---:|---:|"]
    named = [*((f"seed {one.seed}", one) for one in found), (f"seed {pairs.seed}, twice", pairs)]
    for name, one in named:
        lines.append(_row(name, one.points, len(one.ended), one.delivered, len(one.broken)))
    wrong = [
        f"the life of seed {one.seed}, ended at {', '.join(ended.met)} {ended.at}: {ended.violations[0]}"
        for _, one in named
        for ended in one.broken
    ]
    wrong += [
        f"the life of seed {one.seed}: {len(one.ended) - one.delivered} deaths were not delivered"
        for one in found
        if one.delivered < len(one.ended)
    ]
    # A second death that comes after the life's own end of that path meets nobody.
    holds = all(one.holds for one in found) and not pairs.broken and pairs.delivered > 0
    delivered = sum(one.delivered for _, one in named)
    unwell = sum(len(one.broken) for _, one in named)
    result = f"{unwell:,} did not recover" if unwell else "everything recovered"
    return Part(
        DEATHS, holds, "a life ended at a boundary, or at two", delivered, result, tuple(wrong), tuple(lines)
    )


# Mistakes


def _mutants(wish: Wish, show: Show) -> Part:
    size, done = wish.size, 0
    of = len(size.mutants) or len(MUTANTS)

    def counted(_: Caught) -> None:
        nonlocal done
        done += 1
        show(MISTAKES, done, of)

    show(MISTAKES, 0, of)
    return mutants_part(hunt_all(size.mutants, seeds=size.each, jobs=wish.jobs, told=counted), size)


def mutants_part(found: Sequence[Caught], size: Size) -> Part:
    """Which mistakes were caught. One that was not is no failure where the size gives it too few lives."""
    caught = [one for one in found if one.seed is not None]
    open_ones = [one for one in found if one.seed is None]
    holds = bool(caught) and len(caught) >= size.share * len(found)
    result = f"{len(caught):,} of {len(found):,} caught"
    if open_ones:
        left = f", {len(open_ones):,} not within {size.each:,} lives"
        result += left if size.share == 1 else f"{left} (open: `dca prove --full` gives each {FULL.each})"
    lines = ["| mistake | caught in life | by |", "|---|---:|---|"]
    for one in found:
        mistake = f"{one.origin} (`{one.name}`)"
        lines.append(
            _row(mistake, f"not within {one.lives:,}", "-")
            if one.seed is None
            else _row(mistake, one.lives, one.invariant or "-")
        )
    wrong = [f"{one.name} ({one.origin}) was not caught in {one.lives:,} lives" for one in open_ones]
    return Part(
        MISTAKES,
        holds,
        "known mistakes put into the program, each of which the judge must catch",
        len(found),
        result,
        () if holds else tuple(wrong),
        tuple(lines),
    )


# Real processes


def _killed(wish: Wish, show: Show) -> Swept:
    size = wish.size
    show(SWEEP, 0, 0)
    return swept(
        wish.databases or size.databases,
        size.purposes,
        wish.jobs + 1,
        chosen=size.points,
        counted=lambda database, done, of: show(f"{SWEEP}, {database}", done, of),
    )


def sweep_part(lines: Sequence[Line]) -> Part:
    """A row for each purpose and database."""
    delivered, recovered = sum(line.delivered for line in lines), sum(line.recovered for line in lines)
    slowest = max((line.slowest_s for line in lines), default=0.0)
    unwell = sum(len(line.results) for line in lines) - recovered
    table = ["| purpose | killed | database | boundaries | kills | recovered | slowest |"]
    table.append("|---|---|---|---:|---:|---:|---:|")
    table += [
        _row(
            f"{line.script.words} (`{line.script.name}`)",
            line.script.victim,
            line.database,
            len(line.results) + len(line.spared),
            line.delivered,
            line.recovered,
            f"{line.slowest_s:.1f} s" if line.results else "-",
        )
        for line in lines
    ]
    return Part(
        SWEEP,
        bool(delivered) and all(line.holds for line in lines),
        "real processes killed (SIGKILL) just before or after a commit or a request",
        delivered,
        f"{unwell:,} did not recover" if unwell else f"all well again, the slowest after {slowest:.1f} s",
        tuple(f"{line.database}, {line.script.name}: {one}" for line in lines for one in _wrong(line)),
        tuple(table),
    )


def _wrong(line: Line) -> tuple[str, ...]:
    return line.complaints or (() if line.holds else ("it crosses no boundary",))


# The page

MEANING = {
    GATE: "What happens in a simulated life depends on its number alone. So every figure below can be "
    "repeated on another machine, and a life that ever goes wrong can be lived again until it is understood.",
    LIVES: "The real engine, caretakers and database trade against a simulated exchange while requests get "
    "lost, answers come late, prices jump and processes die. After each life every dollar and every coin is "
    "counted: no order may be doubled, no fill forgotten, nothing spent beyond your rules, and everything "
    "bought must be sold in the end. The tables say which misfortunes and which rare meetings there were, "
    "because a life in which nothing happened would prove nothing.",
    DEATHS: "A power cut can come at any moment. The same life was lived again and again, and ended at "
    "one boundary after the other: just before or just after a request to the exchange or a write to the "
    "database. Whatever came next had to find every order and every coin again, without anybody's help; "
    "where it died twice, the second death met the recovery from the first. Thirty simulated seconds "
    "and one pass of the caretakers after the last death everything had to be well.",
    MISTAKES: "A judge that never complains is worth nothing. Here mistakes that real bots have made, and "
    "that cost their owners money, were put into the program on purpose. The same lives must catch them.",
    SWEEP: "The same with real processes, real connections and real databases: the program was killed as by "
    "a power cut, and those that came next had to put everything in order within 30 seconds. An order that "
    "was under way then is neither sent twice nor forgotten: your money is spent once.",
}
"""What each part means for whoever's money it is."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """When and how a proof was made. `picture` is the name of the file beside the page, if there is one."""

    at: datetime
    command: str
    picture: str | None = None


def page(proof: Proof, made: Circumstances) -> str:
    """The proof as Markdown; what does not hold comes first."""
    lines = ["# Proof", "", *_verdict(proof), "", proof.size.words, "", *_facts(proof, made), ""]
    lines += ["| part | what was tried | how often | result |", "|---|---|---:|---|"]
    for part in proof.parts:
        lines.append(_row(part.title, part.tried, part.times, f"{holds_or_not(part)}: {part.result}"))
    for part in proof.parts:
        lines += ["", f"## {part.title}: {holds_or_not(part)}", "", MEANING[part.title], ""]
        if part.title == SWEEP and made.picture is not None:
            lines += [f"![How often processes were killed at each boundary]({made.picture})", "", LEGEND, ""]
        lines += part.lines
    return "\n".join(lines) + "\n"


LEGEND = (
    "A row is something that the program does to the outside: a request to the exchange, or a commit to the "
    "database. A column is what it was about to achieve. A number says how often a process was killed "
    "there, before and after it, on all databases together; green: everything was well again each time; "
    "red: something was not; gray: it comes there, but was not killed there in this run; blank: it does not "
    "come there."
)


def span(seconds: float) -> str:
    """In hours, minutes and seconds."""
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "min"), (left, "s"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"


def holds_or_not(part: Part) -> str:
    return "holds" if part.holds else "DOES NOT HOLD"


def _verdict(proof: Proof) -> list[str]:
    """What does not hold, or that everything does."""
    failed = [part for part in proof.parts if not part.holds]
    if not failed:
        return ["**Everything that was tried held.**"]
    lines = ["**Something does NOT hold:**", ""]
    for part in failed:
        lines += [f"- {part.title}: {one}" for one in part.wrong or (part.result,)]
    return lines


def _facts(proof: Proof, made: Circumstances) -> list[str]:
    databases = [f"{name} {version}" for name, version in proof.versions.items()]
    return [
        f"- made on {made.at:%Y-%m-%d} with `{made.command}`, which repeats it",
        f"- version {dca.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores",
        f"- databases: {', '.join(databases) or 'none'}",
        f"- it took {span(proof.took_s)}",
        "- how to read it, and what it does not show: `docs/prove.md`",
    ]
