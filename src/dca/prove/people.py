"""People around a life: they pause, halt, close and add, trade past the program, and look after it."""

import asyncio
from collections.abc import Callable
from decimal import ROUND_DOWN, Decimal
from typing import TYPE_CHECKING

from dca.domain.errors import ConfigError, DcaError, StoreUnavailable, VenueError
from dca.prove.fates import dice
from dca.prove.loop import in_fiber, pause
from dca.prove.wired import Wired
from dca.service import adoption, operating, replacing

if TYPE_CHECKING:
    from dca.prove.world import World

MINUTE_S = 60.0
COIN = Decimal("0.000000001")
Deed = Callable[[Wired], object]


class People:
    """Everything they do is a command of its own: a process that may die like any other."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._random = dice(world.seed, "people")

    async def act(self) -> None:
        """They do something now and then."""
        while not self._world.ended:
            await asyncio.sleep(MINUTE_S * self._random.uniform(0.5, 1.5))
            fates, symbol = self._world.fates, self._random.choice(list(self._world.instruments))
            if fates.happens("operator_switch"):
                self._switch(self._random.choice((symbol, None)))
            if fates.happens("operator_order"):
                self._order(symbol)
            if self._works(symbol) and fates.happens("operator_replace"):
                self._replace(symbol)
            if fates.happens("sold_by_hand"):
                self._sell(symbol)
            if fates.happens("deposit"):
                qty = Decimal(self._random.choice((5, 40))) / self._world.exchange.quotes[symbol].bid
                self._world.exchange.deposit(symbol, qty.quantize(COIN, ROUND_DOWN))
                self._world.tell("person", "deposits", f"{qty:.9f} {symbol}")

    def do(self, what: str, deed: Deed) -> None:
        """The command is running; one that cannot be done says so and ends."""
        process = self._world.process("operator")
        wired = Wired(self._world, process)

        async def work() -> None:
            try:
                said = await in_fiber(lambda: deed(wired))
            except DcaError as error:
                said = error
            self._world.tell(process.identity, what, str(said)[:200])

        self._world.spawn(process, work)

    def _switch(self, symbol: str | None) -> None:
        """Trading, or an asset, is paused or halted, and released some minutes later."""
        clock, rest = self._world.clock, self._random.uniform(60, 600)
        verb = self._random.choice((operating.pause, operating.halt))
        self.do(
            f"{verb.__name__} {symbol}", lambda wired: verb(wired.store, clock, symbol, "by the operator")
        )

        def release(wired: Wired) -> None:
            operating.resume(wired.store, clock, symbol)
            if symbol is not None:
                adoption.resume(wired.store, clock, wired.broker, symbol)
            self._world.fates.happened["halted_and_released"] += verb is operating.halt

        self._world.loop.call_later(rest, self.do, f"resume {symbol}", release)

    def _order(self, symbol: str) -> None:
        instruments = self._world.instruments
        kind = self._random.choice(("close", "add", "cancel"))
        if kind == "close":
            self.do("close", lambda wired: operating.close(wired.desk(instruments), symbol).text)
        elif kind == "add":
            self.do(
                "add 25", lambda wired: operating.add_funds(wired.desk(instruments), symbol, Decimal(25)).text
            )
        else:
            self.do("cancel", lambda wired: operating.cancel_orders(wired.desk(instruments), symbol).text)

    def _works(self, symbol: str) -> bool:
        return any(order.symbol == symbol for order in self._world.exchange.live.values())

    def _replace(self, symbol: str) -> None:
        """An order that works is replaced, a buy half of the time at a price that he names."""
        quote, instruments = self._world.exchange.quotes[symbol], self._world.instruments
        limit = self._random.choice((None, quote.ask.quantize(Decimal("0.01"))))
        self.do("replace", lambda wired: replacing.by_hand(wired.desk(instruments), symbol, limit).text)

    def _sell(self, symbol: str) -> None:
        part = self._random.choice((Decimal(1), Decimal("0.5")))
        qty = (self._world.exchange.available(symbol) * part).quantize(COIN, ROUND_DOWN)
        if qty > 0:
            self._world.exchange.sell_by_hand(symbol, qty)
            self._world.tell("person", "sells by hand", f"{qty} {symbol}")

    # After the storm

    def make_up(self) -> None:
        """Whatever was paused or halted is released."""
        clock = self._world.clock
        self.do("resume all", lambda wired: operating.resume(wired.store, clock, None))
        for symbol in self._world.instruments:
            self.do(
                f"resume {symbol}",
                lambda wired, symbol=symbol: operating.resume(wired.store, clock, symbol),  # type: ignore[misc]
            )

    def look_after(self) -> None:
        """A person looks at each asset that is halted, or whose coins he has touched."""
        for asset in self._world.oracle.assets():
            symbol = asset.asset_symbol
            if asset.halted_reason is not None or self._world.exchange.foreign[symbol] != 0:
                self.do(f"put {symbol} right", lambda wired, symbol=symbol: self._put_right(wired, symbol))  # type: ignore[misc]

    def _put_right(self, wired: Wired, symbol: str) -> str:
        clock = self._world.clock
        for _ in range(5):
            try:
                return adoption.resume(wired.store, clock, wired.broker, symbol)
            except ConfigError:
                pause(1.0)
            except (VenueError, StoreUnavailable):
                pause(2.0)
            try:
                return adoption.adopt(wired.store, clock, wired.recorder, wired.broker, symbol)
            except (ConfigError, VenueError, StoreUnavailable):
                pause(5.0)
        return "could not be put right"
