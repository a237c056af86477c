"""Steps of a migration that may run twice.

MariaDB and MySQL commit each DDL statement at once, so a migration that is killed leaves what it had
done; the next run must pass over that and finish.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

OPTIONS: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_bin",
    "sqlite_autoincrement": True,
}
"""What every table is made with; it must never change, because old migrations use it."""


def create_table(name: str, *parts: Any, **options: Any) -> None:
    """The table exists. It was made whole or not at all, by one statement."""
    if not sa.inspect(op.get_bind()).has_table(name):
        op.create_table(name, *parts, **options)


def create_index(table: str, *columns: str, unique: bool = False) -> None:
    """The index on `columns` exists, under the name that the naming convention gives it."""
    name = f"ix_{table}_{'_'.join(columns)}"
    if name not in {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}:
        op.create_index(name, table, list(columns), unique=unique)


def add_column(table: str, column: sa.Column[Any]) -> None:
    """The column exists."""
    if column.name not in {found["name"] for found in sa.inspect(op.get_bind()).get_columns(table)}:
        op.add_column(table, column)
