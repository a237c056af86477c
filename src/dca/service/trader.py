"""From a quote to an order: decide, review, place. One asset at a time, no knowledge of streams."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal

from dca.domain.asset import Asset
from dca.domain.cycle import Cycle, CycleStatus
from dca.domain.errors import Rejected, StaleWrite, Unauthorized, VenueError
from dca.domain.folding import DUST_USD
from dca.domain.market import Instrument, Quote
from dca.domain.mode import Mode, Restriction, mode_of
from dca.domain.money import ONE, ZERO, ceil_to, floor_to, percent, plain
from dca.domain.order import Intent, Order, OrderStatus, Purpose, Side, TimeInForce, last_attempt, order_key
from dca.domain.record import Event, Message
from dca.ports import Broker, Clock, Situation, Store, Tx
from dca.risk.price import agrees, follows
from dca.risk.review import Approved, Denied, Exposure, Limits, review
from dca.risk.stakes import AtStake
from dca.service import cycles, funds
from dca.service.brief import LONGEST_PAUSE, PAUSE, Brief
from dca.service.pipeline import Beaten, Conflict, NotSent, Refused, Sent, Unclear, cancel, place
from dca.service.pipeline import Outcome as Placed
from dca.service.recorder import Recorder
from dca.strategy.dca import Action, Buy, Cancel, MoveStop, Sell, Terms, Trail, Wait, decide
from dca.strategy.ladder import commitment

log = logging.getLogger(__name__)

POSITION_PAUSE = timedelta(minutes=5)
ASK_AGAIN_S = 0.5
CANCEL_AGAIN_S = 10.0
CONFIRM_AGAIN_S = 1.0
MEASURE_S = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of acting on a quote.

    `hold_until`: no new decision for this asset before then, because it would be the same one; with
    `only_buys` a sale need not wait for it.
    `ask`: the key of an order whose fate the venue must be asked. `measure`: the id of
    the cycle whose coin fees must be measured first. `reconcile`: what the venue answered contradicts our
    books, so everything should be caught up. `denied`: the code of a denial that the next quote does not
    change.
    """

    reason: str
    hold_until: datetime | None = None
    only_buys: bool = False
    ask: str | None = None
    measure: int | None = None
    reconcile: bool = False
    believed: bool = False
    denied: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Slippage:
    """How far from the quote an order may trade, in percent, and how long it may wait for that.

    `sell_pct` None: sells are market orders, which the venue itself keeps within 2 % of the
    quote (docs/alpaca.md, orders).
    """

    buy_pct: Decimal = ZERO
    sell_pct: Decimal | None = None
    buy_time_in_force: TimeInForce = TimeInForce.GTC


NO_SLIPPAGE = Slippage()


@dataclass(slots=True)
class Trader:
    """Acts on quotes. Safe to call from several threads as long as each has its own asset.

    `instruments` is the venue's list and `restrictions` those of the database, replaced as a whole
    when they are read again. A restriction seen late is caught by the review. `halted_outside` says why
    nothing may be sent whatever the database says, `refusal` why no order of a side can be sent now;
    both are asked before every order. With `dry_run` orders are journaled, marked, and not sent.
    `clock_slack` is how far our clock and the venue's may be apart.
    """

    store: Store
    broker: Broker
    clock: Clock
    recorder: Recorder
    limits: Limits
    terms: Terms
    instruments: Mapping[str, Instrument] = field(default_factory=dict)
    restrictions: Sequence[Restriction] = ()
    halted_outside: Callable[[], str | None] = lambda: None
    refusal: Callable[[Side], str | None] = lambda side: None
    assets: Mapping[int, Asset] = field(default_factory=dict)
    slippage: Slippage = NO_SLIPPAGE
    dry_run: bool = False
    clock_slack: timedelta = timedelta(seconds=5)

    def think(self, situation: Situation, quote: Quote) -> Action | Wait:
        """The decision for what is held in memory: no SQL, no HTTP."""
        if situation.cycle is None:
            return Wait("no_cycle")
        decision = decide(situation.cycle, situation.asset, quote, self.clock.now(), self.terms)
        if not self.restrictions:
            return decision
        return switched(decision, mode_of(self.restrictions, self.clock.now()))

    def act(
        self,
        brief: Brief,
        quote: Quote,
        *,
        before: Quote | None = None,
        entries_blocked: str | None = None,
    ) -> Outcome:
        """The decision is carried out, unless somebody changed the rows since `brief` was read.

        `before` is the newest quote before this one that was believed; an order on a price that does
        not follow from it waits until the venue's REST side confirmed that price.

        Raises StoreUnavailable; whether an order went out is then in the journal.
        """
        decision = self.think(brief.situation, quote)
        cycle = brief.cycle
        if cycle is None or isinstance(decision, Wait):
            return Outcome(decision.reason)
        # A wild tick would trade, or leave the stop or the peak above the market for good.
        believed = isinstance(decision, Buy | Sell | MoveStop | Trail)
        unconfirmed = self._unconfirmed(quote, before) if believed else None
        if unconfirmed is not None:
            return unconfirmed
        try:
            if isinstance(decision, Buy | Sell):
                return replace(self._trade(brief, cycle, decision, quote, entries_blocked), believed=True)
            if isinstance(decision, Cancel):
                return self._cancel(brief, decision)
            cycles.change(self.store, self.clock, cycle, decision)
        except StaleWrite:
            return Outcome("somebody else changed the cycle first")
        return Outcome(decision.reason, believed=believed)

    def carry_out(self, brief: Brief, wish: Buy | Sell, quote: Quote) -> Outcome:
        """A person's own buy or sell, or a caretaker's, goes the way of every order.

        It passes the same review; only the rules of the strategy are not asked. Raises
        StoreUnavailable; whether an order went out is then in the journal.
        """
        cycle = brief.cycle
        if cycle is None:
            return Outcome("the asset has no cycle")
        if isinstance(wish, Buy) and wish.purpose is Purpose.ADD_FUNDS:
            brief = replace(brief, wished=wish.spend)
        try:
            return self._trade(brief, cycle, wish, quote, None)
        except StaleWrite:
            return Outcome("somebody else changed the cycle first")

    def _trade(
        self, brief: Brief, cycle: Cycle, decision: Buy | Sell, quote: Quote, entries_blocked: str | None
    ) -> Outcome:
        side = Side.BUY if isinstance(decision, Buy) else Side.SELL
        waiting = self._not_yet(brief, cycle, side)
        if waiting is not None:
            return waiting
        instrument = self.instruments.get(quote.symbol)
        if instrument is None:
            hold = self.clock.now() + LONGEST_PAUSE
            return Outcome(f"the venue does not list {quote.symbol}", hold_until=hold)
        intent = intent_of(
            decision,
            cycle,
            brief.orders,
            instrument,
            self.store.install,
            slippage=self.slippage,
            bid=quote.bid,
        )
        exposure = self._exposure(brief, cycle, instrument, quote, entries_blocked, side)
        # In a dry run nothing is sent again either: its row would only seem to be in flight.
        again = None if self.dry_run else _once_more(intent, brief.orders)
        # Denials that need no database come first: they may hold for hours, on every quote.
        if again is not None and isinstance(review(again.intent, exposure, self.limits), Approved):
            intent = again.intent
        else:
            again = None
            answer = review(intent, exposure, self.limits)
            if isinstance(answer, Denied):
                return self._denied(answer, brief.situation)
        if intent.purpose is Purpose.BASE:
            blocked = self._foreign_position(brief, cycle, quote)
            if blocked is not None:
                # They may be those of the very order that was given up as lost.
                return blocked if again is None else replace(blocked, ask=again.key)
        return self._place(intent, exposure, brief, again)

    def _unconfirmed(self, quote: Quote, before: Quote | None) -> Outcome | None:
        """Why the price cannot be believed yet, None when it can."""
        now = self.clock.now()
        if follows(quote, before, now, self.limits.max_quote_age):
            return None
        hold = now + self.clock.span(CONFIRM_AGAIN_S)
        try:
            witness = self.broker.latest_quote(quote.symbol)
        except VenueError as error:
            return Outcome(f"the price cannot be confirmed: {error}", hold_until=hold)
        if agrees(quote, witness):
            return None
        log.warning("price_not_confirmed", extra={"quote": str(quote), "witness": str(witness)})
        return Outcome(f"bid {quote.bid} is not confirmed: the venue says {witness.bid}", hold_until=hold)

    def _not_yet(self, brief: Brief, cycle: Cycle, side: Side) -> Outcome | None:
        """Why the cycle may not order at this moment, None when it may."""
        now = self.clock.now()
        if brief.busy:
            return Outcome("an order of this cycle is live", hold_until=now + self.clock.span(ASK_AGAIN_S))
        paused = brief.paused_until(side)
        if paused is not None and now < paused:
            why = f"paused after a refusal until {paused:%H:%M:%S}"
            return Outcome(why, hold_until=paused, only_buys=side is Side.BUY)
        since = brief.unmeasured_since() if side is Side.SELL else None
        if since is not None and now - since < self.clock.span(MEASURE_S):
            # The true coins are known first, so that none stay behind; but not for long.
            hold = now + self.clock.span(ASK_AGAIN_S)
            return Outcome("the fee of a buy is not measured yet", hold_until=hold, measure=cycle.id)
        return None

    def _cancel(self, brief: Brief, decision: Cancel) -> Outcome:
        """The cancel was asked for; what became of the order the venue will show, or is asked."""
        order = next((order for order in brief.orders if order.venue_id == decision.venue_id), None)
        if order is None or not order.live:
            return Outcome("the order is over already")
        if self.dry_run:
            return Outcome(f"dry run: {order.key} would be canceled", hold_until=self.clock.now() + PAUSE)
        cancel(decision.venue_id, order.key, broker=self.broker)
        hold = self.clock.now() + self.clock.span(CANCEL_AGAIN_S)
        return Outcome(decision.reason, hold_until=hold, ask=order.key)

    def _exposure(
        self,
        brief: Brief,
        cycle: Cycle,
        instrument: Instrument,
        quote: Quote,
        entries_blocked: str | None,
        side: Side,
    ) -> Exposure:
        rules = brief.situation.asset.rules
        return Exposure(
            instrument=instrument,
            quote=quote,
            now=self.clock.now(),
            committed=brief.committed,
            max_cycle_spend=rules.max_cycle_spend or commitment(rules) + brief.added_funds,
            owned=cycle.quantity,
            open_orders=0,
            entries_blocked=entries_blocked,
            unsendable=self.refusal(side),
            cooling=cycle.status is CycleStatus.COOLDOWN,
            average=cycle.average_purchase_price,
        )

    def _place(self, intent: Intent, exposure: Exposure, brief: Brief, again: Order | None) -> Outcome:
        asset_id = brief.situation.asset.id

        def reviewed(tx: Tx) -> Approved | Denied:
            standing = tx.standing(asset_id, exposure.now)
            if standing is None or not brief.holds(standing):
                raise StaleWrite("asset or cycle changed since the decision")
            now_at_stake = replace(
                exposure,
                open_orders=standing.open_orders,
                halted=standing.halted or self.halted_outside(),
                paused=standing.paused,
                at_stake=self._at_stake(tx, intent, asset_id),
            )
            return review(intent, now_at_stake, self.limits)

        outcome = place(
            reviewed,
            store=self.store,
            broker=self.broker,
            clock=self.clock,
            again=again,
            dry_run=self.dry_run,
        )
        return self._became(outcome, intent, brief.situation)

    def _became(self, outcome: Placed, intent: Intent, situation: Situation) -> Outcome:
        """What the answer is to the order is recorded."""
        if isinstance(outcome, Sent):
            result = self.recorder.record(outcome.seen, source="answer")
            return Outcome(intent.reason, ask=intent.key if result.missing > 0 else None)
        if isinstance(outcome, Unclear):
            self.recorder.mark_unclear(intent.key)
            hold = self.clock.now() + self.clock.span(ASK_AGAIN_S)
            return Outcome("whether the venue has the order is unclear", hold_until=hold, ask=intent.key)
        if isinstance(outcome, Beaten):
            return Outcome("somebody else placed this order first")
        if isinstance(outcome, Conflict):
            return self._conflict(outcome, situation)
        if isinstance(outcome, NotSent):
            hold = self.clock.now() + PAUSE
            return Outcome(f"dry run: {intent.reason}; nothing was sent", hold_until=hold)
        if isinstance(outcome, Denied):
            return self._denied(outcome, situation)
        return self._refused(outcome, situation)

    def _at_stake(self, tx: Tx, intent: Intent, asset_id: int) -> AtStake | None:
        """The account as it is now; None for a sale, which frees money."""
        if intent.side is Side.SELL:
            return None
        now = self.clock.now()
        return funds.count(tx, intent, asset_id, self.assets, self.limits, now, self.clock_slack)

    def _conflict(self, conflict: Conflict, situation: Situation) -> Outcome:
        """Two wishes came to one key: the one that was journaled stands, and it is written down."""
        symbol, now = situation.asset.asset_symbol, self.clock.now()
        differing = ", ".join(conflict.differing)
        reason = f"{symbol}: another order has the key {conflict.key}, with another {differing}"
        event = Event(
            name="order_conflict",
            at=now,
            reason=reason,
            asset_id=situation.asset.id,
            order_key=conflict.key,
            uid=f"conflict:{conflict.key}",
        )
        self.store.write(lambda tx: tx.add_event(event))
        log.error("order_conflict", extra={"key": conflict.key, "differing": differing})
        return Outcome(reason, hold_until=now + self.clock.span(ASK_AGAIN_S))

    def _refused(self, outcome: Refused, situation: Situation) -> Outcome:
        error = outcome.error
        self.recorder.refuse(outcome.key, str(error))
        text = f"{situation.asset.asset_symbol}: the venue refused order {outcome.key}: {error}"
        if isinstance(error, Unauthorized):
            text += "; put APCA_API_KEY_ID and APCA_API_SECRET_KEY right, then: dca restart"
        self._tell(situation, "order_refused", f"refused:{outcome.key}", text)
        keyless = isinstance(error, Unauthorized)
        return Outcome(
            f"the venue refused the order: {error}",
            hold_until=self.clock.now() + (LONGEST_PAUSE if keyless else PAUSE),
            only_buys=not keyless and outcome.side is Side.BUY,
            reconcile=_contradicts(error),
        )

    def _denied(self, denied: Denied, situation: Situation) -> Outcome:
        if denied.passing:
            return Outcome(denied.reason)
        now = self.clock.now()
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
        only_buys = denied.intent.side is Side.BUY
        return Outcome(denied.reason, now + PAUSE, only_buys=only_buys, denied=denied.code)

    def _foreign_position(self, brief: Brief, cycle: Cycle, quote: Quote) -> Outcome | None:
        """A base order must not mix with coins that are not ours; None when there are none."""
        now = self.clock.now()
        try:
            held = self.broker.holding(quote.symbol).qty
        except VenueError as error:
            return Outcome(f"the position cannot be read: {error}", hold_until=now + PAUSE)
        asset = brief.situation.asset
        foreign = held - brief.owned - asset.accepted_difference
        if foreign * quote.bid <= DUST_USD:
            return self._set_aside(asset, foreign) if foreign > 0 else None
        text = (
            f"{quote.symbol}: the account holds {plain(foreign)} that this bot did not buy; "
            "no base order until it is sold or moved; to trade it: dca asset adopt, to leave it alone: "
            "dca asset resume"
        )
        self._tell(brief.situation, "position_exists", f"position_exists:c{cycle.id}", text)
        return Outcome(text, hold_until=now + POSITION_PAUSE)

    def _set_aside(self, asset: Asset, dust: Decimal) -> Outcome:
        """What earlier cycles left behind counts as none of ours: added to what is bought now, it would
        be more than a fee can explain, and no fee of this asset could be measured any more."""
        now = self.clock.now()
        accepted = asset.accepted_difference + dust
        reason = f"{plain(dust)} {asset.asset_symbol} of earlier cycles are left alone: dust"

        def write(tx: Tx) -> None:
            tx.update_asset(replace(asset, accepted_difference=accepted, updated_at=now))
            tx.add_event(Event(name="dust_set_aside", at=now, reason=reason, asset_id=asset.id))

        self.store.write(write)
        log.info("dust_set_aside", extra={"symbol": asset.asset_symbol, "qty": plain(dust)})
        return Outcome(reason)

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


def switched(decision: Action | Wait, mode: Mode) -> Action | Wait:
    """The decision, unless the mode is against it."""
    if mode is Mode.HALTED and isinstance(decision, Buy | Sell):
        return Wait("trading_halted")
    if mode is Mode.REDUCE_ONLY and isinstance(decision, Buy):
        return Wait("trading_paused")
    return decision


def _contradicts(error: Rejected) -> bool:
    """Whether a refusal says that our idea of balance or position is wrong."""
    return "insufficient" in str(error).lower()


def _once_more(intent: Intent, orders: Sequence[Order]) -> Order | None:
    """The order that wanted the same and that the venue never had: it is sent again under its own key.

    What a person orders is a new wish each time.
    """
    if intent.purpose in (Purpose.ADD_FUNDS, Purpose.CLOSE):
        return None
    tried = [
        order
        for order in orders
        if (order.intent.purpose, order.intent.step) == (intent.purpose, intent.step)
    ]
    if not tried or tried[-1].status is not OrderStatus.LOST or tried[-1].filled_qty > 0:
        return None
    return tried[-1]


def intent_of(
    decision: Buy | Sell,
    cycle: Cycle,
    orders: Sequence[Order],
    instrument: Instrument,
    install: str,
    *,
    slippage: Slippage = NO_SLIPPAGE,
    bid: Decimal | None = None,
) -> Intent:
    """The order that `decision` asks for, in whole increments, under the key of its next attempt."""
    time_in_force = TimeInForce.GTC
    if isinstance(decision, Buy):
        purpose, step, side = decision.purpose, decision.step, Side.BUY
        highest = decision.limit * (ONE + percent(slippage.buy_pct))
        limit: Decimal | None = ceil_to(highest, instrument.price_increment)
        assert limit is not None
        qty = instrument.floor_qty(decision.spend / limit)
        time_in_force = slippage.buy_time_in_force
    else:
        purpose, step, side, limit = decision.purpose, 0, Side.SELL, None
        qty = instrument.floor_qty(decision.qty)
        # Whoever stops a loss or closes by hand wants out, at what the venue's own band allows.
        if purpose is Purpose.TAKE_PROFIT and slippage.sell_pct is not None and bid is not None:
            limit = floor_to(bid * (ONE - percent(slippage.sell_pct)), instrument.price_increment)
            time_in_force = TimeInForce.IOC
    tried = last_attempt(orders, purpose, step)
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
        time_in_force=time_in_force,
    )
