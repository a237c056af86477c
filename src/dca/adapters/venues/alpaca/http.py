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

SOCKET_OPTIONS = [
    *HTTPConnection.default_socket_options,
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
]


class _OneAttempt(HTTPAdapter):
    """Sends once, with a timeout for the connection and for each wait on it."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        super().__init__(max_retries=0, pool_connections=1, pool_maxsize=1)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, socket_options=SOCKET_OPTIONS, **kwargs)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs["timeout"] = (self._timeout_s, self._timeout_s)
        response = super().send(request, *args, **kwargs)
        if 300 <= response.status_code < 400:
            response.close()
            raise requests.TooManyRedirects(f"HTTP {response.status_code}: redirects are not followed")
        return response


def tame(client: Client, url: str, timeout_s: float) -> Client:
    """`client` sends every request once, waits `timeout_s` at most for each answer and follows no
    redirect. Proxies and certificates are read from the environment now instead of at every call,
    and no `.netrc` may replace the keys.
    """
    # Left alone, alpaca-py sends a POST again by itself after a 429 or a 504 (alpaca-facts 7.2).
    client._retry = 0
    session = client._session
    session.mount("https://", _OneAttempt(timeout_s))
    session.mount("http://", _OneAttempt(timeout_s))
    found = session.merge_environment_settings(url, {}, None, None, None)
    session.proxies, session.verify, session.cert = found["proxies"], found["verify"], found["cert"]
    session.trust_env = False
    return client


class Pool(Generic[Client]):
    """Clients for any number of threads, each used by one at a time.

    The one that was used last is taken first, so its connection is warm whatever thread asks:
    requests does not promise that a session may be shared.
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
