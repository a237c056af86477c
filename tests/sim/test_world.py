"""A process that was killed changes nothing any more; what it had sent arrives all the same."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from build import intent

from dca.domain.record import Heartbeat
from dca.prove.fates import LONGEST_S
from dca.prove.lives import nursery
from dca.prove.loop import in_fiber
from dca.prove.process import BrokerDoor, Death, Process, StoreDoor
from dca.prove.world import START, World


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    with nursery() as path:
        yield path


@pytest.fixture
def world(template: Path, tmp_path: Path) -> Iterator[World]:
    database = tmp_path / "life.sqlite3"
    database.write_bytes(template.read_bytes())
    made = World(0, database, chances={})
    made.tick(lambda symbol: 1.0)
    yield made
    made.store.close()
    made.loop.close()


def test_what_a_dead_process_still_writes_has_no_effect(world: World) -> None:
    process = world.process("streamer")
    door = StoreDoor(world, process, world.store)

    def dies_halfway() -> None:
        try:
            process.kill()
            door.read(lambda tx: tx.assets())
        finally:
            door.write(lambda tx: tx.beat(Heartbeat(name="ghost", at=START)))

    with pytest.raises(Death):
        world.loop.run_until_complete(in_fiber(dies_halfway))
    assert world.store.read(lambda tx: tx.heartbeats()) == []


def test_a_request_arrives_although_its_sender_died_meanwhile(world: World) -> None:
    process = world.process("streamer")
    wish = intent()
    world.loop.call_later(0.001, process.kill)

    with pytest.raises(Death):
        world.loop.run_until_complete(in_fiber(lambda: BrokerDoor(world, process).submit(wish)))
    assert wish.key in world.exchange.by_key
    assert any(one.startswith("I4") for one in world.oracle.violations), "and the judge saw no journal row"


def test_an_order_that_came_too_late_excuses_its_asset_from_then_on_and_nothing_else(world: World) -> None:
    oracle, wish = world.oracle, intent()
    oracle.violates("I1", "before it came", symbol=wish.symbol)
    with oracle.arriving(LONGEST_S + 1):
        world.exchange.accept(wish)
    # It is in no journal; nothing else is said of it.
    assert [one.partition(" ")[0] for one in oracle.violations] == ["I1", "I4"]
    oracle.violations = oracle.violations[:1]
    oracle.violates("I1", "of its asset", symbol=wish.symbol)
    oracle.violates("I3", "of its cycle", cycle=wish.cycle_id)
    assert len(oracle.violations) == 1
    oracle.violates("UNCALLED", "of its asset, but earlier", symbol=wish.symbol, since=-1.0)
    oracle.violates("I1", "of another asset", symbol="ETH/USD")
    oracle.violates("I3", "of another cycle", cycle=wish.cycle_id + 1)
    oracle.violates("I4", "of its asset, and no consequence of it", symbol=wish.symbol)
    assert len(oracle.violations) == 5


def test_a_killed_process_is_gone_for_everybody(world: World) -> None:
    process = Process("streamer", "streamer-9")
    assert not world.lives(process.identity)
    with pytest.raises(Death):
        process.kill()
        process.check()
