"""A caretaker's pass over 1,000 assets: its own time, and SQL statements beside a tenth of the past.

Every asset holds coins that agree with the venue, so nothing is repaired: what every minute costs.
The venue answers from memory, so that the time is the caretaker's own.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal as D
from random import Random
from typing import Any

import databases
from build import INSTALL, T0, rules
from sqlalchemy import insert

from dca.adapters.clock import ManualClock
from dca.adapters.db import rows, tables
from dca.adapters.db.store import SqlStore
from dca.adapters.venues.sim import SimVenue
from dca.domain.asset import Asset
from dca.domain.cycle import Cycle, CycleStatus
from dca.domain.fees import FeeRates
from dca.domain.folding import folded
from dca.domain.market import Instrument, Quote
from dca.domain.order import Intent, Order, OrderStatus, Purpose, Side, order_key
from dca.domain.position import Fill
from dca.risk.review import Limits
from dca.service.caretakers.asset_caretaker import AssetCaretaker
from dca.service.caretakers.consistency_checker import ConsistencyChecker
from dca.service.caretakers.cooldown_manager import CooldownManager
from dca.service.caretakers.order_manager import Ages, OrderManager
from dca.service.caretakers.runner import Caretaker, run
from dca.service.catchup import CatchUp
from dca.service.recorder import Recorder
from dca.service.trader import Trader
from dca.strategy.dca import Terms

ASSETS = 1_000
PAST = (1_000, 10_000)
HELD = D("0.01")
PRICE = D(20_000)
NOW = T0 + timedelta(days=30)
GRACE = timedelta(seconds=60)
Make = Callable[[SqlStore, SimVenue, ManualClock], Caretaker[Any, Any]]


def measure(url: str, makers: dict[str, Make], past: int) -> dict[str, dict[str, float]]:
    """By caretaker: seconds and SQL statements of one pass, and what it planned."""
    store = SqlStore(url)
    symbols = [f"COIN{number}/USD" for number in range(ASSETS)]
    _seed(store, symbols, past)
    clock = ManualClock(NOW)
    venue = SimVenue(clock, {symbol: _instrument(symbol) for symbol in symbols}, D(1_000_000), Random(1))
    for symbol in symbols:
        venue.quote(Quote(symbol, PRICE, PRICE + 3, NOW))
        venue.coins[symbol] = HELD
    found = {}
    for name, make in makers.items():
        with databases.statements_noted() as statements:
            begun = time.perf_counter()
            report = run(
                make(store, venue, clock), store=store, clock=clock, holder="bench", alive=lambda _: False
            )
            took = time.perf_counter() - begun
        found[name] = {"pass_s": took, "statements": len(statements), "planned": len(report.planned)}
    store.close()
    return found


def _instrument(symbol: str) -> Instrument:
    return Instrument(symbol, D("0.0001"), D("1e-9"), D("0.01"))


def _seed(store: SqlStore, symbols: list[str], past: int) -> None:
    """Assets with a cycle that holds coins, and `past` complete cycles spread over them."""
    asset = Asset(
        id=0, asset_symbol="", is_enabled=True, rules=rules(cooldown_period=60), created_at=T0, updated_at=T0
    )
    assets = [
        {"id": n, **rows.asset_values(replace(asset, asset_symbol=s))} for n, s in enumerate(symbols, 1)
    ]
    cycles, orders, fills = [], [], []
    for number in range(1, past + ASSETS + 1):
        asset_id, open_one = (number - 1) % ASSETS + 1, number > past
        cycle, its_orders, its_fills = _cycle(number, asset_id, symbols[asset_id - 1], open_one)
        cycles.append({"id": number, **rows.cycle_values(cycle)})
        orders += [rows.order_values(order) for order in its_orders]
        fills += [rows.fill_values(fill) for fill in its_fills]
    with store._writers.begin() as connection:
        for table, values in (
            (tables.assets, assets),
            (tables.cycles, cycles),
            (tables.orders, orders),
            (tables.fills, fills),
        ):
            for start in range(0, len(values), 1000):
                connection.execute(insert(table), values[start : start + 1000])


def _cycle(number: int, asset_id: int, symbol: str, open_one: bool) -> tuple[Cycle, list[Order], list[Fill]]:
    buys = [
        _order(number, symbol, Purpose.BASE),
        *([] if open_one else [_order(number, symbol, Purpose.TAKE_PROFIT)]),
    ]
    fills = [_fill(order) for order in buys]
    fee = replace(fills[0], id=f"fee:{buys[0].key}", qty=D(0), price=D(0), cum_qty=D(0), fee=D(0))
    fresh = Cycle(id=number, asset_id=asset_id, status=CycleStatus.WATCHING, created_at=T0, updated_at=T0)
    return folded(fresh, buys, [*fills, fee], T0), buys, [*fills, fee]


def _order(cycle_id: int, symbol: str, purpose: Purpose) -> Order:
    side = Side.SELL if purpose is Purpose.TAKE_PROFIT else Side.BUY
    wish = Intent(
        key=order_key(INSTALL, cycle_id, purpose, 0, 1),
        symbol=symbol,
        side=side,
        purpose=purpose,
        step=0,
        qty=HELD,
        limit=PRICE if side is Side.BUY else None,
        cycle_id=cycle_id,
        reason="a benchmark",
    )
    return Order(
        intent=wish, status=OrderStatus.FILLED, created_at=T0, updated_at=T0, filled_qty=HELD,
        filled_avg_price=PRICE, venue_id=f"v-{wish.key}",
    )  # fmt: skip


def _fill(order: Order) -> Fill:
    return Fill(
        id=f"x-{order.key}", order_key=order.key, cycle_id=order.intent.cycle_id, side=order.intent.side,
        qty=HELD, price=PRICE, fee=D(0), cum_qty=HELD, at=T0,
    )  # fmt: skip


def measure_all() -> dict[str, Any]:
    """On MariaDB; empty without a server."""
    if databases.mariadbd() is None:
        return {}
    found: dict[str, Any] = {}
    with databases.mariadb_server() as server:
        template = databases.MariadbTemplate(server)
        for past in PAST:
            with template.database() as url:
                found[f"{past}_past_cycles"] = measure(url, makers(), past)
    return found


def makers() -> dict[str, Make]:
    """How each caretaker of the rows is put together for a store and a venue."""
    return {
        "order_manager": _order_manager,
        "cooldown_manager": CooldownManager,
        "consistency_checker": _consistency_checker,
        "asset_caretaker": lambda store, venue, clock: AssetCaretaker(store, clock),
    }


def _order_manager(store: SqlStore, venue: SimVenue, clock: ManualClock) -> OrderManager:
    recorder = Recorder(store, clock, FeeRates())
    limits = Limits(max_open_orders=5, max_quote_age=timedelta(seconds=60), min_notional=D(10))
    trader = Trader(store, venue, clock, recorder, limits, Terms(D("0.0025")))
    minutes = timedelta(minutes=5)
    ages = Ages(stale=minutes, stuck=minutes, orphan=minutes, grace=GRACE)
    return OrderManager(store, venue, clock, trader, _catch_up(store, venue, clock), ages, lambda _: None)


def _consistency_checker(store: SqlStore, venue: SimVenue, clock: ManualClock) -> ConsistencyChecker:
    recorder = Recorder(store, clock, FeeRates())
    return ConsistencyChecker(store, venue, clock, recorder, _catch_up(store, venue, clock), GRACE)


def _catch_up(store: SqlStore, venue: SimVenue, clock: ManualClock) -> CatchUp:
    recorder = Recorder(store, clock, FeeRates())
    return CatchUp(store, venue, clock, recorder, grace_s=GRACE.total_seconds())
