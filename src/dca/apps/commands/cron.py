"""`dca cron`: the lines that let cron run the caretakers."""

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from dca import wiring
from dca.adapters import crontab
from dca.apps.commands.options import command
from dca.domain.errors import ConfigError

EVERY_MINUTE, EVERY_5_MINUTES = "* * * * *", "*/5 * * * *"
HOURLY = "59 * * * *"
"""Also in the last minute of every day, so that its statement ends with the day."""
DAILY = "17 4 * * *"
"""At a time of day that no zone's clock skips or repeats when summer time begins or ends."""
SCHEDULE = {
    "order_manager": EVERY_MINUTE,
    "cooldown_manager": EVERY_MINUTE,
    "watchdog": EVERY_MINUTE,
    "notifier": EVERY_MINUTE,
    "consistency_checker": EVERY_5_MINUTES,
    "asset_caretaker": EVERY_5_MINUTES,
    "bookkeeper": HOURLY,
    "housekeeping": DAILY,
}
"""When cron runs each script."""
UNSPEAKABLE = ("\n", "\r", "\\")
"""What no line of a crontab can carry to the shell unharmed."""


def add(commands: Any) -> None:
    group = command(commands, "cron", "let cron run the caretakers", "dca cron install")
    cron = group.add_subparsers(required=True, metavar="COMMAND")
    showing = command(cron, "show", "print the lines and change nothing", "dca cron show")
    showing.set_defaults(run=_show)
    installing = command(
        cron, "install", "put the lines into your crontab; all else in it stays as it is", "dca cron install"
    )
    installing.set_defaults(run=_install)
    removing = command(cron, "remove", "take the lines out of your crontab again", "dca cron remove")
    removing.set_defaults(run=_remove)


def block(project: Path, python: str) -> str:
    """The lines between two that name the project. Raises ConfigError when cron could not read them."""
    for path in (str(project), python):
        if any(sign in path for sign in UNSPEAKABLE):
            raise ConfigError(f"cron cannot run anything from {path!r}: move it to a simpler path")
    start = f"cd {_word(str(project))} && {_word(python)}"
    lines = [
        f"{when} {start} scripts/{script}.py >> logs/cron.log 2>&1\n" for script, when in SCHEDULE.items()
    ]
    return "".join([_begin(project), "  (written by `dca cron install`)\n", *lines, _end(project), "\n"])


def _word(path: str) -> str:
    """One word for the shell. To cron a bare % is the end of the command."""
    return shlex.quote(path).replace("%", r"\%")


def _begin(project: Path) -> str:
    return f"# >>> dca {project} >>>"


def _end(project: Path) -> str:
    return f"# <<< dca {project} <<<"


def installed(content: bytes, project: Path, python: str) -> bytes:
    """The crontab with the project's block in it, in the old one's place where there was one."""
    before, after = _around(content, project)
    if not after and before and not before.endswith(b"\n"):
        before += b"\n"
    return before + os.fsencode(block(project, python)) + after


def removed(content: bytes, project: Path) -> bytes:
    """The crontab without the project's block, every other byte as it was."""
    return b"".join(_around(content, project))


def _around(content: bytes, project: Path) -> tuple[bytes, bytes]:
    """What stands before and after the project's block; all is before it when there is none."""
    lines = content.splitlines(keepends=True)
    begins = [at for at, line in enumerate(lines) if line.startswith(os.fsencode(_begin(project)))]
    ends = [at for at, line in enumerate(lines) if line.startswith(os.fsencode(_end(project)))]
    if not begins and not ends:
        return content, b""
    if len(begins) != 1 or len(ends) != 1 or begins[0] > ends[0]:
        raise ConfigError(
            f"the crontab has half a block of {project}, or two: take the lines that name it out "
            "with `crontab -e`; nothing was changed"
        )
    return b"".join(lines[: begins[0]]), b"".join(lines[ends[0] + 1 :])


def _place() -> tuple[Path, str]:
    """The project's folder and the interpreter that runs this, as cron must be told them."""
    project = wiring.MAIN_APP.parents[1]
    if not (project / "scripts").is_dir():
        raise ConfigError(f"there are no scripts in {project}: run this from the project's own folder")
    return project, sys.executable


def _show(options: argparse.Namespace) -> None:
    print(block(*_place()), end="")


def _install(options: argparse.Namespace) -> None:
    project, python = _place()
    content = crontab.read() or b""
    wanted = installed(content, project, python)
    if wanted == content:
        print("the crontab has these lines already")
        return
    crontab.write(wanted)
    print(f"cron runs {len(SCHEDULE)} caretakers of {project}; what they print goes to logs/cron.log")


def _remove(options: argparse.Namespace) -> None:
    project, _ = _place()
    content = crontab.read() or b""
    rest = removed(content, project)
    if rest == content:
        print(f"the crontab has no lines of {project}")
        return
    crontab.write(rest)
    print(f"the lines of {project} are out of the crontab; nothing runs its caretakers now")
