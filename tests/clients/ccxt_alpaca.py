"""ccxt's `alpaca`: REST, and the streams that it calls pro."""

import asyncio
from typing import Any

import ccxt
import ccxt.pro
from told import DAY, KEY, SECRET, SOCKET, URL, WRONG, end, refusal, tell, until

BTC = "BTC/USD"


def main() -> None:
    client = pointed(ccxt.alpaca, SECRET)
    look(client)
    asyncio.run(watch())
    trade(client)
    leave(client)
    tell("wrong_keys", refusal(pointed(ccxt.alpaca, WRONG).fetch_balance, ccxt.BaseError))
    end()


def pointed(kind: type[Any], secret: str) -> Any:
    """A client that was told where its exchange is; the rest of it is as it comes."""
    client = kind({"apiKey": KEY, "secret": secret, "enableRateLimit": False})
    client.urls["api"] |= {"trader": URL, "market": URL}
    if "ws" in client.urls["api"]:
        client.urls["api"]["ws"] = {"crypto": f"{SOCKET}/v1beta2/crypto", "trading": f"{SOCKET}/stream"}
    return client


def settled(client: Any, order: Any, status: str) -> Any:
    def look() -> Any:
        now = client.fetch_order(order["id"])
        return now if now["status"] == status and now["info"]["status"] != "pending_new" else None

    return until(look, f"{order['clientOrderId']} is not {status}")


def look(client: Any) -> None:
    tell("account", {"cash": client.fetch_balance()["USD"]["free"]})
    tell("clock", client.fetch_time())
    tell("assets", list(client.load_markets()))
    bars = client.fetch_ohlcv(BTC, "1m", since=int(DAY.timestamp() * 1000), limit=100)
    tell("bars", [len(bars), bars[0][4]])
    tell("hours", len(client.fetch_ohlcv(BTC, "1h", since=int(DAY.timestamp() * 1000))))
    ticker = client.fetch_ticker(BTC)
    tell("quote", [ticker["bid"], ticker["ask"]])
    book = client.fetch_order_book(BTC)
    tell("orderbook", [book["bids"][0][0], book["asks"][0][0]])


def trade(client: Any) -> None:
    done = settled(
        client, client.create_order(BTC, "market", "buy", 0.01, None, {"clientOrderId": "market"}), "closed"
    )
    tell("market", [done["filled"], done["average"]])
    worth = client.create_market_buy_order_with_cost(BTC, 50.25, {"clientOrderId": "worth"})
    tell("notional", settled(client, worth, "closed")["info"]["notional"])
    resting = settled(
        client, client.create_order(BTC, "limit", "buy", 0.001, 15000, {"clientOrderId": "limit"}), "open"
    )
    tell("limit", [resting["amount"], resting["price"]])
    wish = {"triggerPrice": 40000, "clientOrderId": "stop"}
    stop = settled(client, client.create_order(BTC, "limit", "buy", 0.001, 40100, wish), "open")
    tell("stop_limit", stop["info"]["stop_price"])
    tell("open", [order["clientOrderId"] for order in client.fetch_open_orders(BTC)])
    tell("all", len(client.fetch_orders(BTC)))
    again = lambda: client.create_order(BTC, "limit", "buy", 0.001, 15000, {"clientOrderId": "limit"})  # noqa: E731
    tell("taken", refusal(again, ccxt.BaseError))
    new = client.edit_order(resting["id"], BTC, "limit", "buy", None, 15500)
    tell("replace", [new["info"]["replaces"] == resting["id"], settled(client, new, "open")["price"]])
    client.cancel_order(new["id"])
    tell("cancel", settled(client, new, "canceled")["filled"])
    client.cancel_all_orders()
    tell("cancel_all", until(lambda: client.fetch_open_orders(BTC) == [], "orders are open"))


def leave(client: Any) -> None:
    held = client.trader_private_get_v2_positions()
    tell("positions", [held[0]["symbol"], held[0]["qty"]])
    too_much = lambda: client.create_order(BTC, "market", "sell", 0.02)  # noqa: E731
    tell("too_much", refusal(too_much, ccxt.BaseError))
    rest = client.create_order(BTC, "market", "sell", float(held[0]["qty"]))
    tell("close", settled(client, rest, "closed")["filled"])
    tell("fills", [fill["amount"] for fill in client.fetch_my_trades(BTC)])
    tell("trade", client.fetch_trades(BTC)[-1]["price"])


async def watch() -> None:
    """Every stream, while an order is filled."""
    client = pointed(ccxt.pro.alpaca, SECRET)
    try:
        tell("stream", await followed(client))
        tell("updates", await updated(client))
    finally:
        await client.close()


async def followed(client: Any) -> dict[str, list[Any]]:
    quotes = [(await client.watch_ticker(BTC))["ask"] for _ in range(4)]
    bars = await client.watch_ohlcv(BTC)
    book = await client.watch_order_book(BTC)
    return {"quotes": quotes, "bars": [bar[4] for bar in bars], "book": book["bids"][0][:1]}


async def updated(client: Any) -> list[list[str]]:
    """What `watch_orders` told of orders until one was filled; when it listens, only orders can show."""
    seen: list[list[str]] = []
    watching = asyncio.ensure_future(client.watch_orders())
    for _ in range(20):
        await client.create_order(BTC, "market", "buy", 0.001)
        while (await asyncio.wait({watching}, timeout=1))[0]:
            seen += [[order["status"], order["clientOrderId"]] for order in watching.result()]
            watching = asyncio.ensure_future(client.watch_orders())
        if any(status == "closed" for status, _ in seen):
            break
    watching.cancel()
    return seen


main()
