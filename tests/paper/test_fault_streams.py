"""What faults do to the streams, as their clients hear it."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import msgpack
import pytest
from exchange_support import Http, config, served, switched, until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from dca.paper.serve import Running
from dca.paper.wire import dumps, loads

ORDER = {"symbol": "BTC/USD", "qty": "0.001", "side": "buy", "type": "market", "time_in_force": "gtc"}
AUTH = {"action": "auth", "key": "PAPER", "secret": "paper-secret"}
LISTEN = {"action": "listen", "data": {"streams": ["trade_updates"]}}
SUBSCRIBE = {"action": "subscribe", "quotes": ["BTC/USD", "ETH/USD"]}


class Ear:
    """A client of one stream."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    def say(self, message: Any) -> Any:
        self.socket.send(dumps(message))
        return self.hear()

    def hear(self) -> Any:
        return loads(self.socket.recv(5))

    def silent(self) -> bool:
        """Nothing has come; a ping was answered, so nothing is on its way."""
        assert self.socket.ping().wait(5)
        try:
            self.socket.recv(0)
        except TimeoutError:
            return True
        return False

    def ended(self) -> bool:
        try:
            self.socket.recv(5)
        except ConnectionClosed:
            return True
        return False


@contextmanager
def trade_ear(exchange: Running) -> Iterator[Ear]:
    with connect(exchange.trade_url) as socket:
        ear = Ear(socket)
        assert ear.say(AUTH)["data"]["status"] == "authorized"
        assert ear.say(LISTEN)["stream"] == "listening"
        yield ear


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Running, Http]]:
    switches = switched(trading_connections=0, data_connections=0)
    with served(config(switches=switches)) as pair:
        yield pair


@pytest.fixture
def exchange(shared: tuple[Running, Http]) -> Running:
    shared[0].control.lift_faults()
    shared[0].control.quote("BTC/USD", "60000", "60010")
    return shared[0]


@pytest.fixture
def http(shared: tuple[Running, Http]) -> Http:
    return shared[1]


@pytest.fixture
def trades(exchange: Running) -> Iterator[Ear]:
    with trade_ear(exchange) as ear:
        yield ear


@pytest.fixture
def quotes(exchange: Running) -> Iterator[Ear]:
    with connect(exchange.data_url, max_size=1 << 20) as socket:
        ear = Ear(socket)
        assert ear.hear()[0]["msg"] == "connected"
        assert ear.say(AUTH)[0]["msg"] == "authenticated"
        assert ear.say(SUBSCRIBE)[0]["T"] == "subscription"
        yield ear


class TestTrades:
    def buy(self, http: Http, **more: Any) -> str:
        order = http("POST", "/v2/orders", json=ORDER | more).json()
        return str(order["id"])

    def heard(self, ear: Ear, number: int) -> list[str]:
        return [ear.hear()["data"]["event"] for _ in range(number)]

    def test_an_update_comes_twice(self, exchange: Running, http: Http, trades: Ear) -> None:
        exchange.control.fault(stream="trades", event="fill", effect="duplicate")
        self.buy(http)
        *_, fill, again = [trades.hear() for _ in range(4)]
        assert fill["data"]["event"] == "fill" and again == fill
        assert trades.silent()

    def test_a_fill_is_taken_back(self, exchange: Running, http: Http, trades: Ear) -> None:
        bust = {"effect": "duplicate", "field": "data.event", "value": "trade_bust"}
        exchange.control.fault(stream="trades", event="fill", **bust)
        self.buy(http)
        *_, fill, bust_heard = [trades.hear()["data"] for _ in range(4)]
        assert bust_heard == fill | {"event": "trade_bust"}

    @pytest.mark.parametrize("event", ["new", "fill"])
    def test_only_the_event_that_is_meant_is_lost(
        self, exchange: Running, http: Http, trades: Ear, event: str
    ) -> None:
        exchange.control.fault(stream="trades", event=event, effect="drop")
        self.buy(http)
        assert self.heard(trades, 2) == [name for name in ("pending_new", "new", "fill") if name != event]
        assert trades.silent()

    def test_only_the_order_that_is_meant_is_struck(self, exchange: Running, http: Http, trades: Ear) -> None:
        exchange.control.fault(stream="trades", effect="drop", client_order_id="lost-*")
        self.buy(http, client_order_id="lost-1")
        heard = self.buy(http, client_order_id="found-1")
        assert {trades.hear()["data"]["order"]["id"] for _ in range(3)} == {heard}

    def test_updates_overtake_each_other(self, exchange: Running, http: Http, trades: Ear) -> None:
        exchange.control.fault(stream="trades", event="new", effect="swap", seconds=60)
        self.buy(http)
        assert self.heard(trades, 3) == ["pending_new", "fill", "new"]

    def test_what_nothing_overtakes_comes_all_the_same(
        self, exchange: Running, http: Http, trades: Ear
    ) -> None:
        exchange.control.fault(stream="trades", event="fill", effect="swap", seconds=0.05)
        self.buy(http)
        assert self.heard(trades, 3) == ["pending_new", "new", "fill"]

    def test_an_update_is_late_and_reads_know_it_already(
        self, exchange: Running, http: Http, trades: Ear
    ) -> None:
        exchange.control.fault(stream="trades", event="fill", effect="delay", seconds=0.2)
        begun = time.monotonic()
        order_id = self.buy(http)
        until(lambda: http("GET", f"/v2/orders/{order_id}").json()["status"] == "filled")
        assert self.heard(trades, 3) == ["pending_new", "new", "fill"]
        assert time.monotonic() - begun >= 0.2

    @pytest.mark.parametrize(
        ("effect", "event", "status"),
        [
            ({"effect": "changed", "field": "event", "value": "accepted"}, "accepted", "filled"),
            ({"effect": "changed", "field": "order.status", "value": "odd"}, "fill", "odd"),
            ({"effect": "without", "field": "order.status"}, "fill", None),
        ],
    )
    def test_an_update_says_something_unknown(
        self, exchange: Running, http: Http, trades: Ear, effect: dict[str, Any], event: str, status: str
    ) -> None:
        exchange.control.fault(stream="trades", event="fill", **effect)
        self.buy(http)
        *_, update = [trades.hear()["data"] for _ in range(3)]
        assert (update["event"], update["order"].get("status")) == (event, status)

    def test_a_field_may_be_named_with_the_object_it_is_in(
        self, exchange: Running, http: Http, trades: Ear
    ) -> None:
        exchange.control.fault(stream="trades", event="fill", effect="changed", field="order.qty", value="7")
        self.buy(http)
        *_, update = [trades.hear()["data"] for _ in range(3)]
        assert (update["qty"], update["order"]["qty"]) == ("0.001", "7")

    def test_an_update_has_no_data(self, exchange: Running, http: Http, trades: Ear) -> None:
        exchange.control.fault(stream="trades", event="fill", effect="changed", field="data")
        self.buy(http)
        assert [trades.hear() for _ in range(3)][-1] == {"stream": "trade_updates", "data": None}

    def test_updates_come_before_the_answer_to_the_order(
        self, exchange: Running, http: Http, trades: Ear
    ) -> None:
        exchange.control.fault(method="POST", path="/v2/orders", effect="delay", seconds=1, reached=True)
        asking = Thread(target=self.buy, args=(http,))
        asking.start()
        assert self.heard(trades, 3)[-1] == "fill"
        assert asking.is_alive(), "the answer is still awaited"
        asking.join()

    def test_the_connection_ends_instead_of_an_update(
        self, exchange: Running, http: Http, trades: Ear
    ) -> None:
        exchange.control.fault(stream="trades", event="fill", effect="disconnect", times=1)
        self.buy(http)
        assert self.heard(trades, 2) == ["pending_new", "new"]
        assert trades.ended()

    def test_it_is_mute_and_answers_pings(self, exchange: Running, http: Http, trades: Ear) -> None:
        exchange.control.fault(stream="trades", effect="mute")
        self.buy(http)
        until(lambda: exchange.control.faults()[0]["struck"] == 3)
        assert trades.silent()

    @pytest.mark.parametrize("status", [429, 503])
    def test_nobody_may_come_back_for_a_while(self, exchange: Running, status: int) -> None:
        exchange.control.fault(stream="trades", event="connect", effect=status, lasts=0.2)
        with pytest.raises(InvalidStatus) as refused, connect(exchange.trade_url):
            pass
        assert refused.value.response.status_code == status
        until(lambda: self.comes_back(exchange))

    def comes_back(self, exchange: Running) -> bool:
        try:
            with trade_ear(exchange):
                return True
        except InvalidStatus:
            return False

    def test_a_handshake_is_never_answered(self, exchange: Running) -> None:
        exchange.control.fault(stream="trades", event="connect", effect="hang", times=1)
        with pytest.raises(TimeoutError), connect(exchange.trade_url, open_timeout=0.1):
            pass
        assert self.comes_back(exchange)

    def test_true_keys_are_refused_or_get_no_answer(self, exchange: Running) -> None:
        exchange.control.fault(stream="trades", event="auth", script=[401, "hang"])
        with connect(exchange.trade_url) as socket:
            assert Ear(socket).say(AUTH)["data"]["status"] == "unauthorized"
            assert Ear(socket).ended()
        with connect(exchange.trade_url) as socket:
            socket.send(dumps(AUTH))
            until(lambda: exchange.control.faults()[0]["struck"] == 2)
            assert Ear(socket).silent()

    def test_nobody_is_heard_who_wants_to_listen(self, exchange: Running) -> None:
        exchange.control.fault(stream="trades", event="listen", script=[403, "hang"])
        with connect(exchange.trade_url) as socket:
            ear = Ear(socket)
            ear.say(AUTH)
            assert ear.say(LISTEN)["data"] == {"action": "listen", "status": "unauthorized"}
            socket.send(dumps(LISTEN))
            until(lambda: exchange.control.faults()[0]["struck"] == 2)
            assert ear.silent()


class TestQuotes:
    def test_only_the_symbol_that_is_meant_is_struck(self, exchange: Running, quotes: Ear) -> None:
        exchange.control.fault(stream="quotes", event="quotes", symbol="ETHUSD", effect="drop")
        exchange.control.quote("ETH/USD", "2000", "2001")
        exchange.control.quote("BTC/USD", "60000", "60010")
        assert [quote["S"] for quote in quotes.hear()] == ["BTC/USD"]

    @pytest.mark.parametrize(
        ("effect", "bid", "ask"),
        [
            ({"effect": "crossed"}, 60070.01, 59940),
            ({"effect": "zero"}, 0, 0),
            ({"effect": "negative"}, -60000, -60010),
            ({"effect": "scaled", "factor": 10}, 600000, 600100),
            ({"effect": "stale", "seconds": 600}, 60000, 60010),
        ],
        ids=str,
    )
    def test_one_quote_is_absurd_and_the_market_does_not_follow(
        self, exchange: Running, quotes: Ear, effect: dict[str, Any], bid: float, ask: float
    ) -> None:
        exchange.control.fault(stream="quotes", times=1, **effect)
        exchange.control.quote("BTC/USD", "60000", "60010")
        exchange.control.quote("BTC/USD", "60000", "60010")
        (bad,), (good,) = quotes.hear(), quotes.hear()
        assert (float(bad["bp"]), float(bad["ap"])) == (bid, ask)
        assert (good["bp"], good["ap"]) == (60000, 60010)
        assert bad["t"] == (good["t"].replace("12:00", "11:50") if "seconds" in effect else good["t"])
        assert exchange.control.status()["quotes"]["BTC/USD"]["bid"] == "60000"

    def test_what_is_no_quote_is_not_struck_by_what_is_about_quotes(
        self, exchange: Running, quotes: Ear
    ) -> None:
        assert quotes.say({"action": "subscribe", "orderbooks": ["BTC/USD"]})[0]["orderbooks"]
        exchange.control.fault(stream="quotes", effect="zero")
        exchange.control.quote("BTC/USD", "60000", "60010")
        quote, book = quotes.hear()
        assert (quote["bp"], book["b"][0]["p"]) == (0, 60000)
        assert exchange.control.faults()[0]["met"] == 1

    def test_prices_that_are_no_numbers_reach_those_who_speak_msgpack(self, exchange: Running) -> None:
        exchange.control.fault(stream="quotes", script=["nan", "huge", "missing"])
        packed = {"Content-Type": "application/msgpack"}
        with connect(exchange.data_url, additional_headers=packed) as socket:
            socket.recv(5)
            for words in (AUTH, SUBSCRIBE):
                socket.send(msgpack.packb(words))
                socket.recv(5)
            for _ in range(4):
                exchange.control.quote("BTC/USD", "60000", "60010")
            bids = [msgpack.unpackb(socket.recv(5), timestamp=3)[0]["bp"] for _ in range(3)]
        assert math.isnan(bids[0]) and bids[1:] == [1e308, 60000]

    def test_one_frame_holds_a_good_quote_and_poison(self, exchange: Running, quotes: Ear) -> None:
        effect = {"effect": "duplicate", "field": "bp", "value": None, "copies": 2}
        exchange.control.fault(stream="quotes", times=1, **effect)
        exchange.control.quote("BTC/USD", "60000", "60010")
        assert [quote["bp"] for quote in quotes.hear()] == [60000, None, None]

    def test_a_quote_in_another_form(self, exchange: Running, quotes: Ear) -> None:
        exchange.control.fault(stream="quotes", effect="compact")
        exchange.control.quote("BTC/USD", "60000", "60010")
        assert quotes.hear()[0]["S"] == "BTCUSD"

    def test_a_late_quote_comes_after_newer_ones(self, exchange: Running, quotes: Ear) -> None:
        exchange.control.fault(stream="quotes", effect="delay", seconds=0.1, times=1)
        exchange.control.quote("BTC/USD", "60000", "60010")
        exchange.control.quote("BTC/USD", "60001", "60011")
        assert [quotes.hear()[0]["bp"] for _ in range(2)] == [60001, 60000]

    def test_frames_that_nobody_can_read(self, exchange: Running, quotes: Ear) -> None:
        script = ["garbled", {"effect": "raw", "text": '{"T":"q"}'}, "ok"]
        exchange.control.fault(stream="quotes", script=script)
        for _ in range(3):
            exchange.control.quote("BTC/USD", "60000", "60010")
        with pytest.raises(ValueError, match=r"Unterminated|Expecting|delimiter"):
            quotes.hear()
        assert quotes.hear() == {"T": "q"}
        assert quotes.hear()[0]["bp"] == 60000

    def test_a_frame_is_larger_than_clients_take(self, exchange: Running, quotes: Ear) -> None:
        exchange.control.fault(stream="quotes", effect="padded", times=1)
        exchange.control.quote("BTC/USD", "60000", "60010")
        assert quotes.ended()

    def test_it_is_mute_and_answers_pings(self, exchange: Running, quotes: Ear) -> None:
        exchange.control.fault(stream="quotes", effect="mute")
        exchange.control.quote("BTC/USD", "60000", "60010")
        assert exchange.control.faults()[0]["struck"] == 1
        assert quotes.silent()

    def test_the_connection_ends_and_there_are_too_many_for_a_while(
        self, exchange: Running, quotes: Ear
    ) -> None:
        exchange.control.fault(stream="quotes", effect="disconnect", times=1)
        exchange.control.fault(stream="quotes", event="auth", effect=406, lasts=0.2)
        exchange.control.quote("BTC/USD", "60000", "60010")
        assert quotes.ended()
        with connect(exchange.data_url) as socket:
            ear = Ear(socket)
            ear.hear()
            assert ear.say(AUTH) == [{"T": "error", "code": 406, "msg": "connection limit exceeded"}]
            assert ear.ended()
        until(lambda: self.welcome(exchange))

    def welcome(self, exchange: Running) -> bool:
        with connect(exchange.data_url) as socket:
            ear = Ear(socket)
            ear.hear()
            return bool(ear.say(AUTH)[0]["T"] == "success")

    def test_a_subscription_is_refused_and_the_connection_stays(self, exchange: Running) -> None:
        exchange.control.fault(stream="quotes", event="subscribe", script=[405, 409, 410, "hang"])
        with connect(exchange.data_url) as socket:
            ear = Ear(socket)
            ear.hear()
            ear.say(AUTH)
            assert [ear.say(SUBSCRIBE)[0]["code"] for _ in range(3)] == [405, 409, 410]
            socket.send(dumps(SUBSCRIBE))
            until(lambda: exchange.control.faults()[0]["struck"] == 4)
            assert ear.silent()
            assert ear.say(SUBSCRIBE)[0]["T"] == "subscription"

    def test_the_handshake_is_refused(self, exchange: Running) -> None:
        exchange.control.fault(stream="quotes", event="connect", effect=429)
        with pytest.raises(InvalidStatus, match="429"), connect(exchange.data_url):
            pass
