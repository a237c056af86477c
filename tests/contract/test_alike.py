"""Backtests run on the store in memory, so it must not differ from a database by any answer."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from typing import Any

import databases
from contract.rows import RULES, a_fill, an_order, later
from contract.test_store import everything
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
        return asset and tx.update_asset(replace(asset, halted_reason=str(m), version=asset.version - m // 7))

    return step


def insert_cycle(n: int, m: int) -> Step:
    return lambda tx: tx.insert_cycle(n + 1, list(CycleStatus)[m % 6], at=later(m))


def update_cycle(n: int, m: int) -> Step:
    def step(tx: Tx) -> Any:
        cycle = tx.cycle(n + 1)
        status = list(CycleStatus)[m % 7]
        ended = later(m) if status is CycleStatus.COMPLETE else None
        return cycle and tx.update_cycle(
            replace(cycle, status=status, quantity=Decimal(m) / 8, completed_at=cycle.completed_at or ended)
        )

    return step


def insert_order(n: int, m: int) -> Step:
    return lambda tx: tx.insert_order(an_order(n + 1, f"k{m}"))


def update_order(n: int, m: int) -> Step:
    def step(tx: Tx) -> Any:
        order = tx.order(f"k{m}")
        return order and tx.update_order(
            replace(order, status=list(OrderStatus)[n * 3 % 8], filled_qty=Decimal(n))
        )

    return step


def insert_fill(n: int, m: int) -> Step:
    def step(tx: Tx) -> Any:
        order = tx.order(f"k{m}") or an_order(1, "k99")
        return tx.insert_fill(a_fill(order, id=f"x{n}{m % 3}", cum_qty=Decimal(n)))

    return step


def record(n: int, m: int) -> Step:
    def step(tx: Tx) -> Any:
        tx.add_event(Event(name=f"e{n}", at=later(m), data={"m": m}))
        tx.beat(Heartbeat(name=f"h{n}", at=later(m)))
        tx.set_flag("halted", str(m) if n else None, at=later(m))
        return tx.add_message(Message(key=f"m{m}", name="n", text=str(n), at=later(m))), tx.mark_sent(
            f"m{n}", at=later(m)
        )

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
    insert_asset, update_asset, insert_cycle, update_cycle, insert_order, update_order, insert_fill, record,
    lease,
]  # fmt: skip
steps = st.builds(
    lambda make, n, m: make(n, m), st.sampled_from(MAKERS), st.integers(0, 3), st.integers(0, 8)
)
units = st.lists(st.tuples(st.lists(steps, min_size=1, max_size=4), st.integers(0, 5)), max_size=25)


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


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lives=units)
def test_every_answer_is_the_same(
    sqlite_template: databases.SqliteTemplate, tmp_path: Any, lives: list[tuple[list[Step], int]]
) -> None:
    memory = MemoryStore()
    with closing(SqlStore(sqlite_template.database(tmp_path))) as sql:
        for unit, chance in lives:
            assert outcome(memory, unit, chance == 0) == outcome(sql, unit, chance == 0)
            assert memory.read(everything) == sql.read(everything)
