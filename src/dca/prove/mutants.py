"""Known mistakes of trading bots, each put into the program on purpose: the judge must catch every one.

A campaign that finds nothing proves nothing unless it can fail. Each mutant says which mistake it is
and where such a mistake was made for real, and replaces one small piece of the program while it is
installed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

from sqlalchemy import insert, select

from dca.adapters.db import rows, tables
from dca.adapters.db.tx import SqlTx
from dca.domain import folding, position
from dca.domain.errors import Rejected, StaleWrite, Unavailable
from dca.domain.fees import FeeRates
from dca.domain.order import Execution, Intent, Order, OrderStatus, Side, VenueOrder
from dca.domain.position import Fill
from dca.ports import Broker, Clock, Holding, Store, Tx
from dca.prove.process import BrokerDoor
from dca.risk import review as reviewing
from dca.risk.price import agrees
from dca.risk.review import Denied
from dca.service import catchup, lease, pipeline, reconcile, recorder, trader
from dca.service.breaker import Circuits
from dca.service.brief import Brief
from dca.service.caretakers import consistency_checker, cooldown_manager, order_manager
from dca.service.catchup import CatchUp
from dca.service.engine import Engine
from dca.service.recorder import Recorded, Recorder
from dca.service.trader import Trader
from dca.strategy import dca as rules_of
from dca.strategy import ladder

ZERO = Decimal(0)
Patch = tuple[object, str, object]
NO_MISFORTUNE: Mapping[str, float] = {}


@dataclass(frozen=True, slots=True)
class Mutant:
    """A mistake: what is done wrong, where that comes from, and the pieces that are replaced."""

    name: str
    origin: str
    patches: Callable[[], Sequence[Patch]]
    chances: Mapping[str, float] | None = None
    """The misfortunes of its lives; None: each life draws its own."""

    @contextmanager
    def installed(self) -> Iterator[None]:
        """The program makes this mistake inside."""
        before = [(target, name, _piece(target, name)) for target, name, _ in self.patches()]
        try:
            for target, name, piece in self.patches():
                setattr(target, name, piece)
            yield
        finally:
            for target, name, piece in before:
                setattr(target, name, piece)


def _piece(target: object, name: str) -> object:
    """What stands there, as it stands in the class, so that it can be put back."""
    return vars(target).get(name, getattr(target, name))


def _without(*codes: str) -> list[Patch]:
    """The review without some of its checks."""

    def kept(checks: Sequence[Callable[..., Denied | None]]) -> tuple[Callable[..., Denied | None], ...]:
        return tuple(check for check in checks if check.__name__ not in codes)

    return [(reviewing, "_BUY", kept(reviewing._BUY)), (reviewing, "_SELL", kept(reviewing._SELL))]


# The order


def _journal_after_sending() -> list[Patch]:
    def place(
        reviewed: pipeline.Reviewed, *, store: Store, broker: Broker, clock: Clock, **more: Any
    ) -> pipeline.Outcome:
        answer = store.write(reviewed)
        if isinstance(answer, Denied):
            return answer
        now = clock.now()
        order = Order(intent=answer.intent, status=OrderStatus.IN_FLIGHT, created_at=now, updated_at=now)
        outcome = pipeline._send(order, broker)
        store.write(lambda tx: tx.insert_order(order))
        return outcome

    return [(trader, "place", place)]


def _doubt_is_refusal() -> list[Patch]:
    send = pipeline._send

    def sure(order: Order, broker: Broker) -> pipeline.Outcome:
        outcome = send(order, broker)
        if isinstance(outcome, pipeline.Unclear):
            return pipeline.Refused(order.key, order.intent.side, Rejected("no answer"))
        return outcome

    def never(self: Recorder, key: str) -> None:
        return None

    return [(pipeline, "_send", sure), (Recorder, "mark_unclear", never)]


def _doubt_is_sent_again_at_once() -> list[Patch]:
    send = pipeline._send

    def twice(order: Order, broker: Broker) -> pipeline.Outcome:
        outcome = send(order, broker)
        if not isinstance(outcome, pipeline.Unclear):
            return outcome
        send(replace(order, intent=replace(order.intent, key=f"{order.key}9")), broker)
        return outcome

    return [(pipeline, "_send", twice)]


def _miss_is_proof() -> list[Patch]:
    judge = reconcile.reconcile

    def hasty(journal: reconcile.Journal, seen: reconcile.Seen, grace: timedelta) -> list[reconcile.Repair]:
        lost: list[reconcile.Repair] = [
            reconcile.Lose(key, order.version, "the venue does not know it")
            for key, order in journal.orders.items()
            if order.status is OrderStatus.IN_FLIGHT and key in seen.unknown
        ]
        keys = {one.key for one in lost}
        return [*lost, *(one for one in judge(journal, seen, grace) if one.key not in keys)]

    return [(catchup, "reconcile", hasty), (trader, "_once_more", lambda intent, orders: None)]


def _lost_order_blocks_its_key() -> list[Patch]:
    intent_of = trader.intent_of

    def same_key(decision: Any, cycle: Any, orders: Sequence[Order], *more: Any, **named: Any) -> Intent:
        kept = [order for order in orders if order.status is not OrderStatus.LOST]
        return intent_of(decision, cycle, kept, *more, **named)

    return [(trader, "intent_of", same_key), (trader, "_once_more", lambda intent, orders: None)]


def _key_without_attempt() -> list[Patch]:
    def key(install: str, cycle_id: int, purpose: str, step: int, attempt: int) -> str:
        return f"dca{install}-c{cycle_id}-{purpose}-{step}-1"

    return [(trader, "order_key", key)]


def _sends_another_body() -> list[Patch]:
    send = pipeline._send

    def rounded(order: Order, broker: Broker) -> pipeline.Outcome:
        qty = Decimal(f"{float(order.intent.qty):.6f}")
        return send(replace(order, intent=replace(order.intent, qty=qty)), broker)

    return [(pipeline, "_send", rounded)]


def _sends_floats() -> list[Patch]:
    send = pipeline._send

    def floating(order: Order, broker: Broker) -> pipeline.Outcome:
        qty = Decimal(float(order.intent.qty))
        return send(replace(order, intent=replace(order.intent, qty=qty)), broker)

    return [(pipeline, "_send", floating)]


def _no_cause() -> list[Patch]:
    intent_of = trader.intent_of

    def silent(*given: Any, **named: Any) -> Intent:
        return replace(intent_of(*given, **named), reason="")

    return [(trader, "intent_of", silent)]


def _two_live_orders() -> list[Patch]:
    fate, anyway = rows.fate_values, insert(tables.orders)

    def slotless(order: Order) -> rows.Values:
        return {**fate(order), "live_slot": None}

    def unchecked(self: SqlTx, order: Order) -> bool:
        return self._insert(anyway, rows.order_values(order)) is not None

    return [
        (rows, "fate_values", slotless),
        (SqlTx, "insert_order", unchecked),
        (Brief, "busy", property(lambda self: False)),
        (rules_of, "_buying", lambda cycle, now, stale_after: rules_of.Wait("order_working")),
        (recorder, "folded", _folded_as_watching()),
    ]


def _folded_as_watching() -> Callable[..., Any]:
    """A cycle that never shows that an order of it is working."""
    folded = folding.folded

    def blind(cycle: Any, orders: Sequence[Order], fills: Sequence[Fill], at: datetime) -> Any:
        return folded(cycle, [order for order in orders if not order.live], fills, at)

    return blind


def _cancel_request_is_the_end() -> list[Patch]:
    cancel = Trader._cancel

    def hasty(self: Trader, brief: Brief, decision: Any) -> Any:
        outcome = cancel(self, brief, decision)
        if outcome.ask is not None:
            self.recorder.vanish(outcome.ask, "canceled")
        return outcome

    return [(Trader, "_cancel", hasty)]


def _cancels_nothing_stale() -> list[Patch]:
    def rests(since: datetime, now: datetime, stale_after: timedelta) -> None:
        return None

    return [(rules_of, "stale", rests), (order_manager, "stale", rests)]


# Fills


def _fills_counted_twice() -> list[Patch]:
    numbers, fills = count(1), Recorder._fills

    def renamed(self: Recorder, order: Order, executions: Sequence[Execution]) -> list[Fill]:
        found = fills(self, order, executions)
        step = Decimal("0.000000000001")
        return [
            replace(one, id=f"{one.id}-{number}", cum_qty=one.cum_qty + step * number)
            for one, number in zip(found, numbers, strict=False)
        ]

    return [(Recorder, "_fills", renamed)]


def _fill_before_the_answer_is_dropped() -> list[Patch]:
    record = Recorder._record

    def only_known(
        self: Recorder, tx: Tx, seen: VenueOrder, executions: Sequence[Execution], source: str
    ) -> Recorded:
        order = tx.order(seen.key)
        if order is not None and order.venue_id is None and source.startswith("stream"):
            return Recorded(None)
        return record(self, tx, seen, executions, source)

    return [(Recorder, "_record", only_known)]


def _cumulative_is_trusted() -> list[Patch]:
    fills = Recorder._fills

    def cumulative(self: Recorder, order: Order, executions: Sequence[Execution]) -> list[Fill]:
        return fills(self, order, [replace(one, qty=one.cum_qty) for one in executions])

    return [(Recorder, "_fills", cumulative)]


def _fills_at_the_limit() -> list[Patch]:
    fills = Recorder._fills

    def limited(self: Recorder, order: Order, executions: Sequence[Execution]) -> list[Fill]:
        price = order.intent.limit
        return [one if price is None else replace(one, price=price) for one in fills(self, order, executions)]

    return [(Recorder, "_fills", limited)]


def _eight_decimals() -> list[Patch]:
    fills = Recorder._fills

    def rounded(self: Recorder, order: Order, executions: Sequence[Execution]) -> list[Fill]:
        found = fills(self, order, executions)
        return [replace(one, qty=one.qty.quantize(Decimal("0.000001"))) for one in found]

    return [(Recorder, "_fills", rounded)]


def _fills_after_the_end_are_ignored() -> list[Patch]:
    record = Recorder._record

    def only_live(
        self: Recorder, tx: Tx, seen: VenueOrder, executions: Sequence[Execution], source: str
    ) -> Recorded:
        order = tx.order(seen.key)
        if order is not None and not order.live:
            return Recorded(order)
        return record(self, tx, seen, executions, source)

    def early(order: Order, seen: VenueOrder, filled: Decimal, known: Decimal) -> OrderStatus:
        if seen.status in folding._OVER:
            return seen.status
        return OrderStatus.PARTIAL if filled > 0 else OrderStatus.OPEN

    return [(Recorder, "_record", only_live), (folding, "_target", early)]


def _coin_fee_is_ignored() -> list[Patch]:
    return [
        (FeeRates, "estimate", lambda self, side, qty, price: ZERO),
        (CatchUp, "fees", lambda self, cycle_id: None),
    ]


def _sales_are_not_subtracted() -> list[Patch]:
    fold = position.fold

    def bought_only(fills: Any) -> position.Position:
        return fold([one for one in fills if one.side is Side.BUY])

    return [(folding, "fold", bought_only)]


def _only_whole_orders_count() -> list[Patch]:
    folded = folding.folded

    def whole(cycle: Any, orders: Sequence[Order], fills: Sequence[Fill], at: datetime) -> Any:
        done = {order.key for order in orders if order.status is OrderStatus.FILLED}
        return folded(cycle, orders, [one for one in fills if one.order_key in done], at)

    return [(recorder, "folded", whole)]


def _sale_in_two_units() -> list[Patch]:
    complete, record = Recorder._complete, Recorder.record
    waiting: list[tuple[Recorder, tuple[Any, ...]]] = []

    def later(self: Recorder, tx: Tx, *rest: Any) -> None:
        waiting.append((self, rest))

    def then(self: Recorder, *given: Any, **named: Any) -> Recorded:
        waiting.clear()
        result = record(self, *given, **named)
        mine = [rest for owner, rest in waiting if owner is self]
        for rest in mine:
            self._store.write(lambda tx, rest=rest: complete(self, tx, *rest))  # type: ignore[misc]
        return result

    return [(Recorder, "_complete", later), (Recorder, "record", then)]


# Catching up


def _nothing_is_caught_up() -> list[Patch]:
    return [
        (CatchUp, "everything", lambda self, **named: None),
        (order_manager.OrderManager, "plan", lambda self, view, now: []),
        (consistency_checker.ConsistencyChecker, "plan", lambda self, view, now: []),
        (Engine, "_ask", _asks_nothing),
    ]


async def _asks_nothing(self: Engine, key: str) -> None:
    return None


def _status_without_fills() -> list[Patch]:
    judge = reconcile.reconcile

    def bare(journal: Any, seen: Any, grace: timedelta) -> list[reconcile.Repair]:
        return [
            replace(one, executions=()) if isinstance(one, reconcile.Record) else one
            for one in judge(journal, seen, grace)
        ]

    return [(catchup, "reconcile", bare)]


def _in_flight_is_forgotten() -> list[Patch]:
    live = SqlTx.live_orders

    def seen_only(self: SqlTx) -> list[Order]:
        return [order for order in live(self) if order.status is not OrderStatus.IN_FLIGHT]

    return [(SqlTx, "live_orders", seen_only), (Engine, "_ask", _asks_nothing)]


def _unreadable_is_empty() -> list[Patch]:
    holding, positions, listed = BrokerDoor.holding, BrokerDoor.positions, BrokerDoor.open_orders

    def flat(self: BrokerDoor, symbol: str) -> Holding:
        try:
            return holding(self, symbol)
        except Unavailable:
            return Holding(ZERO, ZERO)

    def none(self: BrokerDoor) -> dict[str, Holding]:
        try:
            return positions(self)
        except Unavailable:
            return {}

    def empty(self: BrokerDoor) -> list[VenueOrder]:
        try:
            return listed(self)
        except Unavailable:
            return []

    return [
        (BrokerDoor, "holding", flat),
        (BrokerDoor, "positions", none),
        (BrokerDoor, "open_orders", empty),
    ]


def _storm_of_questions() -> list[Patch]:
    init = Engine.__post_init__

    def eager(self: Engine) -> None:
        init(self)
        self.reconcile_every_s = 0.2

    return [(Engine, "__post_init__", eager)]


# Decisions


def _one_step_too_many() -> list[Patch]:
    trigger, commitment = rules_of.safety_trigger, ladder.commitment

    def longer(cycle: Any, asset: Any) -> Decimal | None:
        more = replace(asset.rules, max_safety_orders=asset.rules.max_safety_orders + 1)
        return trigger(cycle, replace(asset, rules=more))

    def dearer(rules: Any) -> Decimal:
        return commitment(replace(rules, max_safety_orders=rules.max_safety_orders + 1))

    return [(rules_of, "safety_trigger", longer), (trader, "commitment", dearer)]


def _steps_cost_double() -> list[Patch]:
    spend = ladder.spend
    return [
        (rules_of, "spend", lambda rules, step: spend(rules, step) * 2),
        (trader, "commitment", lambda rules: Decimal(1_000_000)),
    ]


def _ladder_that_is_always_denied() -> list[Patch]:
    spend = ladder.spend
    return [(rules_of, "spend", lambda rules, step: spend(rules, step) * 20)]


def _sells_what_others_hold() -> list[Patch]:
    trade = Trader._trade

    def everything(self: Trader, brief: Brief, cycle: Any, decision: Any, quote: Any, blocked: Any) -> Any:
        if isinstance(decision, rules_of.Sell):
            decision = replace(decision, qty=self.broker.holding(quote.symbol).qty)
        return trade(self, brief, cycle, decision, quote, blocked)

    return [(Trader, "_trade", everything), *_without("_own_coins")]


def _any_price_is_believed() -> list[Patch]:
    return [(Trader, "_unconfirmed", lambda self, quote, before: None)]


def _two_bad_quotes_agree() -> list[Patch]:
    def follows(quote: Any, before: Any, now: datetime, max_age: timedelta) -> bool:
        return before is None or agrees(quote, before)

    return [(trader, "follows", follows)]


def _chases_the_market() -> list[Patch]:
    intent_of = trader.intent_of

    def chasing(*given: Any, **named: Any) -> Intent:
        wish = intent_of(*given, **named)
        if wish.limit is None or wish.side is Side.SELL:
            return wish
        high = (wish.limit * Decimal("1.09")).quantize(Decimal("0.01"))
        return replace(wish, limit=high, qty=(wish.qty / Decimal("1.09")).quantize(Decimal("0.000001")))

    return [(trader, "intent_of", chasing), *_without("_price")]


def _halts_are_ignored() -> list[Patch]:
    decide = rules_of.decide

    def anyway(cycle: Any, asset: Any, *rest: Any) -> Any:
        return decide(cycle, replace(asset, halted_reason=None), *rest)

    return [
        (trader, "decide", anyway),
        (trader, "switched", lambda decision, mode: decision),
        *_without("_halted"),
    ]


def _streams_are_not_asked_for() -> list[Patch]:
    return [(Engine, "entries_blocked", lambda self: None)]


def _old_quotes_are_traded_on() -> list[Patch]:
    return [*_without("_quote_fresh"), (trader, "follows", lambda *given: True)]


def _order_ends_before_its_fills() -> list[Patch]:
    def early(order: Order, seen: VenueOrder, filled: Decimal, known: Decimal) -> OrderStatus:
        if seen.status in folding._OVER:
            return seen.status
        return OrderStatus.PARTIAL if filled > 0 else OrderStatus.OPEN

    return [
        (folding, "_target", early),
        (reconcile, "to_fetch", lambda journal, shown: []),
        (catchup, "to_fetch", lambda journal, shown: []),
    ]


def _dust_keeps_a_cycle_open() -> list[Patch]:
    return [(folding, "_is_dust", lambda quantity, price: False)]


def _cooldown_never_ends() -> list[Patch]:
    def never(cycle: Any, asset: Any) -> datetime:
        latest: datetime = cycle.created_at + timedelta(days=36_500)
        return latest

    return [(rules_of, "wakes_at", never), (cooldown_manager, "wakes_at", never)]


def _trails_for_ever() -> list[Patch]:
    return [(rules_of, "trailing_price", lambda peak, rules: ZERO)]


def _never_takes_profit() -> list[Patch]:
    return [(rules_of, "take_profit_price", lambda average, rules, fee: average * 1000)]


def _stop_is_not_looked_at() -> list[Patch]:
    return [(rules_of, "stop_price", lambda cycle, rules: None)]


# Several processes


def _no_lease() -> list[Patch]:
    take = lease.take

    def grabbed(store: Store, clock: Clock, name: str, holder: str, alive: Any, **more: Any) -> lease.Holding:
        return take(store, clock, name, holder, lambda other: False, **more)

    return [(lease, "take", grabbed)]


def _lease_that_never_ends() -> list[Patch]:
    take = lease.take

    def held(store: Store, clock: Clock, name: str, holder: str, alive: Any, **more: Any) -> lease.Holding:
        if store.read(lambda tx: tx.lease(name)) is not None:
            raise lease.LeaseTaken(f"{name} is taken")
        return take(store, clock, name, holder, alive, **more)

    return [(lease, "take", held)]


def _lease_is_not_renewed() -> list[Patch]:
    def beats_only(self: lease.Holding, beat: Any) -> None:
        self._store.write(lambda tx: tx.beat(beat))

    return [(lease.Holding, "renew", beats_only)]


def _last_write_wins() -> list[Patch]:
    def careless(self: SqlTx, statement: Any, values: rows.Values, row: int | str, read_version: int) -> None:
        table = statement.table
        name = next(one for one in ("id", "key", "name", "account_id", "old_key") if one in table.c)
        found = self._connection.execute(select(table.c.version).where(table.c[name] == row)).scalar()
        if found is None:
            raise StaleWrite(f"{row} is not there")
        changed = {**values, "version": read_version + 1, "row": row, "read_version": found}
        self._connection.execute(statement, changed)

    return [(SqlTx, "_change", careless), (Brief, "holds", lambda self, standing: True)]


def _hasty_checker() -> list[Patch]:
    return [
        (consistency_checker, "_quiet", lambda sides, busy, now, grace: True),
        (consistency_checker.ConsistencyChecker, "_fetch", lambda self, asset_id: False),
    ]


def _circuit_never_closes() -> list[Patch]:
    return [(Circuits, "is_unproven", Circuits.is_due)]


def _crash_on_strangers() -> list[Patch]:
    def raises(self: Recorder, seen: VenueOrder, source: str) -> None:
        raise ValueError(f"order {seen.key} is not known")

    return [(Recorder, "_unknown", raises)]


MUTANTS = (
    Mutant(
        "journal_after_sending", "sends, then writes: a death between loses the order", _journal_after_sending
    ),
    Mutant(
        "doubt_is_refusal",
        "a timeout or 5xx counts as failed",
        _doubt_is_refusal,
        {"lost_answer": 0.3, "update_lost": 0.3},
    ),
    Mutant(
        "doubt_is_sent_again", "a new key for each retry of an unclear answer", _doubt_is_sent_again_at_once
    ),
    Mutant("miss_is_proof", "404 right after sending counts as never had", _miss_is_proof),
    Mutant(
        "lost_order_blocks_its_key", "a lost order can never be wished for again", _lost_order_blocks_its_key
    ),
    Mutant("key_without_attempt", "the key does not tell one attempt from the next", _key_without_attempt),
    Mutant("sends_another_body", "rounds between journal and wire", _sends_another_body),
    Mutant("sends_floats", "floats on the wire", _sends_floats),
    Mutant("no_cause", "an order without a reason", _no_cause),
    Mutant("two_live_orders", "no constraint, and an if that forgets what is in flight", _two_live_orders),
    Mutant(
        "cancel_request_is_the_end",
        "forgets an order when its cancel is requested",
        _cancel_request_is_the_end,
    ),
    Mutant("cancels_nothing_stale", "lets a buy rest for ever", _cancels_nothing_stale),
    Mutant("fills_counted_twice", "no natural key for an execution", _fills_counted_twice),
    Mutant(
        "fill_before_answer_dropped",
        "ignores fills of orders that were not answered yet",
        _fill_before_the_answer_is_dropped,
    ),
    Mutant(
        "cumulative_is_trusted", "takes an order's filled quantity for an execution's", _cumulative_is_trusted
    ),
    Mutant("fills_at_the_limit", "books the limit instead of the price", _fills_at_the_limit),
    Mutant("six_decimals", "rounds quantities by habit", _eight_decimals),
    Mutant(
        "fills_after_the_end_ignored",
        "a canceled order cannot fill any more",
        _fills_after_the_end_are_ignored,
    ),
    Mutant("coin_fee_ignored", "believes to own what was filled", _coin_fee_is_ignored, NO_MISFORTUNE),
    Mutant("sales_not_subtracted", "a position that only grows", _sales_are_not_subtracted),
    Mutant("only_whole_orders_count", "partial fills do not count", _only_whole_orders_count),
    Mutant(
        "sale_in_two_units", "completes a cycle and opens the next in two transactions", _sale_in_two_units
    ),
    Mutant("nothing_is_caught_up", "trusts the stream alone", _nothing_is_caught_up),
    Mutant("status_without_fills", "catches up with states and forgets the fills", _status_without_fills),
    Mutant("in_flight_is_forgotten", "never asks again for what was unclear", _in_flight_is_forgotten),
    Mutant(
        "unreadable_is_empty",
        "an error of a read counts as none",
        _unreadable_is_empty,
        {"deposit": 0.05, "read_failed": 0.3},
    ),
    Mutant("storm_of_questions", "polls as fast as it can", _storm_of_questions),
    Mutant("one_step_too_many", "a ladder cap that is off by one", _one_step_too_many),
    Mutant("steps_cost_double", "spends twice what the rules say", _steps_cost_double),
    Mutant("always_denied", "a bot that may never trade", _ladder_that_is_always_denied),
    Mutant("sells_what_others_hold", "sells the whole position of the account", _sells_what_others_hold),
    Mutant("any_price_is_believed", "one wild tick trades", _any_price_is_believed),
    Mutant("two_bad_quotes_agree", "a bad first quote confirms itself", _two_bad_quotes_agree),
    Mutant("chases_the_market", "limits far above the ask", _chases_the_market),
    Mutant("halts_are_ignored", "a switch that nobody reads", _halts_are_ignored),
    Mutant("streams_not_asked_for", "buys while it is blind", _streams_are_not_asked_for),
    Mutant("old_quotes_traded_on", "acts on the last quote however old", _old_quotes_are_traded_on),
    Mutant(
        "ends_before_its_fills",
        "an order is over before its executions are stored",
        _order_ends_before_its_fills,
    ),
    Mutant("dust_keeps_a_cycle_open", "the last billionth of a coin is a position", _dust_keeps_a_cycle_open),
    Mutant("cooldown_never_ends", "rests for ever", _cooldown_never_ends),
    Mutant("trails_for_ever", "a trailing sale that never comes", _trails_for_ever),
    Mutant("never_takes_profit", "a target out of reach", _never_takes_profit),
    Mutant("no_lease", "two instances on one account", _no_lease, {"second_streamer": 0.5}),
    Mutant("lease_that_never_ends", "a dead instance keeps all others out", _lease_that_never_ends),
    Mutant("lease_not_renewed", "a living instance loses its lease", _lease_is_not_renewed),
    Mutant("last_write_wins", "updates that name no version", _last_write_wins),
    Mutant(
        "hasty_checker",
        "compares books and venue in the middle of a trade",
        _hasty_checker,
        # So that there is often something that the venue did and the books do not know.
        {"update_lost": 0.9, "partial": 0.6},
    ),
    Mutant("crash_on_strangers", "an order of somebody else stops the stream", _crash_on_strangers),
    Mutant("stop_is_not_looked_at", "a stop loss that never sells", _stop_is_not_looked_at, NO_MISFORTUNE),
    Mutant(
        "circuit_never_closes",
        "half open for ever: one good answer, and nobody asks again",
        _circuit_never_closes,
        {"venue_outage": 0.3, "quote_flash": 0.1},
    ),
)
"""Every mistake that the judge is tried with."""
