"""alpaca-py of any age: the same calls, which it has had from 0.7 to 0.44."""

import asyncio
import json
import threading
from types import SimpleNamespace
from typing import Any

import alpaca
from alpaca.broker.client import BrokerClient
from alpaca.broker.requests import GetEventsRequest
from alpaca.common.exceptions import APIError
from alpaca.data.historical import CryptoHistoricalDataClient
from alpaca.data.live import CryptoDataStream
from alpaca.data.requests import (
    CryptoBarsRequest,
    CryptoLatestBarRequest,
    CryptoLatestOrderbookRequest,
    CryptoLatestQuoteRequest,
    CryptoLatestTradeRequest,
    CryptoSnapshotRequest,
)
from alpaca.data.timeframe import TimeFrame
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import AssetClass, OrderSide, QueryOrderStatus, TimeInForce
from alpaca.trading.requests import (
    ClosePositionRequest,
    GetAssetsRequest,
    GetOrdersRequest,
    LimitOrderRequest,
    MarketOrderRequest,
    ReplaceOrderRequest,
    StopLimitOrderRequest,
)
from alpaca.trading.stream import TradingStream
from told import DAY, KEY, SECRET, SOCKET, URL, WRONG, end, refusal, said, tell, until

OLDER = alpaca.__version__.startswith("0.7.")
"""It looks for market data on the older path, and its models know no exchange called CRYPTO."""
DATA_STREAM = f"{SOCKET}/v1beta2/crypto" if OLDER else f"{SOCKET}/v1beta3/crypto/us"
BTC = {"symbol": "BTC/USD", "side": OrderSide.BUY, "time_in_force": TimeInForce.GTC}
NAMED = {"symbol_or_symbols": "BTC/USD"}
ALL = GetOrdersRequest(status=QueryOrderStatus.ALL, symbols=["BTC/USD"])


def main() -> None:
    client = TradingClient(KEY, SECRET, url_override=URL)
    heard = listen(client)
    look(client)
    trade(client)
    tell("updates", until(lambda: filled(heard), "the fill was not heard"))
    leave(client)
    replay()
    watch()
    refuse()
    end()


def filled(heard: list[Any]) -> list[list[str]]:
    """What was heard, once the market order's fill is in it."""
    told = [[str(getattr(item.event, "value", item.event)), item.order.client_order_id] for item in heard]
    return told if ["fill", "market"] in told else []


def in_background(stream: Any) -> None:
    threading.Thread(target=lambda: asyncio.run(stream._run_forever()), daemon=True).start()


def listen(client: TradingClient) -> list[Any]:
    """What the stream says from now on; the client cannot tell when it listens, so orders are its probe."""
    heard: list[Any] = []
    stream = TradingStream(KEY, SECRET, url_override=f"{SOCKET}/stream")

    async def on_update(update: Any) -> None:
        heard.append(update)

    stream.subscribe_trade_updates(on_update)
    in_background(stream)

    def probe() -> bool:
        order = client.submit_order(LimitOrderRequest(qty=0.001, limit_price=11000, **BTC))
        settled(client, order, "new")
        client.cancel_order_by_id(order.id)
        settled(client, order, "canceled")
        return bool(heard)

    until(probe, "nothing is heard")
    return heard


def settled(client: TradingClient, order: Any, status: str) -> Any:
    def look() -> Any:
        now = client.get_order_by_id(order.id)
        return now if now.status.value == status else None

    return until(look, f"{order.client_order_id} is not {status}")


def look(client: TradingClient) -> None:
    account = client.get_account()
    tell("account", {"cash": account.cash, "status": account.status.value})
    tell("clock", client.get_clock().is_open)
    if not OLDER:
        assets = client.get_all_assets(GetAssetsRequest(asset_class=AssetClass.CRYPTO))
        tell("assets", [asset.symbol for asset in assets])
        tell("asset", client.get_asset("BTC/USD").symbol)
    data = CryptoHistoricalDataClient(url_override=URL)
    asked = CryptoBarsRequest(timeframe=TimeFrame.Minute, start=DAY, **NAMED)
    bars = data.get_crypto_bars(asked)["BTC/USD"]
    tell("bars", [len(bars), bars[0].close])
    quote = data.get_crypto_latest_quote(CryptoLatestQuoteRequest(**NAMED))["BTC/USD"]
    tell("quote", [quote.bid_price, quote.ask_price])
    tell("bar", data.get_crypto_latest_bar(CryptoLatestBarRequest(**NAMED))["BTC/USD"].close)
    book = data.get_crypto_latest_orderbook(CryptoLatestOrderbookRequest(**NAMED))["BTC/USD"]
    tell("orderbook", [book.bids[0].price, book.asks[0].price])


def trade(client: TradingClient) -> None:
    market = client.submit_order(MarketOrderRequest(qty=0.01, client_order_id="market", **BTC))
    done = settled(client, market, "filled")
    tell("market", [done.filled_qty, done.filled_avg_price])
    worth = client.submit_order(MarketOrderRequest(notional=50.25, client_order_id="worth", **BTC))
    tell("notional", settled(client, worth, "filled").notional)
    limit = LimitOrderRequest(qty=0.001, limit_price=15000, client_order_id="limit", **BTC)
    resting = settled(client, client.submit_order(limit), "new")
    tell("limit", [resting.qty, resting.limit_price])
    stop = StopLimitOrderRequest(
        qty=0.001, stop_price=40000, limit_price=40100, client_order_id="stop", **BTC
    )
    tell("stop_limit", settled(client, client.submit_order(stop), "new").stop_price)
    tell("by_client_id", client.get_order_by_client_id("limit").id == resting.id)
    tell("open", [order.client_order_id for order in client.get_orders()])
    tell("all", len(client.get_orders(ALL)))
    tell("taken", refusal(lambda: client.submit_order(limit), APIError))
    new = client.replace_order_by_id(resting.id, ReplaceOrderRequest(limit_price=15500))
    tell("replace", [new.replaces == resting.id, settled(client, new, "new").limit_price])
    client.cancel_order_by_id(new.id)
    tell("cancel", settled(client, new, "canceled").filled_qty)
    client.cancel_orders()
    tell("cancel_all", until(lambda: client.get_orders() == [], "orders are open"))


def positions(client: TradingClient) -> list[Any]:
    if OLDER:
        return [SimpleNamespace(**row) for row in client.get("/positions")]
    return list(client.get_all_positions())


def leave(client: TradingClient) -> None:
    (position,) = positions(client)
    tell("positions", [position.symbol, position.qty])
    if not OLDER:
        tell("position", client.get_open_position("BTCUSD").qty_available)
    too_much = MarketOrderRequest(symbol="BTC/USD", side="sell", time_in_force="gtc", qty=0.02)
    tell("too_much", refusal(lambda: client.submit_order(too_much), APIError))
    half = client.close_position("BTCUSD", ClosePositionRequest(percentage="50"))
    tell("close", settled(client, half, "filled").filled_qty)
    client.close_all_positions(cancel_orders=True)
    tell("close_all", until(lambda: positions(client) == [], "it is still held"))
    tell("fills", [fill["qty"] for fill in client.get("/account/activities/FILL")])
    if hasattr(client, "get_portfolio_history"):
        tell("history", client.get_portfolio_history().equity)
    data = CryptoHistoricalDataClient(url_override=URL)
    tell("trade", data.get_crypto_latest_trade(CryptoLatestTradeRequest(**NAMED))["BTC/USD"].price)
    tell(
        "snapshot", data.get_crypto_snapshot(CryptoSnapshotRequest(**NAMED))["BTC/USD"].latest_quote.bid_price
    )


def replay() -> None:
    """What happened to the market order, again, over the event stream that brokers use."""
    broker = BrokerClient(KEY, SECRET, api_version="v2", url_override=URL)
    told: list[list[str]] = []
    for data in broker.get_trade_events(GetEventsRequest(since=DAY.date())):
        event = json.loads(data)
        told.append([event["event"], event["order"]["client_order_id"]])
        if told[-1] == ["fill", "market"]:
            break
    tell("events", told)


def watch() -> None:
    """Quotes and bars of the data stream."""
    seen: dict[str, list[Any]] = {"quotes": [], "bars": []}
    stream = CryptoDataStream(KEY, SECRET, url_override=DATA_STREAM)

    async def on_quote(quote: Any) -> None:
        seen["quotes"].append(quote.ask_price)

    async def on_bar(bar: Any) -> None:
        seen["bars"].append(bar.close)

    stream.subscribe_quotes(on_quote, "BTC/USD")
    stream.subscribe_bars(on_bar, "BTC/USD")
    in_background(stream)
    until(lambda: len(seen["quotes"]) > 3 and seen["bars"], "no quotes and bars")
    tell("stream", seen)


def refuse() -> None:
    """Wrong keys are refused; the streams say so only in the log."""
    stranger = TradingClient(KEY, WRONG, url_override=URL)
    tell("wrong_keys", refusal(stranger.get_account, APIError))

    async def ignore(item: Any) -> None:
        """Nothing comes."""

    stream = CryptoDataStream(KEY, WRONG, url_override=DATA_STREAM)
    stream.subscribe_quotes(ignore, "BTC/USD")
    in_background(stream)
    tell("wrong_stream_keys", said("alpaca", "auth failed", "the stream took wrong keys"))


main()
