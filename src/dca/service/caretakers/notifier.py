"""The caretaker of the outbox: what the streamer did not tell at once is told now."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from dca.domain.errors import Unavailable
from dca.domain.record import Message
from dca.service.caretakers.runner import Repair
from dca.service.outbox import BUDGET_S, Outbox, Parcel


@dataclass(frozen=True, slots=True)
class Tell(Repair):
    """A parcel that goes out."""

    parcel: Parcel


@dataclass(frozen=True, slots=True)
class Drop(Repair):
    """Messages that nobody will be told."""

    messages: tuple[Message, ...]


@dataclass(slots=True)
class NotifierCaretaker:
    """Looks at the outbox, and empties it as far as it may."""

    outbox: Outbox
    name: str = "notifier"
    _begun: float = field(default=0.0, init=False)

    def look(self) -> list[Message]:
        self._begun = self.outbox.clock.monotonic()
        return self.outbox.unsent()

    def plan(self, view: list[Message], now: datetime) -> Sequence[Tell | Drop]:
        found = self.outbox.plan(view, now)
        reasons = sorted({why for _, why in found.dropped})
        dropped = {why: tuple(one for one, reason in found.dropped if reason == why) for why in reasons}
        return [
            *(Drop("drop", _named(messages), why, messages) for why, messages in dropped.items()),
            *(Tell("send", _named(parcel.messages), parcel.title, parcel) for parcel in found.parcels),
        ]

    def mend(self, repair: Tell | Drop) -> None:
        if isinstance(repair, Drop):
            self.outbox.drop(repair.messages, repair.reason)
        elif self.outbox.clock.monotonic() - self._begun > BUDGET_S:
            raise Unavailable("telling people takes too long; it waits for the next pass")
        else:
            self.outbox.send(repair.parcel)


def _named(messages: Sequence[Message]) -> str:
    return messages[0].key if len(messages) == 1 else f"{len(messages)} messages"
