"""The database of a life is the program's own, statement by statement."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from build import T0, at, intent, order, restriction, rules

from dca.adapters.db.store import SqlStore
from dca.domain.cycle import Cycle, CycleStatus
from dca.domain.errors import StaleWrite
from dca.domain.mode import Mode
from dca.domain.record import Event, Heartbeat
from dca.ports import Store, Tx
from dca.prove.lives import nursery
from dca.prove.store import LifeStore


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    with nursery() as path:
        yield path


@pytest.fixture
def file(template: Path, tmp_path: Path) -> Path:
    path = tmp_path / "life.sqlite3"
    path.write_bytes(template.read_bytes())
    return path


@pytest.fixture
def store(file: Path) -> Iterator[LifeStore]:
    made = LifeStore(file)
    yield made
    made.close()


def _furnish(tx: Tx) -> Cycle:
    asset = tx.insert_asset("BTC/USD", rules(), is_enabled=True, at=T0)
    assert asset is not None
    cycle = tx.insert_cycle(asset.id, CycleStatus.WATCHING, at=T0)
    assert cycle is not None
    assert tx.insert_order(order("in_flight", intent(cycle_id=cycle.id)))
    tx.add_event(Event(name="a_test", at=T0, reason="to read it back", data={"usd": "1.50"}))
    tx.beat(Heartbeat(name="streamer", at=at(1), detail={"links": {}}))
    tx.put_mode(restriction(Mode.HALTED, until=at(60)))
    return cycle


def _all(store: Store) -> list[object]:
    def read(tx: Tx) -> list[object]:
        rows = [tx.situations(), tx.orders(), tx.live_orders(), tx.events(), tx.heartbeats(), tx.modes()]
        return [*rows, tx.open_records(), tx.standing(1, at(2)), tx.revision(), tx.stakes()]

    return store.read(read)


def test_what_it_wrote_the_program_reads(store: LifeStore, file: Path) -> None:
    store.write(_furnish)
    seen = _all(store)
    store.close()
    again = SqlStore(f"sqlite:///{file}")
    try:
        assert _all(again) == seen
        assert again.install == store.install
    finally:
        again.close()


def test_a_unit_that_fails_leaves_nothing(store: LifeStore) -> None:
    def halfway(tx: Tx) -> None:
        _furnish(tx)
        raise LookupError("the process died")

    with pytest.raises(LookupError):
        store.write(halfway)
    assert store.read(lambda tx: tx.assets()) == []


def test_whoever_is_second_hears_so(store: LifeStore) -> None:
    cycle = store.write(_furnish)
    store.write(lambda tx: tx.update_cycle(cycle))
    with pytest.raises(StaleWrite):
        store.write(lambda tx: tx.update_cycle(cycle))
    again = order("in_flight", intent(cycle_id=cycle.id))
    assert not store.write(lambda tx: tx.insert_order(again)), "a unique slot is taken"
    assert store.read(lambda tx: tx.own_venue_ids(["v1", "v2"])) == set()
