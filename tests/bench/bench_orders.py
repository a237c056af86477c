"""Quote on the socket to order received by the exchange, beside a bare POST of the same body.

Both ends are stamped by one clock of the machine: a quote when the exchange publishes it, a request
when it arrives there. The streamer and the exchange are processes of their own.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal as D
from pathlib import Path
from typing import Any

import databases
import requests
from build import rules
from market import PATIENCE_S, Market, offline

from dca.adapters.db import migrate
from dca.apps.offline import KEY, SECRET, Offline
from dca.domain.cycle import Cycle
from dca.service.brief import read_brief

CYCLES = 30
WARM_UP = 2
STEPS = 6
RULES = rules(
    base_order_amount=D(20),
    safety_order_amount=D(20),
    max_safety_orders=STEPS,
    safety_order_deviation=D("0.1"),
    take_profit_percent=D(2),
    cooldown_period=0,
)
START = D(60_000)


def measure(url: str | None = None) -> dict[str, float]:
    """Milliseconds: p50 and p99 of a triggered order and of the bare POST, taken in turn; and how much
    of the first is review and journal.

    Base orders are left out: before each the venue is asked for a position, as it must be.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        offline(Path(folder), database_url=url, cash=D(100_000), extra={"RECONCILE_EVERY_S": "20"}) as run,
    ):
        run.add_asset("BTC/USD", RULES)
        market = Market(run)
        market.price(str(START))
        run.start_streamer()
        sender = _Sender(run)
        for number in range(CYCLES + WARM_UP):
            _cycle(run, market, sender, number)
        ours, bare = _latencies(run, sender.sent)
        journaled = _journaled(Path(folder))
    skipped = WARM_UP * (STEPS + 1)
    ours, bare = ours[skipped:], bare[skipped:]
    p50, p99, bare_p50, bare_p99 = _p(ours, 50), _p(ours, 99), _p(bare, 50), _p(bare, 99)
    return {
        "p50_ms": p50,
        "p99_ms": p99,
        "bare_p50_ms": bare_p50,
        "bare_p99_ms": bare_p99,
        "over_p50_ms": p50 - bare_p50,
        "over_p99_ms": p99 - bare_p99,
        "journal_p50_ms": _p(journaled, 50),
        "samples": len(ours),
    }


def _cycle(run: Offline, market: Market, sender: "_Sender", number: int) -> None:
    """One whole cycle, one quote at a time, with a bare POST after each order."""
    _quoted(run, market, START, lambda cycle: cycle.quantity > 0)
    for step in range(1, STEPS + 1):
        price = START - 100 * step
        _quoted(run, market, price, lambda cycle: cycle.safety_orders >= step)  # noqa: B023
        sender.post(f"{number}-{step}")
    finished = len(market.cycles())
    _quoted(run, market, START + 2000, lambda cycle: len(market.cycles()) > finished)
    sender.post(f"{number}-end")


def _p(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


def _quoted(run: Offline, market: Market, price: D, done: Callable[[Cycle], bool]) -> None:
    """The quote did what it should, that is booked, and the streamer is at rest again."""
    market.price(str(price))
    limit = time.monotonic() + 0.5

    def booked() -> bool:
        brief = run.store.read(lambda tx: read_brief(tx, 1))
        assert brief is not None and brief.cycle is not None
        at_rest = brief.cycle.status in ("watching", "cooldown") and brief.unmeasured_since() is None
        return at_rest and done(brief.cycle)

    end = time.monotonic() + PATIENCE_S
    # Looking at once would take the processor from what is being measured.
    time.sleep(0.02)
    while not booked():
        assert time.monotonic() < end, f"nothing came of {price}"
        if time.monotonic() > limit:
            # The exchange fills some orders in part: the rest wants another quote.
            market.price(str(price))
            limit += 0.5
        time.sleep(0.02)
    time.sleep(0.02)


class _Sender:
    """A program that does nothing but POST, over one connection that is kept alive."""

    def __init__(self, run: Offline) -> None:
        self._session = requests.Session()
        self._session.headers.update({"APCA-API-KEY-ID": KEY, "APCA-API-SECRET-KEY": SECRET})
        self._url = f"http://127.0.0.1:{run.port}/v2/orders"
        self.sent: dict[str, float] = {}

    def post(self, name: str) -> None:
        body: dict[str, Any] = {
            "symbol": "BTC/USD",
            "qty": "0.0003",
            "side": "buy",
            "type": "limit",
            "time_in_force": "gtc",
            "client_order_id": f"bare-{name}",
            "limit_price": "40000",
        }
        self.sent[body["client_order_id"]] = time.time()
        order = self._session.post(self._url, json=body, timeout=10).json()
        # It would forbid the streamer's market sells: a wash trade.
        self._session.delete(f"{self._url}/{order['id']}", timeout=10).raise_for_status()
        # The exchange tells the streamer of it, too.
        time.sleep(0.02)


def _latencies(run: Offline, sent: dict[str, float]) -> tuple[list[float], list[float]]:
    ours, bare = [], []
    published: float | None = None
    for row in run.control("log"):
        at = datetime.fromisoformat(row["at"]).timestamp()
        if row["kind"] == "quote":
            published = at
        elif row["kind"] == "request" and row["method"] == "POST" and row["path"] == "/v2/orders":
            key = row["body"]["client_order_id"]
            if key in sent:
                bare.append((at - sent[key]) * 1000)
            elif published is not None and "-base-" not in key:
                ours.append((at - published) * 1000)
    return ours, bare


def _journaled(folder: Path) -> list[float]:
    """What review and journal took of each triggered order, by the streamer's own log."""
    lines = (json.loads(line) for file in folder.glob("*.log") for line in file.read_text().splitlines())
    sent = [one for one in lines if one.get("event") == "order_sent" and "-base-" not in one["key"]]
    return [one["journaled_in_ms"] for one in sent[WARM_UP * (STEPS + 1) :]]


def measure_all() -> dict[str, dict[str, float]]:
    """On SQLite, and on MariaDB where its server is installed."""
    found = {"sqlite": measure()}
    if databases.mariadbd() is not None:
        with databases.throwaway_mariadb() as url:
            migrate.upgrade(url)
            found["mariadb"] = measure(url)
    return found


if __name__ == "__main__":
    print(json.dumps(measure_all(), indent=2))
