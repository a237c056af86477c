"""A paper exchange, a database, and the command line on both; nothing runs but what a test starts."""

from collections.abc import Iterator
from decimal import Decimal as D
from pathlib import Path
from typing import Any

import pytest
from apps.bot import BTC, Bot, environment, start
from build import T0

from dca.adapters.clock import ScaledClock, SystemClock
from dca.apps import cli
from dca.paper.config import PaperConfig, Switches
from dca.paper.serve import Running, running


@pytest.fixture
def noon() -> ScaledClock:
    """It is noon, so that no test runs from one day into the next."""
    return ScaledClock(SystemClock().now(), T0, 1.0)


@pytest.fixture
def exchange(noon: ScaledClock) -> Iterator[Running]:
    """An exchange of its own, with the price of one coin; it fills orders whole."""
    switches = Switches(partial_rate=0.0)
    with running(PaperConfig(cash=D(10_000), switches=switches), noon) as started:
        started.control.quote(BTC, "20000", "20003")
        yield started


@pytest.fixture
def dca_on(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Any:
    """Gives what runs a command in this process, in an environment; its exit code and what it said."""

    def on(environment: dict[str, str]) -> Any:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

        def command(*words: str) -> tuple[int, str, str]:
            capsys.readouterr()
            code = cli.main(words)
            said = capsys.readouterr()
            return code, said.out, said.err

        return command

    return on


def _bot(
    exchange: Running, database_url: str, run_dir: Path, dca_on: Any, noon: ScaledClock
) -> Iterator[Bot]:
    variables = environment(exchange, database_url, run_dir) | {
        "CLOCK_WALL_ORIGIN": noon.wall_origin.isoformat(),
        "CLOCK_ORIGIN": noon.origin.isoformat(),
    }
    store, desk = start(variables)
    yield Bot(exchange, store, desk, variables, dca_on(variables))
    desk.broker.close()  # type: ignore[attr-defined]
    store.close()


@pytest.fixture
def bot(exchange: Running, sqlite_url: str, tmp_path: Path, dca_on: Any, noon: ScaledClock) -> Iterator[Bot]:
    yield from _bot(exchange, sqlite_url, tmp_path, dca_on, noon)


@pytest.fixture
def any_bot(
    exchange: Running, database_url: str, tmp_path: Path, dca_on: Any, noon: ScaledClock
) -> Iterator[Bot]:
    """On each kind of database."""
    yield from _bot(exchange, database_url, tmp_path, dca_on, noon)
