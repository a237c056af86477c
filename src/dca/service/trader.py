"""From a quote to an order: decide, review, place. One asset at a time, no knowledge of streams."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from dca.domain.cycle import Cycle
from dca.domain.errors import Rejected, StaleWrite, Unauthorized, Unavailable
from dca.domain.folding import DUST_USD, committed, unmeasured_buys
from dca.domain.market import Instrument, Quote
from dca.domain.money import ceil_to, plain
from dca.domain.order import Intent, Order, OrderStatus, Purpose, Side, order_key
from dca.domain.position import Fill
from dca.domain.record import Event, Message
from dca.ports import Broker, Clock, Situation, Store, Tx
from dca.risk.review import Approved, Denied, Exposure, Limits, review
from dca.service import cycles
from dca.service.pipeline import Beaten, Refused, Sent, Unclear, cancel, place
from dca.service.recorder import Recorder
from dca.strategy.dca import Action, Buy, Cancel, Sell, Terms, Wait, decide
from dca.strategy.ladder import commitment

log = logging.getLogger(__name__)

PAUSE = timedelta(seconds=60)
LONGEST_PAUSE = timedelta(hours=1)
POSITION_PAUSE = timedelta(minutes=5)
ASK_AGAIN_S = 0.5
CANCEL_AGAIN_S = 10.0
MEASURE_S = 60.0
HALTED_FLAG = "halted"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of acting on a quote.

    `hold_until`: no new decision for this asset before then, because it would be the same one.
    `ask`: the key of an order whose fate the venue must be asked. `measure`: the id of
    the cycle whose coin fees must be measured first. `reconcile`: what the venue answered contradicts our
    books, so everything should be caught up.
    """

    reason: str
    hold_until: datetime | None = None
    ask: str | None = None
    measure: int | None = None
    reconcile: bool = False


@dataclass(frozen=True, slots=True)
class _Brief:
    """Everything a decision needs from the database, read together."""

    situation: Situation
    orders: list[Order]
    fills: list[Fill]
    open_orders: int
    owned: Decimal
    halted: str | None


@dataclass(slots=True)
class Trader:
    """Acts on quotes. Safe to call from several threads as long as each has its own asset.

    `instruments` is the venue's list, replaced as a whole when it is read again.
    """

    store: Store
    broker: Broker
    clock: Clock
    recorder: Recorder
    limits: Limits
    terms: Terms
    instruments: Mapping[str, Instrument] = field(default_factory=dict)

    def think(self, situation: Situation, quote: Quote) -> Action | Wait:
        """The decision for what is held in memory: no SQL, no HTTP."""
        if situation.cycle is None:
            return Wait("no_cycle")
        return decide(situation.cycle, situation.asset, quote, self.clock.now(), self.terms)

    def act(self, asset_id: int, quote: Quote, *, entries_blocked: str | None = None) -> Outcome:
        """The decision is made again on the rows as they are now, and carried out.

        Raises StoreUnavailable; whether an order went out is then in the journal.
        """
        brief = self.store.read(lambda tx: _brief(tx, asset_id))
        if brief is None:
            return Outcome("the asset has no unfinished cycle")
        decision = self.think(brief.situation, quote)
        cycle = brief.situation.cycle
        assert cycle is not None
        if isinstance(decision, Wait):
            return Outcome(decision.reason)
        try:
            if isinstance(decision, Buy | Sell):
                return self._trade(brief, cycle, decision, quote, entries_blocked)
            if isinstance(decision, Cancel):
                return self._cancel(brief, decision)
            cycles.change(self.store, self.clock, cycle, decision)
        except StaleWrite:
            return Outcome("somebody else changed the cycle first")
        return Outcome(decision.reason)

    def _trade(
        self, brief: _Brief, cycle: Cycle, decision: Buy | Sell, quote: Quote, entries_blocked: str | None
    ) -> Outcome:
        now = self.clock.now()
        if any(order.live for order in brief.orders):
            return Outcome("an order of this cycle is live", hold_until=now + self.clock.span(ASK_AGAIN_S))
        paused = paused_until(brief.orders)
        if paused is not None and now < paused:
            return Outcome(f"paused after a refusal until {paused:%H:%M:%S}", hold_until=paused)
        unmeasured = self._unmeasured(brief, now) if isinstance(decision, Sell) else None
        if unmeasured is not None:
            hold = now + self.clock.span(ASK_AGAIN_S)
            return Outcome(f"the fee of {unmeasured} is not measured yet", hold_until=hold, measure=cycle.id)
        instrument = self.instruments.get(quote.symbol)
        if instrument is None:
            return Outcome(f"the venue does not list {quote.symbol}", hold_until=now + LONGEST_PAUSE)
        intent = _intent(decision, cycle, brief.orders, instrument, self.store.install)
        exposure = self._exposure(brief, cycle, instrument, quote, entries_blocked)
        answer = review(intent, exposure, self.limits)
        if isinstance(answer, Denied):
            return self._denied(answer, brief.situation, now)
        if intent.purpose is Purpose.BASE:
            blocked = self._foreign_position(brief, cycle, quote)
            if blocked is not None:
                return blocked
        return self._place(answer, brief.situation)

    def _unmeasured(self, brief: _Brief, now: datetime) -> str | None:
        """A buy whose fee is still an estimate: its true coins are known first, so that none stay
        behind. An exit does not wait for that longer than MEASURE_S."""
        for order in unmeasured_buys(brief.orders, brief.fills):
            if now - order.updated_at < self.clock.span(MEASURE_S):
                return order.key
        return None

    def _cancel(self, brief: _Brief, decision: Cancel) -> Outcome:
        """The cancel was asked for; what became of the order the venue will show, or is asked."""
        order = next((order for order in brief.orders if order.venue_id == decision.venue_id), None)
        if order is None or not order.live:
            return Outcome("the order is over already")
        cancel(order, broker=self.broker)
        hold = self.clock.now() + self.clock.span(CANCEL_AGAIN_S)
        return Outcome(decision.reason, hold_until=hold, ask=order.key)

    def _exposure(
        self,
        brief: _Brief,
        cycle: Cycle,
        instrument: Instrument,
        quote: Quote,
        entries_blocked: str | None,
    ) -> Exposure:
        rules = brief.situation.asset.rules
        return Exposure(
            instrument=instrument,
            quote=quote,
            now=self.clock.now(),
            committed=committed(brief.orders, brief.fills),
            max_cycle_spend=rules.max_cycle_spend or commitment(rules),
            owned=cycle.quantity,
            open_orders=brief.open_orders,
            halted=brief.halted,
            entries_blocked=entries_blocked,
        )

    def _place(self, approved: Approved, situation: Situation) -> Outcome:
        intent = approved.intent
        outcome = place(
            approved, asset_id=situation.asset.id, store=self.store, broker=self.broker, clock=self.clock
        )
        if isinstance(outcome, Sent):
            result = self.recorder.record(outcome.seen, source="answer")
            return Outcome(intent.reason, ask=intent.key if result.missing > 0 else None)
        if isinstance(outcome, Unclear):
            self.recorder.mark_unclear(intent.key)
            hold = self.clock.now() + self.clock.span(ASK_AGAIN_S)
            return Outcome("whether the venue has the order is unclear", hold_until=hold, ask=intent.key)
        if isinstance(outcome, Beaten):
            return Outcome("somebody else placed this order first")
        return self._refused(outcome, situation)

    def _refused(self, outcome: Refused, situation: Situation) -> Outcome:
        error = outcome.error
        self.recorder.refuse(outcome.key, str(error))
        self._tell(
            situation,
            "order_refused",
            f"refused:{outcome.key}",
            f"{situation.asset.asset_symbol}: the venue refused order {outcome.key}: {error}",
        )
        pause = LONGEST_PAUSE if isinstance(error, Unauthorized) else PAUSE
        return Outcome(
            f"the venue refused the order: {error}",
            hold_until=self.clock.now() + pause,
            reconcile=_contradicts(error),
        )

    def _denied(self, denied: Denied, situation: Situation, now: datetime) -> Outcome:
        if denied.passing:
            return Outcome(denied.reason)
        cycle_id = situation.cycle.id if situation.cycle else None
        event = Event(
            name="order_denied",
            at=now,
            reason=denied.reason,
            asset_id=situation.asset.id,
            cycle_id=cycle_id,
            data={"code": denied.code, "purpose": str(denied.intent.purpose), **denied.numbers},
        )
        self.store.write(lambda tx: tx.add_event(event))
        log.warning("order_denied", extra={"symbol": situation.asset.asset_symbol, "reason": denied.reason})
        return Outcome(denied.reason, hold_until=now + PAUSE)

    def _foreign_position(self, brief: _Brief, cycle: Cycle, quote: Quote) -> Outcome | None:
        """A base order must not mix with coins that are not ours; None when there are none."""
        now = self.clock.now()
        try:
            held = self.broker.holding(quote.symbol).qty
        except Unavailable as error:
            return Outcome(f"the position cannot be read: {error}", hold_until=now + PAUSE)
        foreign = held - brief.owned
        if foreign * quote.bid <= DUST_USD:
            return None
        text = (
            f"{quote.symbol}: the account holds {plain(foreign)} that this bot did not buy; "
            "no base order until it is sold or moved"
        )
        self._tell(brief.situation, "position_exists", f"position_exists:c{cycle.id}", text)
        return Outcome(text, hold_until=now + POSITION_PAUSE)

    def _tell(self, situation: Situation, name: str, key: str, text: str) -> None:
        """A warning event, and a message for a person, once per key."""
        now = self.clock.now()
        cycle_id = situation.cycle.id if situation.cycle else None

        def write(tx: Tx) -> None:
            tx.add_event(
                Event(name=name, at=now, reason=text, asset_id=situation.asset.id, cycle_id=cycle_id)
            )
            tx.add_message(Message(key=key, name=name, text=text, at=now))

        self.store.write(write)
        log.warning(name, extra={"symbol": situation.asset.asset_symbol, "reason": text})


def paused_until(orders: Sequence[Order]) -> datetime | None:
    """When the cycle may order again after refusals in a row: a minute, doubling up to an hour."""
    refusals = 0
    for order in reversed(orders):
        if order.status is not OrderStatus.REJECTED:
            break
        refusals += 1
    if refusals == 0:
        return None
    return orders[-1].updated_at + min(PAUSE * (1 << min(refusals - 1, 10)), LONGEST_PAUSE)


def _contradicts(error: Rejected) -> bool:
    """Whether a refusal says that our idea of balance or position is wrong."""
    return "insufficient" in str(error).lower()


def _brief(tx: Tx, asset_id: int) -> _Brief | None:
    situation = tx.situation(asset_id)
    if situation is None or situation.cycle is None:
        return None
    cycle = situation.cycle
    return _Brief(
        situation=situation,
        orders=tx.orders_of(cycle.id),
        fills=tx.fills_of(cycle.id),
        open_orders=len(tx.live_orders()),
        owned=tx.owned(asset_id) if cycle.quantity <= 0 else cycle.quantity,
        halted=tx.flag(HALTED_FLAG),
    )


def _intent(
    decision: Buy | Sell, cycle: Cycle, orders: Sequence[Order], instrument: Instrument, install: str
) -> Intent:
    if isinstance(decision, Buy):
        purpose, step, side = decision.purpose, decision.step, Side.BUY
        limit = ceil_to(decision.limit, instrument.price_increment)
        qty = instrument.floor_qty(decision.spend / limit)
    else:
        purpose, step, side, limit = Purpose.TAKE_PROFIT, 0, Side.SELL, None
        qty = instrument.floor_qty(decision.qty)
    tried = sum(order.intent.purpose is purpose and order.intent.step == step for order in orders)
    return Intent(
        key=order_key(install, cycle.id, purpose, step, tried + 1),
        symbol=instrument.symbol,
        side=side,
        purpose=purpose,
        step=step,
        qty=qty,
        limit=limit,
        cycle_id=cycle.id,
        reason=decision.reason,
    )
