"""Copies of the whole database, made while it is used, and checked before they count."""

import fcntl
import gzip
import os
import re
import shutil
import sqlite3
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, inspect, literal_column, select
from sqlalchemy import table as named_table
from sqlalchemy.exc import DBAPIError

from dca.adapters.db import dump, sqlite
from dca.adapters.db.faults import Fault, fault_of, said
from dca.adapters.db.tables import VERSION_TABLE, install
from dca.adapters.db.target import Target, parse
from dca.domain.errors import ConfigError, DcaError, StoreUnavailable, Unavailable, Unmended
from dca.ports import Backup

SQLITE_ENDS, SQL_ENDS = ".sqlite3.gz", ".sql.gz"
SQLITE_BEGINS = b"SQLite format 3\0"
SQL_BEGINS = b"-- dca backup: "
DAMAGED = (gzip.BadGzipFile, EOFError, zlib.error)
"""What reading a file raises that is not, or not whole, what gzip wrote."""

_NAME = re.compile(r"dca-(?P<install>[0-9a-f]{8})-(?P<stamp>\d{8}T\d{6}Z)(-\d+)?\.(sqlite3|sql)\.gz")
_STAMP = "%Y%m%dT%H%M%SZ"
_MAKING = ".making-"
_CHUNK = 1 << 20
_TAIL = 256
LOCK_TIMEOUT_S = 10
MOST_BUSY = 10


@dataclass(frozen=True, slots=True)
class Identity:
    """Which database it is: the number of its installation, the revision of its schema."""

    install: str
    revision: str


@contextmanager
def opened(target: Target, *, writing: bool = False, network_timeout_s: int = 60) -> Iterator[Connection]:
    """A connection to whatever is there, whichever schema it has.

    Raises ConfigError when the server lets nobody in, StoreUnavailable for every other trouble with
    the database.
    """

    def connect() -> object:
        return target.connect(
            writing=writing, lock_timeout_s=LOCK_TIMEOUT_S, network_timeout_s=network_timeout_s
        )

    engine = target.engine(connect, writing=writing)
    try:
        with engine.connect() as connection:
            yield connection
    except DBAPIError as error:
        kind: type[DcaError] = ConfigError if fault_of(error) is Fault.REFUSED else StoreUnavailable
        raise kind(f"{target}: {said(error)}") from error
    finally:
        engine.dispose()


def identify(connection: Connection) -> Identity | None:
    """None when these are not, or not all, the tables of this program."""
    if not {VERSION_TABLE, install.name} <= set(inspect(connection).get_table_names()):
        return None
    revision = connection.execute(
        select(literal_column("version_num")).select_from(named_table(VERSION_TABLE))
    ).scalar()
    nonce = connection.execute(select(install.c.nonce).where(install.c.id == 1)).scalar()
    return Identity(nonce, revision) if nonce and revision else None


class BackupFolder:
    """dca.ports.Backups of the database at `url`. Other files in the folder are left alone."""

    def __init__(self, url: str, folder: Path) -> None:
        self._target = parse(url)
        self._folder = folder

    def found(self) -> list[Backup]:
        ours = self._identity().install
        try:
            names = [path.name for path in self._folder.iterdir()] if self._folder.is_dir() else []
            matches = [match for name in names if (match := _NAME.fullmatch(name))]
            backups = [
                Backup(match[0], _moment(match["stamp"]), (self._folder / match[0]).stat().st_size)
                for match in matches
                if match["install"] == ours
            ]
        except OSError as error:
            raise Unavailable(f"{self._folder}: {error.strerror}") from error
        return sorted(backups, key=lambda one: (one.at, one.name), reverse=True)

    def is_whole(self, name: str) -> bool:
        try:
            return whole(self._folder / name)
        except OSError:
            return False

    def make(self, at: datetime) -> Backup:
        identity = self._identity()
        try:
            with _alone(self._folder) as making:
                if self._target.sqlite:
                    self._copy(making)
                else:
                    self._dump(making, identity, at)
                if not whole(making):
                    raise Unmended(f"the backup cannot be read again: {self._folder} may be on a bad disk")
                return self._named(making, identity, at)
        except OSError as error:
            raise Unmended(f"the backup cannot be written: {self._folder}: {error.strerror}") from error

    def delete(self, name: str) -> None:
        try:
            (self._folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise Unmended(f"{self._folder / name}: {error.strerror}") from error

    def _identity(self) -> Identity:
        if self._target.sqlite and not self._target.path.exists():
            raise ConfigError(f"there is no database {self._target.path}")
        with opened(self._target) as connection:
            found = identify(connection)
        if found is None:
            raise ConfigError(f"{self._target} has no tables, or half of them: run `dca db upgrade`")
        return found

    def _copy(self, making: Path) -> None:
        plain = making.with_name(f"{making.name}.sqlite3")
        plain.touch(0o600)
        copy_sqlite(self._target.path, plain)
        with plain.open("rb") as source, _packed(making) as packed:
            shutil.copyfileobj(source, packed, _CHUNK)
        plain.unlink()

    def _dump(self, making: Path, identity: Identity, at: datetime) -> None:
        with _packed(making) as packed:
            line = f"installation {identity.install}, schema {identity.revision}, {at:{_STAMP}}\n"
            packed.write(SQL_BEGINS + line.encode())
            dump.dump(self._target.url, packed)

    def _named(self, making: Path, identity: Identity, at: datetime) -> Backup:
        ends = SQLITE_ENDS if self._target.sqlite else SQL_ENDS
        stem = f"dca-{identity.install}-{at.astimezone(UTC):{_STAMP}}"
        names = (f"{stem}{'' if number == 1 else f'-{number}'}{ends}" for number in range(1, 1_000))
        name = next(name for name in names if not (self._folder / name).exists())
        making.replace(self._folder / name)
        sync(self._folder)
        return Backup(name, at, (self._folder / name).stat().st_size)


def _moment(stamp: str) -> datetime:
    return datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)


def copy_sqlite(path: Path, into: Path) -> None:
    """`into` is what the database was at one moment. Raises Unmended when that is damaged."""
    try:
        with (
            closing(sqlite.connect(path, writing=False, lock_timeout_s=LOCK_TIMEOUT_S)) as source,
            closing(sqlite3.connect(into)) as copy,
        ):
            source.backup(copy, progress=patience())
            check(copy)
    except sqlite3.Error as error:
        raise Unmended(f"{path} cannot be copied: {error}") from error


def check(connection: sqlite3.Connection) -> None:
    """Raises Unmended when what is stored contradicts itself."""
    found = connection.execute("PRAGMA integrity_check").fetchone()[0]
    if found != "ok":
        raise Unmended(f"the database is damaged: {found.splitlines()[-1]}")


def patience() -> Callable[[int, int, int], None]:
    """For `sqlite3.Connection.backup`, which would wait for ever for a database that is in use."""
    busy = 0

    def progress(status: int, remaining: int, total: int) -> None:
        nonlocal busy
        busy = busy + 1 if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) else 0
        if busy > MOST_BUSY:
            raise Unmended("the database is in use, and stays so")

    return progress


def whole(path: Path) -> bool:
    """Whether the file can be read to its end, and that is where the copy ended. Raises OSError."""
    begins, tail = b"", b""
    try:
        with gzip.open(path, "rb") as packed:
            while chunk := packed.read(_CHUNK):
                begins = begins or chunk[: len(SQLITE_BEGINS)]
                tail = (tail + chunk)[-_TAIL:]
    except DAMAGED:
        return False
    return begins == SQLITE_BEGINS or dump.END in tail


@contextmanager
def _alone(folder: Path) -> Iterator[Path]:
    """A file to write into, gone afterwards unless it got a name, while nobody else makes a backup.

    What a killed process left behind is cleared away.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(handle, folder)
        _clear(folder)
        making, path = tempfile.mkstemp(prefix=_MAKING, dir=folder)
        os.close(making)
        try:
            yield Path(path)
        finally:
            _clear(folder)
    finally:
        os.close(handle)


def _lock(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Unmended(f"another backup is being made in {folder}") from error


def _clear(folder: Path) -> None:
    for path in folder.glob(f"{_MAKING}*"):
        path.unlink(missing_ok=True)


@contextmanager
def _packed(path: Path) -> Iterator[gzip.GzipFile]:
    """What is written is compressed, and on the disk when it ends."""
    with path.open("wb") as raw:
        with gzip.GzipFile(fileobj=raw, filename="", mode="wb") as packed:
            yield packed
        raw.flush()
        os.fsync(raw.fileno())


def sync(folder: Path) -> None:
    """Names given in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
