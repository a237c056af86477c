"""Levers for bad days: orders that do not execute, answers that are spoiled, frames that are lost."""

from collections.abc import Iterator
from decimal import Decimal as D
from pathlib import Path
from typing import Any

import pytest
import requests
from exchange_support import Bench, Http, config, served, until
from websockets.sync.client import ClientConnection, connect

from dca.paper.serve import Running
from dca.paper.wire import dumps, loads

ORDER = {"symbol": "BTC/USD", "qty": "0.001", "side": "buy", "type": "limit", "time_in_force": "gtc"}
PASSIVE = ORDER | {"limit_price": "50000"}


@pytest.fixture
def venue() -> Iterator[tuple[Running, Http]]:
    with served() as pair:
        pair[0].control.quote("BTC/USD", "60000", "60010")
        yield pair


def status(bench: Bench, order: dict[str, Any]) -> tuple[str, str]:
    found = bench.order(order["id"])
    return found["status"], found["filled_qty"]


class TestHold:
    def test_orders_rest_until_the_first_quote_after_it_is_lifted(self) -> None:
        bench = Bench()
        bench.quote("60000", "60010")
        bench.control.hold("BTC/USD", None, on=True)
        kinds = (
            {"type": "market"},
            {"type": "market", "time_in_force": "ioc"},
            {"limit_price": "61000"},
            {"limit_price": "61000", "time_in_force": "ioc"},
        )
        placed = [bench.place(qty="0.001", **kind) for kind in kinds]
        bench.quote("59000", "59010")
        assert [status(bench, order) for order in placed] == [("new", "0")] * 4
        bench.control.hold("BTC/USD", None, on=False)
        assert [status(bench, order) for order in placed] == [("new", "0")] * 4
        bench.quote("59000", "59010")
        assert [status(bench, order) for order in placed] == [("filled", "0.001")] * 4

    def test_an_immediate_order_has_its_one_chance_then(self) -> None:
        bench = Bench()
        bench.quote("60000", "60010")
        bench.control.hold("BTC/USD", None, on=True)
        one, two = (bench.place(qty="0.001", limit_price="60010", time_in_force="ioc") for _ in range(2))
        bench.control.fill(two["id"], D("0.0004"))
        bench.control.hold("BTC/USD", None, on=False)
        bench.quote("61000", "61010")
        assert status(bench, one) == ("canceled", "0")
        assert status(bench, two) == ("canceled", "0.0004")

    def test_it_may_hold_one_side_only_and_other_symbols_trade(self) -> None:
        bench = Bench()
        bench.quote("60000", "60010")
        bench.quote("2000", "2001", "ETH/USD")
        held = bench.place(qty="0.001", type="market")
        assert status(bench, held) == ("filled", "0.001")
        bench.control.hold("BTC/USD", None, on=True)
        bench.control.hold("BTC/USD", bench.exchange.orders[held["id"]].side, on=False)
        assert status(bench, bench.place(qty="0.001", type="market"))[0] == "filled"
        assert status(bench, bench.place(qty="0.001", type="market", side="sell"))[0] == "new"
        assert status(bench, bench.place(symbol="ETH/USD", qty="0.01", type="market"))[0] == "filled"

    def test_a_held_order_can_be_canceled_or_filled_by_hand(self) -> None:
        bench = Bench()
        bench.quote("60000", "60010")
        bench.control.hold("BTC/USD", None, on=True)
        one, two = (bench.place(qty="0.001", limit_price="60010") for _ in range(2))
        bench.cancel(one["id"])
        assert status(bench, one) == ("canceled", "0")
        bench.control.fill(two["id"], None, None)
        assert status(bench, two) == ("filled", "0.001")

    def test_it_outlives_a_restart_from_the_state_file(self, tmp_path: Path) -> None:
        file = tmp_path / "state.jsonl"
        bench = Bench(config(state_file=file))
        bench.quote("60000", "60010")
        bench.control.hold("BTC/USD", None, on=True)
        order = bench.place(qty="0.001", type="market", time_in_force="ioc")
        bench.exchange.log.close()
        again = Bench(config(state_file=file))
        again.quote("60000", "60010")
        assert status(again, order) == ("new", "0")
        again.control.hold("BTC/USD", None, on=False)
        again.quote("60000", "60010")
        assert status(again, order) == ("filled", "0.001")
        assert again.exchange.executions[0].liquidity == "taker"
        again.exchange.log.close()

    def test_over_http(self, venue: tuple[Running, Http]) -> None:
        _, http = venue
        for body in ({"symbol": "BTC/USD"}, {"symbol": "BTC/USD", "side": "x", "on": True}, {"on": True}):
            assert http("POST", "/control/hold", json=body).status_code == 422
        on = {"symbol": "BTC/USD", "side": "buy", "on": True}
        assert http("POST", "/control/hold", json=on).status_code == 200
        order = http("POST", "/v2/orders", json=ORDER | {"type": "market"}).json()
        until(lambda: http("GET", f"/v2/orders/{order['id']}").json()["status"] == "new")
        assert http("POST", "/control/hold", json=on | {"on": False}).status_code == 200
        http("POST", "/control/quote", json={"symbol": "BTC/USD", "bid": "60000", "ask": "60010"})
        until(lambda: http("GET", f"/v2/orders/{order['id']}").json()["status"] == "filled")


class TestInstrument:
    def test_a_symbol_that_is_not_tradable_says_so_and_takes_no_order(
        self, venue: tuple[Running, Http]
    ) -> None:
        _, http = venue
        lever = {"symbol": "BTC/USD", "tradable": False}
        assert http("POST", "/control/instrument", json=lever).status_code == 200
        assert http("GET", "/v2/assets/BTCUSD").json()["tradable"] is False
        answer = http("POST", "/v2/orders", json=PASSIVE)
        assert (answer.status_code, answer.json()["message"]) == (422, "asset BTC/USD is not active")
        assert http("POST", "/v2/orders", json=PASSIVE | {"symbol": "ETH/USD"}).status_code == 200
        http("POST", "/control/instrument", json=lever | {"tradable": True})
        assert http("POST", "/v2/orders", json=PASSIVE).status_code == 200
        assert http("POST", "/control/instrument", json={"symbol": "BTC/USD"}).status_code == 422


class TestAnswers:
    @pytest.mark.parametrize(
        ("answer", "code", "content"),
        [
            (401, 401, {"message": "unauthorized."}),
            (403, 403, {"message": "forbidden."}),
            (429, 429, {"code": 42910000, "message": "rate limit exceeded"}),
            (500, 500, {"code": 50010000, "message": "internal server error occurred"}),
            (503, 503, {"message": "service unavailable"}),
            ("502 html", 502, None),
            ("empty", 200, None),
            ("half", 200, None),
        ],
    )
    @pytest.mark.parametrize("reached", [False, True])
    def test_the_answer_is_spoiled_and_the_order_taken_or_not(
        self, venue: tuple[Running, Http], answer: int | str, code: int, content: Any, reached: bool
    ) -> None:
        exchange, http = venue
        exchange.control.fault(method="POST", path="/v2/orders", effect=answer, reached=reached, times=1)
        told = http("POST", "/v2/orders", json=PASSIVE | {"client_order_id": "a"})
        assert told.status_code == code
        if content is not None:
            assert told.json() == content
        else:
            with pytest.raises(ValueError):
                told.json()
        remaining = "0" if answer == 429 else "200"
        assert told.headers["X-RateLimit-Remaining"] == remaining
        assert int(told.headers["X-RateLimit-Reset"]) > 0
        orders = http("GET", "/v2/orders").json()
        assert [order["status"] for order in orders] == (["new"] if reached else [])
        row = self.posts(exchange)[0]
        assert (row["accepted"], row["fault"]) == (reached, str(answer))
        again = http("POST", "/v2/orders", json=PASSIVE | {"client_order_id": "b"})
        assert (again.status_code, self.posts(exchange)[1]["fault"]) == (200, None)

    @pytest.mark.parametrize("reached", [False, True])
    def test_a_connection_is_cut_without_an_answer(self, venue: tuple[Running, Http], reached: bool) -> None:
        exchange, http = venue
        exchange.control.fault(method="*", path="/v2", effect="reset", reached=reached, times=1)
        with pytest.raises(requests.ConnectionError, match=r"without response|reset"):
            http("POST", "/v2/orders", json=PASSIVE)
        assert len(http("GET", "/v2/orders").json()) == reached
        assert self.posts(exchange)[0]["status"] == (200 if reached else 0)

    @pytest.mark.parametrize("reached", [False, True])
    def test_an_answer_never_comes(self, venue: tuple[Running, Http], reached: bool) -> None:
        exchange, http = venue
        exchange.control.fault(method="POST", path="/v2/orders", effect="hang", reached=reached, times=1)
        with pytest.raises(requests.ReadTimeout):
            requests.post(
                f"{exchange.base_url}/v2/orders", json=PASSIVE, headers=http._session.headers, timeout=0.3
            )
        assert len(http("GET", "/v2/orders").json()) == reached

    def test_what_happens_at_once_happens_under_a_spoiled_answer_too(
        self, venue: tuple[Running, Http]
    ) -> None:
        exchange, http = venue
        exchange.control.fault(method="POST", path="/v2/orders", effect=504, reached=True)
        http("POST", "/v2/orders", json=ORDER | {"type": "market"})
        assert exchange.control.status()["executions"] == 1

    def test_a_path_is_a_prefix_with_its_query(self, venue: tuple[Running, Http]) -> None:
        exchange, http = venue
        exchange.control.fault(method="GET", path="/v2/orders?", effect=500)
        assert http("GET", "/v2/orders?status=open").status_code == 500
        assert http("GET", "/v2/orders").status_code == 200
        assert http("GET", "/v2/orders:by_client_order_id?client_order_id=a").status_code == 404
        assert http("POST", "/v2/orders", json=PASSIVE).status_code == 200

    def test_the_first_ones_pass_and_so_many_are_struck(self, venue: tuple[Running, Http]) -> None:
        _, http = venue
        rule = {"method": "GET", "path": "/v2/account", "effect": 503, "after": 1, "times": 2}
        assert http("POST", "/control/faults", json=rule).status_code == 200
        assert [http("GET", "/v2/account").status_code for _ in range(4)] == [200, 503, 503, 200]
        (row,) = http("GET", "/control/faults").json()
        assert (row["met"], row["struck"], row["effect"]) == (4, 2, "503")

    def test_lifted_everything_is_sound_and_control_never_was_struck(
        self, venue: tuple[Running, Http]
    ) -> None:
        _, http = venue
        http("POST", "/control/faults", json={"method": "*", "path": "/", "effect": 500, "times": None})
        assert http("GET", "/v2/account").status_code == 500
        assert http("DELETE", "/control/faults").json() == []
        assert http("GET", "/v2/account").status_code == 200

    def posts(self, exchange: Running) -> list[dict[str, Any]]:
        return [row for row in exchange.control.log() if row.get("method") == "POST"]


class TestStreams:
    @pytest.fixture
    def listening(self, venue: tuple[Running, Http]) -> Iterator[ClientConnection]:
        with connect(venue[0].trade_url) as socket:
            self.join(socket)
            yield socket

    def join(self, socket: ClientConnection) -> None:
        socket.send(dumps({"action": "auth", "key": "PAPER", "secret": "paper-secret"}))
        assert loads(socket.recv(5))["data"]["status"] == "authorized"
        socket.send(dumps({"action": "listen", "data": {"streams": ["trade_updates"]}}))
        assert loads(socket.recv(5))["stream"] == "listening"

    def test_so_many_events_are_never_sent(
        self, venue: tuple[Running, Http], listening: ClientConnection
    ) -> None:
        exchange, http = venue
        exchange.control.fault(stream="trades", effect="drop", times=2)
        http("POST", "/v2/orders", json=ORDER | {"type": "market"})
        assert loads(listening.recv(5))["data"]["event"] == "fill"
        (row,) = exchange.control.faults()
        assert row["struck"] == 2

    def test_a_stream_that_loses_every_event_still_answers_its_clients(
        self, venue: tuple[Running, Http]
    ) -> None:
        exchange, http = venue
        exchange.control.fault(stream="trades", effect="drop")
        with connect(exchange.trade_url) as socket:
            self.join(socket)
            http("POST", "/v2/orders", json=ORDER | {"type": "market"})
            until(lambda: exchange.control.faults()[0]["struck"] == 3)
            with pytest.raises(TimeoutError):
                socket.recv(0)

    def test_a_mute_stream_answers_pings_and_nothing_else(
        self, venue: tuple[Running, Http], listening: ClientConnection
    ) -> None:
        exchange, http = venue
        exchange.control.fault(stream="trades", effect="mute")
        http("POST", "/v2/orders", json=ORDER | {"type": "market"})
        until(lambda: exchange.control.faults()[0]["struck"] == 3)
        listening.send(dumps({"action": "listen", "data": {"streams": []}}))
        until(lambda: exchange.control.faults()[0]["struck"] == 4)
        assert listening.ping().wait(5)
        with pytest.raises(TimeoutError):
            listening.recv(0)
        exchange.control.lift_faults()
        listening.send(dumps({"action": "listen", "data": {"streams": []}}))
        assert loads(listening.recv(5))["stream"] == "listening"

    def test_quotes_are_lost_by_the_frame(self) -> None:
        with served() as (exchange, _), connect(exchange.data_url) as socket:
            socket.recv(5)
            socket.send(dumps({"action": "auth", "key": "PAPER", "secret": "paper-secret"}))
            socket.recv(5)
            socket.send(dumps({"action": "subscribe", "quotes": ["BTC/USD"]}))
            socket.recv(5)
            exchange.control.fault(stream="quotes", effect="drop", times=1)
            exchange.control.quote("BTC/USD", "60000", "60010")
            exchange.control.quote("BTC/USD", "60001", "60011")
            assert loads(socket.recv(5))[0]["bp"] == 60001
