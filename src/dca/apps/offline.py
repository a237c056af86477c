"""A world with a paper exchange of its own, on one scaled clock: no keys, no network."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import requests

import dca
from dca.adapters.clock import SystemClock
from dca.apps.world import SOURCE, World
from dca.domain.errors import DcaError, Unavailable

SAMPLE = Path(dca.__file__).parent / "data" / "btcusd-1m-2023-03.csv.gz"
KEY, SECRET = "PAPER", "paper-secret"
CONTROL_TIMEOUT_S = 10.0


@dataclass(kw_only=True)
class Offline(World):
    """Everything that trades, offline.

    `speed` is simulated seconds for a real one; the replay begins `lead_s` real seconds after the
    exchange was started. `extra` settings go to every process but the exchange.
    """

    start: datetime
    end: datetime
    speed: float
    database_url: str | None = None
    replay: Path | None = SAMPLE
    cash: Decimal = Decimal(10_000)
    seed: int = 1
    lead_s: float = 6.0
    extra: dict[str, str] = field(default_factory=dict)

    def _begin(self) -> None:
        self._base = self._clock_environment(SystemClock().now() + timedelta(seconds=self.lead_s))
        self.port = self._start_exchange()
        self.environment = self._environment_of_the_bot()
        super()._begin()

    def _clock_environment(self, wall_origin: datetime) -> dict[str, str]:
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
                command, env=self._base, stdout=subprocess.PIPE, stderr=log, cwd=self.folder
            )
        self._processes.append(process)
        self._exchange = process
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise DcaError(f"the paper exchange did not start; see {self.folder / 'exchange.log'}")
        return int(json.loads(line)["port"])

    def _environment_of_the_bot(self) -> dict[str, str]:
        """A scaled clock scales how long the network seems to take, hence the age of a quote."""
        quote_age_s = 60 if self.speed == 1 else max(60.0, 5 * self.speed)
        host = f"127.0.0.1:{self.port}"
        default = f"sqlite:///{self.folder / 'dca.sqlite3'}"
        return {
            **self._base,
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
            # The exchange has no limit unless told, and a fast clock asks more in a real minute.
            "REQUESTS_PER_MINUTE": "6000",
            "BREAKER_PAUSE_S": "1",
            **self.extra,
        }

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
