"""Whether an order may enter: the venue's rules, in the order in which it is asked here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from dca.domain.market import Instrument, Quote
from dca.domain.money import ZERO, floor_to, plain
from dca.domain.order import Side
from dca.matching.book import QTY_STEP, collar
from dca.paper.config import Switches
from dca.paper.ledger import Ledger, reserved_cash, reserved_coins
from dca.paper.orders import Kind, PaperOrder
from dca.paper.refusals import bad_body, forbidden, insufficient, not_valid, wash_trade
from dca.paper.wire import cents, number

MINIMUM_USD = Decimal(10)
MAXIMUM_USD = Decimal(200_000)
ID_LENGTH = 128
UNSUPPORTED_IN_CRYPTO = "invalid order type for crypto order"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """An order as a client asks for it; exactly one of `qty` and `notional` is set."""

    symbol: str
    side: Side
    type: Kind
    time_in_force: str
    qty: Decimal | None
    notional: Decimal | None
    limit_price: Decimal | None
    stop_price: Decimal | None
    client_order_id: str | None


def ticket_of(body: Mapping[str, object], instrument: Instrument, switches: Switches) -> Ticket:
    """The ticket that a request body spells. Raises Refusal."""
    kind = _kind(body)
    ticket = Ticket(
        symbol=instrument.symbol,
        side=_side(body),
        type=kind,
        time_in_force=_time_in_force(body, kind, switches),
        qty=_amount(body, "qty"),
        notional=_amount(body, "notional"),
        limit_price=_amount(body, "limit_price"),
        stop_price=_amount(body, "stop_price"),
        client_order_id=client_id_of(body),
    )
    _check_size(ticket, switches)
    _check_prices(ticket)
    return ticket


def client_id_of(body: Mapping[str, object]) -> str | None:
    given = body.get("client_order_id")
    if given in (None, ""):
        return None
    if not isinstance(given, str):
        raise bad_body("client_order_id must be a string")
    if len(given) > ID_LENGTH:
        raise bad_body(f"client_order_id must be no longer than {ID_LENGTH} characters")
    return given


def _side(body: Mapping[str, object]) -> Side:
    given = body.get("side")
    if given not in ("buy", "sell"):
        raise bad_body("side is required" if given is None else "invalid side")
    return Side(given)


def _kind(body: Mapping[str, object]) -> Kind:
    order_class = body.get("order_class")
    if order_class not in (None, "", "simple"):
        shown = {"bracket": "otoco"}.get(str(order_class), order_class)
        raise not_valid(f"crypto orders not allowed for advanced order_class: {shown}")
    given = body.get("type")
    if given is None:
        raise bad_body("type is required")
    if given not in ("market", "limit", "stop_limit"):
        raise bad_body(UNSUPPORTED_IN_CRYPTO)
    return Kind(given)


def _time_in_force(body: Mapping[str, object], kind: Kind, switches: Switches) -> str:
    given = body.get("time_in_force")
    if given is None:
        raise bad_body("time_in_force is required")
    stop_ioc = kind is Kind.STOP_LIMIT and given == "ioc" and not switches.stop_limit_ioc
    if given not in ("gtc", "ioc") or stop_ioc:
        raise not_valid("invalid crypto time_in_force")
    return str(given)


def _amount(body: Mapping[str, object], name: str) -> Decimal | None:
    given = body.get(name)
    if given is None:
        return None
    try:
        amount = number(given)
    except ValueError as error:
        raise bad_body(f"invalid {name}") from error
    if amount <= 0:
        raise bad_body(f"{name} must be > 0")
    return amount


def _check_size(ticket: Ticket, switches: Switches) -> None:
    if ticket.qty is None and ticket.notional is None:
        raise bad_body("qty or notional is required")
    if ticket.qty is not None and ticket.notional is not None:
        raise bad_body("only one of qty or notional is accepted")
    if ticket.notional is None:
        return
    if ticket.notional != ticket.notional.quantize(Decimal("0.01")):
        raise not_valid("notional value must be limited to 2 decimal places")
    if ticket.type is not Kind.MARKET and not switches.notional_limit_orders:
        raise bad_body("notional orders must be market orders")


def _check_prices(ticket: Ticket) -> None:
    if ticket.type is Kind.MARKET:
        if ticket.limit_price is not None or ticket.stop_price is not None:
            raise bad_body("market orders require no stop or limit price")
        return
    if ticket.limit_price is None:
        raise bad_body("limit orders require a limit price")
    if (ticket.stop_price is not None) != (ticket.type is Kind.STOP_LIMIT):
        raise bad_body("stop limit orders require both stop and limit price")


def working_limit(ticket: Ticket, quote: Quote | None) -> Decimal:
    """The price the book will work with. Raises Refusal for a market order without a market."""
    if ticket.limit_price is not None:
        return ticket.limit_price
    if quote is None:
        raise not_valid(f"no price is available for {ticket.symbol}")
    return floor_to(collar(ticket.side, quote), QTY_STEP)


def quantity(ticket: Ticket, limit: Decimal, quote: Quote | None) -> Decimal:
    """Units of base, cut to nine decimals without a word, as the venue does.

    A market buy for dollars is measured at its collar, which is why it spends some 2 % less.
    """
    if ticket.qty is not None:
        qty = ticket.qty
    else:
        market_sell = ticket.side is Side.SELL and ticket.limit_price is None and quote is not None
        price = quote.bid if market_sell and quote is not None else limit
        qty = (ticket.notional or ZERO) / price
    return floor_to(qty, QTY_STEP)


@dataclass(frozen=True, slots=True)
class Desk:
    """What the rules look at: the instrument, its market, and what the account has and owes."""

    instrument: Instrument
    quote: Quote | None
    ledger: Ledger
    open_orders: tuple[PaperOrder, ...]
    switches: Switches

    def available(self) -> Decimal:
        """Coins that no open sell reserves."""
        symbol = self.instrument.symbol
        return self.ledger.holding(symbol).qty - reserved_coins(self.open_orders, symbol)


def admit(order: PaperOrder, desk: Desk) -> None:
    """Raises Refusal unless the venue would take `order`."""
    _check_instrument(order, desk.instrument)
    _check_value(order, desk)
    _check_wash(order, desk.open_orders)
    _check_balance(order, desk)


def _check_instrument(order: PaperOrder, instrument: Instrument) -> None:
    if not instrument.tradable:
        raise not_valid(f"asset {instrument.symbol} is not active")
    if order.qty < instrument.min_order_size or order.qty <= 0:
        raise forbidden(f"order qty must be >= minimal qty of order {plain(instrument.min_order_size)}")
    if order.notional is None and order.qty != instrument.floor_qty(order.qty):
        raise not_valid(f"qty must be a multiple of {plain(instrument.min_trade_increment)}")
    for price in (order.limit_price, order.stop_price):
        if price is not None and price != instrument.floor_price(price):
            raise not_valid(f"price must be a multiple of {plain(instrument.price_increment)}")


def _check_value(order: PaperOrder, desk: Desk) -> None:
    value = cost_basis(order, desk.quote)
    leaves = order.side is Side.SELL and order.qty == desk.available()
    if value < MINIMUM_USD and not (leaves and desk.switches.full_exit_exempt):
        raise forbidden(f"cost basis must be >= minimal amount of order {MINIMUM_USD}")
    if value > MAXIMUM_USD:
        raise forbidden(f"cost basis must be <= maximal amount of order {MAXIMUM_USD}")


def cost_basis(order: PaperOrder, quote: Quote | None) -> Decimal:
    """Dollars an order is about, as the venue counts them (staff, forum.alpaca.markets/t/13116)."""
    if order.notional is not None:
        return order.notional
    if order.limit_price is not None or quote is None:
        return order.qty * order.working_limit
    return order.qty * (quote.ask if order.side is Side.BUY else quote.bid)


def _check_wash(order: PaperOrder, open_orders: Iterable[PaperOrder]) -> None:
    for other in open_orders:
        if other.symbol != order.symbol or other.side is order.side:
            continue
        if other.type is Kind.MARKET:
            raise wash_trade(other.id, "market/stop")
        if order.type is Kind.MARKET or _crosses(order, other):
            raise wash_trade(other.id, "limit")


def _crosses(order: PaperOrder, other: PaperOrder) -> bool:
    buy, sell = (order, other) if order.side is Side.BUY else (other, order)
    return buy.working_limit >= sell.working_limit


def _check_balance(order: PaperOrder, desk: Desk) -> None:
    if order.side is Side.SELL:
        available = desk.available()
        if order.qty > available:
            held = desk.ledger.holding(order.symbol).qty
            raise insufficient(
                order.symbol.partition("/")[0], plain(order.qty), plain(available), plain(held)
            )
        return
    needed = order.qty * order.working_limit
    cash = desk.ledger.cash
    available = cash - reserved_cash(desk.open_orders)
    if needed > available:
        raise insufficient("USD", cents(needed), cents(available), cents(cash))
