"""A backup put in the place of a SQLite file."""

import os
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from dca.adapters.db import sqlite
from dca.adapters.db.backup import LOCK_TIMEOUT_S, check, copy_sqlite, patience, sync
from dca.adapters.db.restore import SKIPPED_CYCLES, Restored, Restoring
from dca.adapters.db.tables import cycles
from dca.adapters.db.target import parse
from dca.domain.errors import ConfigError, Unmended

_PAGES = 256
_CHUNK = 1 << 20
_SIDES = ("", "-wal", "-shm")


def restore(restoring: Restoring) -> Restored:
    """The file holds the backup; the one that was there is kept beside it.

    Raises ConfigError, Unmended, StoreUnavailable; then nothing has changed.
    """
    path = restoring.target.path
    new = path.with_name(f".{path.name}.restoring")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear(new)
        _unpack(restoring, new)
        identity, applied = restoring.prepared(parse(f"sqlite:///{new}"))
        usable = path.exists() and _usable(path)
        _skip_cycles(new, _last_cycle(path) if usable else 0)
        kept = _kept(path, restoring.at, usable=usable) if path.exists() else None
        _put(new, path, usable=usable)
    except sqlite3.Error as error:
        raise Unmended(f"{path}: {error}") from error
    except OSError as error:
        raise Unmended(f"{error.filename or path}: {error.strerror}") from error
    finally:
        _clear(new)
    return Restored(identity.install, applied, kept)


def _unpack(restoring: Restoring, new: Path) -> None:
    new.touch(0o600)
    with restoring.unpacked() as packed, new.open("wb") as plain:
        shutil.copyfileobj(packed, plain, _CHUNK)
    try:
        with closing(sqlite3.connect(new)) as connection:
            check(connection)
    except (sqlite3.DatabaseError, Unmended) as error:
        raise ConfigError(f"{restoring.file} is damaged ({error}): use another backup") from error


def _usable(path: Path) -> bool:
    """Whether the present file is a database that SQLite can read whole."""
    try:
        with closing(sqlite.connect(path, writing=False, lock_timeout_s=LOCK_TIMEOUT_S)) as connection:
            check(connection)
    except sqlite3.OperationalError:
        # It is in use, or the disk is in trouble: nothing is known.
        raise
    except (sqlite3.DatabaseError, Unmended):
        return False
    return True


def _last_cycle(path: Path) -> int:
    """The highest number that a cycle ever had."""
    with closing(sqlite.connect(path, writing=False, lock_timeout_s=LOCK_TIMEOUT_S)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'").fetchone():
            return 0
        found = connection.execute(
            "SELECT seq FROM sqlite_sequence WHERE name = ?", (cycles.name,)
        ).fetchone()
    return int(found[0]) if found else 0


def _skip_cycles(new: Path, present: int) -> None:
    last = max(present, _last_cycle(new) + SKIPPED_CYCLES)
    with closing(sqlite.connect(new, writing=True, lock_timeout_s=LOCK_TIMEOUT_S)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", (cycles.name,))
        connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (cycles.name, last))
        connection.execute("COMMIT")


def _kept(path: Path, at: datetime, *, usable: bool) -> Path:
    """Where the present database is kept: a copy; of one that cannot be copied, the files themselves."""
    kept = path.with_name(f"{path.name}.before-{at.astimezone(UTC):%Y%m%dT%H%M%SZ}")
    _clear(kept)
    if usable:
        kept.touch(0o600)
        copy_sqlite(path, kept)
        return kept
    for ends in _SIDES:
        source = path.with_name(path.name + ends)
        if source.exists():
            os.link(source, kept.with_name(kept.name + ends))
    return kept


def _put(new: Path, path: Path, *, usable: bool) -> None:
    """The content of `new` is that of `path`.

    A database that can be read is overwritten in one transaction, so that neither a crash nor another
    process sees half of it, and its -wal file never meets another's content. Any other is replaced.
    """
    if usable:
        with (
            closing(sqlite3.connect(new)) as source,
            closing(sqlite.connect(path, writing=True, lock_timeout_s=LOCK_TIMEOUT_S)) as present,
        ):
            source.backup(present, pages=_PAGES, progress=patience())
            present.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    else:
        for ends in _SIDES[1:]:
            path.with_name(path.name + ends).unlink(missing_ok=True)
        new.replace(path)
        sync(path.parent)


def _clear(path: Path) -> None:
    for ends in (*_SIDES, "-journal"):
        path.with_name(path.name + ends).unlink(missing_ok=True)
