"""What faults make of orders and of the account: what happens after a request was taken."""

import asyncio
from collections.abc import Callable, Mapping
from decimal import ROUND_DOWN, ROUND_HALF_UP, ROUND_UP, Decimal
from typing import Any

from dca.domain.money import floor_to, plain
from dca.domain.order import Side
from dca.matching.book import QTY_STEP
from dca.paper.effects import Effect
from dca.paper.exchange import Exchange
from dca.paper.faults import Fault
from dca.paper.fees import Fees
from dca.paper.log import Changed
from dca.paper.orders import PaperOrder, Status
from dca.paper.refusals import bad_body

ROUNDINGS = {"up": ROUND_UP, "down": ROUND_DOWN, "nearest": ROUND_HALF_UP}


class Fates:
    """The next step of every order that a request placed or canceled: the usual one, unless another
    was drawn for it. Times are real seconds."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self._drawn: dict[str, Effect] = {}
        self._unseen: dict[str, float] = {}

    def draw(self, order_id: str, effect: Effect) -> None:
        """The order's next step is `effect`; what it hides is hidden at once."""
        if effect.name == "unseen":
            self._unseen[order_id] = self.exchange.clock.monotonic() + effect.seconds
        else:
            self._drawn[order_id] = effect

    def unseen(self, order_id: str) -> bool:
        """Whether reads do not know the order yet."""
        until = self._unseen.get(order_id)
        return until is not None and self.exchange.clock.monotonic() < until

    def placed(self, order_id: str) -> None:
        """An accepted order starts to work."""
        self._step(order_id, self.exchange.activate)

    def canceled(self, order_id: str) -> None:
        """An order whose cancel was accepted ends."""
        self._step(order_id, self.exchange.finish_cancel)

    def _step(self, order_id: str, usual: Callable[[str], None]) -> None:
        effect = self._drawn.pop(order_id, None)
        if effect is None:
            usual(order_id)
        else:
            STEPS[effect.name](self, order_id, effect)

    def _later(self, seconds: float, work: Callable[[], None]) -> None:
        if seconds > 0:
            asyncio.get_running_loop().call_later(seconds, work)
        else:
            work()

    def _rejected(self, order_id: str, effect: Effect) -> None:
        self._later(effect.seconds, lambda: self.exchange.reject(order_id))

    def _canceled(self, order_id: str, effect: Effect) -> None:
        self.exchange.activate(order_id)
        self._later(effect.seconds, lambda: self._end(order_id))

    def _end(self, order_id: str) -> None:
        if self.exchange.orders[order_id].open:
            self.exchange.cancel_unasked(order_id)

    def _partly(self, order_id: str, effect: Effect) -> None:
        self.exchange.activate(order_id, resting=True)
        self._fill(order_id, effect["part"])
        self._later(effect.seconds, lambda: self._end(order_id))

    def _fill(self, order_id: str, part: Decimal) -> None:
        """A part of what is left is filled, if the order still works."""
        order = self.exchange.orders[order_id]
        if order.open:
            self.exchange.fill(order_id, _share(order, part), self.exchange.touch(order))

    def _filled(self, order_id: str, effect: Effect) -> None:
        def end() -> None:
            self._fill(order_id, effect["part"])
            self.exchange.finish_cancel(order_id)

        self._later(effect.seconds, end)

    def _stuck(self, order_id: str, effect: Effect) -> None:
        if effect["seconds"] is not None:
            self._later(effect.seconds, lambda: self.exchange.finish_cancel(order_id))

    def _filled_late(self, order_id: str, effect: Effect) -> None:
        self.exchange.finish_cancel(order_id)
        self._later(effect.seconds, lambda: self._fill_ended(order_id, effect["part"]))

    def _fill_ended(self, order_id: str, part: Decimal) -> None:
        order = self.exchange.orders[order_id]
        if order.status is Status.CANCELED:
            self.exchange.fill_ended(order_id, _share(order, part))

    # The account

    def check(self, fault: Fault) -> None:
        """Raises Refusal when the fault is about a symbol that is not traded here."""
        named = [fault.matcher.symbol, *(one.given.get("asset") for one in fault.effects if one)]
        for name in named:
            if name not in (None, "USD"):
                self._symbol(name)

    def change(self, effect: Effect) -> None:
        """The account, its fees or an instrument is different from now on. Raises Refusal."""
        CHANGES[effect.name](self, effect.given)

    def _deposit(self, given: Mapping[str, Any]) -> None:
        asset = given["asset"]
        self.exchange.deposit("USD" if asset == "USD" else self._symbol(asset), given["amount"])

    def _note(self, what: str, values: Mapping[str, Any]) -> None:
        shown = {
            name: plain(value) if isinstance(value, Decimal) else value for name, value in values.items()
        }
        self.exchange.log.add(Changed(what, shown, self.exchange.clock.now()))

    def _fees(self, given: Mapping[str, Any]) -> None:
        self._note("fees", _told(given))
        steps = {Side.BUY: given["coin_step"], Side.SELL: given["usd_step"]}
        fees = Fees(given["maker"], given["taker"], steps, ROUNDINGS[given["rounding"]])
        self.exchange.set_fees(fees)

    def _flags(self, given: Mapping[str, Any]) -> None:
        self._note("account", _told(given))
        self.exchange.flags |= _told(given)

    def _instrument(self, given: Mapping[str, Any]) -> None:
        symbol, changes = self._symbol(given["asset"]), _told(given)
        del changes["asset"]
        self._note("instrument", changes | {"symbol": symbol})
        self.exchange.change_instrument(symbol, changes)

    def _symbol(self, name: str) -> str:
        symbol = self.exchange.symbol(name) or self.exchange.symbol(f"{name}/USD")
        if symbol is None:
            raise bad_body(f"unknown symbol {name}")
        return symbol


def _share(order: PaperOrder, part: Decimal) -> Decimal:
    return max(QTY_STEP, floor_to(order.left * part, QTY_STEP))


def _told(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


STEPS: dict[str, Callable[[Fates, str, Effect], None]] = {
    "rejected": Fates._rejected,
    "canceled": Fates._canceled,
    "partly": Fates._partly,
    "filled": Fates._filled,
    "stuck": Fates._stuck,
    "filled late": Fates._filled_late,
}
CHANGES: dict[str, Callable[[Fates, Mapping[str, Any]], None]] = {
    "deposit": Fates._deposit,
    "fees": Fates._fees,
    "account": Fates._flags,
    "instrument": Fates._instrument,
}
