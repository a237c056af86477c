"""This process and its neighbours: identity that a reused process id cannot fake, and the pid file."""

import fcntl
import json
import os
import platform
import resource
import threading
from dataclasses import dataclass
from pathlib import Path

import psutil

from dca.adapters.clock import SystemClock
from dca.domain.errors import DcaError
from dca.ports import Process

TRIES = 7
PAUSE_S = 0.05
"""Whoever only looks at the lock holds it for a moment, so it is asked for more than once."""
LONGEST = 65_536
_STATE, _STARTED = 0, 19
"""Places in /proc/PID/stat after the process's name, which may contain anything."""


class AlreadyRunning(DcaError):
    """Another instance on this machine holds the pid file."""


def keep_private() -> None:
    """From now on only the user of this process may read what it writes; it leaves no core dump."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def root_complaint() -> str | None:
    """What to do when this process may do everything on its machine; None when it may not."""
    if os.geteuid() != 0:
        return None
    return "runs as root, which it never needs: give it a user of its own (docs/operations.md, Users)"


def identity() -> str:
    """Host, process id and process start: names one process for ever."""
    found = identity_of(os.getpid())
    assert found is not None
    return found


def identity_of(pid: int) -> str | None:
    """The same of another process of this machine; None when it is dead, even if nobody buried it."""
    started = _started(pid)
    return None if started is None else f"{platform.node()}/{pid}/{started}"


def may_be_alive(holder: str) -> bool:
    """False only when `holder` was a process of this machine that is gone.

    A process of another machine cannot be seen from here, so it may be alive.
    """
    host, _, pid = holder.rpartition("/")[0].rpartition("/")
    if host != platform.node():
        return True
    return pid.isdecimal() and identity_of(int(pid)) == holder


def boot() -> str:
    """Names the time since this machine was started: counts of seconds from before mean nothing."""
    if psutil.LINUX:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{psutil.boot_time():.0f}"


def age_s(pid: int) -> float:
    """Real seconds since a process started; 0 when there is none."""
    try:
        if psutil.LINUX:
            stat = _stat(pid)
            uptime = float(Path("/proc/uptime").read_text().split()[0])
            return 0.0 if stat is None else uptime - int(stat[_STARTED]) / os.sysconf("SC_CLK_TCK")
        return SystemClock().now().timestamp() - psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return 0.0


def _started(pid: int) -> str | None:
    """The start in clock ticks of this boot where there are any: nobody can set those, unlike the
    time of day that psutil shows, which moves with the clock."""
    try:
        if psutil.LINUX:
            stat = _stat(pid)
            return None if stat is None else f"{boot()[:8]}.{stat[_STARTED]}"
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return None


def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[_STATE] in "ZX" else fields


def command_of(pid: int) -> list[str]:
    """The command line of a process; empty when there is none, or it is not ours to see."""
    try:
        return psutil.Process(pid).cmdline()
    except psutil.Error:
        return []


@dataclass(frozen=True, slots=True)
class Owner:
    """What a process writes into its pid file: enough to know it again."""

    pid: int
    identity: str
    command: list[str]

    def process(self) -> Process | None:
        """The process, if it is still that one: a reused process id has another start or command."""
        if identity_of(self.pid) != self.identity or command_of(self.pid) != self.command:
            return None
        return Process(self.pid, self.identity, age_s(self.pid))


class PidFile:
    """A locked file that names a process; the lock dies with the process, whatever kills it.

    The first line is the process id, the second the identity, the third the command line as JSON.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None

    def take(self) -> None:
        """The file is locked and names this process. Raises AlreadyRunning."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        pause = threading.Event()
        for _ in range(TRIES):
            handle = self._locked()
            if handle is not None:
                break
            pause.wait(PAUSE_S)
        else:
            owner = self._text().partition("\n")[0].strip()
            raise AlreadyRunning(f"process {owner or '?'} is running already ({self._path})")
        lines = f"{os.getpid()}\n{identity()}\n{json.dumps(command_of(os.getpid()))}\n"
        os.ftruncate(handle, 0)
        os.pwrite(handle, lines.encode(), 0)
        self._handle = handle

    def _locked(self) -> int | None:
        """The file, open and locked; None when somebody else has it, or it was just taken away."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(self._path, flags, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        if not self._is(handle):
            # Its owner took it away between our opening and locking it: a lock on nothing.
            os.close(handle)
            return None
        return handle

    def _is(self, handle: int) -> bool:
        try:
            return os.path.samestat(os.fstat(handle), self._path.stat(follow_symlinks=False))
        except FileNotFoundError:
            return False

    def _text(self) -> str:
        try:
            with self._path.open(errors="replace") as file:
                return file.read(LONGEST)
        except OSError:
            return ""

    def drop(self) -> None:
        """The file is gone and the lock free."""
        if self._handle is not None:
            if self._is(self._handle):
                self._path.unlink(missing_ok=True)
            os.close(self._handle)
            self._handle = None

    def held(self) -> bool:
        """Whether a process that lives holds the lock, whatever the file says."""
        try:
            handle = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False

    def owner(self) -> Owner | None:
        """Whom the file names, dead or alive; None when it cannot be read."""
        lines = self._text().splitlines()
        try:
            pid, name, command = lines[:3]
            return Owner(int(pid), name, [str(word) for word in json.loads(command)])
        except (ValueError, TypeError):
            return None
