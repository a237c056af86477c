"""The program's own parts, put together for one simulated process; what settings would say stands here."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from dca.domain.fees import FeeRates
from dca.domain.market import Instrument
from dca.prove.loop import in_fiber, pause
from dca.prove.process import BrokerDoor, MarketDoor, Process, StoreDoor, TradesDoor
from dca.risk.review import Limits
from dca.service.caretakers.asset_caretaker import AssetCaretaker
from dca.service.caretakers.consistency_checker import ConsistencyChecker
from dca.service.caretakers.cooldown_manager import CooldownManager
from dca.service.caretakers.order_manager import Ages, OrderManager
from dca.service.caretakers.runner import Caretaker
from dca.service.catchup import CatchUp
from dca.service.engine import Engine
from dca.service.lease import Holding
from dca.service.operating import Desk
from dca.service.recorder import Recorder
from dca.service.trader import Trader
from dca.strategy.dca import Terms

if TYPE_CHECKING:
    from dca.prove.world import World

GRACE_S = 60.0
STALE = timedelta(minutes=5)
STUCK = timedelta(minutes=3)
RECONCILE_S = 150.0
POLL_S = 45.0
BEAT_S = 80.0
LEASE_S = 250.0
"""Slower than in earnest where a life would only take longer: what is seen late is tested harder."""
MAX_QUOTE_AGE_S = 60.0

LIMITS = Limits(
    max_open_orders=5,
    max_quote_age=timedelta(seconds=MAX_QUOTE_AGE_S),
    min_notional=Decimal(10),
    max_funds_age=timedelta(seconds=4 * RECONCILE_S),
)


class Wired:
    """One process: its doors, and the parts of the program behind them."""

    def __init__(self, world: "World", process: Process) -> None:
        self.process = process
        self.clock = world.clock
        self.store = StoreDoor(world, process, world.store)
        self.broker = BrokerDoor(world, process)
        self.recorder = Recorder(self.store, self.clock, FeeRates())
        self.catch_up = CatchUp(self.store, self.broker, self.clock, self.recorder, grace_s=GRACE_S)
        self.trader = Trader(
            self.store, self.broker, self.clock, self.recorder, LIMITS, Terms(FeeRates().taker, STALE)
        )
        self._world = world

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
        grace = timedelta(seconds=GRACE_S)
        ages = Ages(stale=STALE, stuck=STUCK, orphan=STALE, grace=grace)
        return OrderManager(self.store, self.broker, self.clock, self.trader, self.catch_up, ages, pause)

    def cooldown_manager(self) -> CooldownManager:
        return CooldownManager(self.store, self.broker, self.clock)

    def consistency_checker(self) -> ConsistencyChecker:
        grace = timedelta(seconds=GRACE_S)
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
