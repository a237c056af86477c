"""What Alpaca writes on the wire, as domain values. Floats and foreign words end here."""

import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from dca.domain.account import Activity
from dca.domain.market import Instrument, Quote
from dca.domain.money import ZERO, exact
from dca.domain.order import Execution, OrderStatus, Side, TradeUpdate, VenueOrder
from dca.ports import Account, Holding

log = logging.getLogger(__name__)


class Malformed(ValueError):
    """What the venue sent does not say what it must."""


MISSHAPEN = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError)
"""What reading a body of the wrong shape raises."""

_S = OrderStatus
STATUSES: Mapping[str, OrderStatus] = {
    "filled": _S.FILLED,
    "canceled": _S.CANCELED,
    "expired": _S.EXPIRED,
    "rejected": _S.REJECTED,
    "replaced": _S.CANCELED,
} | dict.fromkeys(
    (
        "new",
        "partially_filled",
        "accepted",
        "pending_new",
        "accepted_for_bidding",
        "held",
        "pending_cancel",
        "pending_replace",
        "pending_review",
        "stopped",
        "suspended",
        # Ended for the day or being booked: the venue does not call it the end (docs/alpaca.md, statuses).
        "done_for_day",
        "calculated",
    ),
    _S.OPEN,
)
TRADING = frozenset({"ACTIVE", "PAPER_ONLY"})
"""Account states in which orders are taken (alpaca-py: alpaca/trading/enums.py)."""
PRICE_LIMIT = 1e15
"""No price is as high; a number above it is a broken one."""
KIND_LENGTH, TOLD_LENGTH = 16, 200
TOLD = ("symbol", "side", "date", "description", "status")
"""What an activity says in words, kept for a person."""

_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")


def amount(value: Any) -> Decimal:
    """The exact number that text or a JSON number spells. Raises ValueError, TypeError."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise TypeError(f"not a number: {value!r}")
    return exact(repr(value) if isinstance(value, float) else value)


def instant(text: str) -> datetime:
    """The instant in UTC, to the microsecond; the venue writes up to nine digits and any offset."""
    value = datetime.fromisoformat(text)
    if value.tzinfo is None:
        raise ValueError(f"a time without an offset: {text!r}")
    return value.astimezone(UTC)


def path_id(value: Any) -> str:
    """`value` if it may stand in a path. Nothing, or `..`, would name every order there is."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise ValueError(f"not an id: {value!r}")
    return value


def text(body: Mapping[str, Any], name: str) -> str:
    """The text under `name`. Raises Malformed when there is none."""
    found = body.get(name)
    if not isinstance(found, str):
        raise Malformed(f"no {name}")
    return found


def _optional(value: Any) -> Decimal | None:
    return None if value in (None, "") else amount(value)


def _positive(value: Any) -> Decimal | None:
    """Paper accounts show an average price of 0 at times; no price is 0 (docs/alpaca.md, fees)."""
    found = _optional(value)
    return found if found is not None and found > 0 else None


def _status(word: Any, filled: Decimal | None) -> OrderStatus:
    """A status word that is not known means that the venue has the order and has not ended it."""
    if not isinstance(word, str) or not word:
        raise Malformed(f"no status: {word!r}")
    status = STATUSES.get(word)
    if status is None:
        log.warning("order_status_unknown", extra={"status": word})
        status = _S.OPEN
    if filled is None and (status not in (_S.OPEN, _S.REJECTED) or word == "partially_filled"):
        raise Malformed(f"{word}, but not how much was filled")
    if status is _S.FILLED and not filled:
        raise Malformed("filled, but with nothing")
    return _S.PARTIAL if status is _S.OPEN and filled else status


def venue_order(body: Any) -> VenueOrder:
    """The order that an order object shows. Raises Malformed."""
    try:
        filled = _optional(body.get("filled_qty"))
        return VenueOrder(
            venue_id=path_id(body["id"]),
            key=str(body.get("client_order_id") or ""),
            symbol=str(body["symbol"]),
            side=Side(body["side"]),
            status=_status(body["status"], filled),
            qty=_optional(body.get("qty")),
            limit=_optional(body.get("limit_price")),
            filled_qty=filled or ZERO,
            filled_avg_price=_positive(body.get("filled_avg_price")),
            submitted_at=submitted_at(body),
        )
    except MISSHAPEN as error:
        raise Malformed(f"not an order: {error!r}") from error


def submitted_at(body: Any) -> datetime:
    """When the order was sent, or else created: the first may be null. Raises Malformed."""
    try:
        return instant(body.get("submitted_at") or body.get("created_at") or body["updated_at"])
    except MISSHAPEN as error:
        raise Malformed(f"an order without a time: {error!r}") from error


def activity(body: Any) -> Execution:
    """The execution that a FILL activity shows. Its id is `time::uuid`; the uuid half is kept,
    which may be the stream's execution id (docs/alpaca.md, activities). Raises Malformed."""
    try:
        return Execution(
            id=path_id(body["id"].rpartition("::")[2]),
            qty=amount(body["qty"]),
            price=amount(body["price"]),
            cum_qty=amount(body["cum_qty"]),
            at=instant(body["transaction_time"]),
        )
    except MISSHAPEN as error:
        raise Malformed(f"not a fill: {error!r}") from error


def history(body: Any, names: Mapping[str, str]) -> Activity | None:
    """One line of the account's history; None for one that moved nothing. Raises Malformed.

    `names` are the symbols with a slash by both of their forms. An execution in anything else moves
    cash only. A line that tells no time of day stands at the beginning of its day.
    """
    try:
        kind = str(body["activity_type"])
        if kind == "FILL":
            return _executed(body, names)
        if body.get("status") in ("canceled", "pending"):
            return None
        return Activity(
            id=text(body, "id"),
            kind=kind[:KIND_LENGTH],
            at=_booked_at(body),
            symbol=_symbol(body, names),
            qty=_optional(body.get("qty")),
            price=_positive(body.get("price")),
            net=_optional(body.get("net_amount")),
            data=_told(body),
        )
    except MISSHAPEN as error:
        raise Malformed(f"not an activity: {error!r}") from error


def _executed(body: Any, names: Mapping[str, str]) -> Activity | None:
    """Gross, as the venue tells it: no fee is in it. A bust or a correction has no such amounts."""
    if body.get("type", "fill") not in ("fill", "partial_fill"):
        return None
    symbol, price = _symbol(body, names), amount(body["price"])
    qty = amount(body["qty"]) if body["side"] == "buy" else -amount(body["qty"])
    in_dollars = symbol is None or symbol.endswith("/USD")
    return Activity(
        id=text(body, "id"),
        kind="FILL",
        at=instant(body["transaction_time"]),
        symbol=symbol,
        qty=None if symbol is None else qty,
        price=price,
        net=-qty * price if in_dollars else None,
        order_id=text(body, "order_id"),
        data=_told(body),
    )


def _symbol(body: Any, names: Mapping[str, str]) -> str | None:
    name = body.get("symbol")
    if not name:
        return None
    return str(name) if "/" in name else names.get(str(name))


def _booked_at(body: Any) -> datetime:
    told = body.get("created_at")
    return instant(told) if told else instant(f"{body['date']}T00:00:00+00:00")


def _told(body: Any) -> dict[str, Any]:
    return {name: str(body[name])[:TOLD_LENGTH] for name in TOLD if body.get(name) is not None}


def trade_update(data: Any) -> TradeUpdate:
    """The update that a message's `data` shows. Raises Malformed when it names no order."""
    try:
        order = venue_order(data["order"])
        event = str(data["event"])
        at = instant(data.get("timestamp") or data["order"].get("updated_at") or data["at"])
    except MISSHAPEN as error:
        raise Malformed(f"not a trade update: {error!r}") from error
    return TradeUpdate(event=event, order=order, execution=_execution(data, event, order, at), at=at)


def _execution(data: Any, event: str, order: VenueOrder, at: datetime) -> Execution | None:
    """What a fill executed; other events may carry a price too (busts, corrections) but add nothing.

    A fill that does not say how much still shows the order's filled quantity, so it is passed on.
    """
    if event not in ("fill", "partial_fill"):
        return None
    try:
        qty, price, cum_qty = amount(data["qty"]), amount(data["price"]), order.filled_qty
        if qty <= 0 or price <= 0 or cum_qty <= 0:
            raise ValueError(f"a fill of {qty} at {price}")
    except MISSHAPEN as error:
        log.warning("fill_unreadable", extra={"key": order.key, "error": repr(error)})
        return None
    name = str(data.get("execution_id") or f"{order.venue_id}@{cum_qty}")
    return Execution(id=name, qty=qty, price=price, cum_qty=cum_qty, at=at)


def holding(body: Any) -> Holding:
    """What a position object shows. Raises Malformed."""
    try:
        qty = amount(body["qty"])
        available = _optional(body.get("qty_available"))
    except MISSHAPEN as error:
        raise Malformed(f"not a position: {error!r}") from error
    return Holding(qty, qty if available is None else available)


def account(body: Any) -> Account:
    """The account; crypto spends `non_marginable_buying_power` (docs/alpaca.md, balance).

    Raises Malformed.
    """
    try:
        switches = ("trading_blocked", "account_blocked", "trade_suspended_by_user")
        states = (body.get("status"), body.get("crypto_status"))
        return Account(
            id=str(body["id"]),
            number=str(body.get("account_number") or ""),
            cash=amount(body["cash"]),
            equity=amount(body["equity"]),
            spendable=amount(body["non_marginable_buying_power"]),
            blocked=any(body.get(name) for name in switches)
            or any(state is not None and state not in TRADING for state in states),
        )
    except MISSHAPEN as error:
        raise Malformed(f"not an account: {error!r}") from error


def instrument(body: Any) -> Instrument:
    """The instrument that a crypto asset object shows. Raises Malformed.

    It is tradable only while active and fractionable too: one flag alone has been seen to lie
    (docs/alpaca.md, sizes).
    """
    try:
        found = Instrument(
            symbol=str(body["symbol"]),
            min_order_size=amount(body["min_order_size"]),
            min_trade_increment=amount(body["min_trade_increment"]),
            price_increment=amount(body["price_increment"]),
            tradable=body["tradable"] is True
            and body.get("fractionable", True) is True
            and body.get("status", "active") == "active",
        )
    except MISSHAPEN as error:
        raise Malformed(f"not an instrument: {error!r}") from error
    if min(found.min_order_size, found.min_trade_increment, found.price_increment) <= 0:
        raise Malformed(f"{found.symbol} has an increment of 0")
    return found


def clock(body: Any) -> datetime:
    """The instant in an answer of the clock."""
    try:
        return instant(body["timestamp"])
    except MISSHAPEN as error:
        raise Malformed(f"a clock: {error!r}") from error


def quote(symbol: str, body: Any) -> Quote:
    """The quote that the data API's object shows; never NaN, 0, negative or crossed. Raises Malformed."""
    try:
        bid, ask, at = body["bp"], body["ap"], instant(body["t"])
        if not 0 < bid <= ask < PRICE_LIMIT:
            raise ValueError(f"bid {bid}, ask {ask}")
        return Quote(symbol, amount(bid), amount(ask), at)
    except MISSHAPEN as error:
        raise Malformed(f"not a quote: {error!r}") from error
