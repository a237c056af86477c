"""Every effect of the services is a boundary, and the crash sweep kills at it."""

import ast
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest
from build import BTC, T0, intent

import dca
from dca import boundaries
from dca.adapters.clock import SystemClock
from dca.adapters.venues.alpaca import AlpacaBroker
from dca.adapters.venues.sim import SimVenue
from dca.domain.errors import Rejected, StaleWrite
from dca.ports import Store, Tx
from dca.prove.crash_scripts import SCRIPTS
from dca.service.lease import take

SOURCE = Path(dca.__file__).parent
SERVICE = sorted((SOURCE / "service").rglob("*.py"))
STORES, VENUES = {"store", "shared"}, {"broker", "venue"}

BY_A_PERSON = "one commit that a person asked for and sees the answer of; no order depends on it"
NOTICE = "an event or a message; what it tells of is committed apart"
SHARED = "a row that each process writes again where it still holds: it only makes trading stricter"
NOT_SWEPT = {
    "anomaly.clock_seen": SHARED,
    "anomaly.restrict": SHARED,
    "anomaly.tell_of_keys": NOTICE,
    "assets.add": BY_A_PERSON,
    "assets.remove": BY_A_PERSON,
    "breaker.change": SHARED,
    "breaker.tell": NOTICE,
    "budget.ban": SHARED,
    "funds.forget_peak": BY_A_PERSON,
    "funds.tell_known": SHARED,
    "housekeeping.back_up": NOTICE,
    "operating.halt": BY_A_PERSON,
    "operating.lift_all": BY_A_PERSON,
    "operating.restrict": BY_A_PERSON,
    "order_manager.tell": NOTICE,
    "recorder.adopt": BY_A_PERSON,
    "recorder.tell_unknown": NOTICE,
    "trader.conflict": NOTICE,
    "watchdog.report": NOTICE,
    "watchdog.tell": NOTICE,
}
"""Effects that the sweep does not kill at, each with the reason."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(module: Path) -> Iterator[Function]:
    """Functions and methods, without those inside of others: they are what a unit is called by."""
    for node in ast.parse(module.read_text()).body:
        for one in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(one, Function):
                yield one


def owner(node: ast.expr) -> str:
    """The last name of what a method is looked up on."""
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return name.strip("_")


def given_on(function: Function, call: ast.Call) -> bool:
    """Whether the unit of work is one that the function itself was given."""
    given = {argument.arg for argument in function.args.args}
    return any(isinstance(one, ast.Name) and one.id in given - {"self", "store"} for one in call.args)


def written_in(function: Function, call: ast.Call) -> str:
    """What a unit is called by: the method that it is, or the function that it is written in."""
    methods = [one.attr for one in call.args if isinstance(one, ast.Attribute) and owner(one.value) == "self"]
    return (methods or [function.name])[0].lstrip("_")


def carries(call: ast.Call, carriers: set[str]) -> bool:
    """Whether the call hands a unit of work to a store, or to a function that does."""
    if isinstance(call.func, ast.Attribute):
        to_store = call.func.attr == "write" and owner(call.func.value) in STORES
        return to_store or call.func.attr in carriers
    return isinstance(call.func, ast.Name) and call.func.id in carriers


def commits() -> set[str]:
    """Every unit of work in the services, by the name that its boundary has."""
    carriers: set[str] = set()
    while True:
        found, known = set(), len(carriers)
        for module in SERVICE:
            if module.stem in STORES:
                continue
            for function in functions(module):
                for call in [one for one in ast.walk(function) if isinstance(one, ast.Call)]:
                    if not carries(call, carriers):
                        continue
                    if given_on(function, call):
                        carriers.add(function.name)
                    else:
                        found.add(f"{module.stem}.{written_in(function, call)}")
        if len(carriers) == known:
            return found


def requests() -> set[str]:
    """Every method of the venue that the services call."""
    (port,) = (
        node
        for node in ast.parse((SOURCE / "ports.py").read_text()).body
        if isinstance(node, ast.ClassDef) and node.name == "Broker"
    )
    methods = {node.name for node in port.body if isinstance(node, ast.FunctionDef)}
    asked = (
        node
        for module in SERVICE
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Attribute) and owner(node.value) in VENUES
    )
    return {node.attr for node in asked} & methods


def test_the_sweep_kills_at_every_effect_of_the_services() -> None:
    swept = frozenset[str]().union(*(script.crosses for script in SCRIPTS))
    effects = commits() | requests()
    assert {"pipeline.place", "recorder.record", "submit", "cancel", "find"} <= effects, "it finds some"
    assert sorted(effects - swept - NOT_SWEPT.keys()) == []
    assert sorted(NOT_SWEPT.keys() - effects) == [], "no reason for what is not there"
    assert sorted(swept - effects - {"account"}) == [], "no script claims what is not there"


def test_every_request_of_a_venue_is_crossed() -> None:
    methods = {name for name in requests() if not name.startswith("_")}
    for venue in (AlpacaBroker, SimVenue):
        bare = [name for name in methods if not hasattr(getattr(venue, name), "__wrapped__")]
        assert bare == [], venue.__name__


class Death(BaseException):
    """As if the process had been killed."""


@pytest.fixture
def crossed() -> Iterator[list[str]]:
    """What is crossed while a test runs."""
    found: list[str] = []
    boundaries.install(found.append)
    yield found
    boundaries.install(None)


def dying_at(name: str) -> Callable[[str], None]:
    def hook(crossing: str) -> None:
        if crossing == name:
            raise Death

    return hook


def switch_on(store: Store) -> None:
    def write(tx: Tx) -> None:
        tx.set_flag("on", "yes", at=T0)

    store.write(write)


def test_a_commit_is_crossed_under_the_name_of_who_wrote_it(any_store: Store, crossed: list[str]) -> None:
    switch_on(any_store)
    assert crossed == ["before_test_boundaries.switch_on", "after_test_boundaries.switch_on"]
    take(any_store, SystemClock(), "a lease", "me", lambda holder: False)
    assert crossed[2:] == ["before_lease.take", "after_lease.take"]


def test_what_is_not_committed_is_not_crossed(any_store: Store, crossed: list[str]) -> None:
    def lose(tx: Tx) -> None:
        raise StaleWrite("somebody was faster")

    with pytest.raises(StaleWrite):
        any_store.write(lose)
    any_store.read(lambda tx: tx.flags())
    assert crossed == []


@pytest.mark.parametrize(("where", "left"), [("before", {}), ("after", {"on": "yes"})])
def test_a_death_before_the_commit_leaves_nothing_and_one_after_it_everything(
    any_store: Store, where: str, left: dict[str, str]
) -> None:
    boundaries.install(dying_at(f"{where}_test_boundaries.switch_on"))
    try:
        with pytest.raises(Death):
            switch_on(any_store)
    finally:
        boundaries.install(None)
    assert any_store.read(lambda tx: tx.flags()) == left
    switch_on(any_store)


def test_a_request_that_fails_is_crossed_on_both_sides(crossed: list[str]) -> None:
    venue = SimVenue(SystemClock(), {"BTC/USD": BTC}, Decimal(100), Random(1))
    with pytest.raises(Rejected):
        venue.submit(intent())
    assert crossed == ["before_submit", "after_submit"]


LIFE = ["before_find", "before_submit", "after_find", "before_submit", "after_submit"]


@pytest.mark.parametrize(
    ("where", "last"),
    [
        (("before_submit", 2), "4 before_submit"),
        ((boundaries.ANY, 3), "3 after_find"),
        (("before_cancel", 1), "5 after_submit"),
    ],
)
def test_a_process_dies_at_the_boundary_that_was_named(
    where: tuple[str, int], last: str, tmp_path: Path
) -> None:
    log = tmp_path / "crossed"
    code = (
        "from pathlib import Path; from dca import boundaries;"
        f"hook = boundaries.counting({where!r}, Path({str(log)!r}));"
        f"[hook(name) for name in {LIFE!r}]"
    )
    ended = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(SOURCE.parent)})
    lines = log.read_text().splitlines()
    assert lines[-1] == last
    assert ended.returncode == (0 if len(lines) == len(LIFE) else -signal.SIGKILL)
