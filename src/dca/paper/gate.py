"""The one place that every request, every answer and every frame of a stream passes.

`Gate` stands before the REST handlers, `Channel` before the sockets. Faults (`faults.py`) are injected
here and nowhere else; only handshakes are refused where they arrive, in the two streams.
"""

import asyncio
from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from dca.paper.config import Clock, PaperConfig
from dca.paper.exchange import Exchange
from dca.paper.faults import CLOSED, FRAME, Fault, Faults, Told, spoiled, unreached
from dca.paper.log import Requested
from dca.paper.refusals import Refusal, bad_body
from dca.paper.wire import Json, dumps, loads

LOOPBACK = ("127.0.0.1", "::1")
MINUTE_S = 60.0
CUT = "dca.cut"
"""The extension of the scope that cuts the connection without an answer."""
PATIENCE_S = 1.0
SHOWN_LIMIT = 200
"""What the headers say where no limit is enforced: the venue's documented one."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request that passed the gate."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler says. `after` is done once the client was told (or, at times, just before)."""

    body: object = None
    status: int = 200
    after: Callable[[], None] | None = None


Handler = Callable[[Call], Answer]


class Budget:
    """Requests left in the current real minute."""

    def __init__(self, limit: int | None, clock: Clock) -> None:
        self._limit = limit
        self._clock = clock
        self._ends = clock.monotonic() + MINUTE_S
        self._used = 0

    def take(self) -> bool:
        """False when there is none left."""
        now = self._clock.monotonic()
        if now >= self._ends:
            self._ends, self._used = now + MINUTE_S, 0
        self._used += 1
        return self._limit is None or self._used <= self._limit

    def headers(self, *, spent: bool = False) -> list[tuple[bytes, bytes]]:
        limit = self._limit or SHOWN_LIMIT
        left = 0 if spent else max(0, limit - self._used) if self._limit else limit
        seconds_left = max(0.0, self._ends - self._clock.monotonic())
        reset = self._clock.now() + self._clock.span(seconds_left)
        return [
            (b"x-ratelimit-limit", b"%d" % limit),
            (b"x-ratelimit-remaining", b"%d" % left),
            (b"x-ratelimit-reset", b"%d" % int(reset.timestamp())),
        ]


@dataclass(slots=True)
class Access:
    """Who may use a part of the exchange, how often, and in which words it refuses more."""

    budget: Budget
    too_many: Json
    keys: bool = True
    """Keys must be given; where they need not be, wrong ones are still refused."""
    logged: bool = True
    local: bool = False


class Gate:
    """Every request passes here: keys, limits, body, handler, log, answer, effects."""

    def __init__(self, exchange: Exchange, faults: Faults, flush: Callable[[], Awaitable[None]]) -> None:
        self._exchange = exchange
        self._config: PaperConfig = exchange.config
        self._faults = faults
        self._flush = flush
        self._ids = count(1)

    async def serve(
        self, scope: Scope, receive: Receive, send: Send, handler: Handler, access: Access
    ) -> None:
        at = self._exchange.clock.now()
        content = await _content(receive)
        fault = None if access.local else self._faults.struck(scope["method"], _asked(scope))
        answer, error = self._answer(scope, content, handler, access, fault)
        if access.logged and (scope["method"] != "GET" or self._config.switches.log_reads):
            path, query = scope["path"], scope["query_string"].decode()
            named = fault.answer if fault is not None else None
            entry = Requested(at, scope["method"], path, query, content, answer.status, error, named)
            self._exchange.log.add(entry)
        if answer.after is not None and (fault is not None or self._early()):
            answer.after()
            await self._flush()
            answer = replace(answer, after=None)
        try:
            await self._tell(scope, receive, send, answer, access, fault)
        finally:
            if answer.after is not None:
                answer.after()

    def _answer(
        self, scope: Scope, content: bytes, handler: Handler, access: Access, fault: Fault | None
    ) -> tuple[Answer, Json | None]:
        """What the handler says, and the body of its refusal if it is one."""
        if fault is not None and not fault.reached:
            status, error = unreached(fault)
            return Answer(status=status), error
        try:
            return handler(self._call(scope, content, access)), None
        except Refusal as refusal:
            return Answer(refusal.body, refusal.status), refusal.body

    async def _tell(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        answer: Answer,
        access: Access,
        fault: Fault | None,
    ) -> None:
        """The client has its answer, or what the fault makes of it."""
        if fault is None:
            content = b"" if answer.status == 204 else dumps(answer.body)
            await self._send(send, Told(answer.status, content), access)
        elif fault.answer in CLOSED:
            if fault.answer == "reset":
                scope["extensions"][CUT]["now"]()
            while (await receive())["type"] != "http.disconnect":
                pass
        else:
            told = spoiled(fault.answer, dumps(answer.body)) if fault.reached else spoiled(fault.answer)
            await self._send(send, told, access, spent=fault.answer == "429")

    def _early(self) -> bool:
        """Whether the streams hear of the effects before the client has its answer, this time."""
        rate = self._config.switches.event_before_response
        return rate > 0 and self._exchange.random.random() < rate

    def _call(self, scope: Scope, content: bytes, access: Access) -> Call:
        if access.local and (scope.get("client") or ("",))[0] not in LOOPBACK:
            raise Refusal(403, "control is only for this machine")
        headers = {name: value for name, value in scope["headers"] if name in _KEY_HEADERS}
        if (access.keys or headers) and not self._known(headers):
            raise Refusal(401, "unauthorized.")
        if not access.budget.take():
            raise Refusal(429, access.too_many["message"], access.too_many.get("code"))
        query = dict(parse_qsl(scope["query_string"].decode())) if scope["query_string"] else {}
        return Call(scope.get("path_params", {}), query, _parsed(content))

    def _known(self, headers: Mapping[bytes, bytes]) -> bool:
        key, secret = headers.get(b"apca-api-key-id"), headers.get(b"apca-api-secret-key")
        if key is None and (basic := headers.get(b"authorization", b"")).startswith(b"Basic "):
            with suppress(ValueError):
                key, _, secret = b64decode(basic[6:]).partition(b":")
        return (key, secret) == (self._config.key.encode(), self._config.secret.encode())

    async def _send(self, send: Send, told: Told, access: Access, *, spent: bool = False) -> None:
        headers = [
            (b"content-type", told.kind.encode()),
            (b"content-length", b"%d" % len(told.content)),
            (b"x-request-id", b"%032x" % next(self._ids)),
            *access.budget.headers(spent=spent),
        ]
        if told.status == 204:
            headers = headers[2:]
        await send({"type": "http.response.start", "status": told.status, "headers": headers})
        await send({"type": "http.response.body", "body": told.content})


_KEY_HEADERS = frozenset({b"apca-api-key-id", b"apca-api-secret-key", b"authorization"})


def _asked(scope: Scope) -> str:
    """Path and query, by which faults find what they strike."""
    query = scope["query_string"].decode()
    return f"{scope['path']}?{query}" if query else str(scope["path"])


async def _content(receive: Receive) -> bytes:
    message = await receive()
    content: bytes = message.get("body", b"")
    while message.get("more_body", False):
        message = await receive()
        content += message.get("body", b"")
    return content


def _parsed(content: bytes) -> Json:
    if not content:
        return {}
    try:
        body = loads(content)
    except ValueError as error:
        raise bad_body("request body format is invalid") from error
    if not isinstance(body, dict):
        raise bad_body("request body format is invalid")
    return body


class Channel:
    """The outgoing frames of one connection, in order; `end` closes it after the last of them."""

    def __init__(self, websocket: WebSocket, limit: int, faults: Faults, stream: str) -> None:
        self._websocket = websocket
        self._faults = faults
        self._stream = stream
        self._frames: asyncio.Queue[bytes | str | None] = asyncio.Queue()
        self._limit = limit
        self._ended = False

    def push(self, frame: bytes | str, kind: str = "answer") -> bool:
        """The frame will be sent; False when the reader is too far behind for that.

        `kind` is `event` for what happened, `answer` for what is said to the client's own words.
        """
        if self._ended or self._faults.struck(FRAME, f"{self._stream}/{kind}") is not None:
            return True
        if self._frames.qsize() >= self._limit:
            return False
        self._frames.put_nowait(frame)
        return True

    def end(self) -> None:
        """The connection closes once everything that was pushed has been sent."""
        if not self._ended:
            self._ended = True
            self._frames.put_nowait(None)

    def cut(self, frame: bytes | str) -> None:
        """The connection closes after `frame`; what the reader had not read yet is lost."""
        self._clear()
        self.push(frame)
        self.end()

    async def run(self) -> None:
        """Sends until the end, or until the peer is gone."""
        try:
            while await self._send_next():
                pass
        except (WebSocketDisconnect, RuntimeError):
            # Starlette says either when the peer left first; the reading side ends the session.
            pass
        finally:
            self._ended = True
            self._clear()

    async def _send_next(self) -> bool:
        frame = await self._frames.get()
        try:
            if frame is None:
                await self._websocket.close()
            elif isinstance(frame, bytes):
                await self._websocket.send_bytes(frame)
            else:
                await self._websocket.send_text(frame)
        finally:
            self._frames.task_done()
        return frame is not None

    def _clear(self) -> None:
        while not self._frames.empty():
            self._frames.get_nowait()
            self._frames.task_done()

    async def drained(self) -> None:
        """Every frame that was pushed has been handed to the network, or `PATIENCE_S` have passed."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._frames.join(), PATIENCE_S)
