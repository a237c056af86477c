"""The streams, over real sockets: the paper exchange, servers that misbehave, and alpaca-py beside us."""

import asyncio
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from decimal import Decimal as D
from typing import Any

import msgpack
import pytest
from alpaca.data.live.crypto import CryptoDataStream
from alpaca.trading.stream import TradingStream
from alpaca_servers import (
    KEY,
    SECRET,
    port_of,
    say,
    socket_server,
    tell,
    welcome_data,
    welcome_trades,
)
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from dca.adapters.clock import SystemClock
from dca.adapters.venues.alpaca import AlpacaBroker, AlpacaMarketFeed, AlpacaTradeFeed, link
from dca.domain.errors import ConfigError
from dca.domain.market import Quote
from dca.domain.order import Intent, OrderStatus, Purpose, Side, TradeUpdate
from dca.paper.config import PaperConfig, Switches
from dca.paper.serve import Running, running
from dca.ports import Link

SYMBOLS = ["BTC/USD", "ETH/USD", "SOL/USD"]
STRAIGHT = Switches(partial_rate=0.0, event_before_response=0.0)
PATIENCE_S = 15


class Heard:
    """Everything a feed handed over, and a way to wait for it."""

    def __init__(self) -> None:
        self.quotes: list[Quote] = []
        self.batches: list[list[Quote]] = []
        self.updates: list[TradeUpdate] = []
        self.links: list[tuple[Link, str]] = []
        self._news = asyncio.Event()

    def on_quotes(self, quotes: Iterable[Quote]) -> None:
        self.batches.append(list(quotes))
        self.quotes += self.batches[-1]
        self._news.set()

    def on_update(self, update: TradeUpdate) -> None:
        self.updates.append(update)
        self._news.set()

    def on_link(self, state: Link, why: str) -> None:
        self.links.append((state, why))
        self._news.set()

    @property
    def states(self) -> list[Link]:
        return [state for state, _ in self.links]

    async def until(self, true: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not true():
                await self._news.wait()
                self._news.clear()

    async def up(self, times: int = 1) -> None:
        await self.until(lambda: self.states.count(Link.UP) >= times)


@asynccontextmanager
async def going(work: Awaitable[None]) -> Iterator[asyncio.Future[None]]:
    """`work` runs meanwhile; what ends it by itself is raised."""
    task = asyncio.ensure_future(work)
    try:
        yield task
        if task.done():
            task.result()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def ended(work: Awaitable[None]) -> None:
    """`work` ended by itself."""
    async with asyncio.timeout(PATIENCE_S):
        await work


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """Pauses are short; what they would have been for is kept: failures in a row, and limited."""
    asked: list[tuple[int, bool]] = []

    def pause_s(failures: int, *, limited: bool, chance: float) -> float:
        asked.append((failures, limited))
        return 0.01

    monkeypatch.setattr(link, "pause_s", pause_s)
    return asked


def market_of(url: str, **changes: Any) -> AlpacaMarketFeed:
    return AlpacaMarketFeed(url, changes.pop("key", KEY), changes.pop("secret", SECRET), **changes)


def trades_of(url: str, **changes: Any) -> AlpacaTradeFeed:
    return AlpacaTradeFeed(url, changes.pop("key", KEY), changes.pop("secret", SECRET), **changes)


# Against the paper exchange


@pytest.fixture
def venue() -> Iterator[Running]:
    with running(PaperConfig(key=KEY, secret=SECRET, switches=STRAIGHT), SystemClock()) as found:
        yield found


def intent(**changes: Any) -> Intent:
    base: dict[str, Any] = {
        "key": "dca0a1b2c3d-c7-base-0-1",
        "symbol": "BTC/USD",
        "side": Side.BUY,
        "purpose": Purpose.BASE,
        "step": 0,
        "qty": D("0.002"),
        "limit": D(20_000),
        "cycle_id": 7,
        "reason": "test",
    }
    return Intent(**{**base, **changes})


def test_quotes_of_the_exchange_arrive(venue: Running) -> None:
    async def main() -> None:
        heard, feed = Heard(), market_of(venue.data_url)
        async with going(feed.run(SYMBOLS, heard.on_quotes, heard.on_link)):
            await heard.up()
            await asyncio.to_thread(venue.control.quote, "BTC/USD", "20100.123456789", "20110")
            await asyncio.to_thread(venue.control.quote, "DOGE/USD", "0.1", "0.2")
            await asyncio.to_thread(venue.control.quote, "ETH/USD", "1500", "1500.5")
            await heard.until(lambda: len(heard.quotes) == 2)
        assert [(quote.symbol, quote.bid, quote.ask) for quote in heard.quotes] == [
            ("BTC/USD", D("20100.123456789"), D(20110)),
            ("ETH/USD", D(1500), D("1500.5")),
        ]
        assert abs((heard.quotes[0].at - SystemClock().now()).total_seconds()) < 60
        assert heard.links == [(Link.UP, "subscribed")]
        assert feed.dropped == feed.malformed == 0

    asyncio.run(main())


def test_updates_of_the_exchange_name_the_executions_of_its_history(venue: Running) -> None:
    async def main() -> None:
        heard, feed = Heard(), trades_of(venue.trade_url)
        broker = AlpacaBroker(KEY, SECRET, base_url=venue.base_url, data_url=venue.base_url)
        venue.control.quote("BTC/USD", "20100", "20110")
        async with going(feed.run(heard.on_update, heard.on_link)):
            await heard.up()
            sent = await asyncio.to_thread(broker.submit, intent())
            await asyncio.to_thread(venue.control.fill, sent.venue_id, "0.0005", "19999.5")
            await asyncio.to_thread(venue.control.fill, sent.venue_id)
            await heard.until(lambda: any(update.event == "fill" for update in heard.updates))
        history = broker.executions(sent.venue_id)
        broker.close()
        streamed = [update.execution for update in heard.updates if update.execution is not None]
        facts = [(seen.cum_qty, seen.qty, seen.price, seen.at) for seen in streamed]
        assert facts == sorted((seen.cum_qty, seen.qty, seen.price, seen.at) for seen in history)
        assert [seen.cum_qty for seen in streamed] == [D("0.0005"), D("0.002")]
        assert [update.event for update in heard.updates][-2:] == ["partial_fill", "fill"]
        assert [update.order.status for update in heard.updates][-2:] == [
            OrderStatus.PARTIAL,
            OrderStatus.FILLED,
        ]
        assert {update.order.key for update in heard.updates} == {intent().key}

    asyncio.run(main())


@pytest.mark.parametrize("binary", [True, False])
def test_updates_come_in_either_kind_of_frame(binary: bool) -> None:
    setup = PaperConfig(key=KEY, secret=SECRET, switches=Switches(binary_trade_frames=binary))

    async def main(venue: Running) -> None:
        heard, feed = Heard(), trades_of(venue.trade_url)
        broker = AlpacaBroker(KEY, SECRET, base_url=venue.base_url, data_url=venue.base_url)
        venue.control.quote("BTC/USD", "20100", "20110")
        async with going(feed.run(heard.on_update, heard.on_link)):
            await heard.up()
            await asyncio.to_thread(broker.submit, intent())
            await heard.until(lambda: heard.updates)
        broker.close()

    with running(setup, SystemClock()) as venue:
        asyncio.run(main(venue))


def test_wrong_keys_end_both_feeds_with_a_clear_sentence(venue: Running) -> None:
    async def main() -> None:
        heard = Heard()
        market = market_of(venue.data_url, secret="another")
        trades = trades_of(venue.trade_url, secret="another")
        with pytest.raises(ConfigError, match="refused the keys") as refused:
            await ended(market.run(SYMBOLS, heard.on_quotes, heard.on_link))
        assert "another" not in str(refused.value)
        with pytest.raises(ConfigError, match="refused the keys"):
            await ended(trades.run(heard.on_update, heard.on_link))
        assert Link.UP not in heard.states

    asyncio.run(main())


def test_the_exchange_dies_and_comes_back() -> None:
    def setup(port: int) -> PaperConfig:
        return PaperConfig(key=KEY, secret=SECRET, port=port, switches=STRAIGHT)

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        heard, heard_trades = Heard(), Heard()
        base = f"ws://127.0.0.1:{port}"
        market, trades = market_of(f"{base}/v1beta3/crypto/us"), trades_of(f"{base}/stream")
        async with (
            going(market.run(SYMBOLS, heard.on_quotes, heard.on_link)),
            going(trades.run(heard_trades.on_update, heard_trades.on_link)),
        ):
            for life in (1, 2, 3):
                entered = running(setup(port), SystemClock())
                venue = await asyncio.to_thread(entered.__enter__)
                await heard.up(life)
                await heard_trades.up(life)
                await asyncio.to_thread(venue.control.quote, "BTC/USD", str(life), "10")
                await heard.until(lambda life=life: len(heard.quotes) == life)
                await asyncio.to_thread(entered.__exit__, None, None, None)
                await heard.until(lambda: heard.states[-1] is Link.DOWN)
                await heard_trades.until(lambda: heard_trades.states[-1] is Link.DOWN)
        assert [quote.bid for quote in heard.quotes] == [1, 2, 3]
        assert heard.states[-6:] == [Link.UP, Link.DOWN] * 3

    asyncio.run(main())


def test_a_second_connection_is_limited_and_tried_slowly(
    venue: Running, soon: list[tuple[int, bool]]
) -> None:
    async def main() -> None:
        heard, market, second = Heard(), market_of(venue.data_url), market_of(venue.data_url)
        trades, other = trades_of(venue.trade_url), trades_of(venue.trade_url)
        refused = Heard()
        async with (
            going(market.run(SYMBOLS, heard.on_quotes, heard.on_link)),
            going(trades.run(heard.on_update, heard.on_link)),
        ):
            await heard.up(2)
            async with going(second.run(SYMBOLS, refused.on_quotes, refused.on_link)):
                await refused.until(lambda: refused.links)
            async with going(other.run(refused.on_update, refused.on_link)):
                await refused.until(lambda: len(refused.links) == 2)
        assert ["406" in refused.links[0][1], "429" in refused.links[1][1]] == [True, True]
        assert soon
        assert all(limited for _, limited in soon)

    asyncio.run(main())


# Against a data server that misbehaves


def quote(
    symbol: str = "BTC/USD", bid: float = 84010.1, ask: float = 84030.2, seconds: int = 0
) -> dict[str, Any]:
    stamp = msgpack.Timestamp(1_790_461_800 + seconds, 123_456_789)
    return {"T": "q", "S": symbol, "bp": bid, "bs": 0.5, "ap": ask, "as": 0.4, "t": stamp}


Server = Callable[[ServerConnection], Awaitable[None]]


def with_market(
    talk: Server, check: Callable[[Heard, AlpacaMarketFeed], Awaitable[None]], **changes: Any
) -> None:
    async def main() -> None:
        async with socket_server(talk) as server:
            heard, feed = Heard(), market_of(f"ws://127.0.0.1:{port_of(server)}", **changes)
            async with going(feed.run(SYMBOLS, heard.on_quotes, heard.on_link)):
                await check(heard, feed)

    asyncio.run(main())


def test_the_handshake_asks_for_msgpack_and_no_compression() -> None:
    seen: list[Headers] = []

    async def talk(ws: ServerConnection) -> None:
        seen.append(ws.request.headers)
        assert await welcome_data(ws) == SYMBOLS
        await ws.wait_closed()

    async def check(heard: Heard, feed: AlpacaMarketFeed) -> None:
        await heard.up()

    with_market(talk, check)
    assert seen[0]["Content-Type"] == "application/msgpack"
    assert "Sec-WebSocket-Extensions" not in seen[0]


def test_a_bad_frame_or_item_costs_nothing_else() -> None:
    async def talk(ws: ServerConnection) -> None:
        await welcome_data(ws)
        await ws.send(b"\xc1\xc1")
        await ws.send("text")
        await ws.send(msgpack.packb({"T": "q"}))
        await ws.send(b"")
        await say(ws, quote(bid=1.0), quote("ETH/USD", float("nan")), quote("SOL/USD"), quote(bid=2.0))
        await say(ws, quote("ETH/USD"))
        await ws.wait_closed()

    async def check(heard: Heard, feed: AlpacaMarketFeed) -> None:
        await heard.until(lambda: len(heard.batches) == 2)
        assert {(found.symbol, found.bid) for found in heard.batches[0]} == {
            ("BTC/USD", D(2)),
            ("SOL/USD", D("84010.1")),
        }
        assert [found.symbol for found in heard.batches[1]] == ["ETH/USD"]
        assert (feed.malformed, feed.dropped) == (4, 1)
        assert heard.states == [Link.UP]

    with_market(talk, check)


def test_a_frame_that_is_too_large_ends_the_link_and_not_the_feed(soon: list[tuple[int, bool]]) -> None:
    sizes = iter([3 * 2**20, 3 * 2**20])

    async def talk(ws: ServerConnection) -> None:
        await welcome_data(ws)
        size = next(sizes, None)
        await (ws.send(b"\0" * size) if size else say(ws, quote()))
        await ws.wait_closed()

    async def check(heard: Heard, feed: AlpacaMarketFeed) -> None:
        await heard.until(lambda: heard.quotes)
        assert heard.states == [Link.UP, Link.DOWN] * 2 + [Link.UP]
        assert soon == [(1, False), (2, False)]

    with_market(talk, check)


def test_silence_is_noticed_and_the_link_made_anew() -> None:
    async def talk(ws: ServerConnection) -> None:
        await welcome_data(ws)
        await say(ws, quote())
        await ws.wait_closed()

    async def check(heard: Heard, feed: AlpacaMarketFeed) -> None:
        await heard.up(3)
        assert heard.states == [Link.UP, Link.DOWN, Link.UP, Link.DOWN, Link.UP]
        assert heard.links[1] == (Link.DOWN, "no frame for 0.2 s")

    with_market(talk, check, stale_s=0.2)


def test_frames_of_any_kind_are_a_sign_of_life() -> None:
    async def talk(ws: ServerConnection) -> None:
        await welcome_data(ws)
        for _ in range(10):
            await asyncio.sleep(0.05)
            await say(ws, {"T": "b", "S": "BTC/USD"})
        await say(ws, quote())
        await ws.wait_closed()

    async def check(heard: Heard, feed: AlpacaMarketFeed) -> None:
        await heard.until(lambda: heard.quotes)
        assert heard.states == [Link.UP]

    with_market(talk, check, stale_s=0.3)


FATAL = [
    (400, "invalid syntax"),
    (402, "auth failed"),
    (405, "symbol limit exceeded"),
    (409, "insufficient subscription"),
    (410, "invalid subscribe action for this feed"),
    (411, "insufficient scope"),
]


@pytest.mark.parametrize(("code", "words"), FATAL)
@pytest.mark.parametrize("moment", ["connected", "authenticated", "subscribed"])
def test_what_no_reconnect_mends_is_for_a_person(code: int, words: str, moment: str) -> None:
    tries = 0

    async def talk(ws: ServerConnection) -> None:
        nonlocal tries
        tries += 1
        if moment == "subscribed":
            await welcome_data(ws)
        else:
            await say(ws, {"T": "success", "msg": "connected"})
            await ws.recv()
        if moment == "authenticated":
            await say(ws, {"T": "success", "msg": "authenticated"})
            await ws.recv()
        await say(ws, {"T": "error", "code": code, "msg": words})
        await ws.wait_closed()

    async def main() -> None:
        async with socket_server(talk) as server:
            heard = Heard()
            with pytest.raises(ConfigError, match=str(code)):
                feed = market_of(f"ws://127.0.0.1:{port_of(server)}")
                await ended(feed.run(SYMBOLS, heard.on_quotes, heard.on_link))
            assert tries == 1

    asyncio.run(main())


PASSING = [
    (404, "auth timeout", False),
    (406, "connection limit exceeded", True),
    (407, "slow client", False),
    (429, "too many", True),
    (500, "internal error", False),
    (777, "news", False),
    (None, "no code", False),
    ([], "odd", False),
]


@pytest.mark.parametrize(("code", "words", "limited"), PASSING)
@pytest.mark.parametrize("late", [True, False])
def test_what_passes_is_tried_again(
    code: Any, words: str, limited: bool, late: bool, soon: list[tuple[int, bool]]
) -> None:
    tries = 0

    async def talk(ws: ServerConnection) -> None:
        nonlocal tries
        tries += 1
        if tries > 3:
            await welcome_data(ws)
            await say(ws, quote())
            await ws.wait_closed()
            return
        if late:
            await welcome_data(ws)
        else:
            await say(ws, {"T": "success", "msg": "connected"})
        await say(ws, {"T": "error", "code": code, "msg": words})
        await ws.wait_closed()

    async def check(heard: Heard, feed: AlpacaMarketFeed) -> None:
        await heard.until(lambda: heard.quotes)
        assert soon == [(1, limited), (2, limited), (3, limited)]
        assert words in heard.links[1 if late else 0][1]

    with_market(talk, check)


def test_being_pushed_out_by_another_program_counts_as_failure_even_after_data(
    soon: list[tuple[int, bool]],
) -> None:
    async def talk(ws: ServerConnection) -> None:
        await welcome_data(ws)
        await say(ws, quote())
        await say(ws, {"T": "error", "code": 406, "msg": "connection limit exceeded"})
        await ws.wait_closed()

    async def check(heard: Heard, feed: AlpacaMarketFeed) -> None:
        await heard.up(4)
        assert soon[:3] == [(1, True), (2, True), (3, True)]

    with_market(talk, check)


def test_real_data_ends_the_count_of_failures(soon: list[tuple[int, bool]]) -> None:
    tries = 0

    async def talk(ws: ServerConnection) -> None:
        nonlocal tries
        tries += 1
        await welcome_data(ws)
        if tries == 3:
            await say(ws, quote())

    async def check(heard: Heard, feed: AlpacaMarketFeed) -> None:
        await heard.up(5)
        assert soon[:4] == [(1, False), (2, False), (1, False), (2, False)]

    with_market(talk, check)


@pytest.mark.parametrize(("proven_s", "counts"), [(0.1, [1, 1, 1]), (30, [1, 2, 3])])
def test_a_link_that_stood_long_was_good_even_if_the_market_was_quiet(
    proven_s: float, counts: list[int], soon: list[tuple[int, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "PROVEN_S", proven_s)

    async def talk(ws: ServerConnection) -> None:
        await welcome_data(ws)
        await ws.wait_closed()

    async def check(heard: Heard, feed: AlpacaMarketFeed) -> None:
        await heard.up(4)
        assert [failures for failures, _ in soon[:3]] == counts

    with_market(talk, check, stale_s=0.15)


@pytest.mark.parametrize("step", ["nothing", "welcome", "auth", "chatter"])
def test_every_step_of_the_greeting_has_an_end(step: str, soon: list[tuple[int, bool]]) -> None:
    async def talk(ws: ServerConnection) -> None:
        if step == "nothing":
            await ws.wait_closed()
        await say(ws, {"T": "success", "msg": "connected"})
        await ws.recv()
        while step == "chatter":
            await say(ws, quote())
            await asyncio.sleep(0.01)
        if step == "auth":
            await say(ws, {"T": "success", "msg": "authenticated"})
        await ws.wait_closed()

    async def check(heard: Heard, feed: AlpacaMarketFeed) -> None:
        await heard.until(lambda: heard.links)
        [(state, why)] = heard.links
        assert (state, "in time" in why) == (Link.DOWN, True)

    with_market(talk, check, step_s=0.1)


def test_a_peer_that_never_answers_the_handshake_is_given_up() -> None:
    async def main(port: int) -> None:
        heard, feed = Heard(), market_of(f"ws://127.0.0.1:{port}", step_s=0.1)
        async with going(feed.run(SYMBOLS, heard.on_quotes, heard.on_link)):
            await heard.until(lambda: heard.links)
        assert heard.links == [(Link.DOWN, "no answer in time")]

    with socket.create_server(("127.0.0.1", 0)) as silent:
        asyncio.run(main(silent.getsockname()[1]))


def test_symbols_the_venue_leaves_out_are_named(caplog: pytest.LogCaptureFixture) -> None:
    async def talk(ws: ServerConnection) -> None:
        await say(ws, {"T": "success", "msg": "connected"})
        await ws.recv()
        await say(ws, {"T": "success", "msg": "authenticated"})
        await ws.recv()
        await say(ws, {"T": "subscription", "quotes": ["BTC/USD"]})
        await say(ws, quote())
        await ws.wait_closed()

    async def check(heard: Heard, feed: AlpacaMarketFeed) -> None:
        await heard.until(lambda: heard.quotes)
        assert heard.links == [(Link.UP, "subscribed, without ETH/USD, SOL/USD")]

    with_market(talk, check)
    assert "symbols_not_streamed" in [record.message for record in caplog.records]


def test_a_subscription_to_nothing_is_no_subscription() -> None:
    async def talk(ws: ServerConnection) -> None:
        await say(ws, {"T": "success", "msg": "connected"})
        await ws.recv()
        await say(ws, {"T": "success", "msg": "authenticated"})
        await ws.recv()
        await say(ws, {"T": "subscription", "quotes": []})
        await ws.wait_closed()

    async def check(heard: Heard, feed: AlpacaMarketFeed) -> None:
        await heard.until(lambda: heard.links)
        assert heard.links == [(Link.DOWN, "the venue subscribed none of the symbols")]

    with_market(talk, check)


def test_a_redirect_is_not_followed_with_the_keys(soon: list[tuple[int, bool]]) -> None:
    visits = 0

    async def main() -> None:
        async def thief(ws: ServerConnection) -> None:
            nonlocal visits
            visits += 1

        async with socket_server(thief) as other:

            def elsewhere(ws: ServerConnection, request: Request) -> Response:
                return Response(307, "", Headers(Location=f"ws://127.0.0.1:{port_of(other)}/"), b"")

            async with socket_server(thief, process_request=elsewhere) as server:
                heard, feed = Heard(), market_of(f"ws://127.0.0.1:{port_of(server)}")
                async with going(feed.run(SYMBOLS, heard.on_quotes, heard.on_link)):
                    await heard.until(lambda: heard.links)
                assert "HTTP 307" in heard.links[0][1]

    asyncio.run(main())
    assert visits == 0


def test_the_keys_are_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("websockets.server").setLevel(logging.INFO)

    async def quotes(ws: ServerConnection) -> None:
        await welcome_data(ws)
        await ws.wait_closed()

    async def updates(ws: ServerConnection) -> None:
        await welcome_trades(ws)
        await ws.wait_closed()

    async def check(heard: Heard, feed: object) -> None:
        await heard.up()

    with_market(quotes, check)
    with_trades(updates, check)
    assert caplog.records
    assert KEY not in caplog.text
    assert SECRET[-5:] not in caplog.text


def test_an_error_of_the_consumer_is_not_taken_for_one_of_the_network() -> None:
    async def talk(ws: ServerConnection) -> None:
        await welcome_data(ws)
        await say(ws, quote())
        await ws.wait_closed()

    async def main(error: Exception) -> None:
        def on_quotes(quotes: Iterable[Quote]) -> None:
            raise error

        async with socket_server(talk) as server:
            feed = market_of(f"ws://127.0.0.1:{port_of(server)}")
            with pytest.raises(type(error), match="mine"):
                await ended(feed.run(SYMBOLS, on_quotes, lambda state, why: None))

    for error in (OSError("mine"), TimeoutError("mine"), ValueError("mine"), TypeError("mine")):
        asyncio.run(main(error))


# Against a trade server that misbehaves


def order(**changes: Any) -> dict[str, Any]:
    return {
        "id": "904837e3-3b76-47ec-b432-046db621571b",
        "client_order_id": intent().key,
        "created_at": "2026-09-26T17:30:01.487737737-05:00",
        "updated_at": "2026-09-26T17:30:01.487737737-05:00",
        "submitted_at": "2026-09-26T22:30:01.487737737Z",
        "asset_id": "276e2673-764b-4ab6-a611-caf665ca6340",
        "asset_class": "crypto",
        "symbol": "BTC/USD",
        "qty": "0.002",
        "filled_qty": "0",
        "filled_avg_price": None,
        "order_class": "",
        "order_type": "limit",
        "type": "limit",
        "side": "buy",
        "time_in_force": "gtc",
        "limit_price": "20000",
        "status": "new",
        "extended_hours": False,
        **changes,
    }


def update(event: str, *, at: int = 0, **changes: Any) -> dict[str, Any]:
    execution = changes.pop("execution", {})
    return {
        "event": event,
        "timestamp": f"2026-09-26T22:30:{at:02}.487737737Z",
        "execution_id": f"b6e1f2aa-0000-4000-8000-0000000000{at:02}",
        "order": order(**changes),
        **execution,
    }


LIFE = [
    update("pending_new", at=1, status="pending_new"),
    update("new", at=2),
    update(
        "partial_fill",
        at=3,
        status="partially_filled",
        filled_qty="0.0005",
        filled_avg_price="19999.5",
        execution={"price": "19999.5", "qty": "0.0005", "position_qty": "0.00049875"},
    ),
    update(
        "fill",
        at=4,
        status="filled",
        filled_qty="0.002",
        filled_avg_price="19999.875",
        execution={"price": "20000", "qty": "0.0015", "position_qty": "0.001995"},
    ),
]


def with_trades(
    talk: Server, check: Callable[[Heard, AlpacaTradeFeed], Awaitable[None]], **changes: Any
) -> None:
    async def main() -> None:
        async with socket_server(talk) as server:
            heard, feed = Heard(), trades_of(f"ws://127.0.0.1:{port_of(server)}", **changes)
            async with going(feed.run(heard.on_update, heard.on_link)):
                await check(heard, feed)

    asyncio.run(main())


def test_the_link_is_up_only_once_listening_is_acknowledged() -> None:
    async def talk(ws: ServerConnection) -> None:
        await ws.recv()
        await tell(ws, "authorization", {"status": "authorized", "action": "authenticate"})
        await ws.recv()
        await tell(ws, "trade_updates", LIFE[0])
        await tell(ws, "listening", {"streams": ["trade_updates"]})
        await ws.wait_closed()

    async def check(heard: Heard, feed: AlpacaTradeFeed) -> None:
        await heard.until(lambda: heard.updates)
        await heard.up()
        assert heard.links == [(Link.UP, "listening")]
        assert [seen.event for seen in heard.updates] == ["pending_new"]

    with_trades(talk, check)


@pytest.mark.parametrize("streams", [[], None, ["other"]])
def test_without_trade_updates_the_link_is_not_up(streams: Any, soon: list[tuple[int, bool]]) -> None:
    async def talk(ws: ServerConnection) -> None:
        await ws.recv()
        await tell(ws, "authorization", {"status": "authorized", "action": "authenticate"})
        await ws.recv()
        await tell(ws, "listening", {"streams": streams})
        await ws.wait_closed()

    async def check(heard: Heard, feed: AlpacaTradeFeed) -> None:
        await heard.until(lambda: heard.links)
        assert heard.links == [(Link.DOWN, "the venue does not offer trade updates")]
        assert soon[0] == (1, True)

    with_trades(talk, check)


def test_an_acknowledgement_that_never_comes_is_not_waited_for() -> None:
    async def talk(ws: ServerConnection) -> None:
        await ws.recv()
        await tell(ws, "authorization", {"status": "authorized", "action": "authenticate"})
        await ws.wait_closed()

    async def check(heard: Heard, feed: AlpacaTradeFeed) -> None:
        await heard.until(lambda: heard.links)
        assert heard.links == [(Link.DOWN, "no answer in time")]

    with_trades(talk, check, step_s=0.1)


BROKEN: list[Any] = [
    b"\x01",
    b"",
    b"{",
    b"\xff\xfe\xff",
    b"[]",
    b"7",
    b"null",
    b'{"stream": "trade_updates"}',
    b'{"stream": "trade_updates", "data": null}',
    b'{"stream": "trade_updates", "data": {"event": "fill"}}',
    b'{"stream": "else", "data": 7}',
    b'{"data": {}}',
    b"[" * 100_000,
    json.dumps({"stream": "trade_updates", "data": update("new", status=None)}).encode(),
]


@pytest.mark.parametrize("frame", BROKEN, ids=lambda frame: repr(frame[:30]))
def test_one_bad_message_never_loses_the_next(frame: bytes) -> None:
    async def talk(ws: ServerConnection) -> None:
        await welcome_trades(ws)
        await ws.send(frame)
        await tell(ws, "trade_updates", LIFE[3], text=True)
        await ws.wait_closed()

    async def check(heard: Heard, feed: AlpacaTradeFeed) -> None:
        await heard.until(lambda: heard.updates)
        assert [seen.event for seen in heard.updates] == ["fill"]
        assert heard.states == [Link.UP]

    with_trades(talk, check)


def test_events_nobody_has_heard_of_pass_through() -> None:
    async def talk(ws: ServerConnection) -> None:
        await welcome_trades(ws)
        await tell(ws, "trade_updates", update("levitated", status="levitating"))
        await ws.wait_closed()

    async def check(heard: Heard, feed: AlpacaTradeFeed) -> None:
        await heard.until(lambda: heard.updates)
        [seen] = heard.updates
        assert (seen.event, seen.order.status, seen.execution) == ("levitated", OrderStatus.OPEN, None)

    with_trades(talk, check)


def test_numbers_that_are_not_text_keep_their_digits() -> None:
    async def talk(ws: ServerConnection) -> None:
        await welcome_trades(ws)
        frame = json.dumps({"stream": "trade_updates", "data": LIFE[3]})
        await ws.send(frame.replace('"0.0015"', "0.001500000000000000001"))
        await ws.wait_closed()

    async def check(heard: Heard, feed: AlpacaTradeFeed) -> None:
        await heard.until(lambda: heard.updates)
        assert heard.updates[0].execution is not None
        assert heard.updates[0].execution.qty == D("0.001500000000000000001")

    with_trades(talk, check)


def test_an_error_of_the_venue_is_met_by_trying_again(soon: list[tuple[int, bool]]) -> None:
    tries = 0

    async def talk(ws: ServerConnection) -> None:
        nonlocal tries
        tries += 1
        await welcome_trades(ws)
        if tries == 1:
            await ws.send(json.dumps({"action": "error", "data": {"error_message": "slow client"}}))
        await ws.wait_closed()

    async def check(heard: Heard, feed: AlpacaTradeFeed) -> None:
        await heard.up(2)
        assert heard.links[1] == (Link.DOWN, "the venue says slow client")

    with_trades(talk, check)


# Beside alpaca-py, on the same frames


FRAMES = [
    [quote(bid=1.5, ask=2.5)],
    [quote(bid=0.1 + 0.2, ask=12345678.123456789), quote("ETH/USD", 1500, 1501)],
    [quote(bid=float(number), ask=100.0, seconds=number) for number in range(1, 40)],
    [{"T": "b", "S": "BTC/USD", "o": 1.0, "h": 1.0, "l": 1.0, "c": 1.0, "v": 0.0, "n": 0, "vw": 1.0}],
    [quote("SOL/USD", 1e-9, 2e-9, seconds=50), quote("ETH/USD", 3.0, 3.0, seconds=51)],
    [quote(symbol, 7.0, 9.0, seconds=60) for symbol in SYMBOLS],
]


def newest(frame: list[Any]) -> dict[str, Any]:
    return {found.symbol: found for found in frame}


def test_the_same_frames_mean_the_same_to_alpaca_py() -> None:
    theirs: list[Any] = []

    async def talk(ws: ServerConnection) -> None:
        await welcome_data(ws)
        for frame in FRAMES:
            await say(ws, *frame)
        await ws.wait_closed()

    async def main() -> Heard:
        async with socket_server(talk) as server:
            url = f"ws://127.0.0.1:{port_of(server)}"
            heard, feed = Heard(), market_of(url)
            async with going(feed.run(SYMBOLS, heard.on_quotes, heard.on_link)):
                await heard.until(lambda: len(heard.batches) == 5)

            done = asyncio.Event()

            async def handler(found: Any) -> None:
                theirs.append(found)
                if len(theirs) == sum(item["T"] == "q" for frame in FRAMES for item in frame):
                    done.set()

            stream = CryptoDataStream(KEY, SECRET, url_override=url)
            stream.subscribe_quotes(handler, *SYMBOLS)
            async with going(stream._run_forever()):
                await asyncio.wait_for(done.wait(), PATIENCE_S)
            await stream.close()
            return heard

    heard = asyncio.run(main())
    batches = iter(heard.batches)
    at = 0
    for frame in FRAMES:
        count = sum(item["T"] == "q" for item in frame)
        wanted, at = newest(theirs[at : at + count]), at + count
        if not count:
            continue
        ours = {found.symbol: found for found in next(batches)}
        assert ours.keys() == wanted.keys()
        for symbol, found in ours.items():
            assert (float(found.bid), float(found.ask)) == (
                wanted[symbol].bid_price,
                wanted[symbol].ask_price,
            )
            assert found.at == wanted[symbol].timestamp


def test_the_same_updates_mean_the_same_to_alpaca_py() -> None:
    theirs: list[Any] = []

    async def talk(ws: ServerConnection) -> None:
        await welcome_trades(ws)
        for found in LIFE:
            await tell(ws, "trade_updates", found)
        await ws.wait_closed()

    async def main() -> Heard:
        async with socket_server(talk) as server:
            url = f"ws://127.0.0.1:{port_of(server)}"
            heard, feed = Heard(), trades_of(url)
            async with going(feed.run(heard.on_update, heard.on_link)):
                await heard.until(lambda: len(heard.updates) == len(LIFE))
            done = asyncio.Event()

            async def handler(found: Any) -> None:
                theirs.append(found)
                if len(theirs) == len(LIFE):
                    done.set()

            stream = TradingStream(KEY, SECRET, url_override=url)
            stream.subscribe_trade_updates(handler)
            async with going(stream._run_forever()):
                await asyncio.wait_for(done.wait(), PATIENCE_S)
            await stream.close()
            return heard

    ours = asyncio.run(main()).updates
    assert len(ours) == len(theirs) == len(LIFE)
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine.event, mine.at) == (str(other.event), other.timestamp)
        assert (mine.order.venue_id, mine.order.key) == (str(other.order.id), other.order.client_order_id)
        assert (mine.order.symbol, mine.order.side) == (other.order.symbol, other.order.side.value)
        assert mine.order.filled_qty == D(other.order.filled_qty)
        assert mine.order.submitted_at == other.order.submitted_at
        if mine.execution is None:
            assert other.price is None
            continue
        assert mine.execution.id == str(other.execution_id)
        assert (float(mine.execution.qty), float(mine.execution.price)) == (other.qty, other.price)
        assert mine.execution.cum_qty == D(other.order.filled_qty)
