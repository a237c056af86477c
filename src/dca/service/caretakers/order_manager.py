"""Settles orders in flight, cancels stale buys and orphans, sells again what is stuck."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from dca.domain.cycle import Cycle, CycleStatus
from dca.domain.errors import Unmended
from dca.domain.market import Quote
from dca.domain.mode import Mode, mode_of
from dca.domain.order import LIVE, Order, OrderStatus, Purpose, Side, VenueOrder, is_ours
from dca.domain.record import Event, Message
from dca.ports import Broker, Clock, Store, Tx
from dca.service.brief import Brief, read_brief
from dca.service.caretakers.runner import Repair
from dca.service.catchup import CatchUp
from dca.service.pipeline import cancel
from dca.service.trader import Trader
from dca.strategy.dca import Sell, shown, stale
from dca.strategy.exits import floor_price

ASKS = 5
ASK_AGAIN_S = 0.5
OVERDUE = timedelta(minutes=10)
"""An order that is still open so long after its time is worth a message."""
STUCK = "stuck_sell"
"""The event of a stuck sell: canceled, and once settled no concern of ours any more."""
STUCK_READ = 200
STUCK_FOR = timedelta(hours=1)
"""Whoever has not sold by then will not: the strategy decides anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ages:
    """How old orders may become: `stale` buys, `stuck` sells, and `orphan`s by the venue's clock.

    `grace` is how long a request may be under way. `whole_account`: no person trades the account,
    so whatever no cycle names may go.
    """

    stale: timedelta
    stuck: timedelta
    orphan: timedelta
    grace: timedelta
    whole_account: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The venue's open orders at `venue_now`, and then what the database says.

    In that order, because each order of ours is journaled before the venue has it. `named` are the
    venue ids that cycles wait for, `halted` the assets that send no order (all of them with
    `all_halted`), `stuck` the assets of stuck sells that are not settled, by key.
    """

    open: Sequence[VenueOrder]
    venue_now: datetime
    install: str
    live: Sequence[Order]
    named: Collection[str]
    halted: Collection[str]
    all_halted: bool
    stuck: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work(Repair):
    """The order it is about, and when its time had come. `not_listed`: it is open here, but not among
    the venue's open orders."""

    venue_id: str
    symbol: str
    due: datetime
    not_listed: bool = False


class OrderManager:
    """dca.service.caretakers.runner.Caretaker. `pause` waits for so many real seconds."""

    name = "order_manager"

    def __init__(
        self,
        store: Store,
        broker: Broker,
        clock: Clock,
        trader: Trader,
        catch_up: CatchUp,
        ages: Ages,
        pause: Callable[[float], object],
    ) -> None:
        self._store = store
        self._broker = broker
        self._clock = clock
        self._trader = trader
        self._catch_up = catch_up
        self._ages = ages
        self._pause = pause

    def look(self) -> View:
        listed = self._broker.open_orders()
        venue_now = self._broker.time() if listed else self._clock.now()
        now = self._clock.now()
        since = now - STUCK_FOR

        def read(tx: Tx) -> View:
            situations = tx.situations()
            cycles = [*(one.cycle for one in situations if one.cycle is not None), *tx.stray_cycles()]
            return View(
                open=listed,
                venue_now=venue_now,
                install=self._store.install,
                live=tx.live_orders(),
                named=set(_named(cycles)),
                halted={one.asset.asset_symbol for one in situations if one.asset.halted_reason is not None},
                all_halted=mode_of(tx.modes(), now) is Mode.HALTED,
                stuck=_unsettled(tx.events(limit=STUCK_READ, name=STUCK), since),
            )

        return self._store.read(read)

    def plan(self, view: View, now: datetime) -> list[Work]:
        work = [*_in_doubt(view, now, self._ages.grace), *_stale(view, now, self._ages.stale)]
        work += _stuck(view, now, self._ages.stuck)
        return [*work, *_orphans(view, self._ages, {one.venue_id for one in work})]

    def mend(self, repair: Work) -> str | None:
        if repair.kind == "settle":
            result = self._catch_up.settle(repair.subject, not_listed=repair.not_listed)
            return None if result.changed else "the venue shows nothing new"
        if repair.kind == "sell_again":
            return self._sell_again(repair)
        if repair.kind == "cancel_orphan" and self._store.read(lambda tx: _names(tx, repair)):
            return "a cycle waits for it by now"
        self._note(repair.kind, repair, repair.reason)
        self._canceled(repair, asks=1)
        return None

    def _canceled(self, work: Work, *, asks: int) -> bool:
        """Whether the order is over, after asking for its end; a person hears of one that never ends."""
        cancel(work.venue_id, work.subject, broker=self._broker)
        for ask in range(asks):
            if ask:
                self._pause(ASK_AGAIN_S)
            if self._is_over(work):
                return True
        if self._clock.now() - work.due >= OVERDUE:
            self._tell(work)
        return False

    def _is_over(self, work: Work) -> bool:
        order = self._catch_up.settle(work.subject).order
        if order is not None:
            return not order.live
        seen = self._broker.find(work.subject)
        return seen is None or seen.status not in LIVE

    def _sell_again(self, work: Work) -> str | None:
        """What is left of a stuck sell is sold, unless that would lose money or somebody else did.

        Raises Unmended when the next pass must go on."""
        order = self._store.read(lambda tx: tx.order(work.subject))
        if order is None:
            return "it is not in the journal"
        if order.live:
            self._note(STUCK, work, work.reason)
            if not self._canceled(work, asks=ASKS):
                raise Unmended("its cancellation is not confirmed yet")
        brief = self._store.read(lambda tx: _brief_of(tx, order))
        cycle = None if brief is None else _left(brief, order)
        if brief is None or cycle is None:
            return self._settled(work, "nothing of it is left to sell")
        if brief.situation.asset.halted_reason is not None:
            return "the asset is halted"
        quote = self._broker.latest_quote(work.symbol)
        floor = floor_price(cycle.average_purchase_price, self._trader.terms.taker_fee)
        # What a person closes is sold at any price, as he wanted it.
        if quote.bid < floor and order.intent.purpose is not Purpose.CLOSE:
            text = f"not sold again: bid {shown(quote.bid)} is below break-even {shown(floor)}"
            return self._settled(work, f"{text}; the cycle goes on watching")
        self._sell(brief, Sell(cycle.quantity, work.reason, order.intent.purpose), quote)
        self._settled(work, f"sold again at a bid of {shown(quote.bid)}")
        return None

    def _sell(self, brief: Brief, wish: Sell, quote: Quote) -> None:
        """Raises Unmended when no order came of it."""
        self._trader.instruments = self._broker.instruments()
        outcome = self._trader.carry_out(brief, wish, quote)
        before = {order.key for order in brief.orders}
        orders = self._store.read(lambda tx: [] if brief.cycle is None else tx.orders_of(brief.cycle.id))
        if not any(order.intent.side is Side.SELL and order.key not in before for order in orders):
            raise Unmended(f"not sold again yet: {outcome.reason}")

    def _settled(self, work: Work, how: str) -> str:
        self._note(STUCK, work, how, settled=True)
        return how

    def _note(self, name: str, work: Work, why: str, *, settled: bool = False) -> None:
        data = {"symbol": work.symbol, "venue_id": work.venue_id, "settled": settled}
        event = Event(name=name, at=self._clock.now(), reason=why, order_key=work.subject[:190], data=data)
        self._store.write(lambda tx: tx.add_event(event))

    def _tell(self, work: Work) -> None:
        text = f"{work.symbol}: order {work.subject} does not end though it was canceled: {work.reason}"
        key = f"cancel_stuck:{work.venue_id}"
        message = Message(key=key, name="cancel_stuck", text=text, at=self._clock.now())
        self._store.write(lambda tx: tx.add_message(message))


def _named(cycles: Sequence[Cycle]) -> Iterator[str]:
    """What cycles wait for, by the venue's id."""
    for cycle in cycles:
        if cycle.status in (CycleStatus.BUYING, CycleStatus.SELLING) and cycle.latest_order_id is not None:
            yield cycle.latest_order_id


def _unsettled(events: Sequence[Event], since: datetime) -> dict[str, str]:
    """The assets of stuck sells, by key, whose newest event does not settle them."""
    newest: dict[str, Event] = {}
    for event in events:
        newest.setdefault(event.order_key or "", event)
    return {
        key: str(event.data["symbol"])
        for key, event in newest.items()
        if not event.data["settled"] and event.at >= since
    }


def _in_doubt(view: View, now: datetime, grace: timedelta) -> Iterator[Work]:
    """Orders in flight that the venue shows, and live ones past the grace that it does not show as they
    should be."""
    listed, keys = {seen.venue_id for seen in view.open}, {seen.key for seen in view.open}
    for order in view.live:
        age = now - order.created_at
        in_flight = order.status is OrderStatus.IN_FLIGHT
        # What the venue shows is certain at once: whoever sent it died before it heard so.
        heard = in_flight and order.key in keys
        if not heard and (age < grace or (order.venue_id in listed and not in_flight)):
            continue
        why = f"in flight for {age.total_seconds():.0f} s" if in_flight else "not among the open orders"
        yield _work("settle", order, why, order.created_at + grace, not_listed=not in_flight)


def _stale(view: View, now: datetime, stale_after: timedelta) -> Iterator[Work]:
    """Buys with a limit that have rested for too long."""
    for order in _resting(view, Side.BUY):
        why = stale(order.created_at, now, stale_after)
        if order.intent.limit is not None and why is not None:
            yield _work("cancel_stale", order, why, order.created_at + stale_after)


def _stuck(view: View, now: datetime, stuck_after: timedelta) -> Iterator[Work]:
    """Sells that do not fill, and those canceled for it that were not sold again yet."""
    if view.all_halted:
        return
    why = f"the sell has rested for {stuck_after.total_seconds():g} s"
    begun = dict(view.stuck)
    for order in _resting(view, Side.SELL):
        aged = now - order.created_at >= stuck_after
        if aged and order.venue_id in view.named and order.intent.symbol not in view.halted:
            begun.pop(order.key, None)
            yield _work("sell_again", order, why, order.created_at + stuck_after)
    venue_ids = {order.key: order.venue_id or "" for order in view.live}
    for key, symbol in begun.items():
        if symbol not in view.halted:
            venue_id = venue_ids.get(key, "")
            yield Work(kind="sell_again", subject=key, reason=why, venue_id=venue_id, symbol=symbol, due=now)


def _resting(view: View, side: Side) -> Iterator[Order]:
    """Our orders of one side that both we and the venue hold as open."""
    listed = {seen.venue_id for seen in view.open}
    for order in view.live:
        open_here = order.status is not OrderStatus.IN_FLIGHT and order.venue_id in listed
        if open_here and order.intent.side is side:
            yield order


def _orphans(view: View, ages: Ages, planned: Collection[str]) -> Iterator[Work]:
    """Open orders, old by the venue's own clock, that no cycle waits for and nobody asks for now."""
    in_flight = {order.key for order in view.live if order.status is OrderStatus.IN_FLIGHT}
    for seen in view.open:
        mine = is_ours(seen.key, view.install)
        known = seen.venue_id in view.named or seen.venue_id in planned or seen.key in in_flight
        age = view.venue_now - seen.submitted_at
        if known or age < ages.orphan or not (mine or ages.whole_account):
            continue
        why = f"open for {age.total_seconds():.0f} s, and no cycle waits for it"
        yield Work(
            kind="cancel_orphan",
            subject=seen.key,
            reason=why,
            venue_id=seen.venue_id,
            symbol=seen.symbol,
            due=seen.submitted_at + ages.orphan,
        )


def _work(kind: str, order: Order, why: str, due: datetime, *, not_listed: bool = False) -> Work:
    return Work(
        kind=kind,
        subject=order.key,
        reason=why,
        venue_id=order.venue_id or "",
        symbol=order.intent.symbol,
        due=due,
        not_listed=not_listed,
    )


def _names(tx: Tx, work: Work) -> bool:
    """Whether a cycle waits for the order by now."""
    record = tx.cycle_record(work.subject)
    return record is not None and work.venue_id in _named([record.cycle])


def _brief_of(tx: Tx, order: Order) -> Brief | None:
    cycle = tx.cycle(order.intent.cycle_id)
    return None if cycle is None else read_brief(tx, cycle.asset_id)


def _left(brief: Brief, order: Order) -> Cycle | None:
    """The cycle of the stuck sell, if that was its last order and it still owns something."""
    cycle = brief.cycle
    if cycle is None or cycle.id != order.intent.cycle_id or cycle.quantity <= 0:
        return None
    return cycle if brief.orders[-1].key == order.key else None
