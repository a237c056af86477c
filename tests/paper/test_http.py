"""The REST side over real sockets: keys, limits, paths, and the order of answers and events."""

import base64
import json
import socket
from collections.abc import Iterator

import pytest
from exchange_support import KEYS, HandClock, Http, config, served, switched, until

from dca.paper.serve import Running

ORDER = {"symbol": "BTC/USD", "qty": "0.001", "side": "buy", "type": "limit", "time_in_force": "gtc"}


@pytest.fixture
def venue() -> Iterator[tuple[Running, Http]]:
    with served() as pair:
        pair[0].control.quote("BTC/USD", "60000", "60010")
        yield pair


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {**KEYS, "APCA-API-KEY-ID": "x"},
        {**KEYS, "APCA-API-SECRET-KEY": "x"},
        {"Authorization": "Basic ?"},
    ],
)
def test_wrong_keys_are_not_let_in(venue: tuple[Running, Http], headers: dict[str, str]) -> None:
    stranger = Http(venue[0], headers)
    for method, path in (("GET", "/v2/account"), ("POST", "/v2/orders"), ("GET", "/v2/nothing")):
        answer = stranger(method, path)
        assert (answer.status_code, answer.json()) == (401, {"message": "unauthorized."})
    stranger.close()


def test_keys_may_come_as_basic_authentication(venue: tuple[Running, Http]) -> None:
    name = base64.b64encode(b"PAPER:paper-secret").decode()
    friend = Http(venue[0], {"Authorization": f"Basic {name}"})
    assert friend("GET", "/v2/account").status_code == 200
    friend.close()


def test_market_data_needs_no_keys_but_refuses_wrong_ones(venue: tuple[Running, Http]) -> None:
    path = "/v1beta3/crypto/us/latest/quotes?symbols=BTC/USD"
    for headers, status in (({}, 200), ({**KEYS, "APCA-API-KEY-ID": "x"}, 401)):
        client = Http(venue[0], headers)
        assert client("GET", path).status_code == status
        client.close()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/account", 200),
        ("//v2/account", 200),
        ("/v2/assets/BTC/USD", 200),
        ("/v2/assets/BTC%2FUSD", 200),
        ("/v2/assets/BTCUSD", 200),
        ("/v2/assets/NOPE", 404),
        ("/v2/orders:by_client_order_id?client_order_id=none", 404),
        ("/v2/positions/BTC%2FUSD", 404),
        ("/v2/nothing", 404),
        ("/v2/orders?status=all&nested=True&unknown=1&after=2023-01-01T00:00:00%2B00:00", 200),
        ("/v1beta3/crypto/us/latest/quotes?symbols=BTCUSD", 400),
        ("/v1beta3/crypto/mars/latest/quotes?symbols=BTC/USD", 400),
        ("/v1beta2/crypto/latest/quotes?symbols=BTC%2FUSD", 200),
        ("//v1beta2/crypto/bars?symbols=BTC/USD&timeframe=1Min", 200),
        ("/v1beta2/crypto/snapshots?symbols=BTC/USD,ETH/USD", 200),
    ],
)
def test_a_path_leads_somewhere(venue: tuple[Running, Http], path: str, status: int) -> None:
    answer = venue[1]("GET", path)
    assert answer.status_code == status
    assert answer.json() is not None and answer.headers["X-Request-ID"]


def test_a_body_that_is_not_an_object_is_refused(venue: tuple[Running, Http]) -> None:
    for body in (b"{", b"[]", b"\xff", b'{"qty": NaN}'):
        answer = venue[1]("POST", "/v2/orders", data=body)
        assert (answer.status_code, answer.json()["code"]) == (422, 40010001)


def test_numbers_with_exponents_are_read_exactly(venue: tuple[Running, Http]) -> None:
    body = b'{"symbol":"BTC/USD","qty":2e-4,"side":"buy","type":"limit",'
    body += b'"time_in_force":"gtc","limit_price":60000.1}'
    answer = venue[1]("POST", "/v2/orders", data=body).json()
    assert (answer["qty"], answer["limit_price"]) == ("0.0002", "60000.1")


def test_the_answer_to_an_order_comes_before_its_effects(venue: tuple[Running, Http]) -> None:
    _exchange, http = venue
    answer = http("POST", "/v2/orders", json=ORDER | {"limit_price": "61000"}).json()
    assert answer["status"] == "pending_new"
    assert until(lambda: http("GET", f"/v2/orders/{answer['id']}").json()["status"] == "filled")


def test_a_cancel_is_answered_with_nothing(venue: tuple[Running, Http]) -> None:
    order = venue[1]("POST", "/v2/orders", json=ORDER | {"limit_price": "50000"}).json()
    answer = venue[1]("DELETE", f"/v2/orders/{order['id']}")
    assert (answer.status_code, answer.content) == (204, b"")


def test_every_answer_tells_the_rate_limit(venue: tuple[Running, Http]) -> None:
    headers = venue[1]("GET", "/v2/account").headers
    assert (headers["X-RateLimit-Limit"], headers["X-RateLimit-Remaining"]) == ("200", "200")
    assert int(headers["X-RateLimit-Reset"]) > 0


def test_too_many_requests_are_refused_trading_and_data_apart() -> None:
    with served(config(switches=switched(rate_limit=3))) as (_, http):
        answers = [http("GET", "/v2/account") for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert [answer.headers["X-RateLimit-Remaining"] for answer in answers] == ["2", "1", "0", "0"]
        assert answers[3].json() == {"code": 42910000, "message": "rate limit exceeded"}
        path = "/v1beta3/crypto/us/latest/quotes?symbols=BTC/USD"
        assert [http("GET", path).status_code for _ in range(4)] == [200, 200, 200, 429]
        assert http("GET", path).json() == {"message": "too many requests."}
        assert http("GET", "/control/status").status_code == 200


def test_the_log_holds_every_request_and_every_change(venue: tuple[Running, Http]) -> None:
    _exchange, http = venue
    http("POST", "/v2/orders", json=ORDER | {"limit_price": "50000", "client_order_id": "a"})
    http("POST", "/v2/orders", json=ORDER | {"limit_price": "50000", "client_order_id": "a"})
    log = http("GET", "/control/log").json()
    assert [row["seq"] for row in log] == list(range(1, len(log) + 1))
    first, second = (row for row in log if row["kind"] == "request")
    assert (first["accepted"], second["accepted"]) == (True, False)
    assert first["at"] == "2023-03-09T12:00:00.000000Z" and first["body"]["client_order_id"] == "a"
    assert (second["status"], second["error"]["code"]) == (422, 40010001)
    later = http("GET", f"/control/log?after={first['seq']}").json()
    assert later[0]["seq"] == first["seq"] + 1


def test_an_execution_is_logged_with_its_fee_and_liquidity(venue: tuple[Running, Http]) -> None:
    exchange, http = venue
    http("POST", "/v2/orders", json=ORDER | {"type": "market"})
    (row,) = until(lambda: [row for row in exchange.control.log() if row.get("execution")])
    executed = row["execution"]
    assert (row["event"], executed["fee"], executed["liquidity"]) == ("fill", "0.0000025", "taker")
    assert executed["position_qty"] == "0.0009975"


def test_the_levers_work_over_http(venue: tuple[Running, Http]) -> None:
    _, http = venue
    assert http("POST", "/control/deposit", json={"asset": "BTC", "amount": "1"}).json()["coins"] == {
        "BTC/USD": "1"
    }
    body = ORDER | {"side": "sell", "limit_price": "70000"}
    for name in ("one", "two"):
        assert http("POST", "/v2/orders", json=body | {"client_order_id": name}).status_code == 200
    assert http("POST", "/control/fill", json={"order_id": "one", "qty": "0.0005"}).status_code == 200
    assert http("POST", "/control/cancel", json={"order_id": "two"}).status_code == 200
    quote = {"symbol": "BTC/USD", "bid": "70000", "ask": "70010"}
    assert http("POST", "/control/quote", json=quote).status_code == 200
    statuses = {
        order["client_order_id"]: order["status"] for order in http("GET", "/v2/orders?status=all").json()
    }
    assert statuses == {"one": "filled", "two": "canceled"}
    ledger = http("GET", "/control/ledger").json()
    assert ledger["coins"] == {"BTC/USD": "0.999"}
    status = http("GET", "/control/status").json()
    assert (status["orders"], status["open_orders"], status["executions"]) == (2, 0, 2)
    assert status["quotes"]["BTC/USD"]["bid"] == "70000"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/control/quote", {"symbol": "BTC/USD", "bid": "2", "ask": "1"}),
        ("/control/quote", {"symbol": "BTC/USD", "bid": "2"}),
        ("/control/quote", {"symbol": "X/USD", "bid": "2", "ask": "3"}),
        ("/control/deposit", {"asset": "X", "amount": "1"}),
        ("/control/deposit", {"asset": "USD", "amount": "x"}),
        ("/control/fill", {"order_id": "none"}),
        ("/control/cancel", {"order_id": "none"}),
    ],
)
def test_a_lever_without_sense_is_refused(
    venue: tuple[Running, Http], path: str, body: dict[str, str]
) -> None:
    assert venue[1]("POST", path, json=body).status_code in (404, 422)


def test_a_port_that_is_taken_is_a_config_error(venue: tuple[Running, Http]) -> None:
    from dca.domain.errors import ConfigError

    with pytest.raises(ConfigError, match="cannot listen"), served(config(port=venue[0].port)):
        pass


def test_orders_expire_by_themselves() -> None:
    clock = HandClock()
    with served(clock=clock) as (_, http):
        order = http("POST", "/v2/orders", json=ORDER | {"limit_price": "50000"}).json()
        clock.forward(days=91)
        until(lambda: http("GET", f"/v2/orders/{order['id']}").json()["status"] == "expired")


def test_a_request_that_was_cut_off_has_asked_for_nothing(venue: tuple[Running, Http]) -> None:
    """As a client leaves it that dies while it sends."""
    running, _ = venue
    body = json.dumps({**ORDER, "limit_price": "50000"})
    keys = "".join(f"{name}: {value}\r\n" for name, value in KEYS.items())
    head = f"POST /v2/orders HTTP/1.1\r\nHost: x\r\n{keys}Content-Length: {len(body)}\r\n\r\n"
    for half in ("", body[:40]):
        with socket.create_connection(("127.0.0.1", running.port)) as cut:
            cut.sendall((head + half).encode())
    with socket.create_connection(("127.0.0.1", running.port)) as whole:
        whole.sendall((head + body).encode())
        assert whole.recv(1000).startswith(b"HTTP/1.1 200")
    posted = [row for row in running.control.log() if row["kind"] == "request" and row["method"] == "POST"]
    assert [row["status"] for row in posted] == [200]
