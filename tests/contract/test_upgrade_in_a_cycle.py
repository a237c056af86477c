"""An older version of the program began a cycle, this one ends it."""

from contextlib import closing
from datetime import timedelta
from decimal import Decimal as D
from random import Random
from typing import Any

import databases
import pytest
import sqlalchemy as sa
from alembic import command
from build import BTC, T0, asset, at, cycle, order
from build import fill as a_fill
from build import intent as an_intent

from dca.adapters.clock import ManualClock
from dca.adapters.db import migrate, rows, tables
from dca.adapters.db.store import SqlStore
from dca.adapters.db.target import parse
from dca.adapters.venues.sim import SimVenue
from dca.domain.cycle import CycleStatus
from dca.domain.fees import FeeRates
from dca.domain.market import Quote
from dca.matching.book import Terms as MatchTerms
from dca.risk.review import Limits
from dca.service.brief import read_brief
from dca.service.recorder import Recorder
from dca.service.trader import Trader
from dca.strategy.dca import Terms

BOUGHT, FEE = D("0.001"), D("0.0000025")
LIMITS = Limits(max_open_orders=5, max_quote_age=timedelta(seconds=60), min_notional=D(10))


@pytest.fixture(params=["sqlite", "mariadb"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Any) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/older.sqlite3"
    mariadb: databases.Mariadb = request.getfixturevalue("mariadb")
    mariadb.run("DROP DATABASE IF EXISTS dca_older")
    return mariadb.url("dca_older")


def left_by(revision: str, url: str) -> None:
    """The tables of that revision, and in them a cycle that has bought once."""
    wish = an_intent("base")
    done = order("filled", wish, filled_qty=BOUGHT, filled_avg_price=D(20_000), venue_id="v1")
    bought = {
        "quantity": BOUGHT - FEE,
        "average_purchase_price": D(20_000) * BOUGHT / (BOUGHT - FEE),
        "latest_order_id": wish.key,
        "last_order_fill_price": D(20_000),
    }
    bought["average_purchase_price"] = bought["average_purchase_price"].quantize(D("1e-12"))
    begun = cycle("watching", **bought)
    content: list[tuple[sa.Table, dict[str, Any]]] = [
        (tables.assets, {**rows.asset_values(asset()), "id": 1}),
        (tables.cycles, {**rows.cycle_values(begun), "id": begun.id}),
        (tables.orders, rows.order_values(done)),
        (tables.fills, rows.fill_values(a_fill(wish, str(BOUGHT), fee=str(FEE)))),
    ]
    with migrate.connected(parse(url), create=True) as connection:
        command.upgrade(migrate._config(connection, []), revision)
        for table, values in content:
            there = {column["name"] for column in sa.inspect(connection).get_columns(table.name)}
            known = {name: value for name, value in values.items() if name in there}
            connection.execute(sa.insert(sa.Table(table.name, sa.MetaData(), *_columns(table, there))), known)
        connection.commit()


def _columns(table: sa.Table, there: set[str]) -> list[sa.Column[Any]]:
    return [sa.Column(column.name, column.type) for column in table.columns if column.name in there]


@pytest.mark.parametrize("revision", ["0001_initial", "0002_caretakers"])
def test_it_is_sold_and_the_next_one_begins(empty_url: str, revision: str) -> None:
    left_by(revision, empty_url)
    migrate.upgrade(empty_url)
    with closing(SqlStore(empty_url)) as store:
        clock = ManualClock(T0 + timedelta(hours=1))
        venue = SimVenue(clock, {"BTC/USD": BTC}, D(100), Random(1), MatchTerms(partial_rate=0))
        venue.coins["BTC/USD"] = BOUGHT - FEE
        recorder = Recorder(store, clock, FeeRates())
        terms = Terms(FeeRates().taker, timedelta(seconds=300))
        trader = Trader(store, venue, clock, recorder, LIMITS, terms, {"BTC/USD": BTC})
        quote = Quote("BTC/USD", D(21_000), D(21_001), at(3600))
        venue.quote(quote)
        brief = store.read(lambda tx: read_brief(tx, 1))
        assert brief is not None
        trader.act(brief, quote, before=quote)
        for update in venue.updates:
            executions = () if update.execution is None else (update.execution,)
            recorder.record(update.order, executions, source=update.event)
        first, second = store.read(lambda tx: tx.cycles())
        assert (first.status, second.status) == (CycleStatus.COMPLETE, CycleStatus.COOLDOWN)
        assert venue.coins["BTC/USD"] == 0
