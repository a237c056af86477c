"""The short lives in which processes are killed: each leads to one thing that the program does."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from dca.apps.judge import JOURNALED, POSITION
from dca.apps.stage import SYMBOL
from dca.domain.asset import Asset
from dca.domain.cycle import Cycle, CycleStatus
from dca.domain.errors import Unmended
from dca.domain.order import Order, OrderStatus, Purpose, Side, order_key
from dca.domain.record import Message
from dca.paper.admission import Ticket
from dca.paper.control import Control
from dca.paper.orders import Kind
from dca.prove.crash_bench import Life
from dca.prove.crash_forks import COMMAND, STREAMER

LEVEL, FELL, ROSE = 20_000, 19_500, 21_000
PATIENCE_S = 90.0
DUST = "0.00001"
NO_CYCLE = 999_999
"""The number of a cycle that is not there."""
Deed = Callable[[Life], None]
Question = Callable[[Life], bool]


def nothing(life: Life) -> None:
    """All is as it is."""


@dataclass(frozen=True, slots=True)
class Script:
    """`victim` is killed wherever it crosses a boundary on its way from what `prepare` left to what
    `reached` asks for, while `drive` is done again and again.

    `arrange` is done once in each life, before anything runs, with what the exchange does not keep.
    `settings` are those of every process but the ones that prepare. `crosses` names the effects that
    must be among those boundaries. `forgives` are the judge's rules that do not hold here on purpose;
    `moves_coins`: coins come or go that the books cannot explain.
    """

    name: str
    words: str
    prepare: Deed
    reached: Question
    drive: Deed
    crosses: frozenset[str]
    victim: str = STREAMER
    arguments: tuple[str, ...] = ()
    arrange: Deed = nothing
    settings: Mapping[str, str] = field(default_factory=dict)
    forgives: frozenset[str] = frozenset()
    moves_coins: bool = False


# What is looked at


def cycles(life: Life) -> list[Cycle]:
    return life.books().cycles


def open_cycle(life: Life) -> Cycle:
    """The asset's unfinished cycle. Raises Unmended where there is none, or more than one."""
    found = [one for one in cycles(life) if not one.finished]
    if len(found) != 1:
        raise Unmended(f"there are {len(found)} unfinished cycles")
    return found[0]


def asset(life: Life) -> Asset:
    (found,) = life.books().assets
    return found


def placed(life: Life, purpose: Purpose) -> list[Order]:
    return [order for order in life.books().orders if order.intent.purpose is purpose]


def at_venue(life: Life) -> int:
    """How many orders the exchange has taken."""
    return int(life.control("status")["orders"])


def resting(life: Life, side: str) -> list[str]:
    """Keys of the orders of that side that rest at the exchange."""
    return [order.key for order in life.broker.open_orders() if order.side == side]


def watches_with_coins(life: Life) -> bool:
    books = life.books()
    quiet = not any(order.live for order in books.orders)
    return quiet and any(one.status is CycleStatus.WATCHING and one.quantity > 0 for one in books.cycles)


def _bought_once(life: Life) -> bool:
    return watches_with_coins(life) and at_venue(life) == 1


def _set_aside(life: Life) -> bool:
    return _bought_once(life) and asset(life).accepted_difference == Decimal(DUST)


def _refolded(life: Life) -> bool:
    return _bought_once(life) and open_cycle(life).safety_orders == 0


def _bought_twice(life: Life) -> bool:
    return watches_with_coins(life) and open_cycle(life).safety_orders == 1 and at_venue(life) == 2


def _sold(life: Life) -> bool:
    done = [one for one in cycles(life) if one.status is CycleStatus.COMPLETE]
    return len(done) == 1 and open_cycle(life).status is CycleStatus.COOLDOWN


def _sold_once(life: Life) -> bool:
    return _sold(life) and at_venue(life) == 2


def _canceled_then_bought(life: Life) -> bool:
    first, *later = placed(life, Purpose.BASE)
    return first.status is OrderStatus.CANCELED and bool(later) and watches_with_coins(life)


def _denied(life: Life) -> bool:
    denied = life.store.read(lambda tx: tx.events(limit=1, name="order_denied"))
    return bool(denied) and not life.books().orders and at_venue(life) == 0


def _halted(life: Life) -> bool:
    return asset(life).halted_reason is not None and at_venue(life) == 1


def _ended_then_bought(life: Life) -> bool:
    failed = [one for one in cycles(life) if one.status is CycleStatus.ERROR]
    return len(failed) == 1 and watches_with_coins(life)


def _no_orphan(life: Life) -> bool:
    return not life.broker.open_orders() and watches_with_coins(life)


def _accepted_is_gone(life: Life) -> bool:
    return asset(life).accepted_difference == 0 and _bought_once(life)


def _second_rests(life: Life) -> bool:
    """The price of the one before it is not known, and its time has only just passed."""
    return [one.status for one in cycles(life)] == [CycleStatus.ERROR, CycleStatus.COOLDOWN]


def _second_bought(life: Life) -> bool:
    return len(cycles(life)) == 2 and watches_with_coins(life)


def _refused(life: Life) -> bool:
    first = placed(life, Purpose.BASE)
    return bool(first) and first[0].status is OrderStatus.REJECTED and at_venue(life) == 0


def _sold_or_not(life: Life) -> bool:
    """What was not begun before the death a person must ask for again."""
    quiet = not any(order.live for order in life.books().orders)
    return quiet and (_sold(life) or _bought_once(life))


def _told(life: Life) -> bool:
    return not life.store.read(lambda tx: tx.messages()) and _bought_once(life)


# What is done again and again


def at(price: int) -> Deed:
    return lambda life: life.price(price)


def _release(side: str, price: int) -> Deed:
    """Orders of that side execute again once the first one, which had to be canceled, is over."""

    def drive(life: Life) -> None:
        first = next(one for one in life.books().orders if one.intent.side == side)
        seen = life.broker.find(first.key)
        if seen is not None and seen.status is OrderStatus.CANCELED:
            life.hold(side, on=False)
        life.price(price)

    return drive


# What comes before


def _trades(life: Life, what: str, reached: Question, drive: Deed, **extra: str) -> None:
    """The streamer ran until `reached`, and was stopped."""
    streamer = life.start(STREAMER, extra)
    life.until(what, lambda: reached(life), lambda: drive(life), PATIENCE_S)
    streamer.stop()
    streamer.wait(PATIENCE_S)


def bought(life: Life) -> None:
    _trades(life, "the base order is filled", lambda life: _bought_once(life) and measured(life), at(LEVEL))


def measured(life: Life) -> bool:
    """Whether the true fee of every buy is known."""
    books = life.books()
    buys = {order.key for order in books.orders if order.filled_qty > 0 and order.intent.side == "buy"}
    return {fill.order_key for fill in books.fills if fill.qty == 0} >= buys


def sold(life: Life) -> None:
    bought(life)
    _trades(life, "everything is sold", _sold, at(ROSE))


def _base_rests(life: Life) -> None:
    life.hold("buy", on=True)
    _rests(life, "buy", LEVEL)


def _sale_rests(life: Life) -> None:
    bought(life)
    life.hold("sell", on=True)
    _rests(life, "sell", ROSE)


def _rests(life: Life, side: str, price: int) -> None:
    def known(life: Life) -> bool:
        orders = life.books().orders
        return bool(orders) and orders[-1].status is OrderStatus.OPEN and orders[-1].intent.side == side

    _trades(life, f"a {side} order rests", known, at(price))


def _base_in_flight(life: Life) -> None:
    _dies(life, "after_submit:1")


def _base_never_sent(life: Life) -> None:
    _dies(life, "before_submit:1")


def _dies(life: Life, where: str) -> None:
    victim = life.start(STREAMER, {"CRASH_AT": where})
    life.until("it has died", victim.ended, lambda: life.price(LEVEL), PATIENCE_S)


def _fill_missed(life: Life) -> None:
    _base_rests(life)
    life.hold("buy", on=False)
    life.price(LEVEL)


def _coins(life: Life, amount: str) -> None:
    """So many more coins are on the account than were bought."""
    life.control("deposit", {"asset": SYMBOL, "amount": amount})


def _all_coins_gone(life: Life) -> None:
    bought(life)
    _coins(life, str(-life.broker.holding(SYMBOL).qty))


def _some_coins_gone(life: Life) -> None:
    bought(life)
    _coins(life, "-0.002")


def _accepted_too_much(life: Life) -> None:
    bought(life)
    found = replace(asset(life), accepted_difference=Decimal("0.002"))
    life.store.write(lambda tx: tx.update_asset(found))


def edit(life: Life, **changes: Any) -> None:
    """The unfinished cycle as somebody's SQL would leave it, past every rule."""
    cycle = replace(open_cycle(life), **changes)
    life.store.write(lambda tx: tx.update_cycle(cycle))


def _misfolded(life: Life) -> None:
    bought(life)
    edit(life, quantity=Decimal("0.5"), safety_orders=2)


def _stuck_in_buying(life: Life) -> None:
    edit(life, status=CycleStatus.BUYING, latest_order_id="00000000-0000-0000-0000-000000000000")


def _misplaced(life: Life) -> None:
    """The cycle was ended by SQL that knows nothing of its place."""
    content = life.bench.shelf.taken()
    (row,) = content["dca_cycles"]
    row["status"] = CycleStatus.ERROR.value
    life.bench.shelf.put(content)


def _no_cycle(life: Life) -> None:
    edit(life, status=CycleStatus.ERROR, completed_at=life.clock.now() - timedelta(days=1))


def _cooldown_over(life: Life) -> None:
    sold(life)
    (done,) = (one for one in cycles(life) if one.finished)
    assert done.completed_at is not None
    earlier = replace(done, completed_at=done.completed_at - timedelta(days=1))
    life.store.write(lambda tx: tx.update_cycle(earlier))


def _forgotten(life: Life) -> None:
    """The database is one restored from a backup that was made before the base order."""
    before = life.bench.shelf.taken()
    bought(life)
    life.bench.shelf.put(before)


def _orphan(life: Life) -> None:
    """An order far below the market under a key of ours, which no cycle waits for."""
    bought(life)
    ticket = Ticket(
        symbol=SYMBOL,
        side=Side.BUY,
        type=Kind.LIMIT,
        time_in_force="gtc",
        qty=Decimal("0.002"),
        notional=None,
        limit_price=Decimal(LEVEL // 2),
        stop_price=None,
        client_order_id=order_key(life.store.install, NO_CYCLE, Purpose.BASE, 0, 1),
    )

    def take(control: Control) -> None:
        control.exchange.activate(control.exchange.place(ticket).id)

    life.exchange.call(take)


def _left_behind(life: Life) -> None:
    _coins(life, DUST)


def _poor(life: Life) -> None:
    life.control("deposit", {"asset": "USD", "amount": "-9950"})


def _vanished(life: Life) -> None:
    """The account was reset while a buy rested there."""
    _base_rests(life)
    life.exchange_forgets = True


def _answer_is_lost(life: Life) -> None:
    """The exchange takes the next order, and says nothing of it."""
    life.fault(method="POST", path="/v2/orders", effect=504, reached=True, times=1)


def _not_taken(life: Life) -> None:
    life.fault(method="POST", path="/v2/orders", effect=422)


def _untold(life: Life) -> None:
    bought(life)
    message = Message(key="sweep", name="cycle_started", text="nobody heard of it yet", at=life.clock.now())
    life.store.write(lambda tx: tx.add_message(message))


START = frozenset(
    {"account", "lease.take", "instruments", "open_orders", "orders_since", "catchup.note_sweep"}
    | {"funds.refresh", "budget.draw", "lease.renew", "lease.drop"}
)
TRADE = frozenset({"pipeline.place", "submit", "recorder.record", "outbox.settle", "verdicts.write"})
FEES = frozenset({"holding", "recorder.correct_fees"})
REPLACE = frozenset({"replacing.begin", "replacing.move", "cancel", "find", "recorder.record"})
PASS = frozenset({"lease.take", "lease.drop", "runner.keep"})
ORDERS, CHECKER = "order_manager", "consistency_checker"

SCRIPTS = (
    Script("base", "a base order", nothing, _bought_once, at(LEVEL), START | TRADE | FEES),
    Script("safety", "a safety order", bought, _bought_twice, at(FELL), START | TRADE | FEES),
    Script("take_profit", "a take-profit sale", bought, _sold_once, at(ROSE), START | TRADE),
    Script(
        "cancel",
        "a buy that rests too long is canceled and placed anew",
        _base_rests,
        _canceled_then_bought,
        _release("buy", LEVEL),
        START | TRADE | FEES | {"cancel", "find"},
        settings={"STALE_ORDER_S": "1"},
    ),
    Script(
        "unclear",
        "the answer to an order is lost",
        nothing,
        _bought_once,
        at(LEVEL),
        START | TRADE | FEES | {"recorder.mark_unclear"},
        arrange=_answer_is_lost,
    ),
    Script(
        "refused",
        "the exchange refuses an order",
        nothing,
        _refused,
        at(LEVEL),
        START | {"pipeline.place", "submit", "recorder.refuse", "trader.tell"},
        arrange=_not_taken,
    ),
    Script(
        "dust",
        "what an earlier cycle left behind is set aside before the base order",
        _left_behind,
        _set_aside,
        at(LEVEL),
        START | {"holding", "trader.set_aside", "pipeline.place", "submit"},
        forgives=frozenset({POSITION}),
        moves_coins=True,
    ),
    Script(
        "denied",
        "the review denies an order that the account cannot pay",
        _poor,
        _denied,
        at(LEVEL),
        START | {"trader.denied"},
        moves_coins=True,
    ),
    Script(
        "close",
        "a person closes a cycle",
        bought,
        _sold_or_not,
        at(LEVEL),
        frozenset({"instruments", "latest_quote", "operating.note", "pipeline.place", "submit"})
        | {"recorder.record", "assets.change"},
        COMMAND,
        ("cycle", "close", SYMBOL, "--yes"),
    ),
    Script(
        "add_funds",
        "a person adds funds to a cycle",
        bought,
        watches_with_coins,
        at(LEVEL),
        frozenset({"instruments", "latest_quote", "operating.note", "pipeline.place", "submit"})
        | {"recorder.record"},
        COMMAND,
        ("cycle", "add-funds", SYMBOL, "50", "--yes"),
    ),
    Script(
        "cancel_orders",
        "a person cancels the orders of a cycle",
        _base_rests,
        _canceled_then_bought,
        _release("buy", LEVEL),
        frozenset({"cancel", "find", "recorder.record"}),
        COMMAND,
        ("cycle", "cancel-orders", SYMBOL, "--yes"),
        settings={"STALE_ORDER_S": "1"},
    ),
    Script(
        "replace",
        "a person moves the limit of a buy",
        _base_rests,
        _canceled_then_bought,
        _release("buy", LEVEL),
        REPLACE | {"pipeline.place", "submit"},
        COMMAND,
        ("cycle", "replace", SYMBOL, "--limit", str(LEVEL + 10), "--yes"),
        settings={"STALE_ORDER_S": "1"},
    ),
    Script(
        "settle",
        "order_manager settles an order in flight that the exchange has",
        _base_in_flight,
        _bought_once,
        at(LEVEL),
        PASS | FEES | {"open_orders", "find", "executions", "recorder.record"},
        ORDERS,
    ),
    Script(
        "lost",
        "order_manager gives up an order that was never sent",
        _base_never_sent,
        _bought_once,
        at(LEVEL),
        PASS | {"open_orders", "find", "recorder.refuse"},
        ORDERS,
    ),
    Script(
        "stale",
        "order_manager cancels a buy that rests too long",
        _base_rests,
        _canceled_then_bought,
        _release("buy", LEVEL),
        PASS | REPLACE | {"open_orders", "time"},
        ORDERS,
        settings={"STALE_ORDER_S": "0.5"},
    ),
    Script(
        "stuck_sell",
        "order_manager sells again what is stuck",
        _sale_rests,
        _sold,
        _release("sell", ROSE),
        PASS | REPLACE | {"open_orders", "time", "latest_quote", "instruments", "pipeline.place", "submit"},
        ORDERS,
        settings={"STUCK_SELL_S": "0.5"},
    ),
    Script(
        "orphan",
        "order_manager cancels an order that no cycle waits for",
        _orphan,
        _no_orphan,
        at(LEVEL),
        PASS | {"open_orders", "time", "order_manager.cancel_orphan", "cancel", "find"},
        ORDERS,
        settings={"STALE_ORDER_S": "1"},
    ),
    Script(
        "vanished",
        "order_manager ends an order that the exchange has forgotten",
        _vanished,
        _canceled_then_bought,
        at(LEVEL),
        PASS | {"open_orders", "find", "recorder.vanish"},
        ORDERS,
    ),
    Script(
        "missed_fill",
        "consistency_checker books a fill that was missed",
        _fill_missed,
        _bought_once,
        at(LEVEL),
        PASS | FEES | {"open_orders", "positions", "find", "executions", "recorder.record"},
        CHECKER,
    ),
    Script(
        "refold",
        "consistency_checker folds a cycle that was edited by hand",
        _misfolded,
        _refolded,
        at(LEVEL),
        PASS | {"open_orders", "positions", "recorder.refold"},
        CHECKER,
    ),
    Script(
        "stuck_buying",
        "consistency_checker frees a cycle that waits for no order",
        _stuck_in_buying,
        _bought_once,
        at(LEVEL),
        PASS | {"recorder.refold"},
        CHECKER,
    ),
    Script(
        "misplaced",
        "consistency_checker takes an ended cycle out of its asset's place",
        _misplaced,
        _second_rests,
        at(LEVEL),
        PASS | {"cycles.rewrite"},
        CHECKER,
    ),
    Script(
        "coins_gone",
        "consistency_checker ends a cycle whose coins are gone",
        _all_coins_gone,
        _ended_then_bought,
        at(LEVEL),
        PASS | {"positions", "latest_quotes", "holding", "cycles.fail"},
        CHECKER,
        moves_coins=True,
    ),
    Script(
        "coins_missing",
        "consistency_checker halts an asset that it cannot explain",
        _some_coins_gone,
        _halted,
        at(LEVEL),
        PASS | {"positions", "latest_quotes", "holding", "recorder.halt"},
        CHECKER,
        forgives=frozenset({POSITION}),
        moves_coins=True,
    ),
    Script(
        "accepted",
        "consistency_checker lowers what a person accepted",
        _accepted_too_much,
        _accepted_is_gone,
        at(LEVEL),
        PASS | {"consistency_checker.lower_accepted"},
        CHECKER,
    ),
    Script(
        "forgotten",
        "consistency_checker restores an order that the database has forgotten",
        _forgotten,
        _bought_once,
        at(LEVEL),
        PASS | {"find", "adoption.restore", "recorder.record", "executions"},
        CHECKER,
        forgives=frozenset({JOURNALED}),
    ),
    Script(
        "rebuild",
        "a person restores what the database has forgotten",
        _forgotten,
        _bought_once,
        at(LEVEL),
        frozenset({"orders_since", "lease.take", "rebuild.apply", "rebuild.restrict", "lease.drop"}),
        COMMAND,
        ("rebuild", "--from", "venue", "--yes"),
        forgives=frozenset({JOURNALED}),
    ),
    Script(
        "wake",
        "cooldown_manager wakes a cycle",
        _cooldown_over,
        _second_bought,
        at(LEVEL),
        PASS | {"cycles.change"},
        "cooldown_manager",
    ),
    Script(
        "no_cycle",
        "asset_caretaker gives an asset a cycle",
        _no_cycle,
        _second_bought,
        at(LEVEL),
        PASS | {"cycles.begin"},
        "asset_caretaker",
    ),
    Script(
        "count",
        "bookkeeper writes down what the account did and holds",
        bought,
        _bought_once,
        at(LEVEL),
        PASS | {"account", "positions", "activities", "bookkeeper.mend"},
        "bookkeeper",
    ),
    Script(
        "tell",
        "notifier takes messages to people",
        _untold,
        _told,
        at(LEVEL),
        PASS | {"outbox.settle"},
        "notifier",
    ),
    Script(
        "housekeeping",
        "housekeeping puts away logs, prunes rows, makes a backup",
        bought,
        _bought_once,
        at(LEVEL),
        PASS | {"housekeeping.prune_rows"},
        "housekeeping",
    ),
)
