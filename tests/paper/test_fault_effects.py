"""What faults do to requests, orders and the account, as a client and the exchange's log see it."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal as D
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import requests
from exchange_support import KEYS, HandClock, Http, config, served, until

from dca.paper.serve import Running

LIMIT = {"symbol": "BTC/USD", "qty": "0.001", "side": "buy", "type": "limit", "time_in_force": "gtc"}
RESTING = LIMIT | {"limit_price": "50000"}
MARKET = LIMIT | {"type": "market"}
ORDERS = "/v2/orders"
QUOTES = "/v1beta3/crypto/us/latest/quotes"
_NUMBERS = count(1)


class Scene:
    """One exchange for all, without faults or open orders at the start of each test."""

    def __init__(self, exchange: Running, http: Http) -> None:
        self.exchange = exchange
        self.http = http
        self.begun = 0

    def reset(self) -> None:
        self.exchange.control.lift_faults()
        self.http("DELETE", ORDERS)
        for name in ("BTC/USD", "ETH/USD"):
            self.exchange.control.change("instrument", asset=name, tradable=True)
        self.exchange.control.quote("BTC/USD", "60000", "60010")
        self.begun = self.exchange.control.log()[-1]["seq"]

    def fault(self, path: str, effect: Any, method: str = "*", **more: Any) -> None:
        self.exchange.control.fault(method=method, path=path, effect=effect, **more)

    def send(self, body: dict[str, Any], *, timeout: float = 10.0) -> requests.Response:
        url = self.exchange.base_url + ORDERS
        return requests.post(url, json=body, headers=KEYS, timeout=timeout)

    def placed(self, body: dict[str, Any]) -> str:
        """The id of an order that the exchange took, whatever the client was told."""
        key = f"order-{next(_NUMBERS)}"
        assert self.http("POST", ORDERS, json=body | {"client_order_id": key}).status_code == 200
        (found,) = (row["orders"][0]["id"] for row in self.log("order") if row["event"] is None and
                    row["orders"][0]["client_order_id"] == key)  # fmt: skip
        return str(found)

    def order(self, order_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.http("GET", f"{ORDERS}/{order_id}").json()
        return found

    def status(self, order_id: str) -> tuple[str, str]:
        order = self.order(order_id)
        return order["status"], order["filled_qty"]

    def log(self, kind: str) -> list[dict[str, Any]]:
        return [row for row in self.exchange.control.log(self.begun) if row["kind"] == kind]

    def events(self, order_id: str) -> list[str]:
        """What the stream said of the order."""
        rows = (row for row in self.log("order") if row["orders"][0]["id"] == order_id)
        return [row["event"] for row in rows if row["event"]]

    def requests(self, method: str = "POST") -> list[tuple[int, str | None]]:
        return [(row["status"], row["fault"]) for row in self.log("request") if row["method"] == method]


@pytest.fixture(scope="module")
def shared() -> Iterator[Scene]:
    with served(config(cash=D(100_000))) as (exchange, http):
        yield Scene(exchange, http)


@pytest.fixture
def scene(shared: Scene) -> Scene:
    shared.reset()
    return shared


class TestAnswers:
    def test_too_many_requests_say_when_to_come_back(self, scene: Scene) -> None:
        scene.fault("/v2/", 429, retry_after=30, times=1)
        told = scene.http("GET", "/v2/account")
        assert (told.status_code, told.headers["Retry-After"]) == (429, "30")
        assert told.headers["X-RateLimit-Remaining"] == "0"
        reset = scene.exchange.venue.exchange.clock.now().timestamp() + 30
        assert int(told.headers["X-RateLimit-Reset"]) == int(reset)
        assert "Retry-After" not in scene.http("GET", "/v2/account").headers

    def test_a_page_of_html_under_any_status(self, scene: Scene) -> None:
        scene.fault(ORDERS, "503 html", method="POST", reached=True, times=1)
        told = scene.http("POST", ORDERS, json=RESTING)
        assert (told.status_code, told.headers["Content-Type"]) == (503, "text/html")
        assert "<h1>503 Service Unavailable</h1>" in told.text
        assert len(scene.http("GET", ORDERS).json()) == 1

    def test_a_redirect_leads_away(self, scene: Scene) -> None:
        scene.fault("/v2/account", 307)
        told = scene.http("GET", "/v2/account", allow_redirects=False)
        assert (told.status_code, told.headers["Location"]) == (307, "https://redirected.invalid/")

    def test_a_script_is_played_one_answer_a_request(self, scene: Scene) -> None:
        script = ["ok", {"effect": "504", "reached": True}, "ok", "reset"]
        scene.exchange.control.fault(method="POST", path=ORDERS, script=script)
        told = [scene.http("POST", ORDERS, json=RESTING).status_code for _ in range(3)]
        assert told == [200, 504, 200]
        with pytest.raises(requests.ConnectionError):
            scene.http("POST", ORDERS, json=RESTING)
        assert scene.http("POST", ORDERS, json=RESTING).status_code == 200
        assert scene.requests() == [(200, None), (200, "504"), (200, None), (0, "reset"), (200, None)]
        assert len(scene.http("GET", ORDERS).json()) == 4

    def test_a_request_takes_effect_after_its_client_gave_up(self, scene: Scene) -> None:
        scene.fault(ORDERS, "delay", method="POST", seconds=0.2, times=1)
        with pytest.raises(requests.ReadTimeout):
            scene.send(RESTING, timeout=0.05)
        assert (scene.http("GET", ORDERS).json(), scene.requests()) == ([], [])
        until(lambda: len(scene.http("GET", ORDERS).json()) == 1)
        assert scene.requests() == [(200, "delay")]

    def test_an_answer_is_late_and_the_updates_are_not(self, scene: Scene) -> None:
        scene.fault(ORDERS, "delay", method="POST", seconds=0.2, reached=True, times=1)
        with ThreadPoolExecutor(1) as pool:
            begun = time.monotonic()
            waiting = pool.submit(scene.send, MARKET)
            until(lambda: "fill" in [row["event"] for row in scene.log("order")])
            assert not waiting.done()
            assert waiting.result().json()["status"] == "pending_new"
            assert time.monotonic() - begun >= 0.2

    @pytest.mark.parametrize(
        ("effect", "status", "known"),
        [
            ({"effect": "changed", "field": "status", "value": "odd"}, "odd", True),
            ({"effect": "changed", "field": "status"}, None, True),
            ({"effect": "without", "field": "status"}, "absent", True),
            ({"effect": "nothing"}, "absent", False),
        ],
    )
    def test_a_true_answer_is_altered(
        self, scene: Scene, effect: dict[str, Any], status: str | None, known: bool
    ) -> None:
        order_id = scene.placed(RESTING)
        scene.exchange.control.fault(method="GET", path=f"{ORDERS}/", **effect)
        seen = scene.order(order_id)
        assert (seen.get("status", "absent"), "qty" in seen) == (status, known)
        assert scene.http("GET", ORDERS).json()[0]["status"] == "new"

    def test_a_list_is_empty_although_there_is_something(self, scene: Scene) -> None:
        scene.placed(MARKET)
        scene.fault("/v2/positions", "nothing", times=1)
        assert scene.http("GET", "/v2/positions").json() == []
        assert scene.http("GET", "/v2/positions").json() != []

    def test_symbols_lose_their_slash(self, scene: Scene) -> None:
        order_id = scene.placed(RESTING)
        scene.fault(ORDERS, "compact")
        assert scene.order(order_id)["symbol"] == "BTCUSD"

    def test_an_order_is_struck_by_its_symbol_or_its_clients_id_whatever_names_it(self, scene: Scene) -> None:
        scene.exchange.control.quote("ETH/USD", "2000", "2001")
        for name, symbol, price in (("a-1", "BTC/USD", "50000"), ("b-1", "ETH/USD", "1000")):
            body = LIMIT | {"symbol": symbol, "qty": "0.1", "limit_price": price, "client_order_id": name}
            assert scene.http("POST", ORDERS, json=body).status_code == 200
        scene.fault(ORDERS, 500, symbol="ETH/USD", client_order_id="b-*")
        found = {order["client_order_id"]: order["id"] for order in scene.http("GET", ORDERS).json()}
        for name, told in (("a-1", 200), ("b-1", 500)):
            query = f"{ORDERS}:by_client_order_id?client_order_id={name}"
            looks = (f"{ORDERS}/{found[name]}", query)
            assert [scene.http("GET", look).status_code for look in looks] == [told, told]


@pytest.mark.parametrize(
    ("effect", "bid", "ask"),
    [
        ({"effect": "crossed"}, 60070.01, 59940.0),
        ({"effect": "zero"}, 0, 0),
        ({"effect": "negative"}, -60000, -60010),
        ({"effect": "huge"}, 1e308, 1e308),
        ({"effect": "scaled", "factor": "0.1"}, 6000, 6001),
        ({"effect": "scaled", "factor": 10}, 600000, 600100),
    ],
)
def test_quotes_are_absurd(scene: Scene, effect: dict[str, Any], bid: float, ask: float) -> None:
    scene.exchange.control.fault(method="GET", path=QUOTES, **effect)
    quote = scene.http("GET", f"{QUOTES}?symbols=BTC/USD").json()["quotes"]["BTC/USD"]
    assert (quote["bp"], quote["ap"]) == (bid, ask)
    assert scene.exchange.control.status()["quotes"]["BTC/USD"]["bid"] == "60000"


def test_quotes_of_one_symbol_are_old_or_missing_and_others_are_not(scene: Scene) -> None:
    scene.exchange.control.quote("ETH/USD", "2000", "2001")
    both = f"{QUOTES}?symbols=BTC/USD,ETH/USD"
    true = scene.http("GET", both).json()["quotes"]
    scene.fault(QUOTES, "stale", symbol="BTC/USD", seconds=3600, times=1)
    scene.fault(QUOTES, "missing", symbol="BTC/USD", times=1)
    old, missing, again = (scene.http("GET", both).json()["quotes"] for _ in range(3))
    assert (true["BTC/USD"]["t"], old["BTC/USD"]["t"]) == (
        "2023-03-09T12:00:00.000000Z",
        "2023-03-09T11:00:00.000000Z",
    )
    assert old["ETH/USD"] == true["ETH/USD"] and missing == {"ETH/USD": true["ETH/USD"]}
    assert again == true


class TestOrders:
    def test_an_order_is_not_found_for_a_while(self, scene: Scene) -> None:
        scene.fault(ORDERS, "unseen", method="POST", seconds=0.25, client_order_id="hidden", times=1)
        order = scene.http("POST", ORDERS, json=RESTING | {"client_order_id": "hidden"}).json()
        looks = (f"{ORDERS}/{order['id']}", f"{ORDERS}:by_client_order_id?client_order_id=hidden")
        assert [scene.http("GET", look).status_code for look in looks] == [404, 404]
        assert scene.http("GET", f"{ORDERS}?status=all&limit=1").json() != [order]
        assert scene.http("GET", ORDERS).json() == []
        again = scene.http("POST", ORDERS, json=RESTING | {"client_order_id": "hidden"})
        assert (again.status_code, again.json()["message"]) == (422, "client_order_id must be unique")
        until(lambda: scene.http("GET", looks[0]).status_code == 200)
        assert scene.http("GET", looks[1]).json()["status"] == "new"
        assert len(scene.http("GET", ORDERS).json()) == 1

    def test_an_order_is_accepted_and_rejected_afterwards(self, scene: Scene) -> None:
        cash = scene.http("GET", "/v2/account").json()["non_marginable_buying_power"]
        scene.fault(ORDERS, "rejected", method="POST", seconds=0.1, times=1)
        order_id = scene.placed(RESTING)
        assert scene.status(order_id) == ("pending_new", "0")
        until(lambda: scene.status(order_id) == ("rejected", "0"))
        assert scene.order(order_id)["failed_at"] is not None
        assert scene.events(order_id) == ["rejected"]
        assert scene.http("GET", "/v2/account").json()["non_marginable_buying_power"] == cash

    def test_the_venue_cancels_by_itself(self, scene: Scene) -> None:
        scene.fault(ORDERS, "canceled", method="POST", times=1)
        order_id = scene.placed(RESTING)
        until(lambda: scene.status(order_id) == ("canceled", "0"))
        assert scene.events(order_id) == ["pending_new", "new", "canceled"]

    def test_a_part_is_filled_and_the_rest_canceled(self, scene: Scene) -> None:
        scene.fault(ORDERS, "partly", method="POST", part="0.4", seconds=0.1, times=1)
        order_id = scene.placed(MARKET)
        until(lambda: scene.status(order_id) == ("partially_filled", "0.0004"))
        until(lambda: scene.status(order_id) == ("canceled", "0.0004"))
        assert scene.events(order_id) == ["pending_new", "new", "partial_fill", "canceled"]
        assert scene.order(order_id)["filled_avg_price"] == "60010"

    @pytest.mark.parametrize(
        ("part", "ends", "events"),
        [(1, ("filled", "0.001"), ["fill"]), ("0.3", ("canceled", "0.0003"), ["partial_fill", "canceled"])],
    )
    def test_a_fill_wins_against_an_accepted_cancel(
        self, scene: Scene, part: Any, ends: tuple[str, str], events: list[str]
    ) -> None:
        order_id = scene.placed(RESTING)
        scene.fault(f"{ORDERS}/", "filled", method="DELETE", part=part, times=1)
        assert scene.http("DELETE", f"{ORDERS}/{order_id}").status_code == 204
        until(lambda: scene.status(order_id) == ends)
        assert scene.events(order_id) == ["pending_new", "new", "pending_cancel", *events]

    def test_a_fill_comes_after_the_cancel(self, scene: Scene) -> None:
        order_id = scene.placed(RESTING)
        scene.fault(f"{ORDERS}/", "filled late", method="DELETE", part="0.5", seconds=0.1, times=1)
        assert scene.http("DELETE", f"{ORDERS}/{order_id}").status_code == 204
        until(lambda: scene.status(order_id) == ("canceled", "0"))
        until(lambda: scene.status(order_id) == ("canceled", "0.0005"))
        assert scene.events(order_id)[-2:] == ["canceled", "partial_fill"]
        assert scene.http("GET", ORDERS).json() == []

    def test_a_cancel_is_stuck_for_each_order_that_is_meant(self, scene: Scene) -> None:
        stuck, free = scene.placed(RESTING), scene.placed(RESTING)
        key = scene.order(stuck)["client_order_id"]
        scene.fault(ORDERS, "stuck", method="DELETE", client_order_id=key)
        assert scene.http("DELETE", ORDERS).status_code == 207
        until(lambda: scene.status(free)[0] == "canceled")
        assert scene.status(stuck)[0] == "pending_cancel"
        assert scene.http("DELETE", f"{ORDERS}/{stuck}").status_code == 204
        assert scene.status(stuck)[0] == "pending_cancel"
        scene.exchange.control.lift_faults()
        scene.http("DELETE", f"{ORDERS}/{stuck}")
        until(lambda: scene.status(stuck)[0] == "canceled")

    def test_a_cancel_may_only_take_its_time(self, scene: Scene) -> None:
        order_id = scene.placed(RESTING)
        scene.fault(ORDERS, "stuck", method="DELETE", seconds=0.1)
        scene.http("DELETE", f"{ORDERS}/{order_id}")
        assert scene.status(order_id)[0] == "pending_cancel"
        until(lambda: scene.status(order_id)[0] == "canceled")

    def test_several_faults_strike_one_request_each_at_its_place(self, scene: Scene) -> None:
        scene.fault(ORDERS, 504, method="POST", reached=True)
        scene.fault(ORDERS, "rejected", method="POST")
        scene.fault(ORDERS, "unseen", method="POST", seconds=60)
        scene.fault(ORDERS, "deposit", method="POST", amount="-1", times=1)
        assert scene.http("POST", ORDERS, json=RESTING).status_code == 504
        assert scene.requests() == [(200, "deposit+504+rejected")]
        assert [row["amount"] for row in scene.log("deposit")] == ["-1"]


class TestAccount:
    """Each on an exchange of its own: what changed, stays."""

    @pytest.fixture
    def scene(self) -> Iterator[Scene]:
        with served() as (exchange, http):
            found = Scene(exchange, http)
            found.reset()
            yield found

    def test_money_comes_and_goes_by_itself(self, scene: Scene) -> None:
        scene.fault("/v2/positions", "deposit", amount="-9990", times=1)
        assert scene.http("GET", "/v2/account").json()["cash"] == "10000"
        scene.http("GET", "/v2/positions")
        assert scene.http("GET", "/v2/account").json()["cash"] == "10"
        refused = scene.http("POST", ORDERS, json=RESTING).json()
        assert "insufficient balance for USD" in refused["message"]
        assert [row["amount"] for row in scene.log("deposit")] == ["-9990"]

    @pytest.mark.parametrize(
        ("fees", "bought", "sold"),
        [
            ({"taker": "0.01"}, "0.00001", "0.54"),
            ({"coin_step": "0.000001", "usd_step": "1"}, "0.000003", "1"),
            ({"coin_step": "0.000001", "usd_step": "1", "rounding": "down"}, "0.000002", "0"),
            ({"coin_step": "0.0000001", "usd_step": "0.1", "rounding": "nearest"}, "0.0000025", "0.1"),
        ],
        ids=str,
    )
    def test_fees_are_others_than_expected(
        self, scene: Scene, fees: dict[str, Any], bought: str, sold: str
    ) -> None:
        assert scene.http("POST", "/control/fees", json=fees).status_code == 200
        for side in ("buy", "sell"):
            scene.placed(MARKET | {"side": side, "qty": "0.001" if side == "buy" else "0.0009"})
            until(lambda: scene.exchange.control.status()["open_orders"] == 0)
        rows = [row["execution"]["fee"] for row in scene.log("order") if row["execution"]]
        assert rows == [bought, sold]

    @pytest.mark.parametrize(
        ("flags", "why"),
        [
            ({"account_blocked": True}, "account_blocked"),
            ({"trading_blocked": True}, "trading_blocked"),
            ({"trade_suspended_by_user": True}, "trade_suspended_by_user"),
            ({"crypto_status": "INACTIVE"}, "crypto_status"),
        ],
        ids=str,
    )
    def test_an_account_that_may_not_trade_says_so_and_takes_no_order(
        self, scene: Scene, flags: dict[str, Any], why: str
    ) -> None:
        resting = scene.placed(RESTING)
        assert scene.http("POST", "/control/account", json=flags).status_code == 200
        assert scene.http("GET", "/v2/account").json().items() >= flags.items()
        refused = scene.http("POST", ORDERS, json=RESTING)
        assert (refused.status_code, refused.json()["message"]) == (
            403,
            f"account is not allowed to trade: {why}",
        )
        replaced = scene.http("PATCH", f"{ORDERS}/{resting}", json={"limit_price": "49000"})
        assert (replaced.status_code, replaced.json()) == (403, refused.json())
        assert scene.http("DELETE", f"{ORDERS}/{resting}").status_code == 204
        scene.http(
            "POST",
            "/control/account",
            json={name: value is not True and "ACTIVE" for name, value in flags.items()},
        )
        assert scene.http("POST", ORDERS, json=RESTING).status_code == 200
        assert scene.http("POST", "/control/account", json={}).status_code == 422
        rows = [{name: value for name, value in row.items() if name in flags} for row in scene.log("change")]
        assert rows[0] == flags and len(rows) == 2

    def test_an_instrument_changes_under_way(self, scene: Scene) -> None:
        scene.fault(ORDERS, "instrument", after=1, times=1, asset="BTC/USD", min_trade_increment="0.01")
        assert scene.http("POST", ORDERS, json=RESTING).status_code == 200
        refused = scene.http("POST", ORDERS, json=RESTING)
        assert (refused.status_code, refused.json()["message"]) == (422, "qty must be a multiple of 0.01")
        assert scene.http("GET", "/v2/assets/BTCUSD").json()["min_trade_increment"] == "0.01"
        lever = {"symbol": "BTC/USD", "price_increment": "100", "min_order_size": "0.01"}
        assert scene.http("POST", "/control/instrument", json=lever).status_code == 200
        assert scene.http("GET", "/v2/assets/BTCUSD").json()["price_increment"] == "100"
        assert [row["symbol"] for row in scene.log("change")] == ["BTC/USD"] * 2


LOOKS = (
    "/v2/account",
    f"{ORDERS}?status=all&limit=500",
    "/v2/positions",
    "/v2/account/activities",
    "/v2/assets/BTCUSD",
)


def test_whatever_happened_a_restart_keeps_it(tmp_path: Path) -> None:
    clock, setup = HandClock(), config(state_file=tmp_path / "state.jsonl")

    def seen(http: Http) -> list[Any]:
        return [http("GET", look).json() for look in LOOKS]

    with served(setup, clock) as (exchange, http):
        scene = Scene(exchange, http)
        scene.reset()
        exchange.control.change("fees", taker="0.01", usd_step="1")
        placing = ("rejected", "canceled", "partly")
        exchange.control.fault(method="POST", path=ORDERS, script=[*placing, "ok", "ok", "ok", "ok"])
        ids = [scene.placed(body) for body in (*[RESTING] * 3, *[MARKET] * 2, *[RESTING] * 2)]
        exchange.control.fault(
            method="DELETE", path=ORDERS, script=[{"effect": "filled late", "part": "0.5"}]
        )
        scene.http("DELETE", f"{ORDERS}/{ids[-1]}")
        exchange.control.deposit("USD", "-17")
        until(lambda: exchange.control.status()["open_orders"] == 1)
        before = seen(http)
    with served(setup, clock) as (exchange, http):
        assert seen(http) == before
        assert {order["status"] for order in before[1]} == {"rejected", "canceled", "filled", "new"}
        assert (exchange.control.faults(), exchange.control.status()["run"]) == ([], 2)
