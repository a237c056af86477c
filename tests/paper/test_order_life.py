"""Orders from acceptance to their end: fills, cancels, replacement, expiry."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from typing import Any

import pytest
from exchange_support import T0, Bench, HandClock, config, done, refused, switched

from dca.paper.gate import Call

LIMIT = {"qty": "0.001", "limit_price": "50000"}
MARKET = {"type": "market", "qty": "0.001"}


@pytest.fixture
def bench() -> Bench:
    made = Bench()
    made.quote("60000", "60010")
    return made


def events(made: Bench) -> list[str]:
    """What the trade-update stream would have said, and of which status."""
    rows = [row for row in made.control.log() if row["kind"] == "order" and row["event"]]
    return [f"{row['event']}/{row['orders'][0]['status']}" for row in rows]


def replaced(made: Bench, order_id: str, **body: Any) -> dict[str, Any]:
    return done(made.venue.orders.replace(Call({"id": order_id}, {}, body)))


def test_a_market_buy_is_pending_then_new_then_filled_at_the_ask(bench: Bench) -> None:
    answer = bench.place(**MARKET)
    assert (answer["status"], answer["filled_qty"], answer["filled_avg_price"]) == ("pending_new", "0", None)
    order = bench.order(answer["id"])
    assert (order["status"], order["filled_qty"], order["filled_avg_price"]) == ("filled", "0.001", "60010")
    assert events(bench) == ["pending_new/pending_new", "new/new", "fill/filled"]
    assert bench.control.ledger()["cash"] == "9939.99"


def test_a_market_sell_fills_at_the_bid_and_pays_cents(bench: Bench) -> None:
    bench.control.deposit("BTC", D("0.001"))
    bench.place(**MARKET, side="sell")
    # 60 dollars at 0.25 % are exactly 15 cents.
    assert bench.control.ledger() == {"cash": "10059.85", "deposited": "10000", "coins": {}}


def test_a_buy_for_dollars_spends_two_percent_less(bench: Bench) -> None:
    bench.quote("84020", "84029.58")
    answer = bench.place(type="market", notional="11")
    assert (answer["notional"], answer["qty"]) == ("11", None)
    order = bench.order(answer["id"])
    assert (order["filled_qty"], order["filled_avg_price"]) == ("0.000128339", "84029.58")


def test_a_limit_order_may_be_for_dollars_too_where_that_is_switched_on(bench: Bench) -> None:
    assert bench.exchange.orders == {}
    order = bench.place(notional="50", limit_price="50000")
    assert bench.exchange.orders[order["id"]].qty == D("0.001")
    closed = Bench(config(switches=switched(notional_limit_orders=False)))
    assert refused(lambda: closed.place(notional="50", limit_price="50000"))[0] == 422


def test_a_resting_limit_fills_at_its_limit_as_maker(bench: Bench) -> None:
    order = bench.place(**LIMIT)
    assert bench.order(order["id"])["status"] == "new"
    bench.quote("49000", "49010")
    filled = bench.order(order["id"])
    assert (filled["status"], filled["filled_avg_price"]) == ("filled", "50000")
    (executed,) = bench.exchange.executions
    assert (executed.liquidity, executed.fee) == ("maker", D("0.0000015"))


def test_a_part_executes_now_and_the_rest_with_a_later_quote() -> None:
    bench = Bench(config(switches=switched(partial_rate=1.0)))
    bench.quote("60000", "60010")
    order = bench.place(**MARKET)
    first = bench.order(order["id"])
    assert first["status"] == "partially_filled" and D(0) < D(first["filled_qty"]) < D("0.001")
    bench.exchange.terms = type(bench.exchange.terms)(bench.exchange.terms.rates, 0.0)
    bench.quote("60100", "60110")
    order = bench.order(order["id"])
    assert (order["status"], order["filled_qty"]) == ("filled", "0.001")
    one, two = bench.exchange.executions
    assert (one.cum_qty + two.qty, two.cum_qty, two.leaves_qty) == (D("0.001"), D("0.001"), 0)
    average = (one.qty * 60010 + two.qty * 60110) / D("0.001")
    assert D(order["filled_avg_price"]) == average.quantize(D("1e-9"))
    assert events(bench)[-2:] == ["partial_fill/partially_filled", "fill/filled"]


def test_one_execution_in_ten_is_partial() -> None:
    bench = Bench(config(switches=switched(partial_rate=0.1), cash=D(100_000)))
    bench.quote("60000", "60010")
    for _ in range(300):
        bench.place(**MARKET)
    parts = sum(1 for executed in bench.exchange.executions if executed.leaves_qty)
    assert 15 <= parts <= 50


def test_an_ioc_takes_what_it_gets_and_is_canceled(bench: Bench) -> None:
    missed = bench.place(**LIMIT, time_in_force="ioc")
    assert bench.order(missed["id"])["status"] == "canceled"
    hit = bench.place(qty="0.001", limit_price="60010", time_in_force="ioc")
    assert bench.order(hit["id"])["status"] == "filled"
    partly = Bench(config(switches=switched(partial_rate=1.0)))
    partly.quote("60000", "60010")
    order = partly.place(qty="0.001", limit_price="60010", time_in_force="ioc")
    order = partly.order(order["id"])
    assert order["status"] == "canceled" and 0 < D(order["filled_qty"]) < D("0.001")


def test_a_stop_limit_rests_as_new_until_its_stop(bench: Bench) -> None:
    bench.control.deposit("BTC", D("0.001"))
    order = bench.place(type="stop_limit", side="sell", qty="0.001", stop_price="55000", limit_price="54000")
    assert bench.order(order["id"])["status"] == "new"
    bench.quote("55001", "55010")
    assert bench.order(order["id"])["status"] == "new"
    bench.quote("55000", "55010")
    assert bench.order(order["id"])["filled_avg_price"] == "55000"


def test_a_cancel_is_a_request_and_the_order_may_fill_before_it_is_done(bench: Bench) -> None:
    order = bench.place(**LIMIT)
    answer = bench.venue.orders.cancel(Call({"id": order["id"]}, {}))
    assert answer.status == 204
    assert bench.order(order["id"])["status"] == "pending_cancel"
    bench.quote("49000", "49010")
    done(answer)
    assert bench.order(order["id"])["status"] == "filled"
    assert events(bench)[-2:] == ["pending_cancel/pending_cancel", "fill/filled"]


def test_a_canceled_order_gives_back_what_it_reserved(bench: Bench) -> None:
    order = bench.place(**LIMIT)
    bench.cancel(order["id"])
    canceled = bench.order(order["id"])
    assert canceled["status"] == "canceled" and canceled["canceled_at"]
    assert bench.account()["non_marginable_buying_power"] == "10000"
    assert events(bench)[-2:] == ["pending_cancel/pending_cancel", "canceled/canceled"]


@pytest.mark.parametrize("status", [204, 422])
def test_a_second_cancel_answers_as_it_is_switched(status: int) -> None:
    bench = Bench(config(switches=switched(cancel_again_status=status)))
    order = bench.place(**LIMIT)
    bench.cancel(order["id"])
    if status == 204:
        bench.cancel(order["id"])
    else:
        answer = refused(lambda: bench.cancel(order["id"]))
        assert answer == (422, {"code": 42210000, "message": 'order is already in "canceled" state'})


def test_a_filled_order_cannot_be_canceled_and_an_unknown_one_is_not_found(bench: Bench) -> None:
    order = bench.place(**MARKET)
    filled = refused(lambda: bench.cancel(order["id"]))
    assert filled == (422, {"code": 42210000, "message": 'order is already in "filled" state'})
    unknown = refused(lambda: bench.cancel("7f0d"))
    assert unknown == (404, {"code": 40410000, "message": "order not found for 7f0d"})


def test_an_order_that_is_not_yet_in_the_book_cannot_be_canceled(bench: Bench) -> None:
    body = {"symbol": "BTC/USD", "side": "buy", "type": "limit", "time_in_force": "gtc", **LIMIT}
    answer = bench.venue.orders.placed(body)
    assert refused(lambda: bench.cancel(answer.body["id"]))[1]["message"] == "order is not cancelable"


def test_every_open_order_can_be_canceled_at_once(bench: Bench) -> None:
    ids = [bench.place(**LIMIT)["id"] for _ in range(3)]
    answer = bench.venue.orders.cancel_all(Call({}, {}))
    assert (answer.status, answer.body) == (207, [{"id": name, "status": 200} for name in ids])
    done(answer)
    assert bench.listed() == []
    assert bench.venue.orders.cancel_all(Call({}, {})).body == []


def test_the_venue_may_cancel_by_itself(bench: Bench) -> None:
    order = bench.place(**LIMIT)
    bench.control.cancel(order["id"])
    assert events(bench)[-1] == "canceled/canceled"
    assert bench.order(order["id"])["status"] == "canceled"


def test_a_fill_can_be_forced_in_parts(bench: Bench) -> None:
    order = bench.place(**LIMIT, client_order_id="mine")
    bench.control.fill("mine", D("0.0004"))
    assert bench.order(order["id"])["filled_qty"] == "0.0004"
    bench.control.fill(order["id"], price=D("49000"))
    filled = bench.order(order["id"])
    assert (filled["status"], filled["filled_avg_price"]) == ("filled", "49400")
    assert refused(lambda: bench.control.fill("mine"))[0] == 422


def test_replacing_ends_the_order_and_makes_a_new_one(bench: Bench) -> None:
    old = bench.place(**LIMIT)
    new = replaced(bench, old["id"], limit_price="51000")
    ended, working = bench.order(old["id"]), bench.order(new["id"])
    assert new["id"] != old["id"] and new["client_order_id"] != old["client_order_id"]
    assert (new["replaces"], new["limit_price"], new["status"]) == (old["id"], "51000", "pending_new")
    assert (ended["status"], ended["replaced_by"]) == ("replaced", new["id"]) and ended["replaced_at"]
    assert working["status"] == "new"
    assert events(bench)[-3:] == ["replaced/replaced", "pending_new/pending_new", "new/new"]
    bench.quote("50000", "50500")
    assert bench.order(new["id"])["status"] == "filled"
    assert bench.order(old["id"])["filled_qty"] == "0"


def test_replacing_counts_the_money_of_the_two_only_once() -> None:
    bench = Bench(config(cash=D(60)))
    old = bench.place(**LIMIT)
    assert refused(lambda: replaced(bench, old["id"], limit_price="61000"))[0] == 403
    assert bench.order(old["id"])["status"] == "new"
    assert replaced(bench, old["id"], limit_price="60000")


def test_replacing_a_partly_filled_order_starts_its_quantity_anew(bench: Bench) -> None:
    old = bench.place(**LIMIT)
    bench.control.fill(old["id"], D("0.0004"))
    new = replaced(bench, old["id"], limit_price="49000")
    assert (new["qty"], new["filled_qty"]) == ("0.001", "0")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "order parameters are not changed"),
        ({"limit_price": "50000"}, "order parameters are not changed"),
        ({"limit_price": "0"}, "limit_price must be > 0"),
        ({"stop_price": "50000"}, "limit orders must not have a stop price"),
        ({"qty": "0.002"}, "qty must be integer"),
        ({"limit_price": "9000"}, "cost basis must be >= minimal amount of order 10"),
        ({"limit_price": "51000", "client_order_id": "taken"}, "client_order_id must be unique"),
    ],
)
def test_a_replacement_is_refused(bench: Bench, body: dict[str, str], words: str) -> None:
    old = bench.place(**LIMIT, client_order_id="taken")
    assert refused(lambda: replaced(bench, old["id"], **body))[1]["message"] == words
    assert bench.order(old["id"])["status"] == "new"


def test_orders_that_ended_or_are_for_dollars_cannot_be_replaced(bench: Bench) -> None:
    filled = bench.place(**MARKET)
    words = "unable to replace order in current state"
    assert refused(lambda: replaced(bench, filled["id"], limit_price="1"))[1]["message"] == words
    dollars = bench.place(notional="50", limit_price="50000")
    assert refused(lambda: replaced(bench, dollars["id"], limit_price="1"))[0] == 422


def test_an_order_expires_after_ninety_days_at_four_in_new_york() -> None:
    clock = HandClock()
    bench = Bench(clock=clock)
    order = bench.place(**LIMIT)
    assert order["expires_at"] == "2023-06-07T20:00:00.000000Z"
    clock.at = datetime(2023, 6, 7, 19, 59, 59, tzinfo=UTC)
    bench.venue.after_each_look(clock.now())
    assert bench.order(order["id"])["status"] == "new"
    clock.forward(seconds=1)
    bench.venue.after_each_look(clock.now())
    expired = bench.order(order["id"])
    assert (expired["status"], expired["expired_at"]) == ("expired", "2023-06-07T20:00:00.000000Z")
    assert events(bench)[-1] == "expired/expired"
    assert bench.account()["non_marginable_buying_power"] == "10000"


def test_in_winter_that_is_another_hour_utc() -> None:
    bench = Bench(clock=HandClock(datetime(2026, 9, 26, 18, 0, tzinfo=UTC)))
    assert bench.place(**LIMIT)["expires_at"] == "2026-12-25T21:00:00.000000Z"


@pytest.fixture
def many(bench: Bench) -> Bench:
    """Six orders a minute apart: a canceled one, a filled one, and four open ones."""
    bench.quote("1500", "1501", "ETH/USD")
    bench.cancel(bench.place(**LIMIT, client_order_id="canceled")["id"])
    bench.clock.forward(minutes=1)
    bench.place(**MARKET, client_order_id="filled")
    for number in range(4):
        bench.clock.forward(minutes=1)
        symbol = {"symbol": "ETH/USD", "qty": "1", "limit_price": "20"} if number == 3 else LIMIT
        bench.place(**symbol, client_order_id=f"open{number}")
    return bench


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({}, "open3 open2 open1 open0"),
        ({"status": "closed"}, "filled canceled"),
        ({"status": "all", "direction": "asc"}, "canceled filled open0 open1 open2 open3"),
        ({"status": "all", "limit": "2"}, "open3 open2"),
        ({"symbols": "ETHUSD"}, "open3"),
        ({"symbols": "ETH/USD"}, "open3"),
        ({"symbols": "ETH"}, ""),
        ({"side": "sell"}, ""),
        ({"asset_class": "us_equity"}, ""),
        ({"asset_class": "crypto", "side": "buy", "limit": "1"}, "open3"),
        ({"after": "2023-03-09T12:03:00Z"}, "open3 open2"),
        ({"until": "2023-03-09T12:03:00Z"}, "open0"),
        ({"after": "2023-03-09T12:02:00+00:00", "until": "2023-03-09T12:05:00.000Z"}, "open2 open1"),
    ],
)
def test_orders_are_listed(many: Bench, query: dict[str, str], names: str) -> None:
    assert [order["client_order_id"] for order in many.listed(**query)] == names.split()


def test_orders_are_listed_page_by_page_with_an_id_as_cursor(many: Bench) -> None:
    first = many.listed(status="all", limit="4")
    rest = many.listed(status="all", before_order_id=first[-1]["id"])
    assert [order["client_order_id"] for order in rest] == ["filled", "canceled"]
    cursors = {"before_order_id": first[0]["id"], "after_order_id": first[0]["id"]}
    assert refused(lambda: many.listed(**cursors))[0] == 422
    assert refused(lambda: many.listed(after="2023-01-01", after_order_id=first[0]["id"]))[0] == 422


@pytest.mark.parametrize(
    "query", [{"status": "some"}, {"limit": "501"}, {"limit": "0"}, {"limit": "x"}, {"after": "soon"}]
)
def test_a_listing_without_sense_is_refused(bench: Bench, query: dict[str, str]) -> None:
    assert refused(lambda: bench.listed(**query))[0] == 422


def test_the_same_seed_and_the_same_orders_make_the_same_log() -> None:
    def life(seed: int) -> list[dict[str, Any]]:
        setup = config(seed=seed, switches=switched(partial_rate=0.5))
        made = Bench(setup, HandClock(T0))
        for number in range(20):
            made.quote(str(60_000 + number), str(60_010 + number))
            made.place(**MARKET)
            made.clock.forward(seconds=1)
        return made.control.log()

    assert life(7) == life(7)
    assert life(7) != life(8)


def test_orders_at_one_instant_keep_their_order(bench: Bench) -> None:
    names = [bench.place(**LIMIT)["id"] for _ in range(5)]
    assert [order["id"] for order in bench.listed()] == names[::-1]
    assert [order["id"] for order in bench.listed(direction="asc")] == names
    assert bench.clock.now() - T0 == timedelta(0)
