"""Killed at every boundary, and in the middle of recorded days: nothing doubled, nothing lost."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from market import QUICK, RULES, Market, offline, until

from dca.apps.demo import RULES as DEMO_RULES
from dca.apps.judge import Books
from dca.apps.offline import Offline
from dca.apps.reckoning import reckon, settle

BOUNDARIES = [
    "before_journal:1",
    "after_journal:1",
    "before_submit:2",
    "after_submit:1",
    "after_submit:3",
    "before_record:1",
    "before_record:4",
    "after_record:2",
    "after_record:7",
]


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_killed_at_a_boundary_the_cycle_is_finished_by_the_next_process(
    boundary: str, database_url: str, tmp_path: Path
) -> None:
    with offline(tmp_path, database_url=database_url) as run:
        run.add_asset("BTC/USD", RULES)
        market = Market(run)
        market.price("20000")
        run.start_streamer(CRASH_AT=boundary)
        market.whole_cycle()
        report = market.holds()
        assert market.deaths == [-9], "the boundary must have been crossed, once"
        assert report["cycles_completed"] == 1
        assert run.stop_streamer() == 0


def test_killed_again_and_again_while_recorded_days_are_traded(database_url: str, tmp_path: Path) -> None:
    run = Offline(
        folder=tmp_path,
        start=datetime(2023, 3, 9, 12, tzinfo=UTC),
        end=datetime(2023, 3, 11, 6, tzinfo=UTC),
        speed=6000.0,
        database_url=database_url,
        extra={"GRACE_S": QUICK["GRACE_S"]},
    )
    with run:
        run.add_asset("BTC/USD", DEMO_RULES)
        run.start_streamer()
        for moment in (0.15, 0.4, 0.6, 0.8):
            until(f"{moment:.0%} is played", lambda: _played(run) >= moment)  # noqa: B023
            run.kill_streamer()
            run.start_streamer()
        until("the replay has ended", lambda: run.control("status")["replay"]["ended"])
        settle(run)
        report = reckon(run)
        assert report["violations"] == []
        assert report["unexplained"] == "0.00"
        assert report["orders"]["safety"]["filled"] >= 3
        assert Books.read(run.store).fills
        assert run.stop_streamer() == 0


def _played(run: Offline) -> float:
    return float(run.control("status")["replay"]["progress"])
