"""What a person traded past the bot: adopted into the books on his word, or accepted as his own."""

from dataclasses import replace
from decimal import Decimal as D
from typing import Any

import pytest
from build import T0
from caretakers import GRACE_S, SYMBOL, Bot, repaired_once

from dca.adapters.memory import MemoryStore
from dca.domain.errors import ConfigError, StaleWrite, Unavailable
from dca.domain.order import Purpose, order_key
from dca.domain.position import fold
from dca.ports import Holding, Store
from dca.service import adoption, assets
from dca.service.catchup import is_settled


@pytest.fixture
def bot(any_store: Store) -> Bot:
    made = Bot(any_store)
    made.bought()
    return made


def adopt(bot: Bot, price: str | None = None) -> str:
    given = None if price is None else D(price)
    return adoption.adopt(bot.store, bot.clock, bot.recorder, bot.venue, SYMBOL, given)


def resume(bot: Bot) -> str:
    return adoption.resume(bot.store, bot.clock, bot.venue, SYMBOL)


def owned(bot: Bot) -> D:
    return bot.store.read(lambda tx: tx.owned(1))


def halted(bot: Bot) -> Bot:
    bot.recorder.halt(bot.asset.id, "books and venue differ")
    return bot


class TestAdopting:
    def test_coins_beyond_ours_are_bought_at_the_ask(self, bot: Bot) -> None:
        before = bot.cycle
        halted(bot).venue.coins[SYMBOL] += D("0.5")
        assert adopt(bot) == "BTC/USD: 0.5 bought past the bot at 20003 adopted by the operator"
        assert bot.cycle.quantity == before.quantity + D("0.5") == bot.venue.coins[SYMBOL]
        assert bot.cycle.last_order_fill_price == 20_003
        assert (bot.asset.halted_reason, bot.asset.accepted_difference) == (None, 0)
        order = bot.store.read(lambda tx: tx.orders())[-1]
        assert (order.key, order.status) == (order_key(bot.store.install, 1, Purpose.ADOPTED, 0, 1), "filled")
        (fill,) = [one for one in bot.store.read(lambda tx: tx.fills()) if one.order_key == order.key]
        assert (fill.fee, fill.price) == (0, 20_003)

    def test_coins_that_are_gone_are_sold_at_the_bid(self, bot: Bot) -> None:
        halted(bot).venue.coins[SYMBOL] -= D("0.0005")
        assert "0.0005 sold past the bot at 20000" in adopt(bot)
        assert (bot.cycle.status, bot.cycle.quantity) == ("watching", bot.venue.coins[SYMBOL])

    def test_a_person_may_know_the_price_better(self, bot: Bot) -> None:
        bot.venue.coins[SYMBOL] -= D("0.0005")
        assert "at 12345.67" in adopt(bot, "12345.67")
        with pytest.raises(ConfigError, match="0 is no price"):
            adopt(bot, "0")

    def test_a_whole_position_sold_by_hand_completes_the_cycle_with_its_profit(self, bot: Bot) -> None:
        halted(bot).venue.coins[SYMBOL] = D(0)
        adopt(bot, "25000")
        done, following = bot.cycles
        assert (done.status, done.quantity, done.sell_price) == ("complete", 0, 25_000)
        assert (following.status, following.previous_completed_at) == ("cooldown", bot.clock.now())
        assert (bot.asset.halted_reason, bot.asset.last_sell_price) == (None, 25_000)
        position = fold(bot.store.read(lambda tx: tx.fills_of(1)))
        assert f"{position.proceeds - position.cost:+.2f} USD" in bot.messages()["completed:c1"]

    def test_the_bot_trades_on_with_what_it_adopted(self, bot: Bot) -> None:
        bot.venue.coins[SYMBOL] += D("0.5")
        adopt(bot)
        bot.act("19500")
        assert bot.cycle.safety_orders == 1, "what was adopted is not spent from the ladder"
        bot.act("21000")
        assert str(bot.cycles[0].status) == "complete"
        assert bot.venue.coins[SYMBOL] == 0

    def test_adopting_ends_a_rest(self, bot: Bot) -> None:
        bot.act("21000")
        assert bot.cycle.status == "cooldown"
        bot.venue.coins[SYMBOL] = D("0.5")
        adopt(bot)
        assert (bot.cycle.status, bot.cycle.quantity) == ("watching", D("0.5"))

    def test_again_and_again(self, bot: Bot) -> None:
        for attempt in (1, 2, 3):
            bot.venue.coins[SYMBOL] += D("0.1")
            adopt(bot)
            assert bot.store.read(lambda tx: tx.orders())[-1].key.endswith(f"-adopted-0-{attempt}")
        assert owned(bot) == bot.venue.coins[SYMBOL]

    def test_the_venue_is_never_asked_for_it(self, bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
        bot.venue.coins[SYMBOL] += D("0.5")
        adopt(bot)
        asked: list[str] = []
        find = bot.venue.find

        def listen(key: str) -> Any:
            asked.append(key)
            return find(key)

        monkeypatch.setattr(bot.venue, "find", listen)
        bot.clock.move(GRACE_S)
        bot.catch_up.everything()
        for order in bot.store.read(lambda tx: tx.orders()):
            bot.catch_up.order(order.key)
            assert is_settled(order, bot.store.read(lambda tx: tx.fills()))
        # Even with something to look for.
        bot.venue.coins[SYMBOL] -= D("0.2")
        bot.run(bot.consistency_checker())
        assert asked and not any("adopted" in key for key in asked)
        assert not any("adopted" in wish.key for wish in bot.venue.submitted)

    @pytest.mark.parametrize("moved", ["0", "0.00004", "-0.00004"])
    def test_there_must_be_something_to_adopt(self, bot: Bot, moved: str) -> None:
        halted(bot).venue.coins[SYMBOL] += D(moved)
        rows = bot.rows()
        with pytest.raises(ConfigError, match="dca asset resume BTC/USD"):
            adopt(bot)
        assert bot.rows() == rows

    def test_not_while_an_order_is_at_work(self, bot: Bot) -> None:
        bot.rest("19000")
        bot.venue.coins[SYMBOL] += D("0.5")
        with pytest.raises(ConfigError, match="is at work"):
            adopt(bot)

    def test_not_without_an_asset_or_a_cycle(self, bot: Bot) -> None:
        with pytest.raises(ConfigError, match="there is no asset DOGE/USD"):
            adoption.adopt(bot.store, bot.clock, bot.recorder, bot.venue, "DOGE/USD")
        ended = replace(bot.cycle, status=type(bot.cycle.status)("error"), completed_at=T0)
        bot.store.write(lambda tx: tx.update_cycle(ended))
        with pytest.raises(ConfigError, match="has no cycle"):
            adopt(bot)

    @pytest.mark.parametrize("bid", ["19500", "21000"])
    def test_what_we_trade_meanwhile_is_not_adopted(
        self, bot: Bot, monkeypatch: pytest.MonkeyPatch, bid: str
    ) -> None:
        """An order of ours between the look at the books and the look at the position."""
        holding = bot.venue.holding

        def later(symbol: str) -> Any:
            monkeypatch.setattr(bot.venue, "holding", holding)
            bot.act(bid)
            return holding(symbol)

        monkeypatch.setattr(bot.venue, "holding", later)
        with pytest.raises(ConfigError, match="nothing to adopt"):
            adopt(bot)
        assert owned(bot) == bot.venue.coins[SYMBOL]
        assert not any("adopted" in one.key for one in bot.store.read(lambda tx: tx.orders()))

    def test_an_asset_that_trades_without_end_is_left_alone(
        self, bot: Bot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bot.venue.coins[SYMBOL] += D("0.5")

        def beaten(*_: object) -> None:
            raise StaleWrite("traded")

        monkeypatch.setattr(bot.recorder, "adopt", beaten)
        with pytest.raises(StaleWrite, match="dca halt BTC/USD"):
            adopt(bot)

    def test_a_death_inside_leaves_nothing_or_everything(
        self, bot: Bot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One transaction: what comes last in it fails, and nothing of it is there."""
        halted(bot).venue.coins[SYMBOL] += D("0.5")
        rows = bot.rows()

        class Death(BaseException):
            pass

        write = bot.store.write

        def dying(work: Any) -> Any:
            def cut(tx: Any) -> None:
                work(tx)
                raise Death

            return write(cut)

        with monkeypatch.context() as patch:
            patch.setattr(bot.store, "write", dying)
            with pytest.raises(Death):
                adopt(bot)
        assert bot.rows() == rows
        adopt(bot)
        assert owned(bot) == bot.venue.coins[SYMBOL]


class TestResuming:
    @pytest.fixture
    def bot(self) -> Bot:
        made = Bot(MemoryStore())
        made.bought()
        return made

    def test_a_halt_is_lifted(self, bot: Bot) -> None:
        assert resume(halted(bot)) == "BTC/USD: resumed; books and venue agree"
        assert (bot.asset.halted_reason, bot.asset.accepted_difference) == (None, 0)
        assert bot.events("asset_resumed") == ["resumed by the operator: books and venue agree"]

    def test_coins_beyond_ours_are_accepted_and_halt_no_more(self, bot: Bot) -> None:
        bot.venue.coins[SYMBOL] += D("0.5")
        bot.run(bot.consistency_checker())
        assert bot.asset.halted_reason is not None
        assert resume(bot) == "BTC/USD: resumed; 0.5 at the venue are not the bot's"
        assert (bot.asset.halted_reason, bot.asset.accepted_difference) == (None, D("0.5"))
        assert repaired_once(bot, bot.consistency_checker()).planned == []

    def test_accepted_coins_are_neither_sold_nor_in_the_way(self, bot: Bot) -> None:
        bot.venue.coins[SYMBOL] += D("0.5")
        resume(bot)
        bot.act("19500")
        bot.act("21000")
        assert bot.venue.coins[SYMBOL] == D("0.5"), "only ours were sold"
        bot.clock.move(61)
        bot.act("20000")
        bot.act("20000")
        assert bot.cycle.quantity == bot.venue.coins[SYMBOL] - D("0.5") > 0
        assert "position_exists" not in bot.events()

    def test_nothing_is_accepted_while_it_trades(self, bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
        """Coins that the bot bought between the looks at books and venue are not a person's."""
        look = bot.venue.holding

        def bought_first(symbol: str) -> Holding:
            monkeypatch.setattr(bot.venue, "holding", look)
            bot.act("19500")
            return look(symbol)

        monkeypatch.setattr(bot.venue, "holding", bought_first)
        with pytest.raises(ConfigError, match="changed meanwhile"):
            resume(bot)
        assert bot.asset.accepted_difference == 0
        assert resume(bot) == "BTC/USD: resumed; books and venue agree"

    def test_fees_are_measured_beside_what_an_earlier_cycle_left(self, bot: Bot) -> None:
        bot.act("21000")
        bot.clock.move(61)
        # Its fee was never measured, and the venue took less than the highest.
        bot.venue.coins[SYMBOL] += D("0.00001")
        for _ in range(3):
            bot.act("20000", deliver=False)
        for update in bot.venue.updates:
            bot.recorder.record(update.order, [update.execution] if update.execution else [], source="test")
        bot.venue.coins[SYMBOL] += D("0.000001")
        bot.catch_up.everything()
        assert bot.asset.accepted_difference == D("0.00001")
        assert bot.cycle.quantity == bot.venue.coins[SYMBOL] - D("0.00001") > 0
        assert len(bot.events("dust_set_aside")) == 1

    def test_fees_are_measured_beside_accepted_coins(self, bot: Bot) -> None:
        bot.venue.coins[SYMBOL] += D("0.5")
        resume(bot)
        bot.act("19500", deliver=False)
        for update in bot.venue.updates:
            bot.recorder.record(update.order, [update.execution] if update.execution else [], source="test")
        # The venue took less than the highest rate.
        bot.venue.coins[SYMBOL] += D("0.000001")
        bot.catch_up.everything()
        assert bot.cycle.quantity == bot.venue.coins[SYMBOL] - D("0.5")

    def test_more_than_was_accepted_is_in_the_way(self, bot: Bot) -> None:
        bot.venue.coins[SYMBOL] += D("0.5")
        resume(bot)
        bot.act("21000")
        bot.clock.move(61)
        bot.venue.coins[SYMBOL] += D("0.1")
        bot.act("20000")
        bot.act("20000")
        assert bot.cycle.quantity == 0
        assert "0.1 that this bot did not buy" in bot.events("position_exists")[0]

    def test_coins_that_are_missing_cannot_be_accepted(self, bot: Bot) -> None:
        halted(bot).venue.coins[SYMBOL] -= D("0.0005")
        rows = bot.rows()
        with pytest.raises(ConfigError, match="dca asset adopt BTC/USD"):
            resume(bot)
        assert bot.rows() == rows

    def test_dust_is_nothing_to_talk_about(self, bot: Bot) -> None:
        halted(bot).venue.coins[SYMBOL] -= D("0.00004")
        resume(bot)
        assert (bot.asset.halted_reason, bot.asset.accepted_difference) == (None, 0)

    def test_with_an_order_at_work_the_position_says_nothing(self, bot: Bot) -> None:
        bot.venue.coins[SYMBOL] += D("0.5")
        resume(bot)
        halted(bot)
        bot.venue.held = True
        bot.trader.carry_out(bot.brief(), _sell(bot), bot.price("21000"))
        bot.venue.coins[SYMBOL] -= D("0.2")
        resume(bot)
        assert (bot.asset.halted_reason, bot.asset.accepted_difference) == (None, D("0.5"))

    def test_what_the_venue_does_not_say_is_not_assumed(
        self, bot: Bot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = halted(bot).rows()

        def fail(symbol: str) -> None:
            raise Unavailable("500")

        monkeypatch.setattr(bot.venue, "holding", fail)
        for command in (resume, adopt):
            with pytest.raises(Unavailable):
                command(bot)
        assert bot.rows() == rows

    def test_a_new_halt_is_not_lifted_unseen(self, bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
        holding = bot.venue.holding

        def later(symbol: str) -> Any:
            halted(bot)
            return holding(symbol)

        monkeypatch.setattr(bot.venue, "holding", later)
        with pytest.raises(ConfigError, match="changed meanwhile"):
            resume(bot)
        assert bot.asset.halted_reason is not None


def test_what_is_accepted_is_stored(bot: Bot) -> None:
    halted(bot).venue.coins[SYMBOL] += D("0.5")
    resume(bot)
    assert (bot.asset.halted_reason, bot.asset.accepted_difference) == (None, D("0.5"))


def _sell(bot: Bot) -> Any:
    from dca.strategy.dca import Sell

    return Sell(bot.cycle.quantity, "a test wants it")


def test_an_asset_of_another_name_is_not_touched(bot: Bot) -> None:
    assets.add(bot.store, bot.clock, "ETH/USD", bot.asset.rules)
    bot.venue.coins[SYMBOL] += D("0.5")
    adopt(bot)
    other = bot.brief("ETH/USD")
    assert other.cycle is not None and (other.cycle.quantity, other.cycle.version) == (0, 1)
