"""Unmodified alpaca-py against the exchange: every call and both streams, models and raw."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from alpaca.common.exceptions import APIError
from alpaca.data.historical import CryptoHistoricalDataClient
from alpaca.data.live import CryptoDataStream
from alpaca.data.requests import (
    CryptoBarsRequest,
    CryptoLatestBarRequest,
    CryptoLatestOrderbookRequest,
    CryptoLatestQuoteRequest,
    CryptoLatestTradeRequest,
    CryptoQuoteRequest,
    CryptoSnapshotRequest,
)
from alpaca.data.timeframe import TimeFrame
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import AssetClass, AssetStatus, OrderSide, QueryOrderStatus, TimeInForce
from alpaca.trading.requests import (
    ClosePositionRequest,
    GetAssetsRequest,
    GetOrdersRequest,
    GetPortfolioHistoryRequest,
    LimitOrderRequest,
    MarketOrderRequest,
    ReplaceOrderRequest,
    StopLimitOrderRequest,
)
from alpaca.trading.stream import TradingStream
from exchange_support import T0, HandClock, config, served, until

from dca.domain.market import Quote
from dca.domain.money import exact
from dca.paper.serve import Running, running

KEYS = ("PAPER", "paper-secret")
BTC = {"symbol": "BTC/USD", "time_in_force": TimeInForce.GTC}
BUY, SELL = OrderSide.BUY, OrderSide.SELL


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def exchange(clock: HandClock) -> Iterator[Running]:
    with served(clock=clock) as (made, _):
        made.control.quote("BTC/USD", "60000", "60010")
        yield made


@pytest.fixture(params=[False, True], ids=["models", "raw"])
def raw(request: pytest.FixtureRequest) -> bool:
    return request.param


def trading(exchange: Running, raw: bool = False, keys: tuple[str, str] = KEYS) -> TradingClient:
    client = TradingClient(*keys, url_override=exchange.base_url, raw_data=raw)
    client._retry = 0
    return client


@pytest.fixture
def client(exchange: Running, raw: bool) -> Iterator[TradingClient]:
    made = trading(exchange, raw)
    yield made
    made._session.close()


def field(item: Any, name: str) -> Any:
    """A field of a model or of a raw answer, as text."""
    value = item[name] if isinstance(item, dict) else getattr(item, name)
    return str(getattr(value, "value", value))


def settled(client: TradingClient, order: Any, status: str) -> Any:
    return until(
        lambda: (now := client.get_order_by_id(field(order, "id"))) and field(now, "status") == status and now
    )


def test_account_clock_and_assets(client: TradingClient) -> None:
    account = client.get_account()
    assert field(account, "non_marginable_buying_power") == "10000"
    assert field(account, "status") == "ACTIVE"
    assert field(client.get_clock(), "is_open") == "False"
    crypto = GetAssetsRequest(asset_class=AssetClass.CRYPTO, status=AssetStatus.ACTIVE)
    assert len(client.get_all_assets(crypto)) == 5
    asset = client.get_asset("BTC/USD")
    assert (field(asset, "exchange"), field(asset, "fractionable")) == ("CRYPTO", "True")
    assert field(client.get_asset("BTCUSD"), "id") == field(asset, "id")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (MarketOrderRequest(qty=0.001, side=BUY, **BTC), "filled"),
        (MarketOrderRequest(notional=50.25, side=BUY, **BTC), "filled"),
        (LimitOrderRequest(qty=0.00025, limit_price=61000.5, side=BUY, **BTC), "filled"),
        (LimitOrderRequest(qty=0.001, limit_price=50000, side=BUY, **BTC), "new"),
        (LimitOrderRequest(notional=50, limit_price=50000, side=BUY, **BTC), "new"),
        (StopLimitOrderRequest(qty=0.001, stop_price=65000, limit_price=65100, side=BUY, **BTC), "new"),
        (StopLimitOrderRequest(notional=50, stop_price=65000, limit_price=65100, side=BUY, **BTC), "new"),
    ],
)
def test_orders_of_every_kind(client: TradingClient, request_: Any, status: str) -> None:
    order = client.submit_order(request_)
    assert field(order, "status") == "pending_new"
    settled(client, order, status)


def test_an_order_is_found_by_its_client_order_id(client: TradingClient) -> None:
    request_ = LimitOrderRequest(qty=0.001, limit_price=50000, side=BUY, client_order_id="mine", **BTC)
    order = client.submit_order(request_)
    assert field(client.get_order_by_client_id("mine"), "id") == field(order, "id")
    with pytest.raises(APIError) as duplicate:
        client.submit_order(request_)
    assert (duplicate.value.status_code, duplicate.value.code) == (422, 40010001)
    with pytest.raises(APIError) as unknown:
        client.get_order_by_client_id("none")
    assert (unknown.value.status_code, unknown.value.message) == (404, "order not found for none")


def test_orders_are_listed(client: TradingClient, clock: HandClock) -> None:
    old = client.submit_order(LimitOrderRequest(qty=0.001, limit_price=50000, side=BUY, **BTC))
    settled(client, old, "new")
    clock.forward(minutes=1)
    new = client.submit_order(MarketOrderRequest(qty=0.001, side=BUY, **BTC))
    settled(client, new, "filled")
    names = [field(old, "id"), field(new, "id")]

    def listed(**query: Any) -> list[str]:
        return [field(order, "id") for order in client.get_orders(GetOrdersRequest(**query))]

    assert listed() == names[:1]
    assert listed(status=QueryOrderStatus.ALL) == names[::-1]
    assert listed(status=QueryOrderStatus.CLOSED, symbols=["BTC/USD"]) == names[1:]
    assert listed(status=QueryOrderStatus.ALL, after=T0 + timedelta(seconds=1), nested=True) == names[1:]
    assert listed(status=QueryOrderStatus.ALL, symbols=["ETH/USD"]) == []


def test_an_order_is_replaced_and_canceled(client: TradingClient) -> None:
    order = client.submit_order(LimitOrderRequest(qty=0.001, limit_price=50000, side=BUY, **BTC))
    settled(client, order, "new")
    new = client.replace_order_by_id(field(order, "id"), ReplaceOrderRequest(limit_price=50500))
    assert field(new, "replaces") == field(order, "id")
    settled(client, new, "new")
    assert client.cancel_order_by_id(field(new, "id")) is None
    settled(client, new, "canceled")
    with pytest.raises(APIError) as replaced:
        client.cancel_order_by_id(field(order, "id"))
    assert (replaced.value.status_code, replaced.value.code) == (422, 42210000)


def test_all_orders_are_canceled(client: TradingClient) -> None:
    orders = [
        client.submit_order(LimitOrderRequest(qty=0.001, limit_price=50000, side=BUY, **BTC))
        for _ in range(2)
    ]
    for order in orders:
        settled(client, order, "new")
    assert [field(answer, "status") for answer in client.cancel_orders()] == ["200", "200"]
    until(lambda: client.get_orders() == [])
    assert client.cancel_orders() == []


def test_positions_are_read_and_closed(client: TradingClient) -> None:
    order = client.submit_order(MarketOrderRequest(qty=0.1, side=BUY, **BTC))
    settled(client, order, "filled")
    (position,) = client.get_all_positions()
    assert (field(position, "symbol"), field(position, "qty")) == ("BTCUSD", "0.09975")
    assert field(client.get_open_position("BTCUSD"), "qty_available") == "0.09975"
    for name in ("BTC/USD", "BTC%2FUSD", "ETHUSD"):
        with pytest.raises(APIError) as missing:
            client.get_open_position(name)
        assert missing.value.status_code == 404
    half = client.close_position("BTCUSD", ClosePositionRequest(percentage="50"))
    settled(client, half, "filled")
    rest = client.submit_order(LimitOrderRequest(qty=0.01, limit_price=70000, side=SELL, **BTC))
    settled(client, rest, "new")
    (closed,) = client.close_all_positions(cancel_orders=True)
    assert (field(closed, "symbol"), field(closed, "status")) == ("BTCUSD", "200")
    until(lambda: client.get_all_positions() == [])
    assert client.close_all_positions() == []


def test_activities_and_portfolio_history(client: TradingClient, clock: HandClock) -> None:
    order = client.submit_order(MarketOrderRequest(qty=0.1, side=BUY, **BTC))
    settled(client, order, "filled")
    (fill,) = client.get("/account/activities/FILL", {"page_size": 100})
    assert (fill["order_id"], fill["qty"]) == (field(order, "id"), "0.1")
    clock.forward(days=1)
    (fee,) = client.get("/account/activities", {"activity_types": "CFEE"})
    assert fee["qty"] == "-0.00025"
    history = until(
        lambda: (
            (h := client.get_portfolio_history(GetPortfolioHistoryRequest(period="1W", timeframe="1D")))
            and len(h["timestamp"] if isinstance(h, dict) else h.timestamp) == 2
            and h
        )
    )
    assert field(history, "base_value") == "10000.0"


def test_a_sell_of_what_was_filled_is_refused(client: TradingClient) -> None:
    order = client.submit_order(MarketOrderRequest(qty=0.1, side=BUY, **BTC))
    settled(client, order, "filled")
    with pytest.raises(APIError) as refusal:
        client.submit_order(MarketOrderRequest(qty=0.1, side=SELL, **BTC))
    assert (refusal.value.status_code, refusal.value.code) == (403, 40310000)
    assert "insufficient balance for BTC (requested: 0.1, available: 0.09975)" in str(refusal.value)


def test_bad_keys(exchange: Running) -> None:
    stranger = trading(exchange, keys=("PAPER", "x"))
    with pytest.raises(APIError) as refusal:
        stranger.get_account()
    assert refusal.value.status_code == 401
    stranger._session.close()


def test_historical_data(exchange: Running, clock: HandClock, raw: bool) -> None:
    clock.forward(minutes=25_000)
    exchange.call(lambda control: _fill(exchange))
    data = CryptoHistoricalDataClient(url_override=exchange.base_url, raw_data=raw)
    bars = data.get_crypto_bars(
        CryptoBarsRequest(symbol_or_symbols="BTC/USD", timeframe=TimeFrame.Minute, start=T0, limit=None)
    )
    # Three pages of ten thousand, of which the client shows nothing.
    assert len(bars["BTC/USD"]) == 25_000
    quotes = CryptoQuoteRequest(symbol_or_symbols=["BTC/USD"], limit=5)
    assert len(data.get_crypto_quotes(quotes)["BTC/USD"]) == 5
    one = {"symbol_or_symbols": "BTC/USD"}
    client = trading(exchange)
    client.submit_order(MarketOrderRequest(qty=0.001, side=BUY, **BTC))
    until(lambda: data.get_crypto_latest_trade(CryptoLatestTradeRequest(**one)))
    client._session.close()
    assert field(data.get_crypto_latest_quote(CryptoLatestQuoteRequest(**one))["BTC/USD"], _name(raw, "bp"))
    for answer in (
        data.get_crypto_latest_trade(CryptoLatestTradeRequest(**one)),
        data.get_crypto_latest_bar(CryptoLatestBarRequest(**one)),
        data.get_crypto_latest_orderbook(CryptoLatestOrderbookRequest(**one)),
        data.get_crypto_snapshot(CryptoSnapshotRequest(**one)),
    ):
        assert list(answer) == ["BTC/USD"]
    data._session.close()


def _name(raw: bool, short: str) -> str:
    return short if raw else {"bp": "bid_price"}[short]


def _fill(exchange: Running) -> None:
    at = T0 + timedelta(minutes=1)
    for minute in range(24_999):
        price = exact(60_000 + minute)
        exchange.venue.market.on_quote(Quote("BTC/USD", price, price, at + timedelta(minutes=minute)))


# Streams

Handler = Callable[[Any], None]


@contextmanager
def streaming(stream: Any, exchange: Running | None = None) -> Iterator[None]:
    """The stream runs in a thread, as programs run it.

    It looks whether it was stopped only every five seconds, or when its connection is lost.
    """

    def run() -> None:
        asyncio.run(stream._run_forever())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stream.stop()
        if exchange is not None:
            exchange.control.drop()
        thread.join(20)
        assert not thread.is_alive()


def updates(exchange: Running, raw: bool, on_update: Handler, keys: tuple[str, str] = KEYS) -> TradingStream:
    stream = TradingStream(*keys, raw_data=raw, url_override=exchange.trade_url)
    stream._reconnect_max_backoff = 0.1

    async def handler(update: Any) -> None:
        on_update(update)

    stream.subscribe_trade_updates(handler)
    return stream


def listening(exchange: Running) -> None:
    until(lambda: any(session.listening for session in exchange.venue.trades.sessions))


def event(update: Any) -> str:
    return update["data"]["event"] if isinstance(update, dict) else str(update.event)


def test_trade_updates(exchange: Running, raw: bool) -> None:
    heard: list[Any] = []
    client = trading(exchange)
    with streaming(updates(exchange, raw, heard.append), exchange):
        listening(exchange)
        client.submit_order(MarketOrderRequest(qty=0.1, side=BUY, **BTC))
        until(lambda: len(heard) == 3)
        resting = client.submit_order(LimitOrderRequest(qty=0.01, limit_price=50000, side=BUY, **BTC))
        until(lambda: len(heard) == 5)
        client.cancel_order_by_id(resting.id)
        until(lambda: len(heard) == 7)
    client._session.close()
    assert [event(update) for update in heard] == [
        *("pending_new", "new", "fill"),
        *("pending_new", "new", "pending_cancel", "canceled"),
    ]
    fill = heard[2]["data"] if raw else heard[2]
    assert (field(fill, "price"), field(fill, "position_qty")) == (
        ("60010", "0.09975") if raw else ("60010.0", "0.09975")
    )


def test_a_handler_that_fails_loses_one_update(exchange: Running, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []

    def on_update(update: Any) -> None:
        heard.append(event(update))
        if heard[-1] == "new":
            raise RuntimeError("the handler failed")

    client = trading(exchange)
    with caplog.at_level(logging.CRITICAL), streaming(updates(exchange, False, on_update), exchange):
        listening(exchange)
        client.submit_order(MarketOrderRequest(qty=0.1, side=BUY, **BTC))
        until(lambda: heard == ["pending_new", "new", "fill"])
    client._session.close()


def test_the_stream_comes_back_after_the_server_was_killed(
    raw: bool, clock: HandClock, tmp_path: Path
) -> None:
    heard: list[Any] = []
    setup = config(state_file=tmp_path / "paper.jsonl")
    with ExitStack() as stack:
        with running(setup, clock) as first:
            stream = updates(first, raw, heard.append)
            stack.enter_context(streaming(stream))
            listening(first)
        with running(replace(setup, port=first.port), clock) as second:
            listening(second)
            second.control.quote("BTC/USD", "60000", "60010")
            client = trading(second)
            client.submit_order(MarketOrderRequest(qty=0.1, side=BUY, **BTC))
            client._session.close()
            until(lambda: [event(update) for update in heard] == ["pending_new", "new", "fill"])
            stream._should_run = False


def test_a_second_trading_stream_waits_for_the_first(
    exchange: Running, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = updates(exchange, True, print), updates(exchange, True, print)
    with caplog.at_level(logging.WARNING), streaming(second, exchange):
        listening(exchange)
        with streaming(first, exchange):
            until(lambda: "HTTP 429" in caplog.text)
            assert len(exchange.venue.trades.sessions) == 1


def test_a_stream_with_bad_keys_is_refused_again_and_again(
    exchange: Running, caplog: pytest.LogCaptureFixture
) -> None:
    stream = updates(exchange, True, print, keys=("PAPER", "x"))
    with caplog.at_level(logging.ERROR), streaming(stream, exchange):
        until(lambda: caplog.text.count("failed to authenticate") >= 4)


def market(exchange: Running, raw: bool, keys: tuple[str, str] = KEYS) -> CryptoDataStream:
    stream = CryptoDataStream(*keys, raw_data=raw, url_override=exchange.data_url)
    stream._reconnect_max_backoff = 0.1
    return stream


def subscribed(exchange: Running) -> None:
    until(lambda: any(session.wants("quotes", "BTC/USD") for session in exchange.venue.quotes.sessions))


def test_market_data(exchange: Running, raw: bool, clock: HandClock) -> None:
    heard: dict[str, list[Any]] = {"quote": [], "trade": [], "bar": [], "book": [], "day": []}

    def into(name: str) -> Any:
        async def handler(item: Any) -> None:
            heard[name].append(item)

        return handler

    stream = market(exchange, raw)
    stream.subscribe_quotes(into("quote"), "BTC/USD")
    stream.subscribe_trades(into("trade"), "BTC/USD")
    stream.subscribe_bars(into("bar"), "BTC/USD")
    stream.subscribe_daily_bars(into("day"), "*")
    stream.subscribe_orderbooks(into("book"), "BTC/USD")
    client = trading(exchange)
    with streaming(stream, exchange):
        subscribed(exchange)
        client.submit_order(MarketOrderRequest(qty=0.1, side=BUY, **BTC))
        until(lambda: heard["trade"])
        clock.forward(minutes=1)
        exchange.control.quote("BTC/USD", "61000.5", "61010")
        until(lambda: heard["quote"] and heard["day"])
    client._session.close()
    (quote,), (bar,) = heard["quote"], heard["bar"]
    names = ("bp", "ap", "t", "S") if raw else ("bid_price", "ask_price", "timestamp", "symbol")
    assert [field(quote, name) for name in names[:2]] == ["61000.5", "61010.0"]
    assert field(quote, names[3]) == "BTC/USD"
    at = quote["t"].to_datetime() if raw else quote.timestamp
    assert at == T0 + timedelta(minutes=1)
    assert field(bar, "c" if raw else "close") == "60010.0"
    assert len(heard["book"]) == 1


def test_market_data_comes_back_after_the_server_was_killed(clock: HandClock) -> None:
    heard: list[Any] = []

    async def handler(quote: Any) -> None:
        heard.append(quote)

    with ExitStack() as stack:
        with running(config(), clock) as first:
            stream = market(first, True)
            stream.subscribe_quotes(handler, "BTC/USD")
            stack.enter_context(streaming(stream))
            subscribed(first)
        with running(config(port=first.port), clock) as second:
            subscribed(second)
            second.control.quote("BTC/USD", "1", "2")
            until(lambda: heard)
            stream._should_run = False


@pytest.mark.parametrize(
    ("keys", "words"), [(("PAPER", "x"), "auth failed"), (KEYS, "connection limit exceeded")]
)
def test_market_data_is_refused(
    exchange: Running, keys: tuple[str, str], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(quote: Any) -> None:
        pass

    first, second = market(exchange, True), market(exchange, True, keys)
    for stream in (first, second):
        stream.subscribe_quotes(handler, "BTC/USD")
    with streaming(first, exchange):
        subscribed(exchange)
        with caplog.at_level(logging.WARNING), streaming(second, exchange):
            until(lambda: words in caplog.text)


def test_a_failing_data_handler_does_not_end_the_stream(
    exchange: Running, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Any] = []

    async def handler(quote: Any) -> None:
        heard.append(quote)
        if len(heard) == 1:
            raise RuntimeError("the handler failed")

    stream = market(exchange, False)
    stream.subscribe_quotes(handler, "BTC/USD")
    with caplog.at_level(logging.CRITICAL), streaming(stream, exchange):
        subscribed(exchange)
        exchange.control.quote("BTC/USD", "1", "2")
        until(lambda: len(heard) == 1)
        exchange.control.quote("BTC/USD", "3", "4")
        until(lambda: len(heard) == 2)
