"""A WebSocket that is made anew whenever it breaks, without a storm of attempts."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, InvalidURI, WebSocketException

from dca.domain.errors import ConfigError
from dca.ports import Link, LinkChange

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.5
LIMITED_PAUSE_S = 8.0
LONGEST_PAUSE_S = 30.0
PROVEN_S = 30.0
"""A link that stood this long was a good one, even if nothing happened on it."""
MAX_FRAME = 2**20
QUEUE = 1024

Greet = Callable[[ClientConnection], Awaitable[str]]
"""Says and hears what must precede data; returns what it came to, in words."""

_quiet = logging.getLogger("dca.websockets")
_quiet.setLevel(logging.INFO)
"""At DEBUG, websockets logs every frame, and one of them carries the keys."""


class LinkLost(Exception):
    """The link is of no use any more. `limited`: the venue wants fewer connections or attempts."""

    def __init__(self, reason: str, *, limited: bool = False) -> None:
        super().__init__(reason)
        self.limited = limited


def pause_s(failures: int, *, limited: bool, chance: float) -> float:
    """Seconds to wait after so many failures in a row; `chance` (0 to 1) spreads them by half.

    Half-dead connections block new ones for up to 90 s (docs/alpaca.md, limits), so a venue that limits
    gets at most eight attempts in that time.
    """
    first = LIMITED_PAUSE_S if limited else FIRST_PAUSE_S
    longest: float = min(LONGEST_PAUSE_S, first * 2 ** min(failures - 1, 10))
    return longest * (1 + chance) / 2


@contextlib.contextmanager
def _network() -> Iterator[None]:
    """What websockets and the network raise becomes LinkLost, or ConfigError for a bad address."""
    try:
        yield
    except InvalidURI as error:
        raise ConfigError(f"not a stream address: {error}") from error
    except InvalidStatus as error:
        status = error.response.status_code
        raise LinkLost(f"HTTP {status} instead of a stream", limited=status < 500) from error
    except TimeoutError as error:
        raise LinkLost("no answer in time") from error
    except (OSError, EOFError, WebSocketException) as error:
        raise LinkLost(f"{type(error).__name__}: {error}") from error


class _connect(connect):  # noqa: N801 - websockets spells it in lower case too
    def process_redirect(self, exc: Exception) -> Exception | str:
        """The keys go to the address that was configured, never to where that one points."""
        return exc


class Line:
    """One address of the venue, kept connected.

    `stale_s` None means that silence is normal; else a link on which no frame of any kind came for
    so long is given up. Pings find a dead peer within 20 s either way, but not a mute one.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        stale_s: float | None,
        step_s: float,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._name = name
        self._url = url
        self._headers = headers
        self._stale_s = stale_s
        self._step_s = step_s
        self._chance = chance
        self._link: Link | None = None
        self._heard = 0.0
        self._silent = False
        self._delivered = False

    async def keep(self, greet: Greet, on_frame: Callable[[bytes], None], on_link: LinkChange) -> None:
        """Connects for ever; `on_frame` gets every frame after the greeting, and may raise LinkLost.

        Raises ConfigError, and whatever else `on_frame` and `on_link` raise. `on_link` is called
        when the state changes, not for every failed attempt.
        """
        failures = 0
        self._link = None
        while True:
            begun = asyncio.get_running_loop().time()
            self._delivered = False
            try:
                await self._once(greet, on_frame, on_link)
            except LinkLost as lost:
                stood = self._link is Link.UP and asyncio.get_running_loop().time() - begun >= PROVEN_S
                # Two programs on one account push each other out after some data: that is no success.
                good = stood or (self._delivered and not lost.limited)
                failures = 1 if good else failures + 1
                pause = pause_s(failures, limited=lost.limited, chance=self._chance())
                log.warning(
                    "stream_down",
                    extra={
                        "stream": self._name,
                        "reason": str(lost),
                        "failures": failures,
                        "pause_s": round(pause, 2),
                    },
                )
                self._change(Link.DOWN, str(lost), on_link)
            await asyncio.sleep(pause)

    async def step(self, ws: ClientConnection, message: bytes | str | None = None) -> bytes:
        """The next frame, after `message` was sent. Raises LinkLost when it does not come in time."""
        with _network():
            async with asyncio.timeout(self._step_s):
                if message is not None:
                    await ws.send(message)
                return await ws.recv(decode=False)

    async def _once(self, greet: Greet, on_frame: Callable[[bytes], None], on_link: LinkChange) -> None:
        ws = await self._open()
        try:
            async with asyncio.timeout(3 * self._step_s) as patience:
                came_to = await greet(ws)
            self._change(Link.UP, came_to, on_link)
            log.info("stream_up", extra={"stream": self._name, "reason": came_to})
            await self._listen(ws, on_frame)
        except TimeoutError as error:
            if not patience.expired():
                raise
            raise LinkLost("no greeting in time") from error
        finally:
            await ws.close()

    async def _open(self) -> ClientConnection:
        with _network():
            return await _connect(
                self._url,
                additional_headers=self._headers,
                compression=None,
                open_timeout=self._step_s,
                ping_interval=10,
                ping_timeout=10,
                close_timeout=1,
                max_size=MAX_FRAME,
                max_queue=QUEUE,
                logger=_quiet,
            )

    async def _listen(self, ws: ClientConnection, on_frame: Callable[[bytes], None]) -> None:
        loop = asyncio.get_running_loop()
        recv, now = ws.recv, loop.time
        self._heard, self._silent = now(), False
        watch = None if self._stale_s is None else loop.create_task(self._watch(ws, self._stale_s))
        try:
            while True:
                try:
                    frame = await recv(decode=False)
                except (OSError, EOFError, WebSocketException) as error:
                    why = f"no frame for {self._stale_s} s" if self._silent else f"{error}"
                    raise LinkLost(why) from error
                self._heard = now()
                on_frame(frame)
                self._delivered = True
        finally:
            if watch is not None:
                watch.cancel()

    async def _watch(self, ws: ClientConnection, stale_s: float) -> None:
        """Ends the link once nothing was heard for `stale_s`; costs nothing per frame."""
        now = asyncio.get_running_loop().time
        while (left := self._heard + stale_s - now()) > 0:
            await asyncio.sleep(left)
        self._silent = True
        await ws.close()

    def _change(self, link: Link, why: str, on_link: LinkChange) -> None:
        if link is not self._link:
            self._link = link
            on_link(link, why)


class Tally:
    """Counts what was dropped and logs it ever more rarely: at 1, 2, 4, 8 ..."""

    def __init__(self, event: str) -> None:
        self._event = event
        self.count = 0

    def add(self, why: object) -> None:
        self.count += 1
        if self.count & (self.count - 1) == 0:
            log.warning(self._event, extra={"count": self.count, "reason": str(why)[:200]})
