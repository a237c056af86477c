"""What the program writes down about itself: events, messages to people, signs of life, leases."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A row of `dca_events`, append-only: one decision, repair or refusal, with its reason.

    `data` holds the numbers behind the reason, as JSON-ready values (amounts as text). `uid` names what
    may be written down only once; the second event of that name is dropped.
    """

    name: str
    at: datetime
    reason: str = ""
    asset_id: int | None = None
    cycle_id: int | None = None
    order_key: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    uid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A row of `dca_decisions`: what was decided of an asset from `at` on, until the next row.

    `code` is the verdict in one word, `reason` the sentence for a person, `data` the triggers with
    their distances, as JSON-ready values.
    """

    asset_id: int
    cycle_id: int | None
    at: datetime
    code: str
    reason: str
    bid: Decimal | None = None
    ask: Decimal | None = None
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A row of `dca_outbox`: something a person should be told, once. `key` is its natural key."""

    key: str
    name: str
    text: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """A row of `dca_heartbeats`: the last sign of life of a part of the program."""

    name: str
    at: datetime
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A row of `dca_leases`: `holder` may act under `name` until `expires_at`.

    A lease only avoids wasted work and second instances; the version on every row is what
    guarantees. `holder` tells host, process id and process start.
    """

    name: str
    holder: str
    expires_at: datetime
    version: int = 1
