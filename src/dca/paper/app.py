"""The exchange as an ASGI application: which path leads where."""

from dataclasses import dataclass
from datetime import datetime

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from dca.domain.errors import ConfigError
from dca.domain.market import Quote
from dca.paper.account import Account
from dca.paper.activities import Activities
from dca.paper.config import Clock, PaperConfig, Source, Tape
from dca.paper.control import Control, ControlApi
from dca.paper.data import Data
from dca.paper.data_stream import DataStream
from dca.paper.events import Events
from dca.paper.exchange import Exchange, Update
from dca.paper.fates import Fates
from dca.paper.faults import Faults
from dca.paper.gate import Access, Answer, Budget, Call, Gate, Handler
from dca.paper.log import Log, open_log
from dca.paper.market import Market
from dca.paper.player import Player
from dca.paper.portfolio import Portfolio
from dca.paper.refusals import Refusal, not_found
from dca.paper.trade_stream import TradeStream
from dca.paper.trading import Orders

Table = list[tuple[str, str, Handler]]
OLDER = "/v1beta2/crypto"
"""Where clients of before 2023, and ccxt to this day, look for market data. There is one location."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A path behind the gate."""

    gate: Gate
    handler: Handler
    access: Access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.gate.serve(scope, receive, send, self.handler, self.access)


class Venue:
    """A paper exchange with all its doors, ready to be served."""

    def __init__(self, config: PaperConfig, clock: Clock) -> None:
        tapes = [_opened(source, config, clock) for source in config.sources]
        log, earlier = open_log(config.state_file)
        self.config = config
        try:
            self.exchange = Exchange(config, clock, log, earlier)
        except ConfigError:
            log.close()
            raise
        self.market = Market(self.exchange.instruments)
        self.faults = Faults(clock.monotonic, config.seed)
        self.fates = Fates(self.exchange)
        self.trades = TradeStream(config, self.faults)
        self.quotes = DataStream(config, self.market, self.faults)
        self.player = Player(tapes, clock, self._play)
        self.control = Control(self.exchange, self.player, self.faults, self.fates, self._set, self._drop)
        self._injected(log)
        self.orders = Orders(self.exchange, self.fates)
        self.account = Account(self.exchange, self.orders)
        self.activities = Activities(self.exchange)
        self.events = Events(self.exchange, self.activities)
        self.portfolio = Portfolio(self.exchange, self.account.equity)
        self.gate = Gate(self.exchange, self.faults, self.fates, self.trades.drained)
        self.exchange.on_update = self._tell
        for quote in self.exchange.quotes.values():
            self.market.on_quote(quote)
        self.app = _tidy(self._application())

    def _injected(self, log: Log) -> None:
        """The faults it starts with are in force."""
        try:
            for fault in self.config.faults:
                self.control.fault(fault)
        except Refusal as refusal:
            log.close()
            raise ConfigError(f"a fault to start with: {refusal.body['message']}") from refusal

    def _play(self, quote: Quote) -> None:
        """After a restart the tape runs up to where the exchange had come without trading again."""
        if self.exchange.seen_until is not None and quote.at <= self.exchange.seen_until:
            self.market.on_quote(quote)
            self.exchange.quotes[quote.symbol] = quote
            return
        self.quotes.quote(quote)
        self.exchange.on_quote(quote)

    def _set(self, quote: Quote) -> None:
        self.quotes.quote(quote)
        self.quotes.flush()

    def _drop(self) -> None:
        self.trades.drop()
        self.quotes.drop()
        self.events.drop()

    def _tell(self, update: Update) -> None:
        self.trades.publish(update)
        if update.execution is not None:
            self.quotes.executed(update.execution)
            self.quotes.flush()

    def after_each_look(self, now: datetime) -> None:
        """What happens by the passing of time has happened."""
        self.quotes.flush()
        self.exchange.expire(now)
        self.events.look()
        self.portfolio.sample(now)

    def _application(self) -> ASGIApp:
        clock, limit = self.exchange.clock, self.config.switches.rate_limit
        too_many = {"message": "rate limit exceeded", "code": 42910000}
        trading = Access(Budget(limit, clock), too_many)
        data = Access(Budget(limit, clock), {"message": "too many requests."}, keys=False)
        control = Access(Budget(None, clock), {}, keys=False, logged=False, local=True)
        routes: list[BaseRoute] = []
        for table, access in (
            (self._trading(), trading),
            (self._data(), data),
            (self._control(), control),
        ):
            routes += [
                Route(path, Endpoint(self.gate, handler, access), methods=[method])
                for method, path, handler in table
            ]
        routes += [WebSocketRoute(path, self.trades) for path in ("/stream", "/stream/")]
        routes += [WebSocketRoute(path, self.quotes) for path in ("/v1beta3/crypto/{loc}", OLDER)]
        routes.append(Route("/{rest:path}", Endpoint(self.gate, _unknown, trading)))
        return Starlette(routes=routes, exception_handlers={Exception: _internal_error})

    def _trading(self) -> Table:
        orders, account, activities = self.orders, self.account, self.activities
        return [
            ("POST", "/v2/orders", orders.place),
            ("GET", "/v2/orders", orders.listing),
            ("DELETE", "/v2/orders", orders.cancel_all),
            ("GET", "/v2/orders:by_client_order_id", orders.by_client_order_id),
            ("GET", "/v2/orders/{id}", orders.get),
            ("PATCH", "/v2/orders/{id}", orders.replace),
            ("DELETE", "/v2/orders/{id}", orders.cancel),
            ("GET", "/v2/positions", account.positions),
            ("DELETE", "/v2/positions", account.close_all),
            ("GET", "/v2/positions/{symbol:path}", account.position),
            ("DELETE", "/v2/positions/{symbol:path}", account.close),
            ("GET", "/v2/account", account.get),
            ("GET", "/v2/account/activities", activities.listing),
            ("GET", "/v2/account/activities/{type}", activities.listing),
            ("GET", "/v2/account/portfolio/history", self.portfolio.history),
            ("GET", "/v2/clock", account.clock),
            ("GET", "/v2/events/trades", self.events.trades),
            ("GET", "/v2beta1/events/trades", self.events.trades),
            ("GET", "/v2beta1/events/activities", self.events.activities),
            ("GET", "/v2/assets", account.list_assets),
            ("GET", "/v2/assets/{symbol:path}", account.asset),
        ]

    def _data(self) -> Table:
        data = Data(self.exchange, self.market)
        handlers = {
            "bars": data.bars,
            "quotes": data.quotes,
            "trades": data.trades,
            "latest/quotes": data.latest_quotes,
            "latest/trades": data.latest_trades,
            "latest/bars": data.latest_bars,
            "latest/orderbooks": data.latest_orderbooks,
            "snapshots": data.snapshots,
        }
        bases = ("/v1beta3/crypto/{loc}", OLDER)
        return [("GET", f"{base}/{name}", found) for base in bases for name, found in handlers.items()]

    def _control(self) -> Table:
        control = ControlApi(self.control)
        return [
            ("GET", "/control/status", control.status),
            ("GET", "/control/log", control.log),
            ("GET", "/control/ledger", control.ledger),
            ("POST", "/control/quote", control.quote),
            ("POST", "/control/fill", control.fill),
            ("POST", "/control/cancel", control.cancel),
            ("POST", "/control/deposit", control.deposit),
            ("POST", "/control/drop", control.drop),
            ("POST", "/control/hold", control.hold),
            ("POST", "/control/instrument", control.instrument),
            ("POST", "/control/account", control.account),
            ("POST", "/control/fees", control.fees),
            ("GET", "/control/faults", control.faults),
            ("POST", "/control/faults", control.add_fault),
            ("DELETE", "/control/faults", control.lift_faults),
        ]


def _opened(source: Source, config: PaperConfig, clock: Clock) -> Tape:
    if source.symbol not in {instrument.symbol for instrument in config.instruments}:
        raise ConfigError(f"there are prices for {source.symbol}, which is not traded here")
    return source.open(config.seed, clock.now())


def _unknown(call: Call) -> Answer:
    raise not_found("endpoint not found.")


async def _internal_error(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"code": 50010000, "message": "internal server error occurred"}, 500)


def _tidy(app: ASGIApp) -> ASGIApp:
    """Clients whose base address ends in a slash ask for `//v2/orders`."""

    async def tidied(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and "//" in scope["path"]:
            scope["path"] = scope["path"].replace("//", "/")
        await app(scope, receive, send)

    return tidied
