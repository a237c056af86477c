"""Rules that somebody wrote into the database past the program: their asset rests, others trade on."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal as D

import pytest
from build import at, quote, rules
from sqlalchemy import make_url
from unit.test_engine import Bench, living, until

from dca.adapters.clock import ManualClock
from dca.adapters.db.store import SqlStore
from dca.domain.cycle import CycleStatus
from dca.ports import Account
from dca.service import assets, engine
from dca.service.brief import Brief, nonsense
from dca.service.watched import changed
from dca.strategy.dca import Terms, Wait, decide
from dca.strategy.explain import triggers

NOW = at(0)
TERMS = Terms(D("0.0025"), timedelta(seconds=300))


@pytest.fixture
def store(sqlite_url: str) -> Iterator[SqlStore]:
    """Two assets, each with coins."""
    opened = SqlStore(sqlite_url)
    for symbol in ("BTC/USD", "ETH/USD"):
        found = assets.add(opened, ManualClock(NOW), symbol, rules())

        def bought(tx, found=found):  # type: ignore[no-untyped-def]
            cycle = tx.situation(found.id).cycle
            held = {"quantity": D("0.001"), "average_purchase_price": D(20_000)}
            fills = {"last_order_fill_price": D(20_000), "status": CycleStatus.WATCHING}
            tx.update_cycle(replace(cycle, **held, **fills))

        opened.write(bought)
    yield opened
    opened.close()


def edited(url: str, change: str) -> None:
    file = make_url(url).database
    assert file is not None
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(f"UPDATE dca_assets SET {change} WHERE asset_symbol = 'BTC/USD'")


def briefs(store: SqlStore) -> dict[str, Brief]:
    found = store.read(lambda tx: changed(tx, {}))[1]
    return {one.situation.asset.asset_symbol: one for one in found.values()}


NONSENSE = [
    "base_order_amount = '-5'",
    "base_order_amount = '0'",
    "base_order_amount = 'NaN'",
    "base_order_amount = 'a lot'",
    "base_order_amount = ''",
    "base_order_amount = '1E+40'",
    "safety_order_amount = 'Infinity'",
    "safety_order_deviation = '0'",
    "safety_order_deviation = '-5'",
    "safety_order_deviation = '100'",
    "safety_order_deviation = 'NaN'",
    "take_profit_percent = '-10'",
    "take_profit_percent = '0'",
    "take_profit_percent = 'NaN'",
    "max_safety_orders = -1",
    "max_safety_orders = 1000000",
    "safety_order_step_scale = '-3'",
    "safety_order_volume_scale = 'NaN'",
    "cooldown_period = -5",
    "ttp_deviation_percent = '-4', ttp_enabled = 1",
    "stop_loss_percent = '-1'",
    "stop_loss_percent = 'NaN'",
    "max_cycle_spend = '-1'",
]


@pytest.mark.parametrize("change", NONSENSE)
def test_nothing_is_done_by_rules_that_make_no_sense(store: SqlStore, sqlite_url: str, change: str) -> None:
    """Wherever the market goes; what is told of them can be worked out all the same."""
    edited(sqlite_url, change)
    found = briefs(store)
    asset, cycle = found["BTC/USD"].situation.asset, found["BTC/USD"].cycle
    assert cycle is not None and asset.halted_reason is not None
    assert "make no sense" in asset.halted_reason and change.split()[0] in asset.halted_reason
    for bid in ("1", "19999", "20000", "20001", "900000"):
        now = quote(bid)
        decision = decide(cycle, asset, now, NOW, TERMS)
        assert isinstance(decision, Wait), decision
        triggers(cycle, asset, now, NOW, TERMS)
    assert found["ETH/USD"].situation.asset.halted_reason is None


def test_sound_rules_are_left_alone(store: SqlStore) -> None:
    assert {one.situation.asset.halted_reason for one in briefs(store).values()} == {None}
    everything = {"ttp_enabled": True, "ttp_deviation_percent": D("0.5"), "max_cycle_spend": D(500)}
    assert nonsense(rules(**everything, stop_loss_percent=D(20), break_even_percent=D(2))) is None
    assert nonsense(rules(max_safety_orders=0, cooldown_period=0)) is None


def test_a_halt_of_somebody_keeps_its_reason(store: SqlStore, sqlite_url: str) -> None:
    edited(sqlite_url, "halted_reason = 'a person looks', take_profit_percent = '-1'")
    assert briefs(store)["BTC/USD"].situation.asset.halted_reason == "a person looks"
    edited(sqlite_url, "halted_reason = NULL, take_profit_percent = '2'")
    assert briefs(store)["BTC/USD"].situation.asset.halted_reason is None


def test_the_streamer_lives_and_trades_the_others(sqlite_url: str) -> None:
    bench = Bench(sqlite_url)

    async def test(stop: asyncio.Event) -> None:
        edited(sqlite_url, "base_order_amount = 'a lot', version = version + 1")
        await until(lambda: bench.engine.watched["BTC/USD"].brief.situation.asset.version > 1, "it is seen")
        for symbol in ("BTC/USD", "ETH/USD"):
            bench.engine.on_quotes([bench.quote(symbol, "20000")])
        await until(lambda: bool(bench.venue.submitted), "somebody buys")
        assert [one.symbol for one in bench.venue.submitted] == ["ETH/USD"]
        assert "is halted" in bench.engine.watched["BTC/USD"].explained

    living(bench, test)
    bench.store.close()


def test_a_blocked_account_buys_nothing_until_it_is_free(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the streamer itself, without a restart, both ways."""
    bench = Bench(sqlite_url)
    bench.engine.reconcile_every_s = 0.05
    told, blocked = bench.venue.account, False

    def account() -> Account:
        return replace(told(), blocked=blocked)

    monkeypatch.setattr(bench.venue, "account", account)

    async def test(stop: asyncio.Event) -> None:
        nonlocal blocked
        blocked = True
        await until(lambda: "blocked" in (bench.engine.entries_blocked() or ""), "it is seen")
        bench.engine.on_quotes([bench.quote("BTC/USD", "20000")])
        watched = bench.engine.watched["BTC/USD"]
        await until(lambda: "blocked the account" in watched.explained, "it is said")
        assert bench.venue.submitted == []
        blocked = False
        await until(lambda: bench.engine.entries_blocked() is None, "it is free")
        bench.engine.on_quotes([bench.quote("BTC/USD", "20000.01")])
        await until(lambda: len(bench.venue.submitted) == 1, "it buys")

    living(bench, test)
    bench.store.close()


def test_increments_that_the_venue_changed_are_used_without_a_restart(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "REFRESH_S", 0.02)
    bench = Bench(sqlite_url)
    coarse = {
        name: replace(one, min_trade_increment=D("0.0005")) for name, one in bench.venue.instruments().items()
    }

    async def test(stop: asyncio.Event) -> None:
        monkeypatch.setattr(bench.venue, "instruments", lambda: coarse)
        await until(lambda: bench.engine.trader.instruments == coarse, "they are read again")
        bench.engine.on_quotes([bench.quote("BTC/USD", "20000")])
        await until(lambda: bool(bench.venue.submitted), "it buys")
        assert bench.venue.submitted[0].qty == D("0.0005")

    living(bench, test)
    bench.store.close()
