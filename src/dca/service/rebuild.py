"""The cycles as the venue's orders and fills alone tell them: what the database lacks, put there."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from dca.domain.asset import Asset
from dca.domain.cycle import Cycle, CycleStatus
from dca.domain.errors import ConfigError, StaleWrite, Unavailable
from dca.domain.fees import FeeRates
from dca.domain.folding import corrected_fee, filled, folded, observe
from dca.domain.market import compact
from dca.domain.mode import Mode, Restriction
from dca.domain.money import ZERO, plain
from dca.domain.order import (
    KEY,
    Execution,
    Intent,
    Order,
    OrderStatus,
    Purpose,
    VenueOrder,
    is_ours,
)
from dca.domain.position import Fill, fold, gross
from dca.domain.record import Event
from dca.ports import Broker, Clock, CycleRecord, Store, Tx
from dca.service import cycles
from dca.service.catchup import bought, measured
from dca.service.recorder import FOLDED, ended_by

log = logging.getLogger(__name__)

BEGINNING = datetime(2015, 1, 1, tzinfo=UTC)
"""No order of this program is older."""
SOURCE = "rebuild"
"""The source of the mode that holds until a person has compared what was rebuilt."""
TRIES, PAUSE_S = 20, 5.0
COMPARED = (*FOLDED, "completed_at", "sell_price")
FATE = ("status", "filled_qty", "filled_avg_price", "venue_id")
NEVER_THERE = frozenset({OrderStatus.REJECTED, OrderStatus.LOST, OrderStatus.DRY_RUN})
GONE = "not there"
"""What nobody can put right from here: the order_manager asks for such an order by its key."""
WHY = "the database was rebuilt from the venue; look at `dca status`, then: dca resume"


@dataclass(frozen=True, slots=True)
class Line:
    """One difference. `here` is what the database has, `venue` what the venue's orders and fills make."""

    subject: str
    what: str
    here: str
    venue: str


@dataclass(frozen=True, slots=True)
class Plan:
    """One cycle as it must be, and how the database differs; `before` is None where it lacks the cycle.

    `fixed` where the database has it finished: history is not rewritten.
    """

    asset: Asset
    before: CycleRecord | None
    after: CycleRecord
    lines: list[Line]
    fixed: bool = False

    @property
    def can_be_mended(self) -> bool:
        return not self.fixed and any(line.venue != GONE for line in self.lines)


def installations(orders: Iterable[VenueOrder]) -> Counter[str]:
    """How many orders each installation of this program has placed on the account."""
    return Counter(match["install"] for match in (KEY.match(order.key) for order in orders) if match)


class Rebuild:
    """Compares and restores. `install` is whose keys count, which may not be the store's yet.

    No order is placed or canceled. `rest` waits so many real seconds.

    What the venue cannot tell stays as it is: a peak that was trailed, the place of a stop, halts and
    pauses. It never saw orders that it refused, nor what was adopted.
    """

    def __init__(
        self,
        store: Store,
        broker: Broker,
        clock: Clock,
        fees: FeeRates,
        install: str,
        rest: Callable[[float], object] = lambda _: None,
    ) -> None:
        self._rest = rest
        self._store = store
        self._broker = broker
        self._clock = clock
        self._fees = fees
        self._install = install

    def plans(self) -> list[Plan]:
        """Every cycle of which the venue has an order, the oldest first.

        Raises Unavailable, and ConfigError when an asset is missing or the keys contradict the database.
        """
        found = [one for one in self._broker.orders_since(BEGINNING) if is_ours(one.key, self._install)]
        groups = _by_cycle(found)
        assets = {compact(one.asset_symbol): one for one in self._store.read(lambda tx: tx.assets())}
        _refuse_missing(groups, assets)
        asset_of = {number: assets[compact(group[0].symbol)] for number, group in groups.items()}
        plans = [self._plan(number, groups, asset_of[number], asset_of) for number in sorted(groups)]
        plans = [self._measured(plan, plans) for plan in plans]
        last = _last_sales(plans)
        return [replace(one, lines=one.lines + _of_asset(one)) if one in last else one for one in plans]

    def apply(self, plans: Sequence[Plan]) -> None:
        """The database has what the plans say, one transaction for each cycle; nothing is bought until a
        person resumes.

        Raises StaleWrite when somebody else writes the same rows: look again and repeat it.
        """
        changed = [plan for plan in plans if plan.can_be_mended]
        last = [plan for plan in _last_sales(plans) if _of_asset(plan)]
        if not changed and not last and not self._store.read(_without_cycle):
            return
        self._store.write(self._restrict)
        for plan in changed:
            self._store.write(lambda tx, plan=plan: self._write(tx, plan))  # type: ignore[misc]
        self._store.write(lambda tx: self._succeed(tx, last))

    def _executions(self, venue_id: str) -> list[Execution]:
        """One question an order: a long history uses up what may be asked in a minute, and waits."""
        for _ in range(TRIES):
            try:
                return self._broker.executions(venue_id)
            except Unavailable as error:
                log.info("rebuild_waits", extra={"error": str(error)})
                self._rest(PAUSE_S)
        return self._broker.executions(venue_id)

    # What must be

    def _plan(
        self,
        number: int,
        groups: Mapping[int, Sequence[VenueOrder]],
        asset: Asset,
        asset_of: Mapping[int, Asset],
    ) -> Plan:
        before = self._store.read(lambda tx: _books(tx, number, asset))
        later = [other for other in groups if other > number and asset_of[other].id == asset.id]
        seen = groups[number]
        if before is not None and before.cycle.finished:
            return Plan(asset, before, before, list(_unknown(before, seen)), fixed=True)
        ended_at = min((one.submitted_at for one in groups[min(later)]), default=None) if later else None
        after = self._restored(number, asset, before, seen, ended_at)
        return Plan(asset, before, after, list(_differences(asset.asset_symbol, before, after, seen)))

    def _restored(
        self,
        number: int,
        asset: Asset,
        before: CycleRecord | None,
        seen: Sequence[VenueOrder],
        ended_at: datetime | None,
    ) -> CycleRecord:
        orders = {order.key: order for order in (before.orders if before else ())}
        fills = list(before.fills if before else ())
        last = max(one.submitted_at for one in seen)
        for one in seen:
            stored = [fill for fill in fills if fill.order_key == one.key]
            told = self._executions(one.venue_id) if one.filled_qty > gross(stored) else []
            new = _new_fills(one, number, told, stored, self._fees)
            fills += new
            at = max([one.submitted_at, *(fill.at for fill in new)])
            last = max(last, at)
            order = orders.get(one.key) or _order_of(one, number, asset)
            orders[one.key] = observe(order, one, gross([*stored, *new]), at)
        listed = list(orders.values())
        fills += _proven(listed, fills, last)
        cycle = before.cycle if before else _new_cycle(number, asset, seen)
        if cycle.status is CycleStatus.COOLDOWN:
            cycle = replace(cycle, status=CycleStatus.WATCHING)
        after = folded(cycle, listed, fills, last)
        if ended_at is not None and not after.finished:
            after = _in_error(after, ended_at)
        return CycleRecord(after, listed, fills)

    def _measured(self, plan: Plan, plans: Sequence[Plan]) -> Plan:
        """The plan with the coin fees that the position shows, where the cycle is open and quiet."""
        record = plan.after
        buys = bought(record.orders, record.fills)
        busy = any(order.live for order in record.orders)
        if plan.fixed or record.cycle.finished or busy or not buys:
            return plan
        planned = {one.after.cycle.id: one.after.cycle for one in plans if one.asset.id == plan.asset.id}
        stored = self._store.read(lambda tx: tx.cycles())
        others = {cycle.id: cycle for cycle in stored if cycle.asset_id == plan.asset.id}
        owned = sum((cycle.owned for cycle in {**others, **planned}.values()), ZERO)
        held = self._broker.holding(plan.asset.asset_symbol).qty - plan.asset.accepted_difference
        corrections = measured(buys, held - owned)
        if corrections is None:
            return plan
        at = record.cycle.updated_at
        fills = [
            *record.fills,
            *(corrected_fee(key, record.cycle.id, fee, at) for key, fee in corrections.items()),
        ]
        after = CycleRecord(folded(record.cycle, record.orders, fills, at), record.orders, fills)
        lines = list(_differences(plan.asset.asset_symbol, plan.before, after, ()))
        lines += [line for line in plan.lines if line not in lines and not line.subject.startswith("cycle ")]
        return replace(plan, after=after, lines=lines)

    # Writing it

    def _restrict(self, tx: Tx) -> None:
        now = self._clock.now()
        tx.put_mode(Restriction(source=SOURCE, mode=Mode.REDUCE_ONLY, reason=WHY, since=now))
        tx.add_event(Event(name="rebuild_begun", at=now, reason=WHY))

    def _write(self, tx: Tx, plan: Plan) -> None:
        before, record = plan.before, plan.after
        _make_room(tx, record.cycle)
        if before is not None and tx.cycle(record.cycle.id) != before.cycle:
            raise StaleWrite(f"cycle {record.cycle.id} changed meanwhile")
        cycles.put_back(tx, record.cycle)
        known = {order.key: order for order in (before.orders if before else ())}
        for order in record.orders:
            if order.key in known and order != known[order.key]:
                tx.update_order(order)
        for order in record.orders:
            if order.key not in known:
                _insert(tx, order)
        for fill in record.fills:
            tx.insert_fill(fill)
        tx.add_event(
            Event(
                name="cycle_rebuilt",
                at=self._clock.now(),
                reason=f"cycle {record.cycle.id} is as the venue's orders and fills tell it",
                asset_id=plan.asset.id,
                cycle_id=record.cycle.id,
                data={"differences": len(plan.lines)},
            )
        )
        log.warning("cycle_rebuilt", extra={"cycle_id": record.cycle.id, "differences": len(plan.lines)})

    def _succeed(self, tx: Tx, last: Sequence[Plan]) -> None:
        """Every asset knows its last sale, and has an unfinished cycle, if need be one never used."""
        for plan in last:
            situation = tx.situation(plan.asset.id)
            if situation is not None:
                sold = replace(situation.asset, updated_at=self._clock.now(), **_sold(plan.after))
                tx.update_asset(sold)
        for asset in _without_cycle(tx):
            cycles.begun(tx, asset, self._clock.now())


# From the venue to rows


def _by_cycle(orders: Iterable[VenueOrder]) -> dict[int, list[VenueOrder]]:
    """Ours by the cycle that their keys name, each cycle's oldest first."""
    groups: dict[int, list[VenueOrder]] = {}
    for order in sorted(orders, key=lambda one: (one.submitted_at, one.key)):
        match = KEY.match(order.key)
        assert match is not None, "only ours are asked for"
        group = groups.setdefault(int(match["cycle"]), [])
        if group and compact(group[0].symbol) != compact(order.symbol):
            raise ConfigError(
                f"the venue has orders of {group[0].symbol} and {order.symbol} for cycle {match['cycle']}: "
                "two databases have used the same keys, which only a person can sort out"
            )
        group.append(order)
    return groups


def _refuse_missing(groups: Mapping[int, Sequence[VenueOrder]], assets: Mapping[str, Asset]) -> None:
    named = {group[0].symbol for group in groups.values() if compact(group[0].symbol) not in assets}
    if named:
        raise ConfigError(
            f"the venue has orders of {', '.join(sorted(named))}, of which the database has no asset. Rules "
            "cannot come from the venue: add each as it was (dca asset add), then repeat this"
        )


def _books(tx: Tx, number: int, asset: Asset) -> CycleRecord | None:
    """The cycle as the database has it; None without one, and for one that was never used."""
    cycle = tx.cycle(number)
    if cycle is None:
        return None
    record = CycleRecord(cycle, tx.orders_of(number), tx.fills_of(number))
    if cycle.asset_id == asset.id:
        # When the one before it ended is no column of it.
        return record if record.orders or not _is_placeholder(tx, cycle) else None
    if record.orders:
        raise ConfigError(
            f"cycle {number} is of {asset.asset_symbol} at the venue and of another asset in the database: "
            "is this the database of another account?"
        )
    return None


def _is_placeholder(tx: Tx, cycle: Cycle) -> bool:
    """Whether nothing was ever done in the cycle, so that its number is free."""
    return not cycle.finished and not tx.orders_of(cycle.id)


def _order_of(seen: VenueOrder, number: int, asset: Asset) -> Order:
    match = KEY.match(seen.key)
    assert match is not None
    intent = Intent(
        key=seen.key,
        symbol=asset.asset_symbol,
        side=seen.side,
        purpose=Purpose(match["purpose"]),
        step=int(match["step"]),
        qty=seen.qty if seen.qty is not None else seen.filled_qty,
        limit=seen.limit,
        cycle_id=number,
        reason="rebuilt from the venue",
    )
    at = seen.submitted_at
    return Order(intent=intent, status=OrderStatus.IN_FLIGHT, created_at=at, updated_at=at)


def _new_fills(
    seen: VenueOrder, number: int, told: Iterable[Execution], stored: Sequence[Fill], fees: FeeRates
) -> list[Fill]:
    known = {fill.cum_qty for fill in stored}
    return [
        filled(seen.key, number, seen.side, one, fees)
        for one in sorted(told, key=lambda one: one.cum_qty)
        if one.cum_qty not in known
    ]


def _proven(orders: Sequence[Order], fills: Sequence[Fill], at: datetime) -> list[Fill]:
    """Corrections of coin fees that the sales prove: more was sold than the estimates left."""
    quantity = fold(fills).quantity
    if quantity >= 0 or any(order.live for order in orders):
        return []
    corrections = measured(bought(orders, fills), -quantity) if bought(orders, fills) else None
    number = fills[0].cycle_id
    return [corrected_fee(key, number, correction, at) for key, correction in (corrections or {}).items()]


def _new_cycle(number: int, asset: Asset, seen: Sequence[VenueOrder]) -> Cycle:
    began = min(one.submitted_at for one in seen)
    return Cycle(
        id=number, asset_id=asset.id, status=CycleStatus.WATCHING, created_at=began, updated_at=began
    )


def _in_error(cycle: Cycle, at: datetime) -> Cycle:
    """A later cycle of the asset has orders, so this one had ended: its coins were gone."""
    return replace(
        cycle,
        status=CycleStatus.ERROR,
        completed_at=at,
        updated_at=at,
        latest_order_id=None,
        latest_order_created_at=None,
    )


# Rows


def _make_room(tx: Tx, cycle: Cycle) -> None:
    """No cycle that was never used has the number, or the place, of `cycle`."""
    there, situation = tx.cycle(cycle.id), tx.situation(cycle.asset_id)
    if there is not None and there.asset_id != cycle.asset_id:
        tx.remove_cycle(there)
    if situation is not None and situation.cycle is not None and situation.cycle.id != cycle.id:
        tx.remove_cycle(situation.cycle)


def _insert(tx: Tx, order: Order) -> None:
    """The order is in the journal; a live one takes its cycle's slot last, if that is still free."""
    first = replace(order, status=OrderStatus.LOST) if order.live else order
    if not tx.insert_order(first):
        raise StaleWrite(f"order {order.key} was journaled meanwhile")
    if order.live:
        tx.update_order(replace(order, version=first.version))


def _sold(record: CycleRecord) -> dict[str, Any]:
    """What an asset remembers of its last sale."""
    stopped = ended_by(record) is Purpose.STOP_LOSS
    return {"last_sell_price": record.cycle.sell_price, "stopped_out": stopped}


def _without_cycle(tx: Tx) -> list[Asset]:
    return [one.asset for one in tx.situations() if one.cycle is None]


# Differences


def _differences(
    symbol: str, before: CycleRecord | None, after: CycleRecord, seen: Iterable[VenueOrder]
) -> Iterator[Line]:
    number = f"cycle {after.cycle.id} {symbol}"
    if before is None:
        yield Line(number, "row", "missing", _described(after.cycle))
    else:
        for name in COMPARED:
            here, venue = getattr(before.cycle, name), getattr(after.cycle, name)
            if here != venue:
                yield Line(number, name, _text(here), _text(venue))
    known = {order.key: order for order in (before.orders if before else ())}
    for order in after.orders:
        yield from _of_order(known.get(order.key), order)
    stored = {fill.id for fill in (before.fills if before else ())}
    for fill in after.fills:
        if fill.id not in stored:
            yield Line(f"fill {fill.id}", "row", "missing", _fill_text(fill))
    listed = {one.key for one in seen}
    for order in known.values() if listed else ():
        gone = order.status not in NEVER_THERE and order.intent.purpose is not Purpose.ADOPTED
        if gone and order.key not in listed:
            yield Line(f"order {order.key}", "row", str(order.status), GONE)


def _of_order(before: Order | None, after: Order) -> Iterator[Line]:
    name = f"order {after.key}"
    if before is None:
        qty, filled = plain(after.intent.qty), plain(after.filled_qty)
        yield Line(name, "row", "missing", f"{after.intent.side} of {qty}, {filled} filled, {after.status}")
        return
    for column in FATE:
        here, venue = getattr(before, column), getattr(after, column)
        if here != venue:
            yield Line(name, column, _text(here), _text(venue))


def _last_sales(plans: Iterable[Plan]) -> list[Plan]:
    """Of each asset the newest cycle that was sold."""
    sold = {plan.asset.id: plan for plan in plans if plan.after.cycle.status is CycleStatus.COMPLETE}
    return list(sold.values())


def _of_asset(plan: Plan) -> list[Line]:
    """What the asset does not remember of its last sale."""
    asset = plan.asset
    return [
        Line(f"asset {asset.asset_symbol}", name, _text(getattr(asset, name)), _text(value))
        for name, value in _sold(plan.after).items()
        if getattr(asset, name) != value
    ]


def _unknown(before: CycleRecord, seen: Iterable[VenueOrder]) -> Iterator[Line]:
    """What the venue tells of a finished cycle and the database lacks."""
    known = {order.key for order in before.orders}
    for one in seen:
        stored = gross(fill for fill in before.fills if fill.order_key == one.key)
        if one.key not in known or one.filled_qty > stored:
            text = f"{plain(one.filled_qty)} filled, {one.status}"
            yield Line(f"order {one.key}", "filled_qty", f"{plain(stored)}, and its cycle is finished", text)


def _described(cycle: Cycle) -> str:
    text = f"{cycle.status}, {plain(cycle.quantity)} at {plain(cycle.average_purchase_price)}"
    return f"{text}, {cycle.safety_orders} safety orders"


def _fill_text(fill: Fill) -> str:
    if not fill.qty:
        return f"fee of {fill.order_key} corrected by {plain(fill.fee)}"
    return f"{fill.side} of {plain(fill.qty)} at {plain(fill.price)}"


def _text(value: Any) -> str:
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return "none" if value is None else str(value)
