"""The crypto data stream: who subscribed to what, and what they are sent."""

import re
from collections.abc import Iterable
from typing import Any

import msgpack
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from dca.domain.market import Quote
from dca.paper.config import PaperConfig
from dca.paper.faults import Faults
from dca.paper.gate import Channel, heard, refused
from dca.paper.ledger import Execution
from dca.paper.market import Bar, Market, orderbook_wire, quote_wire
from dca.paper.sessions import converse, wants_msgpack
from dca.paper.sieve import Sieve
from dca.paper.wire import Json, dumps, loads

CHANNELS = ("trades", "quotes", "orderbooks", "bars", "updatedBars", "dailyBars")
LIMITED = ("trades", "quotes")
"""The channels that count against the limit on symbols."""
FRAME_MESSAGES = 200
SYMBOL = re.compile(r"^[A-Z]+x?/[A-Z]+$")
ERRORS = {
    400: "invalid syntax",
    401: "not authenticated",
    402: "auth failed",
    403: "already authenticated",
    404: "auth timeout",
    405: "symbol limit exceeded",
    406: "connection limit exceeded",
    407: "slow client",
    409: "insufficient subscription",
    410: "invalid subscribe action for this feed",
}


class DataStream:
    """The socket endpoint `/v1beta3/crypto/us`, and everybody who subscribed there.

    Messages wait until `flush`, so that those of one moment share a frame.
    """

    def __init__(self, config: PaperConfig, market: Market, faults: Faults) -> None:
        self.config = config
        self.faults = faults
        self.market = market
        self.sessions: set[DataSession] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        websocket = WebSocket(scope, receive, send)
        if await refused(websocket, heard(self.faults, "quotes", "connect")):
            return
        await websocket.accept()
        session = DataSession(self, websocket)
        self.sessions.add(session)
        session.welcome(websocket)
        try:
            await converse(websocket, session.channel, session, self.config.switches.auth_timeout_s)
        finally:
            self.sessions.discard(session)

    def full(self) -> bool:
        """No further connection may authenticate."""
        limit = self.config.switches.data_connections
        return bool(limit) and sum(session.authorized for session in self.sessions) >= limit

    def quote(self, quote: Quote) -> None:
        """The quote is remembered, and it and the bars it completes are on their way."""
        ended = self.market.on_quote(quote)
        self._send("quotes", "q", quote.symbol, lambda: quote_wire(quote))
        self._send("orderbooks", "o", quote.symbol, lambda: orderbook_wire(quote) | {"r": True})
        self._send_bars(quote.symbol, ended)

    def _send_bars(self, symbol: str, ended: Bar | None) -> None:
        if ended is None:
            return
        self._send("bars", "b", symbol, ended.wire)
        day = self.market.tapes[symbol].day
        self._send("dailyBars", "d", symbol, lambda: (day(ended.at) or ended).wire())

    def executed(self, executed: Execution) -> None:
        """The trade is remembered, and it and the bars it completes are on their way."""
        trade, ended = self.market.on_execution(executed)
        self._send("trades", "t", executed.symbol, lambda: trade)
        self._send_bars(executed.symbol, ended)

    def _send(self, channel: str, kind: str, symbol: str, fields: Any) -> None:
        message: Json | None = None
        for session in self.sessions:
            if session.wants(channel, symbol):
                if message is None:
                    # Go clients insist that T is the first key.
                    message = {"T": kind, "S": symbol, **fields()}
                session.pending += session.sieve.passed(message, channel, symbol)

    def flush(self) -> None:
        for session in self.sessions:
            session.flush()

    def drop(self) -> None:
        """Every connection closes."""
        for session in self.sessions:
            session.channel.end()


class DataSession:
    """One client of the data stream."""

    def __init__(self, stream: DataStream, websocket: WebSocket) -> None:
        self.stream = stream
        self.config = stream.config
        self.authorized = False
        self.pending: list[Json] = []
        self.subscribed: dict[str, set[str]] = {channel: set() for channel in CHANNELS}
        self.channel = Channel(websocket, self.config.switches.frames_behind, stream.faults, "quotes")
        self.sieve = Sieve(stream.faults, "quotes", self._send_late, self.channel.end)
        self._msgpack = wants_msgpack(websocket)

    def _send_late(self, messages: list[Json]) -> None:
        self.pending += messages
        self.flush()

    def welcome(self, websocket: WebSocket) -> None:
        """The client is greeted; keys in the handshake's headers count as authentication."""
        self._say({"T": "success", "msg": "connected"})
        key, secret = (websocket.headers.get(name) for name in ("apca-api-key-id", "apca-api-secret-key"))
        if key is not None:
            self._authenticate({"key": key, "secret": secret})

    def wants(self, channel: str, symbol: str) -> bool:
        symbols = self.subscribed[channel]
        return symbol in symbols or "*" in symbols

    def flush(self) -> None:
        pending, self.pending = self.pending, []
        for start in range(0, len(pending), FRAME_MESSAGES):
            if not self.channel.push(self._encoded(pending[start : start + FRAME_MESSAGES]), "event"):
                self.channel.cut(self._encoded([_error(407)]))
                return

    def hear(self, message: bytes | str) -> None:
        request = self._decoded(message)
        action = request.get("action") if isinstance(request, dict) else None
        if action == "auth":
            self._authenticate(request)
        elif action not in ("subscribe", "unsubscribe"):
            self._say(_error(400))
        elif not self.authorized:
            self._say(_error(401))
        else:
            self._subscribe(request, adding=action == "subscribe")

    def late(self) -> None:
        self._say(_error(404))

    def _authenticate(self, request: Json) -> None:
        fault = self.channel.word("auth")
        if fault is not None:
            if fault.name != "hang":
                self._leave(int(fault.name))
        elif self.authorized:
            self._say(_error(403))
        elif (request.get("key"), request.get("secret")) != (self.config.key, self.config.secret):
            self._leave(402)
        elif self.stream.full():
            self._leave(406)
        else:
            self.authorized = True
            self._say({"T": "success", "msg": "authenticated"})

    def _leave(self, code: int) -> None:
        self._say(_error(code))
        self.channel.end()

    def _subscribe(self, request: Json, *, adding: bool) -> None:
        fault = self.channel.word("subscribe")
        if fault is not None:
            if fault.name != "hang":
                self._say(_error(int(fault.name)))
            return
        changed = {channel: set(symbols) for channel, symbols in self.subscribed.items()}
        for name, given in request.items():
            if name == "action":
                continue
            code = _check(name, given)
            if code is not None:
                self._say(_error(code))
                return
            changed[name] = changed[name] | set(given) if adding else changed[name] - set(given)
        if any(len(changed[channel]) > self.config.switches.channel_limit for channel in LIMITED):
            self._say(_error(405))
            return
        self.subscribed = changed
        lists = {channel: sorted(symbols) for channel, symbols in changed.items()}
        self._say({"T": "subscription", **lists})

    def _say(self, message: Json) -> None:
        self.channel.push(self._encoded([message]))

    def _encoded(self, messages: Iterable[Json]) -> bytes | str:
        if self._msgpack:
            packed: bytes = msgpack.packb(messages, datetime=True)
            return packed
        return dumps(messages).decode()

    def _decoded(self, message: bytes | str) -> Any:
        try:
            if self._msgpack and isinstance(message, bytes):
                return msgpack.unpackb(message)
            return loads(message)
        except (ValueError, msgpack.UnpackException):
            return None


def _check(channel: str, symbols: object) -> int | None:
    """The error code of a wish for `symbols` in `channel`; None when it is in order."""
    if channel not in CHANNELS:
        return 410
    if not isinstance(symbols, list):
        return 400
    good = all(isinstance(item, str) and (item == "*" or SYMBOL.match(item)) for item in symbols)
    return None if good else 400


def _error(code: int) -> Json:
    return {"T": "error", "code": code, "msg": ERRORS.get(code, "internal error")}
