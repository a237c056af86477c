"""`dca status`: how everything stands, also when half of it cannot be asked."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal as D
from pathlib import Path
from typing import Any

import pytest
from apps.bot import BTC, RULES, Bot
from market import Market, offline, until

from dca.adapters.process import identity
from dca.apps.offline import Offline
from dca.apps.status import streamer
from dca.apps.words import lasting, usd
from dca.domain.account import Breaker, BreakerState
from dca.domain.mode import Mode, Restriction
from dca.domain.record import Heartbeat
from dca.service import operating
from dca.service.caretakers.runner import heartbeat_name


def status(bot: Bot, *words: str) -> Any:
    code, out, said = bot.dca("status", "--json", *words)
    assert code == 0, said
    return json.loads(out)


def test_it_shows_what_each_asset_waits_for(any_bot: Bot) -> None:
    bot = any_bot
    bot.add()
    bot.add("ETH/USD")
    bot.at("20000")
    bot.price("19700")
    report = status(bot)
    btc, eth = report["assets"]
    assert (btc["asset_symbol"], btc["cycle"]["status"]) == (BTC, "watching")
    assert [(one["name"], one["distance_pct"]) for one in btc["triggers"]] == [
        ("safety_order", "-0.51"),
        ("take_profit", "3.32"),
    ]
    assert D(btc["open_profit_usd"]).quantize(D("0.01")) == D("-1.76")
    assert btc["price"]["bid"] == "19700" and not btc["price"]["recorded"]
    assert (eth["price"], eth["open_profit_usd"], eth["triggers"]) == (None, None, [])
    out = bot.dca("status")[1]
    assert "safety 1 -0.51% at 19602.94" in out and "profit +3.32% at" in out
    assert "ETH/USD" not in bot.dca("status", BTC)[1]
    code, _, said = bot.dca("status", "XRP/USD")
    assert code == 78 and "there is no asset XRP/USD" in said


def test_what_was_earned_today_is_shown(bot: Bot) -> None:
    bot.add()
    bot.at("20000")
    bot.price("20500")
    assert operating.close(bot.desk, BTC).ok
    today = status(bot)["today"]
    position = next(row for row in json.loads(bot.dca("report", "pnl", "--by", "day", "--json")[1])["rows"])
    assert (today["cycles"], today["net_usd"]) == (1, position["net_usd"])
    assert f"{D(today['net_usd']):+.2f} USD net from 1 cycle (" in bot.dca("status")[1]


def test_an_order_at_work_is_shown(bot: Bot) -> None:
    bot.add()
    bot.read_funds()
    quote = bot.desk.broker.latest_quote(BTC)
    low = quote._replace(bid=D(19_500), ask=D(19_503))
    bot.desk.trader.act(bot.brief(), low, before=low)
    (order,) = status(bot)["live_orders"]
    assert (order["purpose"], order["status"], order["symbol"]) == ("base", "open", BTC)
    assert "base" in bot.dca("status")[1] and "19503" in bot.dca("status")[1]
    assert (
        status(bot, BTC)["live_orders"] == [order]
        or status(bot, BTC)["live_orders"][0]["key"] == order["key"]
    )


def test_it_needs_neither_keys_nor_the_venue(bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
    bot.add()
    bot.at("20000")
    for name in ("APCA_API_KEY_ID", "APCA_API_SECRET_KEY"):
        monkeypatch.delenv(name)
    report = status(bot)
    assert "APCA_API_KEY_ID is missing" in report["prices_error"]
    assert report["assets"][0]["price"] is None and report["assets"][0]["triggers"] == []
    assert "the venue did not tell" in bot.dca("status")[1]
    assert bot.dca("asset", "list")[0] == bot.dca("report", "pnl")[0] == bot.dca("pause")[0] == 0


def test_caretakers_are_shown_with_their_last_result(bot: Bot) -> None:
    assert "none has ever run" in bot.dca("status")[1]
    at = bot.desk.clock.now() - timedelta(seconds=40)
    for name, detail in (
        ("order_manager", {"result": "done", "failures": 0, "mended": 2, "detail": ""}),
        ("watchdog", {"result": "unavailable", "failures": 4, "mended": 0, "detail": "no route to host"}),
    ):
        beat = Heartbeat(name=heartbeat_name(name), at=at, detail={"at": at.isoformat(), **detail})
        bot.store.write(lambda tx, beat=beat: tx.beat(beat))
    found = status(bot)["caretakers"]
    assert [(one["name"], one["result"]) for one in found] == [
        ("order_manager", "done"),
        ("watchdog", "unavailable"),
    ]
    out = bot.dca("status")[1]
    assert "order_manager 40 s (2 mended) ago" in out
    assert "watchdog 40 s ago, ended unavailable, 4 times in a row: no route to host" in out
    late = Heartbeat(name=heartbeat_name("notifier"), at=at - timedelta(minutes=3), detail={"result": "done"})
    bot.store.write(lambda tx: tx.beat(late))
    assert [one["late"] for one in status(bot)["caretakers"]] == [True, False, False]
    assert "notifier has not run for 3 min: is cron running?" in bot.dca("status")[1]


def test_switches_are_shown_with_how_they_end(bot: Bot) -> None:
    bot.add()
    bot.dca("pause", "--reason", "holidays")
    bot.dca("halt", BTC, "odd")
    out = bot.dca("status")[1]
    assert "paused: holidays (end it: dca resume)" in out and "HALTED" in out and "odd" in out
    assert status(bot)["paused"] == "holidays"


def test_a_circuit_is_shown_unless_it_is_closed(bot: Bot) -> None:
    now = bot.desk.clock.now()
    well = Breaker(name="trading", state=BreakerState.CLOSED, since=now)
    bot.store.write(lambda tx: tx.put_breaker(well))
    assert "circuit" not in bot.dca("status")[1]
    ill = Breaker(name="orders", state=BreakerState.OPEN, since=now, reason="HTTP 503", retry_at=now)
    bot.store.write(lambda tx: tx.put_breaker(ill))
    out = " ".join(bot.dca("status")[1].split())
    assert "venue orders: circuit open since" in out and "nothing is bought: HTTP 503" in out
    assert [one["state"] for one in status(bot)["breakers"]] == ["open", "closed"]


@pytest.mark.parametrize(
    ("name", "age_s", "state"),
    [("me", 1, "running"), ("me", 16, "silent"), ("gone", 1, "stopped"), ("gone", 99, "stopped")],
)
def test_a_streamer_is_known_by_its_heart_and_its_process(name: str, age_s: int, state: str) -> None:
    from build import T0, at

    mine = identity()
    host, pid, started = mine.rsplit("/", 2)
    who = mine if name == "me" else f"{host}/{pid}/{started}9"
    beat = Heartbeat(name="streamer", at=T0, detail={"identity": who})
    found = streamer([beat], at(age_s), timedelta(seconds=15))
    assert (found["state"], found["pid"]) == (state, pid)
    assert streamer([], at(0), timedelta(seconds=15)) == {"state": "never"}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3600, "1 h"), (7530, "2 h 5 min"), (273_600, "3 d 4 h")],
)
def test_spans_are_written_in_two_units(seconds: float, words: str) -> None:
    assert lasting(seconds) == words


def test_amounts_are_written_in_cents() -> None:
    assert [usd(D(text)) for text in ("1234.555", "-0.001", "-3.1")] == ["+1,234.56", "+0.00", "-3.10"]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Offline]:
    with offline(tmp_path) as started:
        started.add_asset(BTC, RULES)
        yield started


def test_beside_a_streamer_that_trades(run: Offline, dca_on: Any) -> None:
    """Status, why and doctor read the same truth that the streamer acts on; closing works beside it."""
    market = Market(run)
    market.price("20000")
    run.start_streamer()
    market.bought()
    market.price("19700")
    dca = dca_on(run.environment)

    def says() -> Any:
        return json.loads(dca("status", "--json")[1])

    until("the streamer has caught up", lambda: says()["process"].get("entries_blocked", "?") is None)
    report = says()
    assert report["process"]["state"] == "running"
    assert report["process"]["links"] == {"market": "up", "trades": "up"}
    assert run.streamer is not None and report["process"]["pid"] == str(run.streamer.pid)
    assert "running for" in dca("status")[1]
    until("it says what why says", lambda: "says the same" in dca("why", BTC)[1])
    assert json.loads(dca("why", BTC, "--json")[1])["record"]["code"] == "between"
    findings = json.loads(dca("doctor", "--json")[1])["findings"]
    assert [one["level"] for one in findings if one["subject"] == "streamer"] == ["ok"]
    code, _, said = dca("cycle", "close", BTC, "--yes")
    assert code == 0, said
    assert market.first().finished
    run.kill_streamer()
    assert says()["process"]["state"] == "stopped"
    assert "not running" in dca("status")[1]


def test_watching_ends_with_a_key(bot: Bot) -> None:
    """On a terminal of its own, as a process."""
    bot.add()
    assert bot.dca("status", "--watch")[0] == 78, "not without a terminal"
    terminal, inside = pty.openpty()
    watching = subprocess.Popen(
        [sys.executable, "-m", "dca.apps.cli", "status", "--watch", "60"],
        env={**os.environ, **bot.environment, "TERM": "xterm", "COLUMNS": "80"},
        stdin=inside,
        stdout=inside,
        stderr=subprocess.STDOUT,
    )
    os.close(inside)
    seen = b""
    while b"BTC/USD" not in seen:
        seen += os.read(terminal, 65_536)
    os.write(terminal, b"q")
    assert watching.wait(30) == 0
    os.close(terminal)


def test_modes_and_funds_are_told_with_their_source(bot: Bot) -> None:
    bot.add()
    assert status(bot)["mode"] == "normal" and status(bot)["funds"] is None
    assert bot.dca("funds")[0] == 78
    bot.at("20000")
    now = bot.desk.clock.now()
    storm = Restriction(source="breaker:orders", mode=Mode.REDUCE_ONLY, reason="5 answers 503", since=now)
    bot.store.write(lambda tx: tx.put_mode(storm))
    report = status(bot)
    assert report["mode"] == "reduce_only"
    assert [one["source"] for one in report["restrictions"]] == ["breaker:orders"]
    assert D(report["funds"]["spendable_usd"]) > 0
    code, out, _ = bot.dca("status")
    assert code == 0 and "paused: 5 answers 503 (breaker:orders)" in out and "to spend" in out
    assert bot.dca("funds", "--forget-peak", "--json")[0] == 0
    assert bot.dca("resume")[0] == 0
    assert status(bot)["mode"] == "normal"
