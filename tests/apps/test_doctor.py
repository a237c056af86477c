"""`dca doctor`: what is wrong is found, and the way out is told; what is well is left alone."""

import asyncio
import json
import os
import shutil
import stat
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal as D
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from apps.bot import BTC, RULES, Bot, environment

from dca.adapters.clock import ScaledClock, SystemClock
from dca.adapters.db import durability
from dca.adapters.process import identity
from dca.apps.commands.cron import SCHEDULE
from dca.domain.errors import StoreUnavailable
from dca.domain.record import Heartbeat
from dca.paper.config import PaperConfig
from dca.paper.serve import running
from dca.service import assets
from dca.service.caretakers.runner import heartbeat_name

Found = dict[str, list[dict[str, str]]]


def examined(bot: Bot, *words: str) -> tuple[int, Found]:
    """The exit code, and the findings by subject."""
    code, out, said = bot.dca("doctor", "--json", "--no-streams", *words)
    assert said == ""
    report = json.loads(out)
    found: Found = {}
    for one in report["findings"]:
        found.setdefault(one["subject"], []).append(one)
    assert report["ok"] == (code == 0)
    assert all(bool(one["do"]) == (one["level"] != "ok") for one in report["findings"])
    return code, found


def only(found: Found, subject: str) -> tuple[str, str, str]:
    (one,) = found[subject]
    return one["level"], one["seen"], one["do"]


def cron_ran(bot: Bot, *, ago_s: float = 5, **results: str) -> None:
    at = bot.desk.clock.now() - timedelta(seconds=ago_s)
    for name in SCHEDULE:
        detail = {"result": results.get(name, "done"), "detail": "a reason"}
        beat = Heartbeat(name=heartbeat_name(name), at=at, detail=detail)
        bot.store.write(lambda tx, beat=beat: tx.beat(beat))


def test_all_is_well(any_bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
    bot = any_bot
    bot.add()
    cron_ran(bot)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("NOTIFY_URLS", "json://127.0.0.1:9")
    beat = Heartbeat(
        name="streamer",
        at=bot.desk.clock.now(),
        detail={"identity": identity(), "links": {"market": "up", "trades": "up"}},
    )
    bot.store.write(lambda tx: tx.beat(beat))
    code, found = examined(bot)
    wrong = [one for ones in found.values() for one in ones if one["level"] != "ok"]
    assert (code, wrong) == (0, [])
    assert "every commit is on the disk" in only(found, "database")[1]
    assert "(paper), 10000.00 USD to spend" in only(found, "venue")[1]
    words = only(found, BTC)[1]
    assert "base 0.00499925 at 20003 (100.00 USD)" in words
    assert "safety 1 0.005101275 at 19602.94 (100.00 USD)" in words and "take profit 0.0049867" in words
    assert only(found, "funds")[1] == "400.00 USD for the rest of every ladder, 10000.00 USD to spend"
    assert f"all {len(SCHEDULE)} ran in time" in only(found, "caretakers")[1]


def test_a_held_position_is_checked_for_what_comes_next(bot: Bot) -> None:
    bot.add()
    bot.at("20000")
    bot.at("19500")
    found = examined(bot)[1]
    assert "safety 2" in only(found, BTC)[1]
    assert only(found, "funds")[1].startswith("200.00 USD for the rest of every ladder")


@pytest.mark.parametrize(
    ("changes", "seen", "do"),
    [
        ({"base_order_amount": D("9.5")}, "base 0.0004", "--base USD"),
        ({"safety_order_amount": D("9.5")}, "safety 1 0.0004", "--safety USD"),
        ({"max_cycle_spend": D(150)}, "would be denied: cycle spend", "--max-cycle-spend USD"),
    ],
)
def test_an_order_the_venue_would_refuse_is_found_before(
    bot: Bot, changes: dict[str, Any], seen: str, do: str
) -> None:
    bot.add(BTC, replace(RULES, **changes))
    code, found = examined(bot)
    assert code == 1
    level, words, remedy = only(found, BTC)
    assert level == "fail" and seen in words and remedy.endswith(do)


def test_money_that_does_not_reach_is_found(bot: Bot) -> None:
    bot.add()
    bot.exchange.control.deposit("USD", "-9700")
    code, found = examined(bot)
    assert only(found, "funds")[0] == "warn"
    bot.exchange.control.deposit("USD", "-250")
    code, found = examined(bot)
    assert code == 1 and "cannot be paid: 50.00 USD to spend" in found[BTC][0]["seen"]


def test_what_keeps_an_asset_from_trading_is_named(bot: Bot) -> None:
    assert only(examined(bot)[1], "assets")[2] == "dca asset add BTC/USD"
    bot.add("ETH/USD")
    assert "has no price" in only(examined(bot)[1], "ETH/USD")[1]
    bot.add()
    bot.store.write(lambda tx: tx.insert_asset("XYZ/USD", RULES, is_enabled=True, at=bot.desk.clock.now()))
    assert only(examined(bot)[1], "XYZ/USD")[2] == "dca asset disable XYZ/USD"
    bot.dca("pause", BTC)
    assert examined(bot)[1][BTC][0]["do"] == "dca resume BTC/USD"
    bot.dca("halt", BTC, "odd")
    assert examined(bot)[1][BTC][0]["seen"] == "is halted: odd"


def test_an_old_price_is_named(bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
    bot.add()
    monkeypatch.setenv("MAX_QUOTE_AGE_S", "0.001")
    assert "has not moved for" in examined(bot)[1][BTC][0]["seen"]


def test_switches_are_named_with_their_end(bot: Bot) -> None:
    bot.dca("pause", "--reason", "lunch")
    assert only(examined(bot)[1], "switches") == ("warn", "trading is paused: lunch", "dca resume")
    bot.dca("halt", "fire")
    assert [one["level"] for one in examined(bot)[1]["switches"]] == ["fail"]


def test_caretakers_that_do_not_run_are_named(bot: Bot) -> None:
    code, found = examined(bot)
    assert code == 1 and only(found, "caretakers") == ("fail", "none has ever run", "dca cron install")
    cron_ran(bot, watchdog="unavailable")
    level, seen, _ = only(examined(bot)[1], "caretakers")
    assert level == "warn" and "watchdog ran, but ended unavailable: a reason" in seen
    cron_ran(bot, ago_s=200)
    late = [one["seen"] for one in examined(bot)[1]["caretakers"]]
    assert len(late) == 4 and "order_manager ran 3 min ago, not every 1 min" in late[0]
    cron_ran(bot, ago_s=3 * 86_400 + 60)
    assert len(examined(bot)[1]["caretakers"]) == len(SCHEDULE)


def test_wrong_keys_and_a_venue_that_is_away(bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
    bot.add()
    monkeypatch.setenv("APCA_API_SECRET_KEY", "wrong")
    code, found = examined(bot)
    assert code == 1 and "refused the keys" in only(found, "venue")[1]
    monkeypatch.setenv("APCA_API_BASE_URL", "http://127.0.0.1:9")
    assert "check the network" in only(examined(bot)[1], "venue")[2]


def test_settings_that_are_wrong(bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APCA_API_KEY_ID")
    monkeypatch.setenv("APCA_API_DATA_URL", "ftp://x")
    code, found = examined(bot)
    assert code == 1
    assert [one["seen"] for one in found["settings"]] == [
        "APCA_API_KEY_ID is missing",
        "APCA_API_DATA_URL must be a https:// address",
    ]
    assert "database" in found and "venue" not in found
    monkeypatch.setenv("GRACE_S", "many")
    code, _, said = bot.dca("doctor")
    assert code == 78 and "GRACE_S must be a number above 0" in said


def test_an_env_file_that_others_may_read(bot: Bot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "env"
    file.write_text("LOG_LEVEL=INFO\n")
    file.chmod(stat.S_IRUSR | stat.S_IRGRP)
    monkeypatch.setenv("DCA_ENV_FILE", str(file))
    assert only(examined(bot)[1], "settings")[2] == f"chmod 600 {file}"


def test_a_database_that_is_not_there(bot: Bot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'none.sqlite3'}")
    code, found = examined(bot)
    assert code == 1 and only(found, "database") == ("fail", "there is no database yet", "dca db upgrade")
    monkeypatch.setenv("DATABASE_URL", "mysql://dca:secret@127.0.0.1:9/dca")
    assert only(examined(bot)[1], "database")[2] == "start the database, or correct DATABASE_URL"


def test_a_server_that_forgets_commits(mariadb_url: str, mariadb: Any) -> None:
    assert durability.complaint(mariadb_url) is None
    mariadb.run("SET GLOBAL innodb_flush_log_at_trx_commit = 2")
    try:
        assert "innodb_flush_log_at_trx_commit is 2" in str(durability.complaint(mariadb_url))
    finally:
        mariadb.run("SET GLOBAL innodb_flush_log_at_trx_commit = 1")
    with pytest.raises(StoreUnavailable):
        durability.complaint("mysql://dca:secret@127.0.0.1:9/dca")


@pytest.mark.parametrize(("off_s", "level"), [(0.0, "ok"), (4.0, "warn"), (-4.0, "warn"), (300.0, "fail")])
def test_a_clock_that_is_off(sqlite_url: str, tmp_path: Path, dca_on: Any, off_s: float, level: str) -> None:
    now = SystemClock().now()
    theirs = ScaledClock(now, now + timedelta(seconds=off_s), 1.0)
    with running(PaperConfig(), theirs) as exchange:
        dca = dca_on(environment(exchange, sqlite_url, tmp_path))
        findings = json.loads(dca("doctor", "--json", "--no-streams")[1])["findings"]
    (clock,) = [one for one in findings if one["subject"] == "clock"]
    assert clock["level"] == level, clock
    assert ("ahead of" if off_s < 0 else "behind") in clock["seen"] or off_s == 0


def test_a_disk_that_is_full(bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")
    for free, level in ((50_000_000, "fail"), (500_000_000, "warn"), (5_000_000_000, "ok")):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: usage(free))
        assert only(examined(bot)[1], "disk")[0] == level


def streams(bot: Bot) -> dict[str, tuple[str, str]]:
    findings = json.loads(bot.dca("doctor", "--json")[1])["findings"]
    return {one["subject"]: (one["level"], one["seen"]) for one in findings if "stream" in one["subject"]}


@pytest.fixture
def moving(bot: Bot) -> Iterator[Bot]:
    """A market in which the price moves all the time."""

    async def move() -> None:
        for step in range(10_000):
            bot.exchange.venue.control.quote(BTC, D(20_000 + step % 7), D(20_010))
            await asyncio.sleep(0.05)

    running = asyncio.run_coroutine_threadsafe(move(), bot.exchange.loop)
    yield bot
    running.cancel()


def test_streams_are_tried_where_no_streamer_has_them(moving: Bot) -> None:
    moving.add()
    found = streams(moving)
    assert found["streamer"][0] == "warn"
    assert found["trade stream"] == ("ok", "authenticated and listening")
    assert found["market stream"][0] == "ok" and "BTC/USD: bid 2000" in found["market stream"][1]


def test_streams_that_fail_are_named(bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
    bot.add()
    monkeypatch.setattr("dca.apps.listening.LISTEN_S", 0.7)
    found = streams(bot)
    assert found["market stream"] == ("warn", "subscribed, but no quote within 0.7 s")
    monkeypatch.setenv("APCA_API_SECRET_KEY", "wrong")
    found = streams(bot)
    assert "refused the keys" in found["market stream"][1] and "refused the keys" in found["trade stream"][1]
    monkeypatch.setenv("APCA_API_STREAM_URL", "ws://127.0.0.1:9/stream")
    assert found["trade stream"][0] == streams(bot)["trade stream"][0] == "fail"


def test_a_test_message_reaches_every_address(bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
    assert only(examined(bot)[1], "notifications")[2].startswith("set NOTIFY_URLS")
    monkeypatch.setenv("NOTIFY_URLS", "json://127.0.0.1:9")
    assert only(examined(bot)[1], "notifications")[0] == "ok"
    assert only(examined(bot, "--notify")[1], "notifications")[2] == "check NOTIFY_URLS"
    taken: list[bytes] = []

    class Taker(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Nothing: a test prints what it fails with."""

    with HTTPServer(("127.0.0.1", 0), Taker) as server:
        Thread(target=server.handle_request).start()
        monkeypatch.setenv("NOTIFY_URLS", f"json://127.0.0.1:{server.server_port}")
        assert only(examined(bot, "--notify")[1], "notifications")[0] == "ok"
    assert b"a test message from dca doctor" in taken[0]


def test_a_silent_streamer_is_worse_than_none(bot: Bot) -> None:
    at = bot.desk.clock.now() - timedelta(seconds=60)
    beat = Heartbeat(name="streamer", at=at, detail={"identity": identity(), "links": {}})
    bot.store.write(lambda tx: tx.beat(beat))
    level, seen, do = only(examined(bot)[1], "streamer")
    assert (level, do) == ("fail", "dca restart") and "silent for 1 min" in seen
    fresh = replace(beat, at=bot.desk.clock.now(), detail={**beat.detail, "links": {"market": "down"}})
    bot.store.write(lambda tx: tx.beat(fresh))
    assert "its market stream is down" in only(examined(bot)[1], "streamer")[1]


def test_the_words_are_for_a_person(bot: Bot) -> None:
    bot.add()
    assets.change(bot.store, bot.desk.clock, BTC, lambda asset: replace(asset, halted_reason="odd"), "a test")
    code, out, _ = bot.dca("doctor", "--no-streams")
    assert code == 1
    assert "FAIL  BTC/USD: is halted: odd" in out and "-> dca resume BTC/USD" in out
    assert out.strip().splitlines()[-1].rstrip().endswith("FAIL")
