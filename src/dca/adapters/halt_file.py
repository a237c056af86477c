"""The halt that needs no database: a file in the run directory."""

import os
from pathlib import Path

NAME = "HALT"


class HaltFile:
    """While the file is there, no process that uses this run directory sends an order.

    It may as well be made and removed by hand. What it holds is the reason.
    """

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / NAME

    def reason(self) -> str | None:
        """Why trading is halted; None when the file is not there. One that cannot be read halts."""
        try:
            text = self.path.read_text(errors="replace").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            return f"{self.path} cannot be read: {error.strerror}"
        return f"{text or 'no reason given'} ({self.path})"

    def put(self, reason: str) -> None:
        """The file is there, whole, also after a power cut. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(self.path, flags, 0o600)
        try:
            os.write(handle, f"{reason}\n".encode())
            os.fsync(handle)
        finally:
            os.close(handle)

    def drop(self) -> None:
        """The file is gone. Raises OSError."""
        self.path.unlink(missing_ok=True)
