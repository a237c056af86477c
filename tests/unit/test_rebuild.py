"""A database that was lost: what the venue's orders and fills alone bring back."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal as D
from random import Random
from typing import Any

import pytest
from build import BTC, T0, rules
from caretakers import GRACE_S, SYMBOL, Bot, repaired_once, sim

from dca.adapters.clock import ManualClock
from dca.adapters.db.installation import carry_on
from dca.adapters.db.store import SqlStore
from dca.adapters.memory import MemoryStore
from dca.domain.cycle import CycleStatus
from dca.domain.errors import ConfigError, StaleWrite, Unavailable
from dca.domain.fees import FeeRates
from dca.domain.mode import Mode
from dca.domain.order import Purpose, order_key
from dca.matching.book import Terms as MatchTerms
from dca.ports import Store, Tx
from dca.service import assets
from dca.service.rebuild import SOURCE, Plan, Rebuild, installations

ETH = "ETH/USD"


def rebuild(bot: Bot, install: str = "") -> Rebuild:
    return Rebuild(bot.store, bot.broker, bot.clock, FeeRates(), install or bot.store.install)


def emptied(bot: Bot, *others: str, store: Store | None = None) -> Bot:
    """The same venue with a new database, to which the assets were added again."""
    new = Bot(store or MemoryStore(bot.store.install), bot.venue, **changes_of(bot))
    for symbol in others:
        assets.add(new.store, new.clock, symbol, bot.asset.rules)
    return new


def changes_of(bot: Bot) -> dict[str, Any]:
    given = bot.asset.rules
    return {name: getattr(given, name) for name in given.__dataclass_fields__}


def lines(plans: list[Plan]) -> list[str]:
    return [f"{line.subject}: {line.what}" for plan in plans for line in plan.lines]


def restored(bot: Bot, install: str = "") -> list[str]:
    """What was different before; afterwards nothing is."""
    work = rebuild(bot, install)
    plans = work.plans()
    work.apply(plans)
    assert lines(work.plans()) == []
    return lines(plans)


def known(store: Store) -> dict[str, Any]:
    """Everything of a database that must come back, by names that do not depend on it."""

    def read(tx: Tx) -> dict[str, Any]:
        symbols = {asset.id: asset.asset_symbol for asset in tx.assets()}
        ids = {order.intent.cycle_id for order in tx.orders()}
        names = (
            "status", "quantity", "average_purchase_price", "safety_orders", "latest_order_id",
            "latest_order_created_at", "last_order_fill_price", "completed_at", "sell_price",
            "previous_completed_at",
        )  # fmt: skip
        fees: dict[str, D] = {}
        for fill in tx.fills():
            # Of the buys of a cycle the venue shows only what all of them cost.
            name = f"{fill.cycle_id} {fill.side}"
            fees[name] = fees.get(name, D(0)) + fill.fee
        return {
            "cycles": {
                one.id: (symbols[one.asset_id], *(getattr(one, name) for name in names))
                for one in tx.cycles() if one.id in ids
            },
            "next": [
                (symbols[one.asset_id], one.status, one.quantity, one.previous_completed_at)
                for one in tx.cycles() if one.id not in ids
            ],
            "orders": {
                one.key: (replace(one.intent, reason=""), one.status, one.created_at, one.filled_qty,
                          one.filled_avg_price, one.venue_id)
                for one in tx.orders() if one.venue_id is not None
            },
            "fills": {
                (one.order_key, one.cum_qty): (one.id, one.side, one.qty, one.price, one.at)
                for one in tx.fills() if one.qty
            },
            "fees": fees,
            "assets": {one.asset_symbol: (one.last_sell_price, one.stopped_out) for one in tx.assets()},
            "owned": {symbols[one]: owned for one, owned in tx.owned_by_asset().items()},
        }  # fmt: skip

    return store.read(read)


def lived(seed: int, steps: int = 120) -> Bot:
    """A bot that traded two assets for some hours; the price comes and goes, orders rest and fill."""
    clock, random = ManualClock(T0), Random(seed)
    venue = sim(clock, SYMBOL, ETH)
    venue.terms, venue.random = MatchTerms(partial_rate=0.3), Random(seed)
    bot = Bot(MemoryStore(), venue, cooldown_period=90, take_profit_percent=D(1), safety_order_deviation=D(1))
    assets.add(bot.store, clock, ETH, bot.asset.rules)
    price = {SYMBOL: 20_000.0, ETH: 1_500.0}
    for _ in range(steps):
        clock.move(30)
        for symbol in price:
            price[symbol] *= 1 + random.gauss(0, 0.006)
            bot.act(f"{price[symbol]:.2f}", symbol)
    return bot


@pytest.mark.parametrize("seed", range(8))
def test_a_life_comes_back_from_the_venue_alone(seed: int) -> None:
    bot = lived(seed)
    before = known(bot.store)
    assert len(before["cycles"]) >= 3 and len(before["fills"]) > 10
    new = emptied(bot, ETH)
    assert restored(new)
    after = known(new.store)
    for what in ("orders", "fills", "cycles", "fees", "assets", "owned", "next"):
        assert after[what] == before[what], what


@pytest.mark.parametrize("seed", range(3))
def test_trading_goes_on_from_there(seed: int) -> None:
    bot = lived(seed)
    new = emptied(bot, ETH)
    restored(new)
    new.store.write(lambda tx: tx.drop_mode(SOURCE))
    before = {wish.key for wish in new.venue.submitted}
    for step in range(1, 60):
        new.clock.move(60)
        price = 20_000 * (1 + 0.02 * (step % 7 - 3))
        new.act(f"{price:.2f}")
    keys = [wish.key for wish in new.venue.submitted]
    assert len(keys) == len(set(keys)) > len(before), "no key is used twice"
    new.venue.updates.clear()
    new.catch_up.everything()
    owned = new.store.read(lambda tx: tx.owned_by_asset())
    for asset in new.store.read(lambda tx: tx.assets()):
        held = new.venue.coins.get(asset.asset_symbol, D(0))
        assert abs(owned.get(asset.id, D(0)) - held) <= D("0.000000002")


@pytest.fixture
def bot(any_store: Store) -> Bot:
    return Bot(any_store)


class TestCycles:
    def test_a_position_with_a_resting_order(self, bot: Bot) -> None:
        bot.bought()
        resting = bot.rest("19500")
        bot.venue.fill(resting.venue_id or "", "0.0004", "19500")
        bot.deliver()
        before = known(bot.store)
        new = emptied(bot)
        restored(new)
        after = known(new.store)
        assert after["cycles"] == before["cycles"] and after["orders"] == before["orders"]
        assert (new.cycle.status, new.cycle.latest_order_id) == ("buying", resting.venue_id)
        assert new.order(resting.key).status == "partial"

    def test_a_cooldown_that_is_not_over(self, bot: Bot) -> None:
        bot.act("20000")
        bot.clock.move(61)
        bot.act("21000")
        assert bot.cycle.status == "cooldown"
        new = emptied(bot)
        restored(new)
        assert (new.cycle.status, new.cycle.previous_completed_at) == ("cooldown", bot.clock.now())
        assert new.cycle.id == 2 and new.asset.last_sell_price == bot.asset.last_sell_price == 21_000

    def test_a_cooldown_that_passed_meanwhile(self, bot: Bot) -> None:
        bot.act("20000")
        bot.clock.move(61)
        bot.act("21000")
        bot.clock.move(61)
        new = emptied(bot)
        restored(new)
        assert new.cycle.status == "watching"

    def test_numbers_of_new_cycles_are_above_every_key(self, bot: Bot) -> None:
        bot.act("20000")
        bot.price("20000")
        bot.by_hand("buy", "0.001", "19000", order_key(bot.store.install, 40, Purpose.BASE, 0, 1))
        new = emptied(bot)
        restored(new)
        assert [(one.id, one.status) for one in new.cycles] == [
            (1, CycleStatus.ERROR),
            (40, CycleStatus.BUYING),
        ]
        other = assets.add(new.store, new.clock, ETH, new.asset.rules)
        assert [one.id for one in new.cycles if one.asset_id == other.id] == [41]

    def test_a_cycle_whose_coins_were_gone_is_in_error(self, bot: Bot) -> None:
        bot.bought()
        bot.by_hand("sell", str(bot.cycle.quantity))
        repaired_once(bot, bot.consistency_checker())
        bot.clock.move(GRACE_S)
        bot.act("20000")
        new = emptied(bot)
        restored(new)
        assert [str(one.status) for one in new.cycles] == [str(one.status) for one in bot.cycles]
        assert new.store.read(lambda tx: tx.owned(1)) == bot.store.read(lambda tx: tx.owned(1))

    def test_numbers_that_the_new_database_gave_to_others_are_free_again(self, bot: Bot) -> None:
        """The assets were added in another order, so the first cycle is another asset's."""
        bot.bought()
        store = MemoryStore(bot.store.install)
        venue = bot.venue
        venue.instruments_[ETH] = replace(BTC, symbol=ETH)
        for symbol in (ETH, SYMBOL):
            assets.add(store, bot.clock, symbol, rules())
        new = Bot(store, venue)
        restored(new)
        assert new.cycle.id == 1 and new.cycle.quantity == bot.cycle.quantity
        assert [(one.id, one.status) for one in new.cycles] == [(1, "watching"), (3, "watching")]

    def test_a_fee_that_is_not_measured_yet(self, bot: Bot) -> None:
        bot.act("20000", deliver=False)
        bot.deaf()
        bot.venue.coins[SYMBOL] += D("0.000001")
        new = emptied(bot)
        restored(new)
        assert new.cycle.quantity == bot.venue.coins[SYMBOL]

    def test_coins_of_a_person_stay_his(self, bot: Bot) -> None:
        bot.bought()
        bot.venue.coins[SYMBOL] += D("0.5")
        new = emptied(bot)
        restored(new)
        assert abs(new.cycle.quantity - bot.cycle.quantity) <= D("0.000000001")

    def test_attempts_that_the_venue_never_saw_leave_no_key_twice(
        self, bot: Bot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = bot.rest("20000")
        new_key = first.key.removesuffix("1") + "7"
        bot.venue.cancel(first.venue_id or "")
        bot.by_hand("buy", "0.001", "19000", new_key)
        bot.venue.cancel(bot.venue._keys[new_key])
        bot.deaf()
        new = emptied(bot)
        restored(new)
        new.store.write(lambda tx: tx.drop_mode(SOURCE))
        new.act("20000")
        assert new.venue.submitted[-1].key == first.key.removesuffix("1") + "8"


class TestBackups:
    """The database is an old one: it knows some, and what it knows stays."""

    def test_nothing_differs(self, bot: Bot) -> None:
        bot.bought()
        rows = bot.rows()
        assert restored(bot) == []
        assert bot.rows() == rows
        assert bot.store.read(lambda tx: tx.modes()) == []

    def test_a_fill_and_an_order_that_it_lacks(self, bot: Bot) -> None:
        resting = bot.rest("20000")
        bot.venue.fill(resting.venue_id or "")
        bot.deaf()
        found = restored(bot)
        assert f"order {resting.key}: status" in found and "cycle 1 BTC/USD: quantity" in found
        assert bot.order(resting.key).status == "filled"
        assert bot.cycle.quantity == bot.venue.coins[SYMBOL]
        (mode,) = bot.store.read(lambda tx: tx.modes())
        assert (mode.source, mode.mode) == (SOURCE, Mode.REDUCE_ONLY)
        assert "dca resume" in mode.reason

    def test_an_order_in_flight_is_left_to_who_settles_it(
        self, bot: Bot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bot.bought()
        monkeypatch.setattr(bot.venue, "submit", lambda wish: (_ for _ in ()).throw(OSError))
        with pytest.raises(OSError):
            bot.act("19500")
        rows = bot.rows()
        (line,) = [line for plan in rebuild(bot).plans() for line in plan.lines]
        assert (line.here, line.venue) == ("in_flight", "not there")
        rebuild(bot).apply(rebuild(bot).plans())
        assert bot.rows() == rows

    def test_a_finished_cycle_is_history(self, bot: Bot) -> None:
        bot.act("20000")
        bot.clock.move(61)
        bot.act("21000")
        sold = bot.store.read(lambda tx: tx.orders())[-1]
        order = bot.venue.orders[sold.venue_id or ""]
        bot.venue.orders[order.venue_id] = replace(order, filled_qty=order.filled_qty + 1)
        rows = bot.rows()
        work = rebuild(bot)
        (line,) = [line for plan in work.plans() for line in plan.lines]
        assert "its cycle is finished" in line.here
        work.apply(work.plans())
        assert bot.rows() == rows

    def test_a_cycle_of_another_asset_is_refused(self, bot: Bot) -> None:
        bot.bought()
        bot.venue.instruments_[ETH] = replace(BTC, symbol=ETH)
        assets.add(bot.store, bot.clock, ETH, bot.asset.rules)
        for venue_id, order in list(bot.venue.orders.items()):
            bot.venue.orders[venue_id] = replace(order, symbol=ETH)
        with pytest.raises(ConfigError, match="another asset in the database"):
            rebuild(bot).plans()


def test_an_asset_that_is_missing_is_named() -> None:
    bot = lived(1, steps=20)
    with pytest.raises(ConfigError, match=r"orders of ETH/USD, of which .* no asset.*asset add"):
        rebuild(emptied(bot)).plans()


def test_two_symbols_in_one_cycle_are_refused() -> None:
    bot = lived(1, steps=20)
    first = next(iter(bot.venue.orders.values()))
    bot.venue.orders[first.venue_id] = replace(first, symbol=ETH if first.symbol == SYMBOL else SYMBOL)
    cycles = {order.key.split("-")[1] for order in bot.venue.orders.values()}
    assert cycles
    if (
        len([one for one in bot.venue.orders.values() if one.key.split("-")[1] == first.key.split("-")[1]])
        > 1
    ):
        with pytest.raises(ConfigError, match="only a person can sort out"):
            rebuild(emptied(bot, ETH)).plans()


@pytest.mark.parametrize("read", ["orders_since", "executions", "holding"])
def test_half_a_view_restores_nothing(monkeypatch: pytest.MonkeyPatch, read: str) -> None:
    bot = lived(2, steps=40)
    new = emptied(bot, ETH)
    rows = new.rows()

    def fail(*_: object) -> None:
        raise Unavailable("500")

    monkeypatch.setattr(new.venue, read, fail)
    with pytest.raises(Unavailable):
        rebuild(new).plans()
    assert new.rows() == rows


def test_a_long_history_waits_for_what_may_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    bot = lived(2, steps=40)
    new = emptied(bot, ETH)
    executions, refused = new.venue.executions, iter([True, True, False, True])
    waited: list[float] = []

    def busy(venue_id: str) -> Any:
        if next(refused, False):
            raise Unavailable("the request budget is used up")
        return executions(venue_id)

    monkeypatch.setattr(new.venue, "executions", busy)
    work = Rebuild(new.store, new.venue, new.clock, FeeRates(), new.store.install, waited.append)
    work.apply(work.plans())
    assert waited == [5.0, 5.0, 5.0]
    assert known(new.store)["fills"] == known(bot.store)["fills"]


def test_it_may_be_killed_between_any_two_transactions_and_repeated() -> None:
    bot = lived(3, steps=60)
    wanted = known(bot.store)

    class Death(BaseException):
        pass

    def killed(after: int) -> Callable[[Any], Any]:
        left = iter(range(after))

        def write(work: Any) -> Any:
            if next(left, None) is None:
                raise Death
            return MemoryStore.write(new.store, work)  # type: ignore[arg-type]

        return write

    for after in range(1, 40):
        new = emptied(bot, ETH)
        work = rebuild(new)
        plans = work.plans()
        new.store.write = killed(after)  # type: ignore[method-assign]
        try:
            work.apply(plans)
            break
        except Death:
            pass
        del new.store.write
        # Cron goes on meanwhile.
        new.run(new.asset_caretaker())
        restored(new)
        assert known(new.store)["cycles"] == wanted["cycles"], after
    assert after > 5


def test_whoever_writes_meanwhile_is_not_overwritten(bot: Bot) -> None:
    resting = bot.rest("20000")
    bot.venue.fill(resting.venue_id or "", "0.0004")
    bot.deaf()
    work = rebuild(bot)
    plans = work.plans()
    moved = replace(bot.cycle, stop_price=D(1))
    bot.store.write(lambda tx: tx.update_cycle(moved))
    with pytest.raises(StaleWrite):
        work.apply(plans)
    plans = work.plans()
    bot.catch_up.everything()
    with pytest.raises(StaleWrite):
        work.apply(plans)
    assert restored(bot) == []


def test_installations_are_counted() -> None:
    bot = lived(1, steps=20)
    ours = len(bot.venue.orders)
    bot.by_hand("buy", "0.001", "19000", "dcaffffffff-c1-base-0-1")
    bot.by_hand("buy", "0.001", "19000")
    assert installations(bot.venue.orders_since(T0)) == {bot.store.install: ours, "ffffffff": 1}


def test_an_empty_database_goes_on_as_the_installation_that_was_lost(database_url: str) -> None:
    carry_on(database_url, "0badcafe")
    store = SqlStore(database_url)
    assert store.install == "0badcafe"
    bot = Bot(store)
    bot.rest()
    store.close()
    with pytest.raises(ConfigError, match="has orders of the installation 0badcafe"):
        carry_on(database_url, "12345678")
    carry_on(database_url, "0badcafe")
    with pytest.raises(ConfigError, match="eight hex digits"):
        carry_on(database_url, "xyz")


def test_the_whole_way_on_a_real_database(database_url: str) -> None:
    bot = lived(5, steps=60)
    before = known(bot.store)
    carry_on(database_url, bot.store.install)
    store = SqlStore(database_url)
    new = emptied(bot, ETH, store=store)
    restored(new)
    assert known(store) == before
    last = assets.add(store, new.clock, "SOL/USD", new.asset.rules)
    numbers = {one.asset_id: one.id for one in new.cycles}
    assert numbers[last.id] == max(numbers.values()) > max(before["cycles"])
    store.close()
