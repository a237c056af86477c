"""The levers and windows that no real venue has: for tests, demonstrations and checkers."""

from collections.abc import Callable, Mapping
from decimal import Decimal

from dca.domain.market import Quote
from dca.domain.money import plain
from dca.domain.order import Side
from dca.paper.effects import REQUESTS, effect_of
from dca.paper.exchange import Exchange
from dca.paper.fates import Fates
from dca.paper.fault_tables import fault_of
from dca.paper.faults import Fault, Faults
from dca.paper.gate import Answer, Call
from dca.paper.player import Player
from dca.paper.refusals import bad_body
from dca.paper.wire import Json, number, stamp, stamp_or_none


class Control:
    """Everything under `/control`. Methods raise Refusal; amounts come and go as text."""

    def __init__(
        self,
        exchange: Exchange,
        player: Player,
        faults: Faults,
        fates: Fates,
        publish: Callable[[Quote], None],
        drop: Callable[[], None],
    ) -> None:
        self.exchange = exchange
        self.player = player
        self.faults = faults
        self.fates = fates
        self._publish = publish
        self._drop = drop

    def status(self) -> Json:
        """Where the replay stands, and how much has happened."""
        exchange = self.exchange
        quotes = {
            symbol: {"bid": plain(quote.bid), "ask": plain(quote.ask), "at": stamp(quote.at)}
            for symbol, quote in exchange.quotes.items()
        }
        return {
            "now": stamp(exchange.clock.now()),
            "replay": {
                "progress": self.player.progress,
                "ended": self.player.ended,
                "played": self.player.played,
                "until": stamp_or_none(self.player.played_until),
            },
            "quotes": quotes,
            "orders": len(exchange.orders),
            "open_orders": len(exchange.open),
            "executions": len(exchange.executions),
            "log_entries": len(exchange.log.entries),
            "run": exchange.runs,
        }

    def log(self, after: int = 0) -> list[Json]:
        """Every request, order change, event, execution and deposit whose `seq` is above `after`."""
        return self.exchange.log.rows(after)

    def ledger(self) -> Json:
        """Cash and coins, exactly."""
        ledger = self.exchange.ledger
        coins = {symbol: plain(held.qty) for symbol, held in ledger.coins.items()}
        return {"cash": plain(ledger.cash), "deposited": plain(ledger.deposited), "coins": coins}

    def quote(self, symbol: str, bid: Decimal, ask: Decimal) -> None:
        """The quote stands, was matched, and is on its way to every subscriber."""
        if not 0 < bid <= ask:
            raise bad_body("bid and ask must be above 0, and bid not above ask")
        known = self._symbol(symbol)
        self._publish(self.exchange.set_quote(known, bid, ask))

    def fill(self, order_id: str, qty: Decimal | None = None, price: Decimal | None = None) -> None:
        """An open order (named by either of its ids) executed in whole or in part."""
        self.exchange.fill(self._order(order_id), qty, price)

    def cancel(self, order_id: str) -> None:
        """The venue canceled an order by itself."""
        self.exchange.cancel_unasked(self._order(order_id))

    def deposit(self, asset: str, amount: Decimal, *, listed: bool = True) -> None:
        """The account has more, or less, of `USD` or of a symbol's coins: a transfer in its history, or,
        not `listed`, a change that nothing explains."""
        symbol = "USD" if asset == "USD" else self._symbol(asset)
        self.exchange.deposit(symbol, amount, listed=listed)

    def drop(self) -> None:
        """Both streams closed every connection; clients may come back at once."""
        self._drop()

    def hold(self, symbol: str, side: Side | None, *, on: bool) -> None:
        """While on, orders of the symbol and side are taken and rest, and nothing executes them but `fill`.

        Switched off, they meet the next quote. A restart from the state file restores it.
        """
        self.exchange.hold(self._symbol(symbol), side, on=on)

    def change(self, name: str, given: Mapping[str, object]) -> None:
        """The effect `fees`, `account` or `instrument` has happened. It ends with the process."""
        self.fates.change(effect_of(name, REQUESTS[name], given))

    def fault(self, fault: Fault) -> None:
        """What the fault matches is spoiled. It ends with the process."""
        self.fates.check(fault)
        self.faults.add(fault)

    def _symbol(self, name: str) -> str:
        symbol = self.exchange.symbol(name) or self.exchange.symbol(f"{name}/USD")
        if symbol is None:
            raise bad_body(f"unknown symbol {name}")
        return symbol

    def _order(self, name: str) -> str:
        return self.exchange.ids.get(name, name)


class ControlApi:
    """The same over HTTP."""

    def __init__(self, control: Control) -> None:
        self.control = control

    def status(self, call: Call) -> Answer:
        return Answer(self.control.status())

    def log(self, call: Call) -> Answer:
        return Answer(self.control.log(int(_amount(call.query, "after") or 0)))

    def ledger(self, call: Call) -> Answer:
        return Answer(self.control.ledger())

    def quote(self, call: Call) -> Answer:
        bid, ask = _amount(call.body, "bid"), _amount(call.body, "ask")
        if bid is None or ask is None:
            raise bad_body("symbol, bid and ask are required")
        self.control.quote(str(call.body.get("symbol")), bid, ask)
        return Answer({})

    def fill(self, call: Call) -> Answer:
        qty, price = _amount(call.body, "qty"), _amount(call.body, "price")
        self.control.fill(str(call.body.get("order_id")), qty, price)
        return Answer({})

    def cancel(self, call: Call) -> Answer:
        self.control.cancel(str(call.body.get("order_id")))
        return Answer({})

    def drop(self, call: Call) -> Answer:
        self.control.drop()
        return Answer({})

    def hold(self, call: Call) -> Answer:
        side, on = call.body.get("side"), call.body.get("on")
        if side not in (None, "buy", "sell") or not isinstance(on, bool):
            raise bad_body("side must be buy, sell or absent, and on true or false")
        self.control.hold(str(call.body.get("symbol")), None if side is None else Side(side), on=on)
        return Answer({})

    def instrument(self, call: Call) -> Answer:
        changes = {name: value for name, value in call.body.items() if name != "symbol"}
        self.control.change("instrument", changes | {"asset": call.body.get("symbol")})
        return Answer({})

    def account(self, call: Call) -> Answer:
        self.control.change("account", call.body)
        return Answer({})

    def fees(self, call: Call) -> Answer:
        self.control.change("fees", call.body)
        return Answer({})

    def faults(self, call: Call) -> Answer:
        return Answer(self.control.faults.rows())

    def add_fault(self, call: Call) -> Answer:
        self.control.fault(fault_of(call.body))
        return self.faults(call)

    def lift_faults(self, call: Call) -> Answer:
        self.control.faults.lift()
        return self.faults(call)

    def deposit(self, call: Call) -> Answer:
        amount, listed = _amount(call.body, "amount"), call.body.get("listed", True)
        if amount is None:
            raise bad_body("asset and amount are required")
        if not isinstance(listed, bool):
            raise bad_body("listed must be true or false")
        self.control.deposit(str(call.body.get("asset", "USD")), amount, listed=listed)
        return Answer(self.control.ledger())


def _amount(values: Mapping[str, object], name: str) -> Decimal | None:
    given = values.get(name)
    if given is None:
        return None
    try:
        return number(given)
    except ValueError as error:
        raise bad_body(f"invalid {name}") from error
