"""What the demo does to itself on purpose, to show what happens then."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from dca.apps.offline import Offline
from dca.domain.errors import DcaError
from dca.domain.order import Side

LOOK_S = 0.005
PATIENCE_S = 60.0
AT_PROGRESS = 0.2


@dataclass
class Disturbance:
    """Kills the streamer in mid-trade and leaves a buy to go stale, once, at AT_PROGRESS.

    The exchange holds executions back until that buy has been cleaned up. `said` is what was done,
    in words; `tell` says each of them at once.
    """

    offline: Offline
    symbol: str
    tell: Callable[[str], None]
    said: list[str] = field(default_factory=list)
    kills: int = 0
    stale: str | None = None
    cleaned: bool = False

    def __call__(self) -> None:
        """To be called again and again: does what is due."""
        if self.kills == 0:
            if self._due():
                self._kill_in_mid_trade()
        elif self.stale is not None and not self.cleaned:
            self._clean()

    def _due(self) -> bool:
        return float(self.offline.control("status")["replay"]["progress"]) >= AT_PROGRESS

    def _kill_in_mid_trade(self) -> None:
        """The streamer is dead, and a buy of its rests at the exchange."""
        self._hold(True)
        pause = threading.Event()
        limit = self.offline.clock.monotonic() + PATIENCE_S
        while True:
            key = self._resting()
            if key is not None:
                self.offline.kill_streamer()
                break
            if self.offline.clock.monotonic() > limit:
                raise DcaError("no buy came to rest that could be left behind")
            pause.wait(LOOK_S)
        self.kills, self.stale = 1, key
        self._say(f"main_app was killed with SIGKILL while its order {key} rests at the exchange")

    def _resting(self) -> str | None:
        """A buy that the exchange has open, if there is one."""
        live = self.offline.store.read(lambda tx: tx.live_orders())
        ours = {order.key for order in live if order.intent.side is Side.BUY and order.venue_id is not None}
        if not ours:
            return None
        return next((order.key for order in self.offline.broker.open_orders() if order.key in ours), None)

    def _clean(self) -> None:
        if self.stale in {order.key for order in self.offline.broker.open_orders()}:
            return
        self._hold(False)
        self.cleaned = True
        self._say(f"the order {self.stale} that was left to go stale is canceled")

    def _hold(self, on: bool) -> None:
        self.offline.control("hold", {"symbol": self.symbol, "side": "buy", "on": on})

    def _say(self, words: str) -> None:
        stamped = f"{self.offline.clock.now():%Y-%m-%d %H:%M}  {words}"
        self.said.append(stamped)
        self.tell(stamped)
