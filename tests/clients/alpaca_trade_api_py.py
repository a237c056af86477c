"""The Python SDK of before alpaca-py, alpaca-trade-api."""

import threading
from typing import Any

from alpaca_trade_api import REST, Stream, TimeFrame
from alpaca_trade_api.rest import APIError
from told import DAY, KEY, SECRET, URL, WRONG, end, refusal, said, tell, until

BTC = {"symbol": "BTC/USD", "time_in_force": "gtc"}


def main() -> None:
    client = REST(KEY, SECRET, URL)
    heard = listen(client)
    look(client)
    trade(client)
    tell("updates", until(lambda: filled(heard), "the fill was not heard"))
    leave(client)
    watch()
    refuse()
    end()


def settled(client: Any, order: Any, status: str) -> Any:
    def look() -> Any:
        now = client.get_order(order.id)
        return now if now.status == status else None

    return until(look, f"{order.client_order_id} is not {status}")


def filled(heard: list[Any]) -> list[list[str]]:
    """What was heard, once the market order's fill is in it."""
    told = [[item.event, item.order["client_order_id"]] for item in heard]
    return told if ["fill", "market"] in told else []


def in_background(stream: Stream) -> None:
    threading.Thread(target=stream.run, daemon=True).start()


def listen(client: Any) -> list[Any]:
    """What the stream says from now on; the client cannot tell when it listens, so orders are its probe."""
    heard: list[Any] = []
    stream = Stream(KEY, SECRET, base_url=URL, data_stream_url=URL)

    async def on_update(update: Any) -> None:
        heard.append(update)

    stream.subscribe_trade_updates(on_update)
    in_background(stream)

    def probe() -> bool:
        order = client.submit_order(qty=0.001, side="buy", type="limit", limit_price="11000", **BTC)
        settled(client, order, "new")
        client.cancel_order(order.id)
        settled(client, order, "canceled")
        return bool(heard)

    until(probe, "nothing is heard")
    return heard


def look(client: Any) -> None:
    account = client.get_account()
    tell("account", {"cash": account.cash, "status": account.status})
    tell("clock", client.get_clock().is_open)
    tell("assets", [asset.symbol for asset in client.list_assets(asset_class="crypto")])
    tell("asset", client.get_asset("BTC/USD").symbol)
    bars = client.get_crypto_bars("BTC/USD", TimeFrame.Minute, start=DAY.date().isoformat())
    tell("bars", [len(bars), bars[0].c])
    quote = client.get_latest_crypto_quotes(["BTC/USD"])["BTC/USD"]
    tell("quote", [quote.bp, quote.ap])
    tell("bar", client.get_latest_crypto_bars(["BTC/USD"])["BTC/USD"].c)
    book = client.get_latest_crypto_orderbook("BTC/USD")["BTC/USD"]
    tell("orderbook", [book.bids[0].p, book.asks[0].p])


def trade(client: Any) -> None:
    market = client.submit_order(qty=0.01, client_order_id="market", side="buy", type="market", **BTC)
    done = settled(client, market, "filled")
    tell("market", [done.filled_qty, done.filled_avg_price])
    worth = client.submit_order(notional=50.25, client_order_id="worth", side="buy", type="market", **BTC)
    tell("notional", settled(client, worth, "filled").notional)
    wish = {"qty": 0.001, "side": "buy", **BTC}
    limit = {"limit_price": "15000", "type": "limit", "client_order_id": "limit", **wish}
    resting = settled(client, client.submit_order(**limit), "new")
    tell("limit", [resting.qty, resting.limit_price])
    stop = {"stop_price": "40000", "limit_price": "40100", "type": "stop_limit", "client_order_id": "stop"}
    tell("stop_limit", settled(client, client.submit_order(**stop, **wish), "new").stop_price)
    tell("by_client_id", client.get_order_by_client_order_id("limit").id == resting.id)
    tell("open", [order.client_order_id for order in client.list_orders()])
    tell("all", len(client.list_orders(status="all", symbols=["BTC/USD"])))
    tell("taken", refusal(lambda: client.submit_order(**limit), APIError))
    new = client.replace_order(resting.id, limit_price="15500")
    tell("replace", [new.replaces == resting.id, settled(client, new, "new").limit_price])
    client.cancel_order(new.id)
    tell("cancel", settled(client, new, "canceled").filled_qty)
    client.cancel_all_orders()
    tell("cancel_all", until(lambda: client.list_orders() == [], "orders are open"))


def leave(client: Any) -> None:
    (position,) = client.list_positions()
    tell("positions", [position.symbol, position.qty])
    tell("position", client.get_position("BTCUSD").qty_available)
    too_much = lambda: client.submit_order(qty=0.02, side="sell", type="market", **BTC)  # noqa: E731
    tell("too_much", refusal(too_much, APIError))
    part = client.close_position("BTCUSD", qty=0.005)
    tell("close", settled(client, part, "filled").filled_qty)
    client.close_all_positions()
    tell("close_all", until(lambda: client.list_positions() == [], "it is still held"))
    tell("fills", [fill.qty for fill in client.get_activities(activity_types="FILL")])
    tell("history", client.get_portfolio_history(period="1D", timeframe="1Min").equity)
    tell("trade", client.get_latest_crypto_trades(["BTC/USD"])["BTC/USD"].p)
    tell("snapshot", client.get_crypto_snapshots(["BTC/USD"])["BTC/USD"].latest_quote.bp)


def watch() -> None:
    """Quotes and bars, on the older path of the data stream."""
    seen: dict[str, list[Any]] = {"quotes": [], "bars": []}
    stream = Stream(KEY, SECRET, base_url=URL, data_stream_url=URL)

    async def on_quote(quote: Any) -> None:
        seen["quotes"].append(quote.ask_price)

    async def on_bar(bar: Any) -> None:
        seen["bars"].append(bar.close)

    stream.subscribe_crypto_quotes(on_quote, "BTC/USD")
    stream.subscribe_crypto_bars(on_bar, "BTC/USD")
    in_background(stream)
    until(lambda: len(seen["quotes"]) > 3 and seen["bars"], "no quotes and bars")
    tell("stream", seen)


def refuse() -> None:
    """Wrong keys are refused; the streams say so only in the log."""
    tell("wrong_keys", refusal(REST(KEY, WRONG, URL).get_account, APIError))

    async def ignore(item: Any) -> None:
        """Nothing comes."""

    stream = Stream(KEY, WRONG, base_url=URL, data_stream_url=URL)
    stream.subscribe_crypto_quotes(ignore, "BTC/USD")
    in_background(stream)
    tell("wrong_stream_keys", said("alpaca_trade_api", "auth failed", "the stream took wrong keys"))


main()
