"""`dca doctor`."""

import argparse
import json
import sys
from collections import Counter
from typing import Any

from rich.text import Text

from dca import settings as env
from dca.apps.commands.options import command
from dca.apps.doctor import Doctor
from dca.apps.findings import Finding, Level
from dca.apps.words import console, grid
from dca.domain.errors import ConfigError

STYLES = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}


def add(commands: Any) -> None:
    words = "look whether everything is as it must be, and say what to do where it is not"
    looking = command(commands, "doctor", words, "dca doctor --notify")
    looking.add_argument("--json", action="store_true", help="print the findings as JSON")
    looking.add_argument("--no-streams", action="store_true", help="do not try the venue's streams")
    looking.add_argument("--notify", action="store_true", help="send a test message to every address")
    looking.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    """Exit code: 0 nothing failed, 1 something did, 78 the settings cannot be read at all."""
    try:
        settings = env.local()
    except ConfigError as error:
        print(f"dca: {error}", file=sys.stderr)
        return 78
    found = []
    for one in Doctor(settings, streams=not options.no_streams, notify=options.notify).findings():
        found.append(one)
        if not options.json:
            _show(one)
    failed = any(one.level is Level.FAIL for one in found)
    if options.json:
        print(json.dumps({"ok": not failed, "findings": [one.fields() for one in found]}, indent=2))
    else:
        _sum_up(found)
    return int(failed)


def _show(one: Finding) -> None:
    rows = [(_word(one.level), f"{one.subject}: {one.seen}")]
    if one.do:
        rows.append(("", f"-> {one.do}"))
    table = grid(rows)
    table.columns[0].style = STYLES[one.level]
    table.columns[0].width = 4
    console().print(table)


def _word(level: Level) -> str:
    """What failed is to be seen in a log without colors, too."""
    return level.upper() if level is Level.FAIL else str(level)


def _sum_up(found: list[Finding]) -> None:
    counts = Counter(one.level for one in found)
    text = ", ".join(f"{counts[level]} {_word(level)}" for level in Level if counts[level])
    worst = next(level for level in reversed(Level) if counts[level])
    console().print(Text(text, STYLES[worst]))
