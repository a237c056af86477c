"""A private MariaDB server that never touches one that is already there.

Needs nothing but the server's core package (mariadbd and its SQL scripts).
"""

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import mysql.connector

from dca.adapters.clock import SystemClock
from dca.domain.errors import ConfigError, DcaError

INSTALL_HINT = "mariadbd is not installed: apt-get install mariadb-server-core"
SCRIPTS = Path("/usr/share/mysql")
USER = "dca"

START_S = 30.0


def mariadbd() -> str | None:
    """Where the server's program is; None when it is not installed."""
    return shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin:/usr/local/sbin")


class Mariadb:
    """A server of our own in `directory`, on a free port of the loopback interface."""

    def __init__(self, directory: Path) -> None:
        program = mariadbd()
        if program is None:
            raise ConfigError(INSTALL_HINT)
        self._program = program
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.password = secrets.token_hex(8)
        self.port = _free_port()
        self.options: list[str] = []

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def url(self, database: str, *, password: str | None = None) -> str:
        return f"mysql://{USER}:{password or self.password}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str | None = None) -> mysql.connector.MySQLConnection:
        """A side connection, in autocommit, that the program under test knows nothing of."""
        return mysql.connector.MySQLConnection(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=self.password,
            database=database,
            autocommit=True,
            collation="utf8mb4_bin",
            connection_timeout=5,
        )

    def run(self, *statements: str, database: str | None = None) -> list[Any]:
        """The rows of the last statement."""
        with closing(self.connect(database)) as connection:
            rows: list[Any] = []
            for statement in statements:
                cursor = connection.cursor()
                cursor.execute(statement)
                rows = cursor.fetchall() if cursor.description else []
                cursor.close()
            return rows

    def create(self) -> None:
        """The data directory is filled."""
        names = ("mysql_system_tables", "mysql_performance_tables", "mysql_system_tables_data")
        script = "CREATE DATABASE IF NOT EXISTS mysql;\nUSE mysql;\n"
        script += "".join((SCRIPTS / f"{name}.sql").read_text() for name in names)
        (self._directory / "data").mkdir()
        with (self._directory / "bootstrap.log").open("wb") as log:
            subprocess.run(  # noqa: S603
                [*self._command(), "--bootstrap"], input=script.encode(), check=True, stdout=log, stderr=log
            )
        (self._directory / "init.sql").write_text(
            f"CREATE USER IF NOT EXISTS '{USER}'@'127.0.0.1' IDENTIFIED BY '{self.password}';\n"
            f"GRANT ALL ON *.* TO '{USER}'@'127.0.0.1' WITH GRANT OPTION;\n"
        )

    def start(self) -> None:
        """The server answers."""
        command = [
            *self._command(),
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            f"--socket={self._directory / 'socket'}",
            f"--pid-file={self._directory / 'pid'}",
            f"--init-file={self._directory / 'init.sql'}",
            "--skip-name-resolve",
            *self.options,
        ]
        # When the tests are killed, the server must not stay behind.
        if setpriv := shutil.which("setpriv"):
            command = [setpriv, "--pdeathsig", "KILL", *command]
        with (self._directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._wait()

    def _command(self) -> list[str]:
        return [
            self._program,
            "--no-defaults",
            f"--datadir={self._directory / 'data'}",
            f"--tmpdir={self._directory}",
            f"--lc-messages-dir={SCRIPTS}",
            f"--user={getpass.getuser()}",
            "--innodb-log-file-size=8M",
            "--innodb-buffer-pool-size=32M",
            "--aria-log-file-size=8M",
            "--key-buffer-size=1M",
            "--performance-schema=OFF",
            "--skip-log-bin",
        ]

    def _wait(self) -> None:
        pause = threading.Event()
        deadline = SystemClock().monotonic() + START_S
        while True:
            assert self._process is not None
            if self._process.poll() is not None:
                raise DcaError(f"mariadbd ended: {(self._directory / 'server.log').read_text()[-2000:]}")
            try:
                self.connect().close()
                return
            except mysql.connector.Error:
                if SystemClock().monotonic() > deadline:
                    raise
                pause.wait(0.02)

    def kill(self) -> None:
        """The server is dead, as after `kill -9`."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=START_S)
            self._process = None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def mariadb_server(*, on_disk: bool = False) -> Iterator[Mariadb]:
    """A running server in a directory of its own, gone afterwards.

    In memory unless `on_disk`: measurements want real flushes, tests do not care.
    """
    memory = Path("/dev/shm")  # noqa: S108
    parent = None if on_disk or not os.access(memory, os.W_OK) else memory
    with tempfile.TemporaryDirectory(prefix="dca-mariadb-", dir=parent) as directory:
        server = Mariadb(Path(directory))
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.stop()
