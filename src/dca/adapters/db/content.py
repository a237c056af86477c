"""Everything that is in a database, taken out and put back: for campaigns that begin often at one place."""

from typing import Any

from sqlalchemy import insert, select

from dca.adapters.db.store import LOCK_TIMEOUT_S
from dca.adapters.db.tables import metadata
from dca.adapters.db.target import parse

Content = dict[str, list[dict[str, Any]]]


class Shelf:
    """A database at the newest schema that nobody else uses while something is taken out or put back."""

    def __init__(self, url: str) -> None:
        self._target = parse(url)
        self._engine = self._target.engine(self._connect, writing=True)

    def _connect(self) -> Any:
        return self._target.connect(writing=True, lock_timeout_s=LOCK_TIMEOUT_S)

    def taken(self) -> Content:
        """Every row of every table."""
        with self._engine.connect() as connection:
            return {
                table.name: [dict(row._mapping) for row in connection.execute(select(table))]
                for table in metadata.sorted_tables
            }

    def put(self, content: Content) -> None:
        """The database holds `content` and nothing else."""
        with self._engine.connect() as connection:
            if self._target.sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            for table in reversed(metadata.sorted_tables):
                connection.execute(table.delete())
            for table in metadata.sorted_tables:
                if content[table.name]:
                    connection.execute(insert(table), content[table.name])
            connection.commit()

    def close(self) -> None:
        self._engine.dispose()
