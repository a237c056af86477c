"""Plays tapes: every quote is emitted once the clock has reached its time."""

import asyncio
import heapq
from collections.abc import Callable, Iterable
from datetime import datetime

from dca.domain.market import Quote
from dca.paper.config import Clock, Tape

POLL_S = 0.05
"""The clock may be moved by hand, so it is looked at this often whatever it said before."""
BREATH = 200
"""Quotes between two moments in which requests are served, while catching up."""


class Player:
    """All tapes as one, in the order of time; where several have a quote at once, in their order."""

    def __init__(self, tapes: Iterable[Tape], clock: Clock, emit: Callable[[Quote], None]) -> None:
        tapes = tuple(tapes)
        lengths = [tape.length for tape in tapes if tape.length is not None]
        self._clock = clock
        self._emit = emit
        self._quotes = heapq.merge(*(tape.quotes for tape in tapes), key=lambda quote: quote.at)
        self._next = next(self._quotes, None)
        self._finite = bool(lengths) and len(lengths) == len(tapes)
        self._length = sum(lengths)
        self.played = 0
        self.played_until: datetime | None = None

    @property
    def ended(self) -> bool:
        """Nothing is left to play; false where there never was anything."""
        return self._next is None and self.played > 0

    @property
    def progress(self) -> float:
        """From 0 to 1; stays 0 with an endless tape."""
        return self.played / self._length if self._finite and self._length else 0.0

    async def run(self, after_each_look: Callable[[datetime], None]) -> None:
        """Plays until cancelled; calls `after_each_look` when all that was due has been emitted."""
        while True:
            now = self._clock.now()
            while self._play_some(now):
                after_each_look(now)
                await asyncio.sleep(0)
            after_each_look(now)
            await asyncio.sleep(self._pause(now))

    def _play_some(self, now: datetime) -> bool:
        """Whether more is due at `now` after another few quotes."""
        for _ in range(BREATH):
            quote = self._next
            if quote is None or quote.at > now:
                return False
            self._emit(quote)
            self.played += 1
            self.played_until = quote.at
            self._next = next(self._quotes, None)
        return True

    def _pause(self, now: datetime) -> float:
        if self._next is None:
            return POLL_S
        real_seconds = (self._next.at - now) / self._clock.span(1.0)
        return min(POLL_S, max(0.0, real_seconds))
