"""The circuit breaker: when requests of a group fail, none is sent for a while, then one to find out.

    CLOSED -> OPEN          too many failures
    OPEN -> HALF_OPEN       the pause is over: one read is let through
    HALF_OPEN -> OPEN       it failed: twice the pause
    HALF_OPEN -> CLOSED     enough good reads, and the books were compared with the venue since

A pause is in real seconds; `second` is how far the clock of the breaker moves in one.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum

from dca.domain.account import Breaker, BreakerState

IN_A_ROW = 5
CALLS = 20
WINDOW_S = 60.0
GOOD = 2
LONGEST_S = 600
PROBE_S = 30
"""A probe that was not answered by then died with its process: another one may be sent."""

CallMade = tuple[float, bool]
"""When a request was answered, in real seconds, and whether that was well."""


class Passage(StrEnum):
    """What a read may do: go, go as the one that finds out, or not go."""

    FREE = "free"
    PROBE = "probe"
    SHUT = "shut"


def tripped(calls: Sequence[CallMade], now_s: float) -> str | None:
    """Why the group must not be asked for a while, None when it may; `calls` are the newest last."""
    last = [well for _, well in calls[-IN_A_ROW:]]
    if len(last) == IN_A_ROW and not any(last):
        return f"{IN_A_ROW} failures in a row"
    recent = [well for at_s, well in calls if now_s - at_s <= WINDOW_S]
    failures = recent.count(False)
    if len(recent) >= CALLS and failures * 2 > len(recent):
        return f"{failures} of {len(recent)} requests failed within {WINDOW_S:g} s"
    return None


def opened(
    breaker: Breaker, reason: str, failures: int, now: datetime, *, first_s: int, second: timedelta
) -> Breaker:
    """Shut for `first_s`, or for twice as long as before when a probe failed; an open one stays as it is.

    `since` goes on telling when it was last closed.
    """
    if breaker.state is BreakerState.OPEN:
        return breaker
    fresh = breaker.state is BreakerState.CLOSED
    pause_s = first_s if fresh else min(breaker.pause_s * 2, LONGEST_S)
    return replace(
        breaker,
        state=BreakerState.OPEN,
        since=now if fresh else breaker.since,
        failures=failures,
        good=0,
        pause_s=pause_s,
        retry_at=now + second * pause_s,
        reason=reason,
    )


def passage(breaker: Breaker, now: datetime, second: timedelta, *, knocked: bool = False) -> Passage:
    """`knocked`: something else shows that the venue is back, so the pause is over."""
    if breaker.state is BreakerState.CLOSED or breaker.good > 0:
        return Passage.FREE
    waits = breaker.retry_at is not None and now < breaker.retry_at
    # Further ahead than any pause: the clock was wrong when that was written.
    wrong = breaker.retry_at is not None and breaker.retry_at - now > second * LONGEST_S
    if waits and not wrong and not (knocked and breaker.state is BreakerState.OPEN):
        return Passage.SHUT
    return Passage.PROBE


def probing(breaker: Breaker, now: datetime, second: timedelta) -> Breaker:
    """One read is on its way to find out, and no other."""
    return replace(breaker, state=BreakerState.HALF_OPEN, good=0, retry_at=now + second * PROBE_S)


def well(breaker: Breaker) -> Breaker:
    """A read was answered."""
    if breaker.state is not BreakerState.HALF_OPEN or breaker.good >= GOOD:
        return breaker
    return replace(breaker, good=breaker.good + 1)


def reconciled(breaker: Breaker, now: datetime) -> Breaker:
    """The books were compared with the venue: that closes it once enough reads were answered."""
    if breaker.state is not BreakerState.HALF_OPEN or breaker.good < GOOD:
        return breaker
    return Breaker(name=breaker.name, state=BreakerState.CLOSED, since=now, version=breaker.version)
