"""This process and its neighbours: identity that a reused process id cannot fake, and the pid file."""

import fcntl
import os
import platform
from pathlib import Path

import psutil

from dca.domain.errors import DcaError


class AlreadyRunning(DcaError):
    """Another instance on this machine holds the pid file."""


def identity() -> str:
    """Host, process id and process start: names one process for ever."""
    return f"{platform.node()}/{os.getpid()}/{psutil.Process().create_time():.2f}"


def may_be_alive(holder: str) -> bool:
    """False only when `holder` was a process of this machine that is gone.

    A process of another machine cannot be seen from here, so it may be alive.
    """
    host, _, rest = holder.rpartition("/")[0].rpartition("/")
    started = holder.rpartition("/")[2]
    if host != platform.node():
        return True
    try:
        return f"{psutil.Process(int(rest)).create_time():.2f}" == started
    except (psutil.NoSuchProcess, ValueError):
        return False


class PidFile:
    """A locked file that holds the process id; the lock dies with the process, whatever kills it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None

    def take(self) -> None:
        """The file is locked and holds this process id. Raises AlreadyRunning."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(self._path, flags, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.read(handle, 32).decode(errors="replace").strip()
            os.close(handle)
            raise AlreadyRunning(f"process {owner or '?'} is running already ({self._path})") from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        self._handle = handle

    def drop(self) -> None:
        """The file is gone and the lock free."""
        if self._handle is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._handle)
            self._handle = None
