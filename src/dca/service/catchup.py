"""Catching up: what the streams may have missed is asked for and recorded like anything else."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal

from dca.domain.asset import Asset
from dca.domain.cycle import Cycle
from dca.domain.errors import IllegalTransition
from dca.domain.fees import COIN_STEP, FeeRates
from dca.domain.folding import unmeasured_buys
from dca.domain.money import ZERO
from dca.domain.order import Order, OrderStatus, Side, is_ours
from dca.domain.position import Fill, gross
from dca.ports import Broker, Clock, Store, Tx
from dca.service.recorder import Recorded, Recorder

log = logging.getLogger(__name__)


class CatchUp:
    """Brings the journal to what the venue knows. Half a view concludes nothing: reads raise."""

    def __init__(
        self, store: Store, broker: Broker, clock: Clock, recorder: Recorder, *, grace_s: float
    ) -> None:
        self._store = store
        self._broker = broker
        self._clock = clock
        self._recorder = recorder
        self._grace = clock.span(grace_s)

    def everything(self) -> None:
        """Every live order, and every order of ours the venue has open, is recorded as it stands.

        One that contradicts our books halts its asset, and the others are recorded all the same.
        Raises Unavailable when the venue cannot be read, StoreUnavailable when the database cannot.
        """
        orders = self._store.read(lambda tx: tx.live_orders())
        for order in orders:
            with self._halting(order.key):
                self.order(order.key)
        known = {order.key for order in orders}
        for seen in self._broker.open_orders():
            if is_ours(seen.key, self._store.install) and seen.key not in known:
                with self._halting(seen.key):
                    self._recorder.record(seen, source="catch_up")
        for cycle_id in self._store.read(_unmeasured):
            self.fees(cycle_id)

    @contextmanager
    def _halting(self, key: str) -> Iterator[None]:
        try:
            yield
        except IllegalTransition as error:
            log.error("order_contradicts", extra={"key": key, "error": str(error)})
            record = self._store.read(lambda tx: tx.cycle_record(key))
            if record is not None:
                self._recorder.halt(record.cycle.asset_id, str(error))

    def order(self, key: str, *, not_listed: bool = False) -> Recorded:
        """The order `key` is recorded as the venue shows it.

        One the venue does not know is LOST, but only past the grace: a request may still be under
        way, and a lookup may miss an order that was just accepted. One that was open is canceled if
        the list of open orders lacks it too (`not_listed`): an account that was reset forgets.
        """
        record = self._store.read(lambda tx: tx.cycle_record(key))
        if record is None:
            return Recorded(None)
        order = next(order for order in record.orders if order.key == key)
        if is_settled(order, record.fills):
            return Recorded(order)
        seen = self._broker.find(key)
        if seen is None:
            return self._not_there(order, not_listed)
        executions = self._broker.executions(seen.venue_id) if seen.filled_qty > 0 else []
        result = self._recorder.record(seen, executions, source="catch_up")
        if result.missing > 0:
            log.warning("executions_missing", extra={"key": key, "missing": str(result.missing)})
        return result

    def settle(self, key: str, *, not_listed: bool = False) -> Recorded:
        """The same, and the fee of a buy that ended is measured, as nobody else may do it soon."""
        result = self.order(key, not_listed=not_listed)
        if result.ended and result.order is not None and result.order.intent.side is Side.BUY:
            self.fees(result.order.intent.cycle_id)
        return result

    def _not_there(self, order: Order, not_listed: bool) -> Recorded:
        if not order.live or self._clock.now() - order.created_at < self._grace:
            return Recorded(order)
        if order.status is OrderStatus.IN_FLIGHT:
            return self._recorder.refuse(
                order.key, "the venue does not know it after the grace time", status=OrderStatus.LOST
            )
        log.error("order_vanished", extra={"key": order.key, "status": str(order.status)})
        if not_listed:
            return self._recorder.vanish(order.key, "the venue had it open and knows it no more")
        return Recorded(order)

    def fees(self, cycle_id: int) -> None:
        """The coin fees of a cycle's ended buys are what the position shows was taken.

        The venue's fills carry no fee (docs/alpaca.md, fees), and which rate applies depends
        on how the order met the book, so what is owned is measured: position minus what our books
        say. A difference that fees cannot explain is left alone, as drift for a person to see.
        """
        found = self._store.read(lambda tx: _unmeasured_of(tx, cycle_id))
        if found is None:
            return
        asset, cycle, owned, buys = found
        symbol = asset.asset_symbol
        # Coins beside ours that a person said are right are none of ours.
        held = self._broker.holding(symbol).qty - asset.accepted_difference
        estimate = sum((buy.fee for buy in buys), ZERO)
        fee = estimate - (held - owned)
        if ZERO <= fee <= FeeRates.HIGHEST * sum((buy.qty for buy in buys), ZERO):
            self._recorder.correct_fees(cycle, shared(fee - estimate, buys))
            return
        log.warning("position_differs", extra={"symbol": symbol, "held": str(held), "owned": str(owned)})
        if fee < ZERO:
            # More coins than ours are there: whose they are no fee can tell, so the estimates stay.
            self._recorder.correct_fees(cycle, shared(ZERO, buys))


def is_settled(order: Order, fills: Sequence[Fill]) -> bool:
    """Whether the venue can show nothing of `order` that is not stored."""
    stored = gross(fill for fill in fills if fill.order_key == order.key)
    filled = order.status is OrderStatus.FILLED and stored >= order.filled_qty
    return filled or order.status is OrderStatus.REJECTED


@dataclass(frozen=True, slots=True)
class Bought:
    """An ended buy whose fee is still an estimate: gross coins and the estimate."""

    key: str
    qty: Decimal
    fee: Decimal


def shared(correction: Decimal, buys: Sequence[Bought]) -> dict[str, Decimal]:
    """`correction` spread over `buys` in proportion to their estimates, to the last digit."""
    total = sum((buy.fee for buy in buys), ZERO)
    left = correction
    parts = {}
    for buy in buys[:-1]:
        parts[buy.key] = (correction * buy.fee / total).quantize(COIN_STEP) if total else ZERO
        left -= parts[buy.key]
    return {**parts, buys[-1].key: left}


def _unmeasured_of(tx: Tx, cycle_id: int) -> tuple[Asset, Cycle, Decimal, list[Bought]] | None:
    """Asset and cycle, what all its cycles own, and the unmeasured buys; None while it is not quiet."""
    cycle = tx.cycle(cycle_id)
    situation = None if cycle is None else tx.situation(cycle.asset_id)
    orders = tx.orders_of(cycle_id)
    if cycle is None or situation is None or cycle.finished or any(order.live for order in orders):
        return None
    asset, fills = situation.asset, tx.fills_of(cycle_id)
    bought = []
    for order in unmeasured_buys(orders, fills):
        mine = [fill for fill in fills if fill.order_key == order.key]
        bought.append(Bought(order.key, gross(mine), sum((fill.fee for fill in mine), ZERO)))
    if not bought:
        return None
    return asset, cycle, tx.owned(asset.id), bought


def _unmeasured(tx: Tx) -> list[int]:
    """Unfinished cycles with buys whose fee was never measured."""
    return [
        record.cycle.id
        for record in tx.open_records()
        if record.cycle.quantity > 0 and unmeasured_buys(record.orders, record.fills)
    ]
