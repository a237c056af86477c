"""A log in a storm: what says the same is folded, and nothing that is said once gets lost."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dca import logs
from dca.logs.folding import MOST, WINDOW_S, Folding

NOW = datetime(2023, 3, 9, tzinfo=UTC)


class Kept(logging.Handler):
    """What was handed on."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def repeated(self) -> list[int]:
        return [getattr(one, "repeated", 0) for one in self.records]


def say(folding: Folding, at: float, event: str = "store_retried", **more: Any) -> None:
    level = more.pop("level", logging.WARNING)
    record = {"name": "dca.a", "msg": event, "levelno": level, "created": at, **more}
    folding.handle(logging.makeLogRecord(record))


@pytest.fixture
def kept() -> Kept:
    return Kept()


def test_of_equal_lines_the_first_are_written_and_the_last_with_their_number(kept: Kept) -> None:
    folding = Folding([kept])
    for number in range(1000):
        say(folding, 100 + number * WINDOW_S / 2000, error="gone")
    assert kept.repeated() == [0] * MOST
    say(folding, 100 + WINDOW_S, "another")
    assert kept.repeated() == [0] * MOST + [1000 - MOST, 0]
    assert [one.msg for one in kept.records[-2:]] == ["store_retried", "another"]
    say(folding, 100 + WINDOW_S, error="gone")
    assert kept.repeated()[-1] == 0, "a new window"


def test_lines_that_differ_in_anything_are_all_written(kept: Kept) -> None:
    folding = Folding([kept])
    for number in range(3 * MOST):
        say(folding, 100, key=f"k{number}")
        say(folding, 100, failures=number)
        say(folding, 100, "order %s", args=(number,))
        say(folding, 100, exc_info=(ValueError, ValueError(number), None))
    assert len(kept.records) == 12 * MOST
    folding.close()
    assert len(kept.records) == 12 * MOST


def test_at_the_end_nothing_is_owed(kept: Kept) -> None:
    folding = Folding([kept])
    for _ in range(MOST + 3):
        say(folding, 100)
    folding.close()
    assert kept.repeated() == [0] * MOST + [3]


def test_a_clock_that_was_set_back_keeps_nothing_back(kept: Kept) -> None:
    folding = Folding([kept])
    for _ in range(MOST + 1):
        say(folding, 5000)
    say(folding, 100)
    assert kept.repeated() == [0] * MOST + [1, 0]


def test_each_place_has_its_own_level(kept: Kept) -> None:
    strict = Kept()
    strict.setLevel(logging.WARNING)
    folding = Folding([kept, strict])
    say(folding, 100, level=logging.INFO)
    assert (len(kept.records), len(strict.records)) == (1, 0)


def test_what_cannot_be_compared_is_written(kept: Kept) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    folding = Folding([kept])
    say(folding, 100, deep=deep)
    assert len(kept.records) == 1
    while deep:
        deep = deep.pop()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    before = logging.getLogger().handlers[:]
    logs.set_up("x", tmp_path, "INFO", now=lambda: NOW, terminal=False)
    yield tmp_path
    for handler in logging.getLogger().handlers:
        handler.close()
    logging.getLogger().handlers[:] = before


def test_a_storm_stays_small_on_the_disk(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ten thousand failures of one kind, with the one line among them that matters."""
    log = logging.getLogger("dca.a")
    for number in range(10_000):
        log.warning("update_not_recorded", extra={"key": "k1", "error": "the database does not answer"})
        if number == 5_000:
            log.info("order_sent", extra={"key": "k2"})
    logging.getLogger().handlers[0].close()
    lines = [json.loads(line) for line in (folder / "x.log").read_text().splitlines()]
    assert (folder / "x.log").stat().st_size < 20_000
    assert sum(one["event"] == "order_sent" for one in lines) == 1
    stood_for = sum(one.get("repeated", 1) for one in lines if one["event"] == "update_not_recorded")
    assert stood_for == 10_000
