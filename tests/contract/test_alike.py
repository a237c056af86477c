"""Backtests run on the store in memory, so it must not differ from a database by any answer."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import databases
import pytest
from contract.rows import RULES, a_fill, an_order, later
from contract.test_store import everything

from dca.adapters.db.store import SqlStore
from dca.adapters.memory import MemoryStore
from dca.domain.cycle import CycleStatus
from dca.domain.errors import StaleWrite, StoreError
from dca.domain.order import OrderStatus
from dca.domain.record import Event, Heartbeat, Lease, Message
from dca.ports import Store, Tx

Step = Callable[[Tx], Any]


class Broken(Exception):
    """Raised by a unit that must leave nothing behind."""


def insert_asset(n: int, m: int) -> Step:
    return lambda tx: tx.insert_asset(f"A{n}/USD", RULES, is_enabled=bool(m % 2), at=later(m))


def update_asset(n: int, m: int) -> Step:
    def step(tx: Tx) -> Any:
        asset = tx.asset_by_symbol(f"A{n}/USD")
        return asset and tx.update_asset(replace(asset, halted_reason=str(m)))

    return step


def insert_cycle(n: int, m: int) -> Step:
    return lambda tx: tx.insert_cycle(n, list(CycleStatus)[m % 6], at=later(m))


def update_cycle(n: int, m: int) -> Step:
    """Of a cycle that may be finished: a fill can come late."""

    def step(tx: Tx) -> Any:
        cycle = tx.cycle(m % 4 + 1)
        return cycle and tx.update_cycle(replace(cycle, quantity=Decimal(n * m), completed_at=later(m)))

    return step


def finish_cycle(n: int, m: int) -> Step:
    def step(tx: Tx) -> Any:
        situation = tx.situation(n)
        cycle = situation and situation.cycle
        status = CycleStatus.COMPLETE if m else CycleStatus.ERROR
        return cycle and tx.update_cycle(
            replace(cycle, status=status, completed_at=later(m), quantity=Decimal(m))
        )

    return step


def insert_order(n: int, m: int) -> Step:
    return lambda tx: tx.insert_order(an_order(n, f"k{m}"))


def update_order(n: int, m: int) -> Step:
    statuses = (OrderStatus.OPEN, OrderStatus.CANCELED, OrderStatus.LOST, OrderStatus.FILLED)

    def step(tx: Tx) -> Any:
        order = tx.order(f"k{m}")
        return order and tx.update_order(replace(order, status=statuses[n], detail=str(n)))

    return step


def insert_fill(n: int, m: int) -> Step:
    def step(tx: Tx) -> Any:
        order = tx.order(f"k{m}")
        return order and tx.insert_fill(a_fill(order, id=f"x{m}.{n}", cum_qty=Decimal(n // 2 + 1)))

    return step


def insert_orphan(n: int, m: int) -> Step:
    return lambda tx: tx.insert_fill(a_fill(an_order(n, "nobody's"), id=f"y{m}"))


def stale(n: int, m: int) -> Step:
    def step(tx: Tx) -> Any:
        order = tx.order(f"k{m}")
        return order and tx.update_order(replace(order, version=order.version + n))

    return step


def record(n: int, m: int) -> Step:
    def step(tx: Tx) -> Any:
        tx.add_event(Event(name=f"e{n}", at=later(m), data={"m": m}))
        tx.beat(Heartbeat(name=f"h{n}", at=later(m)))
        tx.set_flag("halted", str(m) if n else None, at=later(m))
        message = Message(key=f"m{m}", name="n", text=str(n), at=later(m))
        return tx.add_message(message), tx.mark_sent(f"m{n}", at=later(m))

    return step


def lease(n: int, m: int) -> Step:
    def step(tx: Tx) -> Any:
        held = tx.lease("order_manager")
        if m % 3 == 0 and held:
            return tx.drop_lease(held)
        version = held.version if held and m % 2 else 0
        return tx.put_lease(Lease(name="order_manager", holder=f"p{n}", expires_at=later(m), version=version))

    return step


MAKERS = [
    insert_asset, update_asset, insert_cycle, insert_cycle, update_cycle, finish_cycle, finish_cycle,
    insert_order, insert_order, insert_order, update_order, update_order, update_order, insert_fill,
    insert_fill, insert_orphan, stale, record, lease,
]  # fmt: skip


def life(seed: int) -> Iterator[tuple[list[Step], bool]]:
    """Units of work, each with whether it fails at its end."""
    random = Random(seed)
    yield [insert_asset(1, 1), insert_asset(2, 1), insert_cycle(1, 0), insert_cycle(2, 0)], False
    for _ in range(80):
        unit = [
            random.choice(MAKERS)(random.randint(0, 3), random.randint(0, 5))
            for _ in range(random.randint(1, 3))
        ]
        yield unit, random.random() < 0.2


def outcome(store: Store, unit: list[Step], fails: bool) -> Any:
    """What a unit answers, or how it ends."""

    def work(tx: Tx) -> list[Any]:
        answers = [step(tx) for step in unit]
        if fails:
            raise Broken
        return answers

    try:
        return store.write(work)
    except (StaleWrite, StoreError, Broken) as error:
        return type(error)


@pytest.mark.parametrize("seed", range(12))
def test_every_answer_is_the_same(
    sqlite_template: databases.SqliteTemplate, tmp_path: Path, seed: int
) -> None:
    memory = MemoryStore()
    with closing(SqlStore(sqlite_template.database(tmp_path))) as sql:
        for unit, fails in life(seed):
            assert outcome(memory, unit, fails) == outcome(sql, unit, fails)
            assert memory.read(everything) == sql.read(everything)
