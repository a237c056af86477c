"""`dca paper serve`: the offline exchange as a process, until it is stopped."""

import argparse
import asyncio
import json
import signal
from datetime import UTC, datetime

from dca import settings as env
from dca.adapters.clock import clock_at
from dca.domain.errors import ConfigError
from dca.paper.config import Clock, PaperConfig, Source, Switches
from dca.paper.fault_tables import read_file
from dca.paper.prices import Replay, Walk
from dca.paper.serve import serve as serve_exchange


def serve(options: argparse.Namespace) -> None:
    """The exchange served until SIGINT or SIGTERM; its first line of output tells the port."""
    faults, switches = ((), Switches()) if options.faults is None else read_file(options.faults)
    config = PaperConfig(
        port=options.port,
        cash=options.cash,
        seed=options.seed,
        sources=_sources(options),
        state_file=options.state,
        switches=switches,
        faults=faults,
    )
    asyncio.run(_until_stopped(config))


def _clock() -> Clock:
    """As in wiring, without loading what only the bot needs."""
    given = env.clock()
    return clock_at(given.speed, given.wall_origin, given.origin)


async def _until_stopped(config: PaperConfig) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    serving = asyncio.ensure_future(serve_exchange(config, _clock(), ready=_ready))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    serving.cancel()
    stopping.cancel()
    await asyncio.gather(serving, stopping, return_exceptions=not serving.done())


def _ready(port: int) -> None:
    print(json.dumps({"port": port, "url": f"http://127.0.0.1:{port}"}), flush=True)


def _sources(options: argparse.Namespace) -> tuple[Source, ...]:
    if options.replay is not None:
        return (Replay(options.symbol, options.replay, _instant(options.start), _instant(options.end)),)
    if options.walk is not None:
        return (Walk(options.symbol, options.walk),)
    return ()


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        value = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"{text!r} is not a time such as 2023-03-09") from error
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)
