"""`dca prove`."""

import argparse
import json
import logging
import os
import shlex
import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from dca import settings as env
from dca.apps.commands.options import command
from dca.domain.errors import ConfigError
from dca.wiring import clock_of

if TYPE_CHECKING:
    from dca.apps.proof import Part, Proof
    from dca.prove.deaths import Deaths
    from dca.prove.hunt import Caught
    from dca.prove.lives import Tally

SEEDS = 200
MUTANT_SEEDS = 100
SHOWN = 20
PICTURE = ".svg"


def add(commands: Any) -> None:
    words = "show that the program can be trusted; without COMMAND, everything"
    proving = command(commands, "prove", words, "dca prove --quick")
    words = f"how many lives (default {SEEDS}, with --quick a sample)"
    proving.add_argument("--seeds", type=_positive, help=words)
    proving.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    proving.add_argument("--jobs", type=_positive, help="processes at a time (default: as many as cores)")
    sizes = proving.add_mutually_exclusive_group()
    sizes.add_argument("--quick", action="store_true", help="a sample of every part: under a minute")
    sizes.add_argument("--full", action="store_true", help="every combination: about an hour")
    words = "sqlite, mariadb or a URL, for the real processes; may be repeated"
    proving.add_argument("--database", action="append", help=words)
    words = "write what came of it as Markdown there, and a picture beside it"
    proving.add_argument("--report", type=Path, metavar="FILE", help=words)
    proving.set_defaults(run=_everything)
    kinds = proving.add_subparsers(metavar="COMMAND")
    words = "whole lives on a virtual clock, full of misfortune, each judged by what the venue saw"
    lives = command(kinds, "lives", words, "dca prove lives --seeds 1000 --jobs 2")
    lives.add_argument("--seeds", type=int, default=SEEDS, help=f"how many (default {SEEDS})")
    lives.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    lives.add_argument("--jobs", type=int, default=1, help="processes at a time (default 1)")
    lives.add_argument("--seed", type=int, help="live this one alone")
    lives.add_argument("--trace", action="store_true", help="with --seed: print its whole story")
    lives.add_argument("--json", type=Path, metavar="FILE", help="write what came of it there as JSON")
    lives.set_defaults(run=_lives)
    _add_deaths(kinds)
    _add_sweep(kinds)
    _add_mutants(kinds)


def _add_sweep(kinds: Any) -> None:
    words = "kill real processes at every boundary they cross; those that come next must mend it"
    sweep = command(kinds, "sweep", words, "dca prove sweep --database sqlite --purpose base")
    words = "sqlite, mariadb (a server of its own; mariadbd must be installed) or a URL, beside whose"
    words += " database others are made; may be repeated (default: sqlite, and mariadb where it is installed)"
    sweep.add_argument("--database", action="append", help=words)
    words = "what is done when the kill comes, such as base or safety; may be repeated (default: everything)"
    sweep.add_argument("--purpose", action="append", help=words)
    jobs = (os.cpu_count() or 1) + 1
    sweep.add_argument("--jobs", type=int, default=jobs, help=f"lives at a time (default {jobs})")
    words = "write every boundary and what came of it there as JSON"
    sweep.add_argument("--json", type=Path, metavar="FILE", help=words)
    words = "keep what was written by processes that did not recover there"
    sweep.add_argument("--keep", type=Path, metavar="FOLDER", help=words)
    sweep.set_defaults(run=_sweep)


def _positive(text: str) -> int:
    """For argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


def _everything(options: argparse.Namespace) -> int:
    from dca.apps.proof import FULL, QUICK, USUAL, Wish, prove, span

    _check_report(options.report)
    size = QUICK if options.quick else FULL if options.full else USUAL
    wish = Wish(
        size,
        options.seeds or size.lives,
        options.first,
        options.jobs or os.cpu_count() or 1,
        options.database,
    )
    with _Screen(Console(soft_wrap=True)) as screen:
        proof = prove(wish, show=screen.show, told=screen.tell)
    if options.report is not None:
        _write_report(options, proof)
    print(f"{'everything held' if proof.holds else 'NOT everything held'}, in {span(proof.took_s)}")
    print(size.words.replace("`", ""))
    return 0 if proof.holds else 1


def _check_report(file: Path | None) -> None:
    """Raises ConfigError where no page can be written: better now than at the end."""
    if file is None:
        return
    if file.suffix == PICTURE:
        raise ConfigError(f"--report {file}: the page is Markdown, and the picture is written beside it")
    if file.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
        raise ConfigError(f"--report {file}: it cannot be written there")


def _write_report(options: argparse.Namespace, proof: "Proof") -> None:
    """The page is there, and beside it its picture."""
    from dca.apps.picture import picture
    from dca.apps.proof import Circumstances, page

    file: Path = options.report
    at, beside = clock_of(env.clock()).now(), file.with_suffix(PICTURE)
    words = _command(options)
    file.write_text(page(proof, Circumstances(at, words, beside.name)))
    beside.write_text(picture(proof.lines, f"{words.partition(' --report')[0]}, {at:%Y-%m-%d}"))
    print(f"written: {file} and {beside}")


def _command(options: argparse.Namespace) -> str:
    """What repeats it; passwords are left out."""
    from dca.apps.sweep import shown

    words = ["dca", "prove"]
    words += [f"--{name}" for name in ("quick", "full") if getattr(options, name)]
    if options.seeds is not None:
        words += ["--seeds", str(options.seeds)]
    if options.first:
        words += ["--first", str(options.first)]
    if options.jobs is not None:
        words += ["--jobs", str(options.jobs)]
    for database in options.database or []:
        words += ["--database", shown(database)]
    return shlex.join([*words, "--report", str(options.report)])


class _Screen:
    """On a terminal a line that moves while a part runs; a line for each part that is done."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[far]}"))
        moves = console.is_terminal
        self._bar = Progress(
            *columns, TimeElapsedColumn(), console=console, transient=True, disable=not moves
        )
        self._task = self._bar.add_task("", total=None, far="")
        self._part = ""

    def __enter__(self) -> "_Screen":
        self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def show(self, part: str, done: int, of: int) -> None:
        """So much of the part is done; 0 of 0: nobody knows how much there is."""
        if part != self._part:
            self._part = part
            self._bar.reset(self._task, total=of or None, description=part)
        far = f"{done:,} of {of:,}" if of else ""
        self._bar.update(self._task, total=of or None, completed=done, far=far)

    def tell(self, part: "Part") -> None:
        """The part is done."""
        from dca.apps.proof import holds_or_not

        line = (
            f"{part.title}: {holds_or_not(part)}, {part.times:,} tried: {part.result} ({part.took_s:.0f} s)"
        )
        for text in (line, *(f"  {one}" for one in part.wrong)):
            self._bar.console.print(text, highlight=False, markup=False, style=None if part.holds else "red")


def _add_deaths(kinds: Any) -> None:
    words = "end one undisturbed life at each of its boundaries, on a virtual clock"
    deaths = command(kinds, "deaths", words, "dca prove deaths --seed 3 --pairs --jobs 2")
    deaths.add_argument("--seed", type=int, default=0, help="which life (default 0)")
    words = "die twice: once more at each of the first boundaries of the recovery"
    deaths.add_argument("--pairs", action="store_true", help=words)
    deaths.add_argument("--most", type=int, help="no more than so many, evenly spread")
    deaths.add_argument("--jobs", type=int, default=1, help="processes at a time (default 1)")
    deaths.add_argument("--json", type=Path, metavar="FILE", help="write what came of it there as JSON")
    deaths.set_defaults(run=_deaths)


def _deaths(options: argparse.Namespace) -> int:
    from dca.prove.deaths import sweep

    found = sweep(
        options.seed, pairs=options.pairs, jobs=options.jobs, most=options.most, told=_progress_of_deaths
    )
    if sys.stderr.isatty():
        print(file=sys.stderr)
    if options.json is not None:
        options.json.write_text(json.dumps(found.fields(), indent=2) + "\n")
    lives = f"{len(found.ended)} lives, {found.delivered} died as meant"
    print(f"seed {found.seed}: {found.points} boundaries, {lives}")
    for name, times in sorted(found.met().items()):
        print(f"{times:7}  {name}")
    for ended in found.broken[:SHOWN]:
        print(f"killed at {', '.join(ended.met)} ({ended.at}): {ended.violations[0]}")
    print("every life recovered" if found.holds else f"{len(found.broken)} lives did not recover")
    return 0 if found.holds else 1


def _progress_of_deaths(found: "Deaths") -> None:
    if sys.stderr.isatty():
        line = f"\r{len(found.ended)} lives, {len(found.broken)} not recovered"
        print(line, end="", file=sys.stderr, flush=True)


def _add_mutants(kinds: Any) -> None:
    words = "put known mistakes into the program; the judge of the lives must catch every one"
    mutants = command(kinds, "mutants", words, "dca prove mutants --jobs 2")
    mutants.add_argument("names", nargs="*", help="only these")
    words = f"how many lives a mistake may survive (default {MUTANT_SEEDS})"
    mutants.add_argument("--seeds", type=int, default=MUTANT_SEEDS, help=words)
    mutants.add_argument("--jobs", type=int, default=1, help="processes at a time (default 1)")
    mutants.add_argument("--json", type=Path, metavar="FILE", help="write what came of it there as JSON")
    mutants.set_defaults(run=_mutants)


def _mutants(options: argparse.Namespace) -> int:
    from dca.prove.hunt import hunt_all
    from dca.prove.mutants import MUTANTS

    unknown = sorted(set(options.names) - {one.name for one in MUTANTS})
    if unknown:
        raise ConfigError(f"there is no mutant {', '.join(unknown)}")
    found = hunt_all(options.names, seeds=options.seeds, jobs=options.jobs, told=_show_caught)
    if options.json is not None:
        options.json.write_text(json.dumps([one.fields() for one in found], indent=2) + "\n")
    survived = [one.name for one in found if one.seed is None]
    print(f"{len(found) - len(survived)} of {len(found)} mutants caught")
    if survived:
        print(f"survived: {', '.join(survived)}")
    return 1 if survived else 0


def _show_caught(one: "Caught") -> None:
    if one.seed is None:
        print(f"{one.name:30} SURVIVED {one.lives} lives: {one.origin}", flush=True)
    else:
        print(f"{one.name:30} caught in life {one.lives} (seed {one.seed}) by {one.invariant}", flush=True)


def _sweep(options: argparse.Namespace) -> int:
    from dca.apps.sweep import run

    return run(options)


def _lives(options: argparse.Namespace) -> int:
    # Here, because what proves is of no use to any other command.
    from dca.prove.lives import campaign, window

    if options.trace and options.seed is not None:
        return _story(options.seed)
    seeds = window(options.first, options.seeds) if options.seed is None else [options.seed]
    tally = campaign(seeds, jobs=options.jobs, told=_progress)
    if options.json is not None:
        options.json.write_text(json.dumps(tally.fields(), indent=2) + "\n")
    _show(tally, options.jobs)
    return 0 if tally.holds else 1


def _story(seed: int) -> int:
    from dca.prove.lives import live, nursery

    logger = logging.getLogger("dca")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    with nursery() as template:
        life = live(seed, template, trace=True)
    print("\n".join(life.story))
    print(f"digest {life.digest}, {life.cycles} cycles, {life.fills} fills")
    for violation in life.violations:
        print(f"VIOLATION {violation}")
    return 1 if life.violations else 0


def _progress(tally: "Tally") -> None:
    if sys.stderr.isatty():
        broken = len(tally.violations)
        line = f"\r{len(tally.seeds)} lives, {tally.cycles} cycles, {broken} with violations"
        print(line, end="", file=sys.stderr, flush=True)


def _show(tally: "Tally", jobs: int) -> None:
    if sys.stderr.isatty():
        print(file=sys.stderr)
    lives = len(tally.seeds)
    pace = lives / tally.took_s * 60 / max(jobs, 1)
    print(f"{lives} lives, {tally.hours:.0f} virtual hours, {pace:.0f} lives a minute per process")
    print(f"{tally.boundaries} boundaries crossed, {tally.fills} fills, {tally.cycles} cycles completed")
    print(f"{tally.cycles / max(tally.hours, 1):.1f} cycles per virtual hour; digest {tally.digest}")
    _show_reached(tally)
    for seed, found in sorted(tally.violations.items())[:SHOWN]:
        print(f"seed {seed}: {found[0]}" + (f" (and {len(found) - 1} more)" if len(found) > 1 else ""))
        print(f"  its story: dca prove lives --seed {seed} --trace")
    print(f"{len(tally.violations)} lives broke an invariant" if tally.violations else "every invariant held")
    missed = tally.missed()
    if missed:
        print("but this campaign is INVALID, it did not reach what it claims to test:")
        print("\n".join(f"  {one}" for one in missed))


def _show_reached(tally: "Tally") -> None:
    from dca.prove.fates import CHANCES
    from dca.prove.lives import REACHED

    print("\n    times  in lives  what was reached")
    for name, (_, words) in REACHED.items():
        print(f"{tally.happened[name]:9}  {tally.lives_with[name]:8}  {words}")
    print("\n    times  in lives  what went wrong")
    for name in CHANCES:
        print(f"{tally.happened[name]:9}  {tally.lives_with[name]:8}  {name.replace('_', ' ')}")
    print()
