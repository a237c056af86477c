"""What an operator does on purpose: pause, halt, resume, close, cancel, add funds - each written down."""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from dca.domain.asset import Asset
from dca.domain.cycle import Cycle
from dca.domain.errors import ConfigError, StoreUnavailable, VenueError
from dca.domain.market import Quote
from dca.domain.mode import OPERATOR, Mode, Restriction, in_force, reasons, stricter
from dca.domain.money import ZERO, plain
from dca.domain.order import Order, Purpose, Side
from dca.domain.position import Fill, fold
from dca.domain.record import Event, Message
from dca.ports import Broker, Clock, Store, Tx
from dca.service import assets
from dca.service.brief import Brief, read_brief
from dca.service.catchup import CatchUp
from dca.service.pipeline import cancel
from dca.service.trader import Outcome, Trader
from dca.strategy.dca import Buy, Sell
from dca.strategy.ladder import MIN_SPEND

log = logging.getLogger(__name__)

CLOSE_S = 75.0
"""Real seconds that a close takes at most: longer than the wait for the measure of a fee."""
SETTLE_S = 10.0
"""Real seconds after which an order that is not over is reported as it is."""
LOOK_S = 0.2
LONGEST_LOOK_S = 2.0
"""A close looks less and less often: five looks a second would use up what the venue allows."""


# Switches


def pause(store: Store, clock: Clock, symbol: str | None, reason: str) -> None:
    """Nothing is bought any more, of one asset or of any; what is held is sold by its rules."""
    if symbol is None:
        _restrict(store, clock, Mode.REDUCE_ONLY, "trading_paused", reason)
        return
    assets.change(
        store, clock, symbol, lambda asset: replace(asset, paused_reason=reason), reason, name="asset_paused"
    )


def halt(store: Store, clock: Clock, symbol: str | None, reason: str) -> None:
    """No process sends an order any more, for one asset or for any; others are told."""
    if symbol is None:
        _restrict(store, clock, Mode.HALTED, "trading_halted", reason)
        told = "trading is halted"
    else:
        assets.change(
            store,
            clock,
            symbol,
            lambda asset: replace(asset, halted_reason=reason),
            reason,
            name="asset_halted",
        )
        told = f"{symbol} is halted"
    now = clock.now()
    key = f"operator:{symbol or 'all'}:{now.isoformat()}"
    message = Message(key=key, name="asset_halted", text=f"{told} by the operator: {reason}", at=now)
    store.write(lambda tx: tx.add_message(message))


def resume(store: Store, clock: Clock, symbol: str | None) -> None:
    """No pause of one asset is left, or no pause and no halt of trading as a whole.

    The halt of an asset is not this module's to end: what it holds must be looked at first.
    """
    if symbol is None:
        _lift_all(store, clock)
        return
    why = "resumed by the operator"
    assets.change(
        store, clock, symbol, lambda asset: replace(asset, paused_reason=None), why, name="asset_resumed"
    )


def _restrict(store: Store, clock: Clock, mode: Mode, name: str, reason: str) -> None:
    """The operator wants no looser mode; a stricter one that he asked for before stays."""
    now = clock.now()

    def write(tx: Tx) -> None:
        before = next((one for one in tx.modes() if one.source == OPERATOR), None)
        if before is None or not stricter(before.mode, mode):
            tx.put_mode(Restriction(source=OPERATOR, mode=mode, reason=reason, since=now))
        tx.add_event(Event(name=name, at=now, reason=reason))

    store.write(write)
    log.info(name, extra={"reason": reason})


def _lift_all(store: Store, clock: Clock) -> None:
    """Nothing restricts trading any more, until a source finds a reason anew."""
    now = clock.now()

    def write(tx: Tx) -> list[Restriction]:
        lifted = in_force(tx.modes(), now)
        for restriction in tx.modes():
            tx.drop_mode(restriction.source)
        told = [f"{one.source}: {one.mode} ({one.reason})" for one in lifted]
        tx.add_event(Event(name="trading_resumed", at=now, reason="by the operator", data={"lifted": told}))
        return lifted

    lifted = store.write(write)
    log.info("trading_resumed", extra={"lifted": len(lifted)})


# Orders


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What an operator's order goes through. `rest` waits so many real seconds."""

    store: Store
    broker: Broker
    clock: Clock
    trader: Trader
    catch_up: CatchUp
    rest: Callable[[float], object]

    def brief(self, symbol: str) -> Brief:
        """The asset as it is now. Raises ConfigError when there is none of that symbol."""

        def read(tx: Tx) -> Brief:
            found = read_brief(tx, assets.named(tx, symbol).id)
            assert found is not None
            return found

        return self.store.read(read)

    def quote(self, symbol: str) -> Quote:
        """What the venue shows at this moment. Raises Unavailable."""
        return self.broker.latest_quote(symbol)


@dataclass(frozen=True, slots=True)
class Done:
    """What came of it. Not `ok`: it is not over, or was not done, as `text` says."""

    ok: bool
    text: str
    orders: Sequence[Order] = ()


def closable(desk: Desk, symbol: str) -> Brief:
    """The asset, whose cycle `close` would end. Raises ConfigError when there is nothing to close, or
    nothing may be sold."""
    brief = desk.brief(symbol)
    refuse_halted(desk, brief.situation.asset)
    cycle = brief.cycle
    if cycle is None or (cycle.quantity <= 0 and not brief.busy):
        raise ConfigError(f"{symbol} has no cycle that holds anything: there is nothing to close")
    return brief


def close(desk: Desk, symbol: str) -> Done:
    """The cycle's orders were canceled and all it owns is sold at the market, once, whoever else
    tries the same; or `Done` says how far it came.

    Its entries are paused meanwhile, so that the streamer does not buy again what is being sold.
    """
    cycle = _cycle(closable(desk, symbol))
    why = f"cycle {cycle.id} is being closed by the operator"
    _note(desk, "operator_close", why, cycle)
    _pause_for(desk, symbol, why)
    try:
        done = _Closing(desk, symbol, cycle.id).run()
    finally:
        left = _unpaused(desk, symbol, why)
    return replace(done, text=done.text + left)


def _pause_for(desk: Desk, symbol: str, why: str) -> None:
    def edit(asset: Asset) -> Asset:
        return replace(asset, paused_reason=asset.paused_reason or why)

    assets.change(desk.store, desk.clock, symbol, edit, why, name="asset_paused")


def _unpaused(desk: Desk, symbol: str, why: str) -> str:
    """The pause is over, unless it is somebody else's; or the words that it is not."""

    def edit(asset: Asset) -> Asset:
        return replace(asset, paused_reason=None if asset.paused_reason == why else asset.paused_reason)

    try:
        assets.change(desk.store, desk.clock, symbol, edit, f"over: {why}", name="asset_resumed")
    except StoreUnavailable as error:
        return f"; {symbol} is still paused ({error}): dca resume {symbol}"
    return ""


class _Closing:
    """One attempt to close a cycle, look by look, until it is over or CLOSE_S have passed."""

    def __init__(self, desk: Desk, symbol: str, cycle_id: int) -> None:
        self._desk = desk
        self._symbol = symbol
        self._cycle_id = cycle_id
        self._asked: set[str] = set()
        self._said = ""

    def run(self) -> Done:
        limit = self._desk.clock.monotonic() + CLOSE_S
        pause_s = LOOK_S
        while True:
            try:
                done = self._look()
            except (VenueError, StoreUnavailable) as error:
                done, self._said = None, str(error)
            if done is not None:
                return done
            if self._desk.clock.monotonic() > limit:
                return Done(False, f"cycle {self._cycle_id} is not closed yet: {self._said}")
            self._desk.rest(pause_s)
            pause_s = min(pause_s * 1.5, LONGEST_LOOK_S)

    def _look(self) -> Done | None:
        """One step nearer; what came of it all once it is over."""
        brief = self._desk.brief(self._symbol)
        cycle = brief.cycle
        if cycle is None or cycle.id != self._cycle_id:
            return self._over()
        refuse_halted(self._desk, brief.situation.asset)
        live = [order for order in brief.orders if order.live]
        if live:
            self._said = f"order {live[0].key} is {live[0].status}"
            for order in live:
                self._end(order)
            return None
        if cycle.quantity <= 0:
            return Done(True, f"cycle {cycle.id} holds nothing; its orders are canceled", brief.orders)
        return self._sell(brief, cycle)

    def _end(self, order: Order) -> None:
        """A buy is on its way to be canceled; a sell is what we want, whoever sent it."""
        if order.intent.side is Side.BUY and order.venue_id is not None and order.key not in self._asked:
            self._asked.add(order.key)
            cancel(order.venue_id, order.key, broker=self._desk.broker)
        self._desk.catch_up.order(order.key)

    def _sell(self, brief: Brief, cycle: Cycle) -> Done | None:
        # A market order takes whatever price there is, so an old quote is as good as a new one.
        quote = self._desk.quote(self._symbol)._replace(at=self._desk.clock.now())
        wish = Sell(cycle.quantity, "closed by the operator", Purpose.CLOSE)
        outcome = self._desk.trader.carry_out(replace(brief, by_hand=True), wish, quote)
        self._said = outcome.reason
        if outcome.measure is not None:
            self._desk.catch_up.fees(outcome.measure)
        elif outcome.ask is not None:
            self._desk.catch_up.order(outcome.ask)
        elif outcome.hold_until is not None:
            return Done(False, f"cycle {cycle.id} is not closed: {outcome.reason}")
        return None

    def _over(self) -> Done:
        def read(tx: Tx) -> tuple[list[Order], list[Fill]]:
            return tx.orders_of(self._cycle_id), tx.fills_of(self._cycle_id)

        orders, fills = self._desk.store.read(read)
        position = fold(fills)
        net = position.proceeds - position.cost
        text = (
            f"cycle {self._cycle_id} is closed: {coins(position.sold, self._symbol)} sold for "
            f"{position.proceeds:.2f} USD after fees, {net:+.2f} USD in all"
        )
        return Done(True, text, orders)


def cancel_orders(desk: Desk, symbol: str) -> Done:
    """The live orders of the asset's cycle are over, each as `Done` says; or they still work."""
    brief = desk.brief(symbol)
    keys = [order.key for order in brief.orders if order.live]
    if not keys:
        return Done(True, f"{symbol} has no live order")
    if brief.cycle is not None:
        _note(desk, "operator_cancel", f"canceled by the operator: {', '.join(keys)}", brief.cycle)
    for order in brief.orders:
        if order.live and order.venue_id is not None:
            cancel(order.venue_id, order.key, broker=desk.broker)
    orders = _settled(desk, symbol, keys)
    over = all(not order.live for order in orders)
    return Done(over, "; ".join(described(order) for order in orders), orders)


def because(desk: Desk, mode: Mode) -> str | None:
    """Why the mode is in force; None when it is not."""
    return reasons(desk.store.read(lambda tx: tx.modes()), desk.clock.now()).get(mode)


def addable(desk: Desk, symbol: str, amount: Decimal) -> Brief:
    """The asset, for whose cycle `add_funds` would buy. Raises ConfigError when it may not."""
    brief = desk.brief(symbol)
    asset, cycle = brief.situation.asset, brief.cycle
    refuse_halted(desk, asset)
    paused = because(desk, Mode.REDUCE_ONLY)
    if paused is not None:
        raise ConfigError(f"trading is paused ({paused}): nothing is bought until: dca resume")
    if asset.paused_reason is not None:
        raise ConfigError(f"{symbol} is paused ({asset.paused_reason}): first: dca resume {symbol}")
    if not asset.is_enabled:
        raise ConfigError(f"{symbol} is disabled: first: dca asset enable {symbol}")
    if cycle is None or cycle.quantity <= 0:
        raise ConfigError(f"{symbol} holds nothing that funds could be added to")
    if brief.busy:
        raise ConfigError(f"an order of {symbol} is live; wait, or first: dca cycle cancel-orders {symbol}")
    if amount < MIN_SPEND:
        raise ConfigError(f"an order must cost at least {plain(MIN_SPEND)} USD, not {plain(amount)}")
    return brief


def add_funds(desk: Desk, symbol: str, amount: Decimal) -> Done:
    """`amount` USD more of the asset were bought at the ask, for its cycle; or `Done` says why not.

    The buy counts into the average and uses no step of the ladder.
    """
    cycle = _cycle(addable(desk, symbol, amount))
    # The instant names this very command: another operator may add the same amount.
    reason = f"{plain(amount)} USD added by the operator at {desk.clock.now():%H:%M:%S.%f}"
    _note(desk, "operator_add_funds", reason, cycle)
    try:
        return _added(desk, symbol, amount, reason, cycle.id)
    except StoreUnavailable as error:
        return Done(False, f"{error}; whether an order was sent shows: dca status {symbol}")


def _added(desk: Desk, symbol: str, amount: Decimal, reason: str, cycle_id: int) -> Done:
    """Bought, tried again where the streamer changed the rows meanwhile."""
    limit = desk.clock.monotonic() + SETTLE_S
    while True:
        brief = addable(desk, symbol, amount)
        outcome = _buy(desk, brief, symbol, amount, reason)
        mine = [order.key for order in desk.brief(symbol).orders if order.intent.reason == reason]
        if mine:
            return _bought(desk, symbol, mine, cycle_id)
        if outcome.hold_until is not None or desk.clock.monotonic() > limit:
            return Done(False, f"nothing was bought: {outcome.reason}")
        desk.rest(LOOK_S)


def _buy(desk: Desk, brief: Brief, symbol: str, amount: Decimal, reason: str) -> Outcome:
    quote = desk.quote(symbol)
    wish = Buy(Purpose.ADD_FUNDS, 0, amount, quote.ask, reason)
    return desk.trader.carry_out(replace(brief, by_hand=True), wish, quote)


def _bought(desk: Desk, symbol: str, keys: Collection[str], cycle_id: int) -> Done:
    orders = _settled(desk, symbol, keys)
    filled = sum((order.filled_qty for order in orders), ZERO)
    try:
        desk.catch_up.fees(cycle_id)
    except (VenueError, StoreUnavailable) as error:
        log.warning("fees_not_measured", extra={"error": str(error)})
    return Done(filled > 0, "; ".join(described(order) for order in orders), orders)


def _settled(desk: Desk, symbol: str, keys: Collection[str]) -> list[Order]:
    """The orders once none is live, or as they are after SETTLE_S."""
    limit = desk.clock.monotonic() + SETTLE_S
    while True:
        try:
            for key in keys:
                desk.catch_up.order(key)
        except (VenueError, StoreUnavailable) as error:
            log.warning("order_not_asked", extra={"error": str(error)})
        found = [desk.store.read(lambda tx, key=key: tx.order(key)) for key in keys]  # type: ignore[misc]
        orders = [order for order in found if order is not None]
        if desk.clock.monotonic() > limit or not any(order.live for order in orders):
            return orders
        desk.rest(LOOK_S)


def coins(qty: Decimal, symbol: str) -> str:
    return f"{plain(qty)} {symbol.partition('/')[0]}"


def described(order: Order) -> str:
    """An order and its fate, for a person."""
    intent = order.intent
    price = "at the market" if intent.limit is None else f"at {plain(intent.limit)}"
    words = f"{intent.purpose} {intent.side}".replace("_", " ")
    text = f"{words} of {coins(intent.qty, intent.symbol)} {price}: {order.status.replace('_', ' ')}"
    if order.filled_qty > 0:
        average = "" if order.filled_avg_price is None else f" at {plain(order.filled_avg_price)}"
        text += f", {plain(order.filled_qty)} filled{average}"
    return f"{text} ({order.detail})" if order.detail else text


def refuse_halted(desk: Desk, asset: Asset) -> None:
    """Raises ConfigError while nothing may be sent for the asset."""
    symbol = asset.asset_symbol
    if asset.halted_reason is not None:
        raise ConfigError(
            f"{symbol} is halted ({asset.halted_reason}): nothing is sent for it until: dca resume {symbol}"
        )
    halted = because(desk, Mode.HALTED) or desk.trader.halted_outside()
    if halted is not None:
        raise ConfigError(f"trading is halted ({halted}): nothing is sent until: dca resume")


def _cycle(brief: Brief) -> Cycle:
    assert brief.cycle is not None, "whoever asked had one"
    return brief.cycle


def _note(desk: Desk, name: str, reason: str, cycle: Cycle) -> None:
    event = Event(name=name, at=desk.clock.now(), reason=reason, asset_id=cycle.asset_id, cycle_id=cycle.id)
    desk.store.write(lambda tx: tx.add_event(event))
    log.info(name, extra={"cycle_id": cycle.id, "reason": reason})
