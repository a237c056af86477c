"""Both streams of the venue, tried for a moment."""

import asyncio
import contextlib
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass, field

from dca import wiring
from dca.domain.errors import ConfigError
from dca.domain.market import Quote
from dca.ports import Link
from dca.settings import Settings

LISTEN_S = 8.0


@dataclass
class Stream:
    """One stream; `error` is None once it was up."""

    error: str | None = "not connected in time"
    up: asyncio.Event = field(default_factory=asyncio.Event)

    def on_link(self, link: Link, why: str) -> None:
        if link is Link.UP:
            self.error = None
            self.up.set()
        elif not self.up.is_set():
            self.error = why


@dataclass
class Heard:
    """What came of listening. `quote` is the first that came."""

    market: Stream = field(default_factory=Stream)
    trades: Stream = field(default_factory=Stream)
    quote: Quote | None = None


def listen(settings: Settings, symbols: Sequence[str]) -> Heard:
    """Both streams were connected until each had shown what it should, for LISTEN_S at most."""
    return asyncio.run(_listen(settings, symbols))


async def _listen(settings: Settings, symbols: Sequence[str]) -> Heard:
    heard = Heard()
    quoted = asyncio.Event()

    def on_quotes(quotes: Iterable[Quote]) -> None:
        heard.quote = heard.quote or next(iter(quotes), None)
        quoted.set()

    market = wiring.market_feed(settings).run(symbols, on_quotes, heard.market.on_link)
    trades = wiring.trade_feed(settings).run(lambda update: None, heard.trades.on_link)
    await asyncio.gather(_until(heard.market, market, quoted), _until(heard.trades, trades, heard.trades.up))
    return heard


async def _until(stream: Stream, running: Awaitable[None], shown: asyncio.Event) -> None:
    """The stream ran until it was `shown` what it is for, or refused for good, or out of time."""
    task = asyncio.ensure_future(running)
    waiting = asyncio.ensure_future(shown.wait())
    await asyncio.wait([task, waiting], timeout=LISTEN_S, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    try:
        await task
    except asyncio.CancelledError:
        return
    except ConfigError as error:
        stream.error = str(error)
