"""What Alpaca writes, read as domain values."""

from datetime import UTC, datetime
from decimal import Decimal as D
from typing import Any

import pytest
from alpaca.trading.enums import OrderStatus as VenueStatus

from dca.adapters.venues.alpaca import wire
from dca.adapters.venues.alpaca.wire import Malformed
from dca.domain.order import OrderStatus, Side

ORDER: dict[str, Any] = {
    "id": "904837e3-3b76-47ec-b432-046db621571b",
    "client_order_id": "dca0a1b2c3d-c42-safety-3-1",
    "created_at": "2026-09-26T22:30:01.487737737Z",
    "updated_at": "2026-09-26T22:30:01.487737737Z",
    "submitted_at": "2026-09-26T22:30:01.487737737Z",
    "symbol": "BTC/USD",
    "asset_class": "crypto",
    "notional": None,
    "qty": "0.0001",
    "filled_qty": "0",
    "filled_avg_price": None,
    "side": "buy",
    "type": "limit",
    "limit_price": "55000",
    "status": "new",
}


def order(**changes: Any) -> dict[str, Any]:
    return {**ORDER, **changes}


def test_an_order_object_is_read_exactly() -> None:
    seen = wire.venue_order(
        order(filled_qty="0.00004", filled_avg_price="54999.5", status="partially_filled")
    )
    assert seen.venue_id == ORDER["id"]
    assert seen.key == "dca0a1b2c3d-c42-safety-3-1"
    assert (seen.symbol, seen.side, seen.status) == ("BTC/USD", Side.BUY, OrderStatus.PARTIAL)
    assert (seen.qty, seen.limit) == (D("0.0001"), D(55000))
    assert (seen.filled_qty, seen.filled_avg_price) == (D("0.00004"), D("54999.5"))
    assert seen.submitted_at == datetime(2026, 9, 26, 22, 30, 1, 487737, tzinfo=UTC)


@pytest.mark.parametrize(
    ("word", "filled", "meant"),
    [
        ("new", "0", OrderStatus.OPEN),
        ("accepted", "0", OrderStatus.OPEN),
        ("pending_new", "0", OrderStatus.OPEN),
        ("pending_new", None, OrderStatus.OPEN),
        ("held", "0", OrderStatus.OPEN),
        ("pending_cancel", "0", OrderStatus.OPEN),
        ("pending_cancel", "0.00001", OrderStatus.PARTIAL),
        ("pending_replace", "0", OrderStatus.OPEN),
        ("stopped", "0", OrderStatus.OPEN),
        ("suspended", "0.00001", OrderStatus.PARTIAL),
        ("done_for_day", "0", OrderStatus.OPEN),
        ("done_for_day", "0.00001", OrderStatus.PARTIAL),
        ("partially_filled", "0.00001", OrderStatus.PARTIAL),
        ("filled", "0.0001", OrderStatus.FILLED),
        ("canceled", "0", OrderStatus.CANCELED),
        ("canceled", "0.00001", OrderStatus.CANCELED),
        ("expired", "0", OrderStatus.EXPIRED),
        ("rejected", None, OrderStatus.REJECTED),
        ("replaced", "0", OrderStatus.CANCELED),
    ],
)
def test_status_words_mean(word: str, filled: str | None, meant: OrderStatus) -> None:
    assert wire.venue_order(order(status=word, filled_qty=filled)).status is meant


def test_every_status_that_the_sdk_knows_has_a_meaning() -> None:
    assert {status.value for status in VenueStatus} <= wire.STATUSES.keys()


def test_a_new_status_word_leaves_the_order_open_and_is_said(caplog: pytest.LogCaptureFixture) -> None:
    assert wire.venue_order(order(status="levitating")).status is OrderStatus.OPEN
    assert wire.venue_order(order(status="levitating", filled_qty="0.00001")).status is OrderStatus.PARTIAL
    assert [(record.message, record.status) for record in caplog.records] == [
        ("order_status_unknown", "levitating")
    ] * 2


def test_optional_fields_may_be_missing() -> None:
    bare = {name: ORDER[name] for name in ("id", "symbol", "side", "status", "created_at")}
    seen = wire.venue_order(bare)
    assert (seen.key, seen.qty, seen.limit, seen.filled_avg_price) == ("", None, None, None)
    assert seen.filled_qty == 0


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "text",
        {},
        order(id=None),
        order(id=""),
        order(id=".."),
        order(id="a/b"),
        order(status=None),
        order(status=7),
        order(side="sideways"),
        order(filled_qty="much"),
        order(filled_qty="NaN"),
        order(filled_qty=True),
        order(filled_qty={"a": 1}),
        order(status="filled", filled_qty="0"),
        order(status="canceled", filled_qty=None),
        order(status="partially_filled", filled_qty=None),
        order(submitted_at="yesterday"),
        order(submitted_at="2026-09-26T22:30:01"),
        order(submitted_at=None, created_at=None, updated_at=None),
        order(submitted_at=5),
    ],
)
def test_what_is_no_order_is_malformed(body: Any) -> None:
    with pytest.raises(Malformed):
        wire.venue_order(body)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-09-26T22:30:01Z", datetime(2026, 9, 26, 22, 30, 1, tzinfo=UTC)),
        ("2026-09-26T22:30:01.1Z", datetime(2026, 9, 26, 22, 30, 1, 100_000, tzinfo=UTC)),
        ("2026-09-26T22:30:01.123456789Z", datetime(2026, 9, 26, 22, 30, 1, 123_456, tzinfo=UTC)),
        ("2026-09-26T18:30:01.12345678-04:00", datetime(2026, 9, 26, 22, 30, 1, 123_456, tzinfo=UTC)),
        ("2026-09-26T22:30:01+00:00", datetime(2026, 9, 26, 22, 30, 1, tzinfo=UTC)),
    ],
)
def test_times_come_with_any_offset_and_up_to_nine_digits(text: str, meant: datetime) -> None:
    assert wire.instant(text) == meant
    assert wire.instant(text).tzinfo is UTC


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("0.000199499", D("0.000199499")),
        ("1e-05", D("0.00001")),
        (0.1, D("0.1")),
        (1e-05, D("0.00001")),
        (84010.1, D("84010.1")),
        (7, D(7)),
        (D("0.30"), D("0.3")),
    ],
)
def test_amounts_are_text_or_numbers(value: Any, meant: D) -> None:
    assert wire.amount(value) == meant


@pytest.mark.parametrize(
    "value", ["", "x", "nan", "Infinity", float("nan"), float("inf"), None, True, [], {}]
)
def test_what_is_no_amount_is_refused(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        wire.amount(value)


def update(**changes: Any) -> dict[str, Any]:
    return {
        "event": "fill",
        "timestamp": "2026-09-26T22:30:02.5Z",
        "execution_id": "b6e1f2aa-0000-4000-8000-000000000001",
        "price": "54999.5",
        "qty": "0.00006",
        "position_qty": "0.00009975",
        "order": order(status="filled", filled_qty="0.0001", filled_avg_price="54999.5"),
        **changes,
    }


def test_a_fill_carries_its_execution() -> None:
    seen = wire.trade_update(update())
    assert (seen.event, seen.order.status) == ("fill", OrderStatus.FILLED)
    assert seen.execution is not None
    assert seen.execution.id == "b6e1f2aa-0000-4000-8000-000000000001"
    assert (seen.execution.qty, seen.execution.price) == (D("0.00006"), D("54999.5"))
    assert seen.execution.cum_qty == D("0.0001")
    assert seen.at == seen.execution.at == datetime(2026, 9, 26, 22, 30, 2, 500_000, tzinfo=UTC)


@pytest.mark.parametrize("event", ["new", "pending_new", "canceled", "trade_bust", "restated", "brand_new"])
def test_other_events_pass_without_an_execution(event: str) -> None:
    seen = wire.trade_update(update(event=event))
    assert (seen.event, seen.execution) == (event, None)


@pytest.mark.parametrize("change", [{"qty": None}, {"price": "0"}, {"qty": "-1"}, {"price": "x"}])
def test_a_fill_that_cannot_be_read_still_shows_its_order(change: dict[str, Any]) -> None:
    seen = wire.trade_update(update(**change))
    assert seen.execution is None
    assert seen.order.filled_qty == D("0.0001")


def test_an_execution_without_an_id_is_named_by_order_and_quantity() -> None:
    seen = wire.trade_update(update(execution_id=None)).execution
    assert seen is not None
    assert seen.id == f"{ORDER['id']}@0.0001"


@pytest.mark.parametrize("data", [None, [], {}, {"event": "fill"}, update(order=None), update(order={})])
def test_an_update_without_an_order_is_malformed(data: Any) -> None:
    with pytest.raises(Malformed):
        wire.trade_update(data)


def account(**changes: Any) -> dict[str, Any]:
    return {
        "id": "a",
        "status": "ACTIVE",
        "crypto_status": "ACTIVE",
        "cash": "100.5",
        "equity": "120",
        "buying_power": "200",
        "non_marginable_buying_power": "87.84",
        "trading_blocked": False,
        "account_blocked": False,
        "trade_suspended_by_user": False,
        **changes,
    }


def test_crypto_spends_what_is_not_on_margin() -> None:
    seen = wire.account(account())
    assert (seen.cash, seen.equity, seen.spendable, seen.blocked) == (D("100.5"), D(120), D("87.84"), False)


@pytest.mark.parametrize(
    "change",
    [
        {"trading_blocked": True},
        {"account_blocked": True},
        {"trade_suspended_by_user": True},
        {"status": "ACCOUNT_CLOSED"},
        {"crypto_status": "INACTIVE"},
    ],
)
def test_any_block_blocks(change: dict[str, Any]) -> None:
    assert wire.account(account(**change)).blocked


def test_an_account_without_spendable_money_named_is_not_read() -> None:
    with pytest.raises(Malformed):
        wire.account(account(non_marginable_buying_power=None))


def asset(**changes: Any) -> dict[str, Any]:
    return {
        "symbol": "BTC/USD",
        "status": "active",
        "tradable": True,
        "fractionable": True,
        "min_order_size": "0.000015739",
        "min_trade_increment": "0.000000001",
        "price_increment": "0.000000001",
        **changes,
    }


@pytest.mark.parametrize(
    ("change", "tradable"),
    [
        ({}, True),
        ({"fractionable": False}, False),
        ({"tradable": False}, False),
        ({"status": "inactive"}, False),
    ],
)
def test_an_instrument_needs_every_flag(change: dict[str, Any], tradable: bool) -> None:
    assert wire.instrument(asset(**change)).tradable is tradable


@pytest.mark.parametrize("change", [{"price_increment": "0"}, {"min_order_size": None}, {"symbol": None}])
def test_an_instrument_needs_its_increments(change: dict[str, Any]) -> None:
    body = asset(**change)
    if body["symbol"] is None:
        del body["symbol"]
    with pytest.raises(Malformed):
        wire.instrument(body)


@pytest.mark.parametrize(
    ("bid", "ask"),
    [(0, 1), (-1, 1), (2, 1), (float("nan"), 1), (1, float("nan")), (1, float("inf")), (1, 1e16), ("1", 2)],
)
def test_prices_that_are_none_make_no_quote(bid: Any, ask: Any) -> None:
    with pytest.raises(Malformed):
        wire.quote("BTC/USD", {"bp": bid, "ap": ask, "t": "2026-09-26T22:30:00Z"})
