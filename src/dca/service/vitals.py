"""The streamer's signs of life, as its heartbeat tells them."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dca.ports import Clock, Link


@dataclass
class Vitals:
    """What the watchdog and a person need to know of a streamer. Instants are None until they came."""

    clock: Clock
    identity: str
    links: dict[str, str] = field(default_factory=lambda: {"market": "down", "trades": "down"})
    last_quote_at: datetime | None = None
    last_update_at: datetime | None = None
    caught_up_at: datetime | None = None
    venue_error: str | None = None

    def __post_init__(self) -> None:
        self.started_at = self.clock.now()
        self._down_since: dict[str, datetime | None] = dict.fromkeys(self.links, self.started_at)

    def linked(self, name: str, link: Link) -> None:
        """The stream `name` is up, or down since now unless it was before."""
        self.links[name] = str(link)
        if link is Link.UP:
            self._down_since[name] = None
        elif self._down_since[name] is None:
            self._down_since[name] = self.clock.now()

    def quoted(self) -> None:
        self.last_quote_at = self.clock.now()

    def updated(self) -> None:
        self.last_update_at = self.clock.now()

    def caught_up(self, error: str | None = None) -> None:
        """The venue's REST side was read whole, or not, because of `error`."""
        self.venue_error = error
        if error is None:
            self.caught_up_at = self.clock.now()

    def fields(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "identity": self.identity,
            "started_at": _text(self.started_at),
            "links": dict(self.links),
            "market_down_since": _text(self._down_since["market"]),
            "trades_down_since": _text(self._down_since["trades"]),
            "last_quote_at": _text(self.last_quote_at),
            "last_update_at": _text(self.last_update_at),
            "caught_up_at": _text(self.caught_up_at),
            "venue_error": self.venue_error,
        }


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
