"""A network that lies: a server with a certificate of its own making, and one that never lets anybody in."""

import asyncio
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from alpaca_servers import KEY, SECRET, port_of, socket_server
from build import intent
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from dca.adapters.venues.alpaca import AlpacaBroker, AlpacaMarketFeed, AlpacaTradeFeed, link
from dca.domain.errors import InDoubt, Unavailable
from dca.ports import Link

WANTED = 40


@pytest.fixture(scope="module")
def forged(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """What a server needs to pass for 127.0.0.1 with everybody who does not look who signed."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("forged")
    key, certificate = folder / "key.pem", folder / "cert.pem"
    command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1"
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", *command.split(), *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


class Thief(BaseHTTPRequestHandler):
    heard: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.heard.append(self.headers.get("APCA-API-KEY-ID", ""))
        self.send_response(200)
        self.end_headers()

    def do_POST(self) -> None:
        self.do_GET()


@pytest.fixture
def thief(forged: ssl.SSLContext) -> Iterator[str]:
    Thief.heard.clear()
    with _Quiet(("127.0.0.1", 0), Thief) as server:
        server.socket = forged.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"https://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class _Quiet(HTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that leave in the middle of the greeting are what is wanted here."""


def test_a_forged_certificate_gets_neither_the_keys_nor_an_order(thief: str) -> None:
    """A read says nothing, an order is in doubt; a plain connection is not tried instead."""
    broker = AlpacaBroker(KEY, SECRET, base_url=thief, data_url=thief, timeout_s=5)
    with pytest.raises(Unavailable):
        broker.account()
    with pytest.raises(InDoubt):
        broker.submit(intent())
    broker.close()
    assert Thief.heard == []


def test_nor_do_the_streams_trust_it(forged: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "pause_s", lambda failures, *, limited, chance: 0.01)
    visits = []

    async def talk(ws: ServerConnection) -> None:
        visits.append(ws)

    async def main() -> None:
        async with socket_server(talk, ssl=forged) as server:
            url = f"wss://127.0.0.1:{port_of(server)}"
            for feed in (AlpacaTradeFeed(url, KEY, SECRET), AlpacaMarketFeed(url, KEY, SECRET)):
                reason = await _first_word(feed)
                assert "CERTIFICATE_VERIFY_FAILED" in reason, reason

    asyncio.run(main())
    assert visits == []


async def _first_word(feed: AlpacaTradeFeed | AlpacaMarketFeed) -> str:
    """Why the link is down at first."""
    said: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def on_link(state: Link, why: str) -> None:
        if not said.done():
            said.set_result(why)

    running = asyncio.create_task(_run(feed, on_link))
    try:
        return await asyncio.wait_for(said, 10)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _run(feed: AlpacaTradeFeed | AlpacaMarketFeed, on_link: object) -> None:
    if isinstance(feed, AlpacaMarketFeed):
        await feed.run(["BTC/USD"], lambda quotes: None, on_link)  # type: ignore[arg-type]
    else:
        await feed.run(lambda update: None, on_link)  # type: ignore[arg-type]


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("refused", [429, 503, None], ids=["too many", "down", "cut"])
def test_no_try_to_connect_leaves_a_file_open(refused: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "pause_s", lambda failures, *, limited, chance: 0.0)
    tries = 0

    async def talk(ws: ServerConnection) -> None:
        ws.transport.abort()

    def answer(ws: ServerConnection, request: Request) -> Response | None:
        nonlocal tries
        tries += 1
        return None if refused is None else Response(refused, "", Headers(), b"")

    async def main() -> None:
        async with socket_server(talk, process_request=answer) as server:
            feed = AlpacaTradeFeed(f"ws://127.0.0.1:{port_of(server)}", KEY, SECRET)
            running = asyncio.create_task(_run(feed, lambda state, why: None))
            counts = []
            while tries < WANTED:
                await asyncio.sleep(0.01)
                if tries > WANTED / 4:
                    counts.append(_open_files())
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            assert max(counts) - min(counts) <= 4, counts

    asyncio.run(asyncio.wait_for(main(), 30))


def test_the_place_of_the_certificates_is_not_switched_off_anywhere() -> None:
    """No call asks a library not to look who signed."""
    for path in (Path(__file__).parents[2] / "src").rglob("*.py"):
        text = path.read_text()
        for word in ("verify=False", "CERT_NONE", "check_hostname", "_create_unverified_context"):
            assert word not in text, f"{path.name}: {word}"
