"""Streamer, scripts and commands as processes of their own, in one folder, with one environment.

The demo, the integration test and the tests that kill processes all stand on this.
"""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from types import TracebackType

import dca
from dca import settings as env
from dca import wiring
from dca.adapters.db.migrate import upgrade
from dca.adapters.process import AlreadyRunning, PidFile
from dca.domain.asset import Rules
from dca.domain.errors import DcaError
from dca.ports import Clock, Store
from dca.service import assets

SOURCE = Path(dca.__file__).parents[1]
SCRIPTS = SOURCE.parent / "scripts"
STOP_WITHIN_S = 6.0
SCRIPT_WITHIN_S = 60.0


@dataclass(kw_only=True)
class World:
    """Everything that trades. Leaving it stops every process it started.

    `environment` is all that its processes get. `clock` is the one they follow.
    """

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> "World":
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._processes: list[subprocess.Popen[bytes]] = []
        self.streamer: subprocess.Popen[bytes] | None = None
        try:
            self._begin()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.store.close()

    def _begin(self) -> None:
        """The database is there, and everything that reads it is open."""
        self.settings = env.load(self.environment, env_file=Path(os.devnull))
        upgrade(self.settings.database_url)
        self.store: Store = wiring.store(self.settings)
        self.broker = wiring.broker(self.settings)
        self.clock: Clock = wiring.clock(self.settings)

    def add_asset(self, symbol: str, rules: Rules) -> None:
        """The asset is stored, with its first cycle."""
        assets.add(self.store, self.clock, symbol, rules)

    def start_streamer(self, **extra: str) -> None:
        """`main_app.py` runs as its own process; what it prints goes to a file in the folder."""
        with (self.folder / "main_app.out").open("ab") as out:
            self.streamer = subprocess.Popen(  # noqa: S603
                [sys.executable, str(SOURCE / "main_app.py")],
                env={**self.environment, **extra},
                stdout=out,
                stderr=out,
                cwd=self.folder,
            )
        self._processes.append(self.streamer)

    def stop_streamer(self) -> int:
        """The streamer was told to stop; its exit code. Raises DcaError when it does not in time."""
        assert self.streamer is not None
        self.streamer.send_signal(signal.SIGTERM)
        try:
            return self.streamer.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired as error:
            raise DcaError("the streamer did not stop in time") from error

    def kill_streamer(self) -> None:
        """The streamer is dead, as after a power cut."""
        assert self.streamer is not None
        self.streamer.kill()
        self.streamer.wait()

    def script(self, name: str, *options: str, **extra: str) -> subprocess.CompletedProcess[str]:
        """What one run of a script printed, and its exit code, as cron would have run it."""
        return self._run([str(SCRIPTS / f"{name}.py"), *options], extra)

    def dca(self, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        """The same of an operator's command."""
        return self._run(["-m", "dca.apps.cli", *arguments], extra)

    def _run(self, arguments: list[str], extra: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603
            [sys.executable, *arguments],
            env={**self.environment, **extra},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SCRIPT_WITHIN_S,
            cwd=self.folder,
            check=False,
        )

    def owned(self) -> Decimal:
        """Coins that the unfinished cycles own."""
        records = self.store.read(lambda tx: tx.open_records())
        return sum((record.cycle.quantity for record in records), Decimal(0))

    def stop(self) -> None:
        """No process of this world runs any more."""
        for process in reversed(self._processes):
            if process.poll() is None:
                process.terminate()
        for process in self._processes:
            try:
                process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._stop_detached()

    def _stop_detached(self) -> None:
        """A streamer that the watchdog started is not our child."""
        pid_file = PidFile(self.folder / "main_app.pid")
        try:
            pid_file.take()
        except AlreadyRunning:
            self.dca("stop")
        else:
            pid_file.drop()
