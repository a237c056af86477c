"""Frames of quotes: the newest of each symbol, and one bad item never costs another."""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal as D
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dca.adapters.venues.alpaca.quotes import QuoteDecoder
from dca.domain.market import Quote

AT = datetime(2026, 9, 26, 22, 30, 0, 123_456, tzinfo=UTC)
NS = 1_790_461_800_123_456_789


def item(symbol: str = "BTC/USD", bid: Any = 84010.1, ask: Any = 84030.2, **changes: Any) -> dict[str, Any]:
    stamp = msgpack.Timestamp.from_unix_nano(NS)
    return {"T": "q", "S": symbol, "bp": bid, "bs": 0.5, "ap": ask, "as": 0.4, "t": stamp, **changes}


def decoder(on_notice: Callable[[Any], None] = lambda item: None) -> QuoteDecoder:
    return QuoteDecoder(["BTC/USD", "ETH/USD", "SOL/USD"], on_notice)


def newest(*items: Any, of: QuoteDecoder | None = None) -> list[Quote]:
    return (of or decoder()).newest(msgpack.packb(list(items)))


def test_a_quote_is_exact_and_its_time_is_in_utc() -> None:
    [seen] = newest(item())
    assert seen == Quote("BTC/USD", D("84010.1"), D("84030.2"), AT)
    assert type(seen) is Quote
    assert (str(seen.bid), str(seen.ask)) == ("84010.1", "84030.2")
    assert seen.at.tzinfo is UTC


def test_only_the_newest_of_each_symbol_is_handed_on() -> None:
    seen = newest(item(bid=1.0), item("ETH/USD", 5.0, 6.0), item(bid=2.0), item(bid=3.0))
    assert {quote.symbol: quote.bid for quote in seen} == {"BTC/USD": D(3), "ETH/USD": D(5)}
    assert len(seen) == 2


def test_what_was_decoded_before_does_not_leak_into_the_next_quote() -> None:
    own = decoder()
    for bid, ask in [(1.5, 2.5), (1.5, 3.5), (1.25, 3.5), (1.5, 2.5)]:
        [seen] = newest(item(bid=bid, ask=ask), of=own)
        assert (seen.bid, seen.ask) == (D(repr(bid)), D(repr(ask)))


POISON: list[Any] = [
    item(bid=0.0),
    item(bid=-1.0),
    item(ask=-1.0),
    item(bid=84031.0),
    item(bid=math.nan),
    item(ask=math.nan),
    item(ask=math.inf),
    item(bid=1e308, ask=1e308),
    item(bid="84010.1"),
    item(bid=None),
    item(bid=True, ask=True),
    item(bid=[1]),
    item(t="2026-09-26T22:30:00Z"),
    item(t=17),
    item(t=None),
    item(t=msgpack.Timestamp(2**60, 0)),
    item("DOGE/USD"),
    item("BTCUSD"),
    item(b"\xff\xfe"),
    item(["BTC/USD"]),
    {"T": "q"},
    {"T": "q", "S": "BTC/USD"},
    {},
    {7: "q"},
    [],
    "q",
    None,
    7,
    msgpack.ExtType(9, b"x"),
]


@pytest.mark.parametrize("poison", POISON, ids=repr)
def test_a_bad_item_is_dropped_and_counted_alone(poison: Any) -> None:
    own = decoder()
    seen = newest(item(bid=1.0), item("ETH/USD"), poison, item("SOL/USD"), of=own)
    assert {quote.symbol for quote in seen} == {"BTC/USD", "ETH/USD", "SOL/USD"}
    assert (own.dropped.count, own.malformed.count) == (1, 0)
    assert len(newest(item(), of=own)) == 1


def test_the_newest_that_can_be_used_stands_in_for_a_bad_newer_one() -> None:
    seen = newest(item(bid=1.0), item(bid=2.0), item(bid=math.nan))
    assert [quote.bid for quote in seen] == [D(2)]


MALFORMED = [
    b"",
    b"\x93",
    b"\xc1",
    b"not msgpack at all",
    msgpack.packb({"T": "q"}),
    msgpack.packb(7),
    msgpack.packb([item()]) + b"\x00",
    msgpack.packb([item()])[:-3],
    b"\x91" * 5000,
    b"\xdd\xff\xff\xff\xff",
]


@pytest.mark.parametrize("frame", MALFORMED, ids=lambda frame: repr(frame[:12]))
def test_a_frame_that_cannot_be_read_is_counted_and_costs_nothing_else(frame: bytes) -> None:
    own = decoder()
    assert own.newest(frame) == []
    assert (own.dropped.count, own.malformed.count) == (0, 1)
    assert len(newest(item(), of=own)) == 1


@given(st.binary(max_size=200))
def test_no_frame_whatever_raises(frame: bytes) -> None:
    own = decoder()
    assert all(isinstance(quote, Quote) for quote in own.newest(frame))


def test_what_is_no_quote_is_passed_on_as_text() -> None:
    heard: list[Any] = []
    error = {"T": "error", "code": 406, "msg": "connection limit exceeded"}
    seen = newest(item(), error, {"T": "x"}, of=decoder(heard.append))
    assert len(seen) == 1
    assert heard == [error, {"T": "x"}]


prices = st.one_of(
    st.floats(), st.integers(), st.sampled_from([0.0, -0.0, 1.0, 1, 84010.1, math.nan]), st.text(max_size=3)
)
items = st.builds(item, st.sampled_from(["BTC/USD", "ETH/USD", "XXX/USD"]), prices, prices)


def plainly(frame: list[dict[str, Any]]) -> dict[str, Quote]:
    """The same rule, written without a thought for speed."""
    newest: dict[str, Quote] = {}
    for found in frame:
        bid, ask = found["bp"], found["ap"]
        numbers = all(type(price) in (int, float) and math.isfinite(price) for price in (bid, ask))
        if found["S"] != "XXX/USD" and numbers and 0 < bid <= ask < 1e15:
            newest[found["S"]] = Quote(found["S"], D(repr(bid)), D(repr(ask)), AT)
    return newest


@given(st.lists(st.lists(items.filter(lambda found: _packs(found)), max_size=6), max_size=4))
def test_it_means_what_the_plain_rule_means(frames: list[list[dict[str, Any]]]) -> None:
    own = decoder()
    for frame in frames:
        assert {quote.symbol: quote for quote in newest(*frame, of=own)} == plainly(frame)


def _packs(found: dict[str, Any]) -> bool:
    return all(
        not isinstance(price, int) or -(2**63) <= price < 2**64 for price in (found["bp"], found["ap"])
    )
