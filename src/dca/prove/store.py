"""The database of a life: a SQLite file and the program's own statements, without what threads need."""

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import Boolean, ClauseElement, Connection
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

from dca import boundaries
from dca.adapters.db import sqlite
from dca.adapters.db.tx import SqlTx
from dca.adapters.db.types import Exact, Json, Utc
from dca.ports import Tx

T = TypeVar("T")
Values = Mapping[str, Any]
Processor = Callable[[Any], Any] | None
DIALECT = SQLiteDialect_pysqlite(paramstyle="qmark")
TURNS: Mapping[type, Callable[[Any], Any]] = {
    Exact: Decimal,
    Utc: datetime.fromisoformat,
    Json: json.loads,
    Boolean: bool,
}
"""The types of the columns, without the calls between SQLAlchemy and them."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """A statement in SQL: where each `?` comes from, and what its columns are turned into."""

    statement: ClauseElement
    sql: str
    asked: Sequence[tuple[str | None, Any]]
    """The name of a value and how it is stored; or None and what always stands there."""
    shown: Sequence[tuple[int, Callable[[Any], Any]]]

    def stored(self, values: Values) -> list[Any]:
        return [
            how if name is None else (values[name] if how is None else how(values[name]))
            for name, how in self.asked
        ]

    def read(self, row: Sequence[Any]) -> Sequence[Any]:
        seen = list(row)
        for place, turn in self.shown:
            value = seen[place]
            if value is not None:
                seen[place] = turn(value)
        return seen


def _turn(kind: TypeEngine[Any]) -> Processor:
    """What a text or number of that type is turned into; nobody wrote past the program in a life."""
    for own, turn in TURNS.items():
        if isinstance(kind, own):
            return turn
    return kind.dialect_impl(DIALECT).result_processor(DIALECT, None)


def _plan(statement: ClauseElement, values: Values) -> _Plan:
    compiled = statement.compile(dialect=DIALECT, column_keys=list(values))
    assert isinstance(compiled, SQLCompiler)
    state = compiled.construct_expanded_state(dict(values))
    processors: dict[str, Any] = {**compiled._bind_processors, **state.processors}
    asked: list[tuple[str | None, Any]] = []
    for name in state.positiontup or ():
        store = processors.get(name)
        if name in values:
            asked.append((name, store))
        else:
            always = state.parameters[name]
            asked.append((None, always if store is None else store(always)))
    turns = [_turn(column.type) for column in compiled._result_columns]
    return _Plan(statement, state.statement, asked, [(n, t) for n, t in enumerate(turns) if t is not None])


class _Result:
    """What SqlTx asks of a result of SQLAlchemy's."""

    __slots__ = ("_cursor", "_plan")

    def __init__(self, cursor: sqlite3.Cursor, plan: _Plan) -> None:
        self._cursor, self._plan = cursor, plan

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    @property
    def inserted_primary_key(self) -> tuple[int | None]:
        return (self._cursor.lastrowid,)

    def all(self) -> list[Sequence[Any]]:
        return [self._plan.read(row) for row in self._cursor.fetchall()]

    def first(self) -> Sequence[Any] | None:
        row = self._cursor.fetchone()
        self._cursor.close()
        return None if row is None else self._plan.read(row)

    def scalar(self) -> Any:
        row = self.first()
        return None if row is None else row[0]


_PLANS: dict[tuple[Any, ...], _Plan] = {}
MOST_PLANS = 500


class _Connection:
    """What SqlTx asks of a connection of SQLAlchemy's."""

    dialect = DIALECT

    def __init__(self, raw: sqlite3.Connection) -> None:
        self.raw = raw

    def execute(self, statement: ClauseElement, values: Values | Sequence[Values] = ()) -> _Result:
        many: Sequence[Values] = values if isinstance(values, list) else [cast(Values, values or {})]
        plan = self._planned(statement, many[0])
        try:
            cursor = self.raw.execute(plan.sql, plan.stored(many[0]))
            for more in many[1:]:
                cursor = self.raw.execute(plan.sql, plan.stored(more))
        except sqlite3.IntegrityError as error:
            raise IntegrityError(plan.sql, None, error) from error
        return _Result(cursor, plan)

    def _planned(self, statement: ClauseElement, values: Values) -> _Plan:
        # The plan keeps its statement, so no other one gets its number while it is remembered.
        key = (id(statement), *values)
        plan = _PLANS.get(key)
        if plan is None:
            plan = _plan(statement, values)
            if not any(isinstance(one, list | tuple) for one in values.values()):
                if len(_PLANS) >= MOST_PLANS:
                    _PLANS.clear()
                _PLANS[key] = plan
        return plan


class LifeStore:
    """dca.ports.Store on a SQLite file that nobody else has open.

    Units of work, boundaries and statements are those of SqlStore. Nothing else is: no pool, no
    thread, no second try, because a life has one thread and no other process can be in the way.
    """

    def __init__(self, path: Path) -> None:
        self._raw = sqlite.connect(path, writing=True, lock_timeout_s=1)
        # Deaths are simulated ones: the machine keeps its power, and nobody else looks into the file.
        for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = MEMORY", "synchronous = OFF"):
            self._raw.execute(f"PRAGMA {pragma}").fetchall()
        self._tx: Tx = SqlTx(cast(Connection, _Connection(self._raw)))
        (self.install,) = self._raw.execute("SELECT nonce FROM dca_install").fetchone()

    def read(self, work: Callable[[Tx], T]) -> T:
        # Nothing is committed meanwhile, so its statements see one state without a transaction.
        return work(self._tx)

    def write(self, work: Callable[[Tx], T]) -> T:
        raw = self._raw
        raw.execute("BEGIN IMMEDIATE")
        try:
            result = work(self._tx)
            boundaries.before(work)
            raw.execute("COMMIT")
        finally:
            if raw.in_transaction:
                raw.execute("ROLLBACK")
        boundaries.after(work)
        return result

    def close(self) -> None:
        self._raw.close()
