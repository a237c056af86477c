"""The program's own parts, put together for one simulated process; what settings would say stands here."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any

from dca.domain.errors import RateLimited
from dca.domain.fees import FeeRates
from dca.domain.market import Instrument
from dca.domain.order import TimeInForce
from dca.prove.loop import in_fiber, pause
from dca.prove.process import BrokerDoor, MarketDoor, Process, StoreDoor, TradesDoor
from dca.risk.budget import Priority
from dca.risk.review import Limits
from dca.service.anomaly import Lookout
from dca.service.breaker import Circuits
from dca.service.budget import RateBudget
from dca.service.caretakers.asset_caretaker import AssetCaretaker
from dca.service.caretakers.consistency_checker import ConsistencyChecker
from dca.service.caretakers.cooldown_manager import CooldownManager
from dca.service.caretakers.order_manager import Ages, OrderManager
from dca.service.caretakers.runner import Caretaker
from dca.service.catchup import CatchUp
from dca.service.engine import Engine
from dca.service.guard import GuardedBroker
from dca.service.lease import Holding
from dca.service.operating import Desk
from dca.service.recorder import Recorder
from dca.service.shared import Shared
from dca.service.trader import NO_SLIPPAGE, Slippage, Trader
from dca.strategy.dca import Terms

if TYPE_CHECKING:
    from dca.prove.world import World

GRACE_S = 60.0
STALE = timedelta(minutes=5)
STUCK = timedelta(minutes=3)
RECONCILE_S = 450.0
POLL_S = 60.0
BEAT_S = 100.0
LEASE_S = 320.0
"""Slower than in earnest where a life would only take longer: what is seen late is tested harder."""
MAX_QUOTE_AGE_S = 60.0

LIMITS = Limits(
    max_open_orders=5,
    max_quote_age=timedelta(seconds=MAX_QUOTE_AGE_S),
    min_notional=Decimal(10),
    max_funds_age=timedelta(seconds=4 * RECONCILE_S),
)
AT_ONCE = Slippage(buy_pct=Decimal("0.1"), sell_pct=Decimal("0.2"), buy_time_in_force=TimeInForce.IOC)
CASH, LITTLE = 5000, 150
"""USD for each asset; so little does not pay for a ladder."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What the settings of a life say; `cash` is what the account begins with."""

    cash: Decimal
    limits: Limits = LIMITS
    slippage: Slippage = NO_SLIPPAGE
    requests_per_minute: int = 180
    breaker_pause_s: int = 30
    grace_s: float = GRACE_S

    @property
    def roomy(self) -> "Setup":
        """The same, without the limits that can keep an asset from ever trading."""
        return replace(self, limits=replace(self.limits, max_day=None, max_active_cycles=None))


def setup(random: Random, assets: int) -> Setup:
    """Drawn for a life."""
    limits = replace(
        LIMITS,
        reserve_pct=Decimal(random.choice((0, 100, 100))),
        max_day=random.choice((None, None, None, Decimal(400))),
        max_active_cycles=random.choice((None, None, None, max(1, assets - 1))),
    )
    return Setup(
        cash=Decimal(random.choice((CASH, CASH, LITTLE)) * assets),
        limits=limits,
        slippage=random.choice((NO_SLIPPAGE, NO_SLIPPAGE, AT_ONCE)),
        requests_per_minute=random.choice((180, 180, 60)),
    )


class Counted(RateBudget):
    """The program's budget; that it had nothing left is counted."""

    happened: Counter[str]

    def take(self, priority: Priority, *, patience_s: float = 0.0) -> None:
        try:
            super().take(priority, patience_s=patience_s)
        except RateLimited:
            self.happened["denied_by_the_budget"] += 1
            raise


class Wired:
    """One process: its doors, and the parts of the program behind them."""

    def __init__(self, world: "World", process: Process) -> None:
        self.process = process
        self.clock = world.clock
        self.store = StoreDoor(world, process, world.store)
        self.broker = self._guarded(world, process)
        self.recorder = Recorder(self.store, self.clock, FeeRates())
        self.catch_up = CatchUp(
            self.store, self.broker, self.clock, self.recorder, grace_s=world.setup.grace_s
        )
        self.trader = Trader(
            self.store,
            self.broker,
            self.clock,
            self.recorder,
            world.setup.limits,
            Terms(FeeRates().taker, STALE),
            refusal=self.broker.refusal,
            slippage=world.setup.slippage,
        )
        self._world = world

    def _guarded(self, world: "World", process: Process) -> GuardedBroker:
        shared = Shared(self.store, self.clock)
        budget = Counted(shared, self.clock, world.setup.requests_per_minute, pause)
        budget.happened = world.fates.happened
        return GuardedBroker(
            BrokerDoor(world, process),
            shared,
            self.clock,
            budget,
            Circuits(shared, self.clock, world.setup.breaker_pause_s),
            rest=pause,
            chance=world.fates.random.random,
        )

    def engine(self, holding: Holding) -> Engine:
        return Engine(
            store=self.store,
            broker=self.broker,
            clock=self.clock,
            trader=self.trader,
            recorder=self.recorder,
            catch_up=self.catch_up,
            market=MarketDoor(self._world, self.process),
            trades=TradesDoor(self._world, self.process),
            lease=holding,
            reconcile_every_s=RECONCILE_S,
            identity=self.process.identity,
            lookout=Lookout(self.store, self.clock, self.broker),
            in_thread=in_fiber,
            poll_s=POLL_S,
            beat_s=BEAT_S,
        )

    def desk(self, instruments: dict[str, Instrument]) -> Desk:
        self.trader.instruments = instruments
        return Desk(
            store=self.store,
            broker=self.broker,
            clock=self.clock,
            trader=self.trader,
            catch_up=self.catch_up,
            rest=pause,
        )

    def caretaker(self, name: str) -> Caretaker[Any, Any]:
        return _CARETAKERS[name](self)

    def order_manager(self) -> OrderManager:
        grace = timedelta(seconds=self._world.setup.grace_s)
        ages = Ages(stale=STALE, stuck=STUCK, orphan=STALE, grace=grace)
        return OrderManager(self.store, self.broker, self.clock, self.trader, self.catch_up, ages, pause)

    def cooldown_manager(self) -> CooldownManager:
        return CooldownManager(self.store, self.broker, self.clock)

    def consistency_checker(self) -> ConsistencyChecker:
        grace = timedelta(seconds=self._world.setup.grace_s)
        return ConsistencyChecker(self.store, self.broker, self.clock, self.recorder, self.catch_up, grace)

    def asset_caretaker(self) -> AssetCaretaker:
        return AssetCaretaker(self.store, self.clock)


_CARETAKERS: dict[str, Callable[[Wired], Caretaker[Any, Any]]] = {
    "order_manager": Wired.order_manager,
    "cooldown_manager": Wired.cooldown_manager,
    "consistency_checker": Wired.consistency_checker,
    "asset_caretaker": Wired.asset_caretaker,
}
CARETAKERS = tuple(_CARETAKERS)
