"""The database is deleted while a cycle is open, and everything comes back from the exchange."""

from pathlib import Path

import pytest
from market import RULES, Market, offline, until

from dca import wiring
from dca.adapters.db.migrate import upgrade
from dca.apps.offline import Offline
from dca.apps.reckoning import reckon, settle
from dca.domain.mode import Mode
from dca.service import operating

SAME = ("id", "status", "quantity", "average_purchase_price", "safety_orders", "last_order_fill_price")


@pytest.fixture
def run(tmp_path: Path):  # type: ignore[no-untyped-def]
    with offline(tmp_path) as started:
        started.add_asset("BTC/USD", RULES)
        yield started


def new_database(run: Offline) -> None:
    run.store.close()
    for path in run.folder.glob("dca.sqlite3*"):
        path.unlink()
    upgrade(run.settings.database_url)
    run.store = wiring.store(run.settings)
    run.add_asset("BTC/USD", RULES)
    run.store.close()


def test_trading_goes_on_after_the_database_was_deleted(run: Offline) -> None:
    market = Market(run)
    market.price("20000")
    run.start_streamer()
    market.bought()
    market.fell()
    until("the fees are measured", lambda: len(run.store.read(lambda tx: tx.fills())) == 4)
    assert run.stop_streamer() == 0
    before, orders, install = market.first(), market.orders(), run.store.install
    new_database(run)

    shown = run.dca("rebuild", "--from", "venue", "--dry-run")
    assert shown.returncode == 1 and "cycle 1 BTC/USD: row: missing here" in shown.stdout, shown.stderr
    done = run.dca("rebuild", "--from", "venue", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no differences" in done.stdout and "dca resume" in done.stdout

    run.store = wiring.store(run.settings)
    assert run.store.install == install
    assert {name: getattr(market.first(), name) for name in SAME} == {
        name: getattr(before, name) for name in SAME
    }
    assert [one.mode for one in run.store.read(lambda tx: tx.modes())] == [Mode.REDUCE_ONLY]
    assert market.orders() == orders, "no order was placed or canceled"
    operating.resume(run.store, run.clock, None)
    run.start_streamer()
    market.rose()
    settle(run)
    report = reckon(run)
    # When an order was journaled first no venue can tell.
    assert [one for one in report["violations"] if "was journaled late" not in one] == []
    assert str(report["unexplained"]) == "0.00"
