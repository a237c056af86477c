"""How fast quotes come in: our feed, alpaca-py's stream and a bare loop, on the same frames.

A server process of its own sends frames that were encoded beforehand, as fast as they are taken. Each
contender gets them over a real socket, in turns, several times; the figure is the median.
"""

import argparse
import asyncio
import json
import logging
import multiprocessing
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable
from decimal import Decimal
from multiprocessing.connection import Connection
from typing import Any

import msgpack
from alpaca.data.live.crypto import CryptoDataStream
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import Frame, Opcode

from dca.adapters.venues.alpaca import AlpacaMarketFeed
from dca.domain.market import Quote

SYMBOLS = [f"C{number:02}/USD" for number in range(20)]
LAST = 99_999.75
"""The bid of the last quote of a run."""

Decide = Callable[[Quote], object]


def decide(quote: Quote) -> bool:
    """What the cheapest decision does: compare two prices."""
    return quote.ask <= TRIGGER or quote.bid >= TRIGGER


TRIGGER = Decimal(1_000_000)


def frames(count: int, each: int, *, both: bool) -> list[bytes]:
    """`count` quotes, `each` to a frame, over all symbols in turn.

    A quote is sent because one side of the book moved; with `both`, the two sides move every time,
    which is the most work there can be.
    """
    chance = random.Random(7)
    books = {symbol: [84_010.1, 84_030.2] for symbol in SYMBOLS}
    stamp = 1_790_000_000_123_456_789
    quotes = []
    for number in range(count):
        symbol = SYMBOLS[number % len(SYMBOLS)]
        book = books[symbol]
        for side in (0, 1) if both else (chance.randrange(2),):
            book[side] = round((84_010.1, 84_030.2)[side] + chance.uniform(-9, 9), 3)
        bid, ask = book if number < count - 1 else (LAST, LAST + 1)
        stamp += 1_000_003
        at = msgpack.Timestamp.from_unix_nano(stamp)
        quotes.append({"T": "q", "S": symbol, "bp": bid, "bs": 0.5, "ap": ask, "as": 0.4, "t": at})
    return [msgpack.packb(quotes[at : at + each]) for at in range(0, count, each)]


def _serve(pipe: Connection) -> None:
    asyncio.run(_serving(pipe))


async def _serving(pipe: Connection) -> None:
    wires: dict[str, list[bytes]] = {}

    async def talk(ws: ServerConnection) -> None:
        await ws.send(msgpack.packb([{"T": "success", "msg": "connected"}]))
        await ws.recv()
        await ws.send(msgpack.packb([{"T": "success", "msg": "authenticated"}]))
        wanted = msgpack.unpackb(await ws.recv())
        await ws.send(msgpack.packb([{"T": "subscription", "quotes": wanted["quotes"]}]))
        for chunk in wires[ws.request.path]:
            ws.transport.write(chunk)
            await ws.drain()
        await ws.wait_closed()

    async with serve(talk, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
        pipe.send(server.sockets[0].getsockname()[1])
        while True:
            order = await asyncio.to_thread(pipe.recv)
            if order is None:
                return
            path, count, each, both = order
            wires[path] = _chunks(frames(count, each, both=both))
            pipe.send("ready")


def _chunks(messages: list[bytes]) -> list[bytes]:
    """The bytes on the wire, cut near 64 KiB so that the server is never what is waited for."""
    encoded = [Frame(Opcode.BINARY, message).serialize(mask=False, extensions=[]) for message in messages]
    size = max(1, len(encoded) * 65_536 // sum(map(len, encoded)))
    return [b"".join(encoded[at : at + size]) for at in range(0, len(encoded), size)]


class _Watch:
    """Times from the first frame to the last."""

    def __init__(self) -> None:
        self.begun = 0.0
        self.seconds = 0.0
        self.done = asyncio.Event()

    def begin(self) -> None:
        if not self.begun:
            self.begun = time.perf_counter()

    def end(self) -> None:
        self.seconds = time.perf_counter() - self.begun
        self.done.set()


async def ours(url: str, decide: Decide) -> float:
    watch, last = _Watch(), Decimal(repr(LAST))

    def on_quotes(quotes: Iterable[Quote]) -> None:
        watch.begin()
        for quote in quotes:
            decide(quote)
            if quote.bid == last:
                watch.end()

    feed = AlpacaMarketFeed(url, "key", "secret")
    running = asyncio.create_task(feed.run(SYMBOLS, on_quotes, lambda link, why: None))
    await _finish(running, watch)
    return watch.seconds


async def alpaca_py(url: str, decide: Decide) -> float:
    watch = _Watch()

    async def handler(quote: dict[str, Any]) -> None:
        if not watch.begun:
            watch.begin()
        if quote["bp"] == LAST:
            watch.end()

    stream = CryptoDataStream("key", "secret", raw_data=True, url_override=url)
    stream.subscribe_quotes(handler, *SYMBOLS)
    running = asyncio.create_task(stream._run_forever())
    await _finish(running, watch)
    await stream.close()
    return watch.seconds


async def bare(url: str, decide: Decide) -> float:
    watch = _Watch()

    async def loop() -> None:
        async with connect(url, compression=None, max_queue=1024) as ws:
            await ws.recv()
            await ws.send(b"auth")
            await ws.recv()
            await ws.send(msgpack.packb({"quotes": SYMBOLS}))
            await ws.recv()
            while True:
                items = msgpack.unpackb(await ws.recv(decode=False))
                watch.begin()
                if items[-1]["bp"] == LAST:
                    watch.end()

    await _finish(asyncio.create_task(loop()), watch)
    return watch.seconds


async def _finish(running: asyncio.Task[None], watch: _Watch) -> None:
    async with asyncio.timeout(120):
        await watch.done.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


CONTENDERS: dict[str, Callable[[str, Decide], Awaitable[float]]] = {
    "ours": ours,
    "alpaca_py_raw": alpaca_py,
    "bare_loop": bare,
}


CASES = {"1_per_frame": (1, False), "50_per_frame": (50, False), "50_per_frame_both_sides": (50, True)}


def measure(*, decide: Decide = decide, rounds: int = 5, quotes: int = 20_000) -> dict[str, Any]:
    """Quotes per second of each contender by case, and how many times as fast ours is."""
    logging.disable(logging.WARNING)
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    server = spawn.Process(target=_serve, args=(there,), daemon=True)
    server.start()
    base = f"ws://127.0.0.1:{here.recv()}"
    try:
        found = {}
        for name, (each, both) in CASES.items():
            count = quotes * (5 if each > 1 else 1)
            here.send((f"/{name}", count, each, both))
            here.recv()
            found[name] = _compare(f"{base}/{name}", decide, rounds, count)
        return found
    finally:
        here.send(None)
        server.join(10)
        logging.disable(logging.NOTSET)


def _compare(url: str, decide: Decide, rounds: int, count: int) -> dict[str, Any]:
    rates: dict[str, list[int]] = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name, contender in CONTENDERS.items():
            rates[name].append(round(count / asyncio.run(contender(url, decide))))
    medians = {name: statistics.median(found) for name, found in rates.items()}
    return {
        "quotes_per_second": medians,
        "ours_to_alpaca_py": round(medians["ours"] / medians["alpaca_py_raw"], 2),
        "ours_to_bare": round(medians["ours"] / medians["bare_loop"], 2),
        "runs": rates,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quotes", type=int, default=20_000)
    chosen = parser.parse_args()
    print(json.dumps(measure(rounds=chosen.rounds, quotes=chosen.quotes), indent=2))
