"""alpaca-py's REST clients as this program wants them: one attempt a call, and never without end."""

import socket
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import requests
from alpaca.common.rest import RESTClient
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection

Client = TypeVar("Client", bound=RESTClient)

ACCEPTED = {"Accept": "application/json", "Accept-Encoding": "gzip, deflate"}
SOCKET_OPTIONS = [
    *HTTPConnection.default_socket_options,
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
]


class _OneAttempt:
    """What alpaca-py needs of a requests.Session, and no more.

    A session reads proxies, certificates and `.netrc` again for every call, keeps cookies and
    prepares redirects, which together take longer than the rest of the call. Here the environment
    is read once, and no `.netrc` can replace the keys.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        found = requests.Session().merge_environment_settings(url, {}, None, None, None)
        self._how: dict[str, Any] = {name: found[name] for name in ("proxies", "verify", "cert")}
        # For the connection, and for each read: only a server that drips can take longer.
        self._timeout = (timeout_s, timeout_s)
        self._adapter = HTTPAdapter(max_retries=0)
        self._adapter.init_poolmanager(1, 1, socket_options=SOCKET_OPTIONS)

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str],
        allow_redirects: bool,
        params: Any = None,
        json: Any = None,
    ) -> requests.Response:
        """The answer to one request, read to its end. Raises TooManyRedirects for a redirect."""
        assert not allow_redirects
        request = requests.PreparedRequest()
        request.prepare_method(method)
        request.prepare_url(url, params)
        request.prepare_headers({**headers, **ACCEPTED})
        request.prepare_body(None, None, json)
        response = self._adapter.send(request, timeout=self._timeout, **self._how)
        if 300 <= response.status_code < 400:
            response.close()
            raise requests.TooManyRedirects(f"HTTP {response.status_code}: redirects are not followed")
        # Read here, so that whatever breaks on the way breaks before anybody looks at the status.
        _ = response.content
        return response

    def close(self) -> None:
        self._adapter.close()


def tame(client: Client, url: str, timeout_s: float) -> Client:
    """`client` sends every request once, waits `timeout_s` at most for each answer and follows no
    redirect."""
    # Left alone, alpaca-py sends a POST again by itself after a 429 or a 504 (docs/alpaca.md, the SDK).
    client._retry = 0
    client._session = _OneAttempt(url, timeout_s)  # type: ignore[assignment]
    return client


class Pool(Generic[Client]):
    """Clients for any number of threads, each used by one at a time.

    The one that was used last is taken first, so its connection is warm whatever thread asks:
    neither alpaca-py nor requests promises that one may be shared.
    """

    def __init__(self, make: Callable[[], Client]) -> None:
        self._make = make
        self._idle: deque[Client] = deque()

    @contextmanager
    def client(self) -> Iterator[Client]:
        try:
            taken = self._idle.pop()
        except IndexError:
            taken = self._make()
        try:
            yield taken
        finally:
            self._idle.append(taken)

    def close(self) -> None:
        """The connections of clients that nobody uses are closed."""
        while self._idle:
            self._idle.pop()._session.close()
