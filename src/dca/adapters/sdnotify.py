"""What systemd hears from a service of `Type=notify` (sd_notify(3)): datagrams of a few words."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

READY, ALIVE, STOPPING = "READY=1", "WATCHDOG=1", "STOPPING=1"


def tell(address: str, words: str) -> None:
    """systemd was told, if it listens: a streamer that trades does not depend on it."""
    # A leading @ stands for the abstract namespace.
    target = "\0" + address[1:] if address.startswith("@") else address
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link,
    ):
        link.setblocking(False)
        link.sendto(words.encode(), target)


@asynccontextmanager
async def supervised(address: str | None, watchdog_s: float | None) -> AsyncIterator[None]:
    """While inside, systemd knows that we are ready, and hears twice in `watchdog_s` from the event
    loop of this process that it turns."""
    if address is None:
        yield
        return
    tell(address, READY)
    alive = asyncio.ensure_future(_alive(address, watchdog_s)) if watchdog_s is not None else None
    try:
        yield
    finally:
        if alive is not None:
            alive.cancel()
        tell(address, STOPPING)


async def _alive(address: str, watchdog_s: float) -> None:
    while True:
        tell(address, ALIVE)
        await asyncio.sleep(watchdog_s / 2)
