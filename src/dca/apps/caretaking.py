"""What the scripts of the caretakers run: one pass, for cron or by hand."""

import argparse
import json
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from dca import settings as env
from dca import wiring
from dca.adapters.process import identity, keep_private, may_be_alive
from dca.domain.errors import ConfigError, DcaError, StoreUnavailable
from dca.ports import Store
from dca.service.caretakers.runner import Report, Result, run


def main(name: str, words: str | None, arguments: Sequence[str] | None = None) -> int:
    """One pass of the caretaker `name` was made.

    Exit code: 0 done, 75 try later (another pass runs, or venue or database cannot be read: nothing
    was changed), 78 a person must fix a setting.
    """
    options = _parser(name, words).parse_args(arguments)
    keep_private()
    try:
        report = _pass(name, dry_run=options.dry_run)
    except StoreUnavailable as error:
        print(f"{name}: {error}; nothing was changed, try again later", file=sys.stderr)
        return 75
    except (ConfigError, DcaError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 78
    if options.json:
        print(json.dumps(report.fields(), indent=2))
    else:
        _show(report)
    return report.exit_code


def _parser(name: str, words: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=name,
        description=words,
        epilog=f"example:\n  python scripts/{name}.py --dry-run\n\n"
        "exit code: 0 done, 75 try later and nothing was changed, 78 a setting must be fixed",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and change nothing")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    return parser


def _pass(name: str, *, dry_run: bool) -> Report:
    settings = env.load()
    wiring.start_logging(name, settings, terminal=False)
    wiring.watch_boundaries(settings)
    clock = wiring.clock(settings)
    dry_run = dry_run or (settings.dry_run and name in wiring.TRADING)
    place = f"@{platform.node()[:40]}" if name in wiring.PER_MACHINE else ""
    with _database(name, settings, dry_run=dry_run) as store:
        caretaker = wiring.CARETAKERS[name](settings, store, clock)
        report = run(
            caretaker,
            store=store,
            clock=clock,
            holder=identity(),
            alive=may_be_alive,
            dry_run=dry_run,
            place=place,
        )
    if report.result is Result.UNAVAILABLE:
        _alarm(name, settings, report.detail, dry_run=dry_run)
    return report


@contextmanager
def _database(name: str, settings: env.Settings, *, dry_run: bool) -> Iterator[Store]:
    with ExitStack() as stack:
        try:
            store = stack.enter_context(wiring.opened(settings))
        except StoreUnavailable as error:
            _alarm(name, settings, str(error), dry_run=dry_run)
            raise
        yield store


def _alarm(name: str, settings: env.Settings, why: str, *, dry_run: bool) -> None:
    """Where the database is away its outbox tells nobody, so one caretaker speaks for all."""
    if name == "watchdog" and not dry_run:
        wiring.database_alarm(settings, why)


def _show(report: Report) -> None:
    """The plan of a dry run, or what went wrong; a pass without trouble prints nothing, for cron."""
    if report.result is Result.DRY_RUN:
        if not report.planned:
            print(f"{report.caretaker}: nothing to repair")
        for repair in report.planned:
            print(f"{report.caretaker}: would {repair.kind} {repair.subject}: {repair.reason}")
        return
    if report.detail:
        print(f"{report.caretaker}: {report.result}: {report.detail}", file=sys.stderr)
    for subject, note in report.notes.items():
        print(f"{report.caretaker}: {subject}: {note}", file=sys.stderr)
