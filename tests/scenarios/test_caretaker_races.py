"""Caretakers, streamers and people on the same rows of a real MariaDB: one effect per fact, no fill
lost, no row torn."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal as D
from pathlib import Path
from random import Random
from typing import Any

import pytest
from build import T0, rules
from caretakers import GRACE_S, SYMBOL, Bot, Venue, sim
from market import RULES, Market, offline
from settled import violations

from dca.adapters.clock import ManualClock
from dca.adapters.db.store import SqlStore
from dca.domain.cycle import CycleStatus
from dca.domain.errors import ConfigError, IllegalTransition, StaleWrite, Unmended
from dca.domain.market import Quote
from dca.domain.order import TradeUpdate
from dca.matching.book import Terms
from dca.service import adoption, assets
from dca.service.caretakers.runner import Caretaker

AT_ONCE = 8
SYMBOLS = ("BTC/USD", "ETH/USD", "SOL/USD")
MOST_ROUNDS = 2000
LOST = (StaleWrite, ConfigError)
"""What the loser of a race may hear."""


@pytest.fixture
def store(mariadb_url: str) -> Iterator[SqlStore]:
    opened = SqlStore(mariadb_url)
    yield opened
    opened.close()


def together(works: list[Callable[[], Any]]) -> list[Any]:
    """What each returned or raised, all of them begun at the same instant."""
    gate = threading.Barrier(len(works))

    def one(work: Callable[[], Any]) -> Any:
        gate.wait(10)
        try:
            return work()
        except LOST as error:
            return error

    with ThreadPoolExecutor(len(works)) as pool:
        return [future.result(30) for future in [pool.submit(one, work) for work in works]]


# Many hands on one row


class TestOneFact:
    """Eight that saw the same act at the same time, in rounds; after each exactly one has acted."""

    @pytest.fixture
    def bot(self, store: SqlStore) -> Bot:
        return Bot(store)

    def mended(self, bot: Bot, caretaker: Caretaker[Any, Any]) -> list[Any]:
        """What came of the one repair that is planned, mended by eight at once."""
        (repair,) = caretaker.plan(caretaker.look(), bot.clock.now())
        return together([lambda: caretaker.mend(repair)] * AT_ONCE)

    def test_a_cycle_is_begun_once(self, bot: Bot) -> None:
        for number in range(1, 11):
            ended = replace(bot.cycle, status=CycleStatus.ERROR, completed_at=bot.clock.now())
            bot.store.write(lambda tx: tx.update_cycle(ended))  # noqa: B023
            outcomes = self.mended(bot, bot.asset_caretaker())
            assert outcomes.count(None) == 1
            assert len(bot.cycles) == number + 1
            assert len(bot.events("cycle_begun")) == number

    def test_a_cycle_is_woken_once(self, bot: Bot) -> None:
        for number in range(1, 11):
            resting = replace(bot.cycle, status=CycleStatus.COOLDOWN, created_at=T0)
            bot.store.write(lambda tx: tx.update_cycle(resting))  # noqa: B023
            bot.clock.move(1000)
            outcomes = self.mended(bot, bot.cooldown_manager())
            assert outcomes.count(None) == 1
            assert len(bot.events("cycle_watching")) == number

    def test_a_position_that_is_gone_ends_its_cycle_once(self, bot: Bot) -> None:
        for number in range(1, 6):
            bot.act("20000")
            bot.clock.move(GRACE_S)
            bot.venue.coins[SYMBOL] = D(0)
            self.mended(bot, bot.consistency_checker())
            assert len(bot.events("error_cycle")) == number
            assert [str(one.status) for one in bot.cycles] == ["error"] * number + ["watching"]

    def test_a_difference_halts_once(self, bot: Bot) -> None:
        bot.act("20000")
        bot.venue.coins[SYMBOL] += D("0.5")
        bot.clock.move(GRACE_S)
        self.mended(bot, bot.consistency_checker())
        assert len(bot.events("asset_halted")) == 1
        assert sum(name.startswith("halted") for name in bot.messages()) == 1

    def test_a_difference_is_adopted_once(self, bot: Bot) -> None:
        bot.act("20000")
        for number in range(1, 4):
            bot.venue.coins[SYMBOL] += D("0.5")
            command = lambda: adoption.adopt(bot.store, bot.clock, bot.recorder, bot.venue, SYMBOL)  # noqa: E731
            outcomes = together([command] * AT_ONCE)
            assert sum(isinstance(one, str) for one in outcomes) == 1, outcomes
            assert len(bot.events("position_adopted")) == number
            assert bot.cycle.quantity == bot.venue.coins[SYMBOL]

    def test_columns_are_refolded_while_fills_arrive(self, bot: Bot) -> None:
        """A row edited by hand, folded anew by four, while four book its last fills."""
        for _ in range(5):
            order = bot.rest("20000")
            venue_id = order.venue_id or ""
            for part in ("0.0002", "0.0003", None):
                bot.venue.fill(venue_id, part)
            edited = replace(bot.cycle, quantity=D(9), safety_orders=3)
            bot.store.write(lambda tx: tx.update_cycle(edited))  # noqa: B023
            cycle_id = edited.id
            refold = lambda: bot.recorder.refold(cycle_id, "edited")  # noqa: B023, E731
            together([refold] * 4 + [lambda: bot.catch_up.order(order.key)] * 4)  # noqa: B023
            bot.deaf()
            bot.recorder.refold(cycle_id, "the last word")
            fills = [one for one in bot.store.read(lambda tx: tx.fills()) if one.order_key == order.key]
            assert [one.qty for one in fills] == [D("0.0002"), D("0.0003"), order.intent.qty - D("0.0005")]
            assert bot.cycle.quantity == bot.venue.coins[SYMBOL]
            assert (bot.cycle.safety_orders, bot.cycle.status) == (0, "watching")
            bot.catch_up.everything()
            bot.act("21000")
            bot.clock.move(61)
            bot.act("20000")

    def test_a_stuck_sell_is_sold_again_once(self, bot: Bot) -> None:
        bot.act("20000")
        bot.rest("21000")
        bot.clock.move(300)
        bot.price("21000")
        manager = bot.order_manager()
        (work,) = manager.plan(manager.look(), bot.clock.now())
        lock = threading.Lock()
        submit = bot.venue.submit

        def one_by_one(wish: Any) -> Any:
            with lock:
                return submit(wish)

        bot.venue.submit = one_by_one  # type: ignore[method-assign]

        def mend() -> Any:
            try:
                return manager.mend(work)
            except Unmended as error:
                return error

        together([mend] * AT_ONCE)
        bot.deliver()
        keys = [wish.key for wish in bot.venue.submitted if wish.side == "sell"]
        assert len(keys) == len(set(keys)) == 2
        assert [str(one.status) for one in bot.cycles] == ["complete", "cooldown"]


# Everybody at everything


class Shared(Venue):
    """A venue that serves one at a time, as the wire does."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.lock = threading.RLock()
        for name in (
            "submit", "cancel", "find", "open_orders", "executions", "positions", "holding", "quote",
            "latest_quote", "latest_quotes", "taken",
        ):  # fmt: skip
            setattr(self, name, self._alone(getattr(self, name)))

    def _alone(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            with self.lock:
                return method(*given)

        return call

    def taken(self) -> list[TradeUpdate]:
        """What the trade stream sends now."""
        updates, self.updates = self.updates, []
        return updates


class Crowd:
    """Two streamers and two of each caretaker, without any lease, on one database and one venue."""

    def __init__(self, url: str, seed: int) -> None:
        self.url = url
        self.random = Random(seed)
        clock = ManualClock(T0)
        known = sim(clock, *SYMBOLS).instruments_
        self.venue = Shared(clock, known, D(100_000), Random(seed), Terms(partial_rate=0.3))
        self.stores = [SqlStore(url) for _ in range(4)]
        quick = rules(cooldown_period=10, safety_order_deviation=D(1), take_profit_percent=D("0.8"))
        for symbol in SYMBOLS:
            assets.add(self.stores[0], clock, symbol, quick)
        self.bots = [Bot(store, self.venue) for store in self.stores]
        self.clock = clock
        self.stop = threading.Event()
        self.done: Counter[str] = Counter()
        self.prices = dict.fromkeys(SYMBOLS, 20_000.0)

    def market(self) -> None:
        """Time and prices move; without pause, so that nothing has time to settle."""
        self.clock.move(2)
        for symbol in SYMBOLS:
            self.prices[symbol] *= 1 + self.random.gauss(0, 0.006)
            bid = D(str(round(self.prices[symbol], 2)))
            self.venue.quote(Quote(symbol, bid, bid + 3, self.clock.now()))

    def streamer(self, bot: Bot, random: Random) -> None:
        symbol = random.choice(SYMBOLS)
        quote = self.venue.latest_quote(symbol)
        bot.trader.act(bot.brief(symbol), quote, before=quote)
        updates = self.venue.taken()
        random.shuffle(updates)
        for update in updates:
            if random.random() < 0.3:
                continue
            executions = () if update.execution is None else (update.execution,)
            for _ in range(random.choice([1, 2])):
                result = bot.recorder.record(update.order, executions, source=update.event)
            if result.ended and result.order is not None:
                bot.catch_up.fees(result.order.intent.cycle_id)
        if random.random() < 0.03:
            bot.catch_up.everything()

    def carer(self, bot: Bot, random: Random) -> None:
        caretaker: Caretaker[Any, Any] = random.choice(
            [bot.order_manager, bot.cooldown_manager, bot.consistency_checker, bot.asset_caretaker]
        )()
        for repair in caretaker.plan(caretaker.look(), self.clock.now()):
            try:
                caretaker.mend(repair)
                self.done[repair.kind] += 1
            except (StaleWrite, Unmended):
                self.done["beaten"] += 1

    def work(self, cycles: int) -> None:
        """Everybody is at it until so many cycles are complete, and caretakers won and lost races."""
        self.market()
        roles = [self.streamer, self.streamer, self.carer, self.carer]

        def loop(role: Callable[[Bot, Random], None], bot: Bot, random: Random) -> None:
            while not self.stop.is_set():
                try:
                    role(bot, random)
                except IllegalTransition as error:
                    raise AssertionError("a state that no table allows") from error

        with ThreadPoolExecutor(len(roles)) as pool:
            running = [
                pool.submit(loop, role, bot, Random(number))
                for number, (role, bot) in enumerate(zip(roles, self.bots, strict=True))
            ]
            try:
                for number in range(MOST_ROUNDS):
                    self.market()
                    enough = number % 50 == 0 and self.finished() >= cycles
                    if any(one.done() for one in running) or (enough and self.raced()):
                        break
                    self.stop.wait(0.01)
            finally:
                self.stop.set()
            for one in running:
                one.result(60)

    def raced(self) -> bool:
        return self.done["beaten"] > 0 and self.done["settle"] > 0

    def finished(self) -> int:
        return sum(one.finished for one in self.stores[0].read(lambda tx: tx.cycles()))

    def settle(self) -> None:
        """A quiet while, in which one of each goes on."""
        bot = self.bots[0]
        for _ in range(12):
            self.clock.move(GRACE_S)
            for symbol, price in self.prices.items():
                bid = D(str(round(price, 2)))
                self.venue.quote(Quote(symbol, bid, bid + 3, self.clock.now()))
            bot.catch_up.everything()
            for make in (bot.order_manager, bot.cooldown_manager, bot.consistency_checker):
                report = bot.run(make())
                assert report.failed == 0, report.notes

    def close(self) -> None:
        for store in self.stores:
            store.close()


def test_streamers_and_caretakers_on_the_same_rows_lose_and_double_nothing(mariadb_url: str) -> None:
    crowd = Crowd(mariadb_url, seed=1)
    try:
        crowd.work(cycles=12)
        crowd.settle()
        store = crowd.stores[0]
        assert violations(store, crowd.venue) == []
        finished = [one for one in store.read(lambda tx: tx.cycles()) if one.finished]
        assert len(finished) >= 12, "they must trade, or it proves nothing"
        assert crowd.raced(), crowd.done
        completed = store.read(lambda tx: tx.events(limit=100_000, name="cycle_completed"))
        assert Counter(one.cycle_id for one in completed) == {one.id: 1 for one in finished}
        told = [one.key for one in store.read(lambda tx: tx.messages()) if one.name == "take_profit"]
        assert sorted(told) == sorted(f"completed:c{one.id}" for one in finished)
    finally:
        crowd.close()


def test_scripts_that_cron_starts_twice_do_not_get_in_each_others_way(
    mariadb_url: str, tmp_path: Path
) -> None:
    """Processes of their own, beside a streamer that trades: each repairs, is busy, or finds nothing."""
    names = ("order_manager", "consistency_checker")
    with offline(tmp_path, database_url=mariadb_url) as run:
        run.add_asset(SYMBOL, RULES)
        market = Market(run)
        market.price("20000")
        run.start_streamer()
        market.bought()
        with ThreadPoolExecutor(2 * len(names)) as pool:
            ran = [pool.submit(run.script, name, "--json") for name in names * 2]
            market.fell()
            reports = [one.result(60) for one in ran]
        market.rose()
        market.holds()
        assert {one.returncode for one in reports} <= {0, 75}
        assert sum(one.returncode == 0 for one in reports) >= len(names)
        wrong = {"asset_halted", "error_cycle", "cycle_refolded", "order_restored"}
        assert not wrong & {one.name for one in run.store.read(lambda tx: tx.events(limit=1000))}
