"""Clocks that are off, streamers that meet, and rows that a person edits in the middle of a cycle."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from pathlib import Path

import databases
import mysql.connector
import pytest
from bad_day import FELL, LEVELS, ROSE, Day, day, passed

from dca.apps.judge import Books, judge
from dca.apps.reckoning import reckon, settle, venue_log
from dca.apps.world import SOURCE

# One world serves several of these, so one worker runs them, in this order.
pytestmark = pytest.mark.xdist_group("test_bad_days")


def clock_restricts(today: Day) -> bool:
    modes = today.run.store.read(lambda tx: tx.modes())
    return any("the venue's clock is" in one.reason for one in modes)


def says_why(today: Day, age: str) -> bool:
    """By the age of the quotes, or because the clocks were compared before the first one came."""
    words = today.explained()
    return f"quote stale: age_s {age}" in words or ("trading is paused" in words and clock_restricts(today))


class TestTheClock:
    def test_is_five_minutes_off(self, tmp_path: Path) -> None:
        """It keeps the bot from trading, with words; where a person allows it, nothing is doubled or
        taken for lost or stale."""
        ahead = datetime.now(UTC) + timedelta(seconds=300)
        own = {"CLOCK_ORIGIN": "", "CLOCK_WALL_ORIGIN": "", "MAX_QUOTE_AGE_S": "60", "STALE_ORDER_S": "60"}
        with day(tmp_path, speed=1.0, start=ahead, **own) as today:
            run = today.run
            today.pause(None)
            run.start_streamer()
            today.until("it says why", lambda: says_why(today, "-300"), at=D(1))
            run._base["CLOCK_ORIGIN"] = (ahead - timedelta(seconds=600)).isoformat()
            run.restart_exchange()
            today.until("it says why", lambda: says_why(today, "300"), at=D(1))
            assert today.posts() == []
            doctor = run.dca("doctor", "--no-streams")
            assert doctor.returncode == 1
            assert "clock: 300" in doctor.stdout, doctor.stdout
            run.stop_streamer()
            run.start_streamer(MAX_QUOTE_AGE_S="600")
            today.until("the clock is looked at", lambda: clock_restricts(today), at=D(1))
            assert run.dca("resume").returncode == 0
            today.fault(method="POST", path="/v2/orders", effect=504, reached=True, times=1)
            order = today.resting()
            assert not passed(today, "order_manager").planned, "it is neither lost nor stale"
            today.hold(on=False)
            today.bought()
            assert [one.key for one in today.orders()] == [order.key]
            today.rose()
            settle(run)
            venue = venue_log(run)
            requests = [replace(one, at=one.at + timedelta(seconds=300)) for one in venue.requests]
            verdict = judge(
                replace(venue, requests=requests), Books.read(run.store), run.broker.instruments()
            )
            assert (verdict.violations, reckon(run)["unexplained"]) == ([], "0.00")

    def test_of_the_street_is_set_back(self, mariadb: databases.Mariadb, tmp_path: Path) -> None:
        """An hour comes twice in New York, where the streamer is; the database server is somewhere else."""
        start = datetime(2023, 11, 5, 5, 57, tzinfo=UTC)
        mariadb.run("SET GLOBAL time_zone = '+10:30'")
        url = mariadb.url("street")
        try:
            with day(tmp_path, speed=60.0, start=start, database_url=url, TZ="America/New_York") as today:
                run = today.run
                run.start_streamer()
                today.bought()
                today.until(
                    "the hour begins again", lambda: run.clock.now() > start.replace(hour=6, minute=0)
                )
                today.fell()
                today.rose()
                today.bought()
                books = Books.read(run.store)
                instants = [start, *(order.created_at for order in books.orders), run.clock.now()]
                assert instants == sorted(instants)
                assert all(start < fill.at < run.clock.now() for fill in books.fills)
                ended, again = books.cycles[0].completed_at, books.orders[-1].created_at
                assert ended is not None and timedelta(seconds=60) <= again - ended < timedelta(seconds=900)
                today.holds()
        finally:
            mariadb.run("SET GLOBAL time_zone = SYSTEM", "DROP DATABASE street")


class TestTwoStreamers:
    def test_at_once_one_of_them_trades(self, tmp_path: Path) -> None:
        """And it steps back when a third one, elsewhere, took its place while it was not heard of."""
        with day(tmp_path) as today:
            homes = [tmp_path / name for name in ("one", "two")]
            racing = [_streamer(today, home) for home in homes]
            today.until("one of them is gone", lambda: any(one.poll() is not None for one in racing))
            (loser,) = (one for one in racing if one.poll() is not None)
            (winner,) = (one for one in racing if one is not loser)
            today.bought()
            _hold_the_lease(today, "elsewhere/1/1.00", until="2100-01-01")
            today.until("the other one steps back", lambda: winner.poll() is not None)
            assert (loser.returncode, winner.returncode) == (75, 75)
            said = "".join((home / "out").read_text() for home in homes)
            assert said.count("another instance took over") == 1
            assert said.count("is run by") + said.count("first") == 1
            _hold_the_lease(today, "elsewhere/1/1.00", until="2020-01-01")
            today.run.start_streamer()
            today.fell()
            today.rose()
            today.holds()


def _streamer(today: Day, home: Path) -> subprocess.Popen[bytes]:
    """One that shares nothing with others but the database and the account."""
    home.mkdir()
    with (home / "out").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, str(SOURCE / "main_app.py")],
            env={**today.run.environment, "DCA_RUN_DIR": str(home)},
            stdout=out,
            stderr=out,
            cwd=home,
        )
    today.run._processes.append(process)
    return process


def _hold_the_lease(today: Day, holder: str, *, until: str) -> None:
    with closing(sqlite3.connect(today.run.folder / "dca.sqlite3")) as connection, connection:
        change = "UPDATE dca_leases SET holder = ?, expires_at = ?, version = version + 1"
        connection.execute(change, (holder, f"{until}T00:00:00.000000+00:00"))


CONTROL = "DOGE/USD"


@dataclass(frozen=True)
class Sql:
    """Statements as a person types them, with or without foreign keys."""

    url: str
    server: databases.Mariadb

    def __call__(self, *statements: str, keys: bool = True) -> None:
        if self.url.startswith("sqlite"):
            with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"))) as connection, connection:
                connection.execute(f"PRAGMA foreign_keys = {'ON' if keys else 'OFF'}")
                for statement in statements:
                    connection.execute(statement)
        else:
            checks = f"SET foreign_key_checks = {int(keys)}"
            self.server.run(checks, *statements, database=self.url.rpartition("/")[2])


@pytest.fixture(params=["sqlite", "mariadb"], scope="class")
def asset_day(
    request: pytest.FixtureRequest, mariadb: databases.Mariadb, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Day, Sql]]:
    """Five assets, and a person at the database's own prompt."""
    folder = tmp_path_factory.mktemp("assets")
    url = mariadb.url("assets") if request.param == "mariadb" else f"sqlite:///{folder / 'dca.sqlite3'}"
    with day(folder, symbols=tuple(LEVELS), database_url=url, cooldown_s=86400) as today:
        today.run.start_streamer()
        yield today, Sql(url, mariadb)
    if request.param == "mariadb":
        mariadb.run("DROP DATABASE assets")


def _all_bought(today: Day, sql: Sql) -> None:
    """Every asset has a position; what rested was woken."""
    sql("UPDATE dca_cycles SET status = 'watching', version = version + 1 WHERE status = 'cooldown'")
    for symbol in LEVELS:
        today.bought(symbol)


class TestAnAsset:
    """By SQL, by somebody who knows nothing of versions."""

    def test_is_edited_in_the_middle_of_its_cycle(self, asset_day: tuple[Day, Sql]) -> None:
        """Disabled it is sold but not bought, changed it follows its new rules, halted it rests, and
        the others trade on; it cannot be removed."""
        (today, sql), every = asset_day, tuple(LEVELS)
        _all_bought(today, sql)
        with pytest.raises((sqlite3.IntegrityError, mysql.connector.IntegrityError)):
            sql("DELETE FROM dca_assets")
        sql(
            "UPDATE dca_assets SET is_enabled = 0 WHERE asset_symbol = 'BTC/USD'",
            "UPDATE dca_assets SET max_safety_orders = 0, take_profit_percent = '4'"
            " WHERE asset_symbol = 'ETH/USD'",
            "UPDATE dca_assets SET halted_reason = 'a person looks' WHERE asset_symbol = 'SOL/USD'",
        )
        today.until("it was seen", lambda: "halted" in today.explained("SOL/USD"), at=D(1), on=every)
        before = {symbol: len(today.orders(symbol)) for symbol in ("BTC/USD", "ETH/USD", "SOL/USD")}
        today.until("the others buy", lambda: today.cycle(CONTROL).safety_orders == 1, at=FELL, on=every)
        assert {symbol: len(today.orders(symbol)) for symbol in before} == before
        for symbol in ("BTC/USD", "LTC/USD", CONTROL):
            today.rose(symbol)
        today.quote(ROSE, "ETH/USD", "SOL/USD")
        changed = today.cycle("ETH/USD")
        assert changed.quantity > 0 and today.cycle("SOL/USD").quantity > 0
        gone = lambda: today.finished(changed.id)  # noqa: E731
        today.levels["ETH/USD"] *= D("1.05")
        today.until("the new rule sells", gone, at=D(1), on=["ETH/USD"])
        assert len(today.orders("SOL/USD")) == before["SOL/USD"]
        sql("UPDATE dca_assets SET halted_reason = NULL WHERE asset_symbol = 'SOL/USD'")
        today.rose("SOL/USD")
        assert [str(one.intent.side) for one in today.orders("BTC/USD")] == ["buy", "sell"]
        today.holds()
        sql("UPDATE dca_assets SET is_enabled = 1, max_safety_orders = 3, take_profit_percent = '1'")

    def test_is_removed_in_the_middle_of_its_cycle(self, asset_day: tuple[Day, Sql]) -> None:
        """One with a buy at work, and one with a sell: what fills then is booked all the same."""
        today, sql = asset_day
        _all_bought(today, sql)
        buying = today.resting("BTC/USD", at=FELL)
        selling = today.resting("ETH/USD", at=ROSE)
        sql("CREATE TABLE kept AS SELECT * FROM dca_assets")
        removed = "asset_symbol IN ('BTC/USD', 'ETH/USD', 'SOL/USD')"
        sql(f"DELETE FROM dca_assets WHERE {removed}", keys=False)
        today.hold("BTC/USD", on=False)
        today.hold("ETH/USD", on=False)
        today.quote(FELL, "BTC/USD")
        today.quote(ROSE, "ETH/USD")
        today.until("both are booked", lambda: today.booked(buying.key) and today.booked(selling.key))
        sent = len(today.posts())
        today.quote(FELL, "SOL/USD")
        today.fell(CONTROL)
        today.rose(CONTROL)
        assert {row["body"]["symbol"] for row in today.posts()[sent:]} == {CONTROL}
        today.until("it is said", lambda: len(today.logged("asset_gone", new=False)) == 3)
        planned = passed(today, "consistency_checker", dry_run=True).planned
        assert [one.reason for one in planned] == ["its asset is gone"] * 2, planned
        sql(f"INSERT INTO dca_assets SELECT * FROM kept WHERE {removed}")
        assert passed(today, "asset_caretaker").mended == 1
        today.rose("BTC/USD")
        today.rose("SOL/USD")
        today.holds()

    def test_has_a_cycle_that_somebody_moved_where_it_cannot_be(self, asset_day: tuple[Day, Sql]) -> None:
        """It is halted, the streamer lives and the others trade on, until the books are put right."""
        today, sql = asset_day
        _all_bought(today, sql)
        today.mark()
        order = today.resting(at=FELL)
        sql(f"UPDATE dca_cycles SET status = 'cooldown' WHERE id = {today.cycle().id}")
        today.fill(order.key, "0.001")
        today.until("it is said", lambda: any("cooldown -> buying" in text for text in today.told()))
        today.fell(CONTROL)
        today.until("it is asked for again", lambda: len(today.logged("order_contradicts")) > 1)
        assert passed(today, "consistency_checker").exit_code == 0
        today.fill(order.key)
        today.until("the fill is booked", lambda: today.booked(order.key))
        today.hold(on=False)
        sql("UPDATE dca_assets SET halted_reason = NULL")
        today.rose()
        today.holds()
