"""Runs a paper exchange: in this process until stopped, or beside a test in a thread."""

import asyncio
import socket
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from dca.domain.errors import ConfigError
from dca.domain.order import Side
from dca.paper.app import Venue
from dca.paper.config import Clock, PaperConfig
from dca.paper.control import Control
from dca.paper.fault_tables import fault_of
from dca.paper.gate import CUT
from dca.paper.wire import Json, number

T = TypeVar("T")
START_S = 15.0
STOP_S = 15.0
CALL_S = 30.0


class _Http(HttpToolsProtocol):
    """Lets the gate cut a connection without an answer."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {CUT: {"now": self.transport.abort}}


class _Server(uvicorn.Server):
    """Tells when it listens, and leaves signals to the program that it is a part of."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._tell()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def serve(config: PaperConfig, clock: Clock, *, ready: Callable[[int], None] | None = None) -> None:
    """Serves until cancelled; calls `ready` with the port.

    Raises ConfigError when the address, the state file or a price source cannot be used.
    """
    await _serve(Venue(config, clock), ready or _ignore)


def _ignore(port: int) -> None:
    """Nobody asked for the port."""


async def _serve(venue: Venue, ready: Callable[[int], None]) -> None:
    try:
        listener = _listener(venue.config)
        await _serve_on(listener, venue, ready)
    finally:
        venue.exchange.log.close()


async def _serve_on(listener: socket.socket, venue: Venue, ready: Callable[[int], None]) -> None:
    port = listener.getsockname()[1]
    server = _Server(_uvicorn(venue), lambda: ready(port))
    player = asyncio.create_task(venue.player.run(venue.after_each_look))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await asyncio.wait((player, serving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        venue.events.drop()
        server.should_exit = True
        player.cancel()
        await asyncio.gather(player, serving, return_exceptions=True)
    for task in (player, serving):
        if not task.cancelled():
            task.result()


def _uvicorn(venue: Venue) -> uvicorn.Config:
    return uvicorn.Config(
        venue.app,
        http=_Http,
        ws="websockets-sansio",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )


def _listener(config: PaperConfig) -> socket.socket:
    # asyncio switches Nagle's delay off only where the protocol is named: 40 ms on every answer.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
    except OSError as error:
        listener.close()
        raise ConfigError(f"cannot listen on {config.host}:{config.port}: {error}") from error
    return listener


@dataclass(frozen=True, slots=True)
class Running:
    """An exchange that runs in a thread of this process."""

    config: PaperConfig
    port: int
    venue: Venue
    loop: asyncio.AbstractEventLoop

    @property
    def base_url(self) -> str:
        """For trading and data REST alike."""
        return f"http://{self.config.host}:{self.port}"

    @property
    def trade_url(self) -> str:
        """The trade-update stream."""
        return f"ws://{self.config.host}:{self.port}/stream"

    @property
    def data_url(self) -> str:
        """The crypto data stream."""
        return f"ws://{self.config.host}:{self.port}/v1beta3/crypto/us"

    @property
    def control(self) -> "RemoteControl":
        return RemoteControl(self)

    def call(self, work: Callable[[Control], T]) -> T:
        """What `work` returns, done in the exchange's own thread."""

        async def there() -> T:
            return work(self.venue.control)

        return asyncio.run_coroutine_threadsafe(there(), self.loop).result(CALL_S)


@dataclass(frozen=True, slots=True)
class RemoteControl:
    """`Control` from another thread. Amounts may be text."""

    running: Running

    def status(self) -> Json:
        return self.running.call(lambda control: control.status())

    def log(self, after: int = 0) -> list[Json]:
        return self.running.call(lambda control: control.log(after))

    def ledger(self) -> Json:
        return self.running.call(lambda control: control.ledger())

    def quote(self, symbol: str, bid: Decimal | str, ask: Decimal | str) -> None:
        self.running.call(lambda control: control.quote(symbol, number(bid), number(ask)))

    def fill(
        self, order_id: str, qty: Decimal | str | None = None, price: Decimal | str | None = None
    ) -> None:
        part, at = (None if value is None else number(value) for value in (qty, price))
        self.running.call(lambda control: control.fill(order_id, part, at))

    def cancel(self, order_id: str) -> None:
        self.running.call(lambda control: control.cancel(order_id))

    def drop(self) -> None:
        self.running.call(lambda control: control.drop())

    def hold(self, symbol: str, side: str | None = None, *, on: bool = True) -> None:
        known = None if side is None else Side(side)
        self.running.call(lambda control: control.hold(symbol, known, on=on))

    def change(self, name: str, **given: Any) -> None:
        """As the body of POST /control/fees or /control/account; an instrument's symbol is its `asset`."""
        self.running.call(lambda control: control.change(name, given))

    def fault(self, **wanted: Any) -> None:
        """As the body of POST /control/faults."""
        self.running.call(lambda control: control.fault(fault_of(wanted)))

    def faults(self) -> list[Json]:
        return self.running.call(lambda control: control.faults.rows())

    def lift_faults(self) -> None:
        self.running.call(lambda control: control.faults.lift())

    def deposit(self, asset: str, amount: Decimal | str, *, listed: bool = True) -> None:
        self.running.call(lambda control: control.deposit(asset, number(amount), listed=listed))


@contextmanager
def running(config: PaperConfig, clock: Clock) -> Iterator[Running]:
    """An exchange serves in a thread as long as the block lasts.

    Raises what kept it from starting.
    """
    venue = Venue(config, clock)
    loop = asyncio.new_event_loop()
    ports: list[int] = []
    known = threading.Event()

    def ready(port: int) -> None:
        ports.append(port)
        known.set()

    main = loop.create_task(_serve(venue, ready))
    main.add_done_callback(lambda task: known.set())
    thread = threading.Thread(target=_run, args=(loop, main), name="paper-exchange", daemon=True)
    thread.start()
    known.wait(START_S)
    try:
        if not ports:
            raise _reason(main)
        yield Running(config, ports[0], venue, loop)
    finally:
        if not loop.is_closed():
            loop.call_soon_threadsafe(main.cancel)
        thread.join(STOP_S)


def _run(loop: asyncio.AbstractEventLoop, main: "asyncio.Task[None]") -> None:
    asyncio.set_event_loop(loop)
    with suppress(asyncio.CancelledError, ConfigError):
        loop.run_until_complete(main)
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


def _reason(main: "asyncio.Task[None]") -> BaseException:
    error = main.exception() if main.done() and not main.cancelled() else None
    return error or ConfigError("the paper exchange did not start")
