"""Each caretaker against the paper exchange, over sockets: what it does is there, on the venue's side."""

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal as D
from typing import Any

import pytest
from alpaca_servers import KEY, SECRET, fault_server, reply
from build import T0
from caretakers import GRACE_S, STALE_S, SYMBOL, Bot, repaired_once

from dca.adapters.clock import ManualClock
from dca.adapters.db.store import SqlStore
from dca.adapters.venues.alpaca import AlpacaBroker
from dca.domain.cycle import CycleStatus
from dca.domain.market import Quote
from dca.domain.order import Intent, Order, Purpose, Side, order_key
from dca.paper.config import PaperConfig, Switches
from dca.paper.serve import Running, running
from dca.ports import Tx

STRAIGHT = Switches(partial_rate=0.0, event_before_response=0.0)


class Exchange:
    """What a Bot needs of a venue, at the exchange."""

    def __init__(self, exchange: Running, broker: AlpacaBroker, clock: ManualClock) -> None:
        self.exchange = exchange
        self.broker = broker
        self.clock = clock
        self.updates: list[Any] = []

    def quote(self, quote: Quote) -> None:
        self.exchange.control.quote(quote.symbol, quote.bid, quote.ask)

    def instruments(self) -> Any:
        return self.broker.instruments()

    def holding(self) -> D:
        return self.broker.holding(SYMBOL).qty

    def status(self, key: str) -> str:
        found = self.broker.find(key)
        assert found is not None
        return str(found.status)


@pytest.fixture
def bot(store: SqlStore) -> Iterator[Bot]:
    """A bot whose stream hears nothing, as if the streamer were not running."""
    clock = ManualClock(T0)
    with running(PaperConfig(key=KEY, secret=SECRET, switches=STRAIGHT), clock) as exchange:
        broker = AlpacaBroker(
            KEY, SECRET, base_url=exchange.base_url, data_url=exchange.base_url, timeout_s=5
        )
        venue: Any = Exchange(exchange, broker, clock)
        venue.quote(Quote(SYMBOL, D(20_000), D(20_003), T0))
        made = Bot(store, venue, broker=broker)
        yield made
        broker.close()


def rests(bot: Bot) -> Order:
    """A buy that was decided on at 20003 and found the market at 20503."""
    wanted = Quote(SYMBOL, D(20_000), D(20_003), bot.clock.now())
    bot.price("20500")
    bot.trader.act(bot.brief(), wanted, before=wanted)
    (order,) = bot.store.read(lambda tx: tx.live_orders())
    assert order.status == "open"
    return order


def by_hand(bot: Bot, side: str, qty: D, limit: str | None = None, key: str = "by-hand") -> str:
    wish = Intent(
        key=key, symbol=SYMBOL, side=Side(side), purpose=Purpose.BASE, step=0, qty=qty,
        limit=None if limit is None else D(limit), cycle_id=0, reason="a person wants it",
    )  # fmt: skip
    bot.broker.submit(wish)
    return key


def bought(bot: Bot) -> D:
    bot.act("20000")
    bot.catch_up.everything()
    bot.clock.move(GRACE_S + 1)
    bot.price("20000")
    assert bot.cycle.quantity == bot.venue.holding() > 0  # type: ignore[call-arg]
    return bot.cycle.quantity


def test_a_stale_buy_and_an_orphan_are_canceled_and_a_persons_own_order_is_not(bot: Bot) -> None:
    stale = rests(bot)
    orphan = by_hand(bot, "buy", D("0.001"), "19000", order_key(bot.store.install, 99, Purpose.BASE, 0, 1))
    person = by_hand(bot, "buy", D("0.001"), "19000")
    bot.clock.move(STALE_S - 1)
    assert bot.run(bot.order_manager()).planned == []
    bot.clock.move(1)
    report = repaired_once(bot, bot.order_manager())
    assert sorted(one.kind for one in report.planned) == ["buy_again", "cancel_orphan"]
    status = {key: bot.venue.status(key) for key in (stale.key, orphan, person)}  # type: ignore[attr-defined]
    assert status == {stale.key: "canceled", orphan: "canceled", person: "open"}
    assert (bot.cycle.status, bot.order(stale.key).status) == ("watching", "canceled")


def test_a_missed_fill_is_booked(bot: Bot) -> None:
    order = rests(bot)
    bot.venue.exchange.control.fill(order.key, "0.0004", "20003")  # type: ignore[attr-defined]
    bot.venue.exchange.control.fill(order.key, None, "20002")  # type: ignore[attr-defined]
    bot.clock.move(GRACE_S)
    report = repaired_once(bot, bot.consistency_checker())
    assert [one.kind for one in report.planned] == ["settle"]
    bot.catch_up.everything()
    assert (bot.cycle.status, bot.order(order.key).status) == ("watching", "filled")
    assert bot.cycle.quantity == bot.venue.holding()  # type: ignore[call-arg]
    assert len(bot.store.read(lambda tx: tx.fills())) == 3, "two executions, and the fee that was measured"


def test_a_position_sold_by_hand_ends_the_cycle_in_error(bot: Bot) -> None:
    by_hand(bot, "sell", bought(bot))
    assert bot.venue.holding() == 0  # type: ignore[call-arg]
    repaired_once(bot, bot.consistency_checker())
    assert [str(one.status) for one in bot.cycles] == ["error", "watching"]
    assert bot.cycle.quantity == 0


def test_a_part_sold_by_hand_halts_and_is_adopted_or_what_is_beyond_is_accepted(bot: Bot) -> None:
    from dca.service import adoption

    bought(bot)
    by_hand(bot, "sell", D("0.0006"))
    repaired_once(bot, bot.consistency_checker())
    assert "are missing" in (bot.asset.halted_reason or "")
    adoption.adopt(bot.store, bot.clock, bot.recorder, bot.broker, SYMBOL)
    assert bot.cycle.quantity == bot.venue.holding()  # type: ignore[call-arg]
    bot.venue.exchange.control.deposit(SYMBOL, "0.5")  # type: ignore[attr-defined]
    bot.clock.move(GRACE_S)
    repaired_once(bot, bot.consistency_checker())
    assert "not in the books" in (bot.asset.halted_reason or "")
    adoption.resume(bot.store, bot.clock, bot.broker, SYMBOL)
    assert repaired_once(bot, bot.consistency_checker()).planned == []
    assert bot.asset.accepted_difference == D("0.5")


def test_a_price_ends_the_cooldown(bot: Bot) -> None:
    before = bot.cycle

    def write(tx: Tx) -> None:
        tx.update_cycle(replace(before, status=CycleStatus.COMPLETE, completed_at=T0))
        tx.insert_cycle(before.asset_id, CycleStatus.COOLDOWN, at=T0)
        (asset,) = tx.assets()
        rules = replace(asset.rules, buy_order_price_deviation_percent=D(1))
        tx.update_asset(replace(asset, rules=rules, last_sell_price=D(20_000)))

    bot.store.write(write)
    assert bot.run(bot.cooldown_manager()).planned == []
    bot.price("19000")
    repaired_once(bot, bot.cooldown_manager())
    assert bot.cycle.status == "watching"


def test_a_venue_that_answers_500_leaves_every_row_as_it_is(bot: Bot) -> None:
    rests(bot)
    bot.clock.move(STALE_S)
    rows = bot.rows()
    with fault_server() as server:
        server.will(reply(500, {"message": "internal error"}))
        broken = AlpacaBroker(KEY, SECRET, base_url=server.url, data_url=server.url, timeout_s=2)
        blind = Bot(bot.store, bot.venue, broker=broken)
        for caretaker in (blind.order_manager(), blind.consistency_checker()):
            report = bot.run(caretaker)
            assert (report.result, report.exit_code) == ("unavailable", 75)
        broken.close()
    assert bot.rows() == rows
    assert len(bot.broker.open_orders()) == 1


def test_keys_that_are_refused_are_a_persons_to_fix(bot: Bot) -> None:
    rests(bot)
    bot.clock.move(STALE_S)
    rows = bot.rows()
    url = bot.venue.exchange.base_url  # type: ignore[attr-defined]
    broken = AlpacaBroker(KEY, "wrong", base_url=url, data_url=url, timeout_s=2)
    blind = Bot(bot.store, bot.venue, broker=broken)
    for caretaker in (blind.order_manager(), blind.consistency_checker()):
        assert bot.run(caretaker).exit_code == 78
    broken.close()
    assert bot.rows() == rows
