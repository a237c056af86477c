"""What an order and its cycle become when the venue shows something: order-free and repeatable."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from dca.domain.cycle import Cycle, CycleStatus
from dca.domain.fees import FeeRates
from dca.domain.money import ZERO
from dca.domain.order import MOVES, Execution, Order, OrderStatus, Purpose, Side, VenueOrder
from dca.domain.position import Fill, average_price, fold, gross

AVERAGE_STEP = Decimal("1e-12")
DUST_USD = Decimal(1)
"""A remainder worth less cannot be sold (the venue's smallest order is about a dollar)."""
_OVER = frozenset({OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.EXPIRED, OrderStatus.REJECTED})


def observe(order: Order, seen: VenueOrder, known: Decimal, at: datetime) -> Order:
    """`order` after the venue showed `seen`, `known` being the quantity of its stored fills.

    Late, doubled and reordered messages change nothing or the right thing. An order is over only
    when every execution that the venue counts is stored: until then it stays partial, however
    terminal the venue's word, because a cycle decided on half its coins is decided wrongly.
    """
    filled = max(order.filled_qty, seen.filled_qty, known)
    target = _target(order, seen, filled, known)
    if target is order.status or target not in MOVES[order.status]:
        target = order.status
    average = order.filled_avg_price
    if seen.filled_avg_price is not None and seen.filled_qty >= order.filled_qty:
        average = seen.filled_avg_price.quantize(AVERAGE_STEP)
    changed = replace(
        order,
        status=target,
        filled_qty=filled,
        filled_avg_price=average,
        venue_id=order.venue_id or seen.venue_id,
    )
    return order if changed == order else replace(changed, updated_at=at)


def _target(order: Order, seen: VenueOrder, filled: Decimal, known: Decimal) -> OrderStatus:
    if known >= order.intent.qty and known >= filled:
        return OrderStatus.FILLED
    if seen.status in _OVER and known >= filled:
        return seen.status
    if order.status in _OVER and known >= filled:
        # Said before its end, heard after it.
        return order.status
    return OrderStatus.PARTIAL if filled > 0 else OrderStatus.OPEN


def folded(cycle: Cycle, orders: Sequence[Order], fills: Sequence[Fill], at: datetime) -> Cycle:
    """`cycle` as its `orders` (in journal order) and `fills` make it.

    Its successor is not its business: a caller that gets a `complete` cycle back opens the next.
    """
    position = fold(fills)
    working = next((order for order in orders if order.live and order.venue_id is not None), None)
    changed = replace(
        cycle,
        quantity=position.quantity,
        average_purchase_price=position.average.quantize(AVERAGE_STEP),
        safety_orders=_steps_used(orders, fills),
        last_order_fill_price=last_fill_price(orders, fills),
        latest_order_id=working.venue_id if working else None,
        latest_order_created_at=working.created_at if working else None,
    )
    changed = _with_status(changed, working, orders, fills, at)
    return cycle if changed == cycle else replace(changed, updated_at=at)


def _with_status(
    cycle: Cycle, working: Order | None, orders: Sequence[Order], fills: Sequence[Fill], at: datetime
) -> Cycle:
    if working is not None:
        buying = working.intent.side is Side.BUY
        return replace(cycle, status=CycleStatus.BUYING if buying else CycleStatus.SELLING)
    sell_price = average_price(fill for fill in fills if fill.side is Side.SELL)
    in_flight = any(order.live for order in orders)
    if sell_price is not None and not in_flight and _is_dust(cycle.quantity, sell_price):
        price = sell_price.quantize(AVERAGE_STEP)
        return replace(cycle, status=CycleStatus.COMPLETE, completed_at=at, sell_price=price)
    nothing_to_trail = cycle.status is CycleStatus.TRAILING and cycle.quantity <= 0
    if nothing_to_trail or cycle.status in (CycleStatus.BUYING, CycleStatus.SELLING):
        return replace(cycle, status=CycleStatus.WATCHING, highest_trailing_price=None)
    return cycle


def _is_dust(quantity: Decimal, price: Decimal) -> bool:
    return quantity * price < DUST_USD


def _filled(order: Order, fills: Iterable[Fill]) -> bool:
    return gross(fill for fill in fills if fill.order_key == order.key) > 0


def _steps_used(orders: Sequence[Order], fills: Sequence[Fill]) -> int:
    """A step is used once an order of it has ended with any fill; an empty one goes back to the plan.
    Several orders may share a step: what one of them left is bought by the next."""
    safety = (order for order in orders if order.intent.purpose is Purpose.SAFETY)
    return len({order.intent.step for order in safety if not order.live and _filled(order, fills)})


def last_fill_price(orders: Sequence[Order], fills: Sequence[Fill]) -> Decimal | None:
    """What the newest buy that bought anything paid per unit, before fees."""
    for order in reversed(orders):
        if order.intent.side is Side.BUY:
            price = average_price(fill for fill in fills if fill.order_key == order.key)
            if price is not None:
                return price.quantize(AVERAGE_STEP)
    return None


def committed(orders: Iterable[Order], fills: Iterable[Fill]) -> Decimal:
    """USD that a cycle has spent on buys, or may still spend on those that are live."""
    fills = list(fills)
    spent = sum((fill.qty * fill.price for fill in fills if fill.side is Side.BUY), ZERO)
    for order in orders:
        if order.live and order.intent.side is Side.BUY and order.intent.limit is not None:
            # What the venue has only counted is paid as well, though no fill says yet for how much.
            booked = gross(fill for fill in fills if fill.order_key == order.key)
            spent += (order.intent.qty - booked) * order.intent.limit
    return spent


def filled(key: str, cycle_id: int, side: Side, execution: Execution, fees: FeeRates) -> Fill:
    """The execution of the order `key` as it is booked: with the highest fee it can have."""
    return Fill(
        id=execution.id,
        order_key=key,
        cycle_id=cycle_id,
        side=side,
        qty=execution.qty,
        price=execution.price,
        fee=fees.estimate(side, execution.qty, execution.price),
        cum_qty=execution.cum_qty,
        at=execution.at,
    )


def corrected_fee(key: str, cycle_id: int, correction: Decimal, at: datetime) -> Fill:
    """What makes the estimated coin fees of a buy the true ones."""
    return Fill(
        id=fee_fill_id(key),
        order_key=key,
        cycle_id=cycle_id,
        side=Side.BUY,
        qty=ZERO,
        price=ZERO,
        fee=correction,
        cum_qty=ZERO,
        at=at,
    )


def fee_fill_id(key: str) -> str:
    """The id under which the correction of an order's fee is stored; it is made once."""
    return f"fee:{key}"


def unmeasured_buys(orders: Iterable[Order], fills: Sequence[Fill]) -> list[Order]:
    """Ended buys with fills whose coin fee is still an estimate; what was adopted has none."""
    stored = {fill.id for fill in fills}
    return [
        order
        for order in orders
        if order.intent.side is Side.BUY
        and order.intent.purpose is not Purpose.ADOPTED
        and not order.live
        and fee_fill_id(order.key) not in stored
        and _filled(order, fills)
    ]
