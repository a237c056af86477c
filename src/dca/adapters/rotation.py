"""The log files of a folder, put away and deleted."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from dca.domain.errors import DcaError, Unavailable, Unmended
from dca.logs import files
from dca.ports import LogFile


class LogFolder:
    """dca.ports.LogFiles."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def found(self) -> list[LogFile]:
        with self._on_disk(Unavailable):
            return [
                LogFile(one.name, one.log, one.size, one.ended_at, one.compressed)
                for one in files.found(self._folder)
            ]

    def rotate(self, name: str, at: datetime) -> bool:
        with self._on_disk():
            return files.rotate(self._folder / name, at) is not None

    def compress(self, name: str) -> bool:
        with self._on_disk():
            return files.compress(self._folder / name)

    def delete(self, name: str) -> None:
        with self._on_disk():
            (self._folder / name).unlink(missing_ok=True)

    @contextmanager
    def _on_disk(self, kind: type[DcaError] = Unmended) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise kind(f"{self._folder}: {error.strerror or error}") from error
