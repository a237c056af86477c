"""Files that several processes write line by line, and that are put away while they do.

A file is put away by renaming it; every writer finds out before its next line and goes on in the new
one. Each holds a shared lock on what it has open, so that a file is compressed only when nobody can
write to it any more.
"""

import contextlib
import fcntl
import gzip
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path

MAX_BYTES = 10_000_000
MOST_FILES = 30
"""A log that nobody looks after stays below MAX_BYTES * MOST_FILES."""

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_MAKING = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
_STAMP = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"(?P<log>\w+)(\.(?P<stamp>\d{8}T\d{6}Z)(-(?P<again>\d+))?)?\.log(?P<gz>\.gz)?")
_TRIES = 1_000
_STDERR = 2


@dataclass(frozen=True, slots=True)
class Found:
    """A file of the log `log`: still written to while `ended_at` is None, else put away then."""

    name: str
    log: str
    size: int
    ended_at: datetime | None
    compressed: bool


def found(folder: Path) -> list[Found]:
    """The files of all logs in `folder`, the oldest of each log first, the one in use last."""
    files = []
    for path in folder.iterdir() if folder.is_dir() else ():
        match = _NAME.fullmatch(path.name)
        there = _stat(path) if match else None
        if match is None or there is None or not stat.S_ISREG(there.st_mode):
            continue
        stamp = match["stamp"]
        ended = None if stamp is None else datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
        one = Found(path.name, match["log"], there.st_size, ended, match["gz"] is not None)
        files.append(((one.log, ended is None, stamp or "", int(match["again"] or 0)), one))
    return [one for _, one in sorted(files, key=itemgetter(0))]


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None


class LineFile:
    """A log that is open for writing, until it is put away: then the one that took its place."""

    def __init__(self, path: Path, now: Callable[[], datetime], *, max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._now = now
        self._max_bytes = max_bytes
        self._handle: int | None = None
        self._torn = False

    def write(self, line: bytes) -> None:
        """`line` stands whole in the file. Raises OSError when it may not."""
        handle = self._current()
        data = b"\n" + line if self._torn else line
        self._torn = True
        self._torn = os.write(handle, data) != len(data)
        if self._torn:
            raise OSError(f"only a part of a line fitted into {self._path}")

    def close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _current(self) -> int:
        """The file that stands under our name, put away first when it has grown too large."""
        there = _stat(self._path)
        if there is not None and there.st_size > self._max_bytes:
            with contextlib.suppress(OSError):
                rotate(self._path, self._now(), above=self._max_bytes)
            there = None
        if self._handle is None or there is None or not os.path.samestat(os.fstat(self._handle), there):
            self.close()
            self._handle = self._opened()
        return self._handle

    def _opened(self) -> int:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        for _ in range(_TRIES):
            handle = _open(self._path)
            if self._shared(handle):
                return handle
            os.close(handle)
        return _open(self._path)

    def _shared(self, handle: int) -> bool:
        """The lock is ours, and on the file that bears the name; False: open it again."""
        try:
            if _locked(handle, fcntl.LOCK_EX):
                # Nobody else writes: a line that somebody died over is ended here.
                size = os.fstat(handle).st_size
                self._torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return os.path.samestat(os.fstat(handle), self._path.stat(follow_symlinks=False))
        except (BlockingIOError, FileNotFoundError):
            return False


def _open(path: Path) -> int:
    """Never in the place of a closed stderr, or what is meant for that would go into the log."""
    handle = os.open(path, _FLAGS, 0o600)
    if handle > _STDERR:
        return handle
    try:
        return fcntl.fcntl(handle, fcntl.F_DUPFD_CLOEXEC, _STDERR + 1)
    finally:
        os.close(handle)


def rotate(path: Path, at: datetime, *, above: int = 0) -> str | None:
    """What was written is put away, under the name returned, and writers go on in a new file.

    None when the file is not larger than `above`, or somebody else is putting it away.
    """
    with _folder_locked(path.parent) as ours:
        if not ours or not path.exists() or path.stat().st_size <= above:
            return None
        kept = _free(path, at)
        path.rename(kept)
        _drop_excess(path)
        return kept.name


def compress(path: Path) -> bool:
    """A file that was put away is compressed. False while a process may still write to it."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with os.fdopen(handle, "rb") as plain:
        if not _locked(handle, fcntl.LOCK_EX):
            return False
        kept = path.with_name(f"{path.name}.gz")
        # The lock makes the name ours alone; what a killed process left there is overwritten.
        making = path.with_name(f"{path.name}.gz.tmp")
        with os.fdopen(os.open(making, _MAKING, 0o600), "wb") as raw:
            with gzip.GzipFile(fileobj=raw, filename="", mode="wb") as packed:
                shutil.copyfileobj(plain, packed, 1 << 20)
            raw.flush()
            os.fsync(raw.fileno())
        making.replace(kept)
        _sync(path.parent)
        path.unlink()
    return True


def _locked(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _folder_locked(folder: Path) -> Iterator[bool]:
    """Whether files of the folder may be renamed: by one process at a time."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield _locked(handle, fcntl.LOCK_EX)
    finally:
        os.close(handle)


def _free(path: Path, at: datetime) -> Path:
    """A name that nobody has, and that no compressed file had either."""
    stamp = f"{at.astimezone(UTC):{_STAMP}}"
    for number in range(1, _TRIES):
        more = f"-{number:03}" if number > 1 else ""
        name = path.with_name(f"{path.stem}.{stamp}{more}.log")
        if not name.exists() and not name.with_name(f"{name.name}.gz").exists():
            return name
    raise OSError(f"{path} was put away too often at {stamp}")


def _drop_excess(path: Path) -> None:
    kept = [one for one in found(path.parent) if one.log == path.stem and one.ended_at is not None]
    for one in kept[:-MOST_FILES]:
        path.with_name(one.name).unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
