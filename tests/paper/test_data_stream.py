"""The crypto data stream, frame by frame."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal as D
from typing import Any

import msgpack
import pytest
from exchange_support import KEYS, HandClock, Http, config, served, switched, until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from dca.paper.control import Control
from dca.paper.serve import Running

AUTH = {"action": "auth", "key": "PAPER", "secret": "paper-secret"}
CONNECTED = [{"T": "success", "msg": "connected"}]
AUTHENTICATED = [{"T": "success", "msg": "authenticated"}]
NOTHING: dict[str, Any] = {
    "T": "subscription",
    "trades": [],
    "quotes": [],
    "orderbooks": [],
    "bars": [],
    "updatedBars": [],
    "dailyBars": [],
}


class Client:
    """Speaks JSON or msgpack over one connection."""

    def __init__(self, socket: ClientConnection, *, packed: bool = False) -> None:
        self.socket = socket
        self.packed = packed

    def say(self, message: Any) -> None:
        self.socket.send(msgpack.packb(message) if self.packed else json.dumps(message))

    def hear(self) -> list[dict[str, Any]]:
        frame = self.socket.recv(timeout=10)
        assert isinstance(frame, bytes) is self.packed
        return msgpack.unpackb(frame, timestamp=3) if self.packed else json.loads(frame)

    def subscribe(self, **channels: list[str]) -> list[dict[str, Any]]:
        self.say({"action": "subscribe", **channels})
        return self.hear()

    def closed(self) -> bool:
        try:
            self.socket.recv(timeout=10)
        except ConnectionClosed:
            return True
        return False


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def venue(clock: HandClock) -> Iterator[tuple[Running, Http]]:
    with served(clock=clock) as pair:
        yield pair


@pytest.fixture
def client(venue: tuple[Running, Http]) -> Iterator[Client]:
    with connect(venue[0].data_url) as socket:
        made = Client(socket)
        assert made.hear() == CONNECTED
        made.say(AUTH)
        assert made.hear() == AUTHENTICATED
        yield made


def test_quotes_are_sent_as_json_text_by_default(venue: tuple[Running, Http], client: Client) -> None:
    assert client.subscribe(quotes=["BTC/USD"]) == [NOTHING | {"quotes": ["BTC/USD"]}]
    venue[0].control.quote("ETH/USD", "1500", "1501")
    venue[0].control.quote("BTC/USD", "60000.5", "60010")
    assert client.hear() == [
        {
            "T": "q",
            "S": "BTC/USD",
            "t": "2023-03-09T12:00:00.000000Z",
            "bp": 60000.5,
            "bs": 1.0,
            "ap": 60010.0,
            "as": 1.0,
        }
    ]


def test_msgpack_is_spoken_where_the_handshake_asked_for_it(venue: tuple[Running, Http]) -> None:
    headers = {"Content-Type": "application/msgpack"}
    with connect(venue[0].data_url, additional_headers=headers) as socket:
        client = Client(socket, packed=True)
        assert client.hear() == CONNECTED
        client.say(AUTH)
        assert client.hear() == AUTHENTICATED
        # The SDK sends its subscription in two fragments, the second one empty.
        whole = msgpack.packb({"action": "subscribe", "quotes": ["*"]})
        socket.send([whole, b""])
        assert client.hear() == [NOTHING | {"quotes": ["*"]}]
        venue[0].control.quote("BTC/USD", "60000", "60010")
        frame = socket.recv(timeout=10)
        (quote,) = msgpack.unpackb(frame, timestamp=3)
        assert quote["t"] == datetime(2023, 3, 9, 12, 0, tzinfo=UTC) and quote["bp"] == 60000


def test_every_message_begins_with_its_kind(venue: tuple[Running, Http]) -> None:
    """The Go client reads `T` first and depends on it."""
    with connect(venue[0].data_url, additional_headers={"Content-Type": "application/msgpack"}) as socket:
        client = Client(socket, packed=True)
        first = [client.hear()]
        client.say(AUTH)
        first += [client.hear(), client.subscribe(quotes=["*"], orderbooks=["*"])]
        client.say({"action": "dance"})
        first.append(client.hear())
        venue[0].control.quote("BTC/USD", "60000", "60010")
        first.append(client.hear())
    messages = [message for frame in first for message in frame]
    assert [message["T"] for message in messages] == [
        *("success", "success", "subscription", "error"),
        *("q", "o"),
    ]
    assert {next(iter(message)) for message in messages} == {"T"}


@pytest.mark.parametrize("query", ["", "?exchanges=CBSE"])
def test_the_older_path_leads_there_too(venue: tuple[Running, Http], query: str) -> None:
    url = venue[0].data_url.replace("/v1beta3/crypto/us", "/v1beta2/crypto")
    with connect(url + query) as socket:
        client = Client(socket)
        assert client.hear() == CONNECTED
        client.say(AUTH)
        assert client.hear() == AUTHENTICATED
        client.subscribe(quotes=["BTC/USD"])
        venue[0].control.quote("BTC/USD", "60000", "60010")
        assert client.hear()[0]["S"] == "BTC/USD"


@pytest.mark.parametrize(("offer", "agreed"), [("deflate", True), (None, False)])
def test_frames_are_compressed_for_clients_that_offer_it(
    venue: tuple[Running, Http], offer: str | None, agreed: bool
) -> None:
    with connect(venue[0].data_url, additional_headers=KEYS, compression=offer) as socket:
        chosen = socket.response.headers.get("Sec-WebSocket-Extensions", "")
        assert ("permessage-deflate" in chosen) is agreed
        client = Client(socket)
        assert [client.hear(), client.hear()] == [CONNECTED, AUTHENTICATED]
        assert client.subscribe(quotes=["*"]) == [NOTHING | {"quotes": ["*"]}]
        assert socket.ping().wait(10)


def test_keys_in_the_handshake_are_enough(venue: tuple[Running, Http]) -> None:
    with connect(venue[0].data_url, additional_headers=KEYS) as socket:
        client = Client(socket)
        assert [client.hear(), client.hear()] == [CONNECTED, AUTHENTICATED]
        client.say(AUTH)
        assert client.hear() == [{"T": "error", "code": 403, "msg": "already authenticated"}]


def test_subscriptions_add_up_and_can_be_taken_back(client: Client) -> None:
    client.subscribe(quotes=["BTC/USD"], bars=["*"])
    (ack,) = client.subscribe(quotes=["ETH/USD"], trades=["BTC/USD"])
    both = {"quotes": ["BTC/USD", "ETH/USD"], "bars": ["*"], "trades": ["BTC/USD"]}
    assert ack == NOTHING | both
    client.say({"action": "unsubscribe", "quotes": ["BTC/USD"], "bars": ["*"]})
    assert client.hear() == [NOTHING | {"quotes": ["ETH/USD"], "trades": ["BTC/USD"]}]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", 400),
        ({"action": "dance"}, 400),
        ({"action": "subscribe", "quotes": "BTC/USD"}, 400),
        ({"action": "subscribe", "quotes": ["BTCUSD"]}, 400),
        ({"action": "subscribe", "statuses": ["BTC/USD"]}, 410),
    ],
)
def test_a_message_without_sense_is_an_error_and_changes_nothing(
    client: Client, message: Any, code: int
) -> None:
    client.socket.send(message if isinstance(message, str) else json.dumps(message))
    (error,) = client.hear()
    assert (error["T"], error["code"]) == ("error", code)
    assert client.subscribe() == [NOTHING]


def test_subscribing_needs_authentication(venue: tuple[Running, Http]) -> None:
    with connect(venue[0].data_url) as socket:
        client = Client(socket)
        client.hear()
        assert client.subscribe(quotes=["*"]) == [{"T": "error", "code": 401, "msg": "not authenticated"}]


def test_wrong_keys_are_told_and_the_connection_closed(venue: tuple[Running, Http]) -> None:
    with connect(venue[0].data_url) as socket:
        client = Client(socket)
        client.hear()
        client.say(AUTH | {"secret": "x"})
        assert client.hear() == [{"T": "error", "code": 402, "msg": "auth failed"}]
        assert client.closed()


def test_a_second_connection_is_one_too_many(venue: tuple[Running, Http], client: Client) -> None:
    with connect(venue[0].data_url) as socket:
        second = Client(socket)
        second.hear()
        second.say(AUTH)
        assert second.hear() == [{"T": "error", "code": 406, "msg": "connection limit exceeded"}]
        assert second.closed()
    client.socket.close()
    until(lambda: not venue[0].venue.quotes.sessions)
    with connect(venue[0].data_url, additional_headers=KEYS) as socket:
        assert [Client(socket).hear() for _ in range(2)] == [CONNECTED, AUTHENTICATED]


def test_who_does_not_authenticate_in_time_is_cut_off() -> None:
    with (
        served(config(switches=switched(auth_timeout_s=0.05))) as (exchange, _),
        connect(exchange.data_url) as socket,
    ):
        client = Client(socket)
        assert client.hear() == CONNECTED
        assert client.hear() == [{"T": "error", "code": 404, "msg": "auth timeout"}]
        assert client.closed()


def test_too_many_symbols_are_refused() -> None:
    with (
        served(config(switches=switched(channel_limit=2))) as (exchange, _),
        connect(exchange.data_url, additional_headers=KEYS) as socket,
    ):
        client = Client(socket)
        client.hear(), client.hear()
        three = ["BTC/USD", "ETH/USD", "SOL/USD"]
        assert client.subscribe(quotes=three) == [{"T": "error", "code": 405, "msg": "symbol limit exceeded"}]
        assert client.subscribe(bars=three)[0]["bars"] == sorted(three)


def test_who_reads_too_slowly_is_cut_off() -> None:
    with (
        served(config(switches=switched(frames_behind=5))) as (exchange, _),
        connect(exchange.data_url, additional_headers=KEYS) as socket,
    ):
        client = Client(socket)
        client.hear(), client.hear(), client.subscribe(quotes=["*"])
        exchange.call(lambda control: quote_often(control, 8))
        assert client.hear() == [{"T": "error", "code": 407, "msg": "slow client"}]
        assert client.closed()


def test_bars_trades_and_books_are_sent(
    venue: tuple[Running, Http], client: Client, clock: HandClock
) -> None:
    exchange, http = venue
    everything = ["trades", "orderbooks", "bars", "dailyBars"]
    client.subscribe(**{channel: ["BTC/USD"] for channel in everything})
    exchange.control.quote("BTC/USD", "100", "102")
    (book,) = client.hear()
    assert (book["T"], book["r"]) == ("o", True)
    assert (book["b"], book["a"]) == ([{"p": 100.0, "s": 1.0}], [{"p": 102.0, "s": 1.0}])
    order = {"symbol": "BTC/USD", "qty": "0.5", "side": "buy", "type": "market", "time_in_force": "gtc"}
    http("POST", "/v2/orders", json=order)
    (trade,) = client.hear()
    assert (trade["T"], trade["p"], trade["s"], trade["tks"], trade["i"]) == ("t", 102.0, 0.5, "B", 1)
    clock.forward(seconds=60)
    exchange.control.quote("BTC/USD", "104", "106")
    book, bar, day = client.hear()
    assert [message["T"] for message in (book, bar, day)] == ["o", "b", "d"]
    assert bar["t"] == "2023-03-09T12:00:00.000000Z" and day["t"] == "2023-03-09T00:00:00.000000Z"
    assert [bar[name] for name in "ohlc"] == [101.0, 102.0, 101.0, 102.0]
    assert (bar["v"], bar["n"], bar["vw"]) == (0.5, 1, 101.5)


def quote_often(control: Control, times: int) -> None:
    for price in range(1, times + 1):
        control.quote("BTC/USD", D(price), D(price))
