"""The caretakers as cron would run them, only denser: one process after the other, in a thread."""

import json
import threading
from collections import Counter
from collections.abc import Callable
from types import TracebackType

from dca.apps.world import World
from dca.domain.errors import DcaError

ROUND = (
    "order_manager",
    "watchdog",
    "cooldown_manager",
    "consistency_checker",
    "asset_caretaker",
    "notifier",
)


class Rounds:
    """Runs while inside, and a last round on leaving. `between` is called before each process.

    `passes` and `repairs` count by caretaker. What ended the thread is raised on leaving.
    """

    def __init__(self, world: World, between: Callable[[], None]) -> None:
        self._world = world
        self._between = between
        self._over = threading.Event()
        self._error: DcaError | None = None
        self._thread = threading.Thread(target=self._run, name="rounds")
        self.passes: Counter[str] = Counter()
        self.repairs: Counter[str] = Counter()

    def __enter__(self) -> "Rounds":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if error is not None:
            return
        if self._error is not None:
            raise self._error
        self._round()

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                self._round()
        except DcaError as error:
            self._error = error

    def _round(self) -> None:
        for name in ROUND:
            self._between()
            self.once(name)

    def once(self, name: str) -> list[str]:
        """One pass was made; what it repaired, in words. Raises DcaError when it could not run."""
        ended = self._world.script(name, "--json")
        if ended.returncode not in (0, 75):
            raise DcaError(f"{name} ended with exit code {ended.returncode}: {ended.stderr.strip()}")
        if not ended.stdout.strip():
            return []
        report = json.loads(ended.stdout)
        self.passes[name] += 1
        self.repairs[name] += report["mended"]
        return [f"{one['kind']} {one['subject']}" for one in report["repairs"]]
