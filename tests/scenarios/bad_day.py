"""A day on which things go wrong: a fast world whose prices are moved by hand."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal as D
from pathlib import Path
from typing import Any

import requests
from build import rules

from dca.apps.judge import Books
from dca.apps.market import SPREAD, Market
from dca.apps.offline import Offline
from dca.domain.account import Breaker, BreakerState
from dca.domain.cycle import Cycle
from dca.domain.errors import StaleWrite
from dca.domain.folding import unmeasured_buys
from dca.domain.mode import OPERATOR, Mode, Restriction
from dca.domain.order import Order
from dca.ports import Tx
from dca.service.caretakers.runner import Report, run
from dca.wiring import CARETAKERS

SPEED = 240.0
CLOSED = BreakerState.CLOSED
QUICK = {
    "GRACE_S": "0.4",
    "RECONCILE_EVERY_S": "0.5",
    "REQUEST_TIMEOUT_S": "1",
    "STALE_ORDER_S": "86400",
    "MAX_QUOTE_AGE_S": "3600",
}
RULES = rules(
    base_order_amount=D(100),
    safety_order_amount=D(100),
    take_profit_percent=D(1),
)
LEVELS = {"BTC/USD": D(20000), "ETH/USD": D(1500), "SOL/USD": D(20), "LTC/USD": D(80), "DOGE/USD": D("0.1")}
FELL, ROSE = D("0.975"), D("1.02")
PATIENCE_S = 30.0


def until(what: str, holds: Callable[[], Any], *, meanwhile: Callable[[], None] = lambda: None) -> Any:
    """What `holds` returned once it was true; `meanwhile` is done again and again."""
    limit = time.monotonic() + PATIENCE_S
    while not (found := holds()):
        assert time.monotonic() < limit, f"waited in vain until {what}"
        meanwhile()
        time.sleep(0.02)
    return found


class Day:
    """Assets that trade in a world of their own. Nothing is bought until somebody asks for it."""

    def __init__(self, run: Offline, symbols: Sequence[str], cooldown_s: int) -> None:
        self.run = run
        self.levels: dict[str, D] = {}
        self._log_seen = 0
        self.pause("nobody asked yet")
        for symbol in symbols:
            self.add(symbol, cooldown_s)
        self.quote()

    def add(self, symbol: str, cooldown_s: int) -> None:
        """One more asset."""
        self.levels[symbol] = LEVELS[symbol]
        self.run.add_asset(symbol, replace(RULES, cooldown_period=cooldown_s))

    # Prices

    def quote(self, factor: D = D(1), *symbols: str) -> None:
        """Every asset, or each of `symbols`, stands at `factor` of its level."""
        for symbol in symbols or tuple(self.levels):
            bid = (self.levels[symbol] * factor).quantize(D("0.000001"))
            body = {"symbol": symbol, "bid": str(bid), "ask": str(bid * (1 + SPREAD / 20000))}
            self.run.control("quote", body)

    def until(
        self, what: str, holds: Callable[[], Any], *, at: D | None = None, on: Sequence[str] = ("BTC/USD",)
    ) -> Any:
        """What `holds` returned, while those prices stand `at` a factor of their level, if one is given."""
        try:
            return until(what, holds, meanwhile=(lambda: self.quote(at, *on)) if at is not None else _nothing)
        except AssertionError as error:
            modes = [one.reason for one in self.run.store.read(lambda tx: tx.modes())]
            said = {symbol: self.explained(symbol) for symbol in self.levels}
            raise AssertionError(f"{error}; modes {modes}; the streamer says {said}") from error

    def bought(self, symbol: str = "BTC/USD") -> None:
        self.pause(None)
        self.until(
            f"{symbol}: the base order has filled",
            lambda: self.cycle(symbol).quantity > 0 and self.quiet(symbol),
            at=D(1),
            on=[symbol],
        )

    def fell(self, symbol: str = "BTC/USD") -> None:
        self.until(
            f"{symbol}: the safety order has filled",
            lambda: self.cycle(symbol).safety_orders == 1 and self.quiet(symbol),
            at=FELL,
            on=[symbol],
        )

    def rose(self, symbol: str = "BTC/USD") -> None:
        """The position is sold; the price at which that happened is the new level."""
        cycle = self.cycle(symbol)
        self.until(
            f"{symbol}: the position is sold",
            lambda: self.finished(cycle.id),
            at=ROSE,
            on=[symbol],
        )
        self.levels[symbol] *= ROSE

    def whole_cycle(self, symbol: str = "BTC/USD") -> None:
        self.bought(symbol)
        self.fell(symbol)
        self.rose(symbol)

    # What there is

    def cycle(self, symbol: str = "BTC/USD") -> Cycle:
        """The asset's unfinished cycle."""
        found = self.run.store.read(lambda tx: tx.situations())
        (cycle,) = (one.cycle for one in found if one.asset.asset_symbol == symbol)
        assert cycle is not None
        return cycle

    def cycles(self, symbol: str = "BTC/USD") -> list[Cycle]:
        """Every cycle of the asset, oldest first."""
        books = Books.read(self.run.store)
        (asset,) = (one for one in books.assets if one.asset_symbol == symbol)
        return [one for one in books.cycles if one.asset_id == asset.id]

    def finished(self, cycle_id: int) -> bool:
        cycle = self.run.store.read(lambda tx: tx.cycle(cycle_id))
        return cycle is not None and cycle.finished

    def orders(self, symbol: str = "BTC/USD") -> list[Order]:
        return [order for order in Books.read(self.run.store).orders if order.intent.symbol == symbol]

    def booked(self, key: str) -> bool:
        """Whether all of the order `key` is stored as filled."""
        order = self.run.store.read(lambda tx: tx.order(key))
        return order is not None and order.filled_qty == order.intent.qty and not order.live

    def quiet(self, symbol: str = "BTC/USD") -> bool:
        return not any(order.live for order in self.orders(symbol))

    def last(self, symbol: str = "BTC/USD") -> Order:
        return self.orders(symbol)[-1]

    def posts(self, cycle: Cycle | None = None) -> list[dict[str, Any]]:
        """Every attempt to place an order (of one cycle), as the exchange saw it."""
        part = "" if cycle is None else f"-c{cycle.id}-"
        return [
            row
            for row in self.run.control("log")
            if row["kind"] == "request"
            and (row["method"], row["path"]) == ("POST", "/v2/orders")
            and part in row["body"]["client_order_id"]
        ]

    def logged(self, event: str, *, new: bool = True) -> list[dict[str, Any]]:
        """Lines of the streamer's log; `new`: only those after the last `mark`."""
        lines = (self.run.folder / "main.log").read_text().splitlines()
        rows = [json.loads(line) for line in lines[self._log_seen if new else 0 :]]
        return [row for row in rows if row["event"] == event]

    def mark(self) -> None:
        """What was logged until now is old."""
        file = self.run.folder / "main.log"
        self._log_seen = len(file.read_text().splitlines()) if file.exists() else 0

    def told(self) -> list[str]:
        """What people were told, or will be, since the last `mark`."""
        waiting = self.run.store.read(lambda tx: tx.messages())
        return [line["text"] for line in self.logged("notice")] + [message.text for message in waiting]

    def explained(self, symbol: str = "BTC/USD") -> str:
        """Why the streamer did what it did last, as its heartbeat says."""
        beats = self.run.store.read(lambda tx: tx.heartbeats())
        return next((one.detail["assets"].get(symbol, "") for one in beats if one.name == "streamer"), "")

    def beat(self) -> dict[str, Any]:
        """The streamer's last sign of life."""
        (beat,) = (
            beat for beat in self.run.store.read(lambda tx: tx.heartbeats()) if beat.name == "streamer"
        )
        return beat.detail

    # Levers and the judge

    def fault(self, **rule: Any) -> None:
        """A 429 bans everybody for a second, not to the end of the exchange's minute."""
        soon = {"retry_after": 1} if rule.get("effect") == 429 else {}
        self.run.control("faults", soon | rule)

    def hold(self, symbol: str = "BTC/USD", *, on: bool) -> None:
        """Orders of the symbol rest, and only `fill` executes them; or quotes do so again."""
        self.run.control("hold", {"symbol": symbol, "on": on})

    def fill(self, key: str, qty: str | None = None) -> None:
        """The exchange executed `qty` of the order `key`, or what is left of it."""
        self.run.control("fill", {"order_id": key} | ({} if qty is None else {"qty": qty}))

    def resting(self, symbol: str = "BTC/USD", *, at: D = D(1)) -> Order:
        """The asset's newest order, which the venue took and holds."""
        self.hold(symbol, on=True)
        self.pause(None)

        def found() -> Order | None:
            orders = self.orders(symbol)
            return orders[-1] if orders and orders[-1].live and orders[-1].venue_id else None

        order: Order = self.until(f"{symbol}: an order rests", found, at=at, on=[symbol])
        return order

    def lift(self) -> None:
        """No fault is in force any more, all counts are gone, and so is what they made everybody avoid."""
        requests.delete(f"http://127.0.0.1:{self.run.port}/control/faults", timeout=5).raise_for_status()
        until("nobody changes the same rows", self._forgiven)

    def _forgiven(self) -> bool:
        def write(tx: Tx) -> None:
            now = self.run.clock.now()
            for row in tx.breakers():
                tx.put_breaker(Breaker(name=row.name, state=CLOSED, since=now, version=row.version))
            for one in tx.modes():
                if one.source != OPERATOR:
                    tx.drop_mode(one.source)

        try:
            self.run.store.write(write)
        except StaleWrite:
            return False
        return True

    def faults(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.run.control("faults")
        return found

    def struck(self) -> int:
        return sum(row["struck"] for row in self.faults())

    def pause(self, why: str | None) -> None:
        """Nothing is bought because of `why`; None: it may be."""
        if why is None:
            self.run.store.write(lambda tx: tx.drop_mode(OPERATOR))
            return
        since = self.run.clock.now()
        wish = Restriction(source=OPERATOR, mode=Mode.REDUCE_ONLY, reason=why, since=since)
        self.run.store.write(lambda tx: tx.put_mode(wish))

    def _measured(self) -> bool:
        records = self.run.store.read(lambda tx: tx.open_records())
        return not any(unmeasured_buys(one.orders, one.fills) for one in records if one.cycle.quantity > 0)

    def holds(self) -> None:
        """Every invariant holds and every cent is explained, once everything is at rest.

        Nothing new is bought from then on, or the judge would look at two different moments.
        """
        self.pause("the judge looks")
        until("every fee is measured", self._measured)
        report = Market(self.run).holds()
        assert (report["violations"], report["unexplained"]) == ([], "0.00")


def _nothing() -> None:
    """Prices are left alone."""


@contextmanager
def day(
    folder: Path,
    *,
    symbols: Sequence[str] = ("BTC/USD",),
    speed: float = SPEED,
    start: datetime | None = None,
    database_url: str | None = None,
    cooldown_s: int = 60,
    **extra: str,
) -> Iterator[Day]:
    """The exchange and the database are there, the assets stored; the streamer is not running yet."""
    begin = start or datetime.now(UTC)
    run = Offline(
        folder=folder,
        start=begin,
        end=begin,
        speed=speed,
        replay=None,
        lead_s=0.0,
        database_url=database_url,
        extra={**QUICK, **extra},
    )
    with run:
        yield Day(run, symbols, cooldown_s)


def passed(today: Day, name: str, *, dry_run: bool = False, **changed: Any) -> Report:
    """One pass of a caretaker in this process, with some settings changed."""
    settings, store, clock = replace(today.run.settings, **changed), today.run.store, today.run.clock
    caretaker = CARETAKERS[name](settings, store, clock)
    return run(caretaker, store=store, clock=clock, holder="test", alive=lambda who: False, dry_run=dry_run)


__all__ = ["FELL", "LEVELS", "ROSE", "Day", "day", "passed", "until"]
