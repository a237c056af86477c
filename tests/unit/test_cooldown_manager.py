"""A cycle rests until its time has passed, or until the price has fallen far enough to buy again."""

from dataclasses import replace
from decimal import Decimal as D
from typing import Any

import pytest
from build import T0, asset, at, cycle, quote, restriction
from caretakers import SYMBOL, Bot, Failing, repaired_once

from dca.domain.cycle import CycleStatus
from dca.domain.errors import StaleWrite, StoreUnavailable
from dca.domain.market import Quote
from dca.domain.mode import Mode
from dca.ports import Situation, Store, Tx
from dca.service import assets
from dca.service.caretakers.cooldown_manager import CooldownManager, View

RESTS = cycle("cooldown", previous_completed_at=T0)
EARLY: dict[str, Any] = {"last_sell_price": D(20_000), "buy_order_price_deviation_percent": D(1)}


@pytest.fixture
def bot(any_store: Store) -> Bot:
    return Bot(any_store, cooldown_period=120, buy_order_price_deviation_percent=D(1))


def planned(one: Situation, seconds: float, price: Quote | None = None) -> list[str]:
    manager = CooldownManager(None, None, None)  # type: ignore[arg-type]
    view = View([one], {} if price is None else {SYMBOL: price})
    return [repair.reason for repair in manager.plan(view, at(seconds))]


@pytest.mark.parametrize(
    ("one", "seconds", "price", "why"),
    [
        (Situation(asset(), RESTS), 119.9, None, None),
        (Situation(asset(), RESTS), 120, None, "the cooldown of 120 s is over"),
        (Situation(asset(is_enabled=False), RESTS), 120, None, "the cooldown of 120 s is over"),
        (
            Situation(replace(asset(), paused_reason="news"), RESTS),
            120,
            None,
            "the cooldown of 120 s is over",
        ),
        (Situation(asset(**EARLY), RESTS), 5, quote("19000", "19800.01"), None),
        (
            Situation(asset(**EARLY), RESTS),
            5,
            quote("19000", "19800"),
            "ask 19800 is at or below 19800: early restart",
        ),
        # Without a price only time counts.
        (Situation(asset(**EARLY), RESTS), 5, None, None),
        # What buys nothing has no use for a cheap price.
        (Situation(asset(is_enabled=False, **EARLY), RESTS), 5, quote("1"), None),
        (Situation(replace(asset(**EARLY), paused_reason="news"), RESTS), 5, quote("1"), None),
        # The first cycle of an asset rests from its own beginning.
        (Situation(asset(), cycle("cooldown")), 119, None, None),
        (Situation(asset(), cycle("cooldown")), 120, None, "the cooldown of 120 s is over"),
    ],
)
def test_what_wakes(one: Situation, seconds: float, price: Quote | None, why: str | None) -> None:
    assert planned(one, seconds, price) == ([] if why is None else [why])


def rest(bot: Bot, ended: str = "complete") -> None:
    """A cycle ended, and the next one rests."""
    before = bot.cycle

    def write(tx: Tx) -> None:
        tx.update_cycle(replace(before, status=CycleStatus(ended), completed_at=T0))
        tx.insert_cycle(before.asset_id, CycleStatus.COOLDOWN, at=T0)
        tx.update_asset(replace(tx.assets()[0], last_sell_price=D(20_000)))

    bot.store.write(write)


@pytest.mark.parametrize("ended", ["complete", "error"])
def test_time_since_the_end_of_the_cycle_before_wakes_it(bot: Bot, ended: str) -> None:
    rest(bot, ended)
    bot.clock.move(119)
    assert bot.run(bot.cooldown_manager()).planned == []
    bot.clock.move(1)
    assert repaired_once(bot, bot.cooldown_manager()).mended == 1
    assert bot.cycle.status == "watching"
    assert bot.events("cycle_watching") == ["the cooldown of 120 s is over"]


def test_a_fallen_price_wakes_it_early(bot: Bot) -> None:
    rest(bot)
    bot.price("19800")
    assert bot.run(bot.cooldown_manager()).planned == []
    bot.price("19797")
    assert repaired_once(bot, bot.cooldown_manager()).mended == 1
    assert bot.cycle.status == "watching"


@pytest.mark.parametrize("mode", [Mode.HALTED, Mode.REDUCE_ONLY])
def test_no_price_wakes_anything_while_trading_stands_still(bot: Bot, mode: Mode) -> None:
    rest(bot)
    bot.price("10000")
    bot.store.write(lambda tx: tx.put_mode(restriction(mode)))
    assert bot.run(bot.cooldown_manager()).planned == []
    bot.clock.move(120)
    assert bot.run(bot.cooldown_manager()).mended == 1


def test_a_halted_asset_stays_as_it_is(bot: Bot) -> None:
    rest(bot)
    bot.recorder.halt(bot.asset.id, "a person must look")
    bot.clock.move(1000)
    assert bot.run(bot.cooldown_manager()).planned == []


def test_prices_are_asked_for_exactly_where_one_could_wake(bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    original = bot.venue.latest_quotes

    def listen(symbols: Any) -> Any:
        asked.append(list(symbols))
        return original(symbols)

    monkeypatch.setattr(bot.venue, "latest_quotes", listen)
    bot.run(bot.cooldown_manager())
    rest(bot)
    bot.run(bot.cooldown_manager())
    bot.clock.move(120)
    bot.run(bot.cooldown_manager())
    assert asked == [[SYMBOL]]


def test_when_prices_cannot_be_read_nothing_is_changed_at_all(bot: Bot) -> None:
    """Not even the cycle of another asset, whose time has passed."""
    rest(bot)
    plain = replace(bot.asset.rules, buy_order_price_deviation_percent=D(0))
    assets.add(bot.store, bot.clock, "ETH/USD", plain)
    other = bot.brief("ETH/USD").cycle
    assert other is not None
    done = replace(other, status=CycleStatus.COMPLETE, completed_at=at(-500))
    bot.store.write(
        lambda tx: (tx.update_cycle(done), tx.insert_cycle(done.asset_id, CycleStatus.COOLDOWN, at=T0))
    )
    failing = Failing(bot.venue, "latest_quotes")
    rows = bot.rows()
    report = bot.run(CooldownManager(bot.store, failing, bot.clock))  # type: ignore[arg-type]
    assert (report.result, report.exit_code, failing.failed) == ("unavailable", 75, 1)
    assert bot.rows() == rows
    assert bot.run(bot.cooldown_manager()).planned[0].subject == "ETH/USD"


def test_without_the_database_nothing_is_done(bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(work: Any) -> Any:
        raise StoreUnavailable("gone away")

    monkeypatch.setattr(bot.store, "read", away)
    assert bot.run(bot.cooldown_manager()).exit_code == 75


def test_a_cycle_that_somebody_else_woke_is_left_alone(bot: Bot) -> None:
    rest(bot)
    bot.clock.move(120)
    manager = bot.cooldown_manager()
    (repair,) = manager.plan(manager.look(), bot.clock.now())
    bot.run(bot.cooldown_manager())
    with pytest.raises(StaleWrite):
        manager.mend(repair)
    assert len(bot.events("cycle_watching")) == 1
