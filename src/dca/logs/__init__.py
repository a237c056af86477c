"""Logging: JSON lines in a file that several processes share, a readable form on the terminal, no
secret in either."""

import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from types import TracebackType

from dca.logs.files import LineFile
from dca.logs.folding import Folding
from dca.logs.hiding import Hiding
from dca.logs.lines import Lines, Readable

OURS = ("dca", "main_app")
"""The loggers whose level can be set. Everybody else's says what it must and no more: some libraries
print whole addresses, with their tokens, for the curious."""


def set_up(
    name: str,
    run_dir: Path,
    level: str,
    *,
    file: str | None = None,
    secrets: Iterable[str] = (),
    now: Callable[[], datetime],
    terminal: bool = True,
) -> None:
    """Everything logged from now on goes to `run_dir/FILE.log` (None: `name`), and to stderr.

    Without `terminal`, stderr gets only warnings unless it is one. `secrets` never appear in either.
    `now` gives the stamp, so that logs follow the trading clock. Equal lines are folded. What ends
    the process unforeseen is logged too.
    """
    hide = Hiding(secrets)
    handlers = [_file(name, run_dir / f"{file or name}.log", now, hide), _stderr(now, hide)]
    if not terminal and not (sys.stderr and sys.stderr.isatty()):
        handlers[1].setLevel(logging.WARNING)
    logging.basicConfig(level=logging.WARNING, handlers=[Folding(handlers)], force=True)
    for logger in OURS:
        logging.getLogger(logger).setLevel(level)
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _crashed
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _thread_crashed


def _file(name: str, path: Path, now: Callable[[], datetime], hide: Hiding) -> logging.Handler:
    handler = FileHandler(LineFile(path, now), path)
    handler.setFormatter(Lines(name, now, hide))
    return handler


def _stderr(now: Callable[[], datetime], hide: Hiding) -> logging.Handler:
    handler = _Stderr()
    handler.setFormatter(Readable(now, hide))
    return handler


class FileHandler(logging.Handler):
    """Writes each record as one line. A disk that is full does not stop the program: it is said once."""

    def __init__(self, file: LineFile, path: Path) -> None:
        super().__init__()
        self._file = file
        self._path = path
        self.lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._file.write(self._line(record))
            if self.lost:
                lost, self.lost = self.lost, 0
                self._file.write(self._line(_record("log_lines_lost", lines=lost)))
        except OSError as error:
            if not self.lost:
                _tell(f"{self._path} cannot be written ({error.strerror or error}); the program goes on")
            self.lost += 1

    def _line(self, record: logging.LogRecord) -> bytes:
        return self.format(record).encode("ascii", "backslashreplace") + b"\n"

    def close(self) -> None:
        self._file.close()
        super().close()


class _Stderr(logging.StreamHandler):  # type: ignore[type-arg]
    """The terminal, which may be gone."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Nothing: the standard handler would print the record as it is, secrets and all."""


def _tell(text: str) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"logs: {text}\n")


def _record(event: str, **fields: object) -> logging.LogRecord:
    return logging.makeLogRecord(
        {"name": "dca.logs", "levelname": "WARNING", "levelno": logging.WARNING, "msg": event, **fields}
    )


def _crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        logging.getLogger("dca").critical("crashed", exc_info=(kind, error, trace))


def _thread_crashed(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None:
        logging.getLogger("dca").critical(
            "thread_crashed", exc_info=(args.exc_type, args.exc_value, args.exc_traceback)
        )
