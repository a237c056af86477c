"""What a line of the log looks like: JSON in the file, readable on a terminal."""

import json
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

from dca.logs.hiding import Hiding

LONGEST = 2_000
LONGEST_TRACEBACK = 20_000
DEEPEST = 8

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# Control characters, line ends of Unicode, and what turns the direction of writing around.
_UNSAFE = [*range(32), *range(127, 160), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_ESCAPED = {code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" for code in _UNSAFE}


class _Formatter(logging.Formatter):
    def __init__(self, now: Callable[[], datetime], hide: Hiding) -> None:
        super().__init__()
        self._now = now
        self._hide = hide

    def _said(self, record: logging.LogRecord) -> str:
        try:
            return record.getMessage()
        except (TypeError, ValueError, KeyError):
            return str(record.msg)

    def _clean(self, value: Any, depth: int = 0) -> Any:
        """The value as JSON knows it, without secrets; each text by itself, before it is written as
        part of another."""
        if isinstance(value, bool | int | float | None):
            return value
        if depth < DEEPEST and isinstance(value, dict):
            return {self._hide(str(key)): self._clean(item, depth + 1) for key, item in value.items()}
        if depth < DEEPEST and isinstance(value, list | tuple | set | frozenset):
            return [self._clean(item, depth + 1) for item in value]
        return self._hide(str(value))

    def _traceback(self, record: logging.LogRecord) -> str:
        """The end of it, which says what happened; empty when there is none."""
        if not record.exc_info:
            return ""
        return self._hide(self.formatException(record.exc_info))[-LONGEST_TRACEBACK:]


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What the line says beside its event."""
    return {key: value for key, value in vars(record).items() if key not in _OWN}


class Lines(_Formatter):
    """One line of JSON in ASCII, whatever is in it. `process` says which program wrote it."""

    def __init__(self, process: str, now: Callable[[], datetime], hide: Hiding) -> None:
        super().__init__(now, hide)
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": self._now().isoformat(),
            "level": record.levelname,
            "process": self._process,
            "pid": record.process,
            "logger": record.name,
            "event": self._said(record),
            **fields_of(record),
        }
        if record.exc_info:
            line["traceback"] = self._traceback(record)
        return self._short(line) or self._cleaned(line)

    def _short(self, line: dict[str, Any]) -> str | None:
        """The line, if nothing in it is escaped, hidden or cut, which nearly all are, at half the cost."""
        try:
            text = json.dumps(line, default=str)
        except (TypeError, ValueError, RecursionError):
            return None
        plain = len(text) <= LONGEST and "\\" not in text
        return text if plain and not self._hide.may_be_in(text) else None

    def _cleaned(self, line: dict[str, Any]) -> str:
        values = {key: self._value(value) for key, value in line.items() if key != "traceback"}
        if "traceback" in line:
            values["traceback"] = json.dumps(line["traceback"])
        return "{" + ", ".join(f"{json.dumps(key)}: {value}" for key, value in values.items()) + "}"

    def _value(self, value: Any) -> str:
        """Cut only after the secrets are out, so that none is cut in two."""
        clean = self._clean(value)
        if isinstance(clean, str):
            return json.dumps(clean[:LONGEST])
        text = json.dumps(clean)
        return text if len(text) <= LONGEST else json.dumps(text[:LONGEST])


class Readable(_Formatter):
    """One line for a person, with a traceback below it where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{key}={self._clean(value)}" for key, value in fields_of(record).items())
        text = f"{self._hide(self._said(record))} {fields}".rstrip()[:LONGEST]
        head = f"{self._now():%Y-%m-%d %H:%M:%S} {record.levelname:<7} {text}"
        below = self._traceback(record).splitlines()
        return "\n".join(line.translate(_ESCAPED) for line in [head, *below])
