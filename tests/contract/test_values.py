"""Amounts and instants come back as they went in, whatever they are."""

from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from contract.rows import NOW, given_asset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dca.adapters.db.store import SqlStore
from dca.adapters.db.types import SCALE, WHOLE_DIGITS, exact_text
from dca.domain.asset import Asset, Rules
from dca.domain.record import Event

AMOUNT_FIELDS = [field.name for field in fields(Rules) if field.type in (Decimal, Decimal | None)]


def spelled(sign: int, whole: int, fraction: int, exponent: int) -> Decimal:
    """An amount of up to 18 + 18 digits, spelled with or without an exponent."""
    value = Decimal((sign, tuple(map(int, f"{whole:d}{fraction:0{SCALE}d}")), -SCALE))
    digits = value.as_tuple().digits
    if exponent and not any(digits[-exponent:]):
        return Decimal((sign, digits[:-exponent], -SCALE + exponent))
    return value


amounts = st.builds(
    spelled,
    st.integers(0, 1),
    st.integers(0, 10**WHOLE_DIGITS - 1) | st.integers(0, 9),
    st.integers(0, 10**SCALE - 1) | st.sampled_from([0, 1, 10**9, 10**17]),
    st.integers(0, SCALE),
)
instants = st.datetimes(
    datetime(1000, 1, 2),
    datetime(9999, 12, 30),
    timezones=st.builds(lambda minutes: timezone(timedelta(minutes=minutes)), st.integers(-14 * 60, 14 * 60)),
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)

many = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def asset(store: SqlStore) -> Iterator[list[Asset]]:
    """The asset at its newest version, in a box."""
    yield [given_asset(store)]


@many
@given(values=st.lists(amounts, min_size=len(AMOUNT_FIELDS), max_size=len(AMOUNT_FIELDS)))
def test_an_amount_comes_back_exactly(store: SqlStore, asset: list[Asset], values: list[Decimal]) -> None:
    rules = replace(asset[0].rules, **dict(zip(AMOUNT_FIELDS, values, strict=True)))
    asset[0] = store.write(lambda tx: tx.update_asset(replace(asset[0], rules=rules)))
    found = store.read(lambda tx: tx.assets())[0].rules
    assert found == rules
    seen = [str(getattr(found, name)) for name in AMOUNT_FIELDS]
    assert seen == [str(Decimal(exact_text(value))) for value in values], "and both dialects spell it alike"


@many
@given(at=instants, text=texts)
def test_instants_and_texts_come_back_exactly(store: SqlStore, at: datetime, text: str) -> None:
    event = Event(name="a", at=at, reason=text, data={text[:5]: text})
    store.write(lambda tx: tx.add_event(event))
    found = store.read(lambda tx: tx.events(limit=1))[0]
    assert found == event
    assert found.at.tzinfo is UTC


@given(value=amounts)
def test_equal_amounts_have_one_spelling(value: Decimal) -> None:
    text = exact_text(value)
    assert Decimal(text) == value
    assert "E" not in text
    assert exact_text(Decimal(text)) == text
    assert not ("." in text and text.endswith("0"))


@given(value=amounts, digit=st.integers(1, 9))
def test_a_digit_more_than_the_column_has_is_refused(value: Decimal, digit: int) -> None:
    with pytest.raises(ValueError):
        exact_text(Decimal(f"{value:.{SCALE}f}{digit}"))


def test_a_division_must_be_quantized_by_whoever_divides() -> None:
    with pytest.raises(ValueError, match="quantize"):
        exact_text(Decimal(1) / 3)
    assert exact_text((Decimal(1) / 3).quantize(Decimal("1e-12"))) == "0.333333333333"


def test_now_is_to_the_microsecond() -> None:
    assert NOW.microsecond % 1000, "or the tests above would show nothing"
