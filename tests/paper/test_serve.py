"""Starting and stopping the exchange."""

import asyncio
import socket
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal as D

import pytest
from exchange_support import T0, Bench, HandClock, config, served, switched

from dca.domain.errors import ConfigError
from dca.domain.market import Quote
from dca.paper.config import Tape
from dca.paper.prices import Walk
from dca.paper.serve import running, serve


def reachable(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_it_serves_until_it_is_cancelled() -> None:
    async def life() -> int:
        port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(serve(config(), HandClock(), ready=port.set_result))
        number = await asyncio.wait_for(port, 10)
        assert reachable(number)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        return number

    assert not reachable(asyncio.run(life()))


def test_several_can_run_beside_each_other() -> None:
    with served() as (one, _), served() as (two, _):
        assert one.port != two.port
        one.control.deposit("USD", "1")
        assert (one.control.ledger()["cash"], two.control.ledger()["cash"]) == ("10001", "10000")
    assert not reachable(one.port)


def test_it_ends_with_the_error_of_a_price_source_that_fails() -> None:
    class Broken:
        symbol = "BTC/USD"

        def open(self, seed: int, now: datetime) -> Tape:
            def quotes() -> Iterator[Quote]:
                yield Quote("BTC/USD", D(1), D(2), T0)
                yield Quote("BTC/USD", D(1), D(2), T0 + timedelta(seconds=1))
                raise OSError("the tape broke")

            return Tape(quotes(), None)

    with pytest.raises(OSError, match="the tape broke"):
        asyncio.run(serve(config(sources=(Broken(),)), HandClock(T0 + timedelta(days=1))))


def test_prices_of_a_symbol_that_is_not_traded_are_a_config_error() -> None:
    with pytest.raises(ConfigError, match="X/USD"):
        running(config(sources=(Walk("X/USD", D(1)),)), HandClock()).__enter__()


def test_control_is_only_for_this_machine() -> None:
    made = Bench()

    def asked(client: str, path: str) -> int:
        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "query_string": b"",
            "headers": [],
            "client": (client, 1),
        }
        sent: list[dict[str, int]] = []

        async def receive() -> dict[str, str]:
            return {"type": "http.request"}

        async def send(message: dict[str, int]) -> None:
            sent.append(message)

        asyncio.run(made.venue.app(scope, receive, send))
        return sent[0]["status"]

    assert asked("127.0.0.1", "/control/ledger") == 200
    assert asked("192.168.1.7", "/control/ledger") == 403


@pytest.mark.parametrize("log_reads", [True, False])
def test_reads_need_not_be_logged(log_reads: bool) -> None:
    with served(config(switches=switched(log_reads=log_reads))) as (exchange, http):
        http("GET", "/v2/account")
        http("DELETE", "/v2/orders")
        methods = [row["method"] for row in exchange.control.log() if row["kind"] == "request"]
        assert methods == (["GET", "DELETE"] if log_reads else ["DELETE"])


def test_an_error_of_its_own_is_answered_as_the_venue_does() -> None:
    with served() as (exchange, http):

        def broken(body: object) -> None:
            raise RuntimeError("a bug")

        exchange.venue.orders.placed = broken  # type: ignore[method-assign]
        answer = http("POST", "/v2/orders", json={})
        assert (answer.status_code, answer.json()["code"]) == (500, 50010000)
