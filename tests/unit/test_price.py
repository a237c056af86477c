"""Whether a quote follows from the one before it, or from an independent witness."""

from datetime import timedelta

import pytest
from build import at, quote

from dca.risk.price import agrees, follows

AGE = timedelta(seconds=60)


@pytest.mark.parametrize(
    ("bid", "ask", "holds"),
    [
        ("10000", "10010", True),
        ("10500", "10510", True),
        ("10500.01", "10510", False),
        ("9500", "9510", True),
        ("9499", "9510", False),
        ("10000", "10511", False),
        ("100000", "100100", False),
    ],
)
def test_both_sides_must_be_near(bid: str, ask: str, holds: bool) -> None:
    assert agrees(quote(bid, ask), quote("10000", "10010")) is holds


def test_a_quote_follows_only_from_a_recent_one() -> None:
    now = quote("10000", "10010", seconds=100)
    assert follows(now, quote("10000", "10010", seconds=40), at(100), AGE)
    assert not follows(now, quote("10000", "10010", seconds=39), at(100), AGE)
    assert not follows(now, None, at(100), AGE)
