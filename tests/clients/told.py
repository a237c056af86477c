"""What the Python clients' scripts share: telling what a step saw, and waiting.

A script is run as `python SCRIPT URL` with the client's own interpreter. It prints one line of JSON a
step; what the steps must have seen is judged by test_clients.py. The first error ends it.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

URL = sys.argv[1]
SOCKET = URL.replace("http", "ws")
KEY, SECRET, WRONG = "PAPER", "paper-secret", "not-the-secret"
DAY = datetime(2023, 3, 9, tzinfo=UTC)
"""The first of the recorded days that the exchange replays."""


def tell(step: str, value: Any) -> None:
    """A step was done, and this is what the client made of it."""
    print(json.dumps({"step": step, "value": value}, default=str), flush=True)


def until(condition: Callable[[], Any], what: str) -> Any:
    """What `condition` returns once it is true."""
    deadline = time.monotonic() + 20
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.1)
    return value


def refusal(work: Callable[[], Any], kind: type[Exception]) -> str:
    """The words in which `work` was refused."""
    try:
        work()
    except kind as error:
        return str(error)
    raise AssertionError("it was not refused")


def said(logger: str, words: str, what: str) -> str:
    """The first line with `words` in the log of a client that says so nowhere else."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger(logger).addHandler(handler)
    return str(until(lambda: next((line for line in lines if words in line), None), what))


def end() -> None:
    """The script is over; streams that still run end with it."""
    tell("end", None)
    os._exit(0)
