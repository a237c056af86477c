"""`dca prove sweep`: real processes are killed at every boundary, on one database after the other."""

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dca.adapters.db.target import parse
from dca.domain.errors import ConfigError
from dca.prove.crash import Line, Point, sweeping
from dca.prove.crash_scripts import SCRIPTS, Script
from dca.prove.mariadb import mariadb_server, mariadbd

SQLITE, MARIADB = "sqlite", "mariadb"
MEMORY = Path("/dev/shm")  # noqa: S108
PATIENCE_S = 5
Choice = Callable[[Sequence[Point]], Sequence[Point]]
"""Which of all boundaries of all purposes are tried."""


def every(points: Sequence[Point]) -> Sequence[Point]:
    return points


def once_each(points: Sequence[Point]) -> Sequence[Point]:
    """Each boundary the first time that it is crossed, in the first purpose that crosses it."""
    found: dict[str, Point] = {}
    for point in points:
        found.setdefault(point.boundary, point)
    return list(found.values())


def a_dozen(points: Sequence[Point]) -> Sequence[Point]:
    """Twelve boundaries, evenly spread."""
    different, most = once_each(points), 12
    if len(different) <= most:
        return different
    return [different[number * len(different) // most] for number in range(most)]


def run(options: argparse.Namespace) -> int:
    """Every boundary was tried, and the table is printed; 1 when one was missed or not mended."""
    console = Console()
    lines = swept(
        options.database,
        options.purpose,
        options.jobs,
        keep=options.keep,
        told=lambda line: _tell(console, line),
    ).lines
    console.print(_table(lines))
    if options.json is not None:
        options.json.write_text(json.dumps([line.fields() for line in lines], indent=1) + "\n")
    killed, tried = sum(line.delivered for line in lines), sum(len(line.results) for line in lines)
    mended = sum(line.recovered for line in lines)
    console.print(f"{killed} of {tried} kills delivered, {mended} mended", highlight=False)
    return 0 if all(line.holds for line in lines) else 1


@dataclass(frozen=True, slots=True)
class Swept:
    """What each purpose came to on each database, and which version each database has."""

    lines: list[Line] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)


def swept(
    databases: Sequence[str] | None,
    purposes: Sequence[str] | None,
    jobs: int,
    *,
    chosen: Choice = every,
    keep: Path | None = None,
    told: Callable[[Line], None] = lambda line: None,
    counted: Callable[[str, int, int], None] = lambda database, done, of: None,
) -> Swept:
    """Processes were killed on each database at those boundaries of the purposes that are `chosen`.

    `told` hears of each purpose as soon as it is through, `counted` after each boundary how many were
    tried on that database, and of how many. None: every purpose; SQLite, and MariaDB where it is
    installed. Raises ConfigError.
    """
    wanted = _scripts(purposes)
    found = Swept()
    for database in databases or _installed():
        name = shown(database)
        with (
            _urls(database, max(jobs, 1)) as (urls, folder),
            sweeping(name, urls, folder, keep=keep) as sweep,
        ):
            found.versions[name] = _version(urls[0])
            for line in sweep.scripts(wanted, chosen, partial(counted, name)):
                found.lines.append(line)
                told(line)
    return found


def _version(url: str) -> str:
    """What the database there says that it is."""
    target = parse(url)
    question = "SELECT sqlite_version()" if target.sqlite else "SELECT VERSION()"
    with closing(target.connect(writing=False, lock_timeout_s=PATIENCE_S)) as connection:
        cursor = connection.cursor()
        cursor.execute(question)
        (answer,) = cursor.fetchone()
        cursor.close()
    return str(answer)


def _scripts(names: Sequence[str] | None) -> list[Script]:
    known = {script.name: script for script in SCRIPTS}
    unknown = [name for name in names or [] if name not in known]
    if unknown:
        raise ConfigError(f"there is no purpose {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names] if names else list(SCRIPTS)


def _installed() -> list[str]:
    return [SQLITE, MARIADB] if mariadbd() is not None else [SQLITE]


def shown(database: str) -> str:
    """The database as it was named, without its password. Raises ConfigError."""
    return database if database in (SQLITE, MARIADB) else parse(database).url.render_as_string()


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
