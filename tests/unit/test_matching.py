"""Matching: which orders a quote executes, at which price, for which fee."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal as D

import pytest

from dca.domain.market import Quote
from dca.domain.order import Side
from dca.matching.book import Book, Terms, Working, book_of, collar, enter, match, without
from dca.matching.fees import TIERS, fee_of

BUY, SELL = Side.BUY, Side.SELL
WHOLE = Terms(partial_rate=0.0)


def quote(bid: str, ask: str) -> Quote:
    return Quote("BTC/USD", D(bid), D(ask), datetime(2023, 3, 9, tzinfo=UTC))


def order(
    side: Side = BUY, limit: str = "100", qty: str = "1", *, name: str = "a", **more: object
) -> Working:
    return Working(id=name, side=side, qty=D(qty), limit=D(limit), **more)  # type: ignore[arg-type]


def never() -> float:
    raise AssertionError("nothing here is left to chance")


def draws(*numbers: float) -> Iterator[float]:
    return iter(numbers)


@pytest.mark.parametrize(
    ("bought", "position"),
    [
        ("0.1", "0.09975"),
        ("0.0002", "0.0001995"),
        ("0.00016", "0.0001596"),
        ("0.001254903", "0.001251765"),
        ("0.000128322", "0.000128001"),
    ],
)
def test_a_buy_pays_a_quarter_percent_in_coins_rounded_up_to_nine_decimals(
    bought: str, position: str
) -> None:
    assert D(bought) - fee_of(BUY, D(bought), D(62_800), D("0.0025")) == D(position)


def test_four_fills_lose_more_to_rounding_than_one() -> None:
    parts = [D("0.000064161")] * 4
    assert sum(fee_of(BUY, part, D(84_000), D("0.0025")) for part in parts) == D("0.000000644")
    assert fee_of(BUY, sum(parts), D(84_000), D("0.0025")) == D("0.000000642")


def test_a_sell_pays_in_dollars_rounded_up_to_the_cent() -> None:
    assert fee_of(SELL, D("56.7732"), D("0.99912"), D("0.0025")) == D("0.15")
    assert fee_of(SELL, D(1), D(10), D("0.0025")) == D("0.03")


def test_the_fee_tiers_fall_with_volume() -> None:
    assert (TIERS[0].maker, TIERS[0].taker) == (D("0.0015"), D("0.0025"))
    assert (TIERS[7].maker, TIERS[7].taker) == (D("0"), D("0.0010"))
    takers = [tier.taker for tier in TIERS]
    assert takers == sorted(takers, reverse=True)


@pytest.mark.parametrize(
    ("side", "limit", "price"),
    [(BUY, "101", "100.5"), (BUY, "100.5", "100.5"), (SELL, "99", "100"), (SELL, "100", "100")],
)
def test_a_limit_that_is_marketable_on_entry_takes_the_touch(side: Side, limit: str, price: str) -> None:
    book, (executed,) = enter(Book(), order(side, limit), quote("100", "100.5"), WHOLE, never)
    assert (executed.price, executed.qty, executed.maker) == (D(price), D(1), False)
    assert book.orders == ()


@pytest.mark.parametrize(
    ("side", "limit", "near", "there"),
    [
        (BUY, "100", ("99.99", "100.01"), ("99", "99.5")),
        (BUY, "100", ("99.99", "100.01"), ("99.9", "100")),
        (SELL, "102", ("101.99", "102.01"), ("103", "103.1")),
        (SELL, "102", ("101.99", "102.01"), ("102", "102.1")),
    ],
)
def test_a_limit_that_rested_makes_at_its_own_price_once_the_touch_is_there(
    side: Side, limit: str, near: tuple[str, str], there: tuple[str, str]
) -> None:
    book, nothing = enter(Book(), order(side, limit), quote("101", "101.5"), WHOLE, never)
    assert nothing == ()
    same, nothing = match(book, quote(*near), WHOLE, never)
    assert same is book and nothing == ()
    after, (executed,) = match(book, quote(*there), WHOLE, never)
    assert (executed.price, executed.maker) == (D(limit), True)
    assert executed.fee == fee_of(side, D(1), D(limit), D("0.0015"))
    assert after == Book()


def test_a_market_order_goes_two_percent_beyond_the_touch_and_no_further() -> None:
    standing = quote("100", "101")
    assert collar(BUY, standing) == D("103.02")
    assert collar(SELL, standing) == D("98")


def test_an_order_that_came_before_any_quote_takes_the_first_one() -> None:
    book, nothing = enter(Book(), order(limit="103"), None, WHOLE, never)
    assert nothing == ()
    _, (executed,) = match(book, quote("100", "101"), WHOLE, never)
    assert (executed.price, executed.maker) == (D(101), False)


def test_a_tenth_of_the_executions_is_only_a_part_and_the_rest_comes_with_the_next_quote() -> None:
    chance = draws(0.05, 0.5, 0.9)
    book, (first,) = enter(Book(), order(limit="110"), quote("100", "101"), Terms(), chance.__next__)
    assert first.qty == D("0.5")
    _, (second,) = match(book, quote("101", "102"), Terms(), chance.__next__)
    assert (second.qty, second.price, second.maker) == (D("0.5"), D(102), False)


def test_the_rest_of_a_taker_becomes_a_maker_once_the_market_left_it() -> None:
    chance = draws(0.05, 0.5, 0.9)
    book, _ = enter(Book(), order(limit="101"), quote("100", "101"), Terms(), chance.__next__)
    book, nothing = match(book, quote("105", "106"), Terms(), chance.__next__)
    assert nothing == ()
    _, (rest,) = match(book, quote("90", "91"), Terms(), chance.__next__)
    assert (rest.price, rest.maker) == (D(101), True)


def test_a_part_too_small_to_exist_is_the_whole() -> None:
    _, (executed,) = enter(
        Book(), order(qty="0.000000001"), quote("9", "10"), Terms(), draws(0.0, 0.5).__next__
    )
    assert executed.qty == D("0.000000001")


def test_what_an_ioc_does_not_get_at_once_is_not_in_the_book() -> None:
    chance = draws(0.05, 0.5)
    book, (part,) = enter(Book(), order(limit="110"), quote("100", "101"), Terms(), chance.__next__, ioc=True)
    assert part.qty == D("0.5") and "a" not in book
    book, nothing = enter(Book(), order(limit="90"), quote("100", "101"), WHOLE, never, ioc=True)
    assert nothing == () and "a" not in book


@pytest.mark.parametrize(
    ("side", "stop", "limit", "quiet", "trigger", "price"),
    [
        (BUY, "110", "111", ("108", "109"), ("109", "110"), "110"),
        (SELL, "90", "89", ("91", "92"), ("90", "91"), "90"),
    ],
)
def test_a_stop_limit_waits_for_its_stop_and_then_takes(
    side: Side, stop: str, limit: str, quiet: tuple[str, str], trigger: tuple[str, str], price: str
) -> None:
    book = book_of((order(side, limit, stop=D(stop)),))
    same, nothing = match(book, quote(*quiet), WHOLE, never)
    assert same is book and nothing == ()
    _, (executed,) = match(book, quote(*trigger), WHOLE, never)
    assert (executed.price, executed.maker) == (D(price), False)


def test_a_stop_that_triggered_beyond_its_limit_rests_as_a_limit_order() -> None:
    book = book_of((order(SELL, "89", stop=D(90)),))
    book, nothing = match(book, quote("80", "81"), WHOLE, never)
    assert nothing == () and book.orders[0].stop is None
    _, (executed,) = match(book, quote("95", "96"), WHOLE, never)
    assert (executed.price, executed.maker) == (D(89), True)


def test_orders_execute_in_the_order_of_their_arrival() -> None:
    resting = tuple(order(limit=limit, name=limit, resting=True) for limit in ("90", "95", "80"))
    book, matches = match(book_of(resting), quote("88", "89"), WHOLE, never)
    assert [(executed.order_id, executed.price) for executed in matches] == [("90", D(90)), ("95", D(95))]
    assert [left.id for left in book.orders] == ["80"]


def test_an_arriving_order_does_not_wake_those_that_met_the_quote_before() -> None:
    chance = draws(0.05, 0.5)
    standing = quote("100", "101")
    book, _ = enter(Book(), order(limit="110"), standing, Terms(), chance.__next__)
    book, nothing = enter(book, order(limit="50", name="b"), standing, WHOLE, never)
    assert nothing == () and [left.id for left in book.orders] == ["a", "b"]


def test_a_quote_that_changes_nothing_returns_the_very_same_book() -> None:
    book = book_of((order(limit="90", resting=True), order(SELL, "110", name="b", resting=True)))
    after, matches = match(book, quote("99", "100"), WHOLE, never)
    assert after is book and matches == ()


def test_a_removed_order_is_gone_and_its_price_is_forgotten() -> None:
    book = book_of((order(limit="90", resting=True), order(limit="95", name="b", resting=True)))
    assert without(book, "b").buy_at == D(90)
    assert without(without(book, "b"), "a") == Book()
