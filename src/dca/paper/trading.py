"""The trading API's handlers for orders."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from decimal import Decimal

from dca.paper import orders
from dca.paper.admission import client_id_of, ticket_of
from dca.paper.assets import asset_id
from dca.paper.exchange import Exchange
from dca.paper.fates import Fates
from dca.paper.gate import Answer, Call
from dca.paper.orders import Kind, PaperOrder, Status, expiry
from dca.paper.refusals import Refusal, bad_body, not_found, not_valid
from dca.paper.wire import Json, instant, number

DEFAULT_LIMIT = 50
MAXIMUM_LIMIT = 500
PRICES = ("limit_price", "stop_price")


def order_wire(order: PaperOrder) -> Json:
    return orders.wire(order, asset_id(order.symbol))


class Orders:
    """Placing, finding, replacing and canceling orders."""

    def __init__(self, exchange: Exchange, fates: Fates) -> None:
        self.exchange = exchange
        self.fates = fates

    def place(self, call: Call) -> Answer:
        return self.placed(call.body)

    def placed(self, body: Mapping[str, object]) -> Answer:
        """The order is accepted; it starts to work once the client was told. Raises Refusal."""
        given = body.get("symbol")
        symbol = self.exchange.symbol(given) if isinstance(given, str) else None
        if symbol is None:
            raise not_valid(f'asset "{given}" not found') if given else bad_body("symbol is required")
        ticket = ticket_of(body, self.exchange.instruments[symbol], self.exchange.switches)
        order = self.exchange.place(ticket)
        return Answer(order_wire(order), after=lambda: self.fates.placed(order.id), placed=(order.id,))

    def get(self, call: Call) -> Answer:
        return self._found(self.exchange.order(call.path["id"]), call.path["id"])

    def by_client_order_id(self, call: Call) -> Answer:
        name = call.query.get("client_order_id", "")
        return self._found(self.exchange.order_by_client_id(name), name)

    def _found(self, order: PaperOrder, name: str) -> Answer:
        if self.fates.unseen(order.id):
            raise not_found(f"order not found for {name}")
        return Answer(order_wire(order))

    def listing(self, call: Call) -> Answer:
        found = select(self.exchange, call.query, self.fates.unseen)
        return Answer([order_wire(order) for order in found])

    def cancel(self, call: Call) -> Answer:
        order_id = call.path["id"]
        self.exchange.request_cancel(order_id)
        asked = (order_id,) if self.exchange.orders[order_id].open else ()
        return Answer(status=204, after=lambda: self.finish((order_id,)), canceled=asked)

    def cancel_all(self, call: Call) -> Answer:
        results = self.cancel_each(tuple(self.exchange.open))
        done = [result["id"] for result in results if result["status"] == 200]
        return Answer(results, 207, lambda: self.finish(done), canceled=tuple(done))

    def cancel_each(self, order_ids: Iterable[str]) -> list[Json]:
        """What became of each wish to cancel."""
        results: list[Json] = []
        for order_id in order_ids:
            try:
                self.exchange.request_cancel(order_id)
                results.append({"id": order_id, "status": 200})
            except Refusal as refusal:
                results.append({"id": order_id, "status": 500, "body": refusal.body})
        return results

    def finish(self, order_ids: Iterable[str]) -> None:
        for order_id in order_ids:
            self.fates.canceled(order_id)

    def replace(self, call: Call) -> Answer:
        old = self.exchange.order(call.path["id"])
        wanted = self._replacement(old, call.body)
        new = self.exchange.replace(old.id, wanted)
        return Answer(order_wire(new), after=lambda: self.exchange.announce_replaced(old.id))

    def _replacement(self, old: PaperOrder, body: Json) -> PaperOrder:
        if old.status not in (Status.NEW, Status.PARTIALLY_FILLED):
            raise not_valid("unable to replace order in current state")
        if old.notional is not None or old.type is Kind.MARKET:
            raise not_valid("unable to replace a notional or market order")
        wanted = _changed(old, body, fractions=self.exchange.switches.fractional_replace)
        if wanted == old:
            raise not_valid("order parameters are not changed")
        now = self.exchange.clock.now()
        client_order_id = client_id_of(body)
        if client_order_id in self.exchange.ids:
            raise bad_body("client_order_id must be unique")
        return replace(
            wanted,
            client_order_id=client_order_id or self.exchange.uuid(),
            status=Status.PENDING_NEW,
            created_at=now,
            updated_at=now,
            expires_at=expiry(now),
            filled_qty=Decimal(0),
            filled_avg_price=None,
            triggered=False,
        )


def _changed(old: PaperOrder, body: Json, *, fractions: bool) -> PaperOrder:
    """`old` with the quantity and prices that a replace request wants. Raises Refusal."""
    given: dict[str, Decimal] = {}
    for name in ("qty", *PRICES):
        if body.get(name) is None:
            continue
        try:
            given[name] = number(body[name])
        except ValueError as error:
            raise bad_body(f"invalid {name}") from error
        if given[name] <= 0:
            raise bad_body(f"{name} must be > 0")
    if "stop_price" in given and old.stop_price is None:
        raise bad_body("limit orders must not have a stop price")
    qty = given.get("qty", old.qty)
    if qty not in (old.qty, qty.to_integral_value()) and not fractions:
        raise bad_body("qty must be integer")
    limit = given.get("limit_price", old.working_limit)
    return replace(
        old,
        qty=qty,
        limit_price=limit,
        working_limit=limit,
        stop_price=given.get("stop_price", old.stop_price),
    )


def select(exchange: Exchange, query: Mapping[str, str], unseen: Callable[[str], bool]) -> list[PaperOrder]:
    """The orders a listing asks for: by default the newest 50 that are open. Raises Refusal."""
    wanted = _Wanted(exchange, query)
    newest_first = query.get("direction", "desc") != "asc"
    if query.get("status", "open") == "open":
        found = [order for order in exchange.open.values() if wanted(order)]
    else:
        found = [order for order in exchange.orders.values() if wanted(order)]
    found = [order for order in found if not unseen(order.id)]
    # Both tables are in the order of submission, so equal times keep their order.
    found.sort(key=lambda order: order.created_at)
    if newest_first:
        found.reverse()
    return _page(found, query)


class _Wanted:
    """What a listing leaves out."""

    def __init__(self, exchange: Exchange, query: Mapping[str, str]) -> None:
        if query.get("status", "open") not in ("open", "closed", "all"):
            raise bad_body("invalid status")
        self.closed = query.get("status") == "closed"
        named = [name for name in query.get("symbols", "").split(",") if name]
        self.symbols = {exchange.symbol(name) for name in named}
        self.side = query.get("side")
        self.none = query.get("asset_class", "crypto") not in ("crypto", "all", "")
        try:
            self.after = instant(query["after"]) if query.get("after") else None
            self.until = instant(query["until"]) if query.get("until") else None
        except ValueError as error:
            raise bad_body("invalid after or until") from error

    def __call__(self, order: PaperOrder) -> bool:
        return not (
            self.none
            or (self.closed and order.open)
            or (self.symbols and order.symbol not in self.symbols)
            or (self.side and order.side != self.side)
            or (self.after and order.created_at <= self.after)
            or (self.until and order.created_at >= self.until)
        )


def _page(found: list[PaperOrder], query: Mapping[str, str]) -> list[PaperOrder]:
    before, after = query.get("before_order_id"), query.get("after_order_id")
    if before and after:
        raise bad_body("before_order_id and after_order_id are mutually exclusive")
    if (before or after) and (query.get("after") or query.get("until")):
        raise bad_body("order id cursors do not go with after or until")
    cursor = before or after
    if cursor:
        found = _beyond(found, cursor)
    return found[: limit_of(query, DEFAULT_LIMIT, MAXIMUM_LIMIT, "limit")]


def _beyond(found: list[PaperOrder], cursor: str) -> list[PaperOrder]:
    for place, order in enumerate(found):
        if order.id == cursor:
            return found[place + 1 :]
    raise bad_body("invalid order id cursor")


def limit_of(query: Mapping[str, str], default: int, maximum: int, name: str) -> int:
    """The page size a query asks for. Raises Refusal."""
    try:
        wanted = int(query.get(name, default))
    except ValueError as error:
        raise bad_body(f"invalid {name}") from error
    if not 0 < wanted <= maximum:
        raise bad_body(f"{name} must be between 1 and {maximum}")
    return wanted
