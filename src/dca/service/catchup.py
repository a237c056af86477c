"""Catching up: what the streams may have missed is asked for and recorded like anything else."""

import logging
from decimal import Decimal

from dca.domain.fees import FeeRates
from dca.domain.money import ZERO
from dca.domain.order import Order, OrderStatus, Side, is_ours
from dca.domain.position import Fill, gross
from dca.ports import Broker, Clock, Store, Tx
from dca.service.recorder import Recorded, Recorder, fee_fill_id

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

        Raises Unavailable when the venue cannot be read, StoreUnavailable when the database cannot.
        """
        orders = self._store.read(lambda tx: tx.live_orders())
        for order in orders:
            self.order(order.key)
        known = {order.key for order in orders}
        for seen in self._broker.open_orders():
            if is_ours(seen.key, self._store.install) and seen.key not in known:
                self._recorder.record(seen, source="catch_up")
        for key in self._store.read(_uncorrected):
            self.fee(key)

    def order(self, key: str) -> Recorded:
        """The order `key` is recorded as the venue shows it.

        One the venue does not know is LOST, but only past the grace: a request may still be under
        way, and a lookup may miss an order that was just accepted.
        """
        order = self._store.read(lambda tx: tx.order(key))
        if order is None or (order.status is OrderStatus.FILLED):
            return Recorded(order)
        seen = self._broker.find(key)
        if seen is None:
            return self._not_there(order)
        executions = self._broker.executions(seen.venue_id) if seen.filled_qty > 0 else []
        result = self._recorder.record(seen, executions, source="catch_up")
        if result.missing > 0:
            log.warning("executions_missing", extra={"key": key, "missing": str(result.missing)})
        return result

    def _not_there(self, order: Order) -> Recorded:
        if order.status is not OrderStatus.IN_FLIGHT:
            log.error("order_vanished", extra={"key": order.key, "status": str(order.status)})
            return Recorded(order)
        if self._clock.now() - order.created_at < self._grace:
            return Recorded(order)
        return self._recorder.refuse(
            order.key, "the venue does not know it after the grace time", status=OrderStatus.LOST
        )

    def fee(self, key: str) -> None:
        """The coin fee of the ended buy `key` is what the position shows was taken.

        The venue's fills carry no fee (alpaca-facts, crypto fees), and which rate applies depends
        on how the order met the book, so what is owned is measured: position minus what our books
        say. A difference that a fee cannot explain is left alone, as drift for a person to see.
        """
        found = self._store.read(lambda tx: _owned(tx, key))
        if found is None:
            return
        symbol, owned, fills = found
        held = self._broker.holding(symbol).qty
        estimate = sum((fill.fee for fill in fills), ZERO)
        fee = estimate - (held - owned)
        if ZERO <= fee <= FeeRates.HIGHEST * gross(fills):
            self._recorder.correct_fee(key, fee)
            return
        log.warning("position_differs", extra={"symbol": symbol, "held": str(held), "owned": str(owned)})
        if fee < ZERO:
            # More coins than ours are there: whose they are no fee can tell, so the estimate stays.
            self._recorder.correct_fee(key, estimate)


def _owned(tx: Tx, key: str) -> tuple[str, Decimal, list[Fill]] | None:
    """Symbol, what all cycles of its asset own, and the fills of `key`; None while it is not quiet."""
    found = tx.order_with_situation(key)
    if found is None:
        return None
    order, cycle, asset = found
    if cycle.finished or any(other.live for other in tx.orders_of(cycle.id)):
        return None
    fills = [fill for fill in tx.fills_of(cycle.id) if fill.order_key == order.key]
    return asset.asset_symbol, tx.owned(asset.id), fills


def _uncorrected(tx: Tx) -> list[str]:
    """Keys of ended buys of unfinished cycles whose fee was never measured."""
    keys = []
    for situation in tx.situations():
        if situation.cycle is None or situation.cycle.quantity <= 0:
            continue
        fills = tx.fills_of(situation.cycle.id)
        measured = {fill.id for fill in fills}
        for order in tx.orders_of(situation.cycle.id):
            bought = order.intent.side is Side.BUY and not order.live
            if (
                bought
                and fee_fill_id(order.key) not in measured
                and any(fill.order_key == order.key for fill in fills)
            ):
                keys.append(order.key)
    return keys
