"""Where a crash is tried out: a database, an exchange and real processes, put back to a known begin."""

import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from dca import settings as env
from dca import wiring
from dca.adapters.clock import SystemClock
from dca.adapters.db.content import Content, Shelf
from dca.adapters.db.migrate import upgrade
from dca.apps.judge import Books
from dca.apps.stage import RULES, SYMBOL
from dca.domain.errors import Unmended
from dca.paper.config import PaperConfig
from dca.paper.serve import Running, running
from dca.ports import Clock, Store
from dca.prove.crash_forks import STREAMER, Child, Forks
from dca.service import assets

CASH = Decimal(10_000)
SPREAD = Decimal(3)
LOOK_S = 0.05
QUICK = {
    "GRACE_S": "0.4",
    "RECONCILE_EVERY_S": "0.4",
    "REQUEST_TIMEOUT_S": "5",
    "MAX_QUOTE_AGE_S": "60",
    "STALE_ORDER_S": "86400",
    "STUCK_SELL_S": "86400",
}
STATE, CROSSED = "exchange.jsonl", "crossed"


@dataclass(frozen=True, slots=True)
class Begin:
    """Where a life begins: what is in the database, and what the exchange knows."""

    content: Content
    exchange: bytes


class Bench:
    """One life after the other in `folder`, on the database of `database_url`, which it empties."""

    def __init__(self, folder: Path, database_url: str, forks: Forks) -> None:
        folder.mkdir(parents=True, mode=0o700)
        self.folder, self.database_url, self.forks = folder, database_url, forks
        upgrade(database_url)
        self.shelf = Shelf(database_url)
        self.clean = self.shelf.taken()

    def close(self) -> None:
        self.shelf.close()

    @contextmanager
    def life(self, begin: Begin | None = None) -> Iterator["Life"]:
        """Everything is as at `begin`; without one, an asset waits for its first order."""
        folder = self.folder / "life"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        self.shelf.put(self.clean if begin is None else begin.content)
        (folder / STATE).write_bytes(b"" if begin is None else begin.exchange)
        clock = SystemClock()
        with running(PaperConfig(cash=CASH, state_file=folder / STATE), clock) as exchange:
            life = Life(self, folder, exchange, clock)
            try:
                if begin is None:
                    assets.add(life.store, clock, SYMBOL, RULES)
                yield life
            finally:
                life.end()


class Life:
    """What happens on a bench from one begin on. `exchange_forgets`: no later life finds anything there."""

    cash = CASH

    def __init__(self, bench: Bench, folder: Path, exchange: Running, clock: Clock) -> None:
        self.bench, self.folder, self.exchange, self.clock = bench, folder, exchange, clock
        self.environment = _environment(bench, folder, exchange)
        self.settings = env.load(self.environment, env_file=folder / "none")
        self.store: Store = wiring.store(self.settings)
        self.broker = wiring.broker(self.settings)
        self.exchange_forgets = False
        self._children: list[Child] = []

    def end(self) -> None:
        """No process of it lives, and nothing of it is open."""
        for child in self._children:
            child.kill()
        self.broker.close()
        self.store.close()

    def begin(self) -> Begin:
        """This moment as a begin. No process may live."""
        assert all(child.ended() for child in self._children)
        exchange = b"" if self.exchange_forgets else (self.folder / STATE).read_bytes()
        return Begin(self.bench.shelf.taken(), exchange)

    def start(self, program: str, extra: Mapping[str, str], *arguments: str) -> Child:
        """`program` runs with those settings beside the common ones."""
        home = self.folder / f"{len(self._children) + 1}-{program}"
        home.mkdir(mode=0o700)
        lines = [f"{name}={value}\n" for name, value in {**self.environment, **extra}.items()]
        file = home / ".env"
        file.touch(mode=0o600)
        file.write_text("".join(lines))
        child = self.bench.forks.start(program, arguments, home)
        self._children.append(child)
        return child

    def crossed(self, number: int) -> list[str]:
        """The boundaries that the process which was started as `number` noted."""
        (home,) = self.folder.glob(f"{number}-*")
        file = home / CROSSED
        return [line.split()[1] for line in file.read_text().splitlines()] if file.exists() else []

    # What a judge and a script ask for

    def control(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """What the exchange's control does or says."""
        return getattr(self.exchange.control, path)(**(body or {}))

    def books(self) -> Books:
        return Books.read(self.store)

    def price(self, bid: int) -> None:
        self.exchange.control.quote(SYMBOL, Decimal(bid), bid + SPREAD)

    def hold(self, side: str, *, on: bool) -> None:
        """The exchange takes orders of that side but executes none, or does again."""
        self.exchange.control.hold(SYMBOL, side, on=on)

    def fault(self, **wanted: Any) -> None:
        """Requests that match are spoiled, in this life only."""
        self.exchange.control.fault(**wanted)

    def until(
        self, what: str, holds: Callable[[], bool], drive: Callable[[], None], patience_s: float
    ) -> None:
        """`holds` is true; until then `drive` is done again and again. Raises Unmended."""
        pause = threading.Event()
        limit = self.clock.monotonic() + patience_s
        while not holds():
            if self.clock.monotonic() > limit:
                raise Unmended(f"waited in vain until {what}")
            drive()
            pause.wait(LOOK_S)


def _environment(bench: Bench, folder: Path, exchange: Running) -> dict[str, str]:
    return {
        "APCA_API_KEY_ID": exchange.config.key,
        "APCA_API_SECRET_KEY": exchange.config.secret,
        "APCA_API_BASE_URL": exchange.base_url,
        "APCA_API_DATA_URL": exchange.base_url,
        "APCA_API_STREAM_URL": exchange.trade_url,
        "APCA_API_DATA_STREAM_URL": exchange.data_url,
        "DATABASE_URL": bench.database_url,
        "DCA_RUN_DIR": str(folder),
        "BACKUP_DIR": str(folder / "backups"),
        **QUICK,
    }


__all__ = ["CROSSED", "STREAMER", "Begin", "Bench", "Life"]
