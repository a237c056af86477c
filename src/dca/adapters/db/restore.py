"""A backup put in the place of the database: the old content or the new, at every moment."""

import gzip
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, inspect, select, update
from sqlalchemy.exc import DBAPIError

from dca.adapters.db import mysql
from dca.adapters.db.backup import (
    DAMAGED,
    SQL_BEGINS,
    SQLITE_BEGINS,
    Identity,
    identify,
    opened,
    whole,
)
from dca.adapters.db.migrate import upgrade
from dca.adapters.db.store import SqlStore
from dca.adapters.db.tables import assets, leases
from dca.adapters.db.target import Target, parse
from dca.domain.errors import ConfigError, StoreUnavailable
from dca.domain.mode import Mode, Restriction
from dca.domain.record import Event
from dca.ports import Tx

SKIPPED_CYCLES = 1_000_000
"""Cycles may have been begun after the backup was made, and the venue still knows their orders. A new
cycle with the number of one of them would take those orders for its own."""

Alive = Callable[[str], bool]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put back: which installation, the revisions applied to it, where the one before is."""

    install: str
    applied: Sequence[str]
    kept: Path | None


@dataclass(frozen=True, slots=True)
class Restoring:
    """One backup on its way into the database `target`."""

    target: Target
    file: Path
    at: datetime

    def unpacked(self) -> gzip.GzipFile:
        return gzip.open(self.file, "rb")

    def prepared(self, new: Target) -> tuple[Identity, Sequence[str]]:
        """`new` holds the backup at this program's schema, without leases, and with buying paused.

        Raises ConfigError when it is not the program's, belongs to a newer one, or must not
        overwrite what `target` holds.
        """
        with opened(new) as connection:
            identity = identify(connection)
        if identity is None:
            raise ConfigError(f"{self.file} was not made by `dca db backup`: its tables are missing")
        _same_installation(self.target, identity)
        url = new.url.render_as_string(hide_password=False)
        try:
            applied = upgrade(url)
        except ConfigError as error:
            raise ConfigError(
                f"{self.file} is at schema {identity.revision}, which this program does not know: "
                "install the version of the program that made it"
            ) from error
        self._mark(url)
        with opened(new, writing=True) as connection:
            connection.execute(update(leases).values(holder=""))
            connection.commit()
        return identity, applied

    def _mark(self, url: str) -> None:
        why = f"restored from {self.file.name}: compare it with the venue, then resume"

        def work(tx: Tx) -> None:
            tx.put_mode(Restriction(source="restore", mode=Mode.REDUCE_ONLY, reason=why, since=self.at))
            tx.add_event(Event(name="database_restored", at=self.at, reason=why))

        with closing(SqlStore(url)) as store:
            store.write(work)


def begun(url: str, file: Path, at: datetime, alive: Alive) -> Restoring:
    """The file is a whole backup of this kind of database, and nobody works with that.

    Raises ConfigError otherwise.
    """
    target = parse(url)
    of_sqlite = _is_of_sqlite(file)
    if of_sqlite is not target.sqlite:
        kinds = ("MySQL or MariaDB", "SQLite")
        raise ConfigError(
            f"{file} is a backup of {kinds[of_sqlite]}; DATABASE_URL names {kinds[target.sqlite]}"
        )
    for name, holder in looked(target, lambda connection: _held(connection, at)) or []:
        if alive(holder):
            raise ConfigError(f"{name} is run by {holder}: stop it first (`dca stop`), or wait for its end")
    return Restoring(target, file, at)


def _is_of_sqlite(file: Path) -> bool:
    try:
        with gzip.open(file, "rb") as packed:
            begins = packed.read(len(SQLITE_BEGINS))
        if not begins.startswith((SQLITE_BEGINS, SQL_BEGINS)):
            raise ConfigError(f"{file} was not made by `dca db backup`")
        if not whole(file):
            raise ConfigError(f"{file} is damaged: use another backup")
    except DAMAGED as error:
        raise ConfigError(f"{file} is damaged, or was not made by `dca db backup`") from error
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    return begins == SQLITE_BEGINS


def looked(target: Target, look: Callable[[Connection], T]) -> T | None:
    """What `look` finds in the present database; None when there is none, or a damaged file."""
    if target.sqlite and not target.path.exists():
        return None
    try:
        with opened(target) as connection:
            return look(connection)
    except StoreUnavailable:
        if target.sqlite:
            return None
        raise
    except ConfigError as error:
        origin = error.__cause__
        if isinstance(origin, DBAPIError) and getattr(origin.orig, "errno", None) == mysql.NO_DATABASE:
            return None
        raise


def _held(connection: Connection, at: datetime) -> list[tuple[str, str]]:
    """Leases that somebody holds, with their holders."""
    if not inspect(connection).has_table(leases.name):
        return []
    running = select(leases.c.name, leases.c.holder).where(leases.c.holder != "", leases.c.expires_at > at)
    return [(name, holder) for name, holder in connection.execute(running)]


def _same_installation(target: Target, identity: Identity) -> None:
    """Raises ConfigError when another installation's assets would be overwritten."""
    found = looked(target, lambda connection: (identify(connection), _has_assets(connection)))
    if found is None or found[0] is None or not found[1] or found[0].install == identity.install:
        return
    raise ConfigError(
        f"the backup is of installation {identity.install}, {target} is {found[0].install}: "
        "to use it, name a new database in DATABASE_URL"
    )


def _has_assets(connection: Connection) -> bool:
    if not inspect(connection).has_table(assets.name):
        return False
    return connection.execute(select(assets.c.id).limit(1)).first() is not None
