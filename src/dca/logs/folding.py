"""Lines that say the same again and again, folded into few."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from dca.logs.lines import fields_of

WINDOW_S = 10.0
MOST = 10
"""So many equal lines are written in one window; of the rest only the last, with their number."""


@dataclass(slots=True)
class _Window:
    begun: float
    seen: int = 0
    last: logging.LogRecord | None = None

    def over(self, at: float) -> bool:
        return not 0 <= at - self.begun < WINDOW_S


class Folding(logging.Handler):
    """Hands every record on to `handlers`, but of equal ones at most `MOST` in a window.

    What was kept back is handed on when the window is over and anything is logged, or at the end: the
    last of them, with the field `repeated`, which says how many it stands for.
    """

    def __init__(self, handlers: Iterable[logging.Handler]) -> None:
        super().__init__()
        self._handlers = tuple(handlers)
        self._windows: dict[str, _Window] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self._end(record.created)
        window = self._windows.setdefault(_said(record), _Window(record.created))
        window.seen += 1
        if window.seen <= MOST:
            self._hand_on(record)
        else:
            window.last = record

    def _end(self, at: float | None) -> None:
        """Windows that are over `at` this time are gone, the oldest first; None: all."""
        while self._windows:
            said, window = next(iter(self._windows.items()))
            if at is not None and not window.over(at):
                return
            del self._windows[said]
            if window.last is not None:
                window.last.repeated = window.seen - MOST
                self._hand_on(window.last)

    def _hand_on(self, record: logging.LogRecord) -> None:
        for handler in self._handlers:
            if record.levelno >= handler.level:
                handler.handle(record)

    def close(self) -> None:
        self._end(None)
        for handler in self._handlers:
            handler.close()
        super().close()


def _said(record: logging.LogRecord) -> str:
    error = record.exc_info[1] if record.exc_info else None
    head = (record.name, record.levelno, record.msg)
    try:
        return repr((*head, record.args, fields_of(record), error))
    except (TypeError, ValueError, RecursionError):
        return repr(head)
