"""Settles orders in flight, replaces stale buys and stuck sells, cancels orphans."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from dca.domain.cycle import Cycle, CycleStatus
from dca.domain.errors import Unmended
from dca.domain.mode import Mode, mode_of
from dca.domain.order import LIVE, Order, OrderStatus, Side, VenueOrder, is_ours
from dca.domain.record import Event, Message
from dca.domain.replacement import Replacement, Stage
from dca.ports import Broker, Clock, Store, Tx
from dca.service.caretakers.runner import Repair
from dca.service.catchup import CatchUp
from dca.service.pipeline import cancel
from dca.service.replacing import Replacing
from dca.service.trader import Trader
from dca.strategy.dca import stale

STREAMER = "streamer"
STREAMER_BEATS_S = 30.0
OVERDUE = timedelta(minutes=10)
"""An order that is still open so long after its time is worth a message."""


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
    `all_halted`), `replacements` those that are not over, with the order that makes way.
    """

    open: Sequence[VenueOrder]
    venue_now: datetime
    install: str
    live: Sequence[Order]
    named: Collection[str]
    halted: Collection[str]
    all_halted: bool
    replacements: Sequence[tuple[Replacement, Order]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Work(Repair):
    """The order it is about, and when its time had come."""

    venue_id: str
    symbol: str
    due: datetime


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
        self._replacing = Replacing(
            store=store,
            broker=broker,
            clock=clock,
            trader=trader,
            catch_up=catch_up,
            rest=pause,
            entries_blocked=self._entries_blocked,
        )

    def _entries_blocked(self) -> str | None:
        """Why nothing is bought: without a streamer nobody would hear of what was bought."""
        beats = self._store.read(lambda tx: tx.heartbeats())
        beat = next((beat for beat in beats if beat.name == STREAMER), None)
        if beat is None or self._clock.now() - beat.at > self._clock.span(STREAMER_BEATS_S):
            return "the streamer does not run"
        why: str | None = beat.detail.get("entries_blocked")
        return why

    def look(self) -> View:
        listed = self._broker.open_orders()
        venue_now = self._broker.time() if listed else self._clock.now()
        now = self._clock.now()

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
                replacements=[*_replacements(tx)],
            )

        return self._store.read(read)

    def plan(self, view: View, now: datetime) -> list[Work]:
        work = [*_in_doubt(view, now, self._ages.grace), *_making_way(view)]
        work += [*_stale(view, now, self._ages.stale), *_stuck(view, now, self._ages.stuck)]
        return [*work, *_orphans(view, self._ages, {one.venue_id for one in work})]

    def mend(self, repair: Work) -> str | None:
        if repair.kind == "settle":
            result = self._catch_up.settle(repair.subject)
            return None if result.changed else "the venue shows nothing new"
        if self._trader.dry_run:
            return "dry run: nothing is canceled or sent"
        if repair.kind == "cancel_orphan":
            return self._cancel_orphan(repair)
        return self._replace(repair)

    def _replace(self, work: Work) -> str | None:
        """The order makes way as far as it can now. Raises Unmended when the next pass must go on."""
        one = self._store.read(lambda tx: tx.replacement(work.subject))
        if one is None:
            order = self._store.read(lambda tx: tx.order(work.subject))
            one = None if order is None else self._replacing.begin(order, work.reason)
        if one is None or one.over:
            return "it has made way by now, or another order of its cycle does"
        # Increments and minimums may have changed since the last pass.
        self._trader.instruments = self._broker.instruments()
        progress = self._replacing.resume(one)
        if progress.replacement.stage is Stage.CANCEL_SENT and self._clock.now() - work.due >= OVERDUE:
            self._tell(work)
        if not progress.replacement.over:
            raise Unmended(progress.why)
        return None if progress.replacement.stage is Stage.SUBMIT_CONFIRMED else progress.why

    def _cancel_orphan(self, work: Work) -> str | None:
        if self._store.read(lambda tx: _names(tx, work)):
            return "a cycle waits for it by now"
        data = {"symbol": work.symbol, "venue_id": work.venue_id}
        event = Event(
            name=work.kind, at=self._clock.now(), reason=work.reason, order_key=work.subject[:190], data=data
        )
        self._store.write(lambda tx: tx.add_event(event))
        cancel(work.venue_id, work.subject, broker=self._broker)
        if not self._is_over(work) and self._clock.now() - work.due >= OVERDUE:
            self._tell(work)
        return None

    def _is_over(self, work: Work) -> bool:
        order = self._catch_up.settle(work.subject).order
        if order is not None:
            return not order.live
        seen = self._broker.find(work.subject)
        return seen is None or seen.status not in LIVE

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


def _in_doubt(view: View, now: datetime, grace: timedelta) -> Iterator[Work]:
    """Orders in flight that the venue shows, and live ones past the grace that it does not show as they
    should be."""
    listed, keys = {seen.venue_id for seen in view.open}, {seen.key for seen in view.open}
    for order in view.live:
        age = now - order.asked_at
        in_flight = order.status is OrderStatus.IN_FLIGHT
        # What the venue shows is certain at once: whoever sent it died before it heard so.
        heard = in_flight and order.key in keys
        if not heard and (age < grace or (order.venue_id in listed and not in_flight)):
            continue
        why = f"in flight for {age.total_seconds():.0f} s" if in_flight else "not among the open orders"
        yield _work("settle", order, why, order.asked_at + grace)


def _making_way(view: View) -> Iterator[Work]:
    """Replacements that are not over; a halted asset sells nothing meanwhile."""
    for one, order in view.replacements:
        if order.intent.side is Side.BUY or not _halts(view, order):
            yield _work("go_on", order, one.reason, one.created_at)


def _stale(view: View, now: datetime, stale_after: timedelta) -> Iterator[Work]:
    """Buys with a limit that have rested for too long."""
    for order in _resting(view, Side.BUY):
        why = stale(order.created_at, now, stale_after)
        if order.intent.limit is not None and why is not None:
            yield _work("buy_again", order, why, order.created_at + stale_after)


def _stuck(view: View, now: datetime, stuck_after: timedelta) -> Iterator[Work]:
    """Sells that do not fill."""
    why = f"the sell has rested for {stuck_after.total_seconds():g} s"
    for order in _resting(view, Side.SELL):
        aged = now - order.created_at >= stuck_after
        if aged and order.venue_id in view.named and not _halts(view, order):
            yield _work("sell_again", order, why, order.created_at + stuck_after)


def _halts(view: View, order: Order) -> bool:
    return view.all_halted or order.intent.symbol in view.halted


def _resting(view: View, side: Side) -> Iterator[Order]:
    """Our orders of one side that both we and the venue hold as open, and that do not make way yet."""
    listed = {seen.venue_id for seen in view.open}
    begun = {one.cycle_id for one, _ in view.replacements}
    for order in view.live:
        open_here = order.status is not OrderStatus.IN_FLIGHT and order.venue_id in listed
        if open_here and order.intent.side is side and order.intent.cycle_id not in begun:
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


def _replacements(tx: Tx) -> Iterator[tuple[Replacement, Order]]:
    for one in tx.replacements():
        order = tx.order(one.old_key)
        if order is not None:
            yield one, order


def _work(kind: str, order: Order, why: str, due: datetime) -> Work:
    return Work(
        kind=kind,
        subject=order.key,
        reason=why,
        venue_id=order.venue_id or "",
        symbol=order.intent.symbol,
        due=due,
    )


def _names(tx: Tx, work: Work) -> bool:
    """Whether a cycle waits for the order by now."""
    record = tx.cycle_record(work.subject)
    return record is not None and work.venue_id in _named([record.cycle])
