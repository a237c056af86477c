"""What people are told: every kind of message with its title, and the hours in which they sleep."""

from dataclasses import dataclass
from datetime import datetime, time, tzinfo


@dataclass(frozen=True, slots=True)
class Notice:
    """A kind of message. An urgent one wakes people up."""

    title: str
    urgent: bool = False


NOTICES = {
    "cycle_started": Notice("Cycle started"),
    "safety_order": Notice("Safety order filled"),
    "take_profit": Notice("Take profit"),
    "stop_loss": Notice("Stop loss", urgent=True),
    "error_cycle": Notice("Cycle ended in error", urgent=True),
    "asset_halted": Notice("Asset halted", urgent=True),
    "order_refused": Notice("Order refused"),
    "order_unknown": Notice("Order that the database does not know", urgent=True),
    "cancel_stuck": Notice("Order cannot be canceled", urgent=True),
    "position_exists": Notice("Coins that are not ours"),
    "watchdog_restart": Notice("Streamer restarted", urgent=True),
    "crash_loop": Notice("Streamer does not stay up", urgent=True),
    "caretaker_cannot_run": Notice("Caretaker cannot run", urgent=True),
    "database_unreachable": Notice("Database unreachable", urgent=True),
    "venue_unreachable": Notice("Venue unreachable", urgent=True),
    "keys_refused": Notice("Keys refused", urgent=True),
    "circuit_open": Notice("Requests to the venue fail", urgent=True),
    "backup_failed": Notice("No backup was made"),
    "statement_unexplained": Notice("The account does not add up"),
}
"""By the name of the message, which is also what NOTIFY_OFF takes."""


def notice(name: str) -> Notice:
    """A name that is missing here must not be missed by people: it counts as urgent."""
    return NOTICES.get(name, Notice(name.replace("_", " ").capitalize(), urgent=True))


@dataclass(frozen=True, slots=True)
class Quiet:
    """Hours of every day on the clocks of `zone`; `end` is the first moment after them."""

    start: time
    end: time
    zone: tzinfo

    def holds(self, at: datetime) -> bool:
        local = at.astimezone(self.zone).time()
        if self.start < self.end:
            return self.start <= local < self.end
        return local >= self.start or local < self.end
