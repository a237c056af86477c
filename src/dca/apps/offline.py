"""The paper exchange and the streamer as processes of their own, in one folder, on one scaled clock.

The demo, the integration test and the tests that kill the streamer all stand on this.
"""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any

import requests

import dca
from dca import settings as env
from dca import wiring
from dca.adapters.clock import ScaledClock, SystemClock
from dca.adapters.db.migrate import upgrade
from dca.domain.asset import Rules
from dca.domain.errors import DcaError, Unavailable
from dca.ports import Store
from dca.service import assets

SOURCE = Path(dca.__file__).parents[1]
SAMPLE = Path(dca.__file__).parent / "data" / "btcusd-1m-2023-03.csv.gz"
KEY, SECRET = "PAPER", "paper-secret"
CONTROL_TIMEOUT_S = 10.0
STOP_WITHIN_S = 6.0


@dataclass(kw_only=True)
class Offline:
    """Everything that trades, offline. Leaving it stops every process it started.

    `speed` is simulated seconds for a real one; the replay begins `lead_s` real seconds after the
    exchange was started. `extra` settings go to the streamer.
    """

    folder: Path
    start: datetime
    end: datetime
    speed: float
    database_url: str | None = None
    replay: Path | None = SAMPLE
    cash: Decimal = Decimal(10_000)
    seed: int = 1
    lead_s: float = 6.0
    extra: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> "Offline":
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._processes: list[subprocess.Popen[bytes]] = []
        self.streamer: subprocess.Popen[bytes] | None = None
        wall_origin = SystemClock().now() + timedelta(seconds=self.lead_s)
        self.clock = ScaledClock(wall_origin, self.start, self.speed)
        self._environment = self._base_environment(wall_origin)
        try:
            self.port = self._start_exchange()
            self.environment = self._streamer_environment()
            self.settings = env.load(self.environment, env_file=Path(os.devnull))
            upgrade(self.settings.database_url)
            self.store: Store = wiring.store(self.settings)
            self.broker = wiring.broker(self.settings)
        except BaseException:
            self._stop_all()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.store.close()
        self._stop_all()

    def _base_environment(self, wall_origin: datetime) -> dict[str, str]:
        return {
            "PYTHONPATH": str(SOURCE),
            "DCA_ENV_FILE": os.devnull,
            "CLOCK_SPEED": str(self.speed),
            "CLOCK_WALL_ORIGIN": wall_origin.isoformat(),
            "CLOCK_ORIGIN": self.start.isoformat(),
        }

    def restart_exchange(self) -> None:
        """The exchange was killed and runs again, on the same port and the same state."""
        self._exchange.kill()
        self._exchange.wait()
        self._start_exchange(self.port)

    def _start_exchange(self, port: int = 0) -> int:
        command = [sys.executable, "-m", "dca.apps.cli", "paper", "serve", "--port", str(port)]
        command += ["--cash", str(self.cash), "--seed", str(self.seed)]
        command += ["--state", str(self.folder / "exchange.jsonl")]
        if self.replay is not None:
            command += ["--replay", str(self.replay), "--start", self.start.isoformat()]
            command += ["--end", self.end.isoformat()]
        with (self.folder / "exchange.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603
                command, env=self._environment, stdout=subprocess.PIPE, stderr=log, cwd=self.folder
            )
        self._processes.append(process)
        self._exchange = process
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise DcaError(f"the paper exchange did not start; see {self.folder / 'exchange.log'}")
        return int(json.loads(line)["port"])

    def _streamer_environment(self) -> dict[str, str]:
        """A scaled clock scales how long the network seems to take, hence the age of a quote."""
        quote_age_s = 60 if self.speed == 1 else max(60.0, 5 * self.speed)
        host = f"127.0.0.1:{self.port}"
        default = f"sqlite:///{self.folder / 'dca.sqlite3'}"
        return {
            **self._environment,
            "APCA_API_KEY_ID": KEY,
            "APCA_API_SECRET_KEY": SECRET,
            "APCA_API_BASE_URL": f"http://{host}",
            "APCA_API_DATA_URL": f"http://{host}",
            "APCA_API_STREAM_URL": f"ws://{host}/stream",
            "APCA_API_DATA_STREAM_URL": f"ws://{host}/v1beta3/crypto/us",
            "DATABASE_URL": self.database_url or default,
            "DCA_RUN_DIR": str(self.folder),
            "MAX_QUOTE_AGE_S": str(quote_age_s),
            "RECONCILE_EVERY_S": "2",
            **self.extra,
        }

    def add_asset(self, symbol: str, rules: Rules) -> None:
        """The asset is stored, checked against the exchange's instruments."""
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

    def control(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """What the exchange's control endpoint says. Raises Unavailable."""
        url = f"http://127.0.0.1:{self.port}/control/{path}"
        try:
            if body is None:
                answer = requests.get(url, timeout=CONTROL_TIMEOUT_S)
            else:
                answer = requests.post(url, json=body, timeout=CONTROL_TIMEOUT_S)
            answer.raise_for_status()
            return answer.json()
        except requests.RequestException as error:
            raise Unavailable(f"the paper exchange does not answer: {error}") from error

    def _stop_all(self) -> None:
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
