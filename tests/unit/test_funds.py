"""Money on the whole account: what is free, what is promised, and what a review makes of it."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal as D
from random import Random
from typing import Any

import pytest
from build import BTC, INSTALL, T0, at, quote, rules

from dca.adapters.clock import ManualClock
from dca.adapters.memory import MemoryStore
from dca.adapters.venues.sim import SimVenue
from dca.domain.account import Funds, Stake
from dca.domain.cycle import CycleStatus
from dca.domain.errors import Unavailable
from dca.domain.fees import FeeRates
from dca.domain.market import Instrument
from dca.matching.book import Terms as MatchTerms
from dca.ports import Store, Tx
from dca.risk.review import Limits
from dca.risk.stakes import drawdown_pct, free_funds
from dca.service import assets, funds
from dca.service.brief import Brief, read_brief
from dca.service.recorder import Recorder
from dca.service.trader import Outcome, Trader
from dca.strategy.dca import Terms

SLACK = timedelta(seconds=5)
FUNDS = Funds(
    account_id="a",
    read_at=T0,
    cash=D(1000),
    equity=D(1500),
    spendable=D(1000),
    peak_equity=D(2000),
    peak_at=T0,
)


def stake(resting: str, seconds: float, *, in_flight: bool = False) -> Stake:
    return Stake(1, 7, D(0), D(resting), 0, 0, at(seconds), in_flight)


@pytest.mark.parametrize(
    ("stakes", "bought", "free"),
    [
        ([], "0", "1000"),
        ([stake("20", 1)], "0", "980"),
        ([stake("20", -60)], "0", "1000"),
        ([stake("20", -60, in_flight=True)], "0", "980"),
        ([stake("20", -4)], "0", "980"),
        ([], "20", "980"),
    ],
    ids=[
        "nothing happened", "journaled since", "known to the venue", "in flight", "clocks may differ",
        "bought since",
    ],
)  # fmt: skip
def test_what_is_not_in_the_balance_yet_is_taken_off(stakes: Any, bought: str, free: str) -> None:
    assert free_funds(FUNDS, stakes, D(bought), SLACK) == D(free)


def test_drawdown_is_counted_from_the_peak() -> None:
    assert drawdown_pct(FUNDS) == 25
    assert drawdown_pct(replace(FUNDS, equity=D(3000))) == 0
    assert drawdown_pct(replace(FUNDS, peak_equity=D(0))) == 0


class Floor:
    """Two assets on one account of `cash` USD; a whole ladder of each costs 80."""

    def __init__(self, cash: D, **limits: Any) -> None:
        self.clock = ManualClock(T0)
        ether = Instrument("ETH/USD", D("0.0001"), D("0.000000001"), D("0.01"))
        instruments = {"BTC/USD": BTC, "ETH/USD": ether}
        self.venue = SimVenue(self.clock, instruments, cash, Random(1), MatchTerms(partial_rate=0))
        self.store: Store = MemoryStore(INSTALL)
        self.recorder = Recorder(self.store, self.clock, FeeRates())
        base: dict[str, Any] = {
            "max_open_orders": 5, "max_quote_age": timedelta(seconds=60), "min_notional": D(10),
            "max_funds_age": timedelta(seconds=120), "reserve_pct": D(100), "taker_fee": D("0.0025"),
        }  # fmt: skip
        self.trader = Trader(
            self.store, self.venue, self.clock, self.recorder, Limits(**{**base, **limits}),
            Terms(D("0.0025"), timedelta(seconds=300)), instruments,
        )  # fmt: skip
        self.ids = {
            symbol: assets.add(self.store, self.clock, symbol, rules(cooldown_period=0)).id
            for symbol in instruments
        }

    def refresh(self) -> None:
        funds.refresh(self.store, self.venue, self.clock)

    def at(self, symbol: str, bid: str, **act: Any) -> Outcome:
        one = quote(bid)._replace(symbol=symbol, at=self.clock.now())
        self.venue.quote(one)
        outcome = self.trader.act(self.brief(symbol), one, **act)
        for update in self.venue.updates:
            executions = () if update.execution is None else (update.execution,)
            self.recorder.record(update.order, executions, source=update.event)
        self.venue.updates.clear()
        return outcome

    def brief(self, symbol: str) -> Brief:
        found = self.store.read(lambda tx: read_brief(tx, self.ids[symbol]))
        assert found is not None
        return found

    def sent(self) -> int:
        return len(self.venue.submitted)


def test_nothing_is_bought_on_a_balance_that_is_unknown_or_old() -> None:
    floor = Floor(D(1000))
    assert "balance unknown" in floor.at("BTC/USD", "20000").reason
    floor.refresh()
    floor.clock.move(121)
    assert "balance unknown" in floor.at("BTC/USD", "20000").reason
    floor.refresh()
    floor.at("BTC/USD", "20000")
    assert floor.sent() == 1


def test_what_is_held_is_sold_whatever_the_balance() -> None:
    floor = Floor(D(1000))
    floor.refresh()
    floor.at("BTC/USD", "20000")
    floor.clock.move(3600)
    floor.at("BTC/USD", "21000")
    assert [one.side for one in floor.venue.submitted] == ["buy", "sell"]


def test_a_cycle_starts_only_when_every_started_ladder_stays_payable() -> None:
    floor = Floor(D(159))
    floor.refresh()
    floor.at("BTC/USD", "20000")
    outcome = floor.at("ETH/USD", "2000")
    assert "reserved" in outcome.reason and outcome.only_buys
    assert floor.sent() == 1
    rich = Floor(D(161))
    rich.refresh()
    rich.at("BTC/USD", "20000")
    rich.at("ETH/USD", "2000")
    assert rich.sent() == 2


@pytest.mark.parametrize(("reserve", "sent"), [("0", 2), ("50", 2), ("100", 1)])
def test_less_may_be_reserved(reserve: str, sent: int) -> None:
    floor = Floor(D(120), reserve_pct=D(reserve))
    floor.refresh()
    floor.at("BTC/USD", "20000")
    floor.at("ETH/USD", "2000")
    assert floor.sent() == sent


def test_a_safety_order_may_use_what_was_promised_to_it() -> None:
    floor = Floor(D(81))
    floor.refresh()
    for bid in ("20000", "19500", "19000", "18500"):
        floor.at("BTC/USD", bid, before=quote(bid)._replace(at=floor.clock.now()))
        floor.clock.move(1)
    assert floor.sent() == 4


def test_money_in_flight_is_not_spent_twice() -> None:
    floor = Floor(D(40), reserve_pct=D(0))
    floor.refresh()
    floor.at("BTC/USD", "20000")
    assert "no funds" not in floor.at("ETH/USD", "2000").reason
    poor = Floor(D(39), reserve_pct=D(0))
    poor.refresh()
    poor.at("BTC/USD", "20000")
    assert "no funds" in poor.at("ETH/USD", "2000").reason
    assert poor.sent() == 1


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"max_order": D("19.99")}, "order spend"),
        ({"max_asset": D("19.99")}, "asset spend"),
        ({"max_account": D("39.98")}, "account spend"),
        ({"max_day": D("39.98")}, "day spend"),
        ({"max_active_cycles": 1}, "too many cycles"),
    ],
)
def test_a_limit_of_the_account_denies_with_its_numbers(limits: dict[str, Any], code: str) -> None:
    floor = Floor(D(1000), **limits)
    floor.refresh()
    reasons = [floor.at("BTC/USD", "20000").reason, floor.at("ETH/USD", "2000").reason]
    assert code in reasons[-1] and any(digit.isdigit() for digit in reasons[-1])
    denied = [one for one in floor.store.read(lambda tx: tx.events()) if one.name == "order_denied"]
    assert denied[0].data["code"] == code.replace(" ", "_")


def test_the_day_counts_what_was_bought_and_sold_again_until_midnight() -> None:
    floor = Floor(D(1000), max_day=D(30))
    floor.refresh()
    floor.at("BTC/USD", "20000")
    floor.clock.move(61)
    floor.at("BTC/USD", "21000")
    floor.at("BTC/USD", "21000")
    assert "day spend" in floor.at("BTC/USD", "21000").reason
    floor.clock.move(12 * 3600)
    floor.refresh()
    floor.at("BTC/USD", "21000")
    assert [one.side for one in floor.venue.submitted] == ["buy", "sell", "buy"]


def test_a_loss_of_the_day_and_a_drawdown_stop_buying() -> None:
    lossy = Floor(D(1000), max_daily_loss=D(1))
    lossy.refresh()
    lossy.at("BTC/USD", "20000")
    cycle = lossy.brief("BTC/USD").cycle
    assert cycle is not None
    over = replace(cycle, status=CycleStatus.COMPLETE, completed_at=lossy.clock.now())

    def lose(tx: Tx) -> None:
        tx.update_cycle(over)
        tx.insert_cycle(cycle.asset_id, CycleStatus.WATCHING, at=lossy.clock.now())

    lossy.store.write(lose)
    assert "daily loss: lost today 20" in lossy.at("ETH/USD", "2000").reason.replace("_", " ")
    sunk = Floor(D(1000), max_drawdown_pct=D(10))
    sunk.refresh()
    sunk.venue.cash -= 100
    sunk.clock.move(1)
    sunk.refresh()
    assert "drawdown" in sunk.at("BTC/USD", "20000").reason
    funds.forget_peak(sunk.store, sunk.clock)
    sunk.at("BTC/USD", "20000")
    assert sunk.sent() == 1


def test_an_old_answer_never_replaces_a_newer_one() -> None:
    floor = Floor(D(1000))
    floor.refresh()
    before = floor.store.read(lambda tx: tx.funds())
    floor.clock.move(-1)
    floor.venue.cash = D(1)
    floor.refresh()
    assert floor.store.read(lambda tx: tx.funds()) == before


def test_an_account_that_cannot_be_read_leaves_what_was_known(monkeypatch: pytest.MonkeyPatch) -> None:
    floor = Floor(D(1000))
    floor.refresh()

    def unreadable() -> None:
        raise Unavailable("500")

    monkeypatch.setattr(floor.venue, "account", unreadable)
    with pytest.raises(Unavailable):
        floor.refresh()
    known = floor.store.read(lambda tx: tx.funds())
    assert known is not None and known.cash == 1000


def test_without_a_longest_age_funds_are_not_asked_for() -> None:
    floor = Floor(D(5), max_funds_age=None)
    assert "insufficient balance" in floor.at("BTC/USD", "20000").reason
