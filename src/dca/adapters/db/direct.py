"""Statements on the driver itself: each is compiled once, and its values go the shortest way.

SQLAlchemy builds the statements, knows the dialects and keeps the connections. What it does for every
single execution takes longer than SQLite needs for the answer, and an order waits for half a dozen of
them; this leaves that out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ClauseElement, Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

from dca.adapters.db.types import TURNS

Values = Mapping[str, Any]
Turn = Callable[[Any], Any]
MOST_PLANS = 500


@dataclass(frozen=True, slots=True)
class _Plan:
    """A statement in SQL: where each parameter comes from, and what its columns are turned into."""

    statement: ClauseElement
    sql: str
    asked: Sequence[tuple[str | None, Any]]
    """The name of a value and how it is stored; or None and what always stands there."""
    shown: Sequence[tuple[int, Turn]]

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


def _turn(kind: TypeEngine[Any], dialect: Dialect) -> Turn | None:
    for own, turn in TURNS.items():
        if isinstance(kind, own):
            return turn
    return kind.dialect_impl(dialect).result_processor(dialect, None)


def _plan(statement: ClauseElement, values: Values, dialect: Dialect) -> _Plan:
    compiled = statement.compile(dialect=dialect, column_keys=list(values))
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
    turns = [_turn(column.type, dialect) for column in compiled._result_columns]
    return _Plan(statement, state.statement, asked, [(n, t) for n, t in enumerate(turns) if t is not None])


_plans: dict[tuple[int, str, tuple[str, ...]], _Plan] = {}
_NOTHING: Values = {}


def _planned(statement: ClauseElement, values: Values, dialect: Dialect) -> _Plan:
    # The plan keeps its statement, so no other one gets its number while it is remembered.
    key = (id(statement), dialect.name, tuple(values))
    plan = _plans.get(key)
    if plan is None:
        plan = _plan(statement, values, dialect)
        # A list of values has as many parameters as it has members, another time others.
        if not any(isinstance(one, list | tuple) for one in values.values()):
            if len(_plans) >= MOST_PLANS:
                _plans.clear()
            _plans[key] = plan
    return plan


class Result:
    """What a statement came to."""

    __slots__ = ("_plan", "_rows", "lastrowid", "rowcount")

    def __init__(self, cursor: Any, rows: Sequence[Sequence[Any]], plan: _Plan) -> None:
        self._plan = plan
        self._rows = rows
        self.rowcount: int = cursor.rowcount
        self.lastrowid: int | None = cursor.lastrowid

    def all(self) -> list[Sequence[Any]]:
        return [self._plan.read(row) for row in self._rows]

    def first(self) -> Sequence[Any] | None:
        return self._plan.read(self._rows[0]) if self._rows else None

    def scalar(self) -> Any:
        row = self.first()
        return None if row is None else row[0]


class Direct:
    """A connection of the driver, as SqlTx uses it. Whoever made it begins and ends the transaction."""

    __slots__ = ("_driver", "dialect", "raw")

    def __init__(self, raw: Any, dialect: Dialect) -> None:
        self.raw = raw
        self.dialect = dialect
        self._driver: Any = dialect.dbapi

    def execute(self, statement: ClauseElement, values: Values | list[dict[str, Any]] = _NOTHING) -> Result:
        """Raises DBAPIError as SQLAlchemy would, ValueError for a value that its column refuses."""
        many: Sequence[Values] = values if isinstance(values, list) else [values]
        plan = _planned(statement, many[0], self.dialect)
        for one in many:
            cursor, rows = self.run(plan.sql, plan.stored(one))
        return Result(cursor, rows, plan)

    def run(self, sql: str, values: Sequence[Any] = ()) -> tuple[Any, Sequence[Sequence[Any]]]:
        """The driver's cursor after a statement that is SQL already, and its rows. Raises DBAPIError."""
        cursor = self.raw.cursor()
        try:
            cursor.execute(sql, values)
            return cursor, cursor.fetchall() if cursor.description is not None else ()
        except self._driver.Error as error:
            lost = self.dialect.is_disconnect(error, self.raw, cursor)
            raise DBAPIError.instance(
                sql, None, error, self._driver.Error, hide_parameters=True, connection_invalidated=lost
            ) from error
