"""Plays scenarios and says how each ended."""

import logging
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from types import FrameType

from dca.apps.scenarios import Scenario
from dca.domain.errors import ConfigError, DcaError

Outcome = tuple[Scenario, Callable[[], None]]


def play(scenarios: Sequence[Scenario], venue: str, *, database_url: str | None, jobs: int) -> int:
    """0 when all passed, 1 when one failed, 78 when a setting must be fixed, 130 when interrupted.

    On a real account they play one after the other. Each local one has a database of its own; with
    a `database_url` it is called after that one's, with a number.
    """
    logging.getLogger("dca").addHandler(logging.NullHandler())
    wanted = [
        (one, partial(one.run, venue, _numbered(database_url, number)))
        for number, one in enumerate(scenarios, 1)
    ]
    alone = venue == "alpaca" or jobs < 2
    failed = 0
    with _interruptible():
        try:
            for scenario, result in wanted if alone else _side_by_side(wanted, jobs):
                failed += not _passed(scenario, result)
        except ConfigError as error:
            print(f"integration_test: {error}", file=sys.stderr)
            return 78
        except KeyboardInterrupt:
            print("integration_test: interrupted; what ran was cleaned up", file=sys.stderr)
            return 130
    print(f"{len(scenarios) - failed} passed, {failed} failed")
    return 1 if failed else 0


def _side_by_side(wanted: Sequence[Outcome], jobs: int) -> Iterator[Outcome]:
    """Each scenario as it ends, with what gives its result."""
    with ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(run): scenario for scenario, run in wanted}
        try:
            for future in as_completed(running):
                yield running[future], future.result
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _passed(scenario: Scenario, result: Callable[[], None]) -> bool:
    try:
        result()
    except ConfigError:
        raise
    except DcaError as error:
        print(f"FAILED  {scenario.name}: {error}", flush=True)
        return False
    print(f"passed  {scenario.name}: {scenario.words}", flush=True)
    return True


def _numbered(database_url: str | None, number: int) -> str | None:
    if database_url is None:
        return None
    address, mark, options = database_url.partition("?")
    return f"{address}_{number}{mark}{options}"


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM ends it as Ctrl-C does: with everything cleaned up."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
