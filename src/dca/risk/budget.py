"""The rate budget: how many requests all processes together may still send, and who may take the last.

A bucket that refills. Cancels and exits may empty it, entries and reads must leave something for those
that matter more.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import IntEnum

from dca.domain.account import Budget

BATCH = 5
"""So many requests a process takes at once, so that not each of them costs a transaction."""
LONGEST_BAN_S = 120
"""A bucket that is closed for longer was closed by a clock that was wrong."""


class Priority(IntEnum):
    """What a request is for; a higher one may take what a lower one must leave."""

    READ = 0
    ENTRY = 1
    EXIT = 2


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `per_minute` requests in any minute: half of them may come at once, the others only as
    the bucket refills. `second` is how far the clock of the bucket moves in a real second."""

    per_minute: int
    second: timedelta

    @property
    def burst(self) -> int:
        return self.per_minute // 2

    @property
    def interval(self) -> timedelta:
        """After which there is one more."""
        return self.second * 60 / (self.per_minute - self.burst)

    def floor(self, priority: Priority) -> int:
        """How many must be left for those that matter more."""
        return {Priority.READ: self.burst // 3, Priority.ENTRY: self.burst // 6, Priority.EXIT: 0}[priority]


def full(name: str, rate: Rate, now: datetime) -> Budget:
    return Budget(name=name, tokens=rate.burst, at=now)


def banned_until(budget: Budget, now: datetime, rate: Rate) -> datetime | None:
    """Until when nothing may be sent at all; None when it may."""
    return budget.at if timedelta(0) < budget.at - now <= rate.second * LONGEST_BAN_S else None


def refilled(budget: Budget, now: datetime, rate: Rate) -> Budget:
    """The bucket as it is at `now`; what is not yet a whole request stays in its `at`."""
    if banned_until(budget, now, rate) is not None:
        return budget
    if budget.at > now:
        return replace(budget, at=now)
    gained = (now - budget.at) // rate.interval
    if budget.tokens + gained >= rate.burst:
        return replace(budget, tokens=rate.burst, at=now)
    return replace(budget, tokens=budget.tokens + gained, at=budget.at + gained * rate.interval)


def drawn(budget: Budget, priority: Priority, now: datetime, rate: Rate) -> tuple[Budget, int]:
    """The bucket without what was taken, and how many were: a batch that is good for any request, else
    the one that `priority` is entitled to, else none."""
    left = refilled(budget, now, rate)
    if banned_until(left, now, rate) is not None:
        return left, 0
    taken = min(BATCH, max(left.tokens - rate.floor(Priority.READ), 0))
    if taken == 0 and left.tokens > rate.floor(priority):
        taken = 1
    return replace(left, tokens=left.tokens - taken), taken


def free_at(budget: Budget, priority: Priority, now: datetime, rate: Rate) -> datetime:
    """When a request of that priority may be sent, if nobody else takes it first."""
    left = refilled(budget, now, rate)
    missing = max(rate.floor(priority) + 1 - left.tokens, 0)
    ready = left.at + missing * rate.interval if missing else left.at
    return max(ready, now)


def banned(budget: Budget, until: datetime, now: datetime, rate: Rate) -> Budget:
    """Empty until then, because the venue said so; afterwards one read may see whether it is over.

    A ban that ends later stays.
    """
    until = min(until, now + rate.second * LONGEST_BAN_S)
    if (banned_until(budget, now, rate) or now) >= until:
        return budget
    return replace(budget, tokens=rate.floor(Priority.READ) + 1, at=until)
