"""What the exchange refuses, with which status, code and words."""

from decimal import Decimal as D
from typing import Any

import pytest
from exchange_support import Bench, config, refused, switched

from dca.domain.market import Instrument
from dca.paper.config import INSTRUMENTS

BAD_BODY, NOT_VALID, FORBIDDEN = (422, 40010001), (422, 42210000), (403, 40310000)
GOOD = {"symbol": "BTC/USD", "qty": "0.001", "side": "buy", "type": "limit", "time_in_force": "gtc"}
LIMIT = {"limit_price": "60000"}


def bench(**changes: Any) -> Bench:
    made = Bench(config(**changes))
    made.quote("60000", "60010")
    return made


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ({"symbol": None}, BAD_BODY, "symbol is required"),
        ({"symbol": "FOO/USD"}, NOT_VALID, 'asset "FOO/USD" not found'),
        ({"side": None}, BAD_BODY, "side is required"),
        ({"side": "hold"}, BAD_BODY, "invalid side"),
        ({"type": "stop"}, BAD_BODY, "invalid order type for crypto order"),
        ({"type": "trailing_stop"}, BAD_BODY, "invalid order type for crypto order"),
        ({"time_in_force": None}, BAD_BODY, "time_in_force is required"),
        ({"time_in_force": "day"}, NOT_VALID, "invalid crypto time_in_force"),
        ({"time_in_force": "fok"}, NOT_VALID, "invalid crypto time_in_force"),
        (
            {"type": "stop_limit", "stop_price": "61000", "time_in_force": "ioc"},
            NOT_VALID,
            "invalid crypto time_in_force",
        ),
        (
            {"order_class": "bracket"},
            NOT_VALID,
            "crypto orders not allowed for advanced order_class: otoco",
        ),
        ({"order_class": "oto"}, NOT_VALID, "crypto orders not allowed for advanced order_class: oto"),
        ({"qty": None}, BAD_BODY, "qty or notional is required"),
        ({"notional": "20"}, BAD_BODY, "only one of qty or notional is accepted"),
        (
            {"qty": None, "notional": "20.001"},
            NOT_VALID,
            "notional value must be limited to 2 decimal places",
        ),
        ({"qty": "0"}, BAD_BODY, "qty must be > 0"),
        ({"qty": "-1"}, BAD_BODY, "qty must be > 0"),
        ({"qty": "much"}, BAD_BODY, "invalid qty"),
        ({"qty": True}, BAD_BODY, "invalid qty"),
        ({"qty": "1e999999"}, BAD_BODY, "invalid qty"),
        ({"limit_price": None}, BAD_BODY, "limit orders require a limit price"),
        ({"type": "stop_limit"}, BAD_BODY, "stop limit orders require both stop and limit price"),
        ({"type": "market"}, BAD_BODY, "market orders require no stop or limit price"),
        (
            {"client_order_id": "x" * 129},
            BAD_BODY,
            "client_order_id must be no longer than 128 characters",
        ),
        (
            {"qty": "0.00001"},
            FORBIDDEN,
            "order qty must be >= minimal qty of order 0.000015739",
        ),
        (
            {"qty": "0.0001666"},
            FORBIDDEN,
            "cost basis must be >= minimal amount of order 10",
        ),
        ({"qty": "4"}, FORBIDDEN, "cost basis must be <= maximal amount of order 200000"),
    ],
)
def test_an_order_is_refused(body: dict[str, Any], kind: tuple[int, int], words: str) -> None:
    made = bench()
    status, answer = refused(lambda: made.place(**{**GOOD, **LIMIT, **body}))
    assert (status, answer["code"], answer["message"]) == (*kind, words)
    assert not made.exchange.orders


def test_ten_dollars_are_enough() -> None:
    assert bench().place(**GOOD | LIMIT | {"qty": "0.000166667"})["status"] == "pending_new"


def test_the_cost_basis_of_a_market_order_is_counted_at_the_touch() -> None:
    made = bench()
    market = GOOD | {"type": "market"}
    _, answer = refused(lambda: made.place(**market | {"qty": "0.000166638"}))
    assert answer["message"] == "cost basis must be >= minimal amount of order 10"
    assert made.place(**market | {"qty": "0.000166639"})
    # Ten dollars' worth is taken although the collar makes it buy only 9.80.
    order = made.place(**market | {"qty": None, "notional": "10"})
    filled = made.order(order["id"])
    assert D(filled["filled_qty"]) * D(filled["filled_avg_price"]) < D("9.81")


def test_an_instrument_that_is_not_tradable_is_not_active() -> None:
    step = D("0.000000001")
    made = Bench(config(instruments=(*INSTRUMENTS, Instrument("OLD/USD", step, step, step, tradable=False))))
    made.quote("10", "11", "OLD/USD")
    order = GOOD | {"symbol": "OLD/USD", "qty": "2", "limit_price": "10"}
    assert refused(lambda: made.place(**order)) == (
        422,
        {"code": 42210000, "message": "asset OLD/USD is not active"},
    )


def test_quantities_and_prices_must_fit_the_increments_of_a_coarse_instrument() -> None:
    coarse = Instrument("NEW/USD", D(1), D("0.5"), D("0.01"))
    made = Bench(config(instruments=(coarse,)))
    made.quote("10", "11", "NEW/USD")
    order = GOOD | {"symbol": "NEW/USD", "qty": "2.25", "limit_price": "10"}
    assert refused(lambda: made.place(**order))[1]["message"] == "qty must be a multiple of 0.5"
    order |= {"qty": "2.5", "limit_price": "10.001"}
    assert refused(lambda: made.place(**order))[1]["message"] == "price must be a multiple of 0.01"


def test_a_quantity_beyond_nine_decimals_is_cut_without_a_word() -> None:
    order = bench().place(**GOOD | LIMIT | {"qty": "0.00021739130434782607"})
    assert order["qty"] == "0.000217391"


@pytest.mark.parametrize("qty", ["0.0002", D("0.0002"), D("2e-4")])
def test_quantities_may_be_text_or_numbers(qty: object) -> None:
    assert bench().place(**GOOD | LIMIT | {"qty": qty})["qty"] == "0.0002"


@pytest.mark.parametrize("name", ["BTC/USD", "BTCUSD", "276e2673-764b-4ab6-a611-caf665ca6340"])
def test_a_symbol_may_be_written_three_ways_and_is_answered_in_one(name: str) -> None:
    assert bench().place(**GOOD | LIMIT | {"symbol": name})["symbol"] == "BTC/USD"


def test_a_client_order_id_is_used_up_for_good() -> None:
    made = bench()
    order = made.place(**GOOD, limit_price="50000", client_order_id="mine")
    made.cancel(order["id"])
    assert made.order(order["id"])["status"] == "canceled"
    again = refused(lambda: made.place(**GOOD, limit_price="50000", client_order_id="mine"))
    assert again == (422, {"code": 40010001, "message": "client_order_id must be unique"})


def test_a_duplicate_is_told_before_a_missing_balance() -> None:
    made = bench(cash=D(70))
    made.place(**GOOD, limit_price="60000", client_order_id="mine")
    assert refused(lambda: made.place(**GOOD, limit_price="60000", client_order_id="mine"))[0] == 422


def test_without_a_quote_there_is_no_market_order_but_a_limit_order_rests() -> None:
    made = Bench()
    assert refused(lambda: made.place(**GOOD | {"type": "market"}))[0] == 422
    order = made.place(**GOOD, **LIMIT)
    assert made.order(order["id"])["status"] == "new"


def test_a_buy_needs_cash_that_no_other_buy_reserves() -> None:
    made = bench(cash=D("100"))
    made.place(**GOOD, limit_price="50000")
    assert made.account()["cash"] == "100"
    assert made.account()["non_marginable_buying_power"] == "50"
    assert made.account()["buying_power"] == "100"
    refusal = refused(lambda: made.place(**GOOD, limit_price="50001"))
    assert refusal == (
        403,
        {
            "code": 40310000,
            "message": "insufficient balance for USD (requested: 50, available: 50)",
            "available": "50",
            "balance": "100",
            "symbol": "USD",
        },
    )
    assert made.place(**GOOD, limit_price="50000")


def test_a_market_buy_reserves_up_to_its_collar() -> None:
    made = bench(cash=D("60"))
    market = GOOD | {"type": "market", "qty": "0.00099"}
    assert refused(lambda: made.place(**market))[1]["message"].startswith("insufficient balance for USD")
    assert made.place(**market | {"qty": "0.00098"})


def test_a_sell_cannot_exceed_the_coins_that_no_other_sell_reserves() -> None:
    made = bench()
    made.control.deposit("BTC", D("0.12"))
    made.place(**GOOD | {"side": "sell", "qty": "0.1", "limit_price": "70000"})
    assert (made.position()["qty"], made.position()["qty_available"]) == ("0.12", "0.02")
    refusal = refused(lambda: made.place(**GOOD | {"side": "sell", "qty": "0.03", "limit_price": "70000"}))
    assert refusal == (
        403,
        {
            "code": 40310000,
            "message": "insufficient balance for BTC (requested: 0.03, available: 0.02)",
            "available": "0.02",
            "balance": "0.12",
            "symbol": "USD",
        },
    )


def test_selling_what_was_bought_fails_because_the_fee_was_taken_in_coins() -> None:
    made = bench()
    bought = made.place(**GOOD | {"type": "market", "qty": "0.1"})
    assert made.order(bought["id"])["filled_qty"] == "0.1"
    assert made.position()["qty"] == "0.09975"
    status, answer = refused(lambda: made.place(**GOOD | {"type": "market", "qty": "0.1", "side": "sell"}))
    assert status == 403 and answer["available"] == "0.09975"
    assert made.place(**GOOD | {"type": "market", "qty": "0.09975", "side": "sell"})


@pytest.mark.parametrize("exempt", [True, False])
def test_whether_a_full_exit_may_be_below_ten_dollars_can_be_switched(exempt: bool) -> None:
    made = bench(switches=switched(full_exit_exempt=exempt))
    made.control.deposit("BTC", D("0.0001"))
    exit_ = GOOD | {"type": "market", "side": "sell", "qty": "0.0001"}
    part = refused(lambda: made.place(**exit_ | {"qty": "0.00009"}))
    assert part[1]["message"] == "cost basis must be >= minimal amount of order 10"
    if exempt:
        assert made.place(**exit_)["status"] == "pending_new"
    else:
        assert refused(lambda: made.place(**exit_)) == part


MARKET_REASON = "opposite side market/stop order exists"
LIMIT_REASON = "opposite side limit order exists"


@pytest.mark.parametrize(
    ("there", "new", "reason"),
    [
        ({"type": "limit", "limit_price": "70000"}, {"type": "market"}, LIMIT_REASON),
        (
            {"type": "stop_limit", "limit_price": "50000", "stop_price": "50500"},
            {"type": "market"},
            LIMIT_REASON,
        ),
        ({"type": "limit", "limit_price": "70000"}, {"type": "limit", "limit_price": "70000"}, LIMIT_REASON),
        ({"type": "limit", "limit_price": "70000"}, {"type": "limit", "limit_price": "69999"}, None),
        (
            {"type": "limit", "limit_price": "70000"},
            {"type": "stop_limit", "limit_price": "70001", "stop_price": "69000"},
            LIMIT_REASON,
        ),
        (
            {"type": "limit", "limit_price": "70000"},
            {"type": "stop_limit", "limit_price": "69000", "stop_price": "68000"},
            None,
        ),
    ],
)
def test_an_order_against_an_own_open_sell(
    there: dict[str, str], new: dict[str, str], reason: str | None
) -> None:
    made = bench()
    made.control.deposit("BTC", D(1))
    resting = made.place(**GOOD | {"side": "sell"} | there)
    if reason is None:
        assert made.place(**GOOD | new)
        return
    assert refused(lambda: made.place(**GOOD | new)) == (
        403,
        {
            "code": 40310000,
            "existing_order_id": resting["id"],
            "message": "potential wash trade detected. use complex orders",
            "reject_reason": reason,
        },
    )


@pytest.mark.parametrize("new", [{"type": "market"}, {"type": "limit", "limit_price": "90000"}])
def test_nothing_goes_against_an_own_open_market_order(new: dict[str, str]) -> None:
    made = bench(switches=switched(partial_rate=1.0))
    made.control.deposit("BTC", D(1))
    part = made.place(**GOOD | {"type": "market"})
    assert made.order(part["id"])["status"] == "partially_filled"
    status, answer = refused(lambda: made.place(**GOOD | {"side": "sell"} | new))
    assert (status, answer["reject_reason"]) == (403, MARKET_REASON)


def test_a_sell_against_an_own_open_buy_is_measured_the_same_way() -> None:
    made = bench()
    made.control.deposit("BTC", D(1))
    made.place(**GOOD, limit_price="59000")
    assert refused(lambda: made.place(**GOOD | {"side": "sell", "limit_price": "59000"}))[0] == 403
    assert made.place(**GOOD | {"side": "sell", "limit_price": "59001"})


def test_other_symbols_and_orders_that_ended_do_not_count_as_wash_trades() -> None:
    made = bench()
    made.quote("1500", "1501", "ETH/USD")
    made.control.deposit("BTC", D(1))
    sell = made.place(**GOOD | {"side": "sell", "limit_price": "70000"})
    assert made.place(**GOOD | {"symbol": "ETH/USD", "type": "market", "qty": "0.1"})
    made.cancel(sell["id"])
    assert made.place(**GOOD | {"type": "market"})
