"""The state file: what survives a restart, a kill, and a torn line."""

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal as D
from pathlib import Path
from typing import Any

import pytest
import requests
from exchange_support import KEYS, T0, Bench, HandClock, config, refused, served, switched, until

from dca.domain.errors import ConfigError
from dca.paper.orders import from_row, to_row
from dca.paper.prices import Replay

LIMIT = {"qty": "0.001", "limit_price": "50000"}
MARKET = {"type": "market", "qty": "0.01"}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "paper.jsonl"


def bench(state: Path, clock: HandClock | None = None, **switches: Any) -> Bench:
    return Bench(config(state_file=state, switches=switched(**switches)), clock)


def ended(made: Bench) -> None:
    made.exchange.log.close()


def lived(state: Path) -> Bench:
    """An account with a position, an open order and a canceled one."""
    made = bench(state)
    made.quote("60000", "60010")
    made.place(**MARKET, client_order_id="bought")
    made.place(**LIMIT, client_order_id="open")
    made.cancel(made.place(**LIMIT, client_order_id="canceled")["id"])
    made.control.deposit("ETH", D(2))
    made.control.fill("open", D("0.0004"))
    ended(made)
    return made


def test_everything_is_there_again_after_a_restart(state: Path) -> None:
    before = lived(state)
    after = bench(state)
    assert after.control.ledger() == before.control.ledger()
    assert after.exchange.orders == before.exchange.orders
    assert after.exchange.executions == before.exchange.executions
    assert after.exchange.open.keys() == before.exchange.open.keys()
    assert after.account() | {"options_trading_level": 3} == before.account()
    assert after.position() == before.position()
    assert after.control.log()[: len(before.control.log())] == before.control.log()
    assert after.control.status()["run"] == 2
    ended(after)


def test_ids_stay_used_and_new_ones_do_not_repeat(state: Path) -> None:
    lived(state)
    earlier = state.read_text()
    after = bench(state)
    assert refused(lambda: after.place(**LIMIT, client_order_id="canceled"))[0] == 422
    for number in range(5):
        order = after.place(**LIMIT, client_order_id=str(number))
        assert order["id"] not in earlier
    ended(after)


def test_an_open_order_goes_on_as_a_maker(state: Path) -> None:
    lived(state)
    after = bench(state)
    assert after.order(after.exchange.ids["open"])["status"] == "partially_filled"
    after.quote("49000", "49010")
    assert after.order(after.exchange.ids["open"])["status"] == "filled"
    assert after.exchange.executions[-1].liquidity == "maker"
    assert after.exchange.executions[-1].price == 50_000
    ended(after)


def test_cash_is_given_only_once(state: Path) -> None:
    ended(bench(state))
    after = bench(state)
    assert after.control.ledger()["cash"] == "10000"
    ended(after)


def test_a_start_that_was_killed_before_the_cash_came_is_made_good(state: Path) -> None:
    ended(bench(state))
    state.write_bytes(state.read_bytes().splitlines(keepends=True)[0])
    after = bench(state)
    assert after.control.ledger()["cash"] == "10000"
    ended(after)


def test_the_rest_of_an_ioc_does_not_outlive_its_moment(state: Path) -> None:
    made = bench(state, partial_rate=1.0)
    made.quote("60000", "60010")
    order = made.place(qty="0.001", limit_price="60010", time_in_force="ioc")
    ended(made)
    lines = state.read_bytes().splitlines(keepends=True)
    assert json.loads(lines[-1])["event"] == "canceled"
    state.write_bytes(b"".join(lines[:-1]))
    after = bench(state)
    assert after.order(order["id"])["status"] == "canceled"
    assert after.exchange.books["BTC/USD"].orders == ()
    ended(after)


def test_what_was_half_done_is_finished(state: Path) -> None:
    made = bench(state)
    body = {"symbol": "BTC/USD", "side": "buy", "type": "limit", "time_in_force": "gtc", **LIMIT}
    accepted = made.venue.orders.placed(body).body
    resting = made.place(**LIMIT)
    made.exchange.request_cancel(resting["id"])
    ended(made)
    after = bench(state)
    assert after.order(accepted["id"])["status"] == "new"
    assert after.order(resting["id"])["status"] == "canceled"
    after.quote("49000", "49010")
    assert after.order(accepted["id"])["status"] == "filled"
    ended(after)


def test_a_stop_that_triggered_stays_triggered(state: Path) -> None:
    made = bench(state)
    made.control.deposit("BTC", D(1))
    made.quote("60000", "60010")
    stop = made.place(type="stop_limit", side="sell", qty="1", stop_price="55000", limit_price="54000")
    made.quote("50000", "50010")
    assert made.order(stop["id"])["status"] == "new"
    ended(made)
    after = bench(state)
    after.quote("56000", "56010")
    assert after.order(stop["id"])["filled_avg_price"] == "54000"
    ended(after)


def test_an_order_is_the_same_after_it_was_written_and_read(state: Path) -> None:
    for order in lived(state).exchange.orders.values():
        assert from_row(json.loads(json.dumps(to_row(order)))) == order


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_a_torn_last_line_never_happened(state: Path, cut: int) -> None:
    lived(state)
    whole = state.read_bytes()
    last = whole.rstrip(b"\n").rpartition(b"\n")[2]
    assert len(last) > cut
    state.write_bytes(whole[:-cut])
    after = bench(state)
    assert after.order(after.exchange.ids["open"])["status"] == "new"
    after.quote("60000", "60010")
    ended(after)
    assert all(json.loads(line) for line in state.read_bytes().splitlines())
    assert [json.loads(line)["seq"] for line in state.read_bytes().splitlines()] == list(
        range(1, len(after.exchange.log.entries) + 1)
    )


def test_a_file_of_nothing_but_a_torn_line_is_a_fresh_start(state: Path) -> None:
    state.write_bytes(b'{"seq":1,"kind":"sta')
    made = bench(state)
    assert made.control.status()["run"] == 1
    ended(made)
    assert json.loads(state.read_bytes().splitlines()[0])["kind"] == "start"


@pytest.mark.parametrize("damage", [b'{"seq":3,"kind":"ord', b"", b"[]", b"{}"])
def test_a_torn_line_in_the_middle_is_an_error(state: Path, damage: bytes) -> None:
    lived(state)
    lines = state.read_bytes().splitlines()
    lines[2] = damage
    content = b"\n".join(lines) + b"\n"
    state.write_bytes(content)
    with pytest.raises(ConfigError, match="line 3"):
        bench(state)
    assert state.read_bytes() == content


@pytest.mark.parametrize(
    "entry",
    [
        {"kind": "order", "at": "2023-03-09T12:00:00Z"},
        {"kind": "order", "at": "2023-03-09T12:00:00Z", "orders": [{}], "execution": None},
        {"kind": "deposit", "at": "2023-03-09T12:00:00Z", "asset": "USD", "amount": "much"},
        {"kind": "start", "at": "soon", "run": 1},
    ],
)
def test_an_entry_that_makes_no_sense_is_an_error(state: Path, entry: dict[str, Any]) -> None:
    lived(state)
    with state.open("a") as file:
        file.write(json.dumps(entry) + "\n")
    with pytest.raises(ConfigError, match="makes no sense"):
        bench(state)


def test_orders_in_a_symbol_that_is_no_longer_traded_are_an_error(state: Path) -> None:
    lived(state)
    with pytest.raises(ConfigError, match="BTC/USD"):
        Bench(config(state_file=state, instruments=()))


def test_a_tape_does_not_trade_again_what_it_traded_before_the_restart(state: Path, tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    rows = "2023-03-09 12:00:00+00:00,20000,20100,19900,20050,1\n"
    rows += "2023-03-09 12:01:00+00:00,20050,20060,19800,19900,1\n"
    path.write_text("open_time,open,high,low,close,volume\n" + rows)
    setup = config(state_file=state, sources=(Replay("BTC/USD", path, spread_bps=D(0)),))
    clock = HandClock(T0 + timedelta(seconds=50))
    with served(setup, clock) as (exchange, http):
        until(lambda: exchange.control.status()["replay"]["played"] == 4)
        body = {"symbol": "BTC/USD", "side": "buy", "type": "limit", "time_in_force": "gtc", "qty": "0.001"}
        # The market was at 19900 before this order came.
        early = http("POST", "/v2/orders", json=body | {"limit_price": "19950"}).json()
    with served(setup, clock) as (exchange, http):
        until(lambda: exchange.control.status()["replay"]["played"] == 4)
        assert http("GET", f"/v2/orders/{early['id']}").json()["status"] == "new"
        assert exchange.control.status()["quotes"]["BTC/USD"]["bid"] == "20050"
        clock.forward(seconds=60)
        until(lambda: http("GET", f"/v2/orders/{early['id']}").json()["status"] == "filled")


SERVER = """
import asyncio, sys
from pathlib import Path
from dca.adapters.clock import SystemClock
from dca.paper.config import PaperConfig
from dca.paper.serve import serve
config = PaperConfig(state_file=Path(sys.argv[1]))
asyncio.run(serve(config, SystemClock(), ready=lambda port: print(port, flush=True)))
"""


@contextmanager
def process(state: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """An exchange in a process of its own, and its address."""
    command = [sys.executable, "-c", SERVER, str(state)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            yield child, f"http://127.0.0.1:{int(child.stdout.readline())}"
        finally:
            child.kill()


def test_what_was_accepted_survives_kill_nine(state: Path) -> None:
    accepted: set[str] = set()
    for life in range(2):
        with process(state) as (child, url), requests.Session() as session:
            session.headers.update(KEYS)
            quote = {"symbol": "BTC/USD", "bid": "60000", "ask": "60010"}
            assert session.post(f"{url}/control/quote", json=quote, timeout=10).status_code == 200
            for number in itertools.count():
                name = f"{life}-{number}"
                body = {"symbol": "BTC/USD", "side": "buy", "time_in_force": "gtc", "client_order_id": name}
                body |= {"type": "limit", "limit_price": "50000", "qty": "0.001"}
                if number == 40:
                    child.kill()
                try:
                    answer = session.post(f"{url}/v2/orders", json=body, timeout=10)
                except requests.ConnectionError:
                    break
                assert answer.status_code == 200
                accepted.add(name)
    assert len(accepted) >= 80
    after = bench(state)
    assert accepted <= after.exchange.ids.keys()
    assert all(order.status == "new" for order in after.exchange.orders.values())
    assert after.control.status()["run"] == 3
    ended(after)


def test_a_process_ends_when_it_is_told_to(state: Path) -> None:
    with process(state) as (child, url):
        assert requests.get(f"{url}/control/status", timeout=10).status_code == 200
        child.terminate()
        assert child.wait(10) is not None
