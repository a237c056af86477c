"""`dca prove sweep`: real processes are killed at every boundary, on one database after the other."""

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dca.adapters.db.target import parse
from dca.domain.errors import ConfigError
from dca.prove.crash import Line, sweeping
from dca.prove.crash_scripts import SCRIPTS, Script
from dca.prove.mariadb import mariadb_server, mariadbd

SQLITE, MARIADB = "sqlite", "mariadb"
MEMORY = Path("/dev/shm")  # noqa: S108


def run(options: argparse.Namespace) -> int:
    """Every boundary was tried, and the table is printed; 1 when one was missed or not mended."""
    console = Console()
    lines = swept(
        options.database, options.purpose, options.jobs, options.keep, lambda line: _tell(console, line)
    )
    console.print(_table(lines))
    if options.json is not None:
        options.json.write_text(json.dumps([line.fields() for line in lines], indent=1) + "\n")
    killed, tried = sum(line.delivered for line in lines), sum(len(line.results) for line in lines)
    mended = sum(line.recovered for line in lines)
    console.print(f"{killed} of {tried} kills delivered, {mended} mended", highlight=False)
    return 0 if all(line.holds for line in lines) else 1


def swept(
    databases: Sequence[str] | None,
    purposes: list[str] | None,
    jobs: int,
    keep: Path | None = None,
    told: Callable[[Line], None] = lambda line: None,
) -> list[Line]:
    """What each purpose came to on each database; `told` hears of each at once.

    None: every purpose; SQLite, and MariaDB where it is installed. Raises ConfigError.
    """
    wanted = _scripts(purposes)
    lines: list[Line] = []
    for database in databases or _installed():
        with (
            _urls(database, max(jobs, 1)) as (urls, folder),
            sweeping(_name(database), urls, folder, keep=keep) as sweep,
        ):
            for script in wanted:
                lines.append(sweep.script(script))
                told(lines[-1])
    return lines


def _scripts(names: list[str] | None) -> list[Script]:
    known = {script.name: script for script in SCRIPTS}
    unknown = [name for name in names or [] if name not in known]
    if unknown:
        raise ConfigError(f"there is no purpose {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names] if names else list(SCRIPTS)


def _installed() -> list[str]:
    return [SQLITE, MARIADB] if mariadbd() is not None else [SQLITE]


def _name(database: str) -> str:
    """The database without its password."""
    return database if database in (SQLITE, MARIADB) else str(parse(database))


@contextmanager
def _urls(database: str, jobs: int) -> Iterator[tuple[list[str], Path]]:
    """The addresses of `jobs` databases that may be emptied, and a folder; both are gone afterwards."""
    memory = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="dca-sweep-", dir=memory) as name:
        folder, numbers = Path(name), range(1, jobs + 1)
        if database == SQLITE:
            yield [f"sqlite:///{folder}/{number}.sqlite3" for number in numbers], folder
        elif database == MARIADB:
            with mariadb_server() as server:
                yield [server.url(f"dca_sweep_{number}") for number in numbers], folder
        else:
            url = parse(database).url
            beside = [url.set(database=f"{url.database}_sweep_{number}") for number in numbers]
            yield [one.render_as_string(hide_password=False) for one in beside], folder


def _tell(console: Console, line: Line) -> None:
    text = f"{line.database} {line.script.name}: {line.recovered} of {len(line.results)}"
    console.print(f"{text}, slowest {line.slowest_s:.1f} s", highlight=False, markup=False)
    for complaint in line.complaints:
        console.print(f"  {complaint}", style="red", highlight=False, markup=False)


def _table(lines: list[Line]) -> Table:
    """A row for each purpose and database."""
    table = Table("purpose", "killed", "database", box=None)
    for name in ("boundaries", "delivered", "mended", "slowest"):
        table.add_column(name, justify="right")
    for line in lines:
        table.add_row(
            line.script.name,
            line.script.victim,
            line.database,
            str(len(line.results)),
            str(line.delivered),
            str(line.recovered),
            f"{line.slowest_s:.1f} s",
            style=None if line.holds else "red",
        )
    return table
