"""The black-box judge: what the exchange itself logged, held against what the program wrote down.

It reads the exchange's own log and the database, and trusts nothing else the program says.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from dca.domain.asset import Asset
from dca.domain.cycle import Cycle
from dca.domain.market import Instrument
from dca.domain.money import ZERO, plain
from dca.domain.order import Order, OrderStatus, Purpose, Side
from dca.domain.position import Fill, fold
from dca.ports import Store, Tx
from dca.strategy.ladder import commitment


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request to place an order that reached the exchange; `accepted` or refused."""

    key: str
    symbol: str
    side: str
    qty: Decimal | None
    limit: Decimal | None
    at: datetime
    accepted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """One execution as the exchange booked it: `qty` gross, `fee` in what was received."""

    key: str
    symbol: str
    side: str
    qty: Decimal
    price: Decimal
    fee: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueLog:
    """What the exchange says happened. `steps` is (key, live) in order: accepted, then over."""

    requests: Sequence[Request]
    executions: Sequence[Executed]
    steps: Sequence[tuple[str, bool]]
    cash: Decimal
    coins: dict[str, Decimal]


@dataclass(frozen=True, slots=True)
class Books:
    """Everything the program wrote down."""

    assets: list[Asset]
    cycles: list[Cycle]
    orders: list[Order]
    fills: list[Fill]

    @classmethod
    def read(cls, store: Store) -> "Books":
        def work(tx: Tx) -> "Books":
            return cls(tx.assets(), tx.cycles(), tx.orders(), tx.fills())

        return store.read(work)

    def fills_of(self, cycle_id: int) -> list[Fill]:
        return [fill for fill in self.fills if fill.cycle_id == cycle_id]


@dataclass
class Verdict:
    """How often each invariant was checked, and every time that it did not hold."""

    checks: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def expect(self, invariant: str, holds: bool, what: str | Callable[[], str]) -> None:
        self.checks[invariant] += 1
        if not holds:
            self.violations.append(f"{invariant}: {what if isinstance(what, str) else what()}")


ONE_ORDER = "no key makes two orders at the venue"
JOURNALED = "every order at the venue was in the journal before, with the same body"
NOT_IN_FLIGHT = "after quiet nothing is in flight"
POSITION = "the position folded from fills is the venue's"
SPEND = "no cycle spends more than its ladder"
ONE_ENTRY = "at most one live order per cycle"
EXACTLY_ONCE = "every execution is booked exactly once"
FOLDED = "every cycle is the fold of its fills"
ONE_LIFE = "every asset has exactly one unfinished cycle"
OWN_COINS = "no more is sold than was bought"


def judge(venue: VenueLog, books: Books, instruments: dict[str, Instrument]) -> Verdict:
    """Every invariant, checked wherever it can be checked."""
    verdict = Verdict()
    _requests(verdict, venue, books)
    _in_flight(verdict, books)
    _positions(verdict, venue, books, instruments)
    _spend(verdict, venue, books)
    _one_entry(verdict, venue, books)
    _executions(verdict, venue, books)
    _cycles(verdict, books)
    return verdict


def _requests(verdict: Verdict, venue: VenueLog, books: Books) -> None:
    journal = {order.key: order for order in books.orders}
    for key, times in Counter(request.key for request in venue.requests if request.accepted).items():
        verdict.expect(ONE_ORDER, times == 1, f"{key} was taken {times} times")
    for request in venue.requests:
        order = journal.get(request.key)
        if order is None:
            verdict.expect(JOURNALED, False, f"{request.key} is not in the journal")
            continue
        intent = order.intent
        same = (request.symbol, request.side, request.qty, request.limit) == (
            intent.symbol,
            intent.side,
            intent.qty,
            intent.limit,
        )
        verdict.expect(JOURNALED, same, f"{request.key} has another body than its row")
        verdict.expect(JOURNALED, order.created_at <= request.at, f"{request.key} was journaled late")


def _in_flight(verdict: Verdict, books: Books) -> None:
    for order in books.orders:
        verdict.expect(NOT_IN_FLIGHT, order.status is not OrderStatus.IN_FLIGHT, order.key)


def unmeasured(venue: VenueLog, books: Books) -> dict[str, Decimal]:
    """Coins that buys which are still working hold beyond what is booked, by symbol.

    A fee is booked at its highest until the order has ended and its true fee is measured.
    """
    working = {
        order.key: order.intent.symbol
        for order in books.orders
        if order.live and order.intent.side is Side.BUY
    }
    coins: dict[str, Decimal] = defaultdict(Decimal)
    for fill in books.fills:
        if fill.order_key in working:
            coins[working[fill.order_key]] += fill.fee
    for executed in venue.executions:
        if executed.key in working:
            coins[executed.symbol] -= executed.fee
    return coins


def _positions(verdict: Verdict, venue: VenueLog, books: Books, instruments: dict[str, Instrument]) -> None:
    not_yet = unmeasured(venue, books)
    for asset in books.assets:
        symbol = asset.asset_symbol
        owned = sum((cycle.owned for cycle in books.cycles if cycle.asset_id == asset.id), ZERO)
        owned += not_yet.get(symbol, ZERO)
        held = venue.coins.get(symbol, ZERO)
        step = instruments[symbol].min_trade_increment
        verdict.expect(
            POSITION, abs(held - owned) <= step, f"{symbol}: {plain(owned)} folded, {plain(held)} held"
        )


def _spend(verdict: Verdict, venue: VenueLog, books: Books) -> None:
    cycle_of = {order.key: order.intent.cycle_id for order in books.orders}
    rules = {asset.id: asset.rules for asset in books.assets}
    allowed = {
        cycle.id: rules[cycle.asset_id].max_cycle_spend or commitment(rules[cycle.asset_id])
        for cycle in books.cycles
    }
    spent: dict[int, Decimal] = defaultdict(Decimal)
    for execution in venue.executions:
        cycle_id = cycle_of.get(execution.key)
        if cycle_id is None or execution.side != Side.BUY:
            continue
        spent[cycle_id] += execution.qty * execution.price
        verdict.expect(
            SPEND,
            spent[cycle_id] <= allowed[cycle_id],
            f"cycle {cycle_id} spent {spent[cycle_id]:.2f} of {allowed[cycle_id]:.2f}",
        )


def _one_entry(verdict: Verdict, venue: VenueLog, books: Books) -> None:
    cycle_of = {order.key: order.intent.cycle_id for order in books.orders}
    live: dict[int, set[str]] = defaultdict(set)
    for key, begins in venue.steps:
        cycle_id = cycle_of.get(key)
        if cycle_id is None:
            continue
        if begins:
            live[cycle_id].add(key)
            verdict.expect(ONE_ENTRY, len(live[cycle_id]) == 1, f"cycle {cycle_id}: {sorted(live[cycle_id])}")
        else:
            live[cycle_id].discard(key)


def _executions(verdict: Verdict, venue: VenueLog, books: Books) -> None:
    ours = {order.key for order in books.orders}
    there = Counter(
        (execution.key, execution.qty, execution.price)
        for execution in venue.executions
        if execution.key in ours
    )
    adopted = {order.key for order in books.orders if order.intent.purpose is Purpose.ADOPTED}
    executed_here = [fill for fill in books.fills if fill.qty > 0 and fill.order_key not in adopted]
    here = Counter((fill.order_key, fill.qty, fill.price) for fill in executed_here)
    for execution in there.keys() | here.keys():
        verdict.expect(
            EXACTLY_ONCE,
            there[execution] == here[execution],
            f"{execution[0]}: {there[execution]} at the venue, {here[execution]} booked",
        )
    own: dict[str, Decimal] = defaultdict(Decimal)
    for order in books.orders:
        if order.key in adopted and order.intent.side is Side.BUY:
            own[order.intent.symbol] += order.filled_qty
    for executed in _of(venue.executions, ours):
        bought = executed.side == Side.BUY
        own[executed.symbol] += executed.qty - executed.fee if bought else -executed.qty
        verdict.expect(OWN_COINS, own[executed.symbol] >= 0, executed.key)


def _of(executions: Iterable[Executed], keys: set[str]) -> Iterator[Executed]:
    return (execution for execution in executions if execution.key in keys)


def _cycles(verdict: Verdict, books: Books) -> None:
    for cycle in books.cycles:
        folded = fold(books.fills_of(cycle.id)).quantity
        verdict.expect(FOLDED, cycle.quantity == folded, f"cycle {cycle.id}: {cycle.quantity} and {folded}")
    for asset in books.assets:
        unfinished = sum(cycle.asset_id == asset.id and not cycle.finished for cycle in books.cycles)
        verdict.expect(ONE_LIFE, unfinished == 1, f"{asset.asset_symbol} has {unfinished}")
