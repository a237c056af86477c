"""The event streams over plain HTTP: replayed from the log, then live."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal as D
from pathlib import Path
from typing import Any

import pytest
import requests
from exchange_support import KEYS, T0, Bench, HandClock, Http, config, served, switched, until

from dca.paper import events
from dca.paper.events import ulid
from dca.paper.serve import Running
from dca.paper.trade_stream import update_wire

TRADES, ACTIVITIES = "/v2/events/trades", "/v2beta1/events/activities"
SINCE = {"since": "2023-03-09T12:00:00Z"}
ORDER = {"symbol": "BTC/USD", "qty": "0.01", "side": "buy", "type": "market", "time_in_force": "gtc"}


class Stream:
    """What comes over one connection, frame by frame."""

    def __init__(self, answer: requests.Response) -> None:
        self.answer = answer
        self._lines = answer.iter_lines(chunk_size=None)

    def frame(self) -> list[str] | None:
        """The lines of the next frame; None at the end."""
        lines: list[str] = []
        for line in self._lines:
            if not line:
                return lines
            lines.append(line.decode())
        return None

    def events(self, count: int | None = None) -> list[dict[str, Any]]:
        """The next `count` events, or all of them to the end. The id of each is the one in its data."""
        found: list[dict[str, Any]] = []
        while len(found) != count and (frame := self.frame()) is not None:
            fields = dict(line.split(": ", 1) for line in frame if not line.startswith(":"))
            if "data" in fields:
                found.append(json.loads(fields["data"]))
                assert found[-1]["event_id"] == fields["id"]
        return found


@contextmanager
def opened(http: Http, path: str, last: str = "", **query: str) -> Iterator[Stream]:
    """A stream whose first frame has come."""
    headers = {"Last-Event-ID": last} if last else {}
    with http("GET", path, params=query, headers=headers, stream=True) as answer:
        assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (
            200,
            "text/event-stream",
        )
        stream = Stream(answer)
        assert stream.frame() == ["retry: 1000"]
        yield stream


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def venue(clock: HandClock) -> Iterator[tuple[Running, Http]]:
    """The fees are listed at once, and three events of a filled order have happened."""
    with served(config(switches=switched(fees_listed_at_once=True)), clock) as (exchange, http):
        exchange.control.quote("BTC/USD", "60000", "60010")
        http("POST", "/v2/orders", json=ORDER | {"client_order_id": "first"})
        until(lambda: exchange.venue.exchange.executions)
        yield exchange, http


def told(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["event"], event["order"]["client_order_id"]) for event in found]


def test_orders_are_replayed_and_then_told_live_as_on_the_socket(venue: tuple[Running, Http]) -> None:
    exchange, http = venue
    socket: list[dict[str, Any]] = []
    with opened(http, TRADES, **SINCE) as stream:
        past = stream.events(3)
        exchange.venue.trades.publish = lambda update: socket.append(update_wire(update))  # type: ignore[method-assign]
        http("POST", "/v2/orders", json=ORDER | {"client_order_id": "second"})
        live = stream.events(3)
    assert told(past) == [(event, "first") for event in ("pending_new", "new", "fill")]
    assert told(live) == [(event, "second") for event in ("pending_new", "new", "fill")]
    fill = {name: value for name, value in live[2].items() if name not in ("at", "event_id")}
    assert fill == json.loads(json.dumps(socket[2]))
    assert (fill["price"], fill["qty"], live[2]["at"]) == ("60010", "0.01", "2023-03-09T12:00:00.000000Z")
    ids = [event["event_id"] for event in past + live]
    assert ids == sorted(set(ids)) and all(len(name) == 26 for name in ids)


def test_without_a_beginning_only_what_happens_from_now_on_is_told(venue: tuple[Running, Http]) -> None:
    _, http = venue
    with opened(http, TRADES) as stream:
        http("POST", "/v2/orders", json=ORDER | {"client_order_id": "second"})
        assert told(stream.events(1)) == [("pending_new", "second")]


def test_a_stream_with_an_end_ends(venue: tuple[Running, Http], clock: HandClock) -> None:
    exchange, http = venue
    clock.forward(minutes=1)
    http("POST", "/v2/orders", json=ORDER | {"client_order_id": "second"})
    until(lambda: len(exchange.venue.exchange.executions) == 2)
    clock.forward(minutes=1)
    with opened(http, TRADES, **SINCE, until="2023-03-09T12:00:30+00:00") as stream:
        past = stream.events()
    assert told(past) == [("pending_new", "first"), ("new", "first"), ("fill", "first")]
    first, last = past[1]["event_id"], past[2]["event_id"]
    with opened(http, TRADES, since_id=first.lower(), until_id=last) as stream:
        assert stream.events() == past[1:]
    with opened(http, TRADES, last=first, until="2023-03-09T12:01:30Z", **SINCE) as stream:
        assert told(stream.events()) == [("fill", "first"), *((name, "second") for name, _ in told(past))]


def test_who_lost_the_connection_misses_nothing(venue: tuple[Running, Http]) -> None:
    exchange, http = venue
    with opened(http, TRADES) as stream:
        http("POST", "/v2/orders", json=ORDER | {"client_order_id": "second"})
        last = stream.events(2)[-1]["event_id"]
        exchange.control.drop()
        stream.events()
    http("POST", "/v2/orders", json=ORDER | {"client_order_id": "third"})
    with opened(http, TRADES, last=last) as stream:
        assert told(stream.events(2)) == [("fill", "second"), ("pending_new", "third")]


def test_who_leaves_is_forgotten(venue: tuple[Running, Http]) -> None:
    exchange, http = venue
    with opened(http, TRADES):
        assert exchange.venue.events.listeners == 1
    until(lambda: exchange.venue.events.listeners == 0)


def test_silence_is_filled_with_heartbeats(
    venue: tuple[Running, Http], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.02)
    with opened(venue[1], TRADES) as stream:
        assert stream.frame() == [":heartbeat"]


@pytest.mark.parametrize("path", [TRADES, ACTIVITIES])
@pytest.mark.parametrize(
    "query",
    [
        {"until": "2023-03-09"},
        {"until_id": ulid(T0, 0)},
        {**SINCE, "since_id": ulid(T0, 0)},
        {"since": "soon"},
        {"since_id": "17"},
        {"since_id": "U" * 26},
    ],
)
def test_a_question_without_sense_is_refused(
    venue: tuple[Running, Http], path: str, query: dict[str, str]
) -> None:
    answer = venue[1]("GET", path, params=query)
    assert (answer.status_code, answer.json()["code"]) == (400, 40010000)


def test_the_streams_need_keys(venue: tuple[Running, Http]) -> None:
    stranger = Http(venue[0], {**KEYS, "APCA-API-SECRET-KEY": "x"})
    assert [stranger("GET", path).status_code for path in (TRADES, ACTIVITIES)] == [401, 401]
    stranger.close()


def test_activities_are_executions_and_fees(venue: tuple[Running, Http]) -> None:
    exchange, http = venue
    with opened(http, ACTIVITIES, **SINCE) as stream:
        bought, fee = stream.events(2)
        http("POST", "/v2/orders", json=ORDER | {"side": "sell", "qty": "0.005"})
        sold, paid = stream.events(2)
    with opened(http, ACTIVITIES, last=fee["event_id"]) as stream:
        assert stream.events(2) == [sold, paid]
    first = exchange.venue.exchange.executions[0]
    ids = [event["event_id"] for event in (bought, fee, sold, paid)]
    assert ids == sorted(set(ids))
    assert [event["activity_type"] for event in (bought, fee, sold, paid)] == ["TRD", "FEE", "TRD", "FEE"]
    assert (bought["ref_id"], bought["net_amount"], bought["qty"]) == (first.id, "-600.1", "0.01")
    assert (sold["net_amount"], bought["settle_date"]) == ("300", "2023-03-09")
    details = bought["details"]
    assert (details["client_order_id"], details["execution_type"]) == ("first", "fill")
    assert (details["cum_qty"], details["leaves_qty"], details["side"]) == ("0.01", "0", "buy")
    assert (fee["qty"], fee["net_amount"], fee["ref_id"]) == ("-0.000025", "0", first.fee_id)
    assert (paid["qty"], paid["net_amount"]) == ("0", "-0.75")


def test_fees_come_when_their_day_is_over(clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.02)
    with served(clock=clock) as (exchange, http):
        exchange.control.quote("BTC/USD", "60000", "60010")
        http("POST", "/v2/orders", json=ORDER)
        with opened(http, ACTIVITIES, **SINCE) as stream:
            assert stream.events(1)[0]["activity_type"] == "TRD"
            assert stream.frame() == [":heartbeat"]
            clock.forward(days=1)
            (fee,) = stream.events(1)
    assert (fee["activity_type"], fee["at"]) == ("FEE", "2023-03-10T00:00:00.000000Z")


def test_transfers_are_activities(venue: tuple[Running, Http]) -> None:
    with opened(venue[1], ACTIVITIES) as stream:
        for asset, amount in (("USD", "500"), ("USD", "-5.25"), ("BTC/USD", "0.5")):
            venue[1]("POST", "/control/deposit", json={"asset": asset, "amount": amount})
        paid_in, paid_out, coins = stream.events(3)
    assert [event["activity_type"] for event in (paid_in, paid_out, coins)] == ["CSD", "CSW", "JNLS"]
    assert (paid_in["net_amount"], paid_out["net_amount"]) == ("500", "-5.25")
    assert (coins["qty"], coins["details"]["symbol"]) == ("0.5", "BTCUSD")
    listed = venue[1]("GET", "/v2/account/activities?activity_types=CSD,CSW,JNLS&direction=asc").json()
    assert [row["id"].partition("::")[2] for row in listed] == [
        event["ref_id"] for event in (paid_in, paid_out, coins)
    ]


def test_a_restart_changes_no_event(tmp_path: Path) -> None:
    setup = config(state_file=tmp_path / "state.jsonl", switches=switched(fees_listed_at_once=True))
    before = Bench(setup)
    before.quote("60000", "60010")
    before.control.deposit("USD", D(5))
    before.place(type="market", qty="0.1")
    past = everything(before)
    before.exchange.log.close()
    after = Bench(setup)
    assert everything(after) == past
    assert [event["activity_type"] for event in past[3:]] == ["CSD", "TRD", "FEE"]
    after.exchange.log.close()


def everything(bench: Bench) -> list[dict[str, Any]]:
    exchange = bench.exchange
    return [
        event.wire()
        for feed in (events.Updates(exchange.log), events.History(exchange, bench.venue.activities))
        for event in feed()
    ]
