"""The user's crontab, through the program of that name: the one interface every cron has."""

import re
import shutil
import subprocess

from dca.domain.errors import ConfigError

PROGRAM = "crontab"
TIMEOUT_S = 20.0
NONE_YET = re.compile(r"no crontab for|can't open .*: No such file or directory")
"""What the programs say of a user who has no crontab: Debian's and cronie's, busybox's."""


def read() -> bytes | None:
    """What the crontab holds, byte for byte; None when there is none. Raises ConfigError."""
    ended = _run(["-l"], None)
    if ended.returncode == 0:
        return ended.stdout
    said = ended.stderr.decode(errors="replace").strip()
    if NONE_YET.search(said):
        return None
    raise ConfigError(f"crontab -l failed ({said or ended.returncode}); nothing was changed")


def write(content: bytes) -> None:
    """The crontab holds `content`; without any there is none. Raises ConfigError."""
    ended = _run(["-"], content) if content else _run(["-r"], None)
    if ended.returncode != 0:
        said = ended.stderr.decode(errors="replace").strip()
        raise ConfigError(f"crontab refused the lines ({said or ended.returncode}); nothing was changed")


def _run(options: list[str], content: bytes | None) -> "subprocess.CompletedProcess[bytes]":
    if shutil.which(PROGRAM) is None:
        raise ConfigError("there is no crontab program here: install cron, or use the units in systemd/")
    try:
        return subprocess.run(  # noqa: S603
            ["env", "LC_ALL=C", PROGRAM, *options],  # noqa: S607
            input=content,
            stdin=subprocess.DEVNULL if content is None else None,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigError("crontab does not answer; nothing was changed") from error
