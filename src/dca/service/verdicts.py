"""Every change of mind is written down: what was decided of each asset, with the numbers behind it."""

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime

from dca.domain.market import Quote
from dca.domain.record import Decision
from dca.ports import Situation, Store
from dca.strategy import dca as decisions
from dca.strategy.dca import Action, Terms, Wait
from dca.strategy.explain import triggers

Verdict = tuple[str, object]
"""What makes two decisions the same one: its word, and the price it waits for."""

CODES: dict[type[Action], str] = {
    decisions.Buy: "buy",
    decisions.Sell: "sell",
    decisions.Cancel: "cancel",
    decisions.Trail: "trail",
    decisions.StopTrailing: "stop_trailing",
    decisions.Wake: "wake",
    decisions.MoveStop: "move_stop",
    decisions.StartStop: "start_stop",
    decisions.ClearStop: "clear_stop",
}
"""How a decision to act is called on record."""
LONGEST = 1_000


def verdict_of(decision: Action | Wait) -> Verdict:
    if isinstance(decision, Wait):
        return (decision.code, decision.wanted)
    return (CODES[type(decision)], None)


@dataclass(slots=True)
class Verdicts:
    """Collects changed verdicts in memory, and writes them together, away from the quotes.

    At most LONGEST wait to be written; beyond that the oldest are forgotten, and counted.
    """

    terms: Terms
    forgotten: int = 0
    _pending: deque[Decision] = field(default_factory=lambda: deque(maxlen=LONGEST))

    def note(
        self, situation: Situation, quote: Quote, verdict: Verdict, reason: str, now: datetime, *, held: bool
    ) -> None:
        """The verdict on `situation` is `verdict` from `now` on; `held`: nothing came of it yet."""
        asset, cycle = situation.asset, situation.cycle
        found = [] if cycle is None else triggers(cycle, asset, quote, now, self.terms)
        if len(self._pending) == LONGEST:
            self.forgotten += 1
        self._pending.append(
            Decision(
                asset_id=asset.id,
                cycle_id=None if cycle is None else cycle.id,
                at=now,
                code=verdict[0],
                reason=reason,
                bid=quote.bid,
                ask=quote.ask,
                data={"triggers": [one.fields() for one in found]} | ({"held": reason} if held else {}),
            )
        )

    def write(self, store: Store) -> None:
        """What was noted is in the database. Raises StoreUnavailable; then it still waits."""
        batch = list(self._pending)
        if not batch:
            return
        store.write(lambda tx: tx.add_decisions(batch))
        written = {id(decision) for decision in batch}
        while self._pending and id(self._pending[0]) in written:
            self._pending.popleft()
