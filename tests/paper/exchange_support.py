"""What the tests of the paper exchange share: a clock set by hand, a bench without sockets, waiting."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from typing import Any

import requests

from dca.paper.app import Venue
from dca.paper.config import PaperConfig, Switches
from dca.paper.gate import Answer, Call
from dca.paper.refusals import Refusal
from dca.paper.serve import Running, running

T0 = datetime(2023, 3, 9, 12, 0, tzinfo=UTC)
STRAIGHT = Switches(partial_rate=0.0, event_before_response=0.0)
"""No chance: every execution is whole, every answer comes before its effects."""
KEYS = {"APCA-API-KEY-ID": "PAPER", "APCA-API-SECRET-KEY": "paper-secret"}


class HandClock:
    """Shows what it was set to; real time passes underneath."""

    def __init__(self, at: datetime = T0) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return time.monotonic()

    def span(self, seconds: float) -> timedelta:
        return timedelta(seconds=seconds)

    def forward(self, **by: float) -> None:
        self.at += timedelta(**by)


def config(**changes: Any) -> PaperConfig:
    """A paper exchange with 10,000 USD and no chance in it."""
    return replace(PaperConfig(cash=D(10_000), switches=STRAIGHT), **changes)


def switched(**changes: Any) -> Switches:
    return replace(STRAIGHT, **changes)


class Bench:
    """An exchange without sockets: the same handlers, called directly."""

    def __init__(self, setup: PaperConfig | None = None, clock: HandClock | None = None) -> None:
        self.clock = clock or HandClock()
        self.venue = Venue(setup or config(), self.clock)
        self.exchange = self.venue.exchange
        self.control = self.venue.control

    def quote(self, bid: str, ask: str, symbol: str = "BTC/USD") -> None:
        self.control.quote(symbol, D(bid), D(ask))

    def place(self, **body: Any) -> dict[str, Any]:
        """The order as the client was told; its effects have happened. Raises Refusal."""
        given = {"symbol": "BTC/USD", "side": "buy", "type": "limit", "time_in_force": "gtc", **body}
        return done(self.venue.orders.placed(given))

    def cancel(self, order_id: str) -> None:
        done(self.venue.orders.cancel(Call({"id": order_id}, {})))

    def order(self, order_id: str) -> dict[str, Any]:
        return done(self.venue.orders.get(Call({"id": order_id}, {})))

    def listed(self, **query: str) -> list[dict[str, Any]]:
        return done(self.venue.orders.listing(Call({}, query)))

    def account(self) -> dict[str, Any]:
        return done(self.venue.account.get(Call({}, {})))

    def position(self, name: str = "BTCUSD") -> dict[str, Any]:
        return done(self.venue.account.position(Call({"symbol": name}, {})))


def done(answer: Answer) -> Any:
    """The body of an answer whose effects have happened."""
    if answer.after is not None:
        answer.after()
    return answer.body


def refused(work: Callable[[], object]) -> tuple[int, dict[str, Any]]:
    """Status and body of the refusal that `work` must raise."""
    try:
        work()
    except Refusal as refusal:
        return refusal.status, refusal.body
    raise AssertionError("it was not refused")


class Http:
    """Plain requests to a running exchange, as some hand-written client would send them."""

    def __init__(self, exchange: Running, headers: dict[str, str] | None = None) -> None:
        self._base = exchange.base_url
        self._session = requests.Session()
        self._session.headers.update(KEYS if headers is None else headers)

    def __call__(self, method: str, path: str, **options: Any) -> requests.Response:
        return self._session.request(method, self._base + path, timeout=10, **options)

    def close(self) -> None:
        self._session.close()


@contextmanager
def served(
    setup: PaperConfig | None = None, clock: HandClock | None = None
) -> Iterator[tuple[Running, Http]]:
    with running(setup or config(), clock or HandClock()) as exchange:
        http = Http(exchange)
        try:
            yield exchange, http
        finally:
            http.close()


def until(condition: Callable[[], Any], *, within_s: float = 10.0) -> Any:
    """What `condition` returns once it is true; fails when that takes too long."""
    deadline = time.monotonic() + within_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.005)
