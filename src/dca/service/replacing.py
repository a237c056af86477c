"""An order makes way for another: canceled, its end proven, what is left sent anew. It may die anywhere."""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal

from dca.domain.asset import Asset
from dca.domain.cycle import Cycle
from dca.domain.errors import ConfigError, IllegalTransition, StaleWrite, StoreUnavailable, VenueError
from dca.domain.folding import last_fill_price
from dca.domain.market import Quote
from dca.domain.mode import Mode
from dca.domain.money import ZERO, plain
from dca.domain.order import Order, OrderStatus, Purpose, Side, last_attempt, order_key
from dca.domain.record import Event
from dca.domain.replacement import Replacement, Stage, advance
from dca.ports import Broker, Clock, Store, Tx
from dca.risk.review import MAX_PRICE_DISTANCE
from dca.service.brief import Brief, read_brief
from dca.service.catchup import CatchUp
from dca.service.operating import CLOSE_S, LOOK_S, Desk, Done, because, described, refuse_halted
from dca.service.pipeline import cancel
from dca.service.trader import Trader
from dca.strategy.dca import Buy, Sell, safety_trigger, shown
from dca.strategy.exits import floor_price, stop_price
from dca.strategy.ladder import spend

log = logging.getLogger(__name__)

ASKS = 5
ASK_AGAIN_S = 0.5
GIVEN_UP = timedelta(hours=1)
"""What could not be sent anew by then is the strategy's to decide."""
AT_ANY_PRICE = frozenset({Purpose.CLOSE, Purpose.STOP_LOSS})
"""Sells that whoever wanted them takes a loss for."""
FOR_GOOD = frozenset({"below_minimum", "not_owned"})
"""Denials of a sale that waiting does not change."""
NOT_SENT = frozenset({OrderStatus.REJECTED, OrderStatus.DRY_RUN})


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a replacement stands after it was gone on with, and why there."""

    replacement: Replacement
    why: str


@dataclass(frozen=True, slots=True)
class _Blocked:
    """Nothing is sent anew, for good."""

    why: str


@dataclass(frozen=True, slots=True)
class _Later:
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacing:
    """Begins replacements and goes on with them, in any process, from whatever stage they are at.

    The end of a canceled order is asked for `asks` times; `rest` waits so many real seconds between.
    `entries_blocked` says why no buy may be sent now. Of two that go on with the same one the version
    of its row lets one.
    """

    store: Store
    broker: Broker
    clock: Clock
    trader: Trader
    catch_up: CatchUp
    asks: int = ASKS
    rest: Callable[[float], object] = lambda _: None
    entries_blocked: Callable[[], str | None] = lambda: None

    def begin(self, order: Order, why: str, limit: Decimal | None = None) -> Replacement | None:
        """It is written down that the order makes way; None when it does already, or another one of its
        cycle. A buy with a `limit` is what a person wants at that price."""
        if self.trader.dry_run:
            return None
        now = self.clock.now()
        begun = Replacement(
            old_key=order.key,
            cycle_id=order.intent.cycle_id,
            stage=Stage.CANCEL_SENT,
            reason=why,
            created_at=now,
            updated_at=now,
            limit=limit,
        )

        def write(tx: Tx) -> bool:
            inserted = tx.insert_replacement(begun)
            if inserted:
                tx.add_event(_event(begun, why))
            return inserted

        return begun if self.store.write(write) else None

    def resume(self, one: Replacement) -> Progress:
        """The replacement is as far as it can come now.

        Raises StaleWrite when somebody else goes on with it, VenueError, StoreUnavailable.
        """
        if self.trader.dry_run:
            return Progress(one, "dry run: nothing is canceled or sent")
        old = self.store.read(lambda tx: tx.order(one.old_key))
        if old is None:
            return self._end(one, "the order is not in the journal")
        if one.stage is Stage.CANCEL_SENT:
            ended = self._canceled(old)
            if ended is None:
                return Progress(one, "its cancellation is not confirmed yet")
            if ended.status not in (OrderStatus.CANCELED, OrderStatus.EXPIRED):
                return self._end(one, f"nothing makes way: the order is {ended.status}")
            one, old = self._move(one, Stage.CANCEL_CONFIRMED, f"it is {ended.status}"), ended
        found = self._found(one, old)
        return found if found is not None else self._submitted(one, old)

    def resume_all(self) -> None:
        """Every replacement that is not over is as far as it can come; what fails now is logged, and the
        order_manager's to go on with."""
        for one in self.store.read(lambda tx: tx.replacements()):
            try:
                self.resume(one)
            except (VenueError, StaleWrite, IllegalTransition) as error:
                log.warning("replacement_waits", extra={"key": one.old_key, "error": str(error)})

    # Stages

    def _canceled(self, order: Order) -> Order | None:
        """The order once it is over; None while the venue does not show its end."""
        if order.live and order.venue_id is not None:
            cancel(order.venue_id, order.key, broker=self.broker)
        for ask in range(self.asks):
            if not order.live:
                return order
            if ask:
                self.rest(ASK_AGAIN_S)
            order = self.catch_up.settle(order.key).order or order
        return None if order.live else order

    def _found(self, one: Replacement, old: Order) -> Progress | None:
        """The cycle's next order, whoever sent it, ends the replacement; None when there is none."""
        new = self._newer(old)
        if new is None or new.status is OrderStatus.LOST:
            return None
        if (new.intent.purpose, new.intent.step) != (old.intent.purpose, old.intent.step):
            return self._end(one, f"somebody else placed {new.key} first")
        if new.status is OrderStatus.IN_FLIGHT:
            new = self.catch_up.settle(new.key).order or new
        if new.status is OrderStatus.LOST:
            return None
        if one.stage is Stage.CANCEL_CONFIRMED:
            one = self._move(one, Stage.SUBMIT_SENT, "it was sent", new_key=new.key)
        if new.status is OrderStatus.IN_FLIGHT:
            return Progress(one, f"whether the venue has {new.key} is unclear")
        if new.status in NOT_SENT:
            return self._end(one, f"{new.key} is {new.status}: {new.detail}")
        why = f"the venue has {new.key}"
        return Progress(self._move(one, Stage.SUBMIT_CONFIRMED, why, new_key=new.key), why)

    def _submitted(self, one: Replacement, old: Order) -> Progress:
        """What is left of the old order was sent under the key of its next attempt, if it may be."""
        if one.stage is Stage.SUBMIT_SENT:
            one = self._move(one, Stage.CANCEL_CONFIRMED, "nothing was sent yet")
        if self.clock.now() - one.created_at >= GIVEN_UP:
            return self._end(one, f"not sent anew within {GIVEN_UP}")
        if old.intent.side is Side.SELL:
            self.catch_up.fees(one.cycle_id)
        brief = self.store.read(lambda tx: _brief_of(tx, one.cycle_id))
        quote = self.broker.latest_quote(old.intent.symbol)
        wish = self._wish(one, old, brief, quote)
        if isinstance(wish, _Blocked):
            return self._end(one, wish.why)
        if isinstance(wish, _Later) or brief is None:
            return Progress(one, wish.why if isinstance(wish, _Later) else "its cycle is over")
        one = self._move(one, Stage.SUBMIT_SENT, wish.reason, new_key=self._next_key(brief, old))
        if not self.trader.instruments:
            self.trader.instruments = self.broker.instruments()
        outcome = self.trader.carry_out(replace(brief, by_hand=one.limit is not None), wish, quote)
        found = self._found(one, old)
        if found is not None:
            return found
        if outcome.denied is not None and (old.intent.side is Side.BUY or outcome.denied in FOR_GOOD):
            return self._end(one, f"not sent anew: {outcome.reason}")
        why = f"not sent anew yet: {outcome.reason}"
        return Progress(self._move(one, Stage.CANCEL_CONFIRMED, why), why)

    # What to send

    def _wish(
        self, one: Replacement, old: Order, brief: Brief | None, quote: Quote
    ) -> Buy | Sell | _Blocked | _Later:
        if brief is None or brief.cycle is None or brief.cycle.id != one.cycle_id:
            return _Blocked("its cycle is over")
        asset, cycle = brief.situation.asset, brief.cycle
        if old.intent.side is Side.SELL:
            return self._sale(one, old, asset, cycle, quote)
        if asset.halted_reason is not None or not asset.buys:
            return _Blocked("the asset buys nothing now")
        blocked = self.entries_blocked()
        if blocked is not None:
            return _Blocked(f"nothing is bought now: {blocked}")
        stop = stop_price(cycle, asset.rules)
        if one.limit is None and stop is not None and quote.bid <= stop:
            return _Blocked(f"bid {shown(quote.bid)} is at or below the stop {shown(stop)}")
        if one.limit is None and old.intent.purpose is Purpose.SAFETY:
            trigger = _trigger(brief, cycle, old)
            if trigger is None or quote.ask > trigger:
                return _Blocked(f"ask {shown(quote.ask)} is above where the safety order is due")
        left = left_to_spend(brief, old)
        if left <= 0:
            return _Blocked("nothing of it is left to buy")
        intent = old.intent
        return Buy(intent.purpose, intent.step, left, one.limit or quote.ask, one.reason)

    def _sale(
        self, one: Replacement, old: Order, asset: Asset, cycle: Cycle, quote: Quote
    ) -> Sell | _Blocked | _Later:
        if cycle.quantity <= 0:
            return _Blocked("nothing of it is left to sell")
        if asset.halted_reason is not None:
            return _Later("the asset is halted")
        floor = floor_price(cycle.average_purchase_price, self.trader.terms.taker_fee)
        if quote.bid < floor and old.intent.purpose not in AT_ANY_PRICE:
            text = f"not sold again: bid {shown(quote.bid)} is below break-even {shown(floor)}"
            return _Blocked(f"{text}; the cycle goes on watching")
        return Sell(cycle.quantity, one.reason, old.intent.purpose)

    # Rows

    def _newer(self, old: Order) -> Order | None:
        """The cycle's newest order after `old`."""
        orders = self.store.read(lambda tx: tx.orders_of(old.intent.cycle_id))
        return orders[-1] if orders and orders[-1].key != old.key else None

    def _next_key(self, brief: Brief, old: Order) -> str:
        """As the trader makes it: an order that was lost is sent again under its own."""
        intent, newest = old.intent, brief.orders[-1]
        if newest.status is OrderStatus.LOST and newest.key != old.key:
            return newest.key
        attempt = last_attempt(brief.orders, intent.purpose, intent.step) + 1
        return order_key(self.store.install, intent.cycle_id, intent.purpose, intent.step, attempt)

    def _move(self, one: Replacement, to: Stage, why: str, *, new_key: str | None = None) -> Replacement:
        after = advance(one, to, at=self.clock.now(), new_key=new_key)

        def write(tx: Tx) -> Replacement:
            written = tx.update_replacement(after)
            tx.add_event(_event(written, why))
            return written

        return self.store.write(write)

    def _end(self, one: Replacement, why: str) -> Progress:
        log.info("replacement_blocked", extra={"key": one.old_key, "reason": why})
        return Progress(self._move(one, Stage.BLOCKED, why), why)


def left_to_spend(brief: Brief, old: Order) -> Decimal:
    """USD of the wish behind a buy that no fill has spent; never more than the old order still could."""
    intent = old.intent
    assert intent.limit is not None, "only buys with a limit are replaced"
    mine = {
        order.key
        for order in brief.orders
        if (order.intent.purpose, order.intent.step) == (intent.purpose, intent.step)
    }
    spent = dict.fromkeys(mine, ZERO)
    for fill in brief.fills:
        if fill.order_key in spent:
            spent[fill.order_key] += fill.qty * fill.price
    own = intent.qty * intent.limit
    rules = brief.situation.asset.rules
    wished = spend(rules, intent.step) if intent.purpose in (Purpose.BASE, Purpose.SAFETY) else own
    if intent.purpose is Purpose.ADD_FUNDS:
        return own - spent[old.key]
    return min(own - spent[old.key], wished - sum(spent.values(), ZERO))


def _trigger(brief: Brief, cycle: Cycle, old: Order) -> Decimal | None:
    """The ask at which the safety order was due: what it bought itself does not move it."""
    before = [order for order in brief.orders if order.intent.step != old.intent.step]
    last = last_fill_price(before, brief.fills)
    as_then = replace(cycle, safety_orders=old.intent.step - 1, last_order_fill_price=last)
    return safety_trigger(as_then, brief.situation.asset)


def _brief_of(tx: Tx, cycle_id: int) -> Brief | None:
    cycle = tx.cycle(cycle_id)
    return None if cycle is None else read_brief(tx, cycle.asset_id)


def _event(one: Replacement, why: str) -> Event:
    return Event(
        name=f"replacement_{one.stage}",
        at=one.updated_at,
        reason=why,
        cycle_id=one.cycle_id,
        order_key=one.old_key,
        data={"new_key": one.new_key, "because": one.reason},
        uid=f"replace:{one.old_key}#{one.version}",
    )


# By hand


def replaceable(desk: Desk, symbol: str, limit: Decimal | None) -> tuple[Brief, Order]:
    """The asset, and its live order that `by_hand` would replace. Raises ConfigError."""
    brief = desk.brief(symbol)
    refuse_halted(desk, brief.situation.asset)
    if desk.trader.dry_run:
        raise ConfigError("this is a dry run (DRY_RUN): nothing is canceled or sent")
    order = next((order for order in brief.orders if order.live), None)
    if order is None:
        raise ConfigError(f"{symbol} has no live order that could be replaced")
    if order.venue_id is None:
        raise ConfigError(f"whether the venue has {order.key} is not known yet: try again in a minute")
    if order.intent.side is Side.BUY:
        _check_buy(desk, brief, order, limit)
    elif limit is not None:
        raise ConfigError("a sell is sold again at the market: leave out --limit")
    return brief, order


def _check_buy(desk: Desk, brief: Brief, order: Order, limit: Decimal | None) -> None:
    asset = brief.situation.asset
    paused = because(desk, Mode.REDUCE_ONLY) or asset.paused_reason
    if paused is not None:
        raise ConfigError(f"nothing is bought now ({paused}); only to cancel it: dca cycle cancel-orders")
    if not asset.is_enabled:
        raise ConfigError(f"{asset.asset_symbol} is disabled, nothing is bought")
    if order.intent.limit is None:
        raise ConfigError(f"{order.key} is a market order: it has no price to replace")
    if limit is None:
        return
    ask = desk.quote(asset.asset_symbol).ask
    if limit <= 0 or abs(limit - ask) > MAX_PRICE_DISTANCE * ask:
        raise ConfigError(f"{plain(limit)} is too far from the ask {shown(ask)}: at most 5 % of it")


def by_hand(desk: Desk, symbol: str, limit: Decimal | None) -> Done:
    """The live order of the asset was replaced, at `limit` or the market's price; or `Done` says how far
    that came. What is left of it the order_manager goes on with."""
    _, order = replaceable(desk, symbol, limit)
    if order.intent.side is Side.BUY and limit is None:
        limit = desk.quote(symbol).ask
    replacing = Replacing(
        store=desk.store,
        broker=desk.broker,
        clock=desk.clock,
        trader=desk.trader,
        catch_up=desk.catch_up,
        rest=desk.rest,
    )
    one = replacing.begin(order, "replaced by the operator", limit)
    if one is None:
        return Done(False, f"{order.key} is being replaced already; how far it came: dca status {symbol}")
    until = desk.clock.monotonic() + CLOSE_S
    why = ""
    while not one.over and desk.clock.monotonic() < until:
        try:
            progress = replacing.resume(one)
            one, why = progress.replacement, progress.why
        except (VenueError, StoreUnavailable, StaleWrite) as error:
            why = str(error)
            one = desk.store.read(lambda tx: tx.replacement(order.key)) or one
        if not one.over:
            desk.rest(LOOK_S)
    return _told(desk, order, one, why)


def _told(desk: Desk, order: Order, one: Replacement, why: str) -> Done:
    keys = [key for key in (order.key, one.new_key) if key is not None]
    if one.stage is Stage.SUBMIT_CONFIRMED:
        # It may have filled at once; whether it did, the streamer hears as well.
        with suppress(VenueError, StoreUnavailable):
            desk.catch_up.settle(keys[-1])
    found = [desk.store.read(lambda tx, key=key: tx.order(key)) for key in keys]  # type: ignore[misc]
    orders = [each for each in found if each is not None]
    text = "; ".join(described(each) for each in orders)
    if one.stage is Stage.SUBMIT_CONFIRMED:
        return Done(True, text, orders)
    return Done(False, f"{text}; {why}", orders)
