"""Seeded lives: the real trader, recorder, catch-up and caretakers on a venue that lies, loses and
outlives us.

Everything random comes from the seed, so a life that fails can be lived again.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from random import Random
from typing import Any

from build import BTC, INSTALL, rules

from dca import boundaries
from dca.adapters.clock import ManualClock
from dca.adapters.memory import MemoryStore
from dca.adapters.venues.sim import SimVenue
from dca.domain.asset import Asset
from dca.domain.cycle import CycleStatus
from dca.domain.errors import DuplicateKey, InDoubt, Rejected, StoreUnavailable, Unavailable
from dca.domain.fees import FeeRates
from dca.domain.folding import unmeasured_buys
from dca.domain.market import Instrument, Quote
from dca.domain.order import Execution, Intent, OrderStatus, Side, TradeUpdate, VenueOrder
from dca.domain.position import fold
from dca.ports import Holding, Store
from dca.risk.review import Limits
from dca.service.brief import read_brief
from dca.service.caretakers.consistency_checker import ConsistencyChecker
from dca.service.caretakers.cooldown_manager import CooldownManager
from dca.service.caretakers.order_manager import Ages, OrderManager
from dca.service.caretakers.runner import Caretaker, run
from dca.service.catchup import CatchUp
from dca.service.recorder import Recorder
from dca.service.trader import Trader
from dca.strategy.dca import Terms, Wait
from dca.strategy.ladder import commitment

START = datetime(2023, 3, 9, tzinfo=UTC)
RULES = rules(cooldown_period=30, safety_order_deviation=D(1), take_profit_percent=D("0.8"))
STEP_S = 5
GRACE_S = 60.0
STALE = timedelta(seconds=300)
OFTEN, SELDOM = 120 // STEP_S, 360 // STEP_S
"""Steps between two runs of a caretaker; more runs would only take longer."""


class Death(BaseException):
    """The process was killed here."""


@dataclass
class Lies:
    """How often each misfortune happens, as a ratio."""

    lost_request: float = 0.0
    lost_answer: float = 0.0
    failed_read: float = 0.0
    lost_update: float = 0.0
    doubled_update: float = 0.0
    late_update: float = 0.0
    death: float = 0.0

    @classmethod
    def drawn(cls, random: Random) -> "Lies":
        """Each class of fault is on in half of all lives, at one of three strengths."""
        names = list(cls.__dataclass_fields__)
        return cls(**{name: random.choice([0, 0, 0, 0.05, 0.2, 0.4]) for name in names if name != "death"},
                   death=random.choice([0, 0.002, 0.02]))  # fmt: skip


@dataclass
class Life:
    seed: int
    steps: int = 1500
    lies: Lies | None = None
    caretakers: bool = True
    seen: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.lies = self.lies or Lies.drawn(self.random)
        self.clock = ManualClock(START)
        self.venue = SimVenue(self.clock, {"BTC/USD": BTC}, D(1000), Random(self.seed + 1))
        self.store = MemoryStore(INSTALL)
        asset = self.store.write(lambda tx: tx.insert_asset("BTC/USD", RULES, is_enabled=True, at=START))
        assert asset is not None
        self.asset_id = asset.id
        self.store.write(lambda tx: tx.insert_cycle(asset.id, CycleStatus.WATCHING, at=START))
        self.calm = False
        self.away = 0
        self.price = 20_000.0
        self.late: deque[tuple[datetime, TradeUpdate]] = deque()
        self._start()

    def _start(self) -> None:
        """A process is born: what was in memory is gone, what is in the store and at the venue stays."""
        broker = LyingBroker(self)
        fees = FeeRates()
        self.recorder = Recorder(self.store, self.clock, fees)
        limits = Limits(max_open_orders=5, max_quote_age=timedelta(seconds=60), min_notional=D(10))
        self.trader = Trader(
            self.store, broker, self.clock, self.recorder, limits,
            Terms(fees.taker, STALE), {"BTC/USD": BTC},
        )  # fmt: skip
        self.catch_up = CatchUp(self.store, broker, self.clock, self.recorder, grace_s=GRACE_S)
        grace = timedelta(seconds=GRACE_S)
        ages = Ages(stale=STALE, stuck=STALE, orphan=STALE, grace=grace)
        self.frequent: list[Caretaker[Any, Any]] = [
            OrderManager(self.store, broker, self.clock, self.trader, self.catch_up, ages, lambda _: None),
            CooldownManager(self.store, broker, self.clock),
        ]
        self.checker = ConsistencyChecker(self.store, broker, self.clock, self.recorder, self.catch_up, grace)
        self.caught_up = False
        self.hold: datetime | None = None
        self.asked: set[str] = set()

    def happens(self, what: str) -> bool:
        assert self.lies is not None
        if self.calm or self.random.random() >= getattr(self.lies, what):
            return False
        self.seen[what] += 1
        return True

    def crossing(self, name: str) -> None:
        if self.happens("death"):
            raise Death(name)

    def live(self) -> None:
        boundaries.install(self.crossing)
        try:
            for step in range(self.steps):
                self.calm = step > self.steps * 0.8
                self._step(step)
            self._quiet()
        finally:
            boundaries.install(None)

    def _step(self, step: int) -> None:
        self.clock.move(STEP_S)
        self.price *= 1 + self.random.gauss(0, 0.002)
        bid = D(str(round(self.price, 2)))
        quote = Quote("BTC/USD", bid, bid + D("3.00"), self.clock.now())
        self.venue.quote(quote)
        self._stream(step, quote)
        if self.caretakers and step % OFTEN == 0:
            self._take_care([*self.frequent, *([self.checker] if step % SELDOM == 0 else [])])

    def _stream(self, step: int, quote: Quote) -> None:
        """What the streamer does, unless it is dead and nobody has started it again yet."""
        if self.away:
            self.away -= 1
            self.venue.updates.clear()
            return
        try:
            self._deliver()
            if step % 4 == 0 or not self.caught_up:
                self._reconcile()
            if self.caught_up:
                self._act(quote)
        except Death:
            self.venue.updates.clear()
            self.late.clear()
            self.away = self.random.choice([0, 0, 0, 20, 150])
            self._start()

    def _take_care(self, caretakers: Sequence[Caretaker[Any, Any]]) -> None:
        """Cron starts each, a process of its own that may be killed like any other."""
        for caretaker in caretakers:
            try:
                report = run(
                    caretaker, store=self.store, clock=self.clock, holder="cron", alive=lambda _: False
                )
            except Death:
                continue
            self.seen[f"{caretaker.name}_{report.result}"] += 1
            for repair in report.planned:
                self.seen[repair.kind] += 1

    def _reconcile(self) -> None:
        try:
            self.catch_up.everything()
            self.caught_up = True
        except (Unavailable, StoreUnavailable):
            self.seen["catch_up_failed"] += 1

    def _act(self, quote: Quote) -> None:
        brief = self.store.read(lambda tx: read_brief(tx, self.asset_id))
        assert brief is not None
        if self.hold is not None and self.clock.now() < self.hold:
            return
        if isinstance(self.trader.think(brief.situation, quote), Wait):
            return
        if self.random.random() < 0.5:
            # The market moves while the order is on its way, so that orders rest as well.
            bid = quote.bid + D(self.random.choice([-10, 5, 20, 200]))
            self.venue.quote(Quote("BTC/USD", bid, bid + D("3.00"), self.clock.now()))
        outcome = self.trader.act(brief, quote)
        self.hold = outcome.hold_until
        if outcome.measure is not None:
            self._measure(outcome.measure)
        self._deliver()

    def _deliver(self) -> None:
        """The trade stream: in order when calm, else with losses, doubles and delays."""
        while self.venue.updates:
            update = self.venue.updates.pop(0)
            if self.happens("lost_update"):
                continue
            if self.happens("late_update"):
                pause = timedelta(seconds=self.random.choice([10, 60, 600]))
                self.late.append((self.clock.now() + pause, update))
                continue
            for _ in range(2 if self.happens("doubled_update") else 1):
                self._told(update)
        for _ in range(len(self.late)):
            when, update = self.late.popleft()
            if when <= self.clock.now():
                self._told(update)
            else:
                self.late.append((when, update))

    def _told(self, update: TradeUpdate) -> None:
        executions = () if update.execution is None else (update.execution,)
        result = self.recorder.record(update.order, executions, source=update.event)
        if result.ended and result.order is not None and result.order.intent.side is Side.BUY:
            self._measure(result.order.intent.cycle_id)

    def _measure(self, cycle_id: int) -> None:
        try:
            self.catch_up.fees(cycle_id)
        except Unavailable:
            self.seen["fee_not_measured"] += 1

    def _quiet(self) -> None:
        """An hour without quotes, in which catching up and taking care are all that happens."""
        self.calm = True
        for _ in range(20):
            self.clock.move(180)
            self._deliver()
            self._reconcile()
            if self.caretakers:
                self._take_care([*self.frequent, self.checker])

    def violations(self) -> list[str]:
        """What does not hold at the end, judged by the venue and the store alone."""
        owned = sum((cycle.quantity for cycle in self.store.read(lambda tx: tx.cycles())), D(0))
        self.seen["position_exact"] += self.venue.coins.get("BTC/USD", D(0)) == owned
        return violations(self.store, self.venue)


def violations(store: Store, venue: SimVenue) -> list[str]:
    """What does not hold once everything is quiet; nobody but the bot ever touched the account."""
    orders = store.read(lambda tx: tx.orders())
    fills = store.read(lambda tx: tx.fills())
    found = []
    for key, times in Counter(intent.key for intent in venue.submitted).items():
        if times > 1:
            found.append(f"key {key} reached the venue {times} times")
    journal = {order.key for order in orders}
    found += [f"{order.key} unknown" for order in venue.orders.values() if order.key not in journal]
    found += [f"{order.key} in flight" for order in orders if order.status is OrderStatus.IN_FLIGHT]
    booked = Counter((fill.order_key, fill.cum_qty) for fill in fills if fill.qty > 0)
    there = Counter()
    for venue_id, order in venue.orders.items():
        there.update((order.key, one.cum_qty) for one in venue.executions(venue_id))
    if booked != there:
        found.append(f"fills differ: {booked - there} too many, {there - booked} missing")
    for asset in store.read(lambda tx: tx.assets()):
        found += _of_asset(store, venue, asset)
    for event in store.read(lambda tx: tx.events(limit=100_000)):
        if event.name in ("asset_halted", "error_cycle", "cycle_refolded", "order_restored"):
            found.append(f"{event.name}: {event.reason}")
    return found


def _of_asset(store: Store, venue: SimVenue, asset: Asset) -> list[str]:
    symbol, found = asset.asset_symbol, []
    orders = [order for order in store.read(lambda tx: tx.orders()) if order.intent.symbol == symbol]
    keys = {order.key for order in orders}
    fills = [fill for fill in store.read(lambda tx: tx.fills()) if fill.order_key in keys]
    cycles = [cycle for cycle in store.read(lambda tx: tx.cycles()) if cycle.asset_id == asset.id]
    owned = sum((cycle.quantity for cycle in cycles), D(0))
    held = venue.coins.get(symbol, D(0))
    # Where reads kept failing, a position was sold on the estimate of its fee, which is the most
    # it can be: so much may have stayed behind, and the next measurement finds it.
    unmeasured = {order.key for order in unmeasured_buys(orders, fills)}
    unmeasured |= {order.key for order in orders if order.live}
    behind = sum((fill.fee for fill in fills if fill.order_key in unmeasured), D(0))
    if not D(0) <= held - owned <= BTC.min_trade_increment + behind:
        found.append(f"{symbol}: {owned} folded, {held} held")
    for cycle in cycles:
        mine = [fill for fill in fills if fill.cycle_id == cycle.id]
        if fold(mine).quantity != cycle.quantity:
            found.append(f"cycle {cycle.id} is not the fold of its fills")
        spent = sum((fill.qty * fill.price for fill in mine if fill.side is Side.BUY), D(0))
        if spent > commitment(asset.rules):
            found.append(f"cycle {cycle.id} spent {spent}")
    if sum(not cycle.finished for cycle in cycles) != 1:
        found.append(f"{symbol}: not exactly one unfinished cycle")
    return found


class LyingBroker:
    """A way to the venue on which requests and answers get lost and reads fail."""

    def __init__(self, life: Life) -> None:
        self.life = life

    def submit(self, intent: Intent) -> VenueOrder:
        if self.life.happens("lost_request"):
            raise InDoubt("the request was lost")
        try:
            seen = self.life.venue.submit(intent)
        except (Rejected, DuplicateKey) as error:
            self.life.seen["rejected"] += 1
            if self.life.happens("lost_answer"):
                raise InDoubt("the answer was lost") from error
            raise
        if self.life.happens("lost_answer"):
            raise InDoubt("the answer was lost")
        return seen

    def cancel(self, venue_id: str) -> None:
        if self.life.happens("lost_request"):
            raise InDoubt("the request was lost")
        self.life.venue.cancel(venue_id)
        self.life.seen["canceled"] += 1

    def _read(self) -> None:
        if self.life.happens("failed_read"):
            raise Unavailable("the read failed")

    def find(self, key: str) -> VenueOrder | None:
        self._read()
        return self.life.venue.find(key)

    def open_orders(self) -> list[VenueOrder]:
        self._read()
        return self.life.venue.open_orders()

    def executions(self, venue_id: str) -> list[Execution]:
        self._read()
        return self.life.venue.executions(venue_id)

    def holding(self, symbol: str) -> Holding:
        self._read()
        return self.life.venue.holding(symbol)

    def positions(self) -> dict[str, Holding]:
        self._read()
        return self.life.venue.positions()

    def account(self):  # type: ignore[no-untyped-def]
        self._read()
        return self.life.venue.account()

    def instruments(self) -> dict[str, Instrument]:
        return self.life.venue.instruments()

    def latest_quote(self, symbol: str) -> Quote:
        return self.life.venue.latest_quote(symbol)

    def latest_quotes(self, symbols: Sequence[str]) -> dict[str, Quote]:
        self._read()
        return self.life.venue.latest_quotes(symbols)

    def time(self) -> datetime:
        self._read()
        return self.life.venue.time()
