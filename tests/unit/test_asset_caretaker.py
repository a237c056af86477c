"""An enabled asset without a cycle gets one, once, whoever else tries."""

from dataclasses import replace
from typing import Any

import pytest
from build import T0, asset, at, cycle, rules
from caretakers import Bot, repaired_once

from dca.domain.cycle import CycleStatus
from dca.domain.errors import StoreUnavailable
from dca.ports import Situation, Store
from dca.service import assets
from dca.service.caretakers.asset_caretaker import AssetCaretaker, View


@pytest.fixture
def bot(any_store: Store) -> Bot:
    return Bot(any_store)


def without_cycle(bot: Bot, status: str = "error", ended: float = 0) -> None:
    """The asset's cycle ended, and nothing followed it."""
    done = replace(bot.cycle, status=CycleStatus(status), completed_at=at(ended))
    bot.store.write(lambda tx: tx.update_cycle(done))


@pytest.mark.parametrize(
    ("one", "strays", "gets_one"),
    [
        (Situation(asset(), None), set(), True),
        (Situation(asset(), cycle()), set(), False),
        (Situation(asset(), cycle("cooldown")), set(), False),
        (Situation(asset(is_enabled=False), None), set(), False),
        (Situation(asset(halted_reason="a person must look"), None), set(), True),
        # Which of its unfinished cycles is the right one, another caretaker says.
        (Situation(asset(), None), {1}, False),
    ],
)
def test_what_is_planned(one: Situation, strays: set[int], gets_one: bool) -> None:
    planned = AssetCaretaker(None, None).plan(View([one], strays), T0)  # type: ignore[arg-type]
    assert [repair.subject for repair in planned] == (["BTC/USD"] if gets_one else [])


def test_the_new_cycle_watches(bot: Bot) -> None:
    without_cycle(bot)
    bot.clock.move(61)
    assert repaired_once(bot, bot.asset_caretaker()).mended == 1
    assert (bot.cycle.status, bot.cycle.quantity) == ("watching", 0)
    assert bot.events() == ["asset_added", "cycle_begun"]


@pytest.mark.parametrize("ended", ["complete", "error"])
def test_it_rests_while_the_cooldown_of_the_one_before_lasts(bot: Bot, ended: str) -> None:
    without_cycle(bot, ended)
    bot.clock.move(59)
    repaired_once(bot, bot.asset_caretaker())
    assert (bot.cycle.status, bot.cycle.previous_completed_at) == ("cooldown", T0)
    bot.clock.move(1)
    repaired_once(bot, bot.cooldown_manager())
    assert bot.cycle.status == "watching"


def test_a_first_cycle_watches(bot: Bot) -> None:
    bot.store.write(lambda tx: tx.insert_asset("ETH/USD", rules(), is_enabled=True, at=T0))
    repaired_once(bot, bot.asset_caretaker())
    assert bot.brief("ETH/USD").cycle is not None
    assert [one.status for one in bot.cycles] == ["watching", "watching"]


def test_an_asset_that_was_disabled_meanwhile_gets_none(bot: Bot) -> None:
    without_cycle(bot)
    caretaker = bot.asset_caretaker()
    (repair,) = caretaker.plan(caretaker.look(), bot.clock.now())
    assets.change(bot.store, bot.clock, "BTC/USD", lambda one: replace(one, is_enabled=False), "a test")
    assert caretaker.mend(repair) is not None
    assert bot.brief().cycle is None


def test_two_that_saw_the_same_begin_one_cycle(bot: Bot) -> None:
    without_cycle(bot)
    caretaker = bot.asset_caretaker()
    (repair,) = caretaker.plan(caretaker.look(), bot.clock.now())
    assert [caretaker.mend(repair), caretaker.mend(repair)] == [
        None,
        "it has a cycle, or is disabled, by now",
    ]
    assert len(bot.cycles) == 2


def test_without_the_database_nothing_is_done(bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
    without_cycle(bot)
    rows = bot.rows()

    def away(work: Any) -> Any:
        raise StoreUnavailable("gone away")

    with monkeypatch.context() as patch:
        patch.setattr(bot.store, "read", away)
        assert bot.run(bot.asset_caretaker()).exit_code == 75
    assert bot.rows() == rows
