"""An order makes way for another, and the process dies at each boundary of it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal as D
from typing import Any

import pytest
from build import restriction
from caretakers import SYMBOL, Bot

from dca import boundaries
from dca.adapters.memory import MemoryStore
from dca.domain.errors import ConfigError, InDoubt, Rejected, StaleWrite, Unavailable
from dca.domain.mode import Mode
from dca.domain.order import Order, Purpose
from dca.domain.replacement import Replacement, Stage
from dca.ports import Store
from dca.service import assets
from dca.service.operating import Desk
from dca.service.replacing import Progress, Replacing, by_hand, left_to_spend, replaceable
from dca.strategy.dca import Sell


class Death(BaseException):
    """The process was killed here."""


@pytest.fixture
def bot() -> Bot:
    return Bot(MemoryStore())


def replacing(bot: Bot, **changes: Any) -> Replacing:
    base: dict[str, Any] = {
        "store": bot.store, "broker": bot.broker, "clock": bot.clock, "trader": bot.trader,
        "catch_up": bot.catch_up,
    }  # fmt: skip
    return Replacing(**{**base, **changes})


def begun(bot: Bot, order: Order, limit: str | None = None) -> Replacement:
    one = replacing(bot).begin(order, "a test wants it", None if limit is None else D(limit))
    assert one is not None
    return one


def resumed(bot: Bot, key: str, **changes: Any) -> Progress:
    one = bot.store.read(lambda tx: tx.replacement(key))
    assert one is not None
    progress = replacing(bot, **changes).resume(one)
    bot.deliver()
    return progress


def replaced(bot: Bot, order: Order, limit: str | None = None) -> Progress:
    begun(bot, order, limit)
    return resumed(bot, order.key)


def orders(bot: Bot) -> list[Order]:
    return bot.store.read(lambda tx: tx.orders())


def stages(bot: Bot) -> list[str]:
    names = [name for name in bot.events() if name.startswith("replacement_")]
    return [name.removeprefix("replacement_") for name in names]


class TestBuys:
    def test_a_fresh_one_takes_its_place_at_the_price_of_today(self, bot: Bot) -> None:
        old = bot.rest("20000")
        bot.price("20100")
        progress = replaced(bot, old)
        assert progress.replacement.stage is Stage.SUBMIT_CONFIRMED
        first, second = orders(bot)
        assert (first.status, second.status) == ("canceled", "filled")
        assert (second.key, second.intent.limit) == (progress.replacement.new_key, D(20_103))
        assert second.key.endswith("-base-0-2")
        assert stages(bot) == ["cancel_sent", "cancel_confirmed", "submit_sent", "submit_confirmed"]

    def test_only_what_is_left_is_bought(self, bot: Bot) -> None:
        old = bot.rest("20000")
        bot.venue.fill(old.venue_id or "", "0.0004", "20003")
        bot.deliver()
        bot.price("20000")
        replaced(bot, old)
        spent = sum(fill.qty * fill.price for fill in bot.store.read(lambda tx: tx.fills()))
        assert D("19.99") < spent <= 20
        assert bot.cycle.quantity == bot.venue.coins[SYMBOL]

    def test_a_fill_on_its_way_is_counted(self, bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
        old = bot.rest("20000")
        bot.price("20000")
        cancel = bot.venue.cancel

        def late(venue_id: str) -> None:
            bot.venue.fill(venue_id, "0.0004", "20003")
            cancel(venue_id)

        monkeypatch.setattr(bot.venue, "cancel", late)
        replaced(bot, old)
        first, second = orders(bot)
        assert (first.status, first.filled_qty) == ("canceled", D("0.0004"))
        assert first.filled_qty * 20_003 + second.intent.qty * (second.intent.limit or 0) <= 20
        assert bot.cycle.quantity == bot.venue.coins[SYMBOL]

    def test_a_fill_may_win(self, bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
        old = bot.rest("20000")

        def beaten(venue_id: str) -> None:
            bot.venue.fill(venue_id)
            raise Rejected("order is already filled", status=422)

        monkeypatch.setattr(bot.venue, "cancel", beaten)
        progress = replaced(bot, old)
        assert (progress.replacement.stage, progress.why) == (
            Stage.BLOCKED,
            "nothing makes way: the order is filled",
        )
        assert len(orders(bot)) == 1

    def test_a_remainder_below_the_smallest_order_stays_unbought(self, bot: Bot) -> None:
        old = bot.rest("20000")
        bot.venue.fill(old.venue_id or "", "0.0008", "20003")
        bot.deliver()
        bot.price("20000")
        progress = replaced(bot, old)
        assert progress.replacement.stage is Stage.BLOCKED
        assert "below minimum" in progress.why

    def test_a_safety_order_only_where_it_is_due(self, bot: Bot) -> None:
        bot.bought()
        old = bot.rest("19500")
        assert old.intent.purpose is Purpose.SAFETY
        bot.price("19800")
        progress = replaced(bot, old)
        assert progress.replacement.stage is Stage.BLOCKED
        assert "above where the safety order is due" in progress.why
        again = bot.rest("19500")
        bot.price("19550")
        assert replaced(bot, again).replacement.stage is Stage.SUBMIT_CONFIRMED
        assert bot.cycle.safety_orders == 1

    def test_two_orders_of_one_step_use_one_step(self, bot: Bot) -> None:
        bot.bought()
        old = bot.rest("19500")
        bot.venue.fill(old.venue_id or "", "0.0004", "19503")
        bot.deliver()
        bot.price("19500")
        replaced(bot, old)
        assert [str(one.status) for one in orders(bot)] == ["filled", "canceled", "filled"]
        assert bot.cycle.safety_orders == 1
        bot.act("19400")
        assert len(orders(bot)) == 3, "the next step is not due yet"

    @pytest.mark.parametrize("how", ["asset", "halt", "disabled", "mode", "stream"])
    def test_nothing_is_bought_where_nothing_may_be(self, bot: Bot, how: str) -> None:
        old = bot.rest("20000")
        bot.price("20000")
        begun(bot, old)
        blocked = None
        if how == "asset":
            assets.change(bot.store, bot.clock, SYMBOL, lambda one: replace(one, paused_reason="x"), "x")
        elif how == "disabled":
            assets.change(bot.store, bot.clock, SYMBOL, lambda one: replace(one, is_enabled=False), "x")
        elif how == "halt":
            bot.recorder.halt(bot.asset.id, "a person must look")
        elif how == "mode":
            bot.store.write(lambda tx: tx.put_mode(restriction(Mode.REDUCE_ONLY)))
        else:
            blocked = "the streamer does not run"
        progress = resumed(bot, old.key, entries_blocked=lambda: blocked)
        assert progress.replacement.stage is Stage.BLOCKED, progress.why
        assert [str(one.status) for one in orders(bot)] == ["canceled"]


class TestSells:
    @pytest.fixture
    def first(self, bot: Bot) -> Order:
        bot.bought()
        first = bot.rest("21000")
        bot.price("21000")
        return first

    def test_what_is_left_is_sold_at_the_market(self, bot: Bot, first: Order) -> None:
        bot.venue.fill(first.venue_id or "", "0.0004", "21000")
        bot.deliver()
        bot.price("21000")
        assert replaced(bot, first).replacement.stage is Stage.SUBMIT_CONFIRMED
        assert orders(bot)[-1].intent.qty == first.intent.qty - D("0.0004")
        assert (bot.cycles[0].status, bot.venue.coins[SYMBOL]) == ("complete", 0)

    def test_nothing_is_sold_at_a_loss(self, bot: Bot, first: Order) -> None:
        bot.price("19000")
        progress = replaced(bot, first)
        assert progress.replacement.stage is Stage.BLOCKED
        assert "below break-even" in progress.why

    @pytest.mark.parametrize("purpose", [Purpose.STOP_LOSS, Purpose.CLOSE])
    def test_whoever_wants_out_is_sold_out(self, bot: Bot, purpose: Purpose) -> None:
        bot.bought()
        bot.venue.held = True
        bot.trader.carry_out(bot.brief(), Sell(bot.cycle.quantity, "out", purpose), bot.price("20000"))
        bot.venue.held = False
        bot.deliver()
        bot.price("15000")
        assert replaced(bot, orders(bot)[-1]).replacement.stage is Stage.SUBMIT_CONFIRMED
        assert bot.venue.coins[SYMBOL] == 0

    def test_a_halted_asset_waits_and_after_an_hour_it_is_the_strategys(self, bot: Bot, first: Order) -> None:
        begun(bot, first)
        bot.recorder.halt(bot.asset.id, "a person must look")
        progress = resumed(bot, first.key)
        assert (progress.replacement.stage, progress.why) == (Stage.CANCEL_CONFIRMED, "the asset is halted")
        bot.clock.move(3600)
        assert resumed(bot, first.key).replacement.stage is Stage.BLOCKED

    def test_a_lost_answer_is_found(self, bot: Bot, first: Order, monkeypatch: pytest.MonkeyPatch) -> None:
        begun(bot, first)
        submit = bot.venue.submit

        def lose(wish: Any) -> None:
            submit(wish)
            raise InDoubt("504")

        with monkeypatch.context() as patch:
            patch.setattr(bot.venue, "submit", lose)
            assert resumed(bot, first.key).replacement.stage is Stage.SUBMIT_CONFIRMED
        assert bot.cycles[0].status == "complete"

    def test_a_lost_request_is_sent_again_under_its_key(
        self, bot: Bot, first: Order, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun(bot, first)

        def lose(wish: Any) -> None:
            raise InDoubt("504")

        with monkeypatch.context() as patch:
            patch.setattr(bot.venue, "submit", lose)
            progress = resumed(bot, first.key)
            assert (progress.replacement.stage, "unclear" in progress.why) == (Stage.SUBMIT_SENT, True)
        bot.clock.move(61)
        bot.price("21000")
        progress = resumed(bot, first.key)
        assert progress.replacement.stage is Stage.SUBMIT_CONFIRMED
        assert [wish.key for wish in bot.venue.submitted[-1:]] == [progress.replacement.new_key]
        assert len(orders(bot)) == 3

    def test_an_order_of_somebody_else_ends_it(self, bot: Bot, first: Order) -> None:
        begun(bot, first)
        bot.venue.cancel(first.venue_id or "")
        bot.deliver()
        bot.act("19500")
        progress = resumed(bot, first.key)
        assert progress.replacement.stage is Stage.BLOCKED
        assert "somebody else placed" in progress.why

    def test_without_proof_of_the_end_nothing_is_sent(self, bot: Bot, first: Order) -> None:
        bot.venue.deaf = True
        progress = replaced(bot, first)
        assert progress.replacement.stage is Stage.CANCEL_SENT
        assert len(bot.venue.submitted) == 2

    @pytest.mark.parametrize("read", ["find", "latest_quote"])
    def test_what_cannot_be_read_is_not_guessed(
        self, bot: Bot, first: Order, monkeypatch: pytest.MonkeyPatch, read: str
    ) -> None:
        begun(bot, first)

        def fail(*_: object) -> None:
            raise Unavailable("500")

        with monkeypatch.context() as patch:
            patch.setattr(bot.venue, read, fail)
            with pytest.raises(Unavailable):
                resumed(bot, first.key)
        assert len(bot.venue.submitted) == 2
        assert resumed(bot, first.key).replacement.stage is Stage.SUBMIT_CONFIRMED


def test_one_replacement_at_a_time(any_store: Store) -> None:
    bot = Bot(any_store)
    old = bot.rest()
    begun(bot, old)
    assert replacing(bot).begin(old, "again") is None


def test_of_two_that_go_on_the_version_lets_one(bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
    old = bot.rest("20000")
    bot.price("20000")
    one = begun(bot, old)
    quote = bot.venue.latest_quote

    def meanwhile(symbol: str) -> Any:
        monkeypatch.setattr(bot.venue, "latest_quote", quote)
        resumed(bot, old.key)
        return quote(symbol)

    monkeypatch.setattr(bot.venue, "latest_quote", meanwhile)
    with pytest.raises(StaleWrite):
        replacing(bot).resume(one)
    bot.deliver()
    assert [str(order.status) for order in orders(bot)] == ["canceled", "filled"]
    assert bot.cycle.quantity == bot.venue.coins[SYMBOL]


def test_a_dry_run_cancels_nothing(bot: Bot) -> None:
    old = bot.rest()
    bot.trader.dry_run = True
    assert replacing(bot).begin(old, "a test wants it") is None
    assert bot.venue.orders[old.venue_id or ""].status == "open"


# Death at every boundary


def a_buy(bot: Bot) -> Order:
    old = bot.rest("20000")
    bot.price("20000")
    return old


def a_partly_filled_buy(bot: Bot) -> Order:
    old = bot.rest("20000")
    bot.venue.fill(old.venue_id or "", "0.0004", "20003")
    bot.deliver()
    bot.price("20000")
    return old


def a_sell(bot: Bot) -> Order:
    bot.bought()
    old = bot.rest("21000")
    bot.price("21000")
    return old


def a_buy_that_fills_during_the_cancel(bot: Bot) -> Order:
    old = bot.rest("20000")
    bot.price("20000")
    cancel, filled = bot.venue.cancel, []

    def late(venue_id: str) -> None:
        if not filled:
            filled.append(venue_id)
            bot.venue.fill(venue_id, "0.0004", "20003")
        cancel(venue_id)

    bot.venue.cancel = late  # type: ignore[method-assign]
    return old


@pytest.fixture
def crossings() -> Iterator[Callable[[int | None], list[str]]]:
    """Installs a hook that dies at the crossing of that number; the names of those that were crossed."""

    def install(at: int | None) -> list[str]:
        names: list[str] = []

        def hook(name: str) -> None:
            names.append(name)
            if len(names) == at:
                raise Death(name)

        boundaries.install(hook)
        return names

    yield install
    boundaries.install(None)


@pytest.mark.parametrize(
    "situation", [a_buy, a_partly_filled_buy, a_sell, a_buy_that_fills_during_the_cancel]
)
def test_it_may_die_anywhere(
    situation: Callable[[Bot], Order], crossings: Callable[[int | None], list[str]]
) -> None:
    def life(at: int | None) -> tuple[list[str], list[Any]]:
        boundaries.install(None)
        bot = Bot(MemoryStore())
        old = situation(bot)
        names = crossings(at)
        try:
            one = replacing(bot).begin(old, "a test wants it")
            assert one is not None
            replacing(bot).resume(one)
        except Death:
            boundaries.install(None)
            bot.deaf()
            bot.clock.move(30)
            bot.price(str(bot.venue.latest_quote(SYMBOL).bid))
            if bot.store.read(lambda tx: tx.replacement(old.key)) is None:
                replacing(bot).begin(old, "a test wants it")
            for _ in range(3):
                bot.catch_up.everything()
                replacing(bot).resume_all()
                bot.clock.move(20)
                bot.price(str(bot.venue.latest_quote(SYMBOL).bid))
        boundaries.install(None)
        bot.deliver()
        bot.catch_up.everything()
        return names, outcome(bot)

    names, wanted = life(None)
    assert len(names) > 20 and {"before_cancel", "after_submit", "before_replacing.move"} <= set(names)
    for at in range(1, len(names) + 1):
        _, got = life(at)
        assert got == wanted, names[at - 1]


def outcome(bot: Bot) -> list[Any]:
    """What must not depend on where it died, and what never may be."""
    keys = [wish.key for wish in bot.venue.submitted]
    assert len(keys) == len(set(keys)), "no key reaches the venue twice"
    assert sum(order.live for order in orders(bot)) == 0
    fills = bot.store.read(lambda tx: tx.fills())
    spent = sum(fill.qty * fill.price for fill in fills if fill.side == "buy")
    assert spent <= 20 and bot.store.read(lambda tx: tx.replacements()) == []
    owned = sum((one.quantity for one in bot.cycles), D(0))
    assert abs(owned - bot.venue.coins[SYMBOL]) <= D("0.000000001")
    return [keys, [str(order.status) for order in orders(bot)], [str(one.status) for one in bot.cycles]]


# By hand


@pytest.fixture
def desk(bot: Bot) -> Desk:
    return Desk(
        store=bot.store,
        broker=bot.broker,
        clock=bot.clock,
        trader=bot.trader,
        catch_up=bot.catch_up,
        rest=lambda seconds: bot.clock.move(seconds),
    )


class TestByHand:
    def test_a_buy_goes_to_the_limit(self, bot: Bot, desk: Desk) -> None:
        old = bot.rest("20000")
        bot.venue.held = True
        bot.price("20000")
        done = by_hand(desk, SYMBOL, D(19_500))
        bot.deliver()
        assert done.ok and "at 19500" in done.text
        assert [str(one.status) for one in orders(bot)] == ["canceled", "open"]
        assert (orders(bot)[1].intent.limit, bot.order(old.key).status) == (D(19_500), "canceled")

    def test_a_safety_order_is_a_persons_own_wish(self, bot: Bot, desk: Desk) -> None:
        bot.bought()
        bot.rest("19500")
        bot.price("19900")
        assert by_hand(desk, SYMBOL, None).ok
        assert orders(bot)[-1].intent.limit == D(19_903)

    def test_a_sell_is_sold_again(self, bot: Bot, desk: Desk) -> None:
        bot.bought()
        bot.rest("21000")
        bot.price("21000")
        done = by_hand(desk, SYMBOL, None)
        bot.deliver()
        assert done.ok and bot.cycles[0].status == "complete"

    def test_one_that_does_not_end_is_said(self, bot: Bot, desk: Desk) -> None:
        bot.rest()
        bot.venue.deaf = True
        bot.clock.monotonic = iter(range(0, 10_000, 10)).__next__  # type: ignore[method-assign, assignment]
        done = by_hand(desk, SYMBOL, None)
        assert not done.ok and "its cancellation is not confirmed yet" in done.text

    def test_what_cannot_be_replaced(self, bot: Bot, desk: Desk) -> None:
        with pytest.raises(ConfigError, match="no live order"):
            replaceable(desk, SYMBOL, None)
        bot.rest()
        for limit in ("0", "30000", "-1"):
            with pytest.raises(ConfigError, match="too far from the ask"):
                replaceable(desk, SYMBOL, D(limit))
        bot.store.write(lambda tx: tx.put_mode(restriction(Mode.REDUCE_ONLY)))
        with pytest.raises(ConfigError, match="nothing is bought now"):
            replaceable(desk, SYMBOL, None)
        bot.store.write(lambda tx: tx.put_mode(restriction(Mode.HALTED)))
        with pytest.raises(ConfigError, match="dca resume"):
            replaceable(desk, SYMBOL, None)

    def test_a_sell_has_no_limit(self, bot: Bot, desk: Desk) -> None:
        bot.bought()
        bot.rest("21000")
        with pytest.raises(ConfigError, match="leave out --limit"):
            replaceable(desk, SYMBOL, D(21_000))


def test_what_is_left_to_spend(bot: Bot) -> None:
    old = bot.rest("20000")
    whole = old.intent.qty * (old.intent.limit or 0)
    assert left_to_spend(bot.brief(), old) == whole
    bot.venue.fill(old.venue_id or "", "0.0004", "20000")
    bot.deliver()
    assert left_to_spend(bot.brief(), old) == whole - 8
    lower = replace(bot.asset.rules, base_order_amount=D(10))
    assets.change(bot.store, bot.clock, SYMBOL, lambda one: replace(one, rules=lower), "less")
    assert left_to_spend(bot.brief(), old) == 2, "never more than the step's"
