"""The trade-update stream: who listens, and what they hear."""

import asyncio
from collections.abc import Iterable
from typing import Any

import msgpack
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from dca.domain.money import plain
from dca.paper import orders
from dca.paper.assets import asset_id
from dca.paper.config import PaperConfig
from dca.paper.exchange import Update
from dca.paper.faults import Faults
from dca.paper.gate import Channel, heard, refused
from dca.paper.sessions import converse, wants_msgpack
from dca.paper.sieve import Sieve
from dca.paper.wire import Json, dumps, loads, stamp, stamp_or_none

STREAM = "trade_updates"


class TradeStream:
    """The socket endpoint `/stream`, and everybody who listens there."""

    def __init__(self, config: PaperConfig, faults: Faults) -> None:
        self.config = config
        self.faults = faults
        self.sessions: set[TradeSession] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        websocket = WebSocket(scope, receive, send)
        if await refused(websocket, heard(self.faults, "trades", "connect")):
            return
        limit = self.config.switches.trading_connections
        if limit and sum(session.authorized for session in self.sessions) >= limit:
            await websocket.send_denial_response(Response("too many connections", status_code=429))
            return
        await websocket.accept()
        session = TradeSession(self.config, websocket, self.faults)
        self.sessions.add(session)
        try:
            await converse(websocket, session.channel, session, self.config.switches.auth_timeout_s)
        finally:
            self.sessions.discard(session)

    def publish(self, update: Update) -> None:
        """Everybody who listens will hear of it."""
        listening = [session for session in self.sessions if session.listening]
        if listening:
            frame = {"stream": STREAM, "data": update_wire(update)}
            for session in listening:
                session.tell(frame, update)

    def drop(self) -> None:
        """Every connection closes."""
        for session in self.sessions:
            session.channel.end()

    async def drained(self) -> None:
        """What was published has left this process."""
        await asyncio.gather(*(session.channel.drained() for session in tuple(self.sessions)))


def update_wire(update: Update) -> Json:
    """The data of one trade update. `position_qty` is net of the coin fee, which is unverified."""
    order = orders.wire(update.order, asset_id(update.order.symbol))
    order["cancel_requested_at"] = stamp_or_none(update.order.cancel_requested_at)
    data: Json = {
        "event": update.event,
        "timestamp": stamp(update.at),
        "execution_id": update.execution_id,
        "order": order,
    }
    if update.execution is not None:
        data["price"] = plain(update.execution.price)
        data["qty"] = plain(update.execution.qty)
        data["position_qty"] = plain(update.execution.position_qty)
    return data


class TradeSession:
    """One client of the stream. It speaks first; both forms of authentication are understood."""

    def __init__(self, config: PaperConfig, websocket: WebSocket, faults: Faults) -> None:
        self.config = config
        self.authorized = False
        self.listening = False
        self.channel = Channel(websocket, config.switches.frames_behind, faults, "trades")
        self.sieve = Sieve(faults, "trades", self._tell_all, self.channel.end)
        self._msgpack = wants_msgpack(websocket)

    def tell(self, frame: Json, update: Update) -> None:
        """The client hears of the update, as far as faults let it."""
        order = update.order
        self._tell_all(self.sieve.passed(frame, update.event, order.symbol, order.client_order_id))

    def _tell_all(self, frames: Iterable[Json]) -> None:
        for frame in frames:
            self.say(frame, "event")

    def say(self, frame: Json, kind: str = "answer") -> None:
        if not self.channel.push(self._encoded(frame), kind):
            self.channel.cut(self._encoded(_error("slow client")))

    def _encoded(self, frame: Json) -> bytes | str:
        if self._msgpack:
            packed: bytes = msgpack.packb(frame)
            return packed
        content = dumps(frame)
        return content if self.config.switches.binary_trade_frames else content.decode()

    def hear(self, message: bytes | str) -> None:
        request = self._decoded(message)
        action = request.get("action") if isinstance(request, dict) else None
        if action in ("authenticate", "auth"):
            self._authenticate(request)
        elif action == "listen":
            self._listen(request)
        else:
            self.say(_error("invalid syntax"))
            self.channel.end()

    def late(self) -> None:
        self.say(_error("authentication timeout"))

    def _decoded(self, message: bytes | str) -> Any:
        try:
            if self._msgpack and isinstance(message, bytes):
                return msgpack.unpackb(message)
            return loads(message)
        except (ValueError, msgpack.UnpackException):
            return None

    def _authenticate(self, request: Json) -> None:
        fault = self.channel.word("auth")
        if fault is not None and fault.name == "hang":
            return
        given = request.get("data")
        if not isinstance(given, dict):
            given = {"key_id": request.get("key"), "secret_key": request.get("secret")}
        answer = {"action": "authenticate", "status": "authorized"}
        keys = (given.get("key_id"), given.get("secret_key"))
        self.authorized = fault is None and keys == (self.config.key, self.config.secret)
        if not self.authorized:
            answer |= {"status": "unauthorized", "message": "access key verification failed"}
        self.say({"stream": "authorization", "data": answer})
        if not self.authorized:
            self.channel.end()

    def _listen(self, request: Json) -> None:
        fault = self.channel.word("listen")
        if fault is not None and fault.name == "hang":
            return
        if fault is not None or not self.authorized:
            answer = {"action": "listen", "status": "unauthorized"}
            self.say({"stream": "authorization", "data": answer})
            return
        given = request.get("data")
        streams = given.get("streams") if isinstance(given, dict) else None
        self.listening = isinstance(streams, list) and STREAM in streams
        self.say({"stream": "listening", "data": {"streams": [STREAM] if self.listening else []}})


def _error(words: str) -> Json:
    return {"action": "error", "data": {"error_message": words}}
