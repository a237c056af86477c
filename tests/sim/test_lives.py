"""Lives full of misfortune end with books that the venue confirms, and with trades made."""

from collections import Counter

import pytest
from lives import Lies, Life

LIVES = 150


def test_seeded_lives_hold_every_invariant_and_meet_every_misfortune() -> None:
    seen: Counter[str] = Counter()
    completed = 0
    for seed in range(LIVES):
        life = Life(seed)
        life.live()
        assert life.violations() == [], f"seed {seed}"
        seen += life.seen
        completed += sum(cycle.finished for cycle in life.store.read(lambda tx: tx.cycles()))
    assert seen["position_exact"] > 0.9 * LIVES
    assert completed > LIVES, "the lives must trade, or they prove nothing"
    for what in (
        "lost_request",
        "lost_answer",
        "failed_read",
        "lost_update",
        "doubled_update",
        "late_update",
        "death",
    ):
        assert seen[what] >= LIVES, f"{what} hardly ever happened: {seen}"
    for what in ("settle", "cancel_stale", "wake"):
        assert seen[what], f"no caretaker ever had to {what}: {seen}"


def test_the_same_seed_lives_the_same_life() -> None:
    def ending(seed: int) -> list[object]:
        life = Life(seed)
        life.live()
        return [life.store.read(lambda tx: tx.fills()), life.store.read(lambda tx: tx.orders())]

    assert ending(7) == ending(7)


def first_violation(lies: Lies, *, caretakers: bool = True, seeds: int = 40) -> int | None:
    """The first seed whose life breaks, None when none does."""
    for seed in range(seeds):
        life = Life(seed, lies=lies, caretakers=caretakers)
        life.live()
        if life.violations():
            return seed
    return None


class TestTheJudgeCanFail:
    """Known mistakes of real bots, put in: each must be caught."""

    def test_sending_before_journaling(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from dca.service import pipeline

        original = pipeline._send

        def twice(order, broker):  # type: ignore[no-untyped-def]
            original(order, broker)
            return original(order, broker)

        monkeypatch.setattr(pipeline, "_send", twice)
        assert first_violation(Lies()) is not None

    def test_a_timeout_taken_for_a_refusal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from dca.domain.errors import InDoubt, Rejected
        from dca.service import pipeline

        original = pipeline._send

        def sure(order, broker):  # type: ignore[no-untyped-def]
            outcome = original(order, broker)
            if isinstance(outcome, pipeline.Unclear):
                return pipeline.Refused(order.key, Rejected("timeout"))
            return outcome

        assert issubclass(InDoubt, Exception)
        monkeypatch.setattr(pipeline, "_send", sure)
        assert first_violation(Lies(lost_answer=0.3, lost_update=0.3)) is not None

    def test_a_coin_fee_that_is_ignored(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from decimal import Decimal

        from dca.domain.fees import FeeRates

        monkeypatch.setattr(FeeRates, "estimate", lambda *_: Decimal(0))
        assert first_violation(Lies()) is None, "measuring the position makes good for a wrong estimate"
        monkeypatch.setattr("dca.service.catchup.CatchUp.fees", lambda *_: None)
        assert first_violation(Lies()) is not None

    def test_fills_that_are_counted_twice(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from itertools import count

        from dca.adapters import memory

        numbers = count()
        original = memory.MemoryTx.insert_fill

        def again(self, fill):  # type: ignore[no-untyped-def]
            from dataclasses import replace
            from decimal import Decimal

            number = next(numbers)
            return original(
                self, replace(fill, id=f"{fill.id}-{number}", cum_qty=fill.cum_qty + Decimal(number))
            )

        monkeypatch.setattr(memory.MemoryTx, "insert_fill", again)
        assert first_violation(Lies(doubled_update=0.3)) is not None

    def test_no_catching_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from dca.service.catchup import CatchUp

        monkeypatch.setattr(CatchUp, "everything", lambda self: None)
        assert first_violation(Lies(lost_update=0.3), caretakers=False) is not None
        assert first_violation(Lies(lost_update=0.3), seeds=10) is None, "the caretakers make good for it"
