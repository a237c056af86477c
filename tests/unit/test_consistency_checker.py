"""Books and venue differ: what was missed is booked, what is stuck goes on, the rest a person decides."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal as D
from typing import Any

import databases
import pytest
from build import T0, asset, at, cycle, fill, intent, order
from caretakers import GRACE_S, SYMBOL, Bot, Failing, repaired_once
from sqlalchemy import delete, insert, select, text

from dca.adapters.db.store import SqlStore
from dca.adapters.db.tables import cycles as cycle_rows
from dca.adapters.db.tables import metadata
from dca.adapters.memory import MemoryStore
from dca.domain.asset import Asset
from dca.domain.cycle import CycleStatus
from dca.domain.errors import StaleWrite, StoreUnavailable
from dca.domain.money import plain
from dca.domain.order import Purpose, order_key
from dca.ports import CycleRecord, Holding, Store
from dca.service import adoption, assets, cycles
from dca.service.caretakers.consistency_checker import ConsistencyChecker, Sides, View

BASE = intent("base")
BOUGHT = [fill(BASE, "0.001")]


@pytest.fixture
def bot(any_store: Store) -> Bot:
    return Bot(any_store)


@pytest.fixture
def sql(store: SqlStore) -> Bot:
    """A bot whose rows can be edited by hand."""
    return Bot(store)


def edit(bot: Bot, *statements: str) -> None:
    """A person's own SQL, with nothing of ours in between."""
    assert isinstance(bot.store, SqlStore)
    with bot.store._writers.begin() as connection:
        off = (
            "PRAGMA foreign_keys = OFF"
            if connection.dialect.name == "sqlite"
            else "SET foreign_key_checks = 0"
        )
        on = (
            "PRAGMA foreign_keys = ON"
            if connection.dialect.name == "sqlite"
            else "SET foreign_key_checks = 1"
        )
        for statement in (off, *statements, on):
            connection.execute(text(statement))


# What is planned


@pytest.mark.parametrize(
    ("owned", "held", "accepted", "unexplained", "left"),
    [
        ("1", "1", "0", "0", "0"),
        ("1", "0.4", "0", "-0.6", "0"),
        ("1", "1.4", "0", "0.4", "0"),
        ("1", "1.4", "0.4", "0", "0.4"),
        ("1", "1.5", "0.4", "0.1", "0.4"),
        # A person's own coins leave first.
        ("1", "1.3", "0.4", "0", "0.3"),
        ("1", "1", "0.4", "0", "0"),
        ("1", "0.9", "0.4", "-0.1", "0"),
        ("0", "0.4", "0", "0.4", "0"),
    ],
)
def test_whose_coins_differ(owned: str, held: str, accepted: str, unexplained: str, left: str) -> None:
    record = CycleRecord(cycle(), [], [])
    sides = Sides(replace(asset(), accepted_difference=D(accepted)), record, D(owned), D(held))
    assert (sides.unexplained, sides.accepted) == (D(unexplained), D(left))
    assert sides.agree is (sides.unexplained == 0 and D(accepted) == D(left))


def held(**changes: Any) -> CycleRecord:
    """A cycle that bought 0.001 for 20 USD."""
    state: dict[str, Any] = {
        "quantity": D("0.001"), "average_purchase_price": D(20_000), "last_order_fill_price": D(20_000),
    }  # fmt: skip
    return CycleRecord(cycle(**{**state, **changes}), [order("filled", BASE, filled_qty=D("0.001"))], BOUGHT)


def planned(
    record: CycleRecord, coins: str, seconds: float = 60, one: Asset | None = None, **changes: Any
) -> Any:
    base: dict[str, Any] = {
        "assets": {1: one or asset()}, "records": {1: record}, "strays": [], "live": [],
        "owned": {1: record.cycle.quantity}, "listed": set(), "held": {SYMBOL: D(coins)}, "busy": set(),
        "prices": {SYMBOL: D(20_000)}, "forgotten": (),
    }  # fmt: skip
    grace = timedelta(seconds=GRACE_S)
    checker = ConsistencyChecker(None, None, None, None, None, grace)  # type: ignore[arg-type]
    return [(work.kind, work.subject) for work in checker.plan(View(**{**base, **changes}), at(seconds))]


COMPARE = [("compare", SYMBOL)]


@pytest.mark.parametrize(
    ("coins", "changes", "plan"),
    [
        ("0.001", {}, []),
        ("0", {}, COMPARE),
        ("0.0009", {}, COMPARE),
        ("0.0011", {}, COMPARE),
        # 0.00005 is worth a dollar.
        ("0.00095", {}, []),
        ("0.00094", {}, COMPARE),
        # Nothing is certain while anything moves.
        ("0", {"seconds": 59}, []),
        ("0", {"busy": {"BTCUSD"}}, []),
        ("0", {"busy": {"ETHUSD"}}, COMPARE),
        # A person is asked once.
        ("0", {"one": asset(halted_reason="a person must look")}, []),
        # What a person said is right is right, but only what he said.
        ("0.0011", {"one": replace(asset(), accepted_difference=D("0.0001"))}, []),
        ("0.0013", {"one": replace(asset(), accepted_difference=D("0.0001"))}, COMPARE),
        ("0.001", {"one": replace(asset(), accepted_difference=D("0.0001"))}, COMPARE),
        ("0.0009", {"one": asset(is_enabled=False)}, COMPARE),
        # Where the venue has no price, what ours cost is a price.
        ("0", {"prices": {}}, COMPARE),
    ],
)
def test_what_differs_is_compared(coins: str, changes: dict[str, Any], plan: list[Any]) -> None:
    assert planned(held(), coins, **changes) == plan


@pytest.mark.parametrize(("forgotten", "plan"), [((), []), ((SYMBOL,), COMPARE)])
def test_coins_beside_a_cycle_that_owns_nothing_matter_only_if_they_are_ours(
    forgotten: tuple[str, ...], plan: list[Any]
) -> None:
    assert planned(CycleRecord(cycle(), [], []), "0.5", forgotten=forgotten) == plan


def test_a_cycle_that_has_just_ended_is_not_quiet() -> None:
    fresh = CycleRecord(cycle("cooldown", previous_completed_at=at(0)), [], [])
    assert planned(fresh, "0.5", 59, forgotten=(SYMBOL,)) == []
    assert planned(fresh, "0.5", 60, forgotten=(SYMBOL,)) == COMPARE


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({}, False),
        ({"quantity": D("0.002")}, True),
        ({"average_purchase_price": D(1)}, True),
        ({"safety_orders": 1}, True),
        ({"last_order_fill_price": None}, True),
        ({"latest_order_id": "v-9", "latest_order_created_at": T0}, True),
        ({"status": "buying"}, True),
        ({"status": "selling"}, True),
        ({"status": "trailing", "highest_trailing_price": D(20_500)}, False),
    ],
)
def test_columns_are_held_against_the_fills(changes: dict[str, Any], differs: bool) -> None:
    state = held(status=changes.pop("status", "watching"), **changes)
    kinds = [kind for kind, _ in planned(state, "0.001", owned={1: D("0.001")})]
    assert kinds == (["refold"] if differs else [])


def test_a_cycle_that_trails_nothing_watches() -> None:
    nothing = CycleRecord(cycle("trailing", highest_trailing_price=D(1)), [], [])
    assert planned(nothing, "0") == [("refold", "cycle 7")]


# (1) A cycle waits for an order that is not live


class TestWaiting:
    def test_a_cycle_that_names_an_order_nobody_knows_watches_again(self, sql: Bot) -> None:
        edit(sql, "UPDATE dca_cycles SET status = 'buying', latest_order_id = 'made-up'")
        report = repaired_once(sql, sql.consistency_checker())
        assert [one.kind for one in report.planned] == ["refold"]
        assert (sql.cycle.status, sql.cycle.latest_order_id) == ("watching", None)

    @pytest.mark.parametrize("filled", [None, "0.0004"])
    def test_what_its_order_filled_is_booked_before_it_watches_again(
        self, bot: Bot, filled: str | None
    ) -> None:
        resting = bot.rest()
        assert resting.venue_id is not None
        bot.venue.fill(resting.venue_id, filled)
        if filled:
            bot.venue.cancel(resting.venue_id)
        bot.deaf()
        # The venue took less than the highest rate.
        bot.venue.coins[SYMBOL] += D("0.0000005")
        bot.clock.move(GRACE_S)
        report = repaired_once(bot, bot.consistency_checker())
        assert [one.kind for one in report.planned] == ["settle"]
        assert (bot.cycle.status, bot.cycle.quantity) == ("watching", bot.venue.coins[SYMBOL])
        assert bot.order(resting.key).status == ("canceled" if filled else "filled")
        assert bot.order(resting.key).filled_qty == (D(filled) if filled else resting.intent.qty)

    def test_an_order_that_the_venue_forgot_is_canceled(self, bot: Bot) -> None:
        """A paper account that was reset knows nothing any more."""
        resting = bot.rest()
        bot.venue.orders.clear()
        bot.venue._keys.clear()
        bot.clock.move(GRACE_S - 1)
        assert bot.run(bot.consistency_checker()).planned == []
        bot.clock.move(1)
        repaired_once(bot, bot.consistency_checker())
        assert (bot.order(resting.key).status, bot.cycle.status) == ("canceled", "watching")

    def test_past_the_grace_and_only_if_no_list_has_it(
        self, bot: Bot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        resting = bot.rest()
        # A lookup that lags behind finds nothing, though the list does.
        bot.venue._keys.clear()
        bot.clock.move(GRACE_S)
        assert not bot.catch_up.order(resting.key).changed
        orders = bot.venue.orders.copy()
        bot.venue.orders.clear()
        with monkeypatch.context() as patch:
            patch.setattr(bot.clock, "now", lambda: resting.asked_at + timedelta(seconds=GRACE_S - 1))
            assert not bot.catch_up.order(resting.key).changed
        assert bot.catch_up.order(resting.key).ended
        assert len(orders) == 1

    def test_an_order_that_only_the_list_lacks_stays(self, bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
        resting = bot.rest()
        bot.clock.move(GRACE_S)
        monkeypatch.setattr(bot.venue, "open_orders", list)
        report = bot.run(bot.consistency_checker())
        assert report.notes == {resting.key: "the venue shows nothing new"}
        assert (bot.order(resting.key).status, bot.cycle.status) == ("open", "buying")


# (2) The position is gone


class TestGone:
    @pytest.fixture(autouse=True)
    def bought(self, bot: Bot) -> None:
        bot.bought()

    def test_the_cycle_ends_in_error_and_a_fresh_one_watches(self, bot: Bot) -> None:
        lost = bot.cycle
        bot.by_hand("sell", str(lost.quantity))
        repaired_once(bot, bot.consistency_checker())
        ended, fresh = bot.cycles
        assert (ended.status, ended.completed_at) == ("error", bot.clock.now())
        assert (fresh.status, fresh.quantity, fresh.safety_orders, fresh.latest_order_id) == (
            "watching",
            0,
            0,
            None,
        )
        assert bot.store.read(lambda tx: tx.owned(1)) == 0, "its coins are gone"
        assert ended.quantity == lost.quantity, "the row still says what was lost"
        assert len(bot.events("error_cycle")) == 1
        assert list(bot.messages()) == ["started:c1", "error:c1"]
        assert "gone from the venue" in bot.messages()["error:c1"]

    def test_the_bot_goes_on_trading(self, bot: Bot) -> None:
        bot.by_hand("sell", str(bot.cycle.quantity))
        bot.run(bot.consistency_checker())
        bot.act("20000")
        bot.act("21000")
        assert [str(one.status) for one in bot.cycles] == ["error", "complete", "cooldown"]

    def test_accepted_coins_are_gone_too(self, bot: Bot) -> None:
        bot.venue.coins[SYMBOL] += D("0.5")
        adoption.resume(bot.store, bot.clock, bot.venue, SYMBOL)
        assert bot.asset.accepted_difference == D("0.5")
        bot.venue.coins[SYMBOL] = D(0)
        repaired_once(bot, bot.consistency_checker())
        assert (bot.cycles[0].status, bot.asset.accepted_difference) == ("error", 0)

    def test_not_while_anything_of_ours_is_live(self, bot: Bot) -> None:
        bot.rest("19000")
        bot.venue.coins[SYMBOL] = D(0)
        bot.clock.move(GRACE_S)
        assert bot.kinds(bot.consistency_checker()) == []

    def test_not_when_our_own_sale_explains_it(self, bot: Bot) -> None:
        bot.act("21000", deliver=False)
        bot.deaf()
        bot.clock.move(GRACE_S)
        repaired_once(bot, bot.consistency_checker())
        assert [str(one.status) for one in bot.cycles] == ["complete", "cooldown"]
        assert "error_cycle" not in bot.events()

    @pytest.mark.parametrize("moves", ["the venue says otherwise", "an order was journaled"])
    def test_not_on_the_strength_of_one_look(
        self, bot: Bot, moves: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        coins = bot.venue.coins[SYMBOL]
        bot.venue.coins[SYMBOL] = D(0)
        checker = bot.consistency_checker()
        (repair,) = checker.plan(checker.look(), bot.clock.now())
        original = bot.venue.holding
        reads = []

        def changing(symbol: str) -> Holding:
            reads.append(symbol)
            if moves == "the venue says otherwise" and len(reads) == 2:
                bot.venue.coins[SYMBOL] = coins / 2
            if moves == "an order was journaled" and len(reads) == 1:
                wish = intent(
                    "take_profit", cycle_id=1, key=order_key(bot.store.install, 1, Purpose.TAKE_PROFIT, 0, 9)
                )
                assert bot.store.write(lambda tx: tx.insert_order(order("in_flight", wish)))
            return original(symbol)

        monkeypatch.setattr(bot.venue, "holding", changing)
        assert checker.mend(repair) == "it trades; the next pass looks again"
        assert [str(one.status) for one in bot.cycles] == ["watching"]

    def test_a_cycle_that_trades_does_not_end(self, bot: Bot) -> None:
        """An order journaled after the last look, and before the end is written."""
        bot.rest("19000")
        with pytest.raises(StaleWrite, match="trades"):
            cycles.fail(bot.store, bot.clock, bot.brief().situation, "gone", {})
        assert [str(one.status) for one in bot.cycles] == ["buying"]

    def test_two_that_saw_the_same_end_it_once(self, bot: Bot) -> None:
        bot.venue.coins[SYMBOL] = D(0)
        one, two = bot.consistency_checker(), bot.consistency_checker()
        (first,), (second,) = (each.plan(each.look(), bot.clock.now()) for each in (one, two))
        assert one.mend(first) is None
        assert two.mend(second) == "books and venue agree by now"
        assert [str(one.status) for one in bot.cycles] == ["error", "watching"]


# (3) The quantities differ


class TestDifference:
    @pytest.fixture
    def bot(self) -> Bot:
        return Bot(MemoryStore())

    @pytest.fixture(autouse=True)
    def bought(self, bot: Bot) -> None:
        bot.bought()

    def test_a_part_that_a_person_sold_halts_the_asset_and_says_what_to_type(self, bot: Bot) -> None:
        bot.by_hand("sell", "0.0006")
        repaired_once(bot, bot.consistency_checker())
        reason = bot.asset.halted_reason or ""
        assert "0.0006 worth 12.00 USD are missing" in reason and f"dca asset adopt {SYMBOL}" in reason
        event = bot.store.read(lambda tx: tx.events(name="asset_halted"))[0]
        owned = plain(bot.cycle.quantity)
        assert event.data == {
            "books": owned, "venue": plain(D(owned) - D("0.0006")), "accepted": "0", "difference": "-0.0006",
            "worth_usd": "12.00",
        }  # fmt: skip
        assert [name for name in bot.messages() if name.startswith("halted")] == ["halted:a1-v2"]
        assert (bot.cycle.status, len(bot.cycles)) == ("watching", 1)

    def test_coins_that_nobody_knows_halt_it_too(self, bot: Bot) -> None:
        bot.venue.coins[SYMBOL] += D("0.5")
        repaired_once(bot, bot.consistency_checker())
        reason = bot.asset.halted_reason or ""
        assert "0.5 worth 10000.00 USD are not in the books" in reason
        assert f"dca asset resume {SYMBOL}" in reason

    def test_a_fill_after_the_cancel_explains_it(self, bot: Bot) -> None:
        safety = bot.rest("19000")
        bot.venue.cancel(safety.venue_id or "")
        bot.deliver()
        bot.venue.fill(safety.venue_id or "", price="19000")
        bot.deaf()
        bot.clock.move(GRACE_S)
        bot.price("19000")
        repaired_once(bot, bot.consistency_checker())
        assert (bot.order(safety.key).status, bot.cycle.safety_orders) == ("filled", 1)
        assert bot.asset.halted_reason is None
        bot.clock.move(GRACE_S)
        assert repaired_once(bot, bot.consistency_checker()).planned == []

    def test_a_fee_that_was_not_measured_explains_it(self, bot: Bot) -> None:
        """The position knows of it alone, so it is measured before anything is concluded."""
        rich = replace(bot.asset.rules, base_order_amount=D(5000), safety_order_amount=D(5000))
        assets.add(bot.store, bot.clock, "ETH/USD", rich)
        venue = bot.venue
        venue.instruments_["ETH/USD"] = replace(venue.instruments_[SYMBOL], symbol="ETH/USD")
        venue._books["ETH/USD"] = type(venue._books[SYMBOL])()
        bot.trader.instruments = venue.instruments()
        bot.act("20000", "ETH/USD", deliver=False)
        for update in venue.updates:
            bot.recorder.record(update.order, [update.execution] if update.execution else [], source="test")
        venue.coins["ETH/USD"] += D("0.0002")
        bot.clock.move(GRACE_S)
        bot.price("20000", "ETH/USD")
        report = repaired_once(bot, bot.consistency_checker())
        assert [one.subject for one in report.planned] == ["ETH/USD"]
        found = bot.brief("ETH/USD")
        assert found.cycle is not None and found.cycle.quantity == venue.coins["ETH/USD"]

    def test_accepted_coins_that_a_person_took_are_accepted_no_longer(self, bot: Bot) -> None:
        bot.venue.coins[SYMBOL] += D("0.5")
        adoption.resume(bot.store, bot.clock, bot.venue, SYMBOL)
        assert repaired_once(bot, bot.consistency_checker()).planned == []
        bot.venue.coins[SYMBOL] -= D("0.3")
        repaired_once(bot, bot.consistency_checker())
        assert (bot.asset.accepted_difference, bot.asset.halted_reason) == (D("0.2"), None)
        assert bot.events("accepted_lowered") == ["0.2 of the accepted 0.5 are left"]

    def test_a_person_who_adopts_ends_it(self, bot: Bot) -> None:
        bot.by_hand("sell", "0.0006")
        bot.run(bot.consistency_checker())
        adoption.adopt(bot.store, bot.clock, bot.recorder, bot.venue, SYMBOL)
        bot.clock.move(GRACE_S)
        assert repaired_once(bot, bot.consistency_checker()).planned == []
        assert bot.asset.halted_reason is None


def test_a_halt_and_what_is_accepted_are_stored(bot: Bot) -> None:
    bot.bought()
    bot.venue.coins[SYMBOL] += D("0.5")
    repaired_once(bot, bot.consistency_checker())
    assert "0.5 worth 10000.00 USD are not in the books" in (bot.asset.halted_reason or "")
    adoption.resume(bot.store, bot.clock, bot.venue, SYMBOL)
    bot.venue.coins[SYMBOL] -= D("0.3")
    repaired_once(bot, bot.consistency_checker())
    assert (bot.asset.accepted_difference, bot.asset.halted_reason) == (D("0.2"), None)


def test_coins_of_somebody_else_beside_a_flat_cycle_are_left_alone(bot: Bot) -> None:
    bot.price("20000")
    bot.venue.coins[SYMBOL] = D("0.5")
    assert repaired_once(bot, bot.consistency_checker()).planned == []
    bot.act("20000")
    assert bot.venue.submitted == [], "the trader buys nothing beside them"


# A database that was restored from a backup


class TestRestored:
    """What the bot did after the backup is taken out of the database again, not out of the venue."""

    def backup(self, bot: Bot) -> Callable[[], Bot]:
        """The way back to the rows of this moment."""
        put_back = _kept(bot.store)

        def restore() -> Bot:
            bot.deaf()
            put_back()
            bot.clock.move(GRACE_S)
            bot.price("20000")
            return bot

        return restore

    def settled(self, bot: Bot) -> None:
        """Passes until nothing is left to do, as cron would make them."""
        for _ in range(5):
            bot.run(bot.consistency_checker())
            bot.run(bot.cooldown_manager())
            bot.clock.move(GRACE_S)
            bot.price("20000")
        assert bot.kinds(bot.consistency_checker()) == []
        assert bot.asset.halted_reason is None
        assert bot.store.read(lambda tx: tx.owned(1)) == bot.venue.coins[SYMBOL]

    def test_a_forgotten_base_order_is_ours_again(self, bot: Bot) -> None:
        restore = self.backup(bot)
        bot.bought()
        self.settled(restore())
        assert bot.cycle.quantity == bot.venue.coins[SYMBOL] > 0
        assert len(bot.events("order_restored")) == 1

    def test_a_forgotten_safety_order_is_ours_again(self, bot: Bot) -> None:
        bot.bought()
        restore = self.backup(bot)
        bot.act("19500")
        bot.act("19000")
        self.settled(restore())
        assert bot.cycle.safety_orders == 2

    def test_a_forgotten_sale_completes_the_cycle(self, bot: Bot) -> None:
        bot.bought()
        restore = self.backup(bot)
        bot.act("19500")
        bot.act("21000")
        self.settled(restore())
        assert [str(one.status) for one in bot.cycles] == ["complete", "watching"]
        assert bot.cycles[0].safety_orders == 1

    def test_forgotten_cycles_are_lived_again(self, bot: Bot) -> None:
        restore = self.backup(bot)
        bot.bought()
        bot.act("21000")
        bot.clock.move(61)
        bot.price("20000")
        bot.act("20000")
        bot.act("20000")
        assert len(bot.cycles) == 2 and bot.cycle.quantity > 0
        self.settled(restore())
        assert [str(one.status) for one in bot.cycles] == ["complete", "watching"]
        assert bot.cycle.quantity == bot.venue.coins[SYMBOL] > 0

    def test_a_forgotten_cycle_that_rested_at_the_backup_is_lived_again(self, bot: Bot) -> None:
        bot.bought()
        bot.act("21000")
        restore = self.backup(bot)
        for bid in ("20000", "20000", "21000"):
            bot.clock.move(61)
            bot.price(bid)
            bot.act(bid)
        bot.clock.move(61)
        bot.act("20000")
        bot.act("20000")
        assert [str(one.status) for one in bot.cycles] == ["complete", "complete", "watching"]
        self.settled(restore())
        assert [str(one.status) for one in bot.cycles] == ["complete", "complete", "watching"]

    def test_an_order_of_another_asset_under_the_same_key_is_not_ours(self, bot: Bot) -> None:
        restore = self.backup(bot)
        bot.bought()
        restore()
        key = order_key(bot.store.install, 1, Purpose.BASE, 0, 1)
        found = bot.venue.find(key)
        assert found is not None
        bot.venue.orders[found.venue_id] = replace(found, symbol="ETH/USD")
        assert bot.run(bot.consistency_checker()).planned == []
        assert bot.cycle.quantity == 0


def _kept(store: Any) -> Callable[[], None]:
    """What puts every row back as it is now, and the numbers that are given next."""
    if not isinstance(store, SqlStore):
        kept = deepcopy(store._tables)
        return lambda: setattr(store, "_tables", deepcopy(kept))
    tables = [table for table in metadata.sorted_tables if table.name != "dca_install"]
    with store._writers.begin() as connection:
        rows = {
            table: [dict(row) for row in connection.execute(select(table)).mappings()] for table in tables
        }

    def put_back() -> None:
        with store._writers.begin() as connection:
            for table in reversed(tables):
                connection.execute(delete(table))
            for table in tables:
                if rows[table]:
                    connection.execute(insert(table), rows[table])
            last = max((row["id"] for row in rows[cycle_rows]), default=0)
            if connection.dialect.name == "sqlite":
                connection.execute(text(f"UPDATE sqlite_sequence SET seq = {last} WHERE name = 'dca_cycles'"))
            else:
                connection.execute(text(f"ALTER TABLE dca_cycles AUTO_INCREMENT = {last + 1}"))

    return put_back


# (4) Rows that somebody edited


class TestEdited:
    def test_a_quantity_is_folded_from_the_fills_again(self, sql: Bot) -> None:
        sql.bought()
        before = sql.cycle
        edit(sql, "UPDATE dca_cycles SET quantity = '5', safety_orders = 3, average_purchase_price = '1'")
        repaired_once(sql, sql.consistency_checker())
        assert replace(sql.cycle, version=0, updated_at=T0) == replace(before, version=0, updated_at=T0)
        event = sql.store.read(lambda tx: tx.events(name="cycle_refolded"))[0]
        assert event.data["safety_orders"] == {"before": 3, "after": 0}
        assert event.data["quantity"] == {"before": "5", "after": str(before.quantity)}

    @pytest.mark.parametrize("status", ["buying", "selling", "cooldown", "trailing"])
    def test_a_status_that_a_live_order_contradicts_is_put_right(self, sql: Bot, status: str) -> None:
        resting = sql.rest()
        edit(sql, f"UPDATE dca_cycles SET status = '{status}', latest_order_id = NULL")
        repaired_once(sql, sql.consistency_checker())
        assert (sql.cycle.status, sql.cycle.latest_order_id) == ("buying", resting.venue_id)

    def test_a_fill_that_was_deleted_is_fetched_again(self, sql: Bot) -> None:
        safety = self.half_filled(sql)
        edit(sql, f"DELETE FROM dca_fills WHERE order_key = '{safety.key}'")
        sql.clock.move(GRACE_S)
        repaired_once(sql, sql.consistency_checker())
        assert sql.store.read(lambda tx: tx.owned(1)) == sql.venue.coins[SYMBOL]
        assert sql.asset.halted_reason is None

    def half_filled(self, bot: Bot) -> Any:
        bot.bought()
        safety = bot.rest("19000")
        bot.venue.fill(safety.venue_id or "", "0.0005", "19000")
        bot.venue.cancel(safety.venue_id or "")
        bot.deliver()
        bot.catch_up.everything()
        bot.price("19000")
        return safety

    @pytest.mark.parametrize("status", ["error", "complete", "nonsense"])
    def test_a_cycle_ended_by_hand_leaves_its_place(self, sql: Bot, status: str) -> None:
        edit(sql, f"UPDATE dca_cycles SET status = '{status}'")
        assert sql.kinds(sql.asset_caretaker()) == []
        repaired_once(sql, sql.consistency_checker())
        assert (sql.brief().cycle, sql.cycles[0].completed_at) == (None, sql.clock.now())
        assert sql.asset.halted_reason is None
        assert repaired_once(sql, sql.asset_caretaker()).mended == 1
        assert sql.cycle.status == "cooldown"

    @pytest.mark.parametrize("status", ["error", "complete", "nonsense"])
    def test_one_that_held_coins_is_a_persons_to_decide(self, sql: Bot, status: str) -> None:
        assets.add(sql.store, sql.clock, "ETH/USD", sql.asset.rules)
        sql.bought()
        edit(sql, f"UPDATE dca_cycles SET status = '{status}' WHERE id = 1")
        repaired_once(sql, sql.consistency_checker())
        assert "was ended by hand while it held" in (sql.asset.halted_reason or "")
        other = sql.brief("ETH/USD")
        assert other.situation.asset.halted_reason is None, "others go on"

    def test_an_unfinished_cycle_takes_its_free_place(self, sql: Bot) -> None:
        sql.bought()
        edit(sql, "UPDATE dca_cycles SET open_slot = NULL")
        assert sql.kinds(sql.asset_caretaker()) == [], "a second one would be in the way"
        report = repaired_once(sql, sql.consistency_checker())
        assert [one.kind for one in report.planned] == ["give_place"]
        assert sql.cycle.quantity > 0

    def test_an_empty_one_beside_the_real_one_ends(self, sql: Bot) -> None:
        self.second(sql)
        report = repaired_once(sql, sql.consistency_checker())
        assert [one.kind for one in report.planned] == ["end_stray"]
        assert [(one.id, str(one.status)) for one in sql.cycles] == [(1, "watching"), (2, "error")]
        assert sql.cycles[1].completed_at is not None

    def test_one_with_fills_beside_the_real_one_halts_the_asset(self, sql: Bot) -> None:
        sql.bought()
        edit(sql, "UPDATE dca_cycles SET open_slot = NULL")
        sql.run(sql.asset_caretaker())
        edit(sql, "INSERT INTO dca_cycles (asset_id, status, quantity, average_purchase_price, safety_orders,"
                  " created_at, updated_at, version, open_slot) SELECT asset_id, 'watching', '0', '0', 0,"
                  " created_at, updated_at, 1, asset_id FROM dca_cycles WHERE id = 1")  # fmt: skip
        repaired_once(sql, sql.consistency_checker())
        assert "cycle 1 is unfinished beside another one" in (sql.asset.halted_reason or "")
        assert [str(one.status) for one in sql.cycles] == ["watching", "watching"]

    def test_of_several_without_a_place_the_one_with_fills_gets_it(self, sql: Bot) -> None:
        sql.bought()
        self.second(sql)
        edit(sql, "UPDATE dca_cycles SET open_slot = NULL")
        report = repaired_once(sql, sql.consistency_checker())
        assert [one.kind for one in report.planned] == ["give_place", "end_stray"]
        assert (sql.cycle.id, str(sql.cycles[1].status)) == (1, "error")

    def second(self, bot: Bot) -> None:
        edit(bot, "INSERT INTO dca_cycles (asset_id, status, quantity, average_purchase_price, safety_orders,"
                  " created_at, updated_at, version, open_slot) SELECT asset_id, 'watching', '0', '0', 0,"
                  " created_at, updated_at, 1, NULL FROM dca_cycles WHERE id = 1")  # fmt: skip

    def test_a_cycle_whose_asset_is_gone_ends(self, sql: Bot) -> None:
        sql.bought()
        assets.add(sql.store, sql.clock, "ETH/USD", sql.asset.rules)
        edit(sql, "DELETE FROM dca_assets WHERE id = 1")
        report = repaired_once(sql, sql.consistency_checker())
        assert [one.kind for one in report.planned] == ["end_lost"]
        (message,) = (one for one in sql.store.read(lambda tx: tx.messages()) if one.name == "error_cycle")
        assert "coins are yours to sell" in message.text
        assert [str(one.status) for one in sql.cycles] == ["error", "watching"]

    def test_a_cycle_that_changed_since_the_look_is_not_overwritten(self, sql: Bot) -> None:
        self.second(sql)
        checker = sql.consistency_checker()
        (repair,) = checker.plan(checker.look(), sql.clock.now())
        edit(sql, "UPDATE dca_cycles SET version = version + 1 WHERE id = 2")
        with pytest.raises(StaleWrite):
            checker.mend(repair)
        assert str(sql.cycles[1].status) == "watching"


# Half a view


def trouble(bot: Bot) -> None:
    """A cycle that waits for nothing, and a position that is gone."""
    bot.bought()
    safety = bot.rest("19000")
    bot.venue.cancel(safety.venue_id or "")
    bot.deaf()
    bot.clock.move(GRACE_S)
    bot.venue.coins[SYMBOL] = D(0)


@pytest.mark.parametrize("read", ["open_orders", "positions", "latest_quotes"])
def test_half_a_view_mends_nothing(read: str) -> None:
    bot = Bot(MemoryStore())
    trouble(bot)
    rows = bot.rows()
    failing = Failing(bot.venue, read)
    report = bot.run(Bot(bot.store, bot.venue, broker=failing).consistency_checker())  # type: ignore[arg-type]
    assert (report.result, report.exit_code, failing.failed) == ("unavailable", 75, 1)
    assert bot.rows() == rows


@pytest.mark.parametrize("read", ["find", "holding"])
def test_what_cannot_be_asked_is_not_concluded(read: str) -> None:
    bot = Bot(MemoryStore())
    bot.bought()
    bot.venue.coins[SYMBOL] = D(0)
    rows = bot.rows()
    report = bot.run(Bot(bot.store, bot.venue, broker=Failing(bot.venue, read)).consistency_checker())  # type: ignore[arg-type]
    assert (report.result, report.exit_code) == ("partly", 75)
    assert bot.rows() == rows


def test_without_the_database_nothing_is_done(bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
    trouble(bot)
    rows = bot.rows()

    def away(work: Any) -> Any:
        raise StoreUnavailable("gone away")

    with monkeypatch.context() as patch:
        patch.setattr(bot.store, "read", away)
        assert bot.run(bot.consistency_checker()).exit_code == 75
    assert bot.rows() == rows


def test_a_dry_run_changes_nothing(bot: Bot) -> None:
    trouble(bot)
    rows = bot.rows()
    report = bot.run(bot.consistency_checker(), dry_run=True)
    assert (report.result, [one.kind for one in report.planned]) == ("dry_run", ["settle"])
    assert bot.rows() == rows


def test_everything_that_went_wrong_at_once_is_right_after_two_passes(bot: Bot) -> None:
    trouble(bot)
    bot.run(bot.consistency_checker())
    bot.clock.move(GRACE_S)
    repaired_once(bot, bot.consistency_checker())
    assert [str(one.status) for one in bot.cycles] == ["error", "watching"]


@pytest.mark.parametrize(
    "name", ["order_manager", "cooldown_manager", "consistency_checker", "asset_caretaker"]
)
def test_a_pass_asks_the_database_as_often_however_much_there_is(store: SqlStore, name: str) -> None:
    bot = Bot(store)
    bot.bought()

    def asked() -> int:
        with databases.statements_noted() as statements:
            report = bot.run(getattr(bot, name)())
        assert (report.result, report.planned) == ("done", [])
        return len(statements)

    # The first pass writes rows of its own, its lease and its heartbeat.
    asked()
    before = asked()
    for number in range(12):
        assets.add(bot.store, bot.clock, f"COIN{number}/USD", bot.asset.rules)
    for _ in range(20):
        _another_cycle(bot)
    assert asked() == before


def _another_cycle(bot: Bot) -> None:
    """The cycle ended, and a fresh one watches; what it held was sold."""
    done = replace(bot.cycle, status=CycleStatus.COMPLETE, completed_at=T0, quantity=D(0))
    bot.store.write(lambda tx: (tx.update_cycle(done), tx.insert_cycle(1, CycleStatus.WATCHING, at=T0)))
    bot.venue.coins[SYMBOL] = D(0)
