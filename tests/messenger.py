"""A messenger's server on this machine, for addresses such as json://127.0.0.1:8080/inbox."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class People:
    """A messenger's server: `got` is what arrived, by path; `answer` decides what is said back."""

    port: int = 0
    got: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    answer: Callable[[str], int] = lambda path: 200
    on_message: Callable[[], None] = lambda: None

    def url(self, path: str = "inbox", scheme: str = "json") -> str:
        return f"{scheme}://127.0.0.1:{self.port}/{path}"

    def texts(self) -> list[str]:
        return [body["message"] for _, body in self.got]


@contextmanager
def served(people: People) -> Iterator[People]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or "{}")
            code = people.answer(self.path)
            if code == 200:
                people.got.append((self.path, body))
            people.on_message()
            with suppress(BrokenPipeError, ConnectionResetError):
                self.send_response(code)
                self.send_header("Location", f"http://127.0.0.1:{people.port}/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

        do_GET = do_POST  # noqa: N815

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", people.port), Handler)
    server.daemon_threads = True
    people.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield people
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
