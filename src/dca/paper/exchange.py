"""The exchange itself: takes orders, meets them with quotes, keeps the account."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

from dca.domain.errors import ConfigError
from dca.domain.market import Quote
from dca.domain.money import ZERO
from dca.domain.order import Side
from dca.matching.book import Book, Match, Terms, Working, book_of, enter, execution, match, without
from dca.matching.fees import TIERS
from dca.paper.admission import Desk, Ticket, admit, quantity, working_limit
from dca.paper.assets import names
from dca.paper.config import Clock, PaperConfig
from dca.paper.fees import Fees
from dca.paper.ledger import Deposit, Execution, Ledger
from dca.paper.log import Change, Deposited, Held, Log, Quoted, Started
from dca.paper.orders import PaperOrder, Status, expiry, from_row
from dca.paper.refusals import bad_body, forbidden, not_found, not_valid
from dca.paper.wire import Json, instant

PRICE_STEP = Decimal("0.000000001")
BLOCKS = ("account_blocked", "trading_blocked", "trade_suspended_by_user")
"""Flags of an account that may not trade."""


@dataclass(frozen=True, slots=True)
class Update:
    """What the trade-update stream says: an event about an order, with its execution if it has one."""

    event: str
    order: PaperOrder
    execution_id: str
    execution: Execution | None
    at: datetime


def _nothing(update: Update) -> None:
    """Nobody listens yet."""


class Exchange:
    """The orders, the books, the account and the log. It is used by one thread.

    Every change goes through `_apply`, which logs it before anybody hears of it.
    """

    def __init__(self, config: PaperConfig, clock: Clock, log: Log, earlier: Iterable[Json]) -> None:
        self.config = config
        self.switches = config.switches
        self.clock = clock
        self.log = log
        self.instruments = {item.symbol: item for item in config.instruments}
        self.names = names(config.instruments)
        self.terms = Terms(TIERS[config.switches.crypto_tier - 1], config.switches.partial_rate)
        self.ledger = Ledger()
        self.orders: dict[str, PaperOrder] = {}
        self.ids: dict[str, str] = {}
        self.open: dict[str, PaperOrder] = {}
        self.books: dict[str, Book] = {symbol: Book() for symbol in self.instruments}
        self.quotes: dict[str, Quote] = {}
        self.held: set[tuple[str, Side]] = set()
        self.flags: dict[str, bool | str] = {}
        """What the account says of itself otherwise than usual; some of it forbids trading."""
        self.fees: Fees | None = None
        self.executions: list[Execution] = []
        self.transfers: list[Deposit] = []
        self.on_update: Callable[[Update], None] = _nothing
        self.runs = 0
        self.funded = False
        self.born: datetime = clock.now()
        self.seen_until: datetime | None = None
        self._restore(earlier)
        self._start(clock.now())

    # Starting and restarting

    def _restore(self, earlier: Iterable[Json]) -> None:
        for row in earlier:
            try:
                self._relive(row)
            except (ArithmeticError, KeyError, TypeError, ValueError) as error:
                raise ConfigError(f"the state file has an entry that makes no sense: {row}") from error

    def _relive(self, row: Json) -> None:
        at, kind = instant(row["at"]), row["kind"]
        self.seen_until = at
        if kind == "start":
            self.born = self.born if self.runs else at
            self.runs = row["run"]
        elif kind == "deposit":
            amount, listed = Decimal(row["amount"]), bool(row.get("listed"))
            self._credit(Deposit(asset=row["asset"], amount=amount, at=at, listed=listed))
        elif kind == "quote" and row["symbol"] in self.books:
            self.quotes[row["symbol"]] = Quote(row["symbol"], Decimal(row["bid"]), Decimal(row["ask"]), at)
        elif kind == "hold":
            self._hold(row["symbol"], Side(row["side"]), on=row["on"])
        elif kind == "order":
            executed = Execution.from_row(row["execution"]) if row["execution"] else None
            self._take(tuple(from_row(order) for order in row["orders"]), executed)

    def _start(self, now: datetime) -> None:
        """Half-done things are finished: what was accepted before the end is still accepted."""
        self.runs += 1
        # Every run draws its own numbers: ids must not repeat after a restart.
        self.random = Random(f"{self.config.seed}/{self.runs}")  # noqa: S311
        self.account_id = str(UUID(int=Random(f"account/{self.config.seed}").getrandbits(128), version=4))  # noqa: S311
        self.log.add(Started(self.runs, now))
        if not self.funded:
            self.deposit("USD", self.config.cash)
        for order in tuple(self.open.values()):
            if order.symbol not in self.books:
                raise ConfigError(f"the state file has orders in {order.symbol}, which is not traded here")
            self._resume(order)

    def _resume(self, order: PaperOrder) -> None:
        if order.status is Status.PENDING_NEW:
            self.activate(order.id)
        elif order.status is Status.PENDING_CANCEL or (
            order.time_in_force == "ioc" and not self._is_held(order)
        ):
            self._end(order.id, Status.CANCELED)
        else:
            book = self.books[order.symbol]
            working = order.working(resting=not self._is_held(order))
            self.books[order.symbol] = book_of((*book.orders, working))

    # What changes anything

    def _apply(self, change: Change) -> None:
        self.log.add(change)
        self._take(change.orders, change.execution)
        if change.event is None:
            return
        order = change.orders[0]
        self.on_update(
            Update(
                event=change.event,
                order=order,
                execution_id=change.execution.id if change.execution else self.uuid(),
                execution=change.execution,
                at=change.at,
            )
        )

    def _take(self, orders: tuple[PaperOrder, ...], executed: Execution | None) -> None:
        for order in orders:
            self.orders[order.id] = order
            self.ids[order.client_order_id] = order.id
            if order.open:
                self.open[order.id] = order
            else:
                self.open.pop(order.id, None)
        if executed is not None:
            self.executions.append(executed)
            self.ledger.execute(executed)

    def _credit(self, deposit: Deposit) -> None:
        self.funded = True
        quote = self.quotes.get(deposit.asset)
        self.ledger.deposit(deposit, quote.bid if quote else None)
        if deposit.listed:
            self.transfers.append(deposit)

    def uuid(self) -> str:
        return str(UUID(int=self.random.getrandbits(128), version=4))

    # Orders

    def desk(self, symbol: str, *, leaving_out: str | None = None) -> Desk:
        """What the rules look at for an order in `symbol`; one open order may be left out of it."""
        others = tuple(order for order in self.open.values() if order.id != leaving_out)
        return Desk(self.instruments[symbol], self.quotes.get(symbol), self.ledger, others, self.switches)

    def place(self, ticket: Ticket) -> PaperOrder:
        """The order is accepted and what it may cost is reserved; it is not in the book yet.

        Raises Refusal.
        """
        self._check_allowed()
        client_order_id = self._fresh_id(ticket.client_order_id)
        quote = self.quotes.get(ticket.symbol)
        limit = working_limit(ticket, quote)
        now = self.clock.now()
        order = PaperOrder(
            id=self.uuid(),
            client_order_id=client_order_id,
            symbol=ticket.symbol,
            side=ticket.side,
            type=ticket.type,
            time_in_force=ticket.time_in_force,
            qty=quantity(ticket, limit, quote),
            notional=ticket.notional,
            limit_price=ticket.limit_price,
            stop_price=ticket.stop_price,
            working_limit=limit,
            position_intent="buy_to_open" if ticket.side is Side.BUY else "sell_to_close",
            status=Status.PENDING_NEW,
            created_at=now,
            updated_at=now,
            expires_at=expiry(now),
        )
        admit(order, self.desk(ticket.symbol))
        self._apply(Change(now, None, (order,)))
        return order

    def _fresh_id(self, given: str | None) -> str:
        """An id is used up for good, even by an order that was canceled."""
        if given is None:
            return self.uuid()
        if given in self.ids:
            raise bad_body("client_order_id must be unique")
        return given

    def _check_allowed(self) -> None:
        blocked = [name for name in BLOCKS if self.flags.get(name)]
        if self.flags.get("crypto_status", "ACTIVE") != "ACTIVE":
            blocked.append("crypto_status")
        if blocked:
            raise forbidden(f"account is not allowed to trade: {', '.join(blocked)}")

    def activate(self, order_id: str, *, resting: bool = False) -> None:
        """The order is in the book and met the standing quote, unless it is to rest there first; the
        stream heard of every step."""
        order = self.orders[order_id]
        if order.status is not Status.PENDING_NEW:
            return
        now = self.clock.now()
        self._apply(Change(now, "pending_new", (order,)))
        order = replace(order, status=Status.NEW, updated_at=now)
        self._apply(Change(now, "new", (order,)))
        if resting or self._is_held(order):
            book = self.books[order.symbol]
            self.books[order.symbol] = book_of((*book.orders, order.working()))
            return
        ioc = order.time_in_force == "ioc"
        quote = self.quotes.get(order.symbol)
        book, matches = enter(
            self.books[order.symbol], order.working(), quote, self.terms, self.random.random, ioc=ioc
        )
        self._settle(order.symbol, book, matches)
        if ioc and order_id in self.open:
            self._end(order_id, Status.CANCELED)

    def request_cancel(self, order_id: str) -> None:
        """The request is accepted; the order may still fill before `finish_cancel`. Raises Refusal."""
        order = self.order(order_id)
        if order.status is Status.PENDING_NEW:
            raise not_valid("order is not cancelable")
        if order.status is Status.PENDING_CANCEL:
            return
        if order.status is Status.CANCELED and self.switches.cancel_again_status == 204:
            return
        if not order.open:
            raise not_valid(f'order is already in "{order.status}" state')
        now = self.clock.now()
        changed = replace(order, status=Status.PENDING_CANCEL, cancel_requested_at=now, updated_at=now)
        self._apply(Change(now, "pending_cancel", (changed,)))

    def finish_cancel(self, order_id: str) -> None:
        """The order is canceled, if that was asked for and it has not ended otherwise."""
        if self.orders[order_id].status is Status.PENDING_CANCEL:
            self._end(order_id, Status.CANCELED)

    def reject(self, order_id: str) -> None:
        """The order was accepted, and will not be worked all the same."""
        if self.orders[order_id].status is Status.PENDING_NEW:
            self._end(order_id, Status.REJECTED)

    def cancel_unasked(self, order_id: str) -> None:
        """The venue canceled an open order by itself, as its price bands do."""
        order = self.order(order_id)
        if not order.open:
            raise not_valid(f'order is already in "{order.status}" state')
        self._end(order.id, Status.CANCELED)

    def expire(self, now: datetime) -> None:
        """Orders whose time is over have ended."""
        for order in tuple(self.open.values()):
            if order.expires_at <= now:
                self._end(order.id, Status.EXPIRED)

    def _end(self, order_id: str, status: Status) -> None:
        order, now = self.orders[order_id], self.clock.now()
        self.books[order.symbol] = without(self.books[order.symbol], order_id)
        ended = replace(order, status=status, updated_at=now)
        if status is Status.CANCELED:
            ended = replace(ended, canceled_at=now)
        elif status is Status.REJECTED:
            ended = replace(ended, failed_at=now)
        else:
            ended = replace(ended, expired_at=now)
        self._apply(Change(now, status.value, (ended,)))

    def replace(self, order_id: str, wanted: PaperOrder) -> PaperOrder:
        """`wanted` is accepted in the place of the order, which has ended. Raises Refusal.

        The venue lets the two overlap for a moment, in which the old one may still fill; here the
        change is atomic. Its quantity counts from zero again, as at the venue.
        """
        self._check_allowed()
        old, now = self.order(order_id), self.clock.now()
        new = replace(wanted, id=self.uuid(), replaces=old.id)
        admit(new, self.desk(old.symbol, leaving_out=old.id))
        ended = replace(old, status=Status.REPLACED, replaced_by=new.id, replaced_at=now, updated_at=now)
        self.books[old.symbol] = without(self.books[old.symbol], old.id)
        self._apply(Change(now, None, (ended, new)))
        return new

    def announce_replaced(self, order_id: str) -> None:
        """The stream heard that the order was replaced, and its successor is active."""
        order = self.orders[order_id]
        self._apply(Change(self.clock.now(), "replaced", (order,)))
        if order.replaced_by:
            self.activate(order.replaced_by)

    # Markets

    def on_quote(self, quote: Quote) -> None:
        """The quote stands, and everything it executes is executed."""
        self.quotes[quote.symbol] = quote
        book, held = self.books[quote.symbol], ()  # type: tuple[Book, tuple[Working, ...]]
        if self.held:
            book, held = self._parted(book)
        after, matches = match(book, quote, self.terms, self.random.random)
        if after is not book:
            self._settle(quote.symbol, book_of(held + after.orders) if held else after, matches)

    def set_quote(self, symbol: str, bid: Decimal, ask: Decimal) -> Quote:
        """A quote set by hand stands."""
        quote = Quote(symbol, bid, ask, self.clock.now())
        self.log.add(Quoted(quote))
        self.on_quote(quote)
        return quote

    def _settle(self, symbol: str, book: Book, matches: tuple[Match, ...]) -> None:
        self.books[symbol] = book
        for executed in matches:
            self._fill(executed)
        self._note_triggered(book)
        self._end_released(book)

    def _note_triggered(self, book: Book) -> None:
        """A stop that triggered without executing is a limit order now, also after a restart."""
        for working in book.orders:
            order = self.orders[working.id]
            if order.stopped and working.stop is None:
                now = self.clock.now()
                self._apply(Change(now, None, (replace(order, triggered=True, updated_at=now),)))

    def _end_released(self, book: Book) -> None:
        """An immediate order that was held back had its one chance; what is left of it is canceled."""
        for working in book.orders:
            order = self.orders[working.id]
            if order.time_in_force == "ioc" and not self._is_held(order):
                self._end(order.id, Status.CANCELED)

    def _fill(self, executed: Match) -> None:
        order, now = self.orders[executed.order_id], self.clock.now()
        if self.fees is not None:
            executed = self.fees.charged(executed, self.terms.rates)
        cum_qty = order.filled_qty + executed.qty
        value = order.filled_qty * (order.filled_avg_price or ZERO) + executed.qty * executed.price
        full = cum_qty >= order.qty
        status = Status.FILLED if full else Status.PARTIALLY_FILLED
        if order.status in (Status.PENDING_CANCEL, Status.CANCELED) and not full:
            status = order.status
        filled = replace(
            order,
            status=status,
            filled_qty=cum_qty,
            filled_avg_price=(value / cum_qty).quantize(PRICE_STEP),
            triggered=True,
            filled_at=now if full else None,
            updated_at=now,
        )
        event = "fill" if full else "partial_fill"
        self._apply(Change(now, event, (filled,), self._execution(filled, executed, now)))

    def _execution(self, order: PaperOrder, executed: Match, now: datetime) -> Execution:
        held = self.ledger.holding(order.symbol).qty
        received = executed.qty - executed.fee if order.side is Side.BUY else -executed.qty
        name = self.uuid()
        return Execution(
            id=name,
            activity_id=name if self.switches.same_execution_ids else self.uuid(),
            fee_id=self.uuid(),
            order_id=order.id,
            client_order_id=order.client_order_id,
            symbol=order.symbol,
            side=order.side,
            qty=executed.qty,
            price=executed.price,
            cum_qty=order.filled_qty,
            leaves_qty=order.left,
            fee=executed.fee,
            liquidity="maker" if executed.maker else "taker",
            position_qty=held + received,
            at=now,
        )

    # Levers

    def hold(self, symbol: str, side: Side | None, *, on: bool) -> None:
        """Nothing but `fill` executes the symbol's orders (of one side only), or quotes do so again."""
        for each in Side if side is None else (side,):
            self.log.add(Held(symbol, each, on, self.clock.now()))
            self._hold(symbol, each, on=on)

    def _hold(self, symbol: str, side: Side, *, on: bool) -> None:
        (self.held.add if on else self.held.discard)((symbol, side))

    def _is_held(self, order: PaperOrder) -> bool:
        return (order.symbol, order.side) in self.held

    def _parted(self, book: Book) -> tuple[Book, tuple[Working, ...]]:
        """The book as quotes see it, and the orders that are held back from them."""
        held = tuple(working for working in book.orders if self._is_held(self.orders[working.id]))
        if not held:
            return book, ()
        return book_of(tuple(working for working in book.orders if working not in held)), held

    def change_instrument(self, symbol: str, changes: Mapping[str, Any]) -> None:
        """The symbol's instrument says so, and new orders are judged by it."""
        self.instruments[symbol] = replace(self.instruments[symbol], **changes)

    def set_fees(self, fees: Fees) -> None:
        """Executions cost that from now on."""
        rates = TIERS[self.switches.crypto_tier - 1]
        self.fees, self.terms = fees, replace(self.terms, rates=fees.rates(rates))

    def deposit(self, asset: str, amount: Decimal, *, listed: bool = False) -> None:
        """The account holds `amount` more (less, when negative) of USD or of a symbol's coins. Its
        history says so only when that is `listed`."""
        deposit = Deposit(asset=asset, amount=amount, at=self.clock.now(), listed=listed)
        self.log.add(Deposited(deposit))
        self._credit(deposit)

    def fill(self, order_id: str, qty: Decimal | None, price: Decimal | None) -> None:
        """An open order executed `qty` (all that is left by default) at `price` (its limit), as maker.

        Raises Refusal.
        """
        order = self.order(order_id)
        book = self.books[order.symbol]
        working = next((item for item in book.orders if item.id == order.id), None)
        if working is None:
            raise not_valid(f'order is already in "{order.status}" state')
        part = min(qty or working.qty, working.qty)
        rest = without(book, order.id)
        if part < working.qty:
            resting = order.time_in_force != "ioc"
            rest = book_of((*rest.orders, replace(working, qty=working.qty - part, resting=resting)))
        executed = execution(replace(working, resting=True), part, price or working.limit, self.terms.rates)
        self._settle(order.symbol, rest, (executed,))

    def fill_ended(self, order_id: str, qty: Decimal) -> None:
        """An order executed `qty` although it had been canceled: the venue had not told in time."""
        order = self.orders[order_id]
        self._fill(execution(order.working(resting=True), qty, self.touch(order), self.terms.rates))

    def touch(self, order: PaperOrder) -> Decimal:
        """The price at which an order would execute now, its limit if the market is not there."""
        quote, limit = self.quotes.get(order.symbol), order.working_limit
        if quote is None:
            return limit
        return min(limit, quote.ask) if order.side is Side.BUY else max(limit, quote.bid)

    # Looking

    def symbol(self, name: str) -> str | None:
        """The symbol that a client calls `BTC/USD`, `BTCUSD` or by its asset id; None if unknown."""
        return self.names.get(name.strip()) or self.names.get(name.strip().upper())

    def order(self, order_id: str) -> PaperOrder:
        """Raises Refusal."""
        order = self.orders.get(order_id)
        if order is None:
            raise not_found(f"order not found for {order_id}")
        return order

    def order_by_client_id(self, client_order_id: str) -> PaperOrder:
        """Raises Refusal."""
        order_id = self.ids.get(client_order_id)
        if order_id is None:
            raise not_found(f"order not found for {client_order_id}")
        return self.orders[order_id]
