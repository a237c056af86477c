"""Lives full of misfortune end with books that the venue confirms, and with trades made."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from dca.domain.errors import Rejected
from dca.domain.fees import FeeRates
from dca.prove.lives import ENOUGH, REACHED, Tally, live, nursery, silence, window
from dca.prove.world import Life
from dca.service import lease, pipeline
from dca.service.breaker import Circuits
from dca.service.catchup import CatchUp
from dca.strategy import dca as rules

LIVES = 7
SAME = 1

pytestmark = pytest.mark.xdist_group("test_lives")


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    with nursery() as path, silence():
        yield path


@pytest.fixture(scope="module")
def tally(template: Path) -> Tally:
    lived = Tally()
    for seed in window(0, LIVES):
        lived.add(live(seed, template))
    return lived


def test_lives_hold_every_invariant_and_meet_misfortune(tally: Tally) -> None:
    assert tally.violations == {}
    assert tally.cycles > 3 * LIVES, "the lives must trade, or they prove nothing"
    for name in ("death", "lost_answer", "late_request", "fill_before_answer", "fill_found_by_catching_up"):
        assert tally.lives_with[name], f"{name} never happened"


def test_the_same_seeds_live_the_same_lives_in_another_process(tally: Tally, tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    command = ["prove", "lives", "--seeds", str(SAME), "--json", str(told)]
    subprocess.run(
        [sys.executable, "-m", "dca.apps.cli", *command],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONHASHSEED": "1"},
    )
    here = Tally(digests={seed: tally.digests[seed] for seed in window(0, SAME)})
    assert json.loads(told.read_text())["digest"] == here.digest


def test_a_campaign_that_did_not_reach_what_it_claims_to_test_is_invalid() -> None:
    tally = Tally()
    for seed in range(ENOUGH):
        tally.add(_life(seed))
    assert not tally.violations
    assert not tally.holds
    assert any(one.startswith(next(iter(REACHED))) for one in tally.missed())


def _life(seed: int) -> Life:
    nothing: Any = {}
    return Life(seed, "", [], nothing, 2.0, 1, 1, 1)


class TestTheJudgeCanFail:
    """Known mistakes of real bots, put in: each must be caught within a few lives."""

    def caught(self, template: Path, invariant: str, seeds: int = 6, **chances: float) -> None:
        for seed in range(seeds):
            found = live(seed, template, chances=chances or None).violations
            if found:
                assert any(one.startswith(invariant) for one in found), found
                return
        pytest.fail("nobody noticed")

    def test_a_timeout_taken_for_a_refusal(self, template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        original = pipeline._send

        def sure(order: Any, broker: Any) -> Any:
            outcome = original(order, broker)
            if isinstance(outcome, pipeline.Unclear):
                return pipeline.Refused(order.key, order.intent.side, Rejected("timeout"))
            return outcome

        monkeypatch.setattr(pipeline, "_send", sure)
        self.caught(template, "I13", lost_answer=0.3, update_lost=0.3)

    def test_a_coin_fee_that_is_ignored(self, template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(FeeRates, "estimate", lambda *_: Decimal(0))
        monkeypatch.setattr(CatchUp, "fees", lambda *_: None)
        self.caught(template, "I3", steady=0)

    def test_a_stop_that_nobody_looks_at(self, template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rules, "stop_price", lambda *_: None)
        self.caught(template, "STOP", steady=0)

    def test_a_circuit_that_never_closes(self, template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Circuits, "is_unproven", Circuits.is_due)
        self.caught(template, "L1", venue_outage=0.3, quote_flash=0.1)

    def test_a_lease_that_keeps_nobody_out(self, template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        original = lease.take

        def taken(store: Any, clock: Any, name: str, holder: str, alive: Any, **more: Any) -> Any:
            return original(store, clock, name, holder, lambda _: False, **more)

        monkeypatch.setattr(lease, "take", taken)
        self.caught(template, "I10", second_streamer=0.5)
