"""Logs: one event one line, no control characters, no secret."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dca import logs

NOW = datetime(2023, 3, 9, tzinfo=UTC)


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[Path]:
    before = logging.getLogger().handlers[:]
    logs.set_up("x", tmp_path, "INFO", secrets=["hush-hush"], now=lambda: NOW, terminal=False)
    yield tmp_path / "x.log"
    for handler in logging.getLogger().handlers:
        handler.close()
    logging.getLogger().handlers[:] = before


def test_an_event_is_one_line_of_json_with_its_fields(lines: Path) -> None:
    logging.getLogger("a").info("order_filled", extra={"key": "k1", "qty": "0.1"})
    (line,) = lines.read_text().splitlines()
    found = json.loads(line)
    assert (found["event"], found["key"], found["at"]) == ("order_filled", "k1", NOW.isoformat())


def test_no_secret_and_no_control_character_gets_out(lines: Path) -> None:
    logging.getLogger("a").error("bad\n\x1b[31m", extra={"url": "https://x?key=hush-hush", "s": "a\u2028b"})
    text = lines.read_text()
    assert len(text.splitlines()) == 1
    assert "hush-hush" not in text and "***" in text
    assert "\x1b" not in text and "\u2028" not in text


def test_a_traceback_stays_in_its_line(lines: Path) -> None:
    try:
        raise ValueError("hush-hush")
    except ValueError:
        logging.getLogger("a").exception("failed")
    assert len(lines.read_text().splitlines()) == 1
    assert "hush-hush" not in lines.read_text()
