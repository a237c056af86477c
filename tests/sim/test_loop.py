"""Virtual time passes at once, and blocking work takes turns in it."""

import asyncio
from collections.abc import Iterator

import pytest

from dca.prove.loop import VirtualLoop, in_fiber, pause


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    made = VirtualLoop()
    yield made
    made.close()


def test_an_hour_passes_at_once(loop: VirtualLoop) -> None:
    loop.run_until_complete(asyncio.sleep(3600))
    assert loop.time() == 3600


def test_blocking_work_that_pauses_lets_other_work_run(loop: VirtualLoop) -> None:
    seen = []

    def work(name: str, seconds: float) -> str:
        for _ in range(2):
            seen.append((name, loop.time()))
            pause(seconds)
        return name

    async def both() -> list[str]:
        return await asyncio.gather(in_fiber(lambda: work("a", 2)), in_fiber(lambda: work("b", 3)))

    assert loop.run_until_complete(both()) == ["a", "b"]
    assert seen == [("a", 0), ("b", 0), ("a", 2), ("b", 3)]
    assert loop.time() == 6


def test_what_blocking_work_raises_reaches_whoever_awaits_it(loop: VirtualLoop) -> None:
    def work() -> None:
        pause(1)
        raise LookupError("nothing there")

    with pytest.raises(LookupError, match="nothing there"):
        loop.run_until_complete(in_fiber(work))


def test_work_goes_on_when_nobody_awaits_it_any_more_as_in_a_thread(loop: VirtualLoop) -> None:
    done = []

    def work() -> None:
        pause(5)
        done.append(loop.time())

    async def give_up() -> None:
        task = asyncio.ensure_future(in_fiber(work))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not done
        await asyncio.sleep(10)

    loop.run_until_complete(give_up())
    assert done == [5]


def test_a_loop_in_which_nothing_can_happen_any_more_says_so(loop: VirtualLoop) -> None:
    with pytest.raises(RuntimeError, match="nothing will ever happen"):
        loop.run_until_complete(asyncio.Event().wait())
