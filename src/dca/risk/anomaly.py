"""Anomalies: signs that something is wrong though every single answer looks right. Nothing is bought then.

Each look returns what was found, or None.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

REJECTS = 3
REJECTS_WITHIN = timedelta(minutes=10)
REJECTS_LAST = timedelta(minutes=15)
SLOW_CALLS = 10
SLOW_S = 2.0
SLOW_LAST = timedelta(minutes=5)
SKEW_S = 10.0


@dataclass(frozen=True, slots=True)
class Anomaly:
    """`until` is None while it lasts as long as what was found. `evidence` names what it was found in:
    the same evidence restricts once."""

    name: str
    reason: str
    evidence: str
    until: datetime | None = None


def rejects(times: Sequence[datetime], now: datetime) -> Anomaly | None:
    """`times` are when the venue refused orders of the account."""
    recent = sorted(at for at in times if now - REJECTS_WITHIN <= at <= now)
    if len(recent) < REJECTS:
        return None
    minutes = REJECTS_WITHIN.total_seconds() / 60
    reason = f"the venue refused {len(recent)} orders within {minutes:g} minutes"
    return Anomaly("rejects", reason, recent[-1].isoformat(), now + REJECTS_LAST)


def latency(seconds: Sequence[float], now: datetime) -> Anomaly | None:
    """`seconds` are how long the newest requests took."""
    newest = seconds[-SLOW_CALLS:]
    if len(newest) < SLOW_CALLS or sum(newest) <= SLOW_S * SLOW_CALLS:
        return None
    mean = sum(newest) / SLOW_CALLS
    reason = f"the venue took {mean:.1f} s for each of the last {SLOW_CALLS} requests"
    return Anomaly("latency", reason, now.isoformat(), now + SLOW_LAST)


def skew(ahead: timedelta, now: datetime, second: timedelta) -> Anomaly | None:
    """`ahead` is how far the venue's clock is before ours."""
    if abs(ahead) <= second * SKEW_S:
        return None
    seconds = ahead / second
    side = "ahead of" if seconds > 0 else "behind"
    reason = f"the venue's clock is {abs(seconds):.1f} s {side} ours: put this machine's clock right"
    return Anomaly("clock", reason, now.isoformat())
