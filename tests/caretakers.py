"""A bot with its caretakers on one store, one clock and a simulated venue, moved by hand."""

from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal as D
from random import Random
from typing import Any

from build import BTC, T0, rules

from dca.adapters.clock import ManualClock
from dca.adapters.venues.sim import SimVenue
from dca.domain.asset import Asset
from dca.domain.cycle import Cycle
from dca.domain.errors import Unavailable
from dca.domain.fees import FeeRates
from dca.domain.market import Quote
from dca.domain.order import Intent, Order, Purpose, Side
from dca.matching.book import Match
from dca.matching.book import Terms as MatchTerms
from dca.matching.fees import fee_of
from dca.ports import Broker, Store, Tx
from dca.risk.review import Limits
from dca.service import assets
from dca.service.brief import Brief, read_brief
from dca.service.caretakers.asset_caretaker import AssetCaretaker
from dca.service.caretakers.consistency_checker import ConsistencyChecker
from dca.service.caretakers.cooldown_manager import CooldownManager
from dca.service.caretakers.order_manager import Ages, OrderManager
from dca.service.caretakers.runner import Caretaker, Report, run
from dca.service.catchup import CatchUp
from dca.service.recorder import Recorder
from dca.service.trader import Outcome, Trader
from dca.strategy.dca import Terms

GRACE_S = 60.0
STALE_S = 300.0
SYMBOL = "BTC/USD"
LIMITS = Limits(max_open_orders=50, max_quote_age=timedelta(seconds=60), min_notional=D(10))


@dataclass
class Venue(SimVenue):
    """Fills whole orders as soon as the price allows it; while `held`, only when it is told to.

    `deaf` to cancels it accepts them and does nothing.
    """

    held: bool = False
    deaf: bool = False

    def _book(self, symbol: str, result: Any) -> None:
        if not self.held:
            super()._book(symbol, result)

    def cancel(self, venue_id: str) -> None:
        if not self.deaf:
            super().cancel(venue_id)

    def fill(self, venue_id: str, qty: str | None = None, price: str = "20000") -> None:
        order = self.orders[venue_id]
        assert order.qty is not None
        part = order.qty - order.filled_qty if qty is None else D(qty)
        fee = fee_of(order.side, part, D(price), D("0.0025"))
        one = Match(order_id=venue_id, side=order.side, qty=part, price=D(price), fee=fee, maker=False)
        self._fill(order.symbol, one)


def sim(clock: ManualClock, *symbols: str, cash: str = "10000") -> Venue:
    known = {symbol: replace(BTC, symbol=symbol) for symbol in symbols or (SYMBOL,)}
    return Venue(clock, known, D(cash), Random(1), MatchTerms(partial_rate=0))


class Bot:
    """Everything that writes. `broker` is the way to the venue, where that is not the venue itself."""

    def __init__(
        self, store: Store, venue: Venue | None = None, *, broker: Broker | None = None, **changes: Any
    ) -> None:
        self.clock = ManualClock(T0) if venue is None else venue.clock
        assert isinstance(self.clock, ManualClock)
        self.store = store
        self.venue = venue or sim(self.clock)
        self.broker: Broker = broker or self.venue
        self.recorder = Recorder(store, self.clock, FeeRates())
        terms = Terms(D("0.0025"), timedelta(seconds=STALE_S))
        self.trader = Trader(
            store, self.broker, self.clock, self.recorder, LIMITS, terms, self.venue.instruments()
        )
        self.catch_up = CatchUp(store, self.broker, self.clock, self.recorder, grace_s=GRACE_S)
        if not store.read(lambda tx: tx.assets()):
            assets.add(store, self.clock, SYMBOL, rules(**{"cooldown_period": 60, **changes}))

    # Caretakers

    def order_manager(self, **changes: Any) -> OrderManager:
        stale = timedelta(seconds=STALE_S)
        ages = Ages(
            **{
                "stale": stale,
                "stuck": stale,
                "orphan": stale,
                "grace": timedelta(seconds=GRACE_S),
                **changes,
            }
        )
        return OrderManager(
            self.store, self.broker, self.clock, self.trader, self.catch_up, ages, lambda seconds: None
        )

    def cooldown_manager(self) -> CooldownManager:
        return CooldownManager(self.store, self.broker, self.clock)

    def consistency_checker(self) -> ConsistencyChecker:
        grace = timedelta(seconds=GRACE_S)
        return ConsistencyChecker(self.store, self.broker, self.clock, self.recorder, self.catch_up, grace)

    def asset_caretaker(self) -> AssetCaretaker:
        return AssetCaretaker(self.store, self.clock)

    def run(self, caretaker: Caretaker[Any, Any], **how: Any) -> Report:
        return run(caretaker, store=self.store, clock=self.clock, holder="test", alive=lambda _: False, **how)

    def kinds(self, caretaker: Caretaker[Any, Any]) -> list[str]:
        """What it would repair, without doing it."""
        return [repair.kind for repair in caretaker.plan(caretaker.look(), self.clock.now())]

    # Trading

    def price(self, bid: str, symbol: str = SYMBOL) -> Quote:
        quote = Quote(symbol, D(bid), D(bid) + 3, self.clock.now())
        self.venue.quote(quote)
        return quote

    def act(self, bid: str, symbol: str = SYMBOL, *, deliver: bool = True) -> Outcome:
        """The market is at `bid`, and the decision on it was carried out."""
        quote = self.price(bid, symbol)
        outcome = self.trader.act(self.brief(symbol), quote, before=quote)
        if deliver:
            self.deliver()
        return outcome

    def rest(self, bid: str = "20000", *, deliver: bool = True) -> Order:
        """What the rules want at `bid` rests at the venue; the order as the journal has it."""
        self.venue.held = True
        self.act(bid, deliver=deliver)
        self.venue.held = False
        return self.store.read(lambda tx: tx.orders())[-1]

    def bought(self) -> Cycle:
        """The base order has filled, its fee is measured, and all is quiet."""
        self.act("20000")
        self.catch_up.everything()
        self.clock.move(GRACE_S + 1)
        self.price("20000")
        return self.cycle

    def deliver(self) -> None:
        """The trade stream brings what happened."""
        for update in self.venue.updates:
            executions = () if update.execution is None else (update.execution,)
            told = self.recorder.record(update.order, executions, source=update.event)
            if told.ended and told.order is not None:
                self.catch_up.fees(told.order.intent.cycle_id)
        self.venue.updates.clear()

    def deaf(self) -> None:
        """What the trade stream would have brought is lost."""
        self.venue.updates.clear()

    def by_hand(self, side: str, qty: str, limit: str | None = None, key: str = "") -> str:
        """A person's own order on the account; the venue's id of it. With a limit it rests."""
        wish = Intent(
            key=key or f"by-hand-{len(self.venue.orders)}",
            symbol=SYMBOL,
            side=Side(side),
            purpose=Purpose.BASE,
            step=0,
            qty=D(qty),
            limit=None if limit is None else D(limit),
            cycle_id=0,
            reason="a person wants it",
        )
        self.venue.held = limit is not None
        seen = self.venue.submit(wish)
        self.venue.held = False
        self.venue.updates.clear()
        return seen.venue_id

    # What is there

    def brief(self, symbol: str = SYMBOL) -> Brief:
        found = self.store.read(lambda tx: read_brief(tx, assets.named(tx, symbol).id))
        assert found is not None
        return found

    @property
    def asset(self) -> Asset:
        return self.store.read(lambda tx: assets.named(tx, SYMBOL))

    @property
    def cycle(self) -> Cycle:
        found = self.brief().cycle
        assert found is not None
        return found

    @property
    def cycles(self) -> list[Cycle]:
        return self.store.read(lambda tx: tx.cycles())

    def order(self, key: str) -> Order:
        found = self.store.read(lambda tx: tx.order(key))
        assert found is not None
        return found

    def events(self, name: str | None = None) -> list[str]:
        """The reasons of events by that name, or the names of all, oldest first."""
        found = self.store.read(lambda tx: tx.events(limit=1000, name=name))
        return [one.reason if name else one.name for one in reversed(found)]

    def messages(self) -> dict[str, str]:
        return {one.key: one.text for one in self.store.read(lambda tx: tx.messages())}

    def rows(self) -> list[Any]:
        """Everything a caretaker may change, for a comparison."""

        def read(tx: Tx) -> list[Any]:
            return [tx.assets(), tx.cycles(), tx.orders(), tx.fills(), tx.events(limit=1000), tx.messages()]

        return self.store.read(read)


READS = (
    "open_orders", "find", "executions", "positions", "holding", "latest_quote", "latest_quotes", "time",
    "instruments",
)  # fmt: skip


class Failing:
    """A way to a venue on which one kind of read fails."""

    def __init__(self, venue: Broker, read: str) -> None:
        self._venue = venue
        self._read = read
        self.failed = 0

    def __getattr__(self, name: str) -> Any:
        if name != self._read:
            return getattr(self._venue, name)

        def fail(*_: object) -> None:
            self.failed += 1
            raise Unavailable("HTTP 500")

        return fail


def repaired_once(bot: Bot, caretaker: Caretaker[Any, Any]) -> Report:
    """The report of a pass after which a second one finds nothing to do."""
    report = bot.run(caretaker)
    assert report.failed == 0, report.notes
    rows = bot.rows()
    again = bot.run(caretaker)
    assert (again.result, list(again.planned)) == ("done", []), again.notes
    assert bot.rows() == rows
    return report


__all__ = ["GRACE_S", "READS", "STALE_S", "SYMBOL", "Bot", "Failing", "Venue", "repaired_once", "sim"]
