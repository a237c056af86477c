"""The engine: quiet quotes cost nothing, a slow outside blocks nothing, a broken part ends it."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from pathlib import Path
from random import Random
from typing import Any

import databases
import pytest
from build import BTC, restriction, rules

from dca.adapters.clock import SystemClock
from dca.adapters.db.store import SqlStore
from dca.adapters.db.tx import SqlTx
from dca.adapters.venues.sim import SimVenue
from dca.domain.errors import ConfigError, DcaError, StoreUnavailable, Unavailable
from dca.domain.fees import FeeRates
from dca.domain.market import Quote
from dca.domain.mode import OPERATOR, Mode
from dca.domain.order import Side, TradeUpdate
from dca.ports import Account, Link, LinkChange
from dca.risk.review import Limits
from dca.service import assets, lease
from dca.service.anomaly import Lookout
from dca.service.breaker import Circuits
from dca.service.brief import read_brief
from dca.service.budget import RateBudget
from dca.service.catchup import CatchUp
from dca.service.engine import Engine
from dca.service.guard import GuardedBroker
from dca.service.recorder import Recorder
from dca.service.replacing import Replacing
from dca.service.shared import Shared
from dca.service.trader import Trader
from dca.strategy.dca import Terms

SYMBOLS = ["BTC/USD", "ETH/USD"]


class Feed:
    """Both feeds of an engine, moved by the test."""

    def __init__(self) -> None:
        self.on_quotes: Callable[[Iterable[Quote]], None] | None = None
        self.on_update: Callable[[TradeUpdate], None] | None = None
        self.error: Exception | None = None

    def market(self) -> Any:
        return _Market(self)

    def trades(self) -> Any:
        return _Trades(self)


class _Market:
    def __init__(self, feed: Feed) -> None:
        self.feed = feed

    async def run(
        self, symbols: Sequence[str], on_quotes: Callable[[Iterable[Quote]], None], on_link: LinkChange
    ) -> None:
        self.feed.on_quotes = on_quotes
        on_link(Link.UP, "a test")
        while self.feed.error is None:
            await asyncio.sleep(0.01)
        raise self.feed.error


class _Trades:
    def __init__(self, feed: Feed) -> None:
        self.feed = feed

    async def run(self, on_update: Callable[[TradeUpdate], None], on_link: LinkChange) -> None:
        self.feed.on_update = on_update
        on_link(Link.UP, "a test")
        await asyncio.Event().wait()


class Bench:
    """An engine on a real database and a simulated venue."""

    def __init__(self, url: str) -> None:
        self.clock = SystemClock()
        self.store = SqlStore(url)
        instruments = {symbol: BTC.__class__(symbol, D("0.0001"), D("1e-9"), D("0.01")) for symbol in SYMBOLS}
        self.venue = SimVenue(self.clock, instruments, D(10_000), Random(1))
        for symbol in SYMBOLS:
            assets.add(self.store, self.clock, symbol, rules(cooldown_period=3600))
        self.feed = Feed()
        recorder = Recorder(self.store, self.clock, FeeRates())
        limits = Limits(max_open_orders=5, max_quote_age=timedelta(seconds=60), min_notional=D(10))
        self.engine = Engine(
            store=self.store,
            broker=self.venue,
            clock=self.clock,
            trader=Trader(self.store, self.venue, self.clock, recorder, limits, Terms(D("0.0025"))),
            recorder=recorder,
            catch_up=CatchUp(self.store, self.venue, self.clock, recorder, grace_s=60),
            market=self.feed.market(),
            trades=self.feed.trades(),
            lease=lease.take(self.store, self.clock, "streamer:test", "host/1/1", lambda holder: False),
            reconcile_every_s=20,
            identity="host/1/1",
        )

    def quote(self, symbol: str, bid: str) -> Quote:
        one = Quote(symbol, D(bid), D(bid) + 3, datetime.now(UTC))
        self.venue.quote(one)
        return one

    def tell(self) -> None:
        """The venue's updates reach the engine."""
        assert self.feed.on_update is not None
        for update in self.venue.updates:
            self.feed.on_update(update)
        self.venue.updates.clear()


@pytest.fixture
def bench(sqlite_url: str) -> Iterable[Bench]:
    made = Bench(sqlite_url)
    yield made
    made.store.close()


async def until(holds: Callable[[], bool], what: str) -> None:
    limit = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < limit, f"waited in vain: {what}"
        await asyncio.sleep(0.005)


def living(bench: Bench, test: Callable[[asyncio.Event], Any]) -> None:
    """`test` runs beside the engine, which is told to stop afterwards."""

    async def both() -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(bench.engine.run(stop))
        try:
            await until(lambda: bench.engine.entries_blocked() is None, "entries are free")
            await test(stop)
        finally:
            stop.set()
            await running

    asyncio.run(both())


def test_a_quiet_quote_costs_no_sql_and_no_http(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    here = threading.get_ident()

    def is_here() -> bool:
        # Timers ask now and then, in threads of their own; quotes are handled in this one.
        return threading.get_ident() == here

    async def test(stop: asyncio.Event) -> None:
        bought = bench.quote("BTC/USD", "20000")
        bench.engine.on_quotes([bought])
        await until(lambda: bool(bench.venue.submitted), "the base order")
        bench.tell()
        watched = bench.engine.watched["BTC/USD"]
        await until(lambda: watched.brief.cycle.quantity > 0 and not watched.jobs, "the fill")  # type: ignore[union-attr]
        before = len(bench.venue.submitted)
        monkeypatch.setattr(bench.engine, "broker", None)
        with databases.statements_noted(is_here) as statements:
            # No await in here: whatever the quotes themselves cost would be counted, nothing else is.
            begun = set(bench.engine._jobs)
            for cent in range(10_000):
                price = D(20_000) + D(cent) / 100
                bench.engine.on_quotes([Quote("BTC/USD", price, price + 3, bought.at)])
            assert statements == []
            assert bench.engine._jobs <= begun, "nothing was begun that could ask later"
        assert len(bench.venue.submitted) == before
        assert "above the next safety order" in watched.explained

    living(bench, test)


def test_a_denied_order_is_not_tried_again_on_the_same_quote_without_end(bench: Bench) -> None:
    async def test(stop: asyncio.Event) -> None:
        watched = bench.engine.watched["BTC/USD"]
        bench.engine._vitals.links["trades"] = "down"
        bench.engine.on_quotes([bench.quote("BTC/USD", "20000")])
        await until(lambda: "stream is down" in watched.explained and not watched.jobs, "an end of it")
        assert bench.venue.submitted == []

    living(bench, test)


def test_two_wild_quotes_do_not_vouch_for_each_other(bench: Bench) -> None:
    async def test(stop: asyncio.Event) -> None:
        watched = bench.engine.watched["BTC/USD"]
        bench.engine.on_quotes([bench.quote("BTC/USD", "20000")])
        await until(lambda: bool(bench.venue.submitted), "the base order")
        bench.tell()
        await until(lambda: watched.brief.cycle.quantity > 0 and not watched.jobs, "the fill")  # type: ignore[union-attr]
        for bid in (D(18_000), D(18_010)):
            watched.hold_until = None
            bench.engine.on_quotes([Quote("BTC/USD", bid, bid + 3, datetime.now(UTC))])
            await until(lambda bid=bid: not watched.jobs and watched.tried[0].bid == bid, "an answer")  # type: ignore[misc,index]
            assert "is not confirmed" in watched.explained
        assert len(bench.venue.submitted) == 1

    living(bench, test)


def test_a_slow_database_does_not_hold_up_the_quotes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    original = bench.store.write

    def slow(work: Any) -> Any:
        release.wait(10)
        return original(work)

    async def test(stop: asyncio.Event) -> None:
        monkeypatch.setattr(bench.store, "write", slow)
        bench.engine.on_quotes([bench.quote("BTC/USD", "20000")])
        await asyncio.sleep(0)
        longest = 0.0
        for _ in range(200):
            started = time.monotonic()
            bench.engine.on_quotes([bench.quote("ETH/USD", "1500")])
            await asyncio.sleep(0)
            longest = max(longest, time.monotonic() - started)
        assert longest < 0.2
        assert bench.venue.submitted == [], "no journal, no order"
        release.set()
        await until(lambda: len(bench.venue.submitted) == 2, "both base orders")
        bench.tell()

    living(bench, test)


def test_an_update_waits_for_a_database_that_is_down(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dca.service.engine.RETRY_S", 0.01)
    failures = 5
    original = bench.engine.recorder.record

    def down(*args: Any, **named: Any) -> Any:
        nonlocal failures
        if named["source"].startswith("stream") and failures:
            failures -= 1
            raise StoreUnavailable("the server has gone away")
        return original(*args, **named)

    async def test(stop: asyncio.Event) -> None:
        monkeypatch.setattr(bench.engine.recorder, "record", down)
        bench.engine.on_quotes([bench.quote("BTC/USD", "20000")])
        await until(lambda: bool(bench.venue.submitted), "the base order")
        bench.tell()
        watched = bench.engine.watched["BTC/USD"]
        await until(lambda: watched.brief.cycle.quantity > 0, "the fill")  # type: ignore[union-attr]
        assert failures == 0

    living(bench, test)


def test_a_part_that_fails_ends_the_whole(bench: Bench) -> None:
    async def test() -> None:
        running = asyncio.create_task(bench.engine.run(asyncio.Event()))
        await until(lambda: bench.feed.on_quotes is not None, "the market feed")
        bench.feed.error = ConfigError("insufficient subscription")
        with pytest.raises(ConfigError, match="insufficient subscription"):
            await asyncio.wait_for(running, 5)

    asyncio.run(test())


def test_another_instance_that_took_over_ends_this_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dca.service.engine.BEAT_S", 0.05)

    def taken() -> bool:
        try:
            lease.take(bench.store, bench.clock, "streamer:test", "host/2/2", lambda holder: False)
        except lease.LeaseTaken:
            return False
        return True

    async def test() -> None:
        running = asyncio.create_task(bench.engine.run(asyncio.Event()))
        await until(lambda: bench.feed.on_quotes is not None, "the market feed")
        while not await asyncio.to_thread(taken):
            pass  # its holder lives and renews it, so it may win a few times
        with pytest.raises(lease.LeaseTaken):
            await asyncio.wait_for(running, 5)

    asyncio.run(test())


def test_an_asset_added_later_is_watched(bench: Bench) -> None:
    async def test(stop: asyncio.Event) -> None:
        await asyncio.to_thread(assets.add, bench.store, bench.clock, "SOL/USD", rules())
        await until(lambda: "SOL/USD" in bench.engine.watched, "the new asset")

    living(bench, test)


def test_a_replacement_that_a_dead_process_left_is_gone_on_with(bench: Bench) -> None:
    trader, (first, *_) = bench.engine.trader, SYMBOLS
    trader.instruments = bench.venue.instruments()
    brief = bench.store.read(lambda tx: read_brief(tx, assets.named(tx, first).id))
    assert brief is not None
    low = bench.quote(first, "20000")
    bench.quote(first, "20100")
    trader.act(brief, low, before=low)
    (old,) = bench.store.read(lambda tx: tx.live_orders())
    replacing = Replacing(
        store=bench.store,
        broker=bench.venue,
        clock=bench.clock,
        trader=trader,
        catch_up=bench.engine.catch_up,
    )
    assert replacing.begin(old, "a test wants it") is not None
    bench.quote(first, "20050")

    async def test(stop: asyncio.Event) -> None:
        await until(lambda: bench.store.read(lambda tx: tx.replacements()) == [], "the end of it")

    living(bench, test)
    done = bench.store.read(lambda tx: tx.replacement(old.key))
    assert done is not None and done.stage == "submit_confirmed"
    assert [wish.limit for wish in bench.venue.submitted] == [20_003, 20_053]


def test_an_instance_that_cannot_start_waits(sqlite_url: str, tmp_path: Path) -> None:
    bench = Bench(sqlite_url)
    assert issubclass(lease.LeaseTaken, DcaError)
    with pytest.raises(lease.LeaseTaken):
        lease.take(bench.store, bench.clock, "streamer:test", "host/2/2", lambda holder: True)
    bench.store.close()


def test_a_stop_ends_the_wait_for_a_venue_that_does_not_answer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dca.service.engine.RETRY_S", 0.01)
    asked = 0

    def unavailable() -> None:
        nonlocal asked
        asked += 1
        raise Unavailable("503")

    async def test() -> None:
        stop = asyncio.Event()
        monkeypatch.setattr(bench.venue, "instruments", unavailable)
        running = asyncio.create_task(bench.engine.run(stop))
        await until(lambda: asked > 2, "it asked again and again")
        stop.set()
        await asyncio.wait_for(running, 5)

    asyncio.run(test())


def test_a_changed_verdict_is_written_down_once_with_its_triggers(bench: Bench) -> None:
    async def test(stop: asyncio.Event) -> None:
        bench.engine.on_quotes([bench.quote("BTC/USD", "20000")])
        await until(lambda: bool(bench.venue.submitted), "the base order")
        bench.tell()
        watched = bench.engine.watched["BTC/USD"]
        await until(lambda: watched.brief.cycle.quantity > 0 and not watched.jobs, "the fill")  # type: ignore[union-attr]
        for bid in ("20001", "20002", "20001"):
            bench.engine.on_quotes([bench.quote("BTC/USD", bid)])

        def codes() -> list[str]:
            found = bench.store.read(lambda tx: tx.decisions(watched.asset_id))
            return [decision.code for decision in reversed(found)]

        await until(lambda: codes()[-1:] == ["between"], "the verdict")
        assert codes().count("between") == 1 and codes()[0] in ("buy", "held")
        newest = bench.store.read(lambda tx: tx.decisions(watched.asset_id, limit=1))[0]
        names = [trigger["name"] for trigger in newest.data["triggers"]]
        assert names == ["safety_order", "take_profit"]
        assert "above the next safety order" in newest.reason
        assert newest.ask is not None and newest.bid is not None

    living(bench, test)


@pytest.mark.parametrize("mode", [Mode.HALTED, Mode.REDUCE_ONLY])
def test_a_switch_that_was_thrown_is_seen_without_a_restart(bench: Bench, mode: Mode) -> None:
    async def test(stop: asyncio.Event) -> None:
        await asyncio.to_thread(bench.store.write, lambda tx: tx.put_mode(restriction(mode)))
        await until(lambda: bool(bench.engine.trader.restrictions), "the restriction")
        for _ in range(20):
            bench.engine.on_quotes([bench.quote("BTC/USD", "20000")])
        watched = bench.engine.watched["BTC/USD"]
        assert (watched.jobs, bench.venue.submitted) == (0, [])
        assert "trading is" in watched.explained
        await asyncio.to_thread(bench.store.write, lambda tx: tx.drop_mode(OPERATOR))
        await until(lambda: bool(bench.venue.submitted), "the base order")
        bench.tell()

    living(bench, test)


def test_people_are_told_soon_and_a_failure_stops_nothing(bench: Bench) -> None:
    told: list[int] = []

    def deliver() -> None:
        told.append(len(told))
        if len(told) == 1:
            raise Unavailable("no mail server")

    bench.engine.deliver = deliver

    async def test(stop: asyncio.Event) -> None:
        bench.engine.on_quotes([bench.quote("BTC/USD", "20000")])
        await until(lambda: bool(bench.venue.submitted), "the base order")
        bench.tell()
        await until(lambda: len(told) >= 2, "they were told again")

    living(bench, test)


def test_the_heartbeat_says_what_a_watchdog_needs(bench: Bench) -> None:
    def detail() -> dict[str, Any]:
        beats = bench.store.read(lambda tx: tx.heartbeats())
        return next((beat.detail for beat in beats if beat.name == "streamer"), {})

    async def test(stop: asyncio.Event) -> None:
        bench.engine.on_quotes([bench.quote("BTC/USD", "20000")])
        await until(lambda: detail().get("caught_up_at") is not None, "a heartbeat")
        seen = detail()
        assert seen["identity"] == "host/1/1"
        assert seen["links"] == {"market": "up", "trades": "up"}
        assert seen["trades_down_since"] is None and seen["venue_error"] is None
        assert datetime.fromisoformat(seen["started_at"]).tzinfo is not None
        bench.engine._vitals.linked("trades", Link.DOWN)
        bench.engine._vitals.caught_up("503")
        await until(lambda: detail()["trades_down_since"] is not None, "the stream's silence")
        assert detail()["venue_error"] == "503"

    living(bench, test)


def test_an_asset_whose_row_is_gone_is_dropped(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(stop: asyncio.Event) -> None:
        gone = bench.engine.watched["ETH/USD"].asset_id
        original = SqlTx.revision

        def without(tx: SqlTx) -> dict[int, tuple[int, int, int]]:
            return {key: value for key, value in original(tx).items() if key != gone}

        monkeypatch.setattr(SqlTx, "revision", without)
        await until(lambda: "ETH/USD" not in bench.engine.watched, "it was dropped")
        bench.engine.on_quotes([bench.quote("ETH/USD", "1500")])
        assert bench.venue.submitted == []

    living(bench, test)


def test_a_balance_that_cannot_be_read_reduces_trading_until_it_can(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable() -> Account:
        raise Unavailable("500")

    def modes() -> list[str]:
        return [one.source for one in bench.store.read(lambda tx: tx.modes())]

    bench.engine.reconcile_every_s = 0.05
    limits = replace(bench.engine.trader.limits, max_funds_age=timedelta(seconds=0.3))
    bench.engine.trader.limits = limits

    async def test(stop: asyncio.Event) -> None:
        monkeypatch.setattr(bench.venue, "account", unreadable)
        await until(lambda: bool(bench.engine.trader.restrictions), "the restriction")
        assert modes() == ["balance"]
        bench.engine.on_quotes([bench.quote("BTC/USD", "20000")])
        await until(lambda: "trading is" in bench.engine.watched["BTC/USD"].explained, "the reason")
        assert bench.venue.submitted == []
        monkeypatch.undo()
        await until(lambda: modes() == [], "the end of it")
        await until(lambda: bool(bench.venue.submitted), "the base order")
        bench.tell()

    living(bench, test)


def test_a_venue_that_fails_opens_a_circuit_and_a_reconciliation_closes_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, rest = Shared(bench.store, bench.clock), threading.Event().wait
    budget, circuits = RateBudget(shared, bench.clock, 6000, rest), Circuits(shared, bench.clock, 1)
    guard = GuardedBroker(bench.venue, shared, bench.clock, budget, circuits, rest=rest, chance=lambda: 0.0)
    engine = bench.engine
    engine.broker, engine.trader.refusal = guard, guard.refusal
    engine.catch_up = CatchUp(bench.store, guard, bench.clock, engine.recorder, grace_s=60)
    engine.lookout = Lookout(bench.store, bench.clock, guard)
    engine.reconcile_every_s = engine.beat_s = 0.05

    def unreadable() -> Account:
        raise Unavailable("HTTP 503")

    def beat() -> dict[str, str]:
        beats = bench.store.read(lambda tx: tx.heartbeats())
        return next((one.detail["breakers"] for one in beats if one.name == "streamer"), {})

    async def test(stop: asyncio.Event) -> None:
        monkeypatch.setattr(bench.venue, "account", unreadable)
        monkeypatch.setattr(bench.venue, "open_orders", unreadable)
        await until(lambda: bool(engine.trader.restrictions), "the restriction")
        await until(lambda: beat().get("trading") == "open", "the heartbeat")
        bench.quote("BTC/USD", "20000")
        assert "circuit open" in (guard.refusal(Side.BUY) or "")
        monkeypatch.undo()
        await until(lambda: beat().get("trading") == "closed", "the end of it")
        await until(lambda: not engine.trader.restrictions, "no restriction any more")
        engine.on_quotes([bench.quote("BTC/USD", "20000")])
        await until(lambda: bool(bench.venue.submitted), "the base order")
        bench.tell()

    living(bench, test)
    names = [one.name for one in bench.store.read(lambda tx: tx.events()) if "breaker" in one.name]
    assert names[::-1] == ["breaker_open", "breaker_half_open", "breaker_closed"]
