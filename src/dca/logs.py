"""Logging: JSON lines in a file, one readable line on the terminal, no secret in either."""

import json
import logging
import logging.handlers
import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_CONTROL = {code: f"\\x{code:02x}" for code in [*range(32), 127]} | {0x2028: "\\u2028", 0x2029: "\\u2029"}
MAX_BYTES = 10_000_000
LONGEST = 2_000


def set_up(
    name: str,
    run_dir: Path,
    level: str,
    *,
    secrets: Iterable[str] = (),
    now: Callable[[], datetime],
    terminal: bool = True,
) -> None:
    """Everything logged from now on goes to `run_dir/name.log` and, when wanted, to stderr.

    `secrets` never appear in either. `now` gives the stamp, so that logs follow the trading clock.
    """
    run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    hide = [secret for secret in secrets if secret]
    stamp = now
    file = logging.handlers.RotatingFileHandler(
        run_dir / f"{name}.log", maxBytes=MAX_BYTES, backupCount=5, encoding="utf-8"
    )
    file.setFormatter(_Lines(name, stamp, hide))
    handlers: list[logging.Handler] = [file]
    if terminal:
        handlers.append(logging.StreamHandler(sys.stderr))
        handlers[-1].setFormatter(_Readable(stamp, hide))
    logging.basicConfig(level=level, handlers=handlers, force=True)
    for noisy in ("urllib3", "websockets", "alembic", "asyncio", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _OWN}


class _Formatter(logging.Formatter):
    def __init__(self, stamp: Callable[[], datetime], hide: list[str]) -> None:
        super().__init__()
        self._stamp = stamp
        self._hide = hide

    def clean(self, text: str) -> str:
        """One line without secrets and control characters."""
        for secret in self._hide:
            text = text.replace(secret, "***")
        return text.translate(_CONTROL)


class _Lines(_Formatter):
    def __init__(self, name: str, stamp: Callable[[], datetime], hide: list[str]) -> None:
        super().__init__(stamp, hide)
        self._name = name

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": self._stamp().isoformat(),
            "level": record.levelname,
            "process": self._name,
            "logger": record.name,
            "event": record.getMessage()[:LONGEST],
            **_fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return self.clean(json.dumps(line, default=str))


class _Readable(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{key}={value}" for key, value in _fields(record).items())
        head = f"{self._stamp():%Y-%m-%d %H:%M:%S} {record.levelname:<7} {record.getMessage()} {fields}"
        line = self.clean(head[:LONGEST].rstrip())
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line
