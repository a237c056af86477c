"""The server's own programs: one writes a database as SQL, the other reads it."""

import os
import select
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

from sqlalchemy import URL

from dca.adapters.db import mysql
from dca.domain.errors import ConfigError, Unmended

DUMPERS = ("mariadb-dump", "mysqldump")
CLIENTS = ("mariadb", "mysql")
INSTALL = "install the client programs of the server, such as: apt-get install mariadb-client"
SILENCE_S = 120
"""A server that sends nothing for so long is given up."""
END = b"-- Dump completed"
"""What a dump ends with, if nothing was in its way."""

_CHUNK = 1 << 18
_TAIL = 256
_OPTIONS = (
    # One view of all tables, and nobody has to wait for it.
    "--single-transaction",
    "--skip-lock-tables",
    "--skip-add-locks",
    "--skip-triggers",
    "--hex-blob",
    "--no-tablespaces",
    "--default-character-set=utf8mb4",
)
# Oracle's program asks MariaDB for tables that it does not have; MariaDB's does not know the option.
_SECTION = "[mysqldump]\nloose-column-statistics=0\nloose-set-gtid-purged=OFF\n"
_NAMES = {"unix_socket": "socket", "ssl_ca": "ssl-ca", "ssl_cert": "ssl-cert", "ssl_key": "ssl-key"}
_SWITCHES = {"ssl_disabled": "skip-ssl", "ssl_verify_cert": "loose-ssl-verify-server-cert"}


def program(names: tuple[str, ...]) -> str:
    """Where the first of `names` is that is installed. Raises ConfigError."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise ConfigError(f"neither {' nor '.join(names)} is installed: {INSTALL}")
    return found


class Sink(Protocol):
    """What can be written to."""

    def write(self, data: bytes, /) -> object: ...


class Source(Protocol):
    """What can be read from."""

    def read(self, size: int, /) -> bytes: ...


def dump(url: URL, into: Sink) -> None:
    """The whole database stands in `into`. Raises Unmended, ConfigError."""
    name = program(DUMPERS)
    with _options(url) as file, tempfile.TemporaryFile() as said:
        command = [name, f"--defaults-file={file}", *_OPTIONS, str(url.database)]
        with subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said
        ) as process:
            try:
                tail = _copied(process, into)
            finally:
                process.kill()
        if process.returncode != 0 or END not in tail:
            raise Unmended(f"{Path(name).name} did not finish: {_last_line(said)}")


def _copied(process: subprocess.Popen[bytes], into: Sink) -> bytes:
    """What `process` writes is in `into`, and it has ended; the last bytes."""
    assert process.stdout is not None
    source, tail = process.stdout.fileno(), b""
    while select.select([source], [], [], SILENCE_S)[0]:
        chunk = os.read(source, _CHUNK)
        if not chunk:
            process.wait()
            return tail
        into.write(chunk)
        tail = (tail + chunk)[-_TAIL:]
    raise Unmended(f"the server has sent nothing for {SILENCE_S} s")


def load(url: URL, source: Source) -> None:
    """The statements of `source` were carried out in the database of `url`. Raises Unmended, ConfigError."""
    name = program(CLIENTS)
    with _options(url) as file, tempfile.TemporaryFile() as said:
        command = [name, f"--defaults-file={file}", "--batch", "--binary-mode"]
        command += ["--default-character-set=utf8mb4", str(url.database)]
        with subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said
        ) as process:
            assert process.stdin is not None
            try:
                while chunk := source.read(_CHUNK):
                    process.stdin.write(chunk)
                process.stdin.close()
            except BrokenPipeError:
                # It stopped reading, and says why.
                pass
            except BaseException:
                process.kill()
                raise
        if process.returncode != 0:
            raise Unmended(f"{Path(name).name}: {_last_line(said)}")


@contextmanager
def _options(url: URL) -> Iterator[str]:
    """A file that says how to reach the server and that only we may read, gone afterwards.

    On the command line everybody would see the password.
    """
    lines = {"host": url.host or mysql.HOST, "port": url.port or mysql.PORT, "user": url.username}
    lines |= {"password": url.password or ""}
    lines |= {_NAMES[name]: value for name, value in url.query.items() if name in _NAMES}
    if "socket" not in lines:
        lines["protocol"] = "tcp"
    text = "[client]\n" + "".join(f"{name}={_quoted(str(value))}\n" for name, value in lines.items())
    text += "".join(f"{_SWITCHES[name]}\n" for name, value in url.query.items() if _on(name, value))
    with tempfile.NamedTemporaryFile("w", prefix="dca-", suffix=".cnf", encoding="utf-8") as file:
        file.write(text + _SECTION)
        file.flush()
        yield file.name


def _on(name: str, value: object) -> bool:
    return name in _SWITCHES and value == "true"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _last_line(said: IO[bytes]) -> str:
    said.seek(0)
    lines = said.read(1 << 16).decode(errors="replace").splitlines()
    return lines[-1] if lines else "it did not say why"
