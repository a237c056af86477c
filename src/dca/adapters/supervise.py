"""The streamer as a process of this machine: whether it lives, started apart, stopped for certain."""

import contextlib
import fcntl
import json
import logging
import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil

from dca.adapters.process import PidFile, boot, identity, identity_of
from dca.domain.errors import ConfigError
from dca.ports import Clock, Launch, Memory, Process, Running

log = logging.getLogger(__name__)
LOOK_S = 0.05
BURIED_S = 5.0
SAID_LINES, SAID_BYTES = 10, 4_000
OUTPUT_BYTES = 1_000_000
BEGUN = "--- started at"
DETACHED = "--detached"
"""Tells the streamer that nobody reads what it prints: it logs to its file alone."""


class LocalSupervisor:
    """dca.ports.Supervisor, with everything it remembers in files of `run_dir`.

    `stop_s` is how long a streamer that was asked to end may take before it is killed, `start_s` how
    long a new one may take to show that it runs. `hide` takes secrets out of what it said.
    """

    def __init__(
        self,
        run_dir: Path,
        program: Path,
        clock: Clock,
        *,
        hide: Callable[[str], str] = str,
        stop_s: float = 10.0,
        start_s: float = 15.0,
    ) -> None:
        self._dir = run_dir
        self._program = program
        self._clock = clock
        self._hide = hide
        self._stop_s = stop_s
        self._start_s = start_s
        self._pid_file = PidFile(pid_path(run_dir))
        self._output = run_dir / "main_app.out"

    @property
    def machine(self) -> str:
        return platform.node()

    @contextmanager
    def alone(self, *, patience_s: float = 0.0) -> Iterator[bool]:
        self._dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with _allowed():
            handle = os.open(self._dir / "watchdog.lock", flags, 0o600)
        try:
            yield self._until(lambda: _locked(handle), patience_s)
        finally:
            os.close(handle)

    def running(self) -> Running:
        with _allowed():
            held = self._pid_file.held()
        if not held:
            return Running(lives=False)
        owner = self._pid_file.owner()
        return Running(lives=True, process=None if owner is None else owner.process())

    def start(self) -> Launch:
        if not self._program.is_file():
            raise ConfigError(f"there is no {self._program}: run this from the project's own folder")
        self._rotate()
        begun = self._clock.monotonic()
        process = self._spawn()
        name = identity_of(process.pid) or f"{platform.node()}/{process.pid}/ended"
        self._until(lambda: process.poll() is not None or self._holds(name), self._start_s)
        code = process.poll()
        if code is not None:
            return Launch(name, begun, self._clock.monotonic() - begun, code)
        # It outlives us on purpose; without this Python complains that nobody waited for it.
        process.returncode = 0
        return Launch(name, begun)

    def _spawn(self) -> "subprocess.Popen[bytes]":
        """In a session of its own, with a file for what it prints: a pipe would die with us."""
        with open(self._output, "ab", buffering=0, opener=_private) as output:
            with contextlib.suppress(OSError):
                output.write(f"{BEGUN} {self._clock.now().isoformat()}\n".encode())
            return subprocess.Popen(  # noqa: S603
                [sys.executable, str(self._program), DETACHED],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _holds(self, name: str) -> bool:
        process = self.running().process
        return process is not None and process.identity == name

    def stop(self, process: Process) -> str:
        with _allowed():
            _send(process, signal.SIGTERM)
            if self._until(lambda: _gone(process), self._stop_s):
                return "it ended when asked to"
            _send(process, signal.SIGKILL)
        if not self._until(lambda: _gone(process), BURIED_S):
            raise ConfigError(f"process {process.pid} cannot be killed; only starting the machine anew helps")
        return f"it was killed, because it did not end within {self._stop_s:.0f} s"

    def memory(self) -> Memory:
        kept = _read(self._dir / "watchdog.json")
        if kept.get("boot") != boot():
            return Memory()
        try:
            launches = [Launch(**one) for one in kept["launches"]]
            told = {str(key): float(at) for key, at in kept["told"].items()}
        except (KeyError, TypeError, ValueError, AttributeError):
            return Memory()
        return Memory((*launches[:-1], *map(self._ended, launches[-1:])), told)

    def _ended(self, launch: Launch) -> Launch:
        note = _read(self._dir / "main_app.exit")
        if launch.lived_s is not None or note.get("identity") != launch.identity:
            return launch
        return replace(launch, lived_s=max(0.0, float(note["at"]) - launch.at), code=int(note["code"]))

    def remember(self, memory: Memory) -> None:
        launches = [asdict(launch) for launch in memory.launches]
        kept = {"boot": boot(), "launches": launches, "told": dict(memory.told)}
        try:
            _write(self._dir / "watchdog.json", json.dumps(kept))
        except OSError as error:
            log.warning("watchdog_forgets", extra={"error": str(error)})

    def maintenance(self) -> str | None:
        """A file that may as well be made and removed by hand; what it holds is the reason."""
        try:
            return (self._dir / "MAINTENANCE").read_text(errors="replace").strip() or "no reason given"
        except FileNotFoundError:
            return None

    def set_maintenance(self, reason: str | None) -> None:
        path = self._dir / "MAINTENANCE"
        with _allowed():
            if reason is None:
                path.unlink(missing_ok=True)
            else:
                _write(path, f"{reason}\n")

    def said(self) -> str:
        try:
            with self._output.open("rb") as file:
                skipped = file.seek(max(0, file.seek(0, os.SEEK_END) - SAID_BYTES))
                text = file.read().decode(errors="replace")
        except OSError:
            return ""
        if skipped:
            # The first line may be half a line, with half a secret in it.
            text = text.partition("\n")[2]
        _, begun, newest = text.rpartition(BEGUN)
        lines = self._hide(newest).strip().splitlines()[1 if begun else 0 :]
        return "\n".join(lines[-SAID_LINES:])

    def _rotate(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self._output.stat().st_size > OUTPUT_BYTES:
                self._output.replace(self._output.with_suffix(".out.1"))

    def _until(self, holds: Callable[[], bool], patience_s: float) -> bool:
        """Whether `holds` became true in time."""
        pause = threading.Event()
        limit = self._clock.monotonic() + patience_s
        while not holds():
            if self._clock.monotonic() >= limit:
                return False
            pause.wait(LOOK_S)
        return True


@contextmanager
def _allowed() -> Iterator[None]:
    """What the system refuses is said so that a person can mend it."""
    try:
        yield
    except psutil.AccessDenied as error:
        raise ConfigError(f"process {error.pid} belongs to another user, who must stop it") from error
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}; run this as the user that trades") from error


def pid_path(run_dir: Path) -> Path:
    return run_dir / "main_app.pid"


def note_exit(run_dir: Path, clock: Clock, code: int) -> None:
    """The end of this process is known to whoever wonders why it is gone, if the disk lets us."""
    note = {"identity": identity(), "at": clock.monotonic(), "code": code}
    with contextlib.suppress(OSError):
        _write(run_dir / "main_app.exit", json.dumps(note))


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _gone(process: Process) -> bool:
    return identity_of(process.pid) != process.identity


def _send(process: Process, number: signal.Signals) -> None:
    """The signal was sent to that very process, if it is still there."""
    with contextlib.suppress(psutil.NoSuchProcess):
        found = psutil.Process(process.pid)
        if not _gone(process):
            found.send_signal(number)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _read(path: Path) -> dict[str, Any]:
    """Empty when there is no such file, or not what `_write` wrote."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, text: str) -> None:
    """The file has the new text or what it had, whatever dies meanwhile. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_suffix(f".{os.getpid()}.new")
    with open(fresh, "w", opener=_private) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
