"""The broker: against the paper exchange what each method means, against a bad server each failure."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal as D
from pathlib import Path
from random import Random
from typing import Any

import pytest
from alpaca_servers import CLOSE, HANG, KEY, RESET, SECRET, FaultServer, Reply, fault_server, html, reply
from build import BTC, T0
from hypothesis import given, settings
from hypothesis import strategies as st

from dca.adapters.clock import ManualClock, SystemClock
from dca.adapters.venues.alpaca import AlpacaBroker, rest
from dca.adapters.venues.sim import SimVenue
from dca.domain.errors import DuplicateKey, InDoubt, Rejected, Unauthorized, Unavailable, VenueError
from dca.domain.market import Quote
from dca.domain.money import floor_to
from dca.domain.order import Intent, OrderStatus, Purpose, Side
from dca.paper.config import PaperConfig, Switches
from dca.paper.serve import Running, running

STRAIGHT = Switches(partial_rate=0.0, event_before_response=0.0)


def intent(key: str = "dca0a1b2c3d-c7-base-0-1", **changes: Any) -> Intent:
    base: dict[str, Any] = {
        "symbol": "BTC/USD",
        "side": Side.BUY,
        "purpose": Purpose.BASE,
        "step": 0,
        "qty": D("0.001"),
        "limit": D(20_000),
        "cycle_id": 7,
        "reason": "test",
    }
    return Intent(key=key, **{**base, **changes})


# Against the paper exchange


@pytest.fixture(scope="module")
def exchange() -> Iterator[Running]:
    with running(PaperConfig(key=KEY, secret=SECRET, switches=STRAIGHT), SystemClock()) as found:
        yield found


@pytest.fixture
def venue(exchange: Running) -> Running:
    """Quotes stand, nothing is open, nothing is held."""
    exchange.control.quote("BTC/USD", "20100", "20110")
    exchange.control.quote("ETH/USD", "1500", "1501")
    for order_id in exchange.call(lambda control: list(control.exchange.open)):
        exchange.control.cancel(order_id)
    for symbol, held in exchange.control.ledger()["coins"].items():
        exchange.control.deposit(symbol, str(-D(held)))
    return exchange


def broker_of(venue: Running, **changes: Any) -> AlpacaBroker:
    given = {"key": KEY, "secret": SECRET, **changes}
    return AlpacaBroker(
        given["key"], given["secret"], base_url=venue.base_url, data_url=venue.base_url, timeout_s=5
    )


@pytest.fixture
def broker(venue: Running) -> Iterator[AlpacaBroker]:
    made = broker_of(venue)
    yield made
    made.close()


_count = iter(range(1, 1_000_000))


def fresh(**changes: Any) -> Intent:
    return intent(f"dca0a1b2c3d-c7-base-0-{next(_count)}", **changes)


def test_a_limit_order_rests_and_is_found_under_its_key(broker: AlpacaBroker) -> None:
    wish = fresh()
    sent = broker.submit(wish)
    assert (sent.key, sent.symbol, sent.side) == (wish.key, "BTC/USD", Side.BUY)
    assert (sent.status, sent.qty, sent.limit) == (OrderStatus.OPEN, wish.qty, wish.limit)
    found = broker.find(wish.key)
    assert found is not None
    assert (found.venue_id, found.status, found.filled_qty) == (sent.venue_id, OrderStatus.OPEN, 0)
    assert [order.key for order in broker.open_orders()] == [wish.key]


def test_a_key_that_nobody_used_is_not_found(broker: AlpacaBroker) -> None:
    assert broker.find("dca0a1b2c3d-c7-base-0-0") is None


def test_a_key_is_taken_for_ever(broker: AlpacaBroker) -> None:
    wish = fresh()
    sent = broker.submit(wish)
    with pytest.raises(DuplicateKey):
        broker.submit(wish)
    broker.cancel(sent.venue_id)
    with pytest.raises(DuplicateKey):
        broker.submit(wish)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"qty": D("0.0001")}, "cost basis"),
        ({"qty": D(9)}, "insufficient balance for USD"),
        ({"side": Side.SELL, "limit": D(30_000)}, "insufficient balance for BTC"),
        ({"symbol": "NOPE/USD"}, "NOPE"),
    ],
)
def test_the_venue_refuses(broker: AlpacaBroker, change: dict[str, Any], words: str) -> None:
    wish = fresh(**change)
    with pytest.raises(Rejected, match=words) as refused:
        broker.submit(wish)
    assert refused.value.status in (403, 404, 422)
    assert refused.value.code > 0
    assert broker.find(wish.key) is None


def test_a_market_order_fills_and_its_executions_are_in_the_history(broker: AlpacaBroker) -> None:
    wish = fresh(limit=None)
    broker.submit(wish)
    seen = broker.find(wish.key)
    assert seen is not None
    assert (seen.status, seen.filled_qty, seen.filled_avg_price) == (
        OrderStatus.FILLED,
        D("0.001"),
        D(20_110),
    )
    [execution] = broker.executions(seen.venue_id)
    assert (execution.qty, execution.price, execution.cum_qty) == (D("0.001"), D(20_110), D("0.001"))
    assert "::" not in execution.id
    assert abs(execution.at - SystemClock().now()) < timedelta(minutes=1)


def test_executions_are_of_one_order_and_all_of_them(
    broker: AlpacaBroker, venue: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "FILLS_PAGE", 3)
    other = broker.submit(fresh())
    sent = broker.submit(fresh(qty=D("0.008")))
    for part in range(8):
        venue.control.fill(sent.venue_id, "0.001")
        if part % 3 == 0:
            venue.control.fill(other.venue_id, "0.0001")
    executions = broker.executions(sent.venue_id)
    assert sorted(execution.cum_qty for execution in executions) == [D(n) / 1000 for n in range(1, 9)]
    assert len({execution.id for execution in executions}) == 8
    assert broker.executions("904837e3-3b76-47ec-b432-046db621571b") == []


def test_the_history_has_everybodys_executions_and_every_transfer(
    broker: AlpacaBroker, venue: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = SystemClock().now()
    sent = [broker.submit(fresh(limit=None)) for _ in range(4)]
    broker.submit(fresh(limit=None, side=Side.SELL, qty=D("0.0009")))
    venue.control.deposit("USD", "120.50")
    venue.control.deposit("USD", "-120.50")
    venue.control.deposit("ETH/USD", "2")
    venue.control.deposit("USD", "-17", listed=False)
    monkeypatch.setattr(rest, "FILLS_PAGE", 3)
    found = broker.activities(begun)
    fills = [one for one in found if one.kind == "FILL"]
    assert [(one.qty, one.net, one.symbol) for one in fills[:4]] == [(D("0.001"), D("-20.11"), "BTC/USD")] * 4
    assert [one.order_id for one in fills[:4]] == [order.venue_id for order in sent]
    assert (fills[4].qty, fills[4].net) == (D("-0.0009"), D("18.09"))
    moved = {(one.kind, one.symbol): (one.qty, one.net) for one in found if one.kind != "FILL"}
    assert moved == {
        ("CSD", None): (None, D("120.50")),
        ("CSW", None): (None, D("-120.50")),
        ("JNLS", "ETH/USD"): (D(2), D(0)),
    }
    assert len({one.id for one in found}) == 8
    assert all(begun <= one.at <= SystemClock().now() for one in found)
    venue.control.deposit("USD", "17", listed=False)
    assert broker.activities(found[-1].at) == [found[-1]]
    assert broker.activities(found[-1].at + timedelta(microseconds=1)) == []


def test_a_canceled_order_is_no_longer_open(broker: AlpacaBroker, venue: Running) -> None:
    wish = fresh(qty=D("0.002"))
    sent = broker.submit(wish)
    venue.control.fill(sent.venue_id, "0.0005")
    [partly] = broker.open_orders()
    assert (partly.status, partly.filled_qty) == (OrderStatus.PARTIAL, D("0.0005"))
    broker.cancel(sent.venue_id)
    seen = broker.find(wish.key)
    assert seen is not None
    assert (seen.status, seen.filled_qty) == (OrderStatus.CANCELED, D("0.0005"))
    assert broker.open_orders() == []


def test_a_cancel_that_cannot_be_is_rejected(broker: AlpacaBroker) -> None:
    wish = fresh(limit=None)
    sent = broker.submit(wish)
    with pytest.raises(Rejected) as refused:
        broker.cancel(sent.venue_id)
    assert refused.value.status == 422
    with pytest.raises(Rejected) as refused:
        broker.cancel("904837e3-3b76-47ec-b432-046db621571b")
    assert refused.value.status == 404


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "?status=all"])
def test_a_cancel_never_means_every_order(broker: AlpacaBroker, name: str) -> None:
    sent = broker.submit(fresh())
    with pytest.raises(ValueError, match="not an id"):
        broker.cancel(name)
    assert [order.venue_id for order in broker.open_orders()] == [sent.venue_id]


@pytest.mark.parametrize("size", [1, 2, 7, 20, 500])
def test_open_orders_are_the_whole_list_whatever_the_page(
    broker: AlpacaBroker, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    sent = {broker.submit(fresh(qty=D("0.001"))).venue_id for _ in range(20)}
    monkeypatch.setattr(rest, "ORDERS_PAGE", size)
    if size == 1:
        # Each page repeats the order it starts at, so pages of one cannot move on.
        with pytest.raises(Unavailable, match="cannot be read to its end"):
            broker.open_orders()
        return
    listed = broker.open_orders()
    assert {order.venue_id for order in listed} == sent
    assert len(listed) == 20


@pytest.mark.parametrize("size", [2, 7, 500])
def test_orders_since_an_instant_are_all_of_them_over_or_not(
    broker: AlpacaBroker, venue: Running, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    before = broker.submit(fresh())
    at = broker.submit(fresh()).submitted_at
    sent = [broker.submit(fresh(qty=D("0.001"))) for _ in range(12)]
    venue.control.fill(sent[3].venue_id, "0.0004")
    broker.cancel(sent[5].venue_id)
    filled = broker.submit(fresh(limit=None))
    monkeypatch.setattr(rest, "ORDERS_PAGE", size)
    found = broker.orders_since(at)
    assert [order.venue_id for order in found] == [order.venue_id for order in [*sent, filled]]
    status = {order.venue_id: str(order.status) for order in found}
    assert (status[sent[3].venue_id], status[sent[5].venue_id]) == ("partial", "canceled")
    assert status[filled.venue_id] == "filled"
    earlier = broker.orders_since(before.submitted_at - timedelta(microseconds=1))
    assert before.venue_id in [order.venue_id for order in earlier]
    assert broker.orders_since(filled.submitted_at + timedelta(seconds=1)) == []


def test_a_simulated_venue_lists_orders_alike() -> None:
    clock = ManualClock(T0)
    sim = SimVenue(clock, {"BTC/USD": BTC}, D(1000), Random(1))
    sim.quote(Quote("BTC/USD", D(20_100), D(20_110), T0))
    sim.submit(fresh())
    clock.move(1)
    wish, filled = fresh(), fresh(limit=None)
    sim.cancel(sim.submit(wish).venue_id)
    sim.submit(filled)
    assert [order.key for order in sim.orders_since(T0)] == [wish.key, filled.key]
    assert sim.orders_since(clock.now()) == []


def test_positions_are_named_with_a_slash_and_net_of_fees(broker: AlpacaBroker) -> None:
    assert broker.positions() == {}
    assert (broker.holding("BTC/USD").qty, broker.holding("BTC/USD").available) == (0, 0)
    broker.submit(fresh(limit=None))
    held = broker.holding("BTC/USD")
    assert D("0.00099") < held.qty < D("0.001")
    assert broker.positions() == {"BTC/USD": held}
    broker.submit(fresh(side=Side.SELL, qty=D("0.0009"), limit=D(30_000)))
    assert broker.holding("BTC/USD").available == held.qty - D("0.0009")
    assert broker.holding("ETH/USD").qty == 0


def test_the_account_says_what_crypto_may_spend(broker: AlpacaBroker) -> None:
    before = broker.account()
    broker.submit(fresh(qty=D("0.01")))
    after = broker.account()
    assert not before.blocked
    assert before.id == after.id
    assert before.spendable - after.spendable == D(200)
    assert before.cash == after.cash


def test_instruments_come_from_the_venue(broker: AlpacaBroker) -> None:
    found = broker.instruments()
    assert {"BTC/USD", "ETH/USD", "SOL/USD"} <= found.keys()
    assert found["BTC/USD"].min_trade_increment == D("0.000000001")
    assert found["BTC/USD"].tradable


def test_the_latest_quote_is_exact(broker: AlpacaBroker, venue: Running) -> None:
    venue.control.quote("BTC/USD", "20100.123456789", "20110.3")
    seen = broker.latest_quote("BTC/USD")
    assert (seen.symbol, seen.bid, seen.ask) == ("BTC/USD", D("20100.123456789"), D("20110.3"))
    with pytest.raises(Unavailable):
        broker.latest_quote("NOPE/USD")


def test_latest_quotes_leave_out_what_the_venue_does_not_know(broker: AlpacaBroker, venue: Running) -> None:
    venue.control.quote("BTC/USD", "20100", "20110")
    venue.control.quote("ETH/USD", "1500", "1501")
    assert broker.latest_quotes([]) == {}
    found = broker.latest_quotes(["BTC/USD", "NOPE/USD", "ETH/USD"])
    assert {symbol: quote.bid for symbol, quote in found.items()} == {"BTC/USD": 20100, "ETH/USD": 1500}


def test_the_venue_tells_its_time(broker: AlpacaBroker) -> None:
    assert abs(broker.time() - SystemClock().now()) < timedelta(minutes=1)


def test_wrong_keys_are_unauthorized_whatever_is_asked(venue: Running) -> None:
    broker = broker_of(venue, secret="another")
    calls: list[Callable[[], object]] = [
        lambda: broker.submit(fresh()),
        lambda: broker.cancel("an-id"),
        lambda: broker.find("k"),
        broker.open_orders,
        lambda: broker.orders_since(T0),
        lambda: broker.executions("an-id"),
        broker.positions,
        lambda: broker.holding("BTC/USD"),
        broker.account,
        broker.instruments,
        lambda: broker.latest_quote("BTC/USD"),
        lambda: broker.latest_quotes(["BTC/USD", "ETH/USD"]),
        broker.time,
    ]
    for call in calls:
        with pytest.raises(Unauthorized) as refused:
            call()
        assert "another" not in str(refused.value)
    broker.close()


def test_a_rate_limit_refuses_this_attempt_and_nothing_more() -> None:
    setup = PaperConfig(key=KEY, secret=SECRET, switches=replace(STRAIGHT, rate_limit=2))
    with running(setup, SystemClock()) as venue:
        broker = broker_of(venue)
        broker.account()
        broker.account()
        with pytest.raises(Rejected) as refused:
            broker.submit(fresh())
        assert (refused.value.status, refused.value.code) == (429, 42910000)
        with pytest.raises(Unavailable):
            broker.account()
        broker.close()
        assert venue.control.status()["orders"] == 0


@given(st.decimals("0.002", "0.004", places=12), st.decimals(10_000, 20_000, places=9))
@settings(max_examples=25, deadline=None)
def test_no_digit_is_lost_on_the_way(exchange: Running, qty: D, limit: D) -> None:
    exchange.control.quote("BTC/USD", "20100", "20110")
    broker = broker_of(exchange)
    qty = floor_to(qty, D("0.000000001"))
    sent = broker.submit(fresh(qty=qty, limit=limit, symbol="BTC/USD"))
    assert (sent.qty, sent.limit) == (qty, limit)
    broker.cancel(sent.venue_id)
    broker.close()


# Against a server that fails


@pytest.fixture
def bad() -> Iterator[FaultServer]:
    with fault_server() as server:
        yield server


@pytest.fixture
def hurt(bad: FaultServer) -> Iterator[AlpacaBroker]:
    broker = AlpacaBroker(KEY, SECRET, base_url=bad.url, data_url=bad.url, timeout_s=0.3)
    yield broker
    broker.close()


ORDER = {
    "id": "904837e3-3b76-47ec-b432-046db621571b",
    "client_order_id": intent().key,
    "submitted_at": "2026-09-26T22:30:01.487737737Z",
    "symbol": "BTC/USD",
    "asset_class": "crypto",
    "qty": "0.001",
    "filled_qty": "0",
    "side": "buy",
    "limit_price": "20000",
    "status": "pending_new",
}


def said(status: int, code: int, message: str) -> bytes:
    return reply(status, {"code": code, "message": message})


def read_all(broker: AlpacaBroker) -> list[Callable[[], object]]:
    return [
        lambda: broker.find("k"),
        broker.open_orders,
        lambda: broker.executions(ORDER["id"]),
        lambda: broker.activities(T0),
        broker.positions,
        lambda: broker.holding("BTC/USD"),
        broker.account,
        broker.instruments,
        lambda: broker.latest_quote("BTC/USD"),
    ]


NO_PROOF: dict[str, Reply] = {
    "500": said(500, 50010000, "internal server error occurred"),
    "502 empty": reply(502),
    "503 html": html(503),
    "504 html": html(504),
    "504 json": said(504, 50410000, "gateway timeout"),
    "408": said(408, 40810000, "timeout"),
    "425": said(425, 42510000, "too early"),
    "403 html": html(403),
    "403 other json": reply(403, {"error": "no"}),
    "404 html": html(404),
    "429 html": html(429),
    "302": reply(302, b"", Location="http://127.0.0.1:9/elsewhere"),
    "307": reply(307, b"", Location="/v2/elsewhere"),
    "307 with an order": reply(307, ORDER, Location="/v2/elsewhere"),
    "200 html": html(200),
    "200 half json": reply(200, b'{"id": "904837e3'),
    "200 deep json": reply(200, b"[" * 100_000),
    "200 text": reply(200, "words"),
    "200 number": reply(200, 7),
    "200 wrong charset": reply(200, b'{"id": "\xff\xfe"}'),
    "200 cut off": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99999\r\n\r\n{",
    "200 broken gzip": reply(200, b"no gzip", Content_Encoding="gzip"),
    "200 broken chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "no http": b"what?\r\n\r\n",
    "hang": HANG,
    "reset": RESET,
    "closed": CLOSE,
}


@pytest.mark.parametrize("answer", NO_PROOF.values(), ids=NO_PROOF.keys())
def test_a_write_without_a_proof_is_in_doubt_after_one_attempt(
    bad: FaultServer, hurt: AlpacaBroker, answer: Reply
) -> None:
    for write in (lambda: hurt.submit(intent()), lambda: hurt.cancel("an-id")):
        bad.will(answer)
        with pytest.raises(InDoubt) as doubt:
            write()
        assert len(bad.requests) == 1
        assert SECRET not in str(doubt.value)


@pytest.mark.parametrize("answer", [reply(200), reply(204)], ids=["200 empty", "204"])
def test_an_order_is_not_taken_for_sent_without_being_shown(
    bad: FaultServer, hurt: AlpacaBroker, answer: bytes
) -> None:
    bad.will(answer)
    with pytest.raises(InDoubt):
        hurt.submit(intent())
    assert len(bad.requests) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"client_order_id": "somebody-elses"},
        {"client_order_id": None},
        {"status": None},
        {"side": "sideways"},
        {"filled_qty": "many"},
        {"submitted_at": None},
    ],
)
def test_an_order_that_cannot_be_read_is_in_doubt(
    bad: FaultServer, hurt: AlpacaBroker, change: dict[str, Any]
) -> None:
    bad.will(reply(200, {**ORDER, **change}))
    with pytest.raises(InDoubt):
        hurt.submit(intent())
    with pytest.raises(Unavailable):
        hurt.find(intent().key)


def test_a_new_status_word_and_nulls_are_an_open_order(bad: FaultServer, hurt: AlpacaBroker) -> None:
    bad.will(reply(200, {**ORDER, "status": "levitating", "filled_qty": None, "qty": None, "new_field": {}}))
    assert hurt.submit(intent()).status is OrderStatus.OPEN


READ_FAILS = {**NO_PROOF, "200 empty": reply(200), "204": reply(204), "422": said(422, 42210000, "no")}
READ_FAILS["429"] = said(429, 42910000, "rate limit exceeded")
READ_FAILS["404 for the path"] = said(404, 40410000, "endpoint not found.")


@pytest.mark.parametrize("answer", READ_FAILS.values(), ids=READ_FAILS.keys())
def test_a_read_that_fails_tells_nothing_after_one_attempt(
    bad: FaultServer, hurt: AlpacaBroker, answer: Reply
) -> None:
    for read in read_all(hurt):
        bad.will(answer)
        with pytest.raises(Unavailable):
            read()
        assert len(bad.requests) == 1


def test_404_is_none_only_in_the_venues_own_words(bad: FaultServer, hurt: AlpacaBroker) -> None:
    bad.will(said(404, 40410000, "order not found for k"))
    assert hurt.find("k") is None
    assert hurt.holding("BTC/USD").qty == 0
    for read in (hurt.open_orders, hurt.positions, hurt.account, hurt.instruments):
        with pytest.raises(Unavailable):
            read()


@pytest.mark.parametrize("answer", [html(401), reply(401), reply(401, {"message": "unauthorized."})])
def test_401_is_unauthorized_in_whatever_words(bad: FaultServer, hurt: AlpacaBroker, answer: bytes) -> None:
    bad.will(answer)
    for call in [*read_all(hurt), lambda: hurt.submit(intent()), lambda: hurt.cancel("an-id")]:
        with pytest.raises(Unauthorized):
            call()


@pytest.mark.parametrize(
    "answer",
    [
        said(403, 40310000, "insufficient balance for USD"),
        said(422, 42210000, "asset is not active"),
        said(429, 42910000, "rate limit exceeded"),
        said(404, 40410000, "asset not found"),
    ],
)
def test_a_refusal_in_the_venues_own_words_is_a_proof(
    bad: FaultServer, hurt: AlpacaBroker, answer: bytes
) -> None:
    bad.will(answer)
    for write in (lambda: hurt.submit(intent()), lambda: hurt.cancel("an-id")):
        with pytest.raises(Rejected) as refused:
            write()
        assert not isinstance(refused.value, Unauthorized | DuplicateKey)
    assert len(bad.requests) == 2


def test_a_server_that_is_not_there(hurt: AlpacaBroker, bad: FaultServer) -> None:
    bad.close()
    with pytest.raises(InDoubt):
        hurt.submit(intent())
    for read in read_all(hurt):
        with pytest.raises(Unavailable):
            read()


def test_what_goes_over_the_wire_is_text_and_complete(bad: FaultServer, hurt: AlpacaBroker) -> None:
    bad.will(reply(200, ORDER))
    hurt.submit(intent(qty=D("0.000000010"), limit=D("1E+2")))
    hurt.submit(intent(limit=None, side=Side.SELL, qty=D("12345678.123456789")))
    limit, market = (request.json for request in bad.requests)
    assert limit == {
        "symbol": "BTC/USD",
        "qty": "0.00000001",
        "side": "buy",
        "type": "limit",
        "time_in_force": "gtc",
        "client_order_id": intent().key,
        "limit_price": "100",
    }
    assert (market["type"], market["side"], market["qty"]) == ("market", "sell", "12345678.123456789")
    assert "limit_price" not in market
    assert bad.requests[0].headers["apca-api-key-id"] == KEY


def rows(count: int, first: int = 0, **changes: Any) -> list[dict[str, Any]]:
    return [
        {**ORDER, "id": f"id-{number}", "submitted_at": f"2026-09-26T22:30:{59 - number % 60:02}.1234567Z"}
        | changes
        for number in range(first, first + count)
    ]


def test_a_page_that_fails_makes_the_list_unavailable(
    bad: FaultServer, hurt: AlpacaBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "ORDERS_PAGE", 3)
    for read in (hurt.open_orders, lambda: hurt.orders_since(T0)):
        bad.will(reply(200, rows(3)), html(500))
        asked = len(bad.requests)
        with pytest.raises(Unavailable):
            read()
        assert len(bad.requests) == asked + 2


def test_a_server_that_sends_the_first_page_again_makes_the_list_unavailable(
    bad: FaultServer, hurt: AlpacaBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "ORDERS_PAGE", 3)
    for read in (hurt.open_orders, lambda: hurt.orders_since(T0)):
        bad.will(reply(200, rows(3)))
        asked = len(bad.requests)
        with pytest.raises(Unavailable, match="cannot be read to its end"):
            read()
        assert len(bad.requests) == asked + 2


def test_orders_that_share_an_instant_are_not_lost_between_pages(
    bad: FaultServer, hurt: AlpacaBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "ORDERS_PAGE", 3)
    bad.will(reply(200, rows(3)), reply(200, rows(3, 1)), reply(200, rows(1, 3)))
    assert [order.venue_id for order in hurt.open_orders()] == ["id-0", "id-1", "id-2", "id-3"]
    assert [request.query["status"] for request in bad.requests] == ["open"] * 3
    assert bad.requests[1].query["until"] == "2026-09-26T22:30:57.123457Z"


def test_one_order_that_cannot_be_read_makes_the_list_unavailable(
    bad: FaultServer, hurt: AlpacaBroker
) -> None:
    bad.will(reply(200, [*rows(1), {**ORDER, "status": None}]))
    with pytest.raises(Unavailable):
        hurt.open_orders()


def test_orders_of_other_asset_classes_are_passed_over(bad: FaultServer, hurt: AlpacaBroker) -> None:
    stock = {**ORDER, "id": "stock", "asset_class": "us_equity", "side": "sell_short", "qty": None}
    bad.will(reply(200, [*rows(1), stock, {**ORDER, "id": "combo", "asset_class": "", "side": ""}]))
    assert [order.venue_id for order in hurt.open_orders()] == ["id-0"]


FILL = {
    "activity_type": "FILL",
    "id": "20260926223001487::5e6f1c1a-0000-4000-8000-000000000001",
    "order_id": ORDER["id"],
    "type": "fill",
    "price": "20000",
    "qty": "0.001",
    "cum_qty": "0.001",
    "transaction_time": "2026-09-26T22:30:01.487737Z",
}


def test_fills_of_other_orders_are_passed_over_even_if_the_server_sends_them(
    bad: FaultServer, hurt: AlpacaBroker
) -> None:
    other = {**FILL, "id": "2::other", "order_id": "another"}
    bust = {**FILL, "id": "3::bust", "type": "trade_bust"}
    bad.will(reply(200, [other, FILL, bust]))
    [execution] = hurt.executions(ORDER["id"])
    assert execution.id == "5e6f1c1a-0000-4000-8000-000000000001"
    assert bad.requests[0].query["order_id"] == ORDER["id"]


def test_a_history_without_end_is_unavailable(
    bad: FaultServer, hurt: AlpacaBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "FILLS_PAGE", 1)
    monkeypatch.setattr(rest, "MOST_PAGES", 3)
    pages = [reply(200, [{**FILL, "id": f"{number}::other", "order_id": "another"}]) for number in range(9)]
    bad.will(*pages)
    with pytest.raises(Unavailable):
        hurt.executions(ORDER["id"])
    assert [request.query.get("page_token") for request in bad.requests] == [None, "0::other", "1::other"]


CASH = {"activity_type": "CSD", "id": "20260926000000000::cash", "date": "2026-09-26", "net_amount": "5"}


def test_a_history_that_cannot_be_read_to_its_end_tells_nothing(
    bad: FaultServer, hurt: AlpacaBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "FILLS_PAGE", 2)
    names = reply(200, [asset("BTC/USD")])
    page = reply(200, [{**CASH, "id": f"{number}::cash"} for number in (1, 2)])
    bad.will(page, html(500))
    with pytest.raises(Unavailable):
        hurt.activities(T0)
    assert [request.query.get("page_token") for request in bad.requests] == [None, "2::cash"]
    assert bad.requests[0].query["after"] == "2023-03-09T11:59:59.999999Z"
    bad.will(page, page)
    with pytest.raises(Unavailable, match="cannot be read to its end"):
        hurt.activities(T0)
    bad.will(reply(200, [{**CASH, "net_amount": "much"}]), names)
    with pytest.raises(Unavailable):
        hurt.activities(T0)


def test_a_history_in_every_form_that_the_venue_has(bad: FaultServer, hurt: AlpacaBroker) -> None:
    fee = {"activity_type": "CFEE", "symbol": "BTCUSD", "qty": "-0.0001", "net_amount": "0", "id": "fee"}
    fee |= {"date": "2026-09-26", "created_at": "2026-09-27T01:02:03Z", "price": "20000"}
    stock = {**FILL, "id": "stock", "symbol": "AAPL", "side": "sell", "qty": "2", "price": "200"}
    coins = {**FILL, "id": "coins", "symbol": "BTC/USD", "side": "buy"}
    pair = {**FILL, "id": "pair", "symbol": "ETH/BTC", "side": "buy"}
    ignored = [{**coins, "id": "bust", "type": "trade_bust"}, {**CASH, "id": "no", "status": "canceled"}]
    odd = {"activity_type": "A_KIND_THAT_NOBODY_KNOWS", "id": "odd", "date": "2026-09-26"}
    bad.will(reply(200, [CASH, fee, stock, coins, pair, odd, *ignored]), reply(200, [asset("BTC/USD")]))
    found = {one.id.rpartition("::")[2]: one for one in hurt.activities(T0)}
    assert set(found) == {"cash", "fee", "stock", "coins", "pair", "odd"}
    cash, fees = found["cash"], found["fee"]
    assert (cash.net, cash.symbol, cash.at.isoformat()) == (D(5), None, "2026-09-26T00:00:00+00:00")
    assert (fees.qty, fees.symbol, fees.at.isoformat()) == (
        D("-0.0001"),
        "BTC/USD",
        "2026-09-27T01:02:03+00:00",
    )
    assert (found["stock"].net, found["stock"].qty, found["stock"].symbol) == (D(400), None, None)
    assert (found["coins"].net, found["coins"].qty) == (D(-20), D("0.001"))
    assert (found["pair"].net, found["pair"].qty) == (None, D("0.001")), "its price is not in dollars"
    assert (found["odd"].net, len(found["odd"].kind)) == (None, 16)


def asset(symbol: str, **changes: Any) -> dict[str, Any]:
    sizes = dict.fromkeys(("min_order_size", "min_trade_increment", "price_increment"), "0.001")
    return {"symbol": symbol, "status": "active", "tradable": True, "fractionable": True, **sizes, **changes}


def position(symbol: str, **changes: Any) -> dict[str, Any]:
    return {"symbol": symbol, "asset_class": "crypto", "qty": "2", "qty_available": "1.5", **changes}


def test_symbols_of_positions_are_looked_up_and_never_guessed(bad: FaultServer, hurt: AlpacaBroker) -> None:
    assets = reply(200, [asset("USDC/USD"), asset("BTC/USDT"), asset("USD/CUSD"), asset("BTC/USD")])
    held = [
        position("BTCUSDT"),
        position("BTCUSD", qty_available=None),
        position("AAPL", asset_class="us_equity"),
    ]
    bad.will(reply(200, held), assets, reply(200, held))
    first = hurt.positions()
    assert {symbol: (found.qty, found.available) for symbol, found in first.items()} == {
        "BTC/USDT": (D(2), D("1.5")),
        "BTC/USD": (D(2), D(2)),
    }
    assert hurt.positions() == first
    assert [request.path for request in bad.requests] == ["/v2/positions", "/v2/assets", "/v2/positions"]
    # USDC/USD and USD/CUSD would both be USDCUSD.
    bad.will(reply(200, [position("USDCUSD")]), assets)
    with pytest.raises(Unavailable):
        hurt.positions()


def test_a_position_in_something_unknown_is_not_left_out(bad: FaultServer, hurt: AlpacaBroker) -> None:
    bad.will(reply(200, [position("BTCUSD"), position("NEWUSD")]), reply(200, [asset("BTC/USD")]))
    with pytest.raises(Unavailable, match="not in the asset list"):
        hurt.positions()


def test_a_holding_of_something_else_is_not_believed(bad: FaultServer, hurt: AlpacaBroker) -> None:
    bad.will(reply(200, position("ETHUSD")))
    with pytest.raises(Unavailable):
        hurt.holding("BTC/USD")


def test_an_instrument_that_cannot_be_read_does_not_hide_the_others(
    bad: FaultServer, hurt: AlpacaBroker, caplog: pytest.LogCaptureFixture
) -> None:
    bad.will(reply(200, [asset("BTC/USD"), asset("BAD/USD", price_increment=None), asset("ETH/USD")]))
    assert hurt.instruments().keys() == {"BTC/USD", "ETH/USD"}
    assert [record.message for record in caplog.records] == ["instrument_unreadable"]


def test_a_connection_is_kept_and_shared_by_threads_in_turn(bad: FaultServer, hurt: AlpacaBroker) -> None:
    bad.will(reply(200, ORDER))
    for _ in range(5):
        thread = threading.Thread(target=hurt.find, args=(intent().key,))
        thread.start()
        thread.join()
    assert len(bad.requests) == 5
    assert bad.connections == 1


def test_threads_never_share_a_connection_at_the_same_time(bad: FaultServer, hurt: AlpacaBroker) -> None:
    bad.will(reply(200, ORDER))
    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(lambda _: hurt.find(intent().key), range(200)))
    assert len(seen) == 200
    assert all(order is not None and order.key == intent().key for order in seen)
    assert bad.connections <= 8


def test_the_environment_may_name_a_proxy_but_no_other_keys(
    bad: FaultServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine api.invalid login somebody password else")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("http_proxy", bad.url)
    monkeypatch.delenv("no_proxy", raising=False)
    broker = AlpacaBroker(KEY, SECRET, base_url="http://api.invalid", data_url="http://api.invalid")
    bad.will(reply(200, ORDER))
    assert broker.find(intent().key) is not None
    broker.close()
    [request] = bad.requests
    assert request.headers["host"] == "api.invalid"
    assert "authorization" not in request.headers


def test_a_connection_that_the_server_closed_is_replaced(bad: FaultServer, hurt: AlpacaBroker) -> None:
    bad.will(CLOSE, reply(200, ORDER))
    with pytest.raises(VenueError):
        hurt.find(intent().key)
    assert hurt.find(intent().key) is not None
