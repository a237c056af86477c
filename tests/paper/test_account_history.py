"""The account: fees, positions, closing them, activities, history, assets, clock."""

from datetime import UTC, datetime
from decimal import Decimal as D
from pathlib import Path
from typing import Any

import pytest
from exchange_support import Bench, HandClock, config, done, refused, switched

from dca.paper.gate import Call

MARKET = {"type": "market", "qty": "0.1"}


def bench(**changes: Any) -> Bench:
    made = Bench(config(**changes))
    made.quote("60000", "60000")
    return made


def activities(made: Bench, kind: str | None = None, **query: str) -> list[dict[str, Any]]:
    path = {"type": kind} if kind else {}
    return done(made.venue.activities.listing(Call(path, query)))


@pytest.mark.parametrize(
    ("bought", "position"),
    [("0.1", "0.09975"), ("0.0002", "0.0001995"), ("0.001254903", "0.001251765")],
)
def test_a_position_is_smaller_than_what_was_filled(bought: str, position: str) -> None:
    made = bench()
    order = made.place(type="market", qty=bought)
    assert made.order(order["id"])["filled_qty"] == bought
    assert made.position()["qty"] == position
    assert made.control.ledger()["coins"] == {"BTC/USD": position}


def test_a_higher_tier_pays_less() -> None:
    made = bench(switches=switched(crypto_tier=4))
    made.place(**MARKET)
    assert made.account()["crypto_tier"] == 4
    assert made.position()["qty"] == "0.09982"


def test_a_position_is_named_without_a_slash_and_by_another_id() -> None:
    made = bench()
    made.place(**MARKET)
    position = made.position()
    assert position["symbol"] == "BTCUSD"
    assert position["asset_id"] == "64bbff51-59d6-4b3c-9351-13ad85e3c752"
    assert made.position(position["asset_id"]) == position
    for name in ("BTC/USD", "ETHUSD", "NOTHING"):
        answer = refused(lambda name=name: made.position(name))
        assert answer == (404, {"code": 40410000, "message": "position does not exist"})


def test_a_position_is_valued_at_the_bid() -> None:
    made = bench()
    made.place(**MARKET)
    made.quote("66000", "66010")
    position = made.position()
    assert (position["avg_entry_price"], position["current_price"]) == ("60000", "66000")
    assert position["market_value"] == "6583.5"
    assert position["cost_basis"] == "5985"
    assert (position["unrealized_pl"], position["unrealized_plpc"]) == ("598.5", "0.1")
    account = made.account()
    assert (account["cash"], account["equity"]) == ("4000", "10583.5")


def test_a_position_without_a_price_has_no_value() -> None:
    made = Bench()
    made.control.deposit("ETH/USD", D(2))
    assert made.position("ETHUSD")["market_value"] is None
    assert made.position("ETHUSD")["avg_entry_price"] == "0"
    assert made.account()["equity"] == "10000"


def test_cash_is_shown_cut_to_the_cent_and_kept_exactly() -> None:
    made = bench()
    made.quote("60000", "60000.01")
    made.place(type="market", qty="0.000333333")
    assert made.control.ledger()["cash"] == "9980.00001666667"
    assert made.account()["cash"] == "9980"


def close(made: Bench, name: str = "BTCUSD", **query: str) -> dict[str, Any]:
    return done(made.venue.account.close(Call({"symbol": name}, query)))


def test_a_position_is_closed_by_a_market_sell_of_all_of_it() -> None:
    made = bench()
    made.place(**MARKET)
    order = close(made)
    assert (order["side"], order["type"], order["time_in_force"]) == ("sell", "market", "gtc")
    assert order["qty"] == "0.09975"
    assert refused(lambda: made.position())[0] == 404


def test_a_position_is_closed_in_part() -> None:
    made = bench()
    made.place(**MARKET)
    assert close(made, percentage="50")["qty"] == "0.049875"
    assert close(made, qty="0.01")["qty"] == "0.01"
    assert made.position()["qty"] == "0.039875"


@pytest.mark.parametrize("query", [{"qty": "1", "percentage": "1"}, {"percentage": "101"}, {"qty": "x"}])
def test_a_close_without_sense_is_refused(query: dict[str, str]) -> None:
    made = bench()
    made.place(**MARKET)
    assert refused(lambda: close(made, **query))[0] == 422


def test_dust_can_be_closed_and_nothing_cannot() -> None:
    made = bench()
    made.control.deposit("BTC", D("0.00005"))
    assert close(made)["qty"] == "0.00005"
    assert refused(lambda: close(made))[1]["message"] == "position does not exist"


def test_a_position_whose_coins_are_reserved_cannot_be_closed() -> None:
    made = bench()
    made.place(**MARKET)
    made.place(side="sell", qty="0.09975", limit_price="70000")
    status, answer = refused(lambda: close(made))
    assert (status, answer["code"], answer["available"]) == (403, 40310000, "0")


def test_all_positions_are_closed_after_their_orders() -> None:
    made = bench()
    made.quote("1500", "1501", "ETH/USD")
    made.place(**MARKET)
    made.control.deposit("ETH", D(1))
    made.place(side="sell", qty="0.09975", limit_price="70000")
    answer = made.venue.account.close_all(Call({}, {"cancel_orders": "True"}))
    assert answer.status == 207
    assert [(item["symbol"], item["status"]) for item in answer.body] == [("BTCUSD", 200), ("ETHUSD", 200)]
    done(answer)
    assert made.control.ledger()["coins"] == {}


def test_a_position_that_cannot_be_closed_says_why() -> None:
    made = bench()
    made.place(**MARKET)
    made.place(side="sell", qty="0.09975", limit_price="70000")
    (result,) = done(made.venue.account.close_all(Call({}, {})))
    assert (result["status"], result["body"]["code"]) == (403, 40310000)


def test_executions_are_listed_gross_and_named_otherwise_than_in_the_stream() -> None:
    made = bench()
    order = made.place(**MARKET)
    (fill,) = activities(made, "FILL")
    (executed,) = made.exchange.executions
    assert fill == {
        "activity_type": "FILL",
        "id": f"20230309120000000::{executed.activity_id}",
        "order_id": order["id"],
        "order_status": "filled",
        "symbol": "BTC/USD",
        "side": "buy",
        "type": "fill",
        "price": "60000",
        "qty": "0.1",
        "cum_qty": "0.1",
        "leaves_qty": "0",
        "transaction_time": "2023-03-09T12:00:00.000000Z",
    }
    assert executed.activity_id != executed.id


def test_the_two_names_of_an_execution_can_be_made_equal() -> None:
    made = bench(switches=switched(same_execution_ids=True))
    made.place(**MARKET)
    assert activities(made)[0]["id"].endswith(made.exchange.executions[0].id)


def test_fees_are_listed_when_their_day_is_over() -> None:
    made = bench()
    made.place(**MARKET)
    made.place(type="market", qty="0.05", side="sell")
    assert activities(made, "CFEE") == []
    made.clock.at = datetime(2023, 3, 10, tzinfo=UTC)
    sold, bought = activities(made, "CFEE")
    assert bought["symbol"] == "BTCUSD" and "order_id" not in bought
    assert (bought["qty"], bought["net_amount"]) == ("-0.00025", "0")
    assert bought["description"] == "Coin Pair Transaction Fee (Non USD)"
    assert bought["date"] == "2023-03-09" and bought["id"].startswith("20230309000000000::")
    assert (sold["net_amount"], sold["description"]) == ("-7.5", "Coin Pair Transaction Fee (USD)")


def test_fees_can_be_listed_at_once() -> None:
    made = bench(switches=switched(fees_listed_at_once=True))
    made.place(**MARKET)
    assert [item["activity_type"] for item in activities(made)] == ["FILL", "CFEE"]


@pytest.fixture
def busy() -> Bench:
    made = bench(cash=D(100_000))
    for _ in range(5):
        made.place(type="market", qty="0.001")
        made.clock.forward(hours=12)
    return made


def test_transfers_are_listed_unless_they_shall_not_be(tmp_path: Path) -> None:
    made = bench(state_file=tmp_path / "state")
    made.control.deposit("USD", D("25.5"))
    made.control.deposit("USD", D("-5"))
    made.control.deposit("ETH", D(2))
    made.control.deposit("USD", D("-17"), listed=False)
    made.exchange.log.close()
    again = Bench(config(state_file=tmp_path / "state"))
    again.exchange.log.close()
    for each in (made, again):
        listed = activities(each, direction="asc")
        moved = [(one["activity_type"], one["net_amount"], one.get("qty")) for one in listed]
        assert moved == [("CSD", "25.5", None), ("CSW", "-5", None), ("JNLS", "0", "2")]
        assert len({one["id"] for one in listed}) == 3
        assert each.control.ledger()["cash"] == "10003.5"
    assert activities(made, "CSW") == activities(made, activity_types="CSW") == [listed[1]]
    assert activities(made, category="trade_activity") == []


def test_activities_come_newest_first_and_page_by_page(busy: Bench) -> None:
    everything = activities(busy, "FILL")
    assert [item["transaction_time"][:13] for item in everything] == [
        "2023-03-11T12",
        "2023-03-11T00",
        "2023-03-10T12",
        "2023-03-10T00",
        "2023-03-09T12",
    ]
    first = activities(busy, "FILL", page_size="2")
    second = activities(busy, "FILL", page_size="2", page_token=first[-1]["id"])
    third = activities(busy, "FILL", page_size="2", page_token=second[-1]["id"])
    assert first + second + third == everything
    assert activities(busy, "FILL", direction="asc") == everything[::-1]


def test_activities_are_chosen(busy: Bench) -> None:
    order_id = activities(busy, "FILL")[0]["order_id"]
    assert len(activities(busy, order_id=order_id)) == 1
    assert len(activities(busy, activity_types="FILL,CFEE")) == 5 + 5
    assert len(activities(busy, category="trade_activity")) == 5
    assert len(activities(busy, category="non_trade_activity", date="2023-03-10")) == 2
    assert len(activities(busy, "FILL", date="2023-03-10")) == 2
    assert len(activities(busy, "FILL", after="2023-03-10T00:00:00Z")) == 3
    assert len(activities(busy, "FILL", until="2023-03-10T00:00:00Z")) == 1
    assert refused(lambda: activities(busy, page_size="101"))[0] == 422
    assert refused(lambda: activities(busy, page_token="none"))[0] == 422
    assert refused(lambda: activities(busy, after="soon"))[0] == 422


def test_the_portfolio_is_sampled_and_never_null() -> None:
    made = bench()
    made.place(**MARKET)
    for price in ("60000", "66000", "72000"):
        made.quote(price, price)
        made.venue.after_each_look(made.clock.now())
        made.clock.forward(minutes=30)
    history = done(made.venue.portfolio.history(Call({}, {"period": "1D", "timeframe": "1H"})))
    assert history["timestamp"] == [1678363200, 1678366800]
    assert history["equity"] == [9985.0, 11182.0]
    assert history["profit_loss"] == [-15.0, 1182.0]
    assert (history["base_value"], history["timeframe"]) == (10_000.0, "1H")
    for query in ({"timeframe": "2H"}, {"period": "x"}, {"start": "x"}):
        assert refused(lambda query=query: made.venue.portfolio.history(Call({}, query)))[0] == 422


def test_assets_are_listed_by_class_and_found_by_every_name() -> None:
    made = Bench()
    listing = made.venue.account.list_assets
    assert listing(Call({}, {})).body == []
    crypto = listing(Call({}, {"asset_class": "crypto", "status": "active"})).body
    assert [asset["symbol"] for asset in crypto] == ["BTC/USD", "ETH/USD", "SOL/USD", "LTC/USD", "DOGE/USD"]
    for name in ("BTC/USD", "BTCUSD", "276e2673-764b-4ab6-a611-caf665ca6340"):
        assert made.venue.account.asset(Call({"symbol": name}, {})).body == crypto[0]
    assert refused(lambda: made.venue.account.asset(Call({"symbol": "X"}, {})))[0] == 404
    assert crypto[0]["easy_to_borrow"] is False and crypto[0]["exchange"] == "CRYPTO"


@pytest.mark.parametrize(
    ("at", "is_open", "opens", "closes"),
    [
        ("2023-03-09T15:00", True, "2023-03-10T09:30:00-05:00", "2023-03-09T16:00:00-05:00"),
        ("2023-03-09T12:00", False, "2023-03-09T09:30:00-05:00", "2023-03-09T16:00:00-05:00"),
        ("2023-03-11T12:00", False, "2023-03-13T09:30:00-04:00", "2023-03-13T16:00:00-04:00"),
    ],
)
def test_the_clock_tells_the_hours_of_equities(at: str, is_open: bool, opens: str, closes: str) -> None:
    made = Bench(clock=HandClock(datetime.fromisoformat(at).replace(tzinfo=UTC)))
    answer = made.venue.account.clock(Call({}, {})).body
    assert (answer["is_open"], answer["next_open"], answer["next_close"]) == (is_open, opens, closes)
