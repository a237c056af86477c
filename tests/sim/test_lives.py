"""Lives full of misfortune end with books that the venue confirms, and with trades made."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dca.prove import world
from dca.prove.deaths import Deaths, Ended, sweep
from dca.prove.hunt import hunt
from dca.prove.lives import ENOUGH, REACHED, Tally, live, nursery, silence, window
from dca.prove.mutants import MUTANTS, Mutant
from dca.prove.world import Life
from dca.service import lease, pipeline
from dca.service.breaker import Circuits

LIVES = 7

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


def test_a_campaign_that_did_not_reach_what_it_claims_to_test_is_invalid() -> None:
    tally = _tally()
    assert not tally.violations
    assert not tally.holds
    assert any(one.startswith(next(iter(REACHED))) for one in tally.missed())


def _life(seed: int) -> Life:
    nothing: Any = {}
    return Life(seed, "", [], nothing, 2.0, 1, 1, 1)


@pytest.mark.parametrize(
    ("name", "invariant"),
    [
        ("doubt_is_refusal", "I13"),
        ("coin_fee_ignored", "I3"),
        ("stop_is_not_looked_at", "STOP"),
        ("circuit_never_closes", "L1"),
        ("no_lease", "I10"),
    ],
)
def test_a_known_mistake_is_caught_by_what_it_breaks(template: Path, name: str, invariant: str) -> None:
    mutant = next(one for one in MUTANTS if one.name == name)
    before = pipeline._send, lease.take, Circuits.is_unproven
    assert hunt(mutant, template, seeds=20).invariant == invariant
    assert before == (pipeline._send, lease.take, Circuits.is_unproven), "it is taken out again"


def test_what_is_no_mistake_is_not_caught(template: Path) -> None:
    sound = Mutant("none", "nothing is changed", lambda: [], {})
    assert hunt(sound, template, seeds=1).seed is None


def test_a_life_without_misfortune_may_end_at_any_boundary() -> None:
    found = sweep(1, most=4)
    assert found.holds and found.points > 100 and len(found.ended) == found.delivered == 4
    assert sum(found.met().values()) == 4


def test_a_death_is_judged_thirty_seconds_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "RESTART_S", 120.0)
    broken = sweep(1, most=12).broken
    assert any(what.startswith("L3") for one in broken for what in one.violations), broken


def test_a_death_that_met_nobody_is_not_counted_as_survived() -> None:
    assert not Deaths(0, 10, [Ended((3,), (), ())]).holds
    assert not Deaths(0, 0).holds


def _tally() -> Tally:
    tally = Tally(took_s=1.0)
    for seed in range(ENOUGH):
        tally.add(_life(seed))
    return tally
