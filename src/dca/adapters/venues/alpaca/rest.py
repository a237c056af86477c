"""The venue's REST side, on alpaca-py in raw mode: its models refuse what they do not know."""

import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from alpaca.common.exceptions import APIError
from alpaca.data.historical.crypto import CryptoHistoricalDataClient
from alpaca.trading.client import TradingClient

from dca import boundaries
from dca.adapters.venues.alpaca import wire
from dca.adapters.venues.alpaca.http import Pool, tame
from dca.adapters.venues.alpaca.sorting import absent, answer, reading, writing
from dca.adapters.venues.alpaca.wire import Malformed
from dca.domain.account import Activity
from dca.domain.market import Instrument, Quote, compact
from dca.domain.money import ZERO, plain
from dca.domain.order import Execution, Intent, VenueOrder
from dca.ports import Account, Holding

T = TypeVar("T")
log = logging.getLogger(__name__)

ORDERS_PAGE = 500
FILLS_PAGE = 100
MOST_PAGES = 100
REFUSED_SYMBOL = (400, 404, 422)


class AlpacaBroker:
    """The Broker for Alpaca and for whatever speaks its protocol. Safe to share between threads.

    `base_url` and `data_url` come without a path. Every call is one HTTP attempt, except for lists
    that come in pages. Reads raise Unauthorized, too, when the venue refuses the keys.
    """

    def __init__(
        self, key: str, secret: str, *, base_url: str, data_url: str, timeout_s: float = 10.0
    ) -> None:
        base_url, data_url = base_url.rstrip("/"), data_url.rstrip("/")

        def trading() -> TradingClient:
            client = TradingClient(key, secret, raw_data=True, url_override=base_url)
            return tame(client, base_url, timeout_s)

        def data() -> CryptoHistoricalDataClient:
            client = CryptoHistoricalDataClient(key, secret, raw_data=True, url_override=data_url)
            return tame(client, data_url, timeout_s)

        self._trading = Pool(trading)
        self._data = Pool(data)
        self._names: dict[str, str] = {}

    def close(self) -> None:
        """No connection is kept; the next call makes a new one."""
        self._trading.close()
        self._data.close()

    @boundaries.request
    def submit(self, intent: Intent) -> VenueOrder:
        return self._write(lambda client: _submit(client, intent))

    @boundaries.request
    def cancel(self, venue_id: str) -> None:
        path = f"/orders/{wire.path_id(venue_id)}"
        self._write(lambda client: _expect_nothing(client.delete(path)))

    @boundaries.request
    def find(self, key: str) -> VenueOrder | None:
        return self._read(lambda client: _find(client, key))

    @boundaries.request
    def open_orders(self) -> list[VenueOrder]:
        return self._read(lambda client: list(_open_orders(client)))

    @boundaries.request
    def orders_since(self, at: datetime) -> list[VenueOrder]:
        return self._read(lambda client: list(_orders_since(client, at)))

    @boundaries.request
    def executions(self, venue_id: str) -> list[Execution]:
        return self._read(lambda client: list(_executions(client, venue_id)))

    @boundaries.request
    def activities(self, since: datetime) -> list[Activity]:
        return self._read(lambda client: self._history(client, since))

    @boundaries.request
    def positions(self) -> dict[str, Holding]:
        return self._read(self._positions)

    @boundaries.request
    def holding(self, symbol: str) -> Holding:
        return self._read(lambda client: _holding(client, compact(symbol)))

    @boundaries.request
    def account(self) -> Account:
        return self._read(lambda client: wire.account(client.get("/account")))

    @boundaries.request
    def instruments(self) -> dict[str, Instrument]:
        return self._read(lambda client: dict(_instruments(self._assets(client))))

    @boundaries.request
    def latest_quote(self, symbol: str) -> Quote:
        with self._data.client() as client:
            return reading(lambda: _latest_quote(client, symbol))

    @boundaries.request
    def latest_quotes(self, symbols: Sequence[str]) -> dict[str, Quote]:
        if not symbols:
            return {}
        with self._data.client() as client:
            return reading(lambda: _latest_quotes(client, symbols))

    @boundaries.request
    def time(self) -> datetime:
        return self._read(lambda client: wire.clock(client.get("/clock")))

    def _write(self, call: Callable[[TradingClient], T]) -> T:
        with self._trading.client() as client:
            return writing(lambda: call(client))

    def _read(self, call: Callable[[TradingClient], T]) -> T:
        with self._trading.client() as client:
            return reading(lambda: call(client))

    def _assets(self, client: TradingClient) -> list[dict[str, Any]]:
        """Every crypto asset, inactive ones too: coins of a delisted one may still be held."""
        assets = _rows(client.get("/assets", {"asset_class": "crypto"}))
        self._names = _names(assets)
        return assets

    def _history(self, client: TradingClient, since: datetime) -> list[Activity]:
        rows = list(_activities(client, since))
        named = {row.get("symbol") for row in rows} - {None, ""}
        if not named <= self._names.keys():
            self._assets(client)
        found = (wire.history(row, self._names) for row in rows)
        return [one for one in found if one is not None]

    def _positions(self, client: TradingClient) -> dict[str, Holding]:
        rows = [row for row in _rows(client.get("/positions")) if _is_crypto(row)]
        if not all(row.get("symbol") in self._names for row in rows):
            self._assets(client)
        try:
            return {self._names[row["symbol"]]: wire.holding(row) for row in rows}
        except (LookupError, TypeError) as error:
            # To leave it out would say that nothing is held of some symbol.
            raise Malformed(f"a position in something that is not in the asset list: {error!r}") from error


def _submit(client: TradingClient, intent: Intent) -> VenueOrder:
    """Strings on the wire: alpaca-py's request models would send floats (docs/alpaca.md, the SDK)."""
    body = {
        "symbol": intent.symbol,
        "qty": plain(intent.qty),
        "side": str(intent.side),
        "type": "market" if intent.limit is None else "limit",
        "time_in_force": intent.time_in_force.value,
        "client_order_id": intent.key,
    }
    if intent.limit is not None:
        body["limit_price"] = plain(intent.limit)
    return _under(intent.key, client.post("/orders", body))


def _under(key: str, body: Any) -> VenueOrder:
    order = wire.venue_order(body)
    if order.key != key:
        raise Malformed(f"an order under the key {order.key!r} instead of {key!r}")
    return order


def _expect_nothing(body: Any) -> None:
    """204 with an empty body accepts a cancel; a page of HTML or an object does not."""
    if body is not None:
        raise Malformed("a cancel was answered with a body")


def _find(client: TradingClient, key: str) -> VenueOrder | None:
    try:
        body = client.get("/orders:by_client_order_id", {"client_order_id": key})
    except APIError as error:
        if absent(error):
            return None
        raise
    return _under(key, body)


def _open_orders(client: TradingClient) -> Iterator[VenueOrder]:
    """Newest first, page by page. `until` excludes its own instant, and orders may share one, so
    each page starts a microsecond above the end of the one before and repeats some of it."""
    query: dict[str, Any] = {"status": "open", "limit": ORDERS_PAGE, "direction": "desc", "nested": "false"}
    for rows in _pages(client, "/orders", query, ORDERS_PAGE):
        for row in rows:
            if _is_crypto(row):
                yield wire.venue_order(row)
        if rows:
            query["until"] = _text(min(map(wire.submitted_at, rows)) + timedelta(microseconds=1))


def _orders_since(client: TradingClient, at: datetime) -> Iterator[VenueOrder]:
    """Oldest first: what is submitted while the pages are read comes at the end. `after` excludes its
    own instant, so each page repeats some of the one before, as those of the open orders do."""
    query: dict[str, Any] = {"status": "all", "limit": ORDERS_PAGE, "direction": "asc", "nested": "false"}
    query["after"] = _text(at)
    for rows in _pages(client, "/orders", query, ORDERS_PAGE):
        for row in rows:
            if _is_crypto(row):
                yield wire.venue_order(row)
        if rows:
            query["after"] = _text(max(map(wire.submitted_at, rows)) - timedelta(microseconds=1))


def _executions(client: TradingClient, venue_id: str) -> Iterator[Execution]:
    """Filtered here too: a server that does not know the parameter sends every fill there is."""
    query: dict[str, Any] = {"order_id": venue_id, "page_size": FILLS_PAGE, "direction": "desc"}
    for rows in _pages(client, "/account/activities/FILL", query, FILLS_PAGE):
        for row in rows:
            if row.get("order_id") == venue_id and row.get("type", "fill") in ("fill", "partial_fill"):
                yield wire.activity(row)
        if rows:
            query["page_token"] = rows[-1]["id"]


def _activities(client: TradingClient, since: datetime) -> Iterator[dict[str, Any]]:
    """Oldest first: what is added while the pages are read comes at the end."""
    after = _text(since - timedelta(microseconds=1))
    query: dict[str, Any] = {"after": after, "page_size": FILLS_PAGE, "direction": "asc"}
    for rows in _pages(client, "/account/activities", query, FILLS_PAGE):
        yield from rows
        if rows:
            query["page_token"] = rows[-1]["id"]


def _pages(
    client: TradingClient, path: str, query: dict[str, Any], size: int
) -> Iterator[list[dict[str, Any]]]:
    """The new rows of each page until one is not full. The consumer moves `query` on meanwhile.

    Raises Malformed when a full page brings nothing new: then the list cannot be seen whole.
    """
    known: set[str] = set()
    for _ in range(MOST_PAGES):
        page = _rows(client.get(path, query))
        new = [row for row in page if wire.text(row, "id") not in known]
        known.update(row["id"] for row in new)
        yield new
        if len(page) < size:
            return
        if not new:
            break
    raise Malformed(f"{path} cannot be read to its end")


def _holding(client: TradingClient, name: str) -> Holding:
    try:
        body = client.get(f"/positions/{wire.path_id(name)}")
    except APIError as error:
        if absent(error):
            return Holding(ZERO, ZERO)
        raise
    if not isinstance(body, dict) or body.get("symbol") != name:
        raise Malformed(f"not a position in {name}")
    return wire.holding(body)


def _instruments(assets: list[dict[str, Any]]) -> Iterator[tuple[str, Instrument]]:
    """One unreadable instrument is left out: it cannot be traded, the others can."""
    for asset in assets:
        try:
            found = wire.instrument(asset)
        except Malformed as error:
            log.warning("instrument_unreadable", extra={"error": str(error)})
            continue
        yield found.symbol, found


def _names(assets: list[dict[str, Any]]) -> dict[str, str]:
    """Symbols with a slash by their form without; two that share one are both left out."""
    names: dict[str, str] = {}
    shared: set[str] = set()
    for asset in assets:
        symbol = str(asset.get("symbol"))
        name = compact(symbol)
        if names.setdefault(name, symbol) != symbol:
            shared.add(name)
        names[symbol] = symbol
    return {name: symbol for name, symbol in names.items() if name not in shared}


def _latest_quote(client: CryptoHistoricalDataClient, symbol: str) -> Quote:
    found = _latest_quotes(client, [symbol])
    if symbol not in found:
        raise Malformed(f"no quote for {symbol}")
    return found[symbol]


def _latest_quotes(client: CryptoHistoricalDataClient, symbols: Sequence[str]) -> dict[str, Quote]:
    try:
        body: Any = client.get("/crypto/us/latest/quotes", {"symbols": ",".join(symbols)})
    except APIError as error:
        if len(symbols) == 1 or answer(error).status not in REFUSED_SYMBOL:
            raise
        return dict(_one_by_one(client, symbols))
    try:
        return {
            symbol: wire.quote(symbol, body["quotes"][symbol])
            for symbol in symbols
            if symbol in body["quotes"]
        }
    except (LookupError, TypeError) as error:
        raise Malformed("no list of quotes") from error


def _one_by_one(client: CryptoHistoricalDataClient, symbols: Sequence[str]) -> Iterator[tuple[str, Quote]]:
    """One symbol that the venue does not know makes it refuse the whole list: it alone is left out."""
    for symbol in symbols:
        try:
            yield from _latest_quotes(client, [symbol]).items()
        except APIError as error:
            if answer(error).status not in REFUSED_SYMBOL:
                raise


def _rows(body: Any) -> list[dict[str, Any]]:
    if not isinstance(body, list) or not all(isinstance(row, dict) for row in body):
        raise Malformed("not a list of objects")
    return body


def _is_crypto(row: dict[str, Any]) -> bool:
    """The account may hold other things; what does not say its class is looked at."""
    return bool(row.get("asset_class", "crypto") == "crypto")


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
