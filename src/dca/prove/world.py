"""One life: the program's processes, the venue, the market, people and every misfortune, from one seed."""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

from dca import boundaries
from dca.domain.asset import Rules
from dca.domain.cycle import Cycle, CycleStatus
from dca.domain.errors import DcaError
from dca.domain.market import Instrument, Quote
from dca.domain.order import Intent, TradeUpdate
from dca.ports import Tx
from dca.prove.exchange import Exchange, Executed
from dca.prove.fates import Fates, dice
from dca.prove.loop import LoopClock, VirtualLoop, in_fiber
from dca.prove.oracle import Oracle
from dca.prove.people import People
from dca.prove.process import (
    Death,
    MarketDoor,
    Process,
    TradesDoor,
    acting_in,
    adopted_task,
)
from dca.prove.store import LifeStore
from dca.prove.wired import CARETAKERS, CASH, LEASE_S, Wired, setup
from dca.service import lease
from dca.service.caretakers.runner import Result, run
from dca.service.lease import LeaseTaken

START = datetime(2023, 3, 9, 6, tzinfo=UTC)
LIFE_S = 3600.0
"""With the quiet hour after it a life lasts two hours, and as long as its probe takes."""
CALM_AT = 0.7
QUIET_S = 3600.0
TICK_S = 10.0
SLOW_TICK_S = 60.0
LOOK_TICKS = 12
MINUTE_S = 60.0
PASS_EVERY_S = {
    "order_manager": 420.0,
    "cooldown_manager": 420.0,
    "consistency_checker": 720.0,
    "asset_caretaker": 1800.0,
}
RESTART_S, PASS_S, RECOVERED_S = 1.0, 15.0, 30.0
"""After a death that was meant: so soon the streamer runs again, the caretakers pass, and all is well."""
SHORT_GRACE_S = 10.0
"""Where nothing goes wrong but that, no request is under way for longer than a second."""
STORY_LENGTH = 200_000
INSTRUMENTS = {
    "BTC/USD": Instrument("BTC/USD", Decimal("0.000045"), Decimal("0.000000001"), Decimal("0.01")),
    "ETH/USD": Instrument("ETH/USD", Decimal("0.0006"), Decimal("0.000000001"), Decimal("0.01")),
    "SOL/USD": Instrument("SOL/USD", Decimal("0.008"), Decimal("0.000000001"), Decimal("0.01")),
}
PRICES = {"BTC/USD": 20_000.0, "ETH/USD": 1_500.0, "SOL/USD": 25.0}


@dataclass
class Life:
    """What a life came to."""

    seed: int
    digest: str
    violations: list[str]
    happened: Counter[str]
    hours: float
    boundaries: int
    fills: int
    cycles: int
    story: list[str] = field(default_factory=list)


class World:
    """A life from its birth to the verdict on it."""

    def __init__(
        self,
        seed: int,
        database: Path,
        *,
        chances: Mapping[str, float] | None = None,
        life_s: float = LIFE_S,
        quiet_s: float = QUIET_S,
        kill_at: Collection[int] = (),
        trace: bool = False,
    ) -> None:
        self.seed, self.life_s, self.quiet_s = seed, life_s, quiet_s
        self.kill_at = kill_at
        self.killed: list[str] = []
        self._last_death = -1.0
        self.at_calm = 0
        self.loop = VirtualLoop()
        self.loop.set_task_factory(adopted_task)
        self.loop.set_exception_handler(self._unhandled)
        self.start = START
        self.clock = LoopClock(self.loop, START)
        self.fates = Fates(dice(seed, "fates"), chances)
        self.random = dice(seed, "market")
        self.store = LifeStore(database)
        names = list(INSTRUMENTS)[: self.random.choice((1, 1, 1, 1, 1, 1, 2, 3))]
        self.instruments = {name: INSTRUMENTS[name] for name in names}
        self.setup = setup(dice(seed, "settings"), len(names))
        if not self.fates.misfortune:
            self.setup = replace(self.setup.roomy, grace_s=SHORT_GRACE_S)
        self.exchange = Exchange(
            self.loop, self.clock, self.fates, dice(seed, "venue"), self.instruments, self.setup.cash
        )
        self.down_until = -1.0
        self.exchange.listener = self._publish
        self.oracle = Oracle(self)
        self.exchange.watcher = self.oracle
        self.people = People(self)
        self.prices = {name: PRICES[name] for name in names}
        self.trades: list[TradesDoor] = []
        self.markets: list[MarketDoor] = []
        self.streamers: list[Process] = []
        self.alive: dict[str, bool] = {}
        self.processes: list[Process] = []
        self.acting: Process | None = None
        self.boundaries = 0
        self.requests: deque[tuple[float, str]] = deque()
        self.most_requests: list[str] = []
        self._digest = blake2b(digest_size=8)
        self._trace = trace
        self.story: list[str] = []
        self._numbers: Counter[str] = Counter()
        self._jobs: list[asyncio.Task[None]] = []
        self.ended = False

    # What processes tell

    @contextmanager
    def acts(self, process: Process) -> Iterator[None]:
        """Boundaries that are crossed inside are crossed by `process`."""
        before, self.acting = self.acting, process
        try:
            yield
        finally:
            self.acting = before

    def crossing(self, name: str) -> None:
        """A boundary was reached; whoever reached it may die here."""
        process = self.acting
        if process is None:
            return
        self.boundaries += 1
        self.note(process, name)
        if name == "after_recorder.record":
            self.oracle.committed()
        if name.startswith("before_") and "." not in name:
            self._count_request(f"{process.identity} {name}")
        meant = self.boundaries in self.kill_at
        if meant:
            self.killed.append(f"{process.name} {name}")
            self._recovers()
        if meant or self.fates.happens("death"):
            self.tell(process.identity, "killed", f"at {name}")
            process.kill()
            raise Death(name)

    def _recovers(self) -> None:
        """What happens after a death that was meant, and when it is judged; another death begins anew."""
        died = self._last_death = self.loop.time()

        def judged() -> None:
            if died == self._last_death:
                self.oracle.recovered(died)

        # In a context of its own: whoever died owns nothing of it.
        later = partial(self.loop.call_later, context=Context())
        later(RESTART_S, self._streams_again)
        for name in CARETAKERS:
            later(PASS_S, self.take_care, name)
        later(RECOVERED_S, judged)

    def _streams_again(self) -> None:
        if not self.streamers:
            self.start_streamer()

    def _count_request(self, what: str) -> None:
        now = self.loop.time()
        self.requests.append((now, what))
        while self.requests[0][0] <= now - MINUTE_S:
            self.requests.popleft()
        if len(self.requests) > len(self.most_requests):
            self.most_requests = [name for _, name in self.requests]

    def note(self, process: Process, what: str) -> None:
        """Part of the digest that two runs of a seed must agree on."""
        self._digest.update(f"{self.loop.time():.6f} {process.identity} {what}\n".encode())
        if self._trace:
            self.tell(process.identity, what, "")

    def tell(self, who: str, what: str, why: str) -> None:
        """A line of the story, where somebody wants to read it."""
        if self._trace and len(self.story) < STORY_LENGTH:
            self.story.append(f"{self.loop.time():10.3f}  {who:<16} {what:<34} {why}".rstrip())

    def sent(self, process: Process, intent: Intent) -> None:
        limit = "market" if intent.limit is None else intent.limit
        self.tell(process.identity, f"sends {intent.side}", f"{intent.key} {intent.qty} at {limit}")
        self.oracle.sent(process, intent)

    def delivered(self, process: Process, execution: Executed) -> None:
        self.oracle.delivered(process, execution)

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        if error is None or isinstance(error, Death | asyncio.CancelledError | LeaseTaken):
            return
        self.oracle.violates("CRASH", f"{context.get('message')}: {error!r}")

    def _publish(self, update: TradeUpdate, execution: Executed | None) -> None:
        for door in list(self.trades):
            door.deliver(update, execution)

    # Processes

    def process(self, name: str) -> Process:
        self._numbers[name] += 1
        process = Process(name, f"{name}-{self._numbers[name]}")
        self.alive[process.identity] = True
        self.processes.append(process)
        return process

    def is_down(self) -> bool:
        """Whether the venue answers nobody now."""
        return self.loop.time() < self.down_until

    def lives(self, identity: str) -> bool:
        return self.alive.get(identity, False)

    def spawn(self, process: Process, work: Callable[[], Awaitable[None]]) -> None:
        """`work` runs as the process, until it ends or is killed."""

        async def whole() -> None:
            acting_in.set(process)
            try:
                await work()
            except (Death, asyncio.CancelledError):
                if not process.dead:
                    raise
            finally:
                self.alive[process.identity] = False

        task = self.loop.create_task(whole())
        self._jobs.append(task)
        process.owns(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.oracle.violates("CRASH", repr(error))

    def start_streamer(self) -> None:
        process = self.process("streamer")
        self.streamers.append(process)
        self.spawn(process, lambda: self._streamer(process))

    async def _streamer(self, process: Process) -> None:
        wired = Wired(self, process)
        try:
            await in_fiber(wired.broker.account)
            holding = await in_fiber(
                lambda: lease.take(
                    wired.store, self.clock, "streamer", process.identity, self.lives, ttl_s=LEASE_S
                )
            )
            self.oracle.streams(process)
            self.tell(process.identity, "streams", "")
            await wired.engine(holding).run(asyncio.Event())
        except LeaseTaken as error:
            self.fates.happened["kept_out_by_the_lease"] += 1
            self.tell(process.identity, "kept out", str(error))
        except DcaError as error:
            self.tell(process.identity, "ended", repr(error))
            self.fates.happened["streamer_ended"] += 1
        finally:
            process.kill()
            self.streamers.remove(process)

    def take_care(self, name: str) -> None:
        process = self.process(name)
        self.spawn(process, lambda: self._caretaker(process))

    async def _caretaker(self, process: Process) -> None:
        wired = Wired(self, process)
        wired.trader.instruments = self.instruments
        caretaker = wired.caretaker(process.name)
        report = await in_fiber(
            lambda: run(
                caretaker, store=wired.store, clock=self.clock, holder=process.identity, alive=self.lives
            )
        )
        happened = self.fates.happened
        happened[f"{process.name}_{report.result}"] += 1
        if report.result is Result.BUSY:
            happened["cron_overlapped"] += 1
        for repair in report.planned:
            happened[f"repair_{repair.kind}"] += 1
            self.tell(process.identity, repair.kind, f"{repair.subject}: {repair.reason}")
        for why in report.notes.values():
            happened["beaten_by_a_version"] += "somebody else changed" in why
            self.tell(process.identity, "note", why)

    # The market

    def true_quote(self, symbol: str) -> Quote:
        bid = Decimal(str(round(self.prices[symbol], 2)))
        spread = max(Decimal("0.01"), (bid * Decimal("0.0001")).quantize(Decimal("0.01")))
        return Quote(symbol, bid, bid + spread, self.clock.true())

    def tick(self, factor: Callable[[str], float]) -> None:
        """Every price moves once; the venue and whoever listens see it."""
        for symbol in self.instruments:
            self.prices[symbol] *= factor(symbol)
            quote = self.true_quote(symbol)
            self.oracle.priced(quote)
            self.exchange.quote(quote)
            for door in list(self.markets):
                door.show(quote)

    def old_quote(self, quote: Quote) -> Quote:
        """A quote from a while ago, with the time that it had then or with none that tells."""
        factor = Decimal(str(round(self.random.uniform(0.97, 1.03), 6)))
        at = self.clock.true() - self.clock.span(self.random.choice((61.0, 120.0, 600.0)))
        return quote._replace(bid=quote.bid * factor, ask=quote.ask * factor, at=at)

    def _walk(self, symbol: str) -> float:
        jump = self.random.choice((-0.03, 0.03, 0.06, -0.06)) if self.random.random() < 0.0008 else 0.0
        pull = 0.00002 if self.prices[symbol] < PRICES[symbol] else -0.00002
        return 1 + self.random.gauss(pull, 0.004) + jump

    async def _market(self) -> None:
        until = self.loop.time() + self.life_s
        ticks = 0
        while self.loop.time() < until:
            ticks += 1
            if ticks % LOOK_TICKS == 0:
                self.oracle.look()
            self.tick(self._walk)
            await asyncio.sleep(TICK_S)

    # Around it

    async def _cron(self, name: str) -> None:
        await asyncio.sleep(self.fates.between(1, PASS_EVERY_S[name]))
        while not self.ended:
            if name == "cooldown_manager":
                # So that it looks just before the quote at which the streamer may wake the same cycle.
                await asyncio.sleep(TICK_S - self.loop.time() % TICK_S - self.fates.between(0.01, 0.1))
            self.take_care(name)
            if self.fates.happens("cron_overlap"):
                self.take_care(name)
            await asyncio.sleep(PASS_EVERY_S[name] * self.fates.between(0.9, 1.1))

    async def _watchdog(self) -> None:
        """Starts the streamer where none lives, as cron does every minute."""
        while not self.ended:
            if not self.streamers:
                await asyncio.sleep(self.fates.between(0, 15))
                self.fates.happened["streamer_started"] += 1
                self.start_streamer()
            elif self.fates.happens("second_streamer"):
                self.start_streamer()
            await asyncio.sleep(MINUTE_S)

    async def _nemesis(self) -> None:
        """What goes wrong by itself, minute by minute."""
        while not self.ended:
            await asyncio.sleep(MINUTE_S * self.fates.between(0.5, 1.5))
            now = self.loop.time()
            for door in list(self.trades):
                if self.fates.happens("trades_drop"):
                    door.drop()
                if self.fates.happens("trades_mute"):
                    door.muted_until = now + self.fates.between(30, 400)
            for door_ in list(self.markets):
                if self.fates.happens("market_drop"):
                    door_.drop()
                if self.fates.happens("market_mute"):
                    door_.muted_until = now + self.fates.between(30, 400)
            if self.fates.happens("power_cut"):
                self._cut_power()
            if self.fates.happens("clock_step"):
                self.clock.off_s = self.random.choice((0.0, -3.0, 2.0, 20.0, -20.0, 90.0, -90.0))
            if self.fates.happens("venue_outage"):
                self.down_until = now + self.fates.between(20, 240)
            if self.fates.happens("account_blocked"):
                self.exchange.blocked_until = now + self.fates.between(20, 200)

    def _cut_power(self) -> None:
        """Every process dies at one instant; what is on its way to the venue arrives."""
        self.tell("world", "power cut", "")
        for process in self.processes:
            if self.alive[process.identity]:
                process.kill()

    # The whole

    def live(self) -> Life:
        """The life was lived and judged."""
        boundaries.install(self.crossing)
        handler = _Telling(self) if self._trace else None
        logger = logging.getLogger("dca")
        if handler is not None:
            logger.addHandler(handler)
        try:
            self.loop.run_until_complete(self._whole())
        finally:
            boundaries.install(None)
            if handler is not None:
                logger.removeHandler(handler)
            self.store.close()
            self.loop.close()
        return self._account()

    async def _whole(self) -> None:
        self._furnish()
        self.tick(lambda symbol: 1.0)
        around = [self._watchdog(), self._nemesis(), self.people.act()]
        around += [self._cron(name) for name in CARETAKERS]
        tasks = [self.loop.create_task(one) for one in around]
        calming = self.loop.call_later(self.life_s * CALM_AT, self._calm_down)
        await self._market()
        calming.cancel()
        await self._quiet()
        self.oracle.after_quiet()
        unproven = await self._probe()
        self.oracle.after_all(unproven)
        self.ended = True
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._bury()

    def _furnish(self) -> None:
        """The assets, each with rules of its own and a first cycle."""
        for symbol in self.instruments:
            rules = self._rules()

            def insert(tx: Tx, symbol: str = symbol, rules: Rules = rules) -> None:
                asset = tx.insert_asset(symbol, rules, is_enabled=True, at=START)
                assert asset is not None
                tx.insert_cycle(asset.id, CycleStatus.WATCHING, at=START)

            self.store.write(insert)

    def _rules(self) -> Rules:
        draw = self.random.choice
        trailing = draw((False, False, True))
        return Rules(
            base_order_amount=Decimal(draw((20, 50, 100))),
            safety_order_amount=Decimal(draw((20, 40))),
            max_safety_orders=draw((1, 3, 5)),
            safety_order_deviation=Decimal(draw(("0.6", "1", "1.5"))),
            take_profit_percent=Decimal(draw(("0.6", "0.8", "1.2"))),
            safety_order_volume_scale=Decimal(draw((1, 1, 2))),
            ttp_enabled=trailing,
            ttp_deviation_percent=Decimal("0.3") if trailing else Decimal(0),
            take_profit_net_of_fees=draw((True, False)),
            buy_order_price_deviation_percent=Decimal(draw(("0", "0.5", "1"))),
            cooldown_period=draw((0, 30, 120, 900)),
            **self._stop(),
        )

    def _stop(self) -> dict[str, Any]:
        """The rules of a stop loss, in half of all assets."""
        draw = self.random.choice
        if draw((True, False)):
            return {}
        return {
            "stop_loss_percent": Decimal(draw(("1", "2", "4"))),
            "stop_loss_timeout": draw((0, 0, 60)),
            "stop_loss_trailing": draw((True, False)),
            "break_even_percent": draw((None, Decimal("0.6"))),
            "stop_loss_cooldown_period": draw((None, 60)),
        }

    def _calm_down(self) -> None:
        """From now on nothing bad happens any more; what is wrong stays wrong until somebody mends it."""
        self.tell("world", "calm", "")
        self.fates.calm = True
        self.at_calm = self.boundaries
        self.clock.off_s = 0.0
        self.exchange.blocked_until = self.down_until = -1.0
        for door in self.trades:
            door.muted_until = -1.0
        for door_ in self.markets:
            door_.muted_until = -1.0
        self._afford()
        self.people.make_up()

    def _afford(self) -> None:
        """A person pays money in and lifts the limits, so that every asset can trade again."""
        self.exchange.cash += CASH * len(self.instruments)
        before, self.setup = self.setup, self.setup.roomy
        if before != self.setup:
            for process in list(self.streamers):
                process.kill()

    async def _quiet(self) -> None:
        """An hour in which the market stands nearly still, and people look after what was halted."""
        until = self.loop.time() + self.quiet_s
        looked = 0
        while self.loop.time() < until:
            self.tick(lambda symbol: 1.0)
            await asyncio.sleep(SLOW_TICK_S)
            looked += 1
            if looked % 15 == 0:
                self.people.look_after()

    async def _probe(self) -> list[str]:
        """Prices fall and rise until every enabled asset has lived a whole new cycle, or 40 minutes."""
        first = {asset.id: self.oracle.newest_cycle(asset.id) for asset in self.oracle.assets()}
        held: Counter[str] = Counter()
        for number in range(240):
            if number % 6 == 0 and not self.oracle.unproven(first):
                break
            if number % 2 == 0:
                states = self.oracle.unfinished()
            self.tick(partial(_wished, states, held))
            await asyncio.sleep(10)
        for _ in range(6):
            self.tick(lambda symbol: 1.0)
            await asyncio.sleep(10)
        return self.oracle.unproven(first)

    async def _bury(self) -> None:
        """Every process ends, and what it had begun runs out."""
        for process in list(self.streamers):
            process.kill()
        await asyncio.sleep(600)
        for task in self._jobs:
            if not task.done():
                task.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)

    def _account(self) -> Life:
        return Life(
            seed=self.seed,
            digest=self._digest.hexdigest(),
            violations=self.oracle.violations,
            happened=self.fates.happened,
            hours=self.loop.time() / 3600,
            boundaries=self.boundaries,
            fills=len(self.exchange.executions),
            cycles=self.oracle.completed,
            story=self.story,
        )


def _wished(states: dict[str, Cycle], held: Counter[str], symbol: str) -> float:
    """How the price moves so that the cycle gets on: a fall after the first buy, then a rise."""
    cycle = states.get(symbol)
    if cycle is None or cycle.quantity <= 0:
        return 1.0
    if cycle.status is CycleStatus.TRAILING:
        return 0.998
    held[str(cycle.id)] += 1
    return 0.996 if held[str(cycle.id)] <= 5 else 1.006


class _Telling(logging.Handler):
    """Puts what the program logs into the story."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.INFO)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        known = logging.LogRecord("", 0, "", 0, "", (), None).__dict__
        more = {name: value for name, value in record.__dict__.items() if name not in known}
        text = " ".join(f"{name}={value}" for name, value in more.items())
        who = self._world.acting.identity if self._world.acting else "log"
        self._world.tell(who, f"log {record.getMessage()}", text)
