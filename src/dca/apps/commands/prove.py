"""`dca prove`."""

import argparse
import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dca.apps.commands.options import command

if TYPE_CHECKING:
    from dca.prove.lives import Tally

SEEDS = 200
SHOWN = 20


def add(commands: Any) -> None:
    proving = command(
        commands, "prove", "show that the program can be trusted", "dca prove lives --seeds 100"
    )
    kinds = proving.add_subparsers(required=True, metavar="COMMAND")
    words = "whole lives on a virtual clock, full of misfortune, each judged by what the venue saw"
    lives = command(kinds, "lives", words, "dca prove lives --seeds 1000 --jobs 2")
    lives.add_argument("--seeds", type=int, default=SEEDS, help=f"how many (default {SEEDS})")
    lives.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    lives.add_argument("--jobs", type=int, default=1, help="processes at a time (default 1)")
    lives.add_argument("--seed", type=int, help="live this one alone")
    lives.add_argument("--trace", action="store_true", help="with --seed: print its whole story")
    lives.add_argument("--json", type=Path, metavar="FILE", help="write what came of it there as JSON")
    lives.set_defaults(run=_lives)
    _add_sweep(kinds)


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
