"""Builds everything from Settings; the only module that names concrete adapters."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

from dca import boundaries, logs
from dca.adapters.clock import ScaledClock, SystemClock
from dca.adapters.db.store import SqlStore
from dca.adapters.process import PidFile, identity, may_be_alive
from dca.adapters.venues.alpaca import AlpacaBroker, AlpacaMarketFeed, AlpacaTradeFeed
from dca.domain.errors import ConfigError, Unauthorized, VenueError
from dca.ports import Account, Broker, Clock, Store
from dca.risk.review import Limits
from dca.service import lease
from dca.service.caretakers.runner import Caretaker
from dca.service.catchup import CatchUp
from dca.service.engine import Engine
from dca.service.recorder import Recorder
from dca.service.trader import Trader
from dca.settings import ClockSettings, Settings
from dca.strategy.dca import Terms
from dca.strategy.ladder import VENUE_MINIMUM

log = logging.getLogger(__name__)
RETRY_S = 1.0


def clock_of(settings: ClockSettings) -> Clock:
    """The clock that trading follows."""
    if settings.wall_origin is None or settings.origin is None:
        return SystemClock()
    return ScaledClock(settings.wall_origin, settings.origin, settings.speed)


def clock(settings: Settings) -> Clock:
    return clock_of(settings.clock)


def start_logging(name: str, settings: Settings, *, terminal: bool = True) -> None:
    """The process `name` logs to its own file in the run directory."""
    secrets = (settings.api_secret_key, settings.api_key_id)
    logs.set_up(
        name,
        settings.run_dir,
        settings.log_level,
        secrets=secrets,
        now=clock(settings).now,
        terminal=terminal,
    )


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


def broker(settings: Settings) -> AlpacaBroker:
    return AlpacaBroker(
        settings.api_key_id,
        settings.api_secret_key,
        base_url=settings.base_url,
        data_url=settings.data_url,
        timeout_s=settings.request_timeout_s,
    )


def market_feed(settings: Settings) -> AlpacaMarketFeed:
    return AlpacaMarketFeed(settings.data_stream_url, settings.api_key_id, settings.api_secret_key)


def limits(settings: Settings) -> Limits:
    return Limits(
        max_open_orders=settings.max_open_orders,
        max_quote_age=timedelta(seconds=settings.max_quote_age_s),
        min_notional=VENUE_MINIMUM,
    )


def terms(settings: Settings) -> Terms:
    return Terms(settings.fees.taker, timedelta(seconds=settings.stale_order_s))


def engine(settings: Settings, database: Store, venue: Broker, time: Clock, holding: lease.Holding) -> Engine:
    """The streamer, ready to run."""
    recorder = Recorder(database, time, settings.fees)
    return Engine(
        store=database,
        broker=venue,
        clock=time,
        trader=Trader(database, venue, time, recorder, limits(settings), terms(settings)),
        recorder=recorder,
        catch_up=CatchUp(database, venue, time, recorder, grace_s=settings.grace_s),
        market=market_feed(settings),
        trades=AlpacaTradeFeed(settings.stream_url, settings.api_key_id, settings.api_secret_key),
        lease=holding,
        reconcile_every_s=settings.reconcile_every_s,
    )


Build = Callable[[Settings, Store, Clock], Caretaker[Any, Any]]
CARETAKERS: dict[str, Build] = {}
"""How each caretaker is put together, by the name of its script."""


async def run_streamer(settings: Settings, stop: asyncio.Event) -> None:
    """The streamer traded until `stop` was set.

    Raises AlreadyRunning or LeaseTaken when another instance trades this account, ConfigError when
    a person must fix something.
    """
    if settings.crash_at is not None:
        boundaries.install(boundaries.dying_at(*settings.crash_at))
    pid_file = PidFile(settings.run_dir / "main_app.pid")
    pid_file.take()
    database = store(settings)
    try:
        time, venue = clock(settings), broker(settings)
        account = await _account(venue, stop)
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
    finally:
        database.close()
        pid_file.drop()


async def _account(venue: Broker, stop: asyncio.Event) -> Account | None:
    """The venue account, asked for until the venue answers; None when told to stop meanwhile."""
    while not stop.is_set():
        try:
            return await asyncio.to_thread(venue.account)
        except Unauthorized as error:
            raise ConfigError(
                f"the venue refused APCA_API_KEY_ID and APCA_API_SECRET_KEY: {error}"
            ) from error
        except VenueError as error:
            log.warning("venue_not_reached", extra={"error": str(error)})
            await asyncio.wait([asyncio.ensure_future(stop.wait())], timeout=RETRY_S)
    return None
