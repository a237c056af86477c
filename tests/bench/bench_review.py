"""Review and journal of one buy: from the decision to the call of the venue.

The quotes come one by one with a rest between them, as they do in earnest; the processor has
forgotten what it did for the last one. Safety orders, because before a base order the venue is asked
for a position.
"""

import statistics
import tempfile
import time
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal as D
from pathlib import Path
from random import Random

import databases
from build import BTC, T0, rules

from dca.adapters.clock import ManualClock
from dca.adapters.db import migrate
from dca.adapters.db.store import SqlStore
from dca.adapters.venues.sim import SimVenue
from dca.domain.fees import FeeRates
from dca.domain.market import Quote
from dca.domain.order import Intent, VenueOrder
from dca.matching.book import Terms as MatchTerms
from dca.risk.review import Limits
from dca.service import assets, funds
from dca.service.brief import read_brief
from dca.service.recorder import Recorder
from dca.service.trader import Trader
from dca.strategy.dca import Terms

ASSETS = 30
STEPS = 6
REST_S = 0.02
PACE_S = 0.3
"""Between two orders at the fastest: the venue takes 200 requests a minute."""
EVERY = timedelta(seconds=20)
"""So often the streamer reads the balance."""
RULES = rules(
    max_safety_orders=STEPS, safety_order_deviation=D(1), take_profit_percent=D(50), cooldown_period=0
)
LIMITS = Limits(
    max_open_orders=50,
    max_quote_age=timedelta(seconds=60),
    min_notional=D(10),
    max_funds_age=timedelta(seconds=120),
    reserve_pct=D(100),
    max_account=D(1_000_000),
    taker_fee=FeeRates().taker,
)


class _Venue(SimVenue):
    """Knows when it was called."""

    called = 0.0

    def submit(self, intent: Intent) -> VenueOrder:
        self.called = time.perf_counter()
        return super().submit(intent)


def measure(url: str) -> dict[str, float]:
    """Milliseconds, over every safety order of ASSETS cycles on one account."""
    store, clock = SqlStore(url), ManualClock(T0)
    symbols = [f"C{number}/USD" for number in range(ASSETS)]
    instruments = {symbol: replace(BTC, symbol=symbol) for symbol in symbols}
    venue = _Venue(clock, instruments, D(1_000_000), Random(1), MatchTerms(partial_rate=0))
    recorder = Recorder(store, clock, FeeRates())
    terms = Terms(FeeRates().taker, timedelta(seconds=300))
    trader = Trader(store, venue, clock, recorder, LIMITS, terms, instruments)
    trader.assets = {one.id: one for one in (assets.add(store, clock, symbol, RULES) for symbol in symbols)}
    funds.refresh(store, venue, clock)
    took, known = [], clock.now()
    for step in range(STEPS + 1):
        for asset in trader.assets.values():
            if clock.now() >= known + EVERY:
                funds.refresh(store, venue, clock)
                known = clock.now()
            bid = D(20_000) * (100 - 2 * step) / 100
            quote = Quote(asset.asset_symbol, bid, bid + 1, clock.now())
            venue.quote(quote)
            brief = store.read(lambda tx: read_brief(tx, asset.id))  # noqa: B023
            assert brief is not None
            time.sleep(REST_S)
            clock.move(PACE_S)
            begun = time.perf_counter()
            trader.act(brief, quote, before=quote)
            if step > 0:
                took.append((venue.called - begun) * 1000)
            for update in venue.updates:
                executions = () if update.execution is None else (update.execution,)
                recorder.record(update.order, executions, source=update.event)
            venue.updates.clear()
    store.close()
    assert len(venue.submitted) == ASSETS * (STEPS + 1)
    return {"p50_ms": statistics.median(took), "p99_ms": statistics.quantiles(took, n=100)[98]}


def measure_all() -> dict[str, dict[str, float]]:
    """On SQLite, and on MariaDB where its server is installed."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder)}/bench.sqlite3"
        migrate.upgrade(url)
        found = {"sqlite": measure(url)}
    if databases.mariadbd() is not None:
        with databases.throwaway_mariadb() as url:
            migrate.upgrade(url)
            found["mariadb"] = measure(url)
    return found


if __name__ == "__main__":
    import json

    print(json.dumps(measure_all(), indent=2))
