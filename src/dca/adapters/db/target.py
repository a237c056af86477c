"""Where the database is: what people write into DATABASE_URL, understood or refused."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError

from dca.adapters.db import mysql, sqlite
from dca.adapters.db.types import SQLITE
from dca.domain.errors import ConfigError

_MYSQL = frozenset({"mysql", "mariadb"})
_DRIVERS = frozenset({"", "pysqlite", "mysqlconnector"})
_FORMS = "sqlite:///path or mysql://user:password@host:3306/database"


@dataclass(frozen=True)
class Target:
    """A database that can be connected to. Its text never shows the password."""

    url: URL

    @property
    def sqlite(self) -> bool:
        return self.url.get_backend_name() == SQLITE

    @property
    def path(self) -> Path:
        return Path(str(self.url.database))

    def __str__(self) -> str:
        if self.sqlite:
            return str(self.path)
        url = self.url
        return f"{url.username}@{url.host or mysql.HOST}:{url.port or mysql.PORT}/{url.database}"

    def connect(
        self,
        *,
        writing: bool,
        lock_timeout_s: int,
        network_timeout_s: int = mysql.NETWORK_TIMEOUT_S,
    ) -> Any:
        """A new connection of the driver."""
        if self.sqlite:
            return sqlite.connect(self.path, writing=writing, lock_timeout_s=lock_timeout_s)
        return mysql.connect(
            self.url,
            access=mysql.WRITER if writing else mysql.READER,
            lock_timeout_s=lock_timeout_s,
            network_timeout_s=network_timeout_s,
        )

    def engine(self, creator: Any, *, writing: bool) -> Engine:
        """A pool of what `creator` connects."""
        if self.sqlite:
            return sqlite.engine(creator, writing=writing)
        return mysql.engine(creator)

    def create(self) -> None:
        """The file or the database exists, without tables."""
        if self.sqlite:
            sqlite.create_file(self.path)
        else:
            mysql.create_database(self.url)


def parse(text: str) -> Target:
    """The database that `text` names. Raises ConfigError, which never quotes `text`."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ConfigError(f"DATABASE_URL must look like {_FORMS}") from None
    backend, _, driver = url.drivername.partition("+")
    if driver not in _DRIVERS or backend not in {SQLITE, *_MYSQL}:
        raise ConfigError(f"DATABASE_URL: {url.drivername}:// is not supported, use {_FORMS}")
    if not url.database or url.database == ":memory:":
        raise ConfigError(
            f"DATABASE_URL names no {'file' if backend == SQLITE else 'database'}: use {_FORMS}"
        )
    if backend == SQLITE:
        return Target(URL.create(SQLITE, database=str(Path(url.database).expanduser().absolute())))
    unknown = sorted(set(url.query) - mysql.OPTIONS)
    if unknown:
        raise ConfigError(f"DATABASE_URL: unknown option {', '.join(unknown)}")
    if not url.username:
        raise ConfigError(f"DATABASE_URL names no user: use {_FORMS}")
    return Target(url.set(drivername="mysql+mysqlconnector"))
