"""Trade update to committed transaction, beside a bare transaction of two statements.

The bare one inserts a fill and updates a cycle: the least that any program must write that wants to
know tomorrow what it bought today. It is timed twice: through the store, which is the floor of what
recording adds (`ratio`), and on the driver itself, which shows what SQL in Python costs at all.
"""

import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from pathlib import Path
from typing import Any

import databases
from build import order, rules, seen
from sqlalchemy.engine import make_url

from dca.adapters.clock import SystemClock
from dca.adapters.db import migrate
from dca.adapters.db.store import SqlStore
from dca.domain.cycle import CycleStatus
from dca.domain.fees import FeeRates
from dca.domain.order import Execution, Intent, Purpose, Side, VenueOrder, order_key
from dca.domain.position import Fill
from dca.ports import Tx
from dca.service.recorder import Recorder

SAMPLES = 200
BEFORE = 3


def measure(url: str) -> dict[str, float]:
    """Medians in milliseconds, taken in turn: recording a fill, and the bare transaction."""
    store = SqlStore(url)
    recorder = Recorder(store, SystemClock(), FeeRates())
    lives = [_ladder(store, number) for number in range(SAMPLES)]
    for wishes in lives:
        for wish in wishes[:-1]:
            _journal(store, wish)
            recorder.record(*_filled(wish), source="bench")
        _journal(store, wishes[-1])
    driver = _bare(url)
    ours, floor, driver_floor = [], [], []
    for wishes in lives:
        message, first = _filled(wishes[-1]), wishes[0]
        ours.append(_timed(lambda: recorder.record(*message, source="bench")))  # noqa: B023
        work = _two_statements(store, first)
        floor.append(_timed(lambda: store.write(work)))  # noqa: B023
        driver_floor.append(_timed(lambda: driver(first)))  # noqa: B023
    store.close()
    recorded, bare_ms = statistics.median(ours), statistics.median(floor)
    on_driver = statistics.median(driver_floor)
    return {
        "update_ms": recorded,
        "bare_ms": bare_ms,
        "ratio": recorded / bare_ms,
        "driver_bare_ms": on_driver,
        "driver_ratio": recorded / on_driver,
    }


def _two_statements(store: SqlStore, wish: Intent) -> Callable[[Tx], None]:
    now = datetime.now(UTC)
    cycle = store.read(lambda tx: tx.cycle(wish.cycle_id))
    assert cycle is not None
    one = Fill(
        id=f"store-{wish.key}", order_key=wish.key, cycle_id=cycle.id, side=Side.BUY, qty=D("0.001"),
        price=D(20_000), fee=D("0.0000025"), cum_qty=D("0.003"), at=now,
    )  # fmt: skip

    def work(tx: Tx) -> None:
        tx.insert_fill(one)
        tx.update_cycle(cycle)

    return work


def _timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def _ladder(store: SqlStore, number: int) -> list[Intent]:
    """A cycle of its own, with orders of which the last is about to fill."""
    now = datetime.now(UTC)
    symbol = f"B{number}/USD"
    asset = store.write(lambda tx: tx.insert_asset(symbol, rules(), is_enabled=True, at=now))
    assert asset is not None
    cycle = store.write(lambda tx: tx.insert_cycle(asset.id, CycleStatus.WATCHING, at=now))
    assert cycle is not None
    return [_wish(store.install, symbol, cycle.id, step) for step in range(BEFORE + 1)]


def _wish(install: str, symbol: str, cycle_id: int, step: int) -> Intent:
    purpose = Purpose.SAFETY if step else Purpose.BASE
    return Intent(
        key=order_key(install, cycle_id, purpose, step, 1), symbol=symbol, side=Side.BUY, purpose=purpose,
        step=step, qty=D("0.001"), limit=D(20_000), cycle_id=cycle_id, reason="bench",
    )  # fmt: skip


def _journal(store: SqlStore, wish: Intent) -> None:
    assert store.write(lambda tx: tx.insert_order(order("in_flight", wish)))


def _filled(wish: Intent) -> tuple[VenueOrder, tuple[Execution, ...]]:
    at = datetime.now(UTC) + timedelta(seconds=1)
    execution = Execution(id=f"x-{wish.key}", qty=wish.qty, price=D(20_000), cum_qty=wish.qty, at=at)
    return seen(wish, "filled", str(wish.qty)), (execution,)


def _bare(url: str) -> Callable[[Intent], None]:
    target = make_url(url)
    if target.get_backend_name() == "sqlite":
        connection: Any = sqlite3.connect(str(target.database), isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        mark, begin = "?", "BEGIN IMMEDIATE"
    else:
        import mysql.connector

        connection = mysql.connector.MySQLConnection(
            host=target.host, port=target.port, user=target.username, password=target.password,
            database=target.database, autocommit=False, collation="utf8mb4_bin",
        )  # fmt: skip
        mark, begin = "%s", "START TRANSACTION"
    cursor = connection.cursor()
    marks = ", ".join([mark] * 9)
    names = "id, order_key, cycle_id, side, qty, price, fee, cum_qty, at"
    insert = f"INSERT INTO dca_fills ({names}) VALUES ({marks})"
    update = f"UPDATE dca_cycles SET quantity = {mark}, updated_at = {mark} WHERE id = {mark}"

    def transaction(wish: Intent) -> None:
        now = datetime.now(UTC).replace(tzinfo=None).isoformat(" ")
        fill = (
            f"bare-{wish.key}",
            wish.key,
            wish.cycle_id,
            "buy",
            "0.001",
            "20000",
            "0.0000025",
            "0.002",
            now,
        )
        cursor.execute(begin)
        cursor.execute(insert, fill)
        cursor.execute(update, ("0.0039", now, wish.cycle_id))
        connection.commit()

    return transaction


def measure_all() -> dict[str, dict[str, float]]:
    """On SQLite, and on MariaDB where its server is installed."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'bench.sqlite3'}"
        migrate.upgrade(url)
        found["sqlite"] = measure(url)
    if databases.mariadbd() is not None:
        with databases.throwaway_mariadb() as url:
            migrate.upgrade(url)
            found["mariadb"] = measure(url)
    return found


if __name__ == "__main__":
    import json

    print(json.dumps(measure_all(), indent=2))
