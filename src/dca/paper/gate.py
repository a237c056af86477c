"""The one place that every request, every answer and every frame of a stream passes.

`Gate` stands before the REST handlers, `Channel` before the sockets. Faults (`faults.py`) that spoil
answers and frames strike here; single messages pass `sieve.py` on their way.
"""

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import count
from urllib.parse import parse_qsl

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from dca.paper.config import Clock, PaperConfig
from dca.paper.effects import Effect, Place
from dca.paper.exchange import Exchange
from dca.paper.fates import Fates
from dca.paper.faults import Crossing, Faults
from dca.paper.log import Requested
from dca.paper.orders import PaperOrder
from dca.paper.refusals import Refusal, bad_body
from dca.paper.spoil import CLOSED, GONE, Told, altered, framed, spoiled, unreached
from dca.paper.wire import Json, dumps, loads

LOOPBACK = ("127.0.0.1", "::1")
MINUTE_S = 60.0
CUT = "dca.cut"
"""The extension of the scope that cuts the connection without an answer."""
PATIENCE_S = 1.0
EVENTS = "text/event-stream"
SHOWN_LIMIT = 200
"""What the headers say where no limit is enforced: the venue's documented one."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request that passed the gate."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Json = field(default_factory=dict)
    last_event_id: str = ""
    """What a client that resumes an event stream has heard last."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler says. `after` is done once the client was told (or, at times, just before).

    `placed` and `canceled` are the orders that the request brought in, or asked to cancel.

    With `events` an event stream takes the place of the body, until it ends or the client leaves.
    """

    body: object = None
    status: int = 200
    after: Callable[[], None] | None = None
    placed: tuple[str, ...] = ()
    canceled: tuple[str, ...] = ()
    events: AsyncIterator[bytes] | None = None


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

    def headers(self, *, spent: bool = False, wait_s: int | None = None) -> list[tuple[bytes, bytes]]:
        """`wait_s` tells of more tokens that late, whatever is so."""
        limit = self._limit or SHOWN_LIMIT
        left = 0 if spent else max(0, limit - self._used) if self._limit else limit
        seconds_left = max(0.0, self._ends - self._clock.monotonic()) if wait_s is None else wait_s
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


@dataclass(frozen=True, slots=True)
class _Passing:
    """A request on its way, and the names of the faults that struck it."""

    faults: Faults
    crossing: Crossing
    struck: list[str] = field(default_factory=list)

    def strike(self, place: Place, order: PaperOrder | None = None) -> Effect | None:
        """What happens to the request, or to an order of it, at that place."""
        if not self.faults.at(place):
            return None
        crossing = self.crossing
        if order is not None:
            crossing = replace(crossing, symbols=(order.symbol,), client_order_id=order.client_order_id)
        effect = self.faults.struck(place, crossing)
        if effect is not None:
            self.struck.append(effect.name)
        return effect


REQUESTED = (Place.ACCOUNT, Place.ANSWER, Place.PLACED, Place.CANCELED, Place.BODY)


class Gate:
    """Every request passes here: keys, limits, body, handler, log, answer, effects."""

    def __init__(
        self, exchange: Exchange, faults: Faults, fates: Fates, flush: Callable[[], Awaitable[None]]
    ) -> None:
        self._exchange = exchange
        self._config: PaperConfig = exchange.config
        self._faults = faults
        self._fates = fates
        self._flush = flush
        self._ids = count(1)

    async def serve(
        self, scope: Scope, receive: Receive, send: Send, handler: Handler, access: Access
    ) -> None:
        content = await _content(receive)
        if content is None:
            return
        passing = self._passing(scope, content, access)
        effect = passing.strike(Place.ANSWER) if passing is not None else None
        if effect is not None and not effect.reached:
            await asyncio.sleep(effect.seconds)
        at = self._exchange.clock.now()
        answer, error = self._answer(scope, content, handler, access, effect)
        if passing is not None and error is None:
            answer = self._fated(passing, answer)
        self._note(at, scope, content, answer.status, error, passing, access)
        late_s = effect.seconds if effect is not None and effect.reached else None
        if answer.after is not None and (late_s is not None or self._early()):
            answer.after()
            await self._flush()
            answer = replace(answer, after=None)
        if late_s is not None:
            await asyncio.sleep(late_s)
        try:
            await self._tell(scope, receive, send, answer, access, effect)
        finally:
            if answer.after is not None:
                answer.after()

    def _passing(self, scope: Scope, content: bytes, access: Access) -> _Passing | None:
        """The request as faults see it, if any may strike; the account has changed if one did."""
        if access.local or not self._faults.at(*REQUESTED):
            return None
        query = scope["query_string"].decode()
        path = f"{scope['path']}?{query}" if query else str(scope["path"])
        symbols, key = self._subject(scope.get("path_params", {}), query, content)
        passing = _Passing(self._faults, Crossing(scope["method"], path, symbols, key))
        change = passing.strike(Place.ACCOUNT)
        if change is not None:
            self._fates.change(change)
        return passing

    def _subject(
        self, path: Mapping[str, str], query: str, content: bytes
    ) -> tuple[tuple[str, ...], str | None]:
        """The symbols that a request is about, and the client's id of its order."""
        order = self._exchange.orders.get(path.get("id", ""))
        if order is not None:
            return (order.symbol,), order.client_order_id
        given: dict[str, object] = dict(parse_qsl(query))
        with suppress(Refusal):
            given |= _parsed(content)
        key = given.get("client_order_id")
        names = [path.get("symbol"), given.get("symbol"), *str(given.get("symbols", "")).split(",")]
        known = (self._exchange.symbol(str(name)) for name in names if name)
        symbols = tuple(name for name in known if name)
        if not isinstance(key, str):
            return symbols, None
        order = self._exchange.orders.get(self._exchange.ids.get(key, ""))
        return symbols or ((order.symbol,) if order else ()), key

    def _fated(self, passing: _Passing, answer: Answer) -> Answer:
        """The answer as it leaves here, with what will become of its orders drawn."""
        for place, ids in ((Place.PLACED, answer.placed), (Place.CANCELED, answer.canceled)):
            for order_id in ids:
                drawn = passing.strike(place, self._exchange.orders[order_id])
                if drawn is not None:
                    self._fates.draw(order_id, drawn)
        effect = passing.strike(Place.BODY) if answer.body is not None else None
        if effect is None:
            return answer
        body = altered(effect, answer.body)
        return replace(answer, body={} if body is GONE else body)

    def _note(
        self,
        at: datetime,
        scope: Scope,
        content: bytes,
        status: int,
        error: Json | None,
        passing: _Passing | None,
        access: Access,
    ) -> None:
        if access.logged and (scope["method"] != "GET" or self._config.switches.log_reads):
            path, query = scope["path"], scope["query_string"].decode()
            struck = "+".join(passing.struck) or None if passing is not None else None
            self._exchange.log.add(
                Requested(at, scope["method"], path, query, content, status, error, struck)
            )

    def _answer(
        self, scope: Scope, content: bytes, handler: Handler, access: Access, effect: Effect | None
    ) -> tuple[Answer, Json | None]:
        """What the handler says, and the body of its refusal if it is one."""
        if effect is not None and not effect.reached and effect.name != "delay":
            status, error = unreached(effect)
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
        effect: Effect | None,
    ) -> None:
        """The client has its answer, or what the fault makes of it."""
        if answer.events is not None and (effect is None or effect.name == "delay"):
            await StreamingResponse(answer.events, media_type=EVENTS)(scope, receive, send)
        elif effect is not None and effect.name in CLOSED:
            if effect.name == "reset":
                scope["extensions"][CUT]["now"]()
            while (await receive())["type"] != "http.disconnect":
                pass
        else:
            told = Told(answer.status, b"" if answer.status == 204 else dumps(answer.body))
            await self._send(send, told if effect is None else spoiled(effect, told), access)

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
        last = next((value for name, value in scope["headers"] if name == b"last-event-id"), b"")
        return Call(scope.get("path_params", {}), query, _parsed(content), last.decode(errors="replace"))

    def _known(self, headers: Mapping[bytes, bytes]) -> bool:
        key, secret = headers.get(b"apca-api-key-id"), headers.get(b"apca-api-secret-key")
        if key is None and (basic := headers.get(b"authorization", b"")).startswith(b"Basic "):
            with suppress(ValueError):
                key, _, secret = b64decode(basic[6:]).partition(b":")
        return (key, secret) == (self._config.key.encode(), self._config.secret.encode())

    async def _send(self, send: Send, told: Told, access: Access) -> None:
        headers = [
            (b"content-type", told.kind.encode()),
            (b"content-length", b"%d" % len(told.content)),
            (b"x-request-id", b"%032x" % next(self._ids)),
            *access.budget.headers(spent=told.status == 429, wait_s=told.wait_s),
            *told.headers,
        ]
        if told.status == 204:
            headers = headers[2:]
        await send({"type": "http.response.start", "status": told.status, "headers": headers})
        await send({"type": "http.response.body", "body": told.content})


_KEY_HEADERS = frozenset({b"apca-api-key-id", b"apca-api-secret-key", b"authorization"})


async def _content(receive: Receive) -> bytes | None:
    """The body; None when the client was gone before it was whole, and so has asked for nothing."""
    content, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        content += message.get("body", b"")
        more = message.get("more_body", False)
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


def heard(faults: Faults, stream: str, event: str) -> Effect | None:
    """The fault that strikes a word of a client (`connect`, `auth`, `listen`, `subscribe`)."""
    return faults.struck(Place.WORD, Crossing(stream, event)) if faults.at(Place.WORD) else None


async def refused(websocket: WebSocket, effect: Effect | None) -> bool:
    """Whether a fault refused the handshake, or left it without an answer until the client gave up."""
    if effect is None:
        return False
    if effect.name == "hang":
        while (await websocket.receive())["type"] != "websocket.disconnect":
            pass
    else:
        await websocket.send_denial_response(Response(status_code=int(effect.name)))
    return True


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
        if self._ended:
            return True
        if self._faults.at(Place.FRAME):
            effect = self._faults.struck(Place.FRAME, Crossing(self._stream, kind))
            if effect is not None and effect.name == "mute":
                return True
            frame = frame if effect is None else framed(effect, frame)
        if self._frames.qsize() >= self._limit:
            return False
        self._frames.put_nowait(frame)
        return True

    def word(self, event: str) -> Effect | None:
        """What happens instead of the answer to what the client said."""
        return heard(self._faults, self._stream, event)

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
