"""Other people's clients, as they are installed, against a paper exchange that is a process of its own.

`make clients` installs and runs them. Each client's script prints what its steps saw; that is judged
here, and so is what the exchange itself says of it afterwards.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from clients.install import CLIENTS, FOLDER, HERE, is_installed, is_python

pytestmark = pytest.mark.clients
ROOT = HERE.parents[1]
CANDLES = ROOT / "src/dca/data/btcusd-1m-2023-03.csv.gz"
PATIENCE_S = 120
SYMBOLS = {"BTC/USD", "ETH/USD", "SOL/USD", "LTC/USD", "DOGE/USD"}

Seen = dict[str, Any]


@contextmanager
def exchange(folder: Path) -> Iterator[str]:
    """The address of an exchange that replays recorded days, from their third hour on, 30 times as fast."""
    command = [sys.executable, "-m", "dca.apps.cli", "paper", "serve", "--port", "0", "--cash", "10000"]
    command += ["--replay", str(CANDLES), "--start", "2023-03-08", "--end", "2023-03-14"]
    clock = {
        "CLOCK_SPEED": "30",
        "CLOCK_WALL_ORIGIN": datetime.now(UTC).isoformat(),
        "CLOCK_ORIGIN": "2023-03-09T03:00:00+00:00",
    }
    environment = {**os.environ, **clock, "PYTHONPATH": str(ROOT / "src"), "DCA_ENV_FILE": os.devnull}
    with (folder / "exchange.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (folder / "exchange.log").read_text()
        yield json.loads(line)["url"]
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_S)


def steps(name: str, url: str) -> Seen:
    """What the client saw in each step."""
    program = FOLDER / name / "bin/python" if is_python(name) else "node"
    pointed = {"APCA_API_BASE_URL": url, "APCA_API_DATA_URL": url}
    done = subprocess.run(
        [program, HERE / CLIENTS[name]["script"], url],
        cwd=FOLDER / name,
        env={"PATH": os.environ["PATH"], **pointed},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    print(done.stderr)
    assert done.returncode == 0, done.stdout
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["step"]: line["value"] for line in lines}


def near(value: Any) -> bool:
    """A price of that morning."""
    return 21_000 < float(value) < 22_500


def between(low: float, value: Any, high: float) -> bool:
    return low < float(value) < high


def seen_whole(updates: list[list[str]]) -> bool:
    """An order was heard of from its beginning to its fill.

    ccxt has one word for both beginnings, and shows what came in one burst as the last of it.
    """
    told: dict[str, list[str]] = {}
    for event, order in updates:
        told.setdefault(order, []).append(event)
    whole = {"pending_new new fill", "open open closed", "open closed"}
    return any(
        " ".join(event for event in each if event != "partial_fill") in whole for each in told.values()
    )


JUDGES: dict[str, Callable[[Any], object]] = {
    "account": lambda seen: float(seen["cash"]) == 10_000,
    "clock": lambda seen: seen is False or between(1.678e12, seen, 1.679e12),
    "assets": lambda seen: set(seen) == SYMBOLS,
    "asset": lambda seen: seen == "BTC/USD",
    "bars": lambda seen: seen[0] >= 100 and seen[1] == 21712.51,
    "quote": lambda seen: near(seen[0]) and near(seen[1]) and seen[0] < seen[1],
    "bar": near,
    "orderbook": lambda seen: near(seen[0]) and near(seen[1]) and seen[0] < seen[1],
    "market": lambda seen: float(seen[0]) == 0.01 and near(seen[1]),
    "notional": lambda seen: float(seen) == 50.25,
    "limit": lambda seen: (float(seen[0]), float(seen[1])) == (0.001, 15_000),
    "stop_limit": lambda seen: float(seen) == 40_000,
    "by_client_id": lambda seen: seen is True,
    "open": lambda seen: set(seen) == {"limit", "stop"},
    "all": lambda seen: seen >= 4,
    "taken": lambda seen: "client_order_id must be unique" in seen,
    "replace": lambda seen: seen[0] is True and float(seen[1]) == 15_500,
    "cancel": lambda seen: float(seen) == 0,
    "cancel_all": lambda seen: seen is True,
    "updates": seen_whole,
    "positions": lambda seen: seen[0] == "BTCUSD" and between(0.0122, seen[1], 0.02),
    "position": lambda seen: between(0.0122, seen, 0.0123),
    "too_much": lambda seen: "insufficient balance for BTC (requested: 0.02, available: 0.01" in seen,
    "close": lambda seen: between(0.0049, seen, 0.02),
    "close_all": lambda seen: seen is True,
    "fills": lambda seen: len(seen) >= 3 and any(float(qty) <= 0.01 for qty in seen),
    "history": lambda seen: seen[0] == 10_000,
    "trade": near,
    "snapshot": near,
    "stream": lambda seen: all(map(near, seen["quotes"] + seen["bars"])) and len(seen["quotes"]) > 3,
    "wrong_keys": lambda seen: "unauthorized" in seen,
    "wrong_stream_keys": lambda seen: "auth failed" in seen,
    "end": lambda seen: seen is None,
}
SOME = {
    "hours": lambda seen: seen == 4,
    "events": seen_whole,
    "submit_and_wait": lambda seen: seen == ["filled", "0.001"],
    "wrong_trading_keys": lambda seen: seen == "auth failed",
}
"""Steps that only some clients know."""


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_works_unmodified(name: str, tmp_path: Path) -> None:
    if not is_installed(name):
        pytest.skip("`make clients` installs it")
    with exchange(tmp_path) as url:
        seen = steps(name, url)
        log = requests.get(f"{url}/control/log", timeout=10).json()
    assert set(JUDGES) - set(seen) == set(CLIENTS[name].get("lacks", ()))
    for step, value in seen.items():
        assert (JUDGES | SOME)[step](value), f"{step}: {value}"
    judge(log)


def judge(log: list[Seen]) -> None:
    """What the exchange itself says: nothing failed, and the four orders of the script were taken."""
    asked = [row for row in log if row["kind"] == "request"]
    assert {row["status"] for row in asked} <= {200, 204, 207, 401, 403, 404, 422}
    taken = [row["body"] for row in asked if row["method"] == "POST" and row["accepted"]]
    names = {"market", "worth", "limit", "stop"}
    assert names <= {body["client_order_id"] for body in taken if "client_order_id" in body}
