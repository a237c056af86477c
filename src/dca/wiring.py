"""Builds everything from Settings; the only module that names concrete adapters."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dca
from dca import boundaries, logs
from dca.adapters.chance import chance
from dca.adapters.clock import clock_at
from dca.adapters.db.backup import BackupFolder
from dca.adapters.db.store import SqlStore
from dca.adapters.halt_file import HaltFile
from dca.adapters.notify import AppriseNotifier
from dca.adapters.process import PidFile, identity, may_be_alive, root_complaint
from dca.adapters.rotation import LogFolder
from dca.adapters.sdnotify import supervised
from dca.adapters.supervise import LocalSupervisor, note_exit, pid_path
from dca.domain.errors import ConfigError, Unauthorized, VenueError
from dca.domain.mode import Mode, Restriction, in_force, reasons
from dca.logs.hiding import Hiding
from dca.ports import Account, Broker, Clock, Store
from dca.risk.review import Limits
from dca.service import lease
from dca.service.anomaly import Lookout
from dca.service.breaker import Circuits
from dca.service.budget import RateBudget
from dca.service.caretakers.asset_caretaker import AssetCaretaker
from dca.service.caretakers.bookkeeper import Bookkeeper
from dca.service.caretakers.consistency_checker import ConsistencyChecker
from dca.service.caretakers.cooldown_manager import CooldownManager
from dca.service.caretakers.housekeeping import Housekeeping, Keep
from dca.service.caretakers.notifier import NotifierCaretaker
from dca.service.caretakers.order_manager import Ages, OrderManager
from dca.service.caretakers.runner import Caretaker
from dca.service.caretakers.watchdog import Watchdog, alarm
from dca.service.catchup import CatchUp
from dca.service.engine import Engine
from dca.service.guard import GuardedBroker
from dca.service.operating import Desk
from dca.service.outbox import Outbox, Policy
from dca.service.recorder import Recorder
from dca.service.shared import Shared
from dca.service.trader import Slippage, Trader
from dca.settings import ClockSettings, Settings, env_file_complaint, is_live
from dca.strategy.dca import Terms
from dca.strategy.ladder import VENUE_MINIMUM

if TYPE_CHECKING:
    from dca.adapters.venues.alpaca import AlpacaMarketFeed, AlpacaTradeFeed

log = logging.getLogger(__name__)
RETRY_S = 1.0
CLOCK_SLACK_S = 5.0
"""How far the venue's clock and ours may be apart when money is counted."""
SWITCHED = {Mode.HALTED: "halted", Mode.REDUCE_ONLY: "paused"}
"""What people call a mode that they can switch to."""
STREAMER = "main_app"
LOGS = {STREAMER: "main", "dca": "dca"}
"""Which log a process writes to; all others are scripts, and share one."""
MAIN_APP = Path(dca.__file__).parents[1] / "main_app.py"


def clock_of(settings: ClockSettings) -> Clock:
    """The clock that trading follows."""
    return clock_at(settings.speed, settings.wall_origin, settings.origin)


def clock(settings: Settings) -> Clock:
    return clock_of(settings.clock)


def start_logging(name: str, settings: Settings, *, terminal: bool = True) -> None:
    """The process `name` logs to the file of its kind in the run directory.

    Without `terminal`, stderr gets only warnings, unless it is a terminal.
    """
    logs.set_up(
        name,
        settings.run_dir,
        settings.log_level,
        file=LOGS.get(name, "caretakers"),
        secrets=settings.secrets(),
        now=clock(settings).now,
        terminal=terminal,
    )
    readable = env_file_complaint(settings.env_file)
    if name == STREAMER and readable:
        log.warning("env_file", extra={"reason": readable})
    rooted = root_complaint()
    if name == STREAMER and rooted:
        log.warning("runs_as_root", extra={"reason": rooted})


def store(settings: Settings) -> SqlStore:
    return SqlStore(settings.database_url)


@contextmanager
def opened(settings: Settings) -> Iterator[Store]:
    """The database, closed at the end."""
    database = store(settings)
    try:
        yield database
    finally:
        database.close()


def broker(settings: Settings, database: Store | None = None) -> GuardedBroker:
    """The venue, behind the guard that every request passes; `database` is where that shares with other
    processes what may still be asked. Raises ConfigError when the settings do not say enough of it."""
    if settings.venue_complaints:
        raise ConfigError("settings: " + "; ".join(settings.venue_complaints))
    # Here, because alpaca-py loads pandas: half the start of whatever never asks the venue.
    from dca.adapters.venues.alpaca import AlpacaBroker

    venue = AlpacaBroker(
        settings.api_key_id,
        settings.api_secret_key,
        base_url=settings.base_url,
        data_url=settings.data_url,
        timeout_s=settings.request_timeout_s,
    )
    time, rest = clock(settings), threading.Event().wait
    shared = Shared(database, time)
    return GuardedBroker(
        venue,
        shared,
        time,
        RateBudget(shared, time, settings.requests_per_minute, rest),
        Circuits(shared, time, settings.breaker_pause_s),
        rest=rest,
        chance=chance(),
        keys_pause_s=settings.breaker_pause_s,
        sends=not settings.dry_run,
    )


def market_feed(settings: Settings) -> "AlpacaMarketFeed":
    from dca.adapters.venues.alpaca import AlpacaMarketFeed

    return AlpacaMarketFeed(settings.data_stream_url, settings.api_key_id, settings.api_secret_key)


def trade_feed(settings: Settings) -> "AlpacaTradeFeed":
    from dca.adapters.venues.alpaca import AlpacaTradeFeed

    return AlpacaTradeFeed(settings.stream_url, settings.api_key_id, settings.api_secret_key)


def limits(settings: Settings) -> Limits:
    risk = settings.risk
    return Limits(
        max_order=risk.max_order,
        max_asset=risk.max_asset,
        max_day=risk.max_day,
        max_account=risk.max_account,
        max_daily_loss=risk.max_daily_loss,
        max_drawdown_pct=risk.max_drawdown_pct,
        max_active_cycles=risk.max_active_cycles,
        reserve_pct=risk.reserve_pct,
        max_funds_age=clock(settings).span(risk.max_balance_age_s),
        min_profit_pct=risk.min_profit_pct,
        taker_fee=settings.fees.taker,
        armed=not is_live(settings.base_url) or settings.live_account is not None,
        max_open_orders=settings.max_open_orders,
        max_quote_age=timedelta(seconds=settings.max_quote_age_s),
        min_notional=VENUE_MINIMUM,
    )


def terms(settings: Settings) -> Terms:
    return Terms(settings.fees.taker, timedelta(seconds=settings.stale_order_s))


def trader(
    settings: Settings, database: Store, venue: GuardedBroker, time: Clock, recorder: Recorder
) -> Trader:
    """Acts on quotes; whoever uses it gives it the venue's instruments."""
    halt_file = HaltFile(settings.run_dir)
    return Trader(
        database,
        venue,
        time,
        recorder,
        limits(settings),
        terms(settings),
        halted_outside=halt_file.reason,
        refusal=venue.refusal,
        slippage=Slippage(
            buy_pct=settings.risk.buy_slippage_pct,
            sell_pct=settings.risk.sell_slippage_pct,
            buy_time_in_force=settings.risk.buy_time_in_force,
        ),
        dry_run=settings.dry_run,
        clock_slack=time.span(CLOCK_SLACK_S),
    )


def desk(settings: Settings, database: Store, rest: Callable[[float], object]) -> Desk:
    """What an operator's orders go through; whoever uses it gives its trader the instruments."""
    watch_boundaries(settings)
    time, venue = clock(settings), broker(settings, database)
    recorder = Recorder(database, time, settings.fees)
    return Desk(
        store=database,
        broker=venue,
        clock=time,
        trader=trader(settings, database, venue, time, recorder),
        catch_up=CatchUp(database, venue, time, recorder, grace_s=settings.grace_s),
        rest=rest,
    )


def restrictions(settings: Settings, database: Store) -> list[Restriction]:
    """Everything that restricts trading now, the strictest first; a halt by file counts as well."""
    now = clock(settings).now()
    found = in_force(database.read(lambda tx: tx.modes()), now)
    by_file = HaltFile(settings.run_dir).reason()
    if by_file is None:
        return found
    return [*found, Restriction(source="halt file", mode=Mode.HALTED, reason=by_file, since=now)]


def switches(settings: Settings, database: Store) -> dict[str, str]:
    """Why trading is `halted`, `paused`, or the watchdog in `maintenance`: only what is the case."""
    found = reasons(restrictions(settings, database), clock(settings).now())
    words = {SWITCHED[mode]: why for mode, why in found.items()}
    return words | database.read(lambda tx: tx.flags())


def engine(
    settings: Settings, database: Store, venue: GuardedBroker, time: Clock, holding: lease.Holding
) -> Engine:
    """The streamer, ready to run."""
    recorder = Recorder(database, time, settings.fees)
    return Engine(
        store=database,
        broker=venue,
        clock=time,
        trader=trader(settings, database, venue, time, recorder),
        recorder=recorder,
        catch_up=CatchUp(database, venue, time, recorder, grace_s=settings.grace_s),
        market=market_feed(settings),
        trades=trade_feed(settings),
        lease=holding,
        reconcile_every_s=settings.reconcile_every_s,
        identity=identity(),
        deliver=outbox(settings, database, time).deliver,
        lookout=Lookout(database, time, venue),
    )


def notifier(settings: Settings) -> AppriseNotifier:
    """Mail and messengers. Its `check` says whether the addresses can be used."""
    return AppriseNotifier(settings.notify.urls)


def outbox(settings: Settings, database: Store, time: Clock) -> Outbox:
    """Takes messages from the database to people."""
    wishes = settings.notify
    policy = Policy(wishes.off, wishes.quiet, wishes.zone)
    return Outbox(database, time, notifier(settings), policy, identity(), may_be_alive)


def notifier_caretaker(settings: Settings, database: Store, time: Clock) -> NotifierCaretaker:
    """Raises ConfigError when an address cannot be used."""
    notifier(settings).check()
    return NotifierCaretaker(outbox(settings, database, time))


def housekeeping(settings: Settings, database: Store, time: Clock) -> Housekeeping:
    keep = settings.keep
    return Housekeeping(
        database,
        time,
        LogFolder(settings.run_dir),
        BackupFolder(settings.database_url, keep.backup_dir),
        Keep(log_days=keep.log_days, events_days=keep.events_days, backup_days=keep.backup_days),
    )


def supervisor(settings: Settings) -> LocalSupervisor:
    """The streamer as a process of this machine."""
    hide = Hiding(settings.secrets())
    return LocalSupervisor(settings.run_dir, MAIN_APP, clock(settings), hide=hide)


def watchdog(settings: Settings, database: Store, time: Clock) -> Watchdog:
    return Watchdog(
        database,
        broker(settings, database),
        time,
        supervisor(settings),
        threading.Event().wait,
        may_start=settings.watchdog_may_start,
    )


def database_alarm(settings: Settings, why: str) -> None:
    """A person knows that the database cannot be reached, which its outbox cannot tell."""
    alarm(supervisor(settings), notifier(settings), clock(settings), why)


def order_manager(settings: Settings, database: Store, time: Clock) -> OrderManager:
    venue, recorder = broker(settings, database), Recorder(database, time, settings.fees)
    stale, grace = timedelta(seconds=settings.stale_order_s), time.span(settings.grace_s)
    return OrderManager(
        database,
        venue,
        time,
        trader(settings, database, venue, time, recorder),
        CatchUp(database, venue, time, recorder, grace_s=settings.grace_s),
        Ages(
            stale=stale,
            stuck=timedelta(seconds=settings.stuck_sell_s),
            orphan=max(stale, grace),
            grace=grace,
            whole_account=settings.whole_account,
        ),
        threading.Event().wait,
    )


def cooldown_manager(settings: Settings, database: Store, time: Clock) -> CooldownManager:
    return CooldownManager(database, broker(settings, database), time)


def consistency_checker(settings: Settings, database: Store, time: Clock) -> ConsistencyChecker:
    venue, recorder = broker(settings, database), Recorder(database, time, settings.fees)
    catch_up = CatchUp(database, venue, time, recorder, grace_s=settings.grace_s)
    return ConsistencyChecker(database, venue, time, recorder, catch_up, time.span(settings.grace_s))


def asset_caretaker(settings: Settings, database: Store, time: Clock) -> AssetCaretaker:
    return AssetCaretaker(database, time)


def bookkeeper(settings: Settings, database: Store, time: Clock) -> Bookkeeper:
    venue, grace = broker(settings, database), time.span(settings.grace_s)
    return Bookkeeper(database, venue, time, grace, threading.Event().wait)


Build = Callable[[Settings, Store, Clock], Caretaker[Any, Any]]
CARETAKERS: dict[str, Build] = {
    "order_manager": order_manager,
    "cooldown_manager": cooldown_manager,
    "consistency_checker": consistency_checker,
    "asset_caretaker": asset_caretaker,
    "bookkeeper": bookkeeper,
    "watchdog": watchdog,
    "notifier": notifier_caretaker,
    "housekeeping": housekeeping,
}
"""How each caretaker is put together, by the name of its script."""
TRADING = frozenset({"order_manager"})
"""Caretakers that send or cancel orders: where DRY_RUN is set, they only say what they would do."""
PER_MACHINE = frozenset({"watchdog", "housekeeping"})
"""Caretakers of a machine, not of the account: those of two machines do not exclude each other."""


def watch_boundaries(settings: Settings) -> None:
    """This process dies where CRASH_AT says, and notes in CRASH_LOG what it crosses until then."""
    if settings.crash_at is not None or settings.crash_log is not None:
        boundaries.install(boundaries.counting(settings.crash_at, settings.crash_log))


async def run_streamer(settings: Settings, stop: asyncio.Event) -> None:
    """The streamer traded until `stop` was set.

    Raises AlreadyRunning or LeaseTaken when another instance trades this account, ConfigError when
    a person must fix something.
    """
    watch_boundaries(settings)
    pid_file = PidFile(pid_path(settings.run_dir))
    pid_file.take()
    database = store(settings)
    try:
        async with supervised(settings.systemd_socket, settings.systemd_watchdog_s):
            await _trade(settings, database, stop)
    finally:
        database.close()
        pid_file.drop()


async def _trade(settings: Settings, database: Store, stop: asyncio.Event) -> None:
    time, venue = clock(settings), broker(settings, database)
    account = await _account(settings, venue, stop)
    if account is None:
        return
    take = partial(lease.take, database, time, f"streamer:{account.id}", identity(), may_be_alive)
    holding = await asyncio.to_thread(take)
    log.info("started", extra={"account": account.id, "venue": settings.base_url})
    try:
        await engine(settings, database, venue, time, holding).run(stop)
    finally:
        await asyncio.to_thread(holding.drop)
    log.info("stopped")


def refuse_other_account(settings: Settings, account: Account) -> None:
    """Raises ConfigError when the keys lead to another account with real money than the one armed."""
    armed = settings.live_account
    if armed is not None and account.number != armed:
        raise ConfigError(
            f"LIVE_ACCOUNT is {armed}, but the keys are of account {account.number}: correct one of them"
        )


def streamer_ended(settings: Settings, code: int) -> None:
    """Whoever wonders why the streamer is gone finds its exit code."""
    note_exit(settings.run_dir, clock(settings), code)


async def _account(settings: Settings, venue: Broker, stop: asyncio.Event) -> Account | None:
    """The venue account, asked for until the venue answers; None when told to stop meanwhile."""
    while not stop.is_set():
        try:
            account = await asyncio.to_thread(venue.account)
            refuse_other_account(settings, account)
            return account
        except Unauthorized as error:
            raise ConfigError(
                f"the venue refused APCA_API_KEY_ID and APCA_API_SECRET_KEY: {error}"
            ) from error
        except VenueError as error:
            log.warning("venue_not_reached", extra={"error": str(error)})
            await asyncio.wait([asyncio.ensure_future(stop.wait())], timeout=RETRY_S)
    return None
