"""Servers that misbehave as told, on real sockets: one for REST, one for each stream."""

import json
import socket
import struct
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import msgpack
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

KEY, SECRET = "PKTEST", "very-secret-words"


class Request(NamedTuple):
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Fault:
    """What a connection does instead of answering."""

    def __init__(self, name: str) -> None:
        self.name = name


HANG = Fault("hang")
RESET = Fault("reset")
CLOSE = Fault("close")
Reply = bytes | Fault


def reply(status: int, body: Any = b"", *, kind: str = "application/json", **headers: str) -> bytes:
    """An HTTP answer; what is not bytes is written as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Type: {kind}", f"Content-Length: {len(content)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def html(status: int, text: str = "<html><body>Oops</body></html>") -> bytes:
    return reply(status, text.encode(), kind="text/html")


class FaultServer:
    """Answers each request with the next of `replies`, and with the last of them for ever."""

    def __init__(self) -> None:
        self.replies: deque[Reply] = deque([reply(200, {})])
        self.requests: list[Request] = []
        self.connections = 0
        self._ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._peers: list[socket.socket] = []
        self._start(self._accept)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def will(self, *replies: Reply) -> None:
        self.replies = deque(replies)
        self.requests.clear()

    def close(self) -> None:
        self._ended.set()
        for end in (self._listener, *self._peers):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)

    def _start(self, work: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                self.connections += 1
                self._peers.append(peer)
                self._start(self._talk, peer)

    def _talk(self, peer: socket.socket) -> None:
        with peer, suppress(OSError):
            buffer = b""
            while (request := self._request(peer, buffer)) is not None:
                parsed, buffer = request
                self.requests.append(parsed)
                answer = self.replies.popleft() if len(self.replies) > 1 else self.replies[0]
                if isinstance(answer, Fault):
                    self._fail(peer, answer)
                    return
                peer.sendall(answer)
                if b"Content-Length: 99999" in answer:
                    return

    def _fail(self, peer: socket.socket, fault: Fault) -> None:
        if fault is HANG:
            self._ended.wait(30)
        if fault is RESET:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _request(self, peer: socket.socket, buffer: bytes) -> tuple[Request, bytes] | None:
        while b"\r\n\r\n" not in buffer:
            more = peer.recv(65_536)
            if not more:
                return None
            buffer += more
        head, _, rest = buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers.get("content-length", "0"))
        while len(rest) < length:
            rest += peer.recv(65_536)
        method, target, _ = first.split(" ")
        parts = urlsplit(target)
        request = Request(method, parts.path, dict(parse_qsl(parts.query)), headers, rest[:length])
        return request, rest[length:]


@contextmanager
def fault_server() -> Iterator[FaultServer]:
    server = FaultServer()
    try:
        yield server
    finally:
        server.close()


Talk = Callable[[ServerConnection], Awaitable[None]]


@asynccontextmanager
async def socket_server(talk: Talk, *, port: int = 0, **options: Any) -> AsyncIterator[Server]:
    """Every connection is served by `talk` and then closed."""

    async def polite(ws: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            await talk(ws)

    async with serve(polite, "127.0.0.1", port, close_timeout=1, **options) as server:
        yield server


def port_of(server: Server) -> int:
    port: int = next(iter(server.sockets)).getsockname()[1]
    return port


async def welcome_data(ws: ServerConnection) -> list[str]:
    """A client of the data stream is let in; returns the symbols it asked for."""
    await say(ws, {"T": "success", "msg": "connected"})
    auth = msgpack.unpackb(await ws.recv(decode=False))
    if (auth["action"], auth["key"], auth["secret"]) != ("auth", KEY, SECRET):
        await say(ws, {"T": "error", "code": 402, "msg": "auth failed"})
        await ws.close()
    await say(ws, {"T": "success", "msg": "authenticated"})
    wanted = msgpack.unpackb(await ws.recv(decode=False))
    await say(ws, {"T": "subscription", "trades": [], "quotes": wanted["quotes"], "bars": []})
    symbols: list[str] = wanted["quotes"]
    return symbols


async def say(ws: ServerConnection, *items: dict[str, Any]) -> None:
    await ws.send(msgpack.packb(list(items)))


async def welcome_trades(ws: ServerConnection) -> None:
    """A client of the trade stream is let in."""
    auth = json.loads(await ws.recv())
    assert auth == {"action": "authenticate", "data": {"key_id": KEY, "secret_key": SECRET}}
    await tell(ws, "authorization", {"status": "authorized", "action": "authenticate"})
    listen = json.loads(await ws.recv())
    assert listen == {"action": "listen", "data": {"streams": ["trade_updates"]}}
    await tell(ws, "listening", {"streams": ["trade_updates"]})


async def tell(ws: ServerConnection, stream: str, data: Any, *, text: bool = False) -> None:
    frame = json.dumps({"stream": stream, "data": data})
    await ws.send(frame if text else frame.encode())
