"""What is known of the venue account beside positions: funds, restrictions on requests, its history."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any


def day_of(at: datetime) -> tuple[datetime, datetime]:
    """The day (UTC) that `at` belongs to: its first instant, and the first one after it."""
    begin = at.replace(hour=0, minute=0, second=0, microsecond=0)
    return begin, begin + timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Funds:
    """The row of `dca_funds`: what the account had when it was last read, in USD.

    `read_at` is when the question was sent, so every order journaled later is not in it.
    `spendable` is what crypto may spend, resting buys deducted. `peak_equity` is the highest equity
    seen since `peak_at`; an operator may set it anew.
    """

    account_id: str
    read_at: datetime
    cash: Decimal
    equity: Decimal
    spendable: Decimal
    peak_equity: Decimal
    peak_at: datetime
    version: int = 0


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """A row of `dca_breakers`: whether requests of the group `name` are let through.

    OPEN: none until `retry_at`, then HALF_OPEN: one probe. `pause_s` is how long the next opening
    lasts; `good` counts good answers in a row since it was half open, `failures` bad ones in a row.
    """

    name: str
    state: BreakerState
    since: datetime
    failures: int = 0
    good: int = 0
    pause_s: int = 0
    retry_at: datetime | None = None
    reason: str = ""
    version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A row of `dca_budgets`: `tokens` requests were left at `at`."""

    name: str
    tokens: int
    at: datetime
    version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """A row of `dca_balances`: what the account held at one quiet instant.

    `coins` is by symbol, amounts as text. Every activity with an instant not after `at` is in it.
    """

    at: datetime
    cash: Decimal
    coins: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """A row of `dca_activities`: one change of cash or coins as the venue's own history tells it.

    `kind` is the venue's word (FILL, CFEE, CSD and so on). `qty` are coins of `symbol`, signed: what the
    account gained; `net` is USD, signed alike; None where the venue says nothing. `order_id` is the
    venue's id of the order of a fill.
    """

    id: str
    kind: str
    at: datetime
    symbol: str | None = None
    qty: Decimal | None = None
    price: Decimal | None = None
    net: Decimal | None = None
    order_id: str | None = None
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stake:
    """Money of one unfinished cycle that is or may come to be at risk, in USD.

    `owned_cost` is what its coins cost; `resting` is limit times remaining quantity of its live buy;
    `steps` counts its used safety orders; `working` is the step of its live buy, `asked_at` when the
    venue was asked to take it, None without one. `in_flight`: the venue has not shown that it has it.
    """

    asset_id: int
    cycle_id: int
    owned_cost: Decimal
    resting: Decimal
    steps: int
    working: int | None = None
    asked_at: datetime | None = None
    in_flight: bool = False
