"""Rows to domain values and back: plain functions, one pair a table.

Reading goes by position, in the order of the column lists here, because one statement reads several
tables whose columns share names.
"""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from enum import Enum
from typing import Any, TypeVar

from sqlalchemy import Column, Table

from dca.adapters.db import tables as t
from dca.domain.account import Activity, Balance, Breaker, BreakerState, Budget, Funds, Stake
from dca.domain.asset import Asset, Rules
from dca.domain.cycle import Cycle, CycleStatus
from dca.domain.mode import Mode, Restriction
from dca.domain.money import ZERO
from dca.domain.order import Intent, Order, OrderStatus, Purpose, Side, TimeInForce
from dca.domain.position import Fill
from dca.domain.record import Decision, Event, Heartbeat, Lease, Message
from dca.domain.replacement import Replacement, Stage

Row = Sequence[Any]
Values = dict[str, Any]
E = TypeVar("E", bound=Enum)


class _Members(dict[str, E]):
    """The members of an Enum by value, in a tenth of the time that the Enum itself takes to tell them."""

    def __init__(self, kind: type[E]) -> None:
        super().__init__((one.value, one) for one in kind)
        self._kind = kind

    def __missing__(self, value: object) -> E:
        """Raises ValueError, as the Enum does."""
        return self._kind(value)


_SIDES, _PURPOSES, _TIMES = _Members(Side), _Members(Purpose), _Members(TimeInForce)
_ORDER_STATUSES, _CYCLE_STATUSES = _Members(OrderStatus), _Members(CycleStatus)


def _columns(table: Table, *left_out: str) -> list[Column[Any]]:
    return [column for column in table.columns if column.name not in left_out]


ASSET = _columns(t.assets)
CYCLE = _columns(t.cycles, "open_slot")
ORDER = _columns(t.orders, "seq", "live_slot")
FILL = _columns(t.fills, "seq")
EVENT = _columns(t.events, "seq")
DECISION = _columns(t.decisions, "seq")
MESSAGE = _columns(t.outbox, "seq", "sent_at")
HEARTBEAT = _columns(t.heartbeats)
LEASE = _columns(t.leases)
MODE = _columns(t.modes)
FUNDS = _columns(t.funds)
BREAKER = _columns(t.breakers)
BUDGET = _columns(t.budgets)
REPLACEMENT = _columns(t.replacements, "seq", "open_slot")
BALANCE = _columns(t.balances, "seq")
ACTIVITY = _columns(t.activities, "seq")

_ADDED_RULES = (
    "stop_loss_percent",
    "stop_loss_timeout",
    "stop_loss_trailing",
    "break_even_percent",
    "stop_loss_cooldown_period",
)
"""Rules whose columns came later and stand at the end of the row; NULL means the default."""
_RULES = tuple(name for name in Rules.__dataclass_fields__ if name not in _ADDED_RULES)
_ASSET_OWN = tuple(name for name in Asset.__dataclass_fields__ if name not in ("id", "rules"))
_CYCLE_OWN = tuple(name for name in Cycle.__dataclass_fields__ if name not in ("id", "previous_completed_at"))
_ORDER_OWN = tuple(name for name in Order.__dataclass_fields__ if name != "intent")
_INTENT = tuple(Intent.__dataclass_fields__)
_FILL = tuple(Fill.__dataclass_fields__)
_RULES_END = 3 + len(_RULES)
_LATER = len(_ADDED_RULES) + 1
"""Those rules, and `stopped_out` after them."""
CYCLE_NAMES = (*_CYCLE_OWN, "open_slot")
"""What `cycle_values` has."""
FATE_NAMES = (*_ORDER_OWN, "live_slot")
"""What `fate_values` has."""


def asset_of(row: Row) -> Asset:
    """The asset in a row of ASSET."""
    own, later = row[_RULES_END:-_LATER], row[-_LATER:]
    last_sell_price, halted_reason, created_at, updated_at, version, paused, accepted = own
    added = zip(_ADDED_RULES, later[:-1], strict=True)
    rules = dict(zip(_RULES, row[3:_RULES_END], strict=True))
    rules |= {name: value for name, value in added if value is not None}
    return Asset(
        id=row[0],
        asset_symbol=row[1],
        is_enabled=row[2],
        rules=Rules(**rules),
        last_sell_price=last_sell_price,
        halted_reason=halted_reason,
        paused_reason=paused,
        accepted_difference=ZERO if accepted is None else accepted,
        stopped_out=bool(later[-1]),
        created_at=created_at,
        updated_at=updated_at,
        version=version,
    )


def rules_values(rules: Rules) -> Values:
    return {name: getattr(rules, name) for name in Rules.__dataclass_fields__}


def asset_values(asset: Asset) -> Values:
    """The columns of an asset but its id."""
    return {**rules_values(asset.rules), **{name: getattr(asset, name) for name in _ASSET_OWN}}


def cycle_of(row: Row) -> Cycle:
    """The cycle in a row of CYCLE followed by `previous_completed_at`.

    A status that somebody wrote past the program is an error of this cycle alone.
    """
    return Cycle(
        id=row[0],
        asset_id=row[1],
        status=_CYCLE_STATUSES.get(row[2], CycleStatus.ERROR),
        quantity=row[3],
        average_purchase_price=row[4],
        safety_orders=row[5],
        latest_order_id=row[6],
        latest_order_created_at=row[7],
        last_order_fill_price=row[8],
        highest_trailing_price=row[9],
        completed_at=row[10],
        sell_price=row[11],
        created_at=row[12],
        updated_at=row[13],
        version=row[14],
        stop_price=row[15],
        stop_since=row[16],
        previous_completed_at=row[17],
    )


def cycle_values(cycle: Cycle) -> Values:
    """The columns of a cycle but its id."""
    values = {name: getattr(cycle, name) for name in _CYCLE_OWN}
    values["status"] = cycle.status.value
    values["open_slot"] = None if cycle.finished else cycle.asset_id
    return values


def order_of(row: Row) -> Order:
    """The order in a row of ORDER."""
    intent = Intent(
        key=row[0],
        cycle_id=row[1],
        symbol=row[2],
        side=_SIDES[row[3]],
        purpose=_PURPOSES[row[4]],
        step=row[5],
        qty=row[6],
        limit=row[7],
        reason=row[8],
        time_in_force=_TIMES[row[18] or TimeInForce.GTC.value],
    )
    return Order(
        intent=intent,
        status=_ORDER_STATUSES[row[9]],
        created_at=row[10],
        updated_at=row[11],
        filled_qty=row[12],
        filled_avg_price=row[13],
        venue_id=row[14],
        unclear=row[15],
        detail=row[16],
        version=row[17],
        sent_at=row[19],
    )


def fate_values(order: Order) -> Values:
    """The columns of an order that change in its life; what was wished for does not."""
    values = {name: getattr(order, name) for name in _ORDER_OWN}
    values["status"] = order.status.value
    values["live_slot"] = order.intent.cycle_id if order.live else None
    return values


def order_values(order: Order) -> Values:
    """The columns of an order."""
    intent = order.intent
    values = {name: getattr(intent, name) for name in _INTENT}
    values["side"] = intent.side.value
    values["purpose"] = intent.purpose.value
    values["time_in_force"] = intent.time_in_force.value
    values.update(fate_values(order))
    return values


def fill_of(row: Row) -> Fill:
    """The fill in a row of FILL."""
    return Fill(
        id=row[0],
        order_key=row[1],
        cycle_id=row[2],
        side=_SIDES[row[3]],
        qty=row[4],
        price=row[5],
        fee=row[6],
        cum_qty=row[7],
        at=row[8],
    )


def fill_values(fill: Fill) -> Values:
    values = {name: getattr(fill, name) for name in _FILL}
    values["side"] = fill.side.value
    return values


def event_of(row: Row) -> Event:
    """The event in a row of EVENT."""
    at, name, reason, asset_id, cycle_id, order_key, data, uid = row
    return Event(
        name=name,
        at=at,
        reason=reason,
        asset_id=asset_id,
        cycle_id=cycle_id,
        order_key=order_key,
        data=data,
        uid=uid,
    )


def event_values(event: Event) -> Values:
    return {column.name: getattr(event, column.name) for column in EVENT}


def decision_of(row: Row) -> Decision:
    """The decision in a row of DECISION."""
    asset_id, cycle_id, at, code, reason, bid, ask, data = row
    return Decision(
        asset_id=asset_id, cycle_id=cycle_id, at=at, code=code, reason=reason, bid=bid, ask=ask, data=data
    )


def decision_values(decision: Decision) -> Values:
    return {column.name: getattr(decision, column.name) for column in DECISION}


def message_of(row: Row) -> Message:
    key, name, text, at = row
    return Message(key=key, name=name, text=text, at=at)


def message_values(message: Message) -> Values:
    return {"key": message.key, "name": message.name, "text": message.text, "at": message.at}


def heartbeat_of(row: Row) -> Heartbeat:
    name, at, detail = row
    return Heartbeat(name=name, at=at, detail=detail)


def lease_of(row: Row) -> Lease:
    name, holder, expires_at, version = row
    return Lease(name=name, holder=holder, expires_at=expires_at, version=version)


def mode_of(row: Row) -> Restriction:
    source, mode, reason, since, until = row
    return Restriction(source=source, mode=Mode(mode), reason=reason, since=since, until=until)


def mode_values(restriction: Restriction) -> Values:
    return {column.name: getattr(restriction, column.name) for column in MODE} | {
        "mode": restriction.mode.value
    }


def funds_of(row: Row) -> Funds:
    return Funds(**_named(FUNDS, row))


def funds_values(funds: Funds) -> Values:
    return _values(FUNDS, funds)


def breaker_of(row: Row) -> Breaker:
    named = _named(BREAKER, row)
    return Breaker(**{**named, "state": BreakerState(named["state"])})


def breaker_values(breaker: Breaker) -> Values:
    return {**_values(BREAKER, breaker), "state": breaker.state.value}


def budget_of(row: Row) -> Budget:
    return Budget(**_named(BUDGET, row))


def budget_values(budget: Budget) -> Values:
    return _values(BUDGET, budget)


def replacement_of(row: Row) -> Replacement:
    named = _named(REPLACEMENT, row)
    return Replacement(**{**named, "stage": Stage(named["stage"])})


def replacement_values(replacement: Replacement) -> Values:
    slot = None if replacement.over else replacement.cycle_id
    return {**_values(REPLACEMENT, replacement), "stage": replacement.stage.value, "open_slot": slot}


def balance_of(row: Row) -> Balance:
    return Balance(**_named(BALANCE, row))


def balance_values(balance: Balance) -> Values:
    return _values(BALANCE, balance)


def activity_of(row: Row) -> Activity:
    return Activity(**_named(ACTIVITY, row))


def activity_values(activity: Activity) -> Values:
    return _values(ACTIVITY, activity)


def stake_of(row: Row, booked: Decimal) -> Stake:
    """The stake in a row of the statement STAKES; fills of `booked` coins are stored for its live buy."""
    asset_id, cycle_id, quantity, average, steps, step, qty, _, limit, created_at, sent_at, status, _ = row
    resting = ZERO if limit is None else (qty - booked) * limit
    in_flight = status == OrderStatus.IN_FLIGHT.value
    return Stake(
        asset_id, cycle_id, quantity * average, resting, steps, step, sent_at or created_at, in_flight
    )


def _named(columns: list[Column[Any]], row: Row) -> Values:
    return {column.name: value for column, value in zip(columns, row, strict=True)}


def _values(columns: list[Column[Any]], value: object) -> Values:
    return {column.name: getattr(value, column.name) for column in columns}


R = TypeVar("R", Asset, Cycle, Order, Lease, Funds, Breaker, Budget, Replacement)


def raised(row: R) -> R:
    """`row` as it stands after it was written once more."""
    return replace(row, version=row.version + 1)
