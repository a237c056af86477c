"""The ledger: what explains a change of the account, and what does not."""

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal as D
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from build import T0, at, intent
from build import fill as a_fill
from caretakers import SYMBOL, Bot, sim

from dca.adapters.clock import ManualClock
from dca.adapters.memory import MemoryStore
from dca.apps import pnl
from dca.domain.account import Activity, Balance, day_of
from dca.domain.order import Side
from dca.domain.position import Fill
from dca.matching.book import Terms as MatchTerms
from dca.ports import Store
from dca.service.caretakers.bookkeeper import END, Bookkeeper
from dca.service.ledger import (
    MOMENT,
    USD,
    Line,
    Rows,
    Statement,
    listed_fees,
    moves_of_fills,
    moves_of_history,
    reckon,
    statement,
)

OPENING = Balance(at=T0, cash=D("1000.00"), coins={SYMBOL: "0.5"})
BUY, SELL = intent("base"), intent("take_profit")
BOUGHT = replace(a_fill(BUY, "0.01", "20000", "0.000025"), at=at(10))
SOLD = replace(a_fill(SELL, "0.01", "21000", "0.53"), at=at(20))


def activity(kind: str, **changes: Any) -> Activity:
    base: dict[str, Any] = {"id": f"{kind}-{len(changes)}", "at": at(15)}
    amounts = {name: D(changes[name]) for name in ("qty", "price", "net") if name in changes}
    return Activity(kind=kind, **{**base, **changes, **amounts})


def traded(side: str, qty: str, price: str) -> Activity:
    """An execution of somebody's order."""
    signed = D(qty) if side == "buy" else -D(qty)
    net = str(-signed * D(price))
    return activity("FILL", symbol=SYMBOL, qty=str(signed), price=price, net=net, order_id="theirs")


def reckoned(
    cash: str, coins: str, *fills: Fill, history: tuple[Activity, ...] = (), until: datetime | None = None
) -> Statement:
    """The statement of a minute at whose end `cash` and `coins` were counted."""
    moves = [*moves_of_fills(SYMBOL, fills), *moves_of_history(history, {"ours"})]
    rows = Rows(
        opening=OPENING,
        closing=Balance(at=at(60), cash=D(cash), coins={SYMBOL: coins}),
        moves=moves,
        listed=list(listed_fees(history)),
        prices={SYMBOL: D(20_000)},
    )
    return reckon(rows, T0 + MOMENT, until or at(60) + MOMENT)


def lines(found: Statement, unit: str = USD) -> dict[str, str]:
    """What is not zero of a sheet. That it adds up is checked on the way."""
    sheet = next(sheet for sheet in found.sheets if sheet.unit == unit)
    moved = {str(line): amount for line, amount in sheet.lines.items()}
    moved |= {"rounding": sheet.rounding, "unexplained": sheet.unexplained}
    assert sheet.opening + sum(moved.values()) == sheet.closing
    return {name: f"{amount:f}" for name, amount in moved.items() if amount}


FEE_OF_A_SALE = activity("CFEE", net="-0.53", at=at(50))
FEE_OF_A_BUY = activity("CFEE", symbol=SYMBOL, qty="-0.000025", net="0", at=at(50))

CASES: dict[str, tuple[tuple[Any, ...], tuple[Activity, ...], dict[str, str], dict[str, str]]] = {
    "nothing happened": (("1000.00", "0.5"), (), {}, {}),
    "a buy costs dollars, and a fee in coins": (
        ("800.00", "0.509975", BOUGHT),
        (),
        {"buys": "-200.00"},
        {"buys": "0.01", "fees": "-0.000025"},
    ),
    "a sale brings dollars less a fee in dollars": (
        ("1209.47", "0.49", SOLD),
        (),
        {"sells": "210.00", "fees": "-0.53"},
        {"sells": "-0.01"},
    ),
    "the fee that is listed the next day was taken before": (
        ("1009.47", "0.499975", BOUGHT, SOLD),
        (FEE_OF_A_BUY, FEE_OF_A_SALE),
        {"buys": "-200.00", "sells": "210.00", "fees": "-0.53"},
        {"buys": "0.01", "sells": "-0.01", "fees": "-0.000025"},
    ),
    "our own executions in the history are in the books already": (
        ("800.00", "0.509975", BOUGHT),
        (replace(traded("buy", "0.01", "20000"), order_id="ours"),),
        {"buys": "-200.00"},
        {"buys": "0.01", "fees": "-0.000025"},
    ),
    "a deposit": (("1100.00", "0.5"), (activity("CSD", net="100"),), {"transfers": "100.00"}, {}),
    "a withdrawal": (("995.00", "0.5"), (activity("CSW", net="-5"),), {"transfers": "-5.00"}, {}),
    "coins that came": (
        ("1000.00", "0.6"),
        (activity("JNLS", symbol=SYMBOL, qty="0.1"),),
        {},
        {"transfers": "0.1"},
    ),
    "what has no line is other": (("1000.42", "0.5"), (activity("INT", net="0.42"),), {"other": "0.42"}, {}),
    "a person's trade, with a fee that nobody told": (
        ("800.00", "0.509975"),
        (traded("buy", "0.01", "20000"),),
        {"by_others": "-200.00"},
        {"by_others": "0.009975"},
    ),
    "a person's sale, and his fee": (
        ("1209.47", "0.49"),
        (traded("sell", "0.01", "21000"),),
        {"by_others": "209.47"},
        {"by_others": "-0.01"},
    ),
    "more than a fee is missing after a person's sale": (
        ("1206.00", "0.49"),
        (traded("sell", "0.01", "21000"),),
        {"by_others": "210.00", "unexplained": "-4.00"},
        {"by_others": "-0.01"},
    ),
    "money that is gone": (("995.00", "0.5"), (), {"unexplained": "-5.00"}, {}),
    "a cent that is gone": (("999.99", "0.5"), (), {"unexplained": "-0.01"}, {}),
    "a cent beside a fill is rounding": (
        ("799.99", "0.509975", BOUGHT),
        (),
        {"buys": "-200.00", "rounding": "-0.01"},
        {"buys": "0.01", "fees": "-0.000025"},
    ),
    "two cents beside a fill are not": (
        ("799.98", "0.509975", BOUGHT),
        (),
        {"buys": "-200.00", "unexplained": "-0.02"},
        {"buys": "0.01", "fees": "-0.000025"},
    ),
    "the venue took less than the highest fee": (
        ("1209.69", "0.49", SOLD),
        (),
        {"sells": "210.00", "fees": "-0.53", "fee_difference": "0.22"},
        {"sells": "-0.01"},
    ),
    "the venue took more than the highest fee": (
        ("1209.25", "0.49", SOLD),
        (),
        {"sells": "210.00", "fees": "-0.53", "unexplained": "-0.22"},
        {"sells": "-0.01"},
    ),
    "a fee that is taken when it is listed is not yet taken": (
        ("1210.00", "0.49", SOLD),
        (),
        {"sells": "210.00", "fees": "-0.53", "fee_difference": "0.53"},
        {"sells": "-0.01"},
    ),
    "and then it is": (("999.47", "0.5"), (FEE_OF_A_SALE,), {"fee_difference": "-0.53"}, {}),
    "coins that are gone": (("1000.00", "0.4"), (), {}, {"unexplained": "-0.1"}),
}


@pytest.mark.parametrize(("given", "history", "cash", "coins"), CASES.values(), ids=CASES.keys())
def test_what_explains_a_change(
    given: tuple[Any, ...], history: tuple[Activity, ...], cash: dict[str, str], coins: dict[str, str]
) -> None:
    found = reckoned(*given, history=history)
    assert lines(found) == cash
    assert lines(found, SYMBOL) == coins
    assert found.explained is ("unexplained" not in cash | coins)


def test_coins_that_are_gone_are_worth_dollars() -> None:
    assert reckoned("1000.00", "0.4").unexplained == D("-2000.00")
    # Less than a cent of coins is nothing that a person should look at.
    assert reckoned("1000.00", "0.4999999").explained


def test_a_gain_here_does_not_make_up_for_a_loss_there() -> None:
    found = reckoned("3000.00", "0.4")
    assert (found.unexplained, found.explained) == (D("0.00"), False)


def test_without_a_price_what_is_missing_has_no_value_and_is_missing() -> None:
    rows = Rows(opening=OPENING, closing=Balance(at=at(60), cash=D(1000), coins={}), moves=[])
    found = reckon(rows, T0 + MOMENT, at(60))
    assert (found.unexplained, found.explained) == (None, False)


def test_a_measured_fee_belongs_to_the_executions_of_its_order() -> None:
    """The first half is before the day that is asked for, and takes half of the correction with it."""
    first = replace(a_fill(BUY, "0.01", "20000", "0.000025", cum="0.01"), at=at(10))
    second = replace(a_fill(BUY, "0.01", "20000", "0.000025", cum="0.02"), at=at(70))
    measured = replace(a_fill(BUY, "0", "0", "-0.00002", cum="0"), id="fee:x", at=at(90))
    fees = [move for move in moves_of_fills(SYMBOL, [first, second, measured]) if move.line is Line.FEES]
    assert [(move.at, move.amount) for move in fees] == [(at(10), D("-0.000015")), (at(70), D("-0.000015"))]


def test_what_was_adopted_is_told_by_the_history_alone() -> None:
    adopted = a_fill(intent("adopted"), "0.01")
    assert list(moves_of_fills(SYMBOL, [adopted])) == []


def test_what_the_venue_calls_by_another_name_keeps_it() -> None:
    found = reckoned("1000.52", "0.5", history=(activity("INT", net="0.42"), activity("FEE", net="0.10")))
    assert found.other == {("INT", USD): D("0.42"), ("FEE", USD): D("0.10")}
    assert [one["kind"] for one in found.fields()["other"]] == ["INT", "FEE"]


def test_a_fee_under_its_other_name_is_not_counted_either() -> None:
    words = {"description": "Coin Pair Transaction Fee (USD)"}
    fee = replace(FEE_OF_A_SALE, kind="FEE", data=words)
    assert "other" not in lines(reckoned("1209.47", "0.49", SOLD, history=(fee,)))


# What the days of a life come to


def bookkeeper(bot: Bot) -> Bookkeeper:
    return Bookkeeper(bot.store, bot.broker, bot.clock, timedelta(seconds=60), bot.clock.move)


THEIRS = "ETH/USD"


class Life:
    """Some days of trading with everything that moves cash and coins, counted now and then."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        venue = sim(ManualClock(T0), SYMBOL, THEIRS)
        venue.terms = MatchTerms(partial_rate=0.3)
        self.bot = Bot(MemoryStore(), venue, max_safety_orders=5, safety_order_deviation=D(1))
        self.bid = D(20_000)

    def run(self, steps: int) -> None:
        self.count()
        for _ in range(steps):
            self.step()
        self.bot.clock.move(3600)
        self.bot.price(f"{self.bid}")
        self.bot.deliver()
        self.bot.catch_up.everything()
        self.count()

    def step(self) -> None:
        bot, chance = self.bot, self.random.random()
        bot.clock.move(self.random.randrange(120, 3600))
        self.bid = (self.bid * D(1 + self.random.gauss(0, 0.02))).quantize(D("0.01"))
        bot.run(bot.cooldown_manager())
        bot.act(f"{self.bid}")
        if chance < 0.05:
            bot.venue.transfer(D(self.random.randrange(-20_000, 20_000)) / 100)
        elif chance < 0.10:
            self.by_a_person("buy", "0.01")
        elif chance < 0.13 and bot.broker.holding(THEIRS).available > D("0.01"):
            self.by_a_person("sell", "0.01")
        elif chance < 0.4:
            bot.clock.move(120)
            self.count()

    def by_a_person(self, side: str, qty: str) -> None:
        """In coins that the bot does not trade, beside which it goes on."""
        self.bot.price("1500", THEIRS)
        key = f"by-hand-{len(self.bot.venue.orders)}"
        wish = intent(key=key, symbol=THEIRS, side=Side(side), qty=D(qty), limit=None)
        self.bot.venue.submit(wish)

    def count(self) -> None:
        self.bot.catch_up.everything()
        assert self.bot.run(bookkeeper(self.bot)).exit_code == 0

    def statement(self, since: datetime, until: datetime) -> Statement:
        found = self.bot.store.read(lambda tx: statement(tx, since, until))
        assert found is not None
        return found

    def days(self) -> list[tuple[datetime, datetime]]:
        """Those that have a count in them."""
        first, last = day_of(T0)[0], self.bot.store.read(lambda tx: tx.last_balance(END))
        assert last is not None
        count = (last.at - first).days + 1
        return [day_of(first + timedelta(days=number)) for number in range(count)]


def profit(life: Life, since: datetime, until: datetime) -> D:
    found = pnl.report(pnl.books(life.bot.store, since, until), "day", {})
    return D(found["total"]["net_usd"])


@pytest.mark.parametrize("seed", range(12))
def test_every_day_of_a_life_adds_up_to_the_cent(seed: int) -> None:
    life = Life(seed)
    life.run(120)
    days = life.days()
    assert len(days) >= 3
    found = [life.statement(*day) for day in days]
    assert [one.unexplained for one in found] == [D("0.00")] * len(days)
    assert all(one.explained for one in found)
    for before, after in pairwise(found):
        assert before.until == after.since
        assert before.cash.closing == after.cash.opening
    whole = life.statement(days[0][0], days[-1][1])
    assert whole.explained
    for line in (Line.BUYS, Line.SELLS, Line.FEES, Line.TRANSFERS):
        parts = sum(one.cash.lines[line] for one in found)
        assert abs(parts - whole.cash.lines[line]) <= D("0.01") * len(days), line
    assert not life.bot.events("statement_unexplained")


def test_lives_have_in_them_what_they_claim_to_test() -> None:
    life = Life(3)
    life.run(400)
    whole = life.statement(life.days()[0][0], life.days()[-1][1])
    assert all(whole.cash.lines[line] for line in Line if line not in (Line.OTHER, Line.FEE_DIFFERENCE))
    assert sum(cycle.finished for cycle in life.bot.cycles) >= 5


def test_realised_profit_is_what_executions_of_those_cycles_moved_in_cash() -> None:
    """Without transfers and others, and with every cycle over, profit is the change of cash."""
    life = Life(5)
    life.bot.venue.terms = MatchTerms(partial_rate=0)
    bot, start = life.bot, life.bot.venue.cash
    for _ in range(30):
        bot.clock.move(200)
        bot.run(bot.cooldown_manager())
        bot.act("20000")
        bot.catch_up.everything()
        bot.clock.move(61)
        bot.act("20800")
        bot.deliver()
        bot.catch_up.everything()
    assert sum(cycle.status == "complete" for cycle in bot.cycles) >= 10
    assert bot.cycle.quantity == 0
    earned = profit(life, *pnl.span(None, None))
    assert earned == bot.venue.cash - start
    assert earned.quantize(D("0.01")) > 0


@pytest.mark.parametrize("amount", ["-5", "5", "-0.37"])
def test_one_silent_change_is_found_on_its_day_and_on_no_other(amount: str) -> None:
    life = Life(11)
    life.run(60)
    day = day_of(life.bot.clock.now())
    before = life.statement(*day)
    life.bot.venue.cash += D(amount)
    life.bot.clock.move(61)
    life.count()
    found = {one.since.date(): one.unexplained for one in (life.statement(*each) for each in life.days())}
    assert {date: worth for date, worth in found.items() if worth} == {day[0].date(): D(amount)}
    assert before.explained
    assert len(life.bot.events("statement_unexplained")) == 1


def test_without_two_counts_there_is_no_statement() -> None:
    store = MemoryStore()
    day = day_of(T0)
    assert store.read(lambda tx: statement(tx, *day)) is None
    store.write(lambda tx: tx.add_balance(OPENING))
    assert store.read(lambda tx: statement(tx, *day)) is None
    store.write(lambda tx: tx.add_balance(replace(OPENING, at=at(3600))))
    found = store.read(lambda tx: statement(tx, *day))
    assert found is not None
    assert (found.since, found.until) == (T0 + MOMENT, at(3600) + MOMENT)
    before, after = (day_of(T0 + timedelta(days=days)) for days in (-1, 1))
    assert store.read(lambda tx: statement(tx, *before)) is None
    assert store.read(lambda tx: statement(tx, *after)) is None


def test_a_day_without_a_count_has_a_statement_once_a_later_one_exists() -> None:
    store, (_, tomorrow) = MemoryStore(), day_of(T0)
    later = tomorrow + timedelta(days=1, hours=3)
    for one in (OPENING, replace(OPENING, at=later, cash=D(990))):
        store.write(lambda tx, one=one: tx.add_balance(one))  # type: ignore[misc]
    quiet = store.read(lambda tx: statement(tx, *day_of(tomorrow)))
    found = store.read(lambda tx: statement(tx, *day_of(later)))
    assert quiet is not None and quiet.explained
    assert found is not None and found.cash.unexplained == D("-10.00")


def test_an_order_that_fills_before_and_after_midnight_has_its_fee_on_both_days() -> None:
    """Its fee is measured on the second day, for both of its executions."""
    bot, less = Bot(MemoryStore()), D("0.000001")
    bot.clock.move(11.8 * 3600)
    order = bot.rest()
    half = (order.intent.qty / 2).quantize(D("1e-9"))
    for part in (half, order.intent.qty - half):
        bot.store.write(lambda tx: tx.add_balance(counted(bot)))
        bot.clock.move(600)
        bot.venue.fill(order.venue_id or "", str(part))
        bot.venue.coins[SYMBOL] += less
        bot.deliver()
        bot.catch_up.everything()
    bot.store.write(lambda tx: tx.add_balance(counted(bot)))
    measured = [fill for fill in bot.store.read(lambda tx: tx.fills()) if fill.qty == 0]
    assert [fill.fee for fill in measured] == [-2 * less]
    found = bot.store.read(lambda tx: statement(tx, *day_of(bot.clock.now())))
    assert found is not None
    [coins] = found.coins
    assert (coins.unexplained, found.explained) == (D(0), True)
    assert abs(coins.rounding) <= D("1e-9") < coins.lines[Line.BUYS]


def counted(bot: Bot) -> Balance:
    """A count that does not wait for a quiet instant."""
    return Balance(
        at=bot.clock.now(),
        cash=bot.venue.cash,
        coins={symbol: str(held.qty) for symbol, held in bot.venue.positions().items()},
    )


def test_orders_of_the_journal_are_known_by_the_venues_ids(any_store: Store) -> None:
    bot = Bot(any_store)
    bot.bought()
    [order] = any_store.read(lambda tx: tx.orders())
    asked = [str(order.venue_id), *(f"theirs-{number}" for number in range(1200))]
    assert any_store.read(lambda tx: tx.own_venue_ids(asked)) == {order.venue_id}
    assert any_store.read(lambda tx: tx.own_venue_ids([])) == set()


def test_the_first_count_after_an_instant_is_found(any_store: Store) -> None:
    for seconds in (30, 10, 20):
        one = replace(OPENING, at=at(seconds))
        any_store.write(lambda tx, one=one: tx.add_balance(one))  # type: ignore[misc]
    found = [any_store.read(lambda tx, s=s: tx.first_balance(at(s))) for s in (0, 10, 11, 31)]  # type: ignore[misc]
    assert [None if one is None else one.at for one in found] == [at(10), at(10), at(20), None]
    assert any_store.read(lambda tx: tx.last_balance(at(30))) == replace(OPENING, at=at(20))
