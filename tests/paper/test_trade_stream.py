"""The trade-update stream, frame by frame."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgpack
import pytest
from exchange_support import Http, config, served, switched, until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from dca.paper.config import Switches
from dca.paper.gate import Channel, Gate
from dca.paper.serve import Running

ORDER = {"symbol": "BTC/USD", "qty": "0.001", "side": "buy", "type": "market", "time_in_force": "gtc"}
LEGACY = {"action": "authenticate", "data": {"key_id": "PAPER", "secret_key": "paper-secret"}}
CURRENT = {"action": "auth", "key": "PAPER", "secret": "paper-secret"}
LISTEN = {"action": "listen", "data": {"streams": ["trade_updates", "account_updates"]}}
WELCOME = {"stream": "authorization", "data": {"action": "authenticate", "status": "authorized"}}


def say(socket: ClientConnection, message: dict[str, Any]) -> None:
    socket.send(json.dumps(message))


def hear(socket: ClientConnection) -> dict[str, Any]:
    return json.loads(socket.recv(timeout=10))


@contextmanager
def listener(exchange: Running) -> Iterator[ClientConnection]:
    """A connection that listens."""
    with connect(exchange.trade_url) as socket:
        say(socket, LEGACY)
        assert hear(socket) == WELCOME
        say(socket, LISTEN)
        assert hear(socket) == {"stream": "listening", "data": {"streams": ["trade_updates"]}}
        yield socket


@pytest.fixture
def venue() -> Iterator[tuple[Running, Http]]:
    with served() as pair:
        pair[0].control.quote("BTC/USD", "60000", "60010")
        yield pair


@pytest.mark.parametrize("frame", [LEGACY, CURRENT])
@pytest.mark.parametrize("path", ["", "/"])
def test_both_ways_to_authenticate_are_understood(
    venue: tuple[Running, Http], frame: dict[str, Any], path: str
) -> None:
    with connect(venue[0].trade_url + path) as socket:
        say(socket, frame)
        assert hear(socket) == WELCOME


def test_frames_are_binary_json_unless_switched(venue: tuple[Running, Http]) -> None:
    with connect(venue[0].trade_url) as socket:
        say(socket, LEGACY)
        assert isinstance(socket.recv(timeout=10), bytes)
    with (
        served(config(switches=switched(binary_trade_frames=False))) as (exchange, _),
        connect(exchange.trade_url) as socket,
    ):
        say(socket, LEGACY)
        assert isinstance(socket.recv(timeout=10), str)


def test_msgpack_is_spoken_where_the_handshake_asked_for_it(venue: tuple[Running, Http]) -> None:
    headers = {"Content-Type": "application/msgpack"}
    with connect(venue[0].trade_url, additional_headers=headers) as socket:
        socket.send(msgpack.packb(LEGACY))
        assert msgpack.unpackb(socket.recv(timeout=10)) == WELCOME


def test_a_client_may_send_binary_frames_and_fragments(venue: tuple[Running, Http]) -> None:
    whole = json.dumps(LEGACY)
    with connect(venue[0].trade_url) as socket:
        socket.send([whole[:20], whole[20:], ""])
        assert hear(socket) == WELCOME
        socket.send(json.dumps(LISTEN).encode())
        assert hear(socket)["stream"] == "listening"
        assert socket.ping().wait(10)


def test_the_events_of_an_order_come_in_order(venue: tuple[Running, Http]) -> None:
    exchange, http = venue
    with listener(exchange) as socket:
        order = http("POST", "/v2/orders", json=ORDER).json()
        heard = [hear(socket) for _ in range(3)]
    assert {frame["stream"] for frame in heard} == {"trade_updates"}
    data = [frame["data"] for frame in heard]
    assert [item["event"] for item in data] == ["pending_new", "new", "fill"]
    assert [item["order"]["status"] for item in data] == ["pending_new", "new", "filled"]
    fill = data[2]
    assert (fill["price"], fill["qty"], fill["position_qty"]) == ("60010", "0.001", "0.0009975")
    assert fill["order"]["id"] == order["id"] and fill["order"]["symbol"] == "BTC/USD"
    assert fill["order"]["cancel_requested_at"] is None
    assert fill["execution_id"] == exchange.venue.exchange.executions[0].id
    assert fill["timestamp"] == "2023-03-09T12:00:00.000000Z"
    assert "price" not in data[1]


def test_a_cancel_is_heard_as_request_and_as_end(venue: tuple[Running, Http]) -> None:
    exchange, http = venue
    body = ORDER | {"type": "limit", "limit_price": "50000"}
    order = http("POST", "/v2/orders", json=body).json()
    with listener(exchange) as socket:
        http("DELETE", f"/v2/orders/{order['id']}")
        assert [hear(socket)["data"]["event"] for _ in range(2)] == ["pending_cancel", "canceled"]


@pytest.mark.parametrize("early", [0.0, 1.0])
def test_events_may_leave_before_the_answer(early: float, monkeypatch: pytest.MonkeyPatch) -> None:
    left = departures(monkeypatch)
    with served(config(switches=switched(event_before_response=early))) as (exchange, http):
        exchange.control.quote("BTC/USD", "60000", "60010")
        with listener(exchange) as socket:
            assert until(lambda: len(left) == 2)
            left.clear()
            assert http("POST", "/v2/orders", json=ORDER).json()["status"] == "pending_new"
            assert [hear(socket)["data"]["event"] for _ in range(3)] == ["pending_new", "new", "fill"]
            frames, answer = ["frame"] * 3, ["answer"]
            assert until(lambda: len(left) == 4)
            assert left == (frames + answer if early else answer + frames)


def test_one_in_five_comes_early_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    left = departures(monkeypatch)
    with (
        served(config(switches=Switches(partial_rate=0.0))) as (exchange, http),
        listener(exchange) as socket,
    ):
        early, greetings = 0, 2
        assert until(lambda: len(left) == greetings)
        for _ in range(100):
            left.clear()
            http("POST", "/v2/orders", json=ORDER | {"type": "limit", "limit_price": "50000"})
            assert [hear(socket)["data"]["event"] for _ in range(2)] == ["pending_new", "new"]
            assert until(lambda: len(left) == 3)
            early += left[0] == "frame"
        assert 8 <= early <= 35


def departures(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What leaves the exchange from now on, in order: frames and answers."""
    left: list[str] = []
    send_frame, send_answer = Channel._send_next, Gate._send

    async def frame(channel: Channel) -> bool:
        more = await send_frame(channel)
        left.append("frame")
        return more

    async def answer(gate: Gate, *arguments: Any) -> None:
        await send_answer(gate, *arguments)
        left.append("answer")

    monkeypatch.setattr(Channel, "_send_next", frame)
    monkeypatch.setattr(Gate, "_send", answer)
    return left


def test_nothing_that_happened_before_listening_is_told(venue: tuple[Running, Http]) -> None:
    exchange, http = venue
    http("POST", "/v2/orders", json=ORDER)
    with listener(exchange) as socket:
        second = http("POST", "/v2/orders", json=ORDER).json()
        assert hear(socket)["data"]["order"]["id"] == second["id"]


def test_an_empty_list_stops_the_events(venue: tuple[Running, Http]) -> None:
    exchange, http = venue
    with listener(exchange) as socket:
        say(socket, {"action": "listen", "data": {"streams": []}})
        assert hear(socket) == {"stream": "listening", "data": {"streams": []}}
        http("POST", "/v2/orders", json=ORDER)
        say(socket, LISTEN)
        assert hear(socket)["stream"] == "listening"


def test_wrong_keys_are_told_and_the_connection_closed(venue: tuple[Running, Http]) -> None:
    with connect(venue[0].trade_url) as socket:
        say(socket, {"action": "authenticate", "data": {"key_id": "PAPER", "secret_key": "x"}})
        answer = {"action": "authenticate", "status": "unauthorized"}
        answer["message"] = "access key verification failed"
        assert hear(socket) == {"stream": "authorization", "data": answer}
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=10)


def test_listening_needs_authentication(venue: tuple[Running, Http]) -> None:
    with connect(venue[0].trade_url) as socket:
        say(socket, LISTEN)
        answer = {"action": "listen", "status": "unauthorized"}
        assert hear(socket) == {"stream": "authorization", "data": answer}


@pytest.mark.parametrize("frame", ["{", "[]", '{"action":"dance"}'])
def test_a_frame_without_sense_ends_the_connection(venue: tuple[Running, Http], frame: str) -> None:
    with connect(venue[0].trade_url) as socket:
        socket.send(frame)
        assert hear(socket) == {"action": "error", "data": {"error_message": "invalid syntax"}}
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=10)


def test_who_does_not_authenticate_in_time_is_cut_off() -> None:
    with served(config(switches=switched(auth_timeout_s=0.05))) as (exchange, _):
        with connect(exchange.trade_url) as socket:
            assert hear(socket)["action"] == "error"
            with pytest.raises(ConnectionClosed):
                socket.recv(timeout=10)
        with listener(exchange) as socket, pytest.raises(TimeoutError):
            socket.recv(timeout=0.2)


def test_a_second_connection_is_refused_until_the_first_is_gone(venue: tuple[Running, Http]) -> None:
    exchange, _ = venue
    with listener(exchange):
        with pytest.raises(InvalidStatus) as refusal:
            connect(exchange.trade_url)
        assert refusal.value.response.status_code == 429
    until(lambda: not exchange.venue.trades.sessions)
    with listener(exchange):
        pass


def test_more_connections_can_be_allowed() -> None:
    with served(config(switches=switched(trading_connections=0))) as (exchange, http):
        exchange.control.quote("BTC/USD", "60000", "60010")
        with listener(exchange) as one, listener(exchange) as two:
            http("POST", "/v2/orders", json=ORDER)
            assert hear(one) == hear(two)


def test_who_reads_too_slowly_is_cut_off() -> None:
    with served(config(switches=switched(frames_behind=5, trading_connections=0))) as (exchange, _):
        exchange.control.quote("BTC/USD", "60000", "60010")
        with listener(exchange) as socket:
            # Ten events in one go: nothing can be sent before they are all there.
            exchange.call(lambda control: [_place(exchange) for _ in range(4)])
            with pytest.raises(ConnectionClosed):
                while True:
                    last = hear(socket)
            assert last == {"action": "error", "data": {"error_message": "slow client"}}


def _place(exchange: Running) -> None:
    after = exchange.venue.orders.placed(ORDER).after
    assert after is not None
    after()
