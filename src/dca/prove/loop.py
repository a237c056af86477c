"""Virtual time: an event loop that never waits, and blocking work that runs on it without threads."""

import asyncio
import selectors
from collections.abc import Callable, Generator
from datetime import datetime, timedelta
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

T = TypeVar("T")


class _NothingToWaitFor(selectors.SelectSelector):
    """No file ever becomes ready; the time that the loop would wait has passed at once."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("every task waits for another one: nothing will ever happen again")
        self.passed += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer whenever nothing is ready.

    One thread, one order of events: the same callbacks run in the same order every time.
    """

    def __init__(self) -> None:
        self._waits = _NothingToWaitFor()
        super().__init__(self._waits)

    def time(self) -> float:
        return self._waits.passed


class LoopClock:
    """dca.ports.Clock on a virtual loop. `off_s` is how far the wall clock is from the true time."""

    def __init__(self, loop: VirtualLoop, start: datetime) -> None:
        self._loop = loop
        self._start = start
        self.off_s = 0.0
        self._last = (0.0, start)

    def true(self) -> datetime:
        passed = self._loop.time()
        if passed != self._last[0]:
            self._last = passed, self._start + timedelta(seconds=round(passed, 6))
        return self._last[1]

    def now(self) -> datetime:
        return self.true() + timedelta(seconds=self.off_s) if self.off_s else self.true()

    def monotonic(self) -> float:
        return self._loop.time()

    def span(self, seconds: float) -> timedelta:
        return timedelta(seconds=seconds)


class Waiting:
    """An awaitable of what blocking work returns. The work goes on when nobody awaits it any more, as a
    thread would."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work

    def __await__(self) -> Generator[Any, None, Any]:
        fiber = greenlet(self._work)
        answer = fiber.switch()
        while not fiber.dead:
            ends = asyncio.get_running_loop().time() + answer
            try:
                yield from asyncio.sleep(answer).__await__()
            except asyncio.CancelledError:
                _abandoned(fiber, ends)
                raise
            answer = fiber.switch()
        return answer


def _abandoned(fiber: greenlet, ends: float) -> None:
    """The work goes on at that instant; what becomes of it nobody hears."""
    loop = asyncio.get_running_loop()

    async def rest() -> None:
        wait = ends - loop.time()
        while not fiber.dead:
            await asyncio.sleep(wait)
            wait = fiber.switch()

    def heard(task: "asyncio.Task[None]") -> None:
        if not task.cancelled():
            task.exception()

    # Not by the loop's own factory: it does not end with the process that it belonged to.
    asyncio.Task(rest(), loop=loop).add_done_callback(heard)


async def in_fiber(work: Callable[[], T]) -> T:
    """What `work` returns; whenever it pauses, everything else runs on."""
    result: T = await Waiting(work)
    return result


def pause(seconds: float) -> None:
    """So much virtual time has passed for the blocking work that calls this."""
    parent = getcurrent().parent
    assert parent is not None, "only work that was started by in_fiber can pause"
    parent.switch(seconds)
