"""The named end-to-end scenarios of `integration_test.py`.

Each runs the real streamer as a process. On the paper exchange the price is moved by hand; those
marked for Alpaca also run against a paper account there, and leave it as they found it.
"""

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from dca import settings as env
from dca import wiring
from dca.adapters.clock import SystemClock
from dca.adapters.venues.alpaca import AlpacaBroker, AlpacaMarketFeed
from dca.apps.market import Market, Unmet
from dca.apps.offline import Offline
from dca.domain.asset import Rules
from dca.domain.errors import DcaError
from dca.domain.order import Intent, Purpose, Side
from dca.service.pipeline import try_out

SYMBOL = "BTC/USD"
RULES = Rules(
    base_order_amount=Decimal(100),
    safety_order_amount=Decimal(100),
    max_safety_orders=3,
    safety_order_deviation=Decimal(2),
    take_profit_percent=Decimal("1.5"),
    cooldown_period=3600,
)
QUICK = {"GRACE_S": "1", "RECONCILE_EVERY_S": "0.5", "REQUEST_TIMEOUT_S": "2"}
LISTEN_S = 90.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """`run` raises DcaError when it fails. `alpaca`: it may run against a paper account there."""

    name: str
    words: str
    run: Callable[[str], None]
    alpaca: bool = False


def check(holds: bool, what: str) -> None:
    if not holds:
        raise Unmet(what)


@contextmanager
def offline(**changes: object) -> Iterator[Market]:
    """A market on an exchange of its own, with one asset; the streamer is not running yet."""
    now = SystemClock().now()
    with tempfile.TemporaryDirectory(prefix="dca-test-") as folder:
        run = Offline(
            folder=Path(folder), start=now, end=now, speed=1.0, replay=None, lead_s=0.0, extra=QUICK
        )
        with run:
            run.add_asset(SYMBOL, RULES)
            market = Market(run)
            market.price("20000")
            yield market


def _base_order(venue: str) -> None:
    with offline() as market:
        market.run.start_streamer()
        market.bought()
        cycle = market.first()
        check(cycle.status == "watching" and cycle.latest_order_id is None, f"the cycle is {cycle}")
        check(market.orders() == 1, "there is more than one order")
        market.holds()


def _safety_order(venue: str) -> None:
    with offline() as market:
        market.run.start_streamer()
        market.bought()
        before = market.first()
        market.fell()
        after = market.first()
        check(after.average_purchase_price < before.average_purchase_price, "the average did not fall")
        check(after.quantity > before.quantity, "nothing was added")
        market.holds()


def _take_profit(venue: str) -> None:
    with offline() as market:
        market.run.start_streamer()
        market.whole_cycle()
        done, following = market.cycles()
        check(done.completed_at is not None and done.sell_price is not None, "the cycle is not closed")
        check(following.status == "cooldown" and following.quantity == 0, f"the next cycle is {following}")
        check(Decimal(market.holds()["realised"]) > 0, "there is no profit")


def _cancellation(venue: str) -> None:
    with offline() as market:
        market.run.start_streamer()
        market.bought()
        market.run.control("quote", {"symbol": SYMBOL, "bid": "19000", "ask": "19500"})
        market.until("the safety order is booked", lambda: market.first().safety_orders == 1)
        market.holds()


def _killed(venue: str) -> None:
    for boundary in ("after_journal:1", "after_submit:1", "before_record:2"):
        with offline() as market:
            market.run.start_streamer(CRASH_AT=boundary)
            market.whole_cycle()
            check(market.deaths == [-9], f"it was not killed at {boundary}")
            market.holds()


def _exchange_gone(venue: str) -> None:
    with offline() as market:
        market.run.start_streamer()
        market.bought()
        market.run.restart_exchange()
        market.fell()
        market.rose()
        market.holds()


def _foreign_position(venue: str) -> None:
    with offline() as market:
        market.run.control("deposit", {"asset": SYMBOL, "amount": "0.5"})
        market.run.start_streamer()

        def told() -> bool:
            return bool(market.run.store.read(lambda tx: tx.messages()))

        market.at("20000", "a person is told", told)
        check(market.orders() == 0, "an order was placed beside a position that is not ours")


def _account(venue: str) -> None:
    with _broker(venue) as broker:
        account = broker.account()
        check(not account.blocked, "the account is blocked")
        check(account.spendable >= 0, f"the account can spend {account.spendable}")
        check(SYMBOL in broker.instruments(), f"{SYMBOL} is not listed")
        check(broker.latest_quote(SYMBOL).ask > 0, f"{SYMBOL} has no price")


def _order_and_cancel(venue: str) -> None:
    """A small buy far below the market: it rests, is listed, and is canceled."""
    with _broker(venue) as broker:
        instrument = broker.instruments()[SYMBOL]
        limit = instrument.floor_price((broker.latest_quote(SYMBOL).ask / 2).quantize(Decimal(1)))
        wish = Intent(
            key=f"dca-integration-{SystemClock().now():%Y%m%d%H%M%S%f}",
            symbol=SYMBOL,
            side=Side.BUY,
            purpose=Purpose.BASE,
            step=0,
            qty=instrument.floor_qty(Decimal(12) / limit),
            limit=limit,
            cycle_id=0,
            reason="integration test",
        )
        listed = try_out(wish, broker=broker, settled=_settled(broker, wish.key))
        check(listed, "the order was not among the open orders")


def _settled(broker: AlpacaBroker, key: str) -> Callable[[bool], bool]:
    """Whether the order came to be listed, or not, within the patience of a test."""
    clock = SystemClock()

    def wait(listed: bool) -> bool:
        limit = clock.monotonic() + 15
        while clock.monotonic() < limit:
            if any(order.key == key for order in broker.open_orders()) is listed:
                return True
        return False

    return wait


def _quotes(venue: str) -> None:
    """The market stream connects and a quote arrives."""
    if venue == "alpaca":
        _hears(wiring.market_feed(env.load()), lambda: None)
        return
    with offline() as market:
        _hears(wiring.market_feed(market.run.settings), lambda: market.price("20000"))


def _hears(feed: AlpacaMarketFeed, meanwhile: Callable[[], None]) -> None:
    async def listen() -> bool:
        heard = asyncio.Event()
        running = asyncio.ensure_future(
            feed.run([SYMBOL], lambda quotes: heard.set(), lambda link, why: None)
        )
        limit = asyncio.get_running_loop().time() + LISTEN_S
        while not heard.is_set() and not running.done() and asyncio.get_running_loop().time() < limit:
            await asyncio.to_thread(meanwhile)
            await asyncio.wait({running}, timeout=0.2)
        if running.done():
            running.result()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return heard.is_set()

    check(asyncio.run(listen()), f"no quote of {SYMBOL} within {LISTEN_S:g} s")


@contextmanager
def _broker(venue: str) -> Iterator[AlpacaBroker]:
    if venue == "alpaca":
        settings = env.load()
        if "paper" not in settings.base_url:
            raise DcaError("the integration test trades on paper accounts only")
        yield wiring.broker(settings)
        return
    with offline() as market:
        yield market.run.broker


SCENARIOS = [
    Scenario("account", "keys, account, instrument and price can be read", _account, alpaca=True),
    Scenario("order_and_cancel", "an order rests, is listed and is canceled", _order_and_cancel, alpaca=True),
    Scenario("quotes", "the market stream delivers a quote", _quotes, alpaca=True),
    Scenario("base_order", "a watching cycle buys", _base_order),
    Scenario("safety_order", "a fall buys more and lowers the average", _safety_order),
    Scenario("take_profit", "a rise sells everything; the next cycle rests", _take_profit),
    Scenario("wide_spread", "a safety order at a wide spread is booked once", _cancellation),
    Scenario("killed", "killed between two effects, the next process finishes the cycle", _killed),
    Scenario("exchange_gone", "the exchange dies and comes back; nothing is lost", _exchange_gone),
    Scenario("foreign_position", "coins of somebody else keep the base order away", _foreign_position),
]
