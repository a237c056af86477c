"""A backup put in the place of the tables of a MySQL or MariaDB database."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mysql.connector.errors import Error
from sqlalchemy import Connection, delete, func, select, text

from dca.adapters.db import dump, mysql
from dca.adapters.db.backup import BackupFolder, identify, opened
from dca.adapters.db.migrate import LONGEST_STEP_S, upgrade
from dca.adapters.db.restore import SKIPPED_CYCLES, Restored, Restoring, looked
from dca.adapters.db.tables import cycles, metadata
from dca.adapters.db.target import Target
from dca.domain.errors import ConfigError, StoreUnavailable

_COUNTER = re.compile(r"AUTO_INCREMENT=(\d+)")
_NOT_ALLOWED = frozenset({1044, 1142, 1227})
"""The user may not do this: with databases, with tables, without a privilege."""


def restore(restoring: Restoring, backups: Path) -> Restored:
    """The tables hold the backup; what was in them is a new backup in `backups`.

    The backup is first loaded into a database beside, then copied in one transaction. Raises
    ConfigError, Unmended, StoreUnavailable; then nothing has changed.
    """
    target = restoring.target
    url = target.url.render_as_string(hide_password=False)
    dump.program(dump.CLIENTS)
    with _beside(target) as new:
        with restoring.unpacked() as packed:
            dump.load(new.url, packed)
        identity, applied = restoring.prepared(new)
        kept = _kept(target, url, restoring, backups)
        upgrade(url)
        with opened(target, writing=True, network_timeout_s=LONGEST_STEP_S) as connection:
            _skip_cycles(connection, new)
            _overwrite(connection, new)
    return Restored(identity.install, applied, kept)


@contextmanager
def _beside(target: Target) -> Iterator[Target]:
    """An empty database on the same server, gone afterwards. What a killed process left is cleared."""
    new = Target(target.url.set(database=f"{target.url.database}_restoring"))
    name = str(new.url.database).replace("`", "``")
    try:
        with mysql.serving(target.url) as cursor:
            _refuse_strangers(cursor, str(new.url.database))
            cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")
            cursor.execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
        try:
            yield new
        finally:
            with mysql.serving(target.url) as cursor:
                cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")
    except Error as error:
        if error.errno not in _NOT_ALLOWED:
            raise StoreUnavailable(f"{new}: {error}") from error
        raise ConfigError(
            f"restoring needs the database `{name}` for a moment, which the user may not create: as the "
            f"server's administrator, GRANT ALL ON `{name}`.* TO the user of DATABASE_URL"
        ) from error


def _refuse_strangers(cursor: Any, name: str) -> None:
    cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = %s", (name,))
    if not all(str(found[0]).startswith("dca_") for found in cursor.fetchall()):
        raise ConfigError(f"the database {name} is needed for a moment, and holds tables of yours")


def _kept(target: Target, url: str, restoring: Restoring, backups: Path) -> Path | None:
    """A backup of what is there; None when nothing is."""
    if looked(target, identify) is None:
        return None
    return backups / BackupFolder(url, backups).make(restoring.at).name


def _skip_cycles(connection: Connection, new: Target) -> None:
    """The counter only ever goes up, so this may happen without the rest."""
    with opened(new) as other:
        last = other.execute(select(func.max(cycles.c.id))).scalar() or 0
    shown = connection.exec_driver_sql(f"SHOW CREATE TABLE {cycles.name}").first()
    counter = _COUNTER.search(str(shown[1])) if shown else None
    wanted = last + SKIPPED_CYCLES + 1
    if counter is None or int(counter[1]) < wanted:
        connection.exec_driver_sql(f"ALTER TABLE {cycles.name} AUTO_INCREMENT = {wanted}")


def _overwrite(connection: Connection, new: Target) -> None:
    """Every table holds the rows of its namesake, all in one transaction."""
    name = str(new.url.database).replace("`", "``")
    connection.execute(text("SET SESSION foreign_key_checks = 0"))
    for table in metadata.sorted_tables:
        columns = ", ".join(f"`{column.name}`" for column in table.columns)
        connection.execute(delete(table))
        connection.exec_driver_sql(
            f"INSERT INTO {table.name} ({columns}) SELECT {columns} FROM `{name}`.{table.name}"  # noqa: S608
        )
    connection.commit()
