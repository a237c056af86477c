"""What does not hold once everything is quiet, judged by the simulated venue and the store alone."""

from collections import Counter
from decimal import Decimal as D

from build import BTC

from dca.adapters.venues.sim import SimVenue
from dca.domain.asset import Asset
from dca.domain.folding import unmeasured_buys
from dca.domain.order import OrderStatus, Side
from dca.domain.position import fold
from dca.ports import Store
from dca.strategy.ladder import commitment


def violations(store: Store, venue: SimVenue) -> list[str]:
    """What does not hold once everything is quiet; nobody but the bot ever touched the account."""
    orders = store.read(lambda tx: tx.orders())
    fills = store.read(lambda tx: tx.fills())
    found = []
    for key, times in Counter(intent.key for intent in venue.submitted).items():
        if times > 1:
            found.append(f"key {key} reached the venue {times} times")
    journal = {order.key for order in orders}
    found += [f"{order.key} unknown" for order in venue.orders.values() if order.key not in journal]
    found += [f"{order.key} in flight" for order in orders if order.status is OrderStatus.IN_FLIGHT]
    booked = Counter((fill.order_key, fill.cum_qty) for fill in fills if fill.qty > 0)
    there = Counter()
    for venue_id, order in venue.orders.items():
        there.update((order.key, one.cum_qty) for one in venue.executions(venue_id))
    if booked != there:
        found.append(f"fills differ: {booked - there} too many, {there - booked} missing")
    for asset in store.read(lambda tx: tx.assets()):
        found += _of_asset(store, venue, asset)
    for event in store.read(lambda tx: tx.events(limit=100_000)):
        if event.name in ("asset_halted", "error_cycle", "cycle_refolded", "order_restored"):
            found.append(f"{event.name}: {event.reason}")
    return found


def _of_asset(store: Store, venue: SimVenue, asset: Asset) -> list[str]:
    symbol, found = asset.asset_symbol, []
    orders = [order for order in store.read(lambda tx: tx.orders()) if order.intent.symbol == symbol]
    keys = {order.key for order in orders}
    fills = [fill for fill in store.read(lambda tx: tx.fills()) if fill.order_key in keys]
    cycles = [cycle for cycle in store.read(lambda tx: tx.cycles()) if cycle.asset_id == asset.id]
    owned = sum((cycle.quantity for cycle in cycles), D(0))
    held = venue.coins.get(symbol, D(0))
    # Where reads kept failing, a position was sold on the estimate of its fee, which is the most
    # it can be: so much may have stayed behind, and the next measurement finds it.
    unmeasured = {order.key for order in unmeasured_buys(orders, fills)}
    unmeasured |= {order.key for order in orders if order.live}
    behind = sum((fill.fee for fill in fills if fill.order_key in unmeasured), D(0))
    if not D(0) <= held - owned <= BTC.min_trade_increment + behind:
        found.append(f"{symbol}: {owned} folded, {held} held")
    for cycle in cycles:
        mine = [fill for fill in fills if fill.cycle_id == cycle.id]
        if fold(mine).quantity != cycle.quantity:
            found.append(f"cycle {cycle.id} is not the fold of its fills")
        spent = sum((fill.qty * fill.price for fill in mine if fill.side is Side.BUY), D(0))
        if spent > commitment(asset.rules):
            found.append(f"cycle {cycle.id} spent {spent}")
    if sum(not cycle.finished for cycle in cycles) != 1:
        found.append(f"{symbol}: not exactly one unfinished cycle")
    return found
