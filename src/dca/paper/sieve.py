"""What reaches one client of the messages of a stream that are meant for it."""

import asyncio
from collections.abc import Callable, Iterable

from dca.paper.effects import Effect, Place
from dca.paper.faults import Crossing, Faults
from dca.paper.spoil import GONE, altered
from dca.paper.wire import Json

Deliver = Callable[[list[Json]], None]


class Sieve:
    """The messages to one client. Those that a fault holds back come through `deliver`, later."""

    def __init__(self, faults: Faults, stream: str, deliver: Deliver, end: Callable[[], None]) -> None:
        self._faults = faults
        self._stream = stream
        self._deliver = deliver
        self._end = end
        self._swapped: list[Json] = []

    def passed(
        self, message: Json, event: str, symbol: str, client_order_id: str | None = None
    ) -> Iterable[Json]:
        """What is to be sent now."""
        if not self._swapped and not self._faults.at(Place.MESSAGE):
            return (message,)
        held, self._swapped = self._swapped, []
        crossing = Crossing(self._stream, event, (symbol,), client_order_id)
        effect = self._faults.struck(Place.MESSAGE, crossing)
        return [*((message,) if effect is None else self._struck(effect, message)), *held]

    def _struck(self, effect: Effect, message: Json) -> list[Json]:
        if effect.name == "duplicate":
            copy = altered(effect, message) if effect["field"] else message
            return [message, *[copy] * effect["copies"]]
        if effect.name == "delay":
            _later(effect.seconds, lambda: self._deliver([message]))
        elif effect.name == "swap":
            self._swapped.append(message)
            _later(effect.seconds, self._release)
        elif effect.name == "disconnect":
            self._end()
        elif effect.name != "drop":
            changed = altered(effect, message)
            return [] if changed is GONE else [changed]
        return []

    def _release(self) -> None:
        """No message came that could have overtaken the one that was held back."""
        held, self._swapped = self._swapped, []
        if held:
            self._deliver(held)


def _later(seconds: float, work: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(seconds, work)
