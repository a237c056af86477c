"""What goes wrong in a life, drawn from its seed."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

LONGEST_S = 50.0
"""After so long a request has arrived, and what it did can be seen: less than the grace."""
STRENGTHS = (0.3, 1.0, 2.5)
"""Weak, usual, heavy; each class of fault is on in half of all lives."""

CHANCES: dict[str, float] = {
    # The way to the venue, per request; an outage per minute.
    "slow_request": 0.10,
    "lost_request": 0.08,
    "lost_answer": 0.10,
    "late_request": 0.05,
    "very_late_request": 0.12,
    "error_taken": 0.06,
    "error_not_taken": 0.05,
    "too_many_requests": 0.05,
    "read_failed": 0.08,
    "read_lag": 0.25,
    "venue_outage": 0.03,
    # What the venue does with an order.
    "async_reject": 0.03,
    "partial": 0.20,
    "price_moves_away": 0.35,
    "venue_cancels": 0.06,
    "slow_cancel": 0.40,
    "fill_during_cancel": 0.50,
    # The stream of trade updates, per update; then per minute.
    "update_lost": 0.15,
    "update_doubled": 0.20,
    "update_late": 0.15,
    "update_reordered": 0.20,
    "trades_drop": 0.08,
    "trades_mute": 0.04,
    # The stream of quotes, per quote; then per minute.
    "quote_flash": 0.025,
    "quote_unusable": 0.02,
    "quote_stale": 0.02,
    "market_drop": 0.06,
    "market_mute": 0.04,
    # Processes, per boundary; per minute; per pass of cron.
    "death": 0.002,
    "second_streamer": 0.15,
    "cron_overlap": 0.30,
    # The database, per unit of work.
    "store_before": 0.010,
    "store_after": 0.006,
    "store_slow": 0.10,
    # The machine and the account, per minute.
    "power_cut": 0.02,
    "clock_step": 0.05,
    "account_blocked": 0.02,
    # People, per minute.
    "operator_switch": 0.12,
    "operator_order": 0.06,
    "operator_replace": 0.25,
    "sold_by_hand": 0.008,
    "deposit": 0.008,
}
"""How often each happens at the usual strength."""


def dice(seed: int, what: str) -> Random:
    """The chance of one part of a life: what another part draws does not change it."""
    return Random(f"{seed}-{what}")  # noqa: S311


@dataclass
class Fates:
    """Decides what happens. Once `calm`, nothing bad does any more.

    `chances` None: drawn from `random`, each class on in half of all lives at one of three strengths.
    """

    random: Random
    chances: Mapping[str, float] | None = None
    calm: bool = False
    happened: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        if self.chances is None:
            self.chances = {
                name: usual * self.random.choice(STRENGTHS) if self.random.random() < 0.5 else 0.0
                for name, usual in CHANCES.items()
            }

    @property
    def misfortune(self) -> bool:
        """Whether anything at all can go wrong by itself."""
        return any((self.chances or {}).values())

    def happens(self, name: str, times: float = 1.0) -> bool:
        """Whether the misfortune strikes now; it is counted."""
        assert self.chances is not None
        chance = self.chances.get(name, 0.0) * times
        if self.calm or chance <= 0 or self.random.random() >= chance:
            return False
        self.happened[name] += 1
        return True

    def on(self, name: str) -> bool:
        """Whether this class of fault can strike in this life."""
        assert self.chances is not None
        return self.chances.get(name, 0.0) > 0

    def between(self, low: float, high: float) -> float:
        return round(self.random.uniform(low, high), 3)
