"""Column types that give back exactly what was written, on SQLite and on MySQL alike.

SQLAlchemy's own `Numeric` goes through a float on SQLite and `DateTime` forgets the zone.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

from sqlalchemy import BigInteger, Dialect, Integer, String, Text
from sqlalchemy.dialects.mysql import DATETIME, DECIMAL, LONGTEXT
from sqlalchemy.types import TypeDecorator, TypeEngine

from dca.domain.money import plain

WHOLE_DIGITS = 18
SCALE = 18
SQLITE = "sqlite"
NOT_A_NUMBER = Decimal("NaN")


@lru_cache(maxsize=4096, typed=True)
def exact_text(value: object) -> str:
    """`value` in plain digits, the same text for equal amounts.

    Amounts that a DECIMAL(36,18) cannot hold are refused, never rounded: whoever divides decides
    how many digits matter and quantizes. Raises ValueError for those and for all but Decimals.
    """
    if not isinstance(value, Decimal) or not value.is_finite():
        raise ValueError(f"not an exact amount: {value!r}")
    # An exponent of a million would be a million digits of text.
    if not -SCALE <= value.adjusted() < WHOLE_DIGITS and value != 0:
        raise ValueError(f"out of range for a DECIMAL(36,18): {value!r}")
    text = plain(value)
    if len(text.partition(".")[2]) > SCALE:
        raise ValueError(f"more than {SCALE} decimals, quantize first: {value!r}")
    return text


def utc(value: object) -> datetime:
    """`value` in UTC. Raises ValueError unless it is an aware datetime."""
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise ValueError(f"not an instant with a time zone: {value!r}")
    return value.astimezone(UTC)


def json_text(value: object) -> str:
    """`value` as JSON. Raises ValueError for what JSON cannot say (NaN and Decimal included)."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except TypeError as error:
        raise ValueError(str(error)) from error


class Exact(TypeDecorator[Decimal]):
    """Exact amounts: plain text on SQLite, DECIMAL(36,18) elsewhere.

    Do not add, compare by size or sort in SQL: on SQLite '9.5' > '10'. Equality is safe. Text that is
    no amount reads as NaN, which nobody can write back.
    """

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == SQLITE:
            return dialect.type_descriptor(Text())
        return dialect.type_descriptor(DECIMAL(WHOLE_DIGITS + SCALE, SCALE))

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        # Text on MySQL too: the driver writes a Decimal as 1.2E-7, which the server reads as a double.
        return None if value is None else exact_text(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        return None if value is None else _amount(value)


class Utc(TypeDecorator[datetime]):
    """Instants in UTC with microseconds: text of fixed width (it sorts) on SQLite, else DATETIME(6)."""

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == SQLITE:
            return dialect.type_descriptor(Text())
        return dialect.type_descriptor(DATETIME(fsp=6))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        instant = utc(value)
        if dialect.name == SQLITE:
            return instant.isoformat(timespec="microseconds")
        return instant.replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return None if value is None else _instant(value)


class Json(TypeDecorator[dict[str, Any]]):
    """JSON kept as text, so that both dialects give back the same."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Text() if dialect.name == SQLITE else LONGTEXT())

    def process_bind_param(self, value: dict[str, Any] | None, dialect: Dialect) -> Any:
        return None if value is None else json_text(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> dict[str, Any] | None:
        return None if value is None else json.loads(value)


@lru_cache(maxsize=4096)
def _amount(value: Any) -> Decimal:
    if not isinstance(value, str):
        return Decimal(plain(value))
    try:
        return Decimal(value)
    except InvalidOperation:
        # Somebody wrote it by hand: this row must not keep all others from being read.
        return NOT_A_NUMBER


@lru_cache(maxsize=4096)
def _instant(value: Any) -> datetime:
    return datetime.fromisoformat(value) if isinstance(value, str) else value.replace(tzinfo=UTC)


TURNS: Mapping[type, Callable[[Any], Any]] = {Exact: _amount, Utc: _instant, Json: json.loads}
"""What the columns of each type are turned into when they are read and not NULL."""

LongText = Text().with_variant(LONGTEXT(), "mysql", "mariadb")
"""Text from outside, of any length: a TEXT of 64 KiB would make a long refusal fail its transaction."""

Id = BigInteger().with_variant(Integer(), SQLITE)
"""Row numbers. SQLite counts by itself only in columns that are called INTEGER."""
