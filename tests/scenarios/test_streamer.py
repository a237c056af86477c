"""The streamer as a process: one instance, clear words about what is wrong, a quick and clean end."""

import time
from pathlib import Path

import pytest
from market import RULES, Market, offline, output, second, until

from dca.adapters.process import PidFile
from dca.apps.offline import Offline
from dca.service import assets, operating


@pytest.fixture
def run(tmp_path: Path):  # type: ignore[no-untyped-def]
    with offline(tmp_path) as started:
        started.add_asset("BTC/USD", RULES)
        yield started


def test_it_stops_within_five_seconds_and_leaves_orders_where_they_are(run: Offline) -> None:
    market = Market(run)
    market.price("20000")
    run.start_streamer()
    market.whole_cycle()
    started = time.monotonic()
    assert run.stop_streamer() == 0
    assert time.monotonic() - started < 5
    assert not (run.folder / "main_app.pid").exists()


def test_a_second_instance_refuses_to_start(run: Offline, tmp_path: Path) -> None:
    run.start_streamer()
    until("the first instance runs", lambda: "started" in output(run))
    same_folder = second(run)
    assert same_folder.returncode == 75
    assert "is running already" in same_folder.stderr
    other_folder = second(run, DCA_RUN_DIR=str(tmp_path / "elsewhere"))
    assert other_folder.returncode == 75
    assert "is run by" in other_folder.stderr
    assert run.streamer is not None and run.streamer.poll() is None


def test_after_a_kill_the_next_one_starts_at_once(run: Offline) -> None:
    run.start_streamer()
    until("it runs", lambda: output(run).count(" started ") == 1)
    run.kill_streamer()
    run.start_streamer()
    until("the next one runs", lambda: output(run).count(" started ") == 2)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"APCA_API_SECRET_KEY": "wrong"}, "the venue refused APCA_API_KEY_ID and APCA_API_SECRET_KEY"),
        ({"APCA_API_KEY_ID": ""}, "APCA_API_KEY_ID is missing"),
        ({"APCA_API_BASE_URL": "https://api.alpaca.markets"}, "not a paper address"),
        ({"DATABASE_URL": "sqlite:////nowhere/at/all.sqlite3"}, "dca db upgrade"),
    ],
)
def test_what_a_person_must_fix_is_said_and_ends_it(run: Offline, extra: dict[str, str], words: str) -> None:
    ended = second(run, **extra)
    assert ended.returncode == 78, ended.stderr
    assert words in ended.stderr
    assert "paper-secret" not in ended.stderr + ended.stdout


def test_changes_by_another_process_are_seen_within_a_second(run: Offline) -> None:
    market = Market(run)
    market.price("20000")
    run.start_streamer()
    market.whole_cycle()
    market.price("20000")
    before = run.control("status")["orders"]
    # The cycle rests for an hour; another process shortens that.
    from dataclasses import replace

    rules = replace(RULES, cooldown_period=0)
    assets.change(run.store, run.clock, "BTC/USD", lambda asset: replace(asset, rules=rules), "a test")
    changed = time.monotonic()
    until("the next cycle bought", lambda: run.control("status")["orders"] > before)
    assert time.monotonic() - changed < 1.5


def test_a_halt_holds_at_once_and_is_lifted_by_a_person(run: Offline) -> None:
    market = Market(run)
    operating.halt(run.store, run.clock, None, "a test wants quiet")
    run.start_streamer()
    until(
        "it denied an order", lambda: "order_denied" in output(run), meanwhile=lambda: market.price("20000")
    )
    assert run.control("status")["orders"] == 0
    operating.resume(run.store, run.clock, None)
    assets.change(run.store, run.clock, "BTC/USD", lambda asset: asset, "look again")
    market.whole_cycle()


def test_it_survives_the_exchange_and_catches_up_with_what_happened_meanwhile(run: Offline) -> None:
    market = Market(run)
    market.price("20000")
    run.start_streamer()
    market.at("20000", "the base order is filled", lambda: market.cycles()[0].quantity > 0)
    run.restart_exchange()
    market.at("19500", "the safety order is filled", lambda: market.cycles()[0].safety_orders == 1)
    market.at("21000", "the cycle is complete", lambda: market.cycles()[0].finished)
    market.holds()


def test_a_position_of_somebody_else_keeps_the_base_order_away(run: Offline) -> None:
    market = Market(run)
    run.control("deposit", {"asset": "BTC/USD", "amount": "0.5"})
    run.start_streamer()
    until(
        "it was told",
        lambda: bool(run.store.read(lambda tx: tx.events(name="position_exists"))),
        meanwhile=lambda: market.price("20000"),
    )
    for _ in range(50):
        market.price("20000")
    asked = [row for row in run.control("log") if row.get("path", "").startswith("/v2/positions/")]
    assert len(asked) == 1, "the question is not repeated on every quote"
    assert run.control("status")["orders"] == 0
    assert "0.5" in run.store.read(lambda tx: tx.events(name="position_exists"))[0].reason


def test_the_pid_file_belongs_to_one_process(tmp_path: Path) -> None:
    from dca.adapters.process import AlreadyRunning

    one, two = PidFile(tmp_path / "x.pid"), PidFile(tmp_path / "x.pid")
    one.take()
    with pytest.raises(AlreadyRunning):
        two.take()
    one.drop()
    two.take()
    two.drop()
