"""The streamer: quotes and trade updates in, orders and rows out, never blocked by a slow outside."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from dca.domain.errors import DcaError, IllegalTransition, StoreError, VenueError
from dca.domain.market import Quote
from dca.domain.mode import Restriction
from dca.domain.money import ZERO
from dca.domain.order import Side, TradeUpdate
from dca.domain.record import Heartbeat
from dca.ports import Broker, Clock, Link, MarketFeed, Store, T, TradeFeed, Tx
from dca.risk.price import follows
from dca.service import funds
from dca.service.anomaly import Lookout
from dca.service.brief import Brief, read_brief
from dca.service.catchup import CatchUp
from dca.service.lease import Holding
from dca.service.recorder import Recorded, Recorder
from dca.service.replacing import Replacing
from dca.service.trader import Outcome, Trader
from dca.service.verdicts import Verdict, Verdicts, verdict_of
from dca.service.vitals import Vitals
from dca.service.watched import Revision, Watched, changed, is_traded, revision_of
from dca.strategy.dca import Buy, Wait

log = logging.getLogger(__name__)

POLL_S = 0.5
BEAT_S = 2.0
RETRY_S = 1.0
ASK_S = (0.5, 1.0, 2.0, 4.0, 8.0)
REFRESH_S = 6 * 3600.0
STOP_S = 4.0
QUEUE = 10_000
WORKERS = 8

Work = Callable[[], Coroutine[Any, Any, None]]


class InThread(Protocol):
    """Runs blocking work while the loop goes on."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]: ...


@dataclass(kw_only=True)
class Engine:
    """Runs until told to stop. Any of its parts that ends by itself ends the whole: a streamer that
    lives with half its streams is worse than one that is restarted.

    `deliver` sends what people should be told; it is called in a thread, soon after something
    happened. `identity` names this process in its heartbeat. `lookout` looks for what only shows over
    time. `in_thread` None: in a thread of its own
    pool; a simulation has no threads.
    """

    store: Store
    broker: Broker
    clock: Clock
    trader: Trader
    recorder: Recorder
    catch_up: CatchUp
    market: MarketFeed
    trades: TradeFeed
    lease: Holding
    reconcile_every_s: float
    identity: str = ""
    deliver: Callable[[], None] = lambda: None
    lookout: Lookout | None = None
    in_thread: InThread | None = None
    poll_s: float = POLL_S
    beat_s: float = BEAT_S

    def __post_init__(self) -> None:
        self.watched: dict[str, Watched] = {}
        self.board: dict[str, Quote] = {}
        self._before: dict[str, Quote] = {}
        self._vitals = Vitals(self.clock, self.identity)
        self._verdicts = Verdicts(self.trader.terms)
        self._replacing = Replacing(
            store=self.store,
            broker=self.broker,
            clock=self.clock,
            trader=self.trader,
            catch_up=self.catch_up,
            asks=1,
            entries_blocked=self.entries_blocked,
        )
        self._news = asyncio.Event()
        self._generation = 0
        self._caught_up = -1
        self._account_blocked = False
        self._funds_at = self.clock.now()
        self._revision: Mapping[int, Revision] = {}
        self._reconcile = asyncio.Event()
        self._reconcile.set()
        self._updates: asyncio.Queue[TradeUpdate] = asyncio.Queue(QUEUE)
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="worker")
        self._jobs: set[asyncio.Task[None]] = set()
        self._questions: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] | None = None
        self._ending = False

    async def run(self, stop: asyncio.Event) -> None:
        """Trades until `stop` is set, then finishes what is in flight; orders stay where they are.

        Raises ConfigError when keys or subscriptions are refused for good, LeaseTaken when another
        instance took over, and whatever a part of it ended with.
        """
        self._failed = asyncio.get_running_loop().create_future()
        await self._begin(stop)
        parts = [
            self._watch_market(),
            self.trades.run(self.on_update, self._trades_link),
            self._record_updates(),
            self._poll(),
            self._reconcile_loop(),
            self._beat(),
            self._refresh_instruments(),
            self._tell(),
        ]
        if self.lookout is not None:
            parts.append(self._look_out(self.lookout))
        tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(part) for part in parts]
        stopping = asyncio.ensure_future(stop.wait())
        try:
            done, _ = await asyncio.wait(
                [*tasks, stopping, self._failed], return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()
            if stopping not in done:
                raise DcaError("a part of the streamer ended by itself")
        finally:
            await self._end([*tasks, stopping])

    async def _begin(self, stop: asyncio.Event) -> None:
        """What cannot be done without is known, or the wait for it was ended by `stop`."""
        while not stop.is_set():
            try:
                self.trader.instruments = await self._call(self.broker.instruments)
                await self._reload()
                return
            except (VenueError, StoreError) as error:
                log.warning("cannot_start_yet", extra={"error": str(error)})
                await asyncio.sleep(RETRY_S)

    async def _end(self, tasks: list[asyncio.Future[Any]]) -> None:
        """What is in flight is finished, what arrived is recorded, nothing new is begun."""
        self._ending = True
        waiting = [*tasks, *self._questions]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=STOP_S)
        while not self._updates.empty():
            await self._record(self._updates.get_nowait())
        late = list(self._jobs)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _call(self, work: Callable[[], T]) -> T:
        if self.in_thread is not None:
            return await self.in_thread(work)
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    # Quotes

    def on_quotes(self, quotes: Iterable[Quote]) -> None:
        """The newest quotes are on the board, and what they trigger is under way."""
        for quote in quotes:
            before = self.board.get(quote.symbol)
            if before is not None and self._follows(before):
                self._before[quote.symbol] = before
            self.board[quote.symbol] = quote
            self._consider(quote)

    def _follows(self, quote: Quote) -> bool:
        """Whether it continues what was believed before: two wild quotes must not vouch for each other."""
        max_age = self.trader.limits.max_quote_age
        return follows(quote, self._before.get(quote.symbol), self.clock.now(), max_age)

    def _consider(self, quote: Quote) -> None:
        watched = self.watched.get(quote.symbol)
        if watched is None or watched.jobs or self._caught_up < 0 or self._ending:
            return
        held = watched.hold_until is not None and self.clock.now() < watched.hold_until
        if held and not watched.only_buys:
            return
        decision = self.trader.think(watched.brief.situation, quote)
        if held and isinstance(decision, Buy):
            return
        if isinstance(decision, Wait):
            if held:
                return
            watched.reason = decision
            if watched.verdict != (decision.code, decision.wanted):
                self._note(watched, quote, verdict_of(decision), decision.reason)
            return
        self._start(watched, lambda: self._act(watched, quote))

    def _note(
        self, watched: Watched, quote: Quote, verdict: Verdict, why: str, *, held: bool = False
    ) -> None:
        watched.verdict = verdict
        self._verdicts.note(watched.brief.situation, quote, verdict, why, self.clock.now(), held=held)

    async def _act(self, watched: Watched, quote: Quote) -> None:
        # The same quote on the same rows has the same answer: asking again at once would never end.
        watched.tried = (quote, watched.brief)
        decision = self.trader.think(watched.brief.situation, quote)
        blocked, before = self.entries_blocked(), self._before.get(quote.symbol)
        outcome = await self._call(
            lambda: self.trader.act(watched.brief, quote, before=before, entries_blocked=blocked)
        )
        if outcome.believed:
            self._before[quote.symbol] = quote
        verdict = verdict_of(decision)
        if outcome.hold_until is not None:
            verdict = ("held", outcome.reason)
        if watched.verdict != verdict:
            self._note(watched, quote, verdict, outcome.reason, held=outcome.hold_until is not None)
        self._came_of_it(watched, outcome)
        await self._reload_one(watched)

    def _came_of_it(self, watched: Watched, outcome: Outcome) -> None:
        watched.reason = outcome.reason
        watched.hold_until, watched.only_buys = outcome.hold_until, outcome.only_buys
        self._news.set()
        if outcome.ask is not None:
            self._spawn(self._ask(outcome.ask), self._questions)
        if outcome.measure is not None:
            cycle_id = outcome.measure
            self._start(watched, lambda: self._measure_fees(watched, cycle_id))
        if outcome.reconcile:
            self._reconcile.set()

    def entries_blocked(self) -> str | None:
        """Why no order that raises exposure may be sent now; None when it may."""
        if self._vitals.links["trades"] != "up":
            return "the trade-update stream is down"
        if self._caught_up != self._generation:
            return "catching up with the venue"
        if self._account_blocked:
            return "the venue has blocked the account"
        return None

    def _start(self, watched: Watched, work: Work) -> None:
        """`work` runs after whatever else is under way for this asset; quotes wait meanwhile."""
        watched.jobs += 1
        self._spawn(self._job(watched, work), self._jobs)

    async def _job(self, watched: Watched, work: Work) -> None:
        try:
            async with watched.lock:
                await work()
        except IllegalTransition as error:
            await self._halt(watched, str(error))
        except (StoreError, VenueError) as error:
            watched.reason = str(error)
            watched.hold_until, watched.only_buys = self.clock.now() + self.clock.span(RETRY_S), False
            log.warning("job_failed", extra={"asset_id": watched.asset_id, "error": str(error)})
        finally:
            watched.jobs -= 1
        newest = self.board.get(watched.symbol)
        if newest is not None and not watched.jobs and watched.tried != (newest, watched.brief):
            self._consider(newest)

    def _spawn(self, work: Coroutine[Any, Any, None], among: set[asyncio.Task[None]]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        among.add(task)
        task.add_done_callback(among.discard)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)

    async def _halt(self, watched: Watched, why: str) -> None:
        await self._call(lambda: self.recorder.halt(watched.asset_id, why))
        await self._reload_one(watched)

    # Trade updates

    def on_update(self, update: TradeUpdate) -> None:
        """The update waits to be recorded; one that finds no room is fetched by catching up."""
        self._vitals.updated()
        try:
            self._updates.put_nowait(update)
        except asyncio.QueueFull:
            self._reconcile.set()

    async def _record_updates(self) -> None:
        while True:
            await self._record(await self._updates.get())

    async def _record(self, update: TradeUpdate) -> None:
        executions = () if update.execution is None else (update.execution,)
        source = f"stream:{update.event}"
        while True:
            try:
                result = await self._call(
                    lambda: self.recorder.record(update.order, executions, source=source)
                )
                break
            except StoreError as error:
                log.error("update_not_recorded", extra={"key": update.order.key, "error": str(error)})
                await asyncio.sleep(RETRY_S)
            except IllegalTransition as error:
                await self._halt_symbol(update.order.symbol, str(error))
                return
        await self._recorded(result)

    async def _halt_symbol(self, symbol: str, why: str) -> None:
        watched = self.watched.get(symbol)
        if watched is not None:
            await self._halt(watched, why)

    async def _recorded(self, result: Recorded) -> None:
        order = result.order
        if order is None:
            return
        if result.changed:
            self._news.set()
        if result.missing > 0 and not self._ending:
            self._spawn(self._ask(order.key), self._questions)
        watched = self.watched.get(order.intent.symbol)
        if watched is None or not result.changed or self._ending:
            return
        if result.ended and order.intent.side is Side.BUY and order.filled_qty > 0:
            cycle_id = order.intent.cycle_id
            self._start(watched, lambda: self._measure_fees(watched, cycle_id))
        else:
            self._start(watched, lambda: self._reload_one(watched))

    async def _measure_fees(self, watched: Watched, cycle_id: int) -> None:
        try:
            await self._call(lambda: self.catch_up.fees(cycle_id))
        finally:
            await self._reload_one(watched)

    async def _ask(self, key: str) -> None:
        """The venue is asked for an order until its fate is known, in growing pauses."""
        for pause in ASK_S:
            await asyncio.sleep(pause)
            try:
                result = await self._call(lambda: self.catch_up.order(key))
            except (VenueError, StoreError) as error:
                log.warning("order_not_asked", extra={"key": key, "error": str(error)})
                continue
            except IllegalTransition as error:
                log.error("order_contradicts", extra={"key": key, "error": str(error)})
                return
            if result.changed:
                await self._recorded(replace(result, missing=ZERO))
            order = result.order
            if order is None or not order.live or (result.missing <= 0 and order.venue_id is not None):
                return

    # Streams

    async def _watch_market(self) -> None:
        """The market feed runs for the assets there are, anew whenever they change."""
        while True:
            symbols = sorted(self.watched)
            if not symbols:
                await asyncio.sleep(self.poll_s)
                continue
            feed = asyncio.ensure_future(self.market.run(symbols, self._quotes, self._market_link))
            try:
                while not feed.done() and sorted(self.watched) == symbols:
                    await asyncio.wait([feed], timeout=self.poll_s)
                if feed.done():
                    feed.result()
                    raise DcaError("the market feed ended by itself")
            finally:
                feed.cancel()
                await asyncio.gather(feed, return_exceptions=True)

    def _quotes(self, quotes: Iterable[Quote]) -> None:
        self._vitals.quoted()
        self.on_quotes(quotes)

    def _market_link(self, link: Link, why: str) -> None:
        self._vitals.linked("market", link)
        log.debug("market_link", extra={"link": str(link), "reason": why})

    def _trades_link(self, link: Link, why: str) -> None:
        self._vitals.linked("trades", link)
        self._generation += 1
        log.debug("trades_link", extra={"link": str(link), "reason": why})
        if link is Link.UP:
            self._reconcile.set()
            if self.lookout is not None:
                self.lookout.guard.knock()

    # Timers

    async def _reconcile_loop(self) -> None:
        while True:
            # Not wait_for: in Python 3.11 it swallows a cancellation that comes with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.reconcile_every_s):
                    await self._reconcile.wait()
            self._reconcile.clear()
            generation = self._generation
            try:
                fresh = self._caught_up != generation
                await self._call(lambda fresh=fresh: self.catch_up.everything(sweep=fresh))  # type: ignore[misc]
                account = await self._call(lambda: funds.refresh(self.store, self.broker, self.clock))
                self._account_blocked = account.blocked
                self._funds_at = self.clock.now()
                if self.lookout is not None:
                    await self._call(self.lookout.guard.reconciled)
                await self._reload(by_hand=True)
            except (VenueError, StoreError) as error:
                log.warning("catch_up_failed", extra={"error": str(error)})
                if isinstance(error, VenueError):
                    self._vitals.caught_up(str(error))
                await asyncio.sleep(RETRY_S)
                self._reconcile.set()
                continue
            if fresh:
                log.info("caught_up", extra={"generation": generation})
            self._caught_up = generation
            self._vitals.caught_up()
            if fresh:
                self._spawn(self._go_on(), self._questions)

    async def _go_on(self) -> None:
        """Replacements that a process left behind are gone on with; what waits is the order_manager's."""
        try:
            await self._call(self._replacing.resume_all)
        except StoreError as error:
            log.warning("replacements_not_resumed", extra={"error": str(error)})

    async def _poll(self) -> None:
        """What other processes changed is seen, and time alone can trigger."""
        while True:
            await asyncio.sleep(self.poll_s)
            try:
                revision, restrictions = await self._call(lambda: self.store.read(_what_changed))
                self.trader.restrictions = restrictions
                await self._mind_the_balance(restrictions)
                if revision != self._revision:
                    await self._reload()
                await self._call(lambda: self._verdicts.write(self.store))
            except StoreError as error:
                log.warning("poll_failed", extra={"error": str(error)})
                continue
            for quote in list(self.board.values()):
                self._consider(quote)

    async def _mind_the_balance(self, restrictions: Sequence[Restriction]) -> None:
        """Everybody sees that nothing is bought while the balance cannot be read, and when that is over."""
        longest = self.trader.limits.max_funds_age
        unknown = longest is not None and self.clock.now() - self._funds_at > longest
        if unknown != any(one.source == funds.SOURCE for one in restrictions):
            await self._call(lambda: funds.tell_known(self.store, self.clock, not unknown))

    async def _reload(self, *, by_hand: bool = False) -> None:
        """What is held in memory is what the database says, wherever that changed."""
        known = {watched.asset_id: watched.brief for watched in self.watched.values()}
        self._revision, briefs = await self._call(
            lambda: self.store.read(lambda tx: changed(tx, known, by_hand=by_hand))
        )
        self._drop_missing()
        for asset_id, brief in briefs.items():
            symbol = brief.situation.asset.asset_symbol
            watched = self.watched.get(symbol)
            if not is_traded(brief):
                self.watched.pop(symbol, None)
            elif watched is None:
                self.watched[symbol] = Watched(brief)
            elif not watched.jobs:
                self._refresh(watched, brief)
            else:
                # A job that is under way reads the rows anew when it is done.
                log.debug("reload_left_to_job", extra={"asset_id": asset_id})
        briefs_held = (watched.brief for watched in self.watched.values())
        self.trader.assets = {one.situation.asset.id: one.situation.asset for one in briefs_held}

    def _drop_missing(self) -> None:
        for watched in list(self.watched.values()):
            if watched.asset_id not in self._revision and not watched.jobs:
                self._forget(watched)

    def _forget(self, watched: Watched) -> None:
        if self.watched.pop(watched.symbol, None) is not None:
            why = "its row was removed: nothing that it holds is sold until it is there again"
            log.error("asset_gone", extra={"symbol": watched.symbol, "reason": why})

    async def _reload_one(self, watched: Watched) -> None:
        if watched.jobs > 1:
            # The job that waits behind this one ends with reading the rows, and no quote is looked at before.
            return
        asset_id = watched.asset_id
        brief = await self._call(lambda: self.store.read(lambda tx: read_brief(tx, asset_id)))
        if brief is None:
            self._forget(watched)
        else:
            self._refresh(watched, brief)

    def _refresh(self, watched: Watched, brief: Brief) -> None:
        """A row that changed - asset, cycle, order or fill - asks for a new decision at once."""
        if brief != watched.brief:
            watched.hold_until = None
        watched.brief = brief
        self._revision = {**self._revision, watched.asset_id: revision_of(brief)}

    async def _beat(self) -> None:
        while True:
            try:
                await self._write_beat(Heartbeat(name="streamer", at=self.clock.now(), detail=self._detail()))
            except StoreError as error:
                log.warning("beat_failed", extra={"error": str(error)})
            await asyncio.sleep(self.beat_s)

    async def _write_beat(self, beat: Heartbeat) -> None:
        await self._call(lambda: self.lease.renew(beat))

    async def _look_out(self, lookout: Lookout) -> None:
        """Away from quotes and heartbeat: it asks the database, at times the venue."""
        while True:
            await asyncio.sleep(self.beat_s)
            symbols = sorted(self.watched)
            try:
                await self._call(partial(lookout.look, symbols))
            except (VenueError, StoreError) as error:
                log.warning("looked_in_vain", extra={"error": str(error)})

    def _detail(self) -> dict[str, Any]:
        return {
            **self._vitals.fields(),
            "breakers": {} if self.lookout is None else self.lookout.guard.states(),
            "entries_blocked": self.entries_blocked(),
            "assets": {symbol: watched.explained for symbol, watched in sorted(self.watched.items())},
        }

    async def _tell(self) -> None:
        """People hear at once what happened; what fails now is tried again by the notifier."""
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self._call(self.deliver)
            except (VenueError, StoreError) as error:
                log.warning("not_told", extra={"error": str(error)})

    async def _refresh_instruments(self) -> None:
        """Increments and minimums change over time, so they are read again now and then."""
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                self.trader.instruments = await self._call(self.broker.instruments)
            except VenueError as error:
                log.warning("instruments_not_read", extra={"error": str(error)})


def _what_changed(tx: Tx) -> tuple[dict[int, Revision], list[Restriction]]:
    return tx.revision(), tx.modes()
