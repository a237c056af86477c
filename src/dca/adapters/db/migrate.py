"""Brings a database to the newest schema, and says where one is."""

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.util.exc import CommandError
from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import DBAPIError

from dca.adapters.clock import SystemClock
from dca.adapters.db.faults import Fault, fault_of, said
from dca.adapters.db.mysql import NO_DATABASE
from dca.adapters.db.tables import VERSION_TABLE, install
from dca.adapters.db.target import Target, parse
from dca.domain.errors import ConfigError, StoreError, StoreUnavailable

SCRIPTS = Path(__file__).parent / "migrations"
WAIT_S = 60
"""For another `upgrade` of the same database, or a writer."""
LONGEST_STEP_S = 3600
"""A network timeout would cut an ALTER TABLE of a large table in two."""

_LOCK = "dca_upgrade"
_ONE_AT_A_TIME = threading.Lock()
"""Alembic keeps what it migrates in globals: threads of one process would migrate each other's database."""


def upgrade(url: str, *, at: datetime | None = None) -> list[str]:
    """The database exists and is at the newest revision; the names of those that were applied.

    `at` is when the installation was born, if this creates it (None: now). Raises ConfigError,
    StoreUnavailable, StoreError.
    """
    target = parse(url)
    applied: list[str] = []
    try:
        with connected(target, create=True) as connection:
            with _ONE_AT_A_TIME:
                command.upgrade(_config(connection, applied), "head")
            _name_install(connection, at or SystemClock().now())
            connection.commit()
    except DBAPIError as error:
        raise translated(target, error) from error
    except CommandError as error:
        raise ConfigError(f"{target}: {error}: it belongs to a newer version of this program") from error
    except OSError as error:
        raise ConfigError(f"DATABASE_URL: {target} cannot be created: {error.strerror}") from error
    return applied


def current(url: str) -> str | None:
    """The revision of the database; None when it has none. Raises as `upgrade`."""
    target = parse(url)
    if target.sqlite and not target.path.exists():
        return None
    try:
        with connected(target, create=False) as connection:
            context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
            return context.get_current_revision()
    except DBAPIError as error:
        if getattr(error.orig, "errno", None) == NO_DATABASE:
            return None
        raise translated(target, error) from error


@contextmanager
def connected(target: Target, *, create: bool) -> Iterator[Connection]:
    """A connection inside a transaction that nobody else can write beside."""

    def connect() -> Any:
        if create:
            target.create()
        return target.connect(writing=create, lock_timeout_s=WAIT_S, network_timeout_s=LONGEST_STEP_S)

    engine = target.engine(connect, writing=create)
    try:
        with engine.connect() as connection:
            if target.sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE" if create else "BEGIN")
            elif create:
                _lock(connection)
            yield connection
    finally:
        engine.dispose()


def _lock(connection: Connection) -> None:
    """No other `upgrade` of this server runs until the connection closes.

    It only spares a second one the errors of a race; that each step may run twice is what counts.
    """
    if connection.exec_driver_sql("SELECT GET_LOCK(%s, %s)", (_LOCK, WAIT_S)).scalar() != 1:
        raise StoreUnavailable("another `dca db upgrade` is running")


def _config(connection: Connection, applied: list[str]) -> Config:
    def on_version_apply(*, step: Any, **_: Any) -> None:
        applied.append(step.up_revision_id)

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    config.attributes["on_version_apply"] = on_version_apply
    return config


def _name_install(connection: Connection, at: datetime) -> None:
    """The database has the number that is part of every key placed from it. It is never changed."""
    if connection.execute(select(install.c.id)).first() is None:
        connection.execute(insert(install).values(id=1, nonce=secrets.token_hex(4), created_at=at))


def translated(target: Target, error: DBAPIError) -> ConfigError | StoreError:
    """What the driver raised, sorted by what the caller must do."""
    fault = fault_of(error)
    if fault is Fault.REFUSED:
        return ConfigError(f"DATABASE_URL: {said(error)}")
    if fault is Fault.BROKEN:
        return StoreError(f"{target}: {said(error)}")
    return StoreUnavailable(f"{target}: {said(error)}")
