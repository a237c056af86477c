"""What a person sees during the demo, with and without a terminal."""

import io
from decimal import Decimal as D

import pytest
from build import INSTALL, T0, order, rules
from rich.console import Console

from dca.adapters.clock import ManualClock
from dca.adapters.memory import MemoryStore
from dca.apps.progress import Plain, Screen
from dca.service import assets

STATE = {
    "now": "2023-03-09T12:00:00Z",
    "replay": {"progress": 0.42, "ended": False},
    "quotes": {"BTC/USD": {"bid": "19990", "ask": "19996"}},
}


@pytest.fixture
def store() -> MemoryStore:
    made = MemoryStore(INSTALL)
    assets.add(made, ManualClock(T0), "BTC/USD", rules())
    cycle = made.read(lambda tx: tx.cycles())[0]
    made.write(lambda tx: tx.insert_order(order("in_flight", wish(cycle.id))))
    return made


def wish(cycle_id: int):  # type: ignore[no-untyped-def]
    from build import intent

    return intent("base", cycle_id=cycle_id, reason="a reason to buy", qty=D("0.001"))


def test_the_screen_shows_replay_price_position_ladder_and_decisions(store: MemoryStore) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120)
    with Screen(console) as screen:
        screen.show(STATE, store)
    text = out.getvalue()
    for word in ("42%", "bid 19990", "no position", "step", "20.00", "in_flight", "a reason to buy"):
        assert word in text, word


def test_plain_lines_come_once_for_each_tenth(store: MemoryStore) -> None:
    out = io.StringIO()
    with Plain(Console(file=out)) as plain:
        plain.show(STATE, store)
        plain.show(STATE, store)
        plain.show({**STATE, "replay": {"progress": 0.55}}, store)
    assert [line[:4].strip() for line in out.getvalue().splitlines()] == ["42%", "55%"]
