"""One WebSocket connection, from accepting it to closing it."""

import asyncio
from contextlib import suppress
from typing import Protocol

from starlette.websockets import WebSocket

from dca.paper.gate import PATIENCE_S, Channel


class Session(Protocol):
    """What the client of one connection may say, and whether it said who it is."""

    authorized: bool

    def hear(self, message: bytes | str) -> None:
        """The message had its effect; answers are in the channel."""

    def late(self) -> None:
        """The client did not say in time who it is; the connection ends."""


async def converse(websocket: WebSocket, channel: Channel, session: Session, patience_s: float) -> None:
    """The connection was served until either side ended it."""
    sender = asyncio.create_task(channel.run())
    try:
        async with asyncio.timeout(patience_s) as deadline:
            while (message := await _next(websocket)) is not None:
                session.hear(message)
                if session.authorized:
                    deadline.reschedule(None)
    except TimeoutError:
        session.late()
    channel.end()
    with suppress(TimeoutError):
        await asyncio.wait_for(sender, PATIENCE_S)


async def _next(websocket: WebSocket) -> bytes | str | None:
    message = await websocket.receive()
    if message["type"] == "websocket.disconnect":
        return None
    content: bytes | str | None = message.get("bytes")
    return content if content is not None else message.get("text", "")


def wants_msgpack(websocket: WebSocket) -> bool:
    """The client chose msgpack when it connected."""
    kind = websocket.headers.get("content-type", "").partition(";")[0]
    return kind.strip().lower() == "application/msgpack"
