"""Clocks: the machine's own, and one that maps the wall onto a faster time."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from dca.ports import Clock


class SystemClock:
    """The machine's clock, in UTC."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def span(self, seconds: float) -> timedelta:
        return timedelta(seconds=seconds)


@dataclass(frozen=True)
class ScaledClock:
    """A clock that shows `origin` when the wall shows `wall_origin` and runs `speed` times as fast.

    Every process given the same three values shows the same time.
    """

    wall_origin: datetime
    origin: datetime
    speed: float

    def now(self) -> datetime:
        return self.origin + (datetime.now(UTC) - self.wall_origin) * self.speed

    def monotonic(self) -> float:
        return time.monotonic()

    def span(self, seconds: float) -> timedelta:
        return timedelta(seconds=seconds * self.speed)


def clock_at(speed: float, wall_origin: datetime | None, origin: datetime | None) -> Clock:
    """The clock that shows `origin` at `wall_origin` and runs `speed` times as fast; without either
    origin, the machine's own."""
    if wall_origin is None or origin is None:
        return SystemClock()
    return ScaledClock(wall_origin, origin, speed)


class ManualClock:
    """A clock that stands still until it is moved: for simulations and tests."""

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._now.timestamp()

    def span(self, seconds: float) -> timedelta:
        return timedelta(seconds=seconds)

    def move(self, seconds: float) -> None:
        """`now` is `seconds` later."""
        self._now += timedelta(seconds=seconds)
