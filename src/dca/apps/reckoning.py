"""From the exchange's own log to the statement of an offline run."""

import threading
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

from dca.apps.judge import Books, Executed, Request, VenueLog, judge, unmeasured
from dca.apps.statement import Equity, statement
from dca.domain.errors import DcaError
from dca.domain.money import ZERO, exact
from dca.domain.order import OrderStatus
from dca.ports import Broker, Clock, Store

Row = dict[str, Any]
OVER = frozenset({"filled", "canceled", "expired", "rejected", "replaced"})
SETTLE_S = 60.0
LOOK_S = 0.1


class Run(Protocol):
    """A run on a paper exchange: its books, its clock, and what it had at the start."""

    @property
    def cash(self) -> Decimal: ...

    @property
    def store(self) -> Store: ...

    @property
    def broker(self) -> Broker: ...

    @property
    def clock(self) -> Clock: ...

    def control(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """What the exchange's control says. Raises Unavailable."""


def venue_log(offline: Run) -> VenueLog:
    """What the exchange logged and holds. Raises Unavailable."""
    rows: list[Row] = offline.control("log")
    ledger = offline.control("ledger")
    return VenueLog(
        requests=[_request(row) for row in rows if _orders(row)],
        executions=[_executed(row["execution"]) for row in rows if row.get("execution")],
        steps=list(_steps(rows)),
        cash=exact(ledger["cash"]),
        coins={symbol: exact(qty) for symbol, qty in ledger["coins"].items()},
    )


def _orders(row: Row) -> bool:
    posted: bool = row["kind"] == "request" and row["method"] == "POST"
    return posted and row["path"].rstrip("/").endswith("/v2/orders")


def _request(row: Row) -> Request:
    body = row["body"] if isinstance(row["body"], dict) else {}
    return Request(
        key=str(body.get("client_order_id", "")),
        symbol=str(body.get("symbol", "")),
        side=str(body.get("side", "")),
        qty=_amount(body.get("qty")),
        limit=_amount(body.get("limit_price")),
        at=datetime.fromisoformat(row["at"]),
        accepted=row["accepted"],
    )


def _amount(given: Any) -> Decimal | None:
    return None if given is None else exact(given)


def _executed(row: Row) -> Executed:
    return Executed(
        key=row["client_order_id"],
        symbol=row["symbol"],
        side=row["side"],
        qty=exact(row["qty"]),
        price=exact(row["price"]),
        fee=exact(row["fee"]),
    )


def _steps(rows: list[Row]) -> Iterator[tuple[str, bool]]:
    """(key, live) whenever an order became live or ceased to be, in order."""
    live: set[str] = set()
    for row in rows:
        for order in row.get("orders", ()):
            key, over = order["client_order_id"], order["status"] in OVER
            if over and key in live:
                live.discard(key)
                yield key, False
            elif not over and key not in live:
                live.add(key)
                yield key, True


def settle(offline: Run) -> None:
    """Nothing is in flight, and every execution is booked. Raises DcaError when that takes too long."""
    pause = threading.Event()
    limit = offline.clock.monotonic() + SETTLE_S
    while True:
        waiting = unsettled(offline)
        if not waiting:
            return
        if offline.clock.monotonic() > limit:
            raise DcaError(f"the streamer did not come to rest: {waiting}")
        pause.wait(LOOK_S)


def unsettled(offline: Run) -> str:
    """What is in flight, not booked or live on one side only; empty when nothing is."""
    books = Books.read(offline.store)
    flying = [order.key for order in books.orders if order.status is OrderStatus.IN_FLIGHT]
    if flying:
        return f"{', '.join(flying)} in flight"
    venue = venue_log(offline)
    missing = len(venue.executions) - sum(fill.qty > 0 for fill in books.fills)
    if missing:
        return f"{missing} executions not booked"
    live = {key for key, begins in venue.steps if begins} - {key for key, begins in venue.steps if not begins}
    believed = {order.key for order in books.orders if order.live}
    return f"{sorted(live ^ believed)} live on one side only" if live != believed else ""


def reckon(offline: Run) -> Row:
    """The statement of the run, with every invariant judged. Raises Unavailable."""
    venue, books = venue_log(offline), Books.read(offline.store)
    instruments = offline.broker.instruments()
    verdict = judge(venue, books, instruments)
    quotes = offline.control("status")["quotes"]
    bids = {asset.asset_symbol: exact(quotes[asset.asset_symbol]["bid"]) for asset in books.assets}
    worth = sum((qty * bids[symbol] for symbol, qty in venue.coins.items() if qty), ZERO)
    equity = Equity(offline.cash, venue.cash + worth, bids, unmeasured(venue, books))
    return statement(books, equity, verdict)
