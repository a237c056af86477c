"""The named end-to-end scenarios of `integration_test.py`, one or more for each thing the bot does.

Each runs the real streamer and the real scripts as processes, and looks at the venue and at the
database. Those marked for Alpaca also run on a paper account there, and leave it as they found it.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from types import MappingProxyType

from dca import wiring
from dca.adapters.venues.alpaca import AlpacaMarketFeed
from dca.apps import ledger
from dca.apps.market import Unmet, waited
from dca.apps.stage import PATIENCE_S, RULES, SYMBOL, Local, Stage, account, local
from dca.domain.account import day_of
from dca.domain.cycle import Cycle, CycleStatus
from dca.domain.order import Intent, Purpose, Side, order_key
from dca.domain.record import Heartbeat
from dca.service.pipeline import try_out
from dca.strategy.dca import rest_s

Play = Callable[[Stage], None]
STALE_S = {"STALE_ORDER_S": "1"}
STOPPED = replace(
    RULES,
    max_safety_orders=1,
    stop_loss_percent=Decimal(5),
    stop_loss_timeout=1,
    stop_loss_cooldown_period=7200,
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """`play` raises DcaError when it fails. `extra` are settings of the local venue's processes.

    `alpaca`: it may run on a paper account there; `play` then gets an Account as its stage.
    """

    name: str
    words: str
    play: Callable[..., None]
    alpaca: bool = False
    rules: object = RULES
    extra: tuple[tuple[str, str], ...] = ()

    def run(self, venue: str, database_url: str | None = None) -> None:
        """It played once. Raises DcaError."""
        if venue == "alpaca":
            with account() as real:
                self.play(real)
            return
        with local(rules=self.rules, database_url=database_url, **dict(self.extra)) as stage:  # type: ignore[arg-type]
            self.play(stage)


def check(holds: bool, what: str) -> None:
    if not holds:
        raise Unmet(what)


Settings = Mapping[str, str]


def script(
    stage: Stage, name: str, *options: str, code: int = 0, settings: Settings = MappingProxyType({})
) -> str:
    """What the script printed. Raises Unmet when its exit code is not `code`."""
    ended = stage.world.script(name, *options, **settings)
    check(
        ended.returncode == code,
        f"{name} ended with {ended.returncode}, not {code}: {ended.stdout}{ended.stderr}",
    )
    return ended.stdout + ended.stderr


def cycle_of(stage: Stage) -> Cycle:
    """The asset's unfinished cycle."""
    found = stage.world.store.read(lambda tx: tx.situations())
    cycle = found[0].cycle
    if cycle is None:
        raise Unmet("the asset has no cycle")
    return cycle


def venue_orders(stage: Stage) -> list[str]:
    """Keys of the orders that are open at the venue."""
    return [order.key for order in stage.world.broker.open_orders()]


def edit(stage: Stage, **changes: object) -> Cycle:
    """The cycle as a person would change it by hand, past every rule."""
    now = stage.world.clock.now()
    cycle = replace(cycle_of(stage), updated_at=now, **changes)  # type: ignore[arg-type]
    return stage.world.store.write(lambda tx: tx.update_cycle(cycle))


def _database(stage: Stage) -> None:
    store = stage.world.store
    asset = store.read(lambda tx: tx.asset_by_symbol(SYMBOL))
    check(asset is not None and asset.rules == stage.rules, f"the asset is read as {asset}")
    check(stage.world.dca("db", "upgrade").returncode == 0, "the schema is not at its newest")


def _account(stage: Stage) -> None:
    broker = stage.world.broker
    seen = broker.account()
    check(not seen.blocked, "the account is blocked")
    check(seen.spendable >= 0, f"the account can spend {seen.spendable}")
    check(SYMBOL in broker.instruments(), f"{SYMBOL} is not listed")
    check(broker.latest_quote(SYMBOL).ask > 0, f"{SYMBOL} has no price")


def _wish(stage: Stage, key: str) -> Intent:
    """A small buy far below the market: it rests."""
    broker = stage.world.broker
    instrument = broker.instruments()[SYMBOL]
    limit = instrument.floor_price((broker.latest_quote(SYMBOL).ask / 2).quantize(Decimal(1)))
    return Intent(
        key=key,
        symbol=SYMBOL,
        side=Side.BUY,
        purpose=Purpose.BASE,
        step=0,
        qty=instrument.floor_qty(Decimal(12) / limit),
        limit=limit,
        cycle_id=0,
        reason="integration test",
    )


def _resting(stage: Stage, key: str, meanwhile: Callable[[], None]) -> None:
    """`meanwhile` is done while an order `key` rests at the venue; afterwards it is canceled."""

    def settled(listed: bool) -> bool:
        stage.until("the order is listed as it should be", lambda: (key in venue_orders(stage)) is listed)
        if listed:
            meanwhile()
        return listed

    try_out(_wish(stage, key), broker=stage.world.broker, settled=settled)


def _order_and_cancel(stage: Stage) -> None:
    _resting(stage, f"dca-integration-{stage.world.clock.now():%Y%m%d%H%M%S%f}", lambda: None)


def _quotes(stage: Stage) -> None:
    def move() -> None:
        if isinstance(stage, Local):
            stage.market.price("20000")

    _hears(wiring.market_feed(stage.world.settings), move)


def _hears(feed: AlpacaMarketFeed, meanwhile: Callable[[], None]) -> None:
    async def listen() -> bool:
        heard = asyncio.Event()
        running = asyncio.ensure_future(
            feed.run([SYMBOL], lambda quotes: heard.set(), lambda link, why: None)
        )
        limit = asyncio.get_running_loop().time() + PATIENCE_S
        while not heard.is_set() and not running.done() and asyncio.get_running_loop().time() < limit:
            await asyncio.to_thread(meanwhile)
            await asyncio.wait({running}, timeout=0.2)
        if running.done():
            running.result()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return heard.is_set()

    check(asyncio.run(listen()), f"no quote of {SYMBOL} within {PATIENCE_S:g} s")


def heartbeat(stage: Stage) -> Heartbeat | None:
    beats = stage.world.store.read(lambda tx: tx.heartbeats())
    return next((beat for beat in beats if beat.name == "streamer"), None)


def _connected(stage: Stage, links: str = "up") -> bool:
    beat = heartbeat(stage)
    return beat is not None and set(beat.detail["links"].values()) == {links}


def _streams(stage: Stage) -> None:
    paused = stage.world.dca("pause", "--reason", "integration test")
    check(paused.returncode == 0, f"trading cannot be paused: {paused.stderr}")
    stage.world.start_streamer()
    stage.until("both streams are up", lambda: _connected(stage))
    if isinstance(stage, Local):
        stage.market.run.control("drop", {})
        stage.until("it connected again", lambda: _reconnected(stage))
    check(stage.world.stop_streamer() == 0, "the streamer did not stop cleanly")
    check(venue_orders(stage) == [], "a paused bot has ordered")


def _reconnected(stage: Local) -> bool:
    log = (stage.world.folder / "main.log").read_text()
    return log.count('"trades_connected"') + log.count('"caught_up"') >= 2 and _connected(stage)


def _base_order(stage: Stage) -> None:
    stage.world.start_streamer()
    stage.bought()
    stage.until("the cycle watches again", lambda: cycle_of(stage).status is CycleStatus.WATCHING)
    cycle = cycle_of(stage)
    check(cycle.latest_order_id is None and cycle.safety_orders == 0, f"the cycle is {cycle}")
    check(cycle.average_purchase_price > 0 and cycle.last_order_fill_price is not None, f"it is {cycle}")
    placed = [order.intent.purpose for order in stage.world.store.read(lambda tx: tx.orders())]
    check(placed == [Purpose.BASE], f"the orders are {placed}")
    if isinstance(stage, Local):
        check(stage.market.orders() == 1, "there is more than one order")
        stage.market.holds()


def _foreign_position(stage: Local) -> None:
    market = stage.market
    market.run.control("deposit", {"asset": SYMBOL, "amount": "0.5"})
    market.run.start_streamer()
    market.at("20000", "a person is told", lambda: _told(stage, "position_exists"))
    check(market.orders() == 0, "an order was placed beside a position that is not ours")


def _told(stage: Stage, name: str) -> bool:
    """Whether such a thing was written down for a person, sent or not."""
    return any(event.name == name for event in stage.world.store.read(lambda tx: tx.events(limit=1000)))


def _safety_order(stage: Local) -> None:
    market = stage.market
    market.run.start_streamer()
    market.bought()
    before = market.first()
    market.fell()
    after = market.first()
    check(after.average_purchase_price < before.average_purchase_price, "the average did not fall")
    check(after.quantity > before.quantity, "nothing was added")
    market.holds()


def _take_profit(stage: Local) -> None:
    market = stage.market
    market.run.start_streamer()
    market.whole_cycle()
    done, following = market.cycles()
    check(done.completed_at is not None and done.sell_price is not None, "the cycle is not closed")
    check(following.status == "cooldown" and following.quantity == 0, f"the next cycle is {following}")
    asset = market.run.store.read(lambda tx: tx.asset_by_symbol(SYMBOL))
    check(asset is not None and asset.last_sell_price == done.sell_price, "last_sell_price is not stored")
    check(Decimal(market.holds()["realised"]) > 0, "there is no profit")


def _stop_loss(stage: Local) -> None:
    market, store = stage.market, stage.world.store
    market.run.start_streamer()
    market.bought()
    market.fell()
    market.at("18600", "the stop has sold", lambda: market.first().finished)
    done, fresh = market.cycles()
    lasted = (done.completed_at or done.created_at) - (done.stop_since or done.created_at)
    check(lasted >= timedelta(seconds=1), f"it sold after {lasted}")
    orders = store.read(lambda tx: tx.orders())
    sales = [order.intent.purpose for order in orders if order.intent.side is Side.SELL]
    check(sales == [Purpose.STOP_LOSS], f"the sales are {sales}")
    check(Decimal(market.holds()["realised"]) < 0, "there is no loss")
    asset = store.read(lambda tx: tx.asset_by_symbol(SYMBOL))
    check(asset is not None and asset.stopped_out, "the asset does not know of its stop")
    check(fresh.status is CycleStatus.COOLDOWN, f"the next cycle is {fresh}")
    check(asset is not None and rest_s(asset) == 7200, "it rests no longer than after a take profit")


def _held(stage: Local, side: str, on: bool = True) -> None:
    """The exchange accepts orders of that side but executes none, or does again."""
    stage.market.run.control("hold", {"symbol": SYMBOL, "side": side, "on": on})


def _live(stage: Local, side: str) -> list[str]:
    """Our orders of that side that the venue is known to have open."""
    orders = stage.world.store.read(lambda tx: tx.live_orders())
    return [order.key for order in orders if order.intent.side == side and order.venue_id is not None]


def _buy_rests(stage: Local) -> str:
    """The key of a base order that rests at the exchange, unfilled."""
    _held(stage, "buy")
    stage.market.run.start_streamer()
    stage.market.at("20000", "the base order rests", lambda: bool(_live(stage, "buy")))
    return _live(stage, "buy")[0]


def _partial_fills(stage: Local) -> None:
    key, market = _buy_rests(stage), stage.market
    order = market.run.store.read(lambda tx: tx.order(key))
    assert order is not None
    third = (order.intent.qty / 3).quantize(Decimal("1e-9"))
    for number in (1, 2):
        market.run.control("fill", {"order_id": key, "qty": str(third), "price": "20003"})
        market.until(f"fill {number} is booked", lambda: _fills(stage) == number)  # noqa: B023
        check(cycle_of(stage).status is CycleStatus.BUYING, "a cycle with a working buy is not buying")
    market.run.control("cancel", {"order_id": key})
    market.until("the rest is canceled", lambda: cycle_of(stage).status is CycleStatus.WATCHING)
    check(Decimal("0") < 2 * third - cycle_of(stage).quantity < third / 100, "the coins are not the fills'")
    _held(stage, "buy", on=False)
    market.rose()
    market.holds()


def _fills(stage: Stage) -> int:
    return sum(fill.qty > 0 for fill in stage.world.store.read(lambda tx: tx.fills()))


def _cancellation(stage: Local) -> None:
    key, market = _buy_rests(stage), stage.market
    check(cycle_of(stage).status is CycleStatus.BUYING, "the cycle is not buying")
    market.run.kill_streamer()
    market.run.control("cancel", {"order_id": key})
    market.run.start_streamer(STALE_ORDER_S="3600")
    market.until("the cancellation is booked", lambda: not _journaled_live(stage, key))
    canceled = market.run.store.read(lambda tx: tx.order(key))
    check(canceled is not None and canceled.status == "canceled", f"the order is {canceled}")
    _held(stage, "buy", on=False)
    market.bought()
    market.holds()


def _journaled_live(stage: Stage, key: str) -> bool:
    return any(order.key == key for order in stage.world.store.read(lambda tx: tx.live_orders()))


def _stale(stage: Local) -> None:
    key, market = _buy_rests(stage), stage.market
    market.run.kill_streamer()
    planned = _until_planned(stage, "order_manager", "buy_again", key)
    check(key in venue_orders(stage), f"a dry run has canceled: {planned}")
    script(stage, "order_manager")
    stage.until("the stale buy is canceled at the venue", lambda: key not in venue_orders(stage))
    stage.until("the journal knows", lambda: _after_pass(stage, key))
    check(cycle_of(stage).status is CycleStatus.WATCHING, "the cycle does not watch again")
    check(cycle_of(stage).latest_order_id is None, "it still names the order")
    _held(stage, "buy", on=False)
    market.holds()


def _until_planned(
    stage: Stage, name: str, kind: str, subject: str, settings: Settings = MappingProxyType({})
) -> str:
    """The plan in which a caretaker's dry run wants `kind` done to `subject`: once it is old enough."""
    plans: list[str] = []

    def planned() -> bool:
        report = json.loads(script(stage, name, "--dry-run", "--json", settings=settings))
        plans.append(str(report["repairs"]))
        return any(one["kind"].startswith(kind) and subject in one["subject"] for one in report["repairs"])

    waited(stage.world.clock, f"{name} plans to {kind} {subject}", planned, PATIENCE_S)
    return plans[-1]


def _after_pass(stage: Stage, key: str) -> bool:
    script(stage, "order_manager")
    return not _journaled_live(stage, key)


def _orphan(stage: Stage) -> None:
    """An order under a key of ours that no cycle names is canceled; a person's own is left alone."""
    ours = order_key(stage.world.store.install, 999_999_999, Purpose.BASE, 0, 1)
    theirs = f"by-hand-{stage.world.clock.now():%Y%m%d%H%M%S%f}"

    def sweep() -> None:
        _until_planned(stage, "order_manager", "cancel", ours, STALE_S)
        script(stage, "order_manager", settings=STALE_S)
        stage.until("the orphan is canceled", lambda: ours not in venue_orders(stage))
        check(theirs in venue_orders(stage), "a person's own order was canceled")

    _resting(stage, theirs, lambda: _resting(stage, ours, sweep))


def _whole_account(stage: Local) -> None:
    """With ORPHAN_SCOPE=all an order that a person placed is canceled too."""
    key = f"by-hand-{stage.world.clock.now():%Y%m%d%H%M%S%f}"
    everything = {**STALE_S, "ORPHAN_SCOPE": "all"}

    def sweep() -> None:
        def gone() -> bool:
            script(stage, "order_manager", settings=everything)
            return key not in venue_orders(stage)

        stage.until("the order is canceled", gone)

    _resting(stage, key, sweep)


def _stuck_sell(stage: Local) -> None:
    market = stage.market
    market.run.start_streamer()
    market.bought()
    _held(stage, "sell")
    market.at("21000", "the sale rests", lambda: bool(_live(stage, "sell")))
    first = _live(stage, "sell")[0]
    market.run.kill_streamer()

    def again() -> bool:
        market.price("21000")
        script(stage, "order_manager", settings={"STUCK_SELL_S": "1"})
        return bool(set(_live(stage, "sell")) - {first})

    market.until("it is sold again", again)
    _held(stage, "sell", on=False)
    market.price("21000")
    market.run.start_streamer()
    market.rose()
    market.holds()


def _cooldown(stage: Stage) -> None:
    store, now = stage.world.store, stage.world.clock.now()
    done = edit(stage, status=CycleStatus.COMPLETE, completed_at=now)
    store.write(lambda tx: tx.insert_cycle(done.asset_id, CycleStatus.COOLDOWN, at=now))
    script(stage, "cooldown_manager")
    check(cycle_of(stage).status is CycleStatus.COOLDOWN, "it woke too early")
    period = timedelta(seconds=stage.rules.cooldown_period)
    store.write(lambda tx: tx.update_cycle(replace(done, completed_at=now - period)))
    script(stage, "cooldown_manager")
    check(cycle_of(stage).status is CycleStatus.WATCHING, "the cooldown is over, but it rests")


def _stuck_buying(stage: Stage) -> None:
    edit(stage, status=CycleStatus.BUYING, latest_order_id="00000000-0000-0000-0000-000000000000")
    script(stage, "consistency_checker")
    check(cycle_of(stage).status is CycleStatus.WATCHING, "the cycle still waits for an order")
    check(cycle_of(stage).latest_order_id is None, "it still names the order")


def _position_gone(stage: Local) -> None:
    market = stage.market
    market.run.start_streamer()
    market.bought()
    market.run.stop_streamer()
    held = market.run.broker.positions()[SYMBOL].qty
    market.run.control("deposit", {"asset": SYMBOL, "amount": str(-held)})

    def ended() -> bool:
        script(stage, "consistency_checker")
        return market.first().status is CycleStatus.ERROR

    market.until("the cycle is given up", ended)
    check(market.first().completed_at is not None, "completed_at is not set")
    fresh = cycle_of(stage)
    check(fresh.status is CycleStatus.WATCHING and fresh.quantity == 0, f"the next cycle is {fresh}")


def _missed_fill(stage: Local) -> None:
    key, market = _buy_rests(stage), stage.market
    market.run.kill_streamer()
    _held(stage, "buy", on=False)
    market.run.control("fill", {"order_id": key, "price": "20003"})

    def booked() -> bool:
        script(stage, "consistency_checker")
        return cycle_of(stage).quantity > 0

    market.until("the missed fill is booked", booked)
    check(cycle_of(stage).status is CycleStatus.WATCHING, "the cycle still waits for its order")
    market.holds()


def _unexplained(stage: Local) -> None:
    market = stage.market
    market.run.start_streamer()
    market.bought()
    market.run.stop_streamer()
    market.run.control("deposit", {"asset": SYMBOL, "amount": "-0.002"})

    def halted() -> bool:
        script(stage, "consistency_checker")
        asset = market.run.store.read(lambda tx: tx.asset_by_symbol(SYMBOL))
        return asset is not None and asset.halted_reason is not None

    market.until("the asset is halted", halted)
    refused = market.run.dca("asset", "resume", SYMBOL)
    check(refused.returncode == 78 and "adopt" in refused.stderr, f"it was resumed: {refused.stdout}")
    adopted = market.run.dca("asset", "adopt", SYMBOL, "--yes")
    check(adopted.returncode == 0, f"it was not adopted: {adopted.stderr}")
    difference = abs(cycle_of(stage).quantity - market.run.broker.positions()[SYMBOL].qty)
    check(difference < Decimal("1e-8"), f"the books still differ by {difference}")
    check("nothing to repair" in script(stage, "consistency_checker", "--dry-run"), "drift is left")


def _statement(stage: Local) -> None:
    """Trades and a deposit are explained to the cent, a silent change is not."""
    market, began = stage.market, stage.world.clock.now()
    script(stage, "bookkeeper")
    market.run.start_streamer()
    market.bought()
    market.rose()
    check(market.run.stop_streamer() == 0, "the streamer did not stop cleanly")
    market.run.control("deposit", {"amount": "100"})
    shown: dict[str, str] = {}

    def counted() -> bool:
        shown.update(_counted(stage, began))
        return shown["transfers"] == "100.00"

    stage.until("all is counted", counted)
    check(shown["unexplained"] == "0.00" and shown["sells"] != "0.00", f"it does not add up: {shown}")
    market.run.control("deposit", {"amount": "-5", "listed": False})
    check(_counted(stage, began)["unexplained"] == "-5.00", "it adds up")
    check(_told(stage, "statement_unexplained"), "nobody is told that money is gone")


def _counted(stage: Stage, began: datetime) -> dict[str, str]:
    """The lines of USD in the statement, after another pass of the bookkeeper."""
    script(stage, "bookkeeper")
    midnight = day_of(began)[0]
    found = ledger.report(stage.world.store, midnight, midnight + timedelta(days=2))["statement"]
    cash: dict[str, str] = dict.fromkeys(("transfers", "unexplained"), "") if found is None else found["cash"]
    return cash


def _no_cycle(stage: Stage) -> None:
    edit(stage, status=CycleStatus.ERROR, completed_at=stage.world.clock.now() - timedelta(days=1))
    script(stage, "asset_caretaker")
    check(cycle_of(stage).status is CycleStatus.WATCHING, "the new cycle does not watch")


def _watchdog(stage: Stage) -> None:
    world = stage.world
    paused = world.dca("pause", "--reason", "integration test")
    check(paused.returncode == 0, f"trading cannot be paused: {paused.stderr}")
    world.start_streamer()
    stage.until("the streamer lives", lambda: _connected(stage))
    first = heartbeat(stage)
    world.kill_streamer()
    check(world.dca("maintenance", "on").returncode == 0, "maintenance cannot be switched on")
    script(stage, "watchdog")
    check(heartbeat(stage) == first, "the watchdog acted in maintenance")
    check(world.dca("maintenance", "off").returncode == 0, "maintenance cannot be switched off")
    script(stage, "watchdog")
    stage.until("it is back", lambda: _another(stage, first) and _connected(stage))
    check(_told(stage, "watchdog_restart"), "nobody is told of the restart")
    stopped = world.dca("stop")
    check(stopped.returncode == 0, f"it cannot be stopped: {stopped.stderr}")


def _another(stage: Stage, first: Heartbeat | None) -> bool:
    now = heartbeat(stage)
    return now is not None and (first is None or now.detail["identity"] != first.detail["identity"])


def _settings(stage: Stage) -> None:
    """A wrong setting is one clear line and exit code 78, and what is logged holds no secret."""
    said = script(
        stage, "order_manager", code=78, settings={"APCA_API_SECRET_KEY": "", "STALE_ORDER_S": "soon"}
    )
    check("APCA_API_SECRET_KEY is missing" in said and "STALE_ORDER_S" in said, f"it said: {said}")
    said = script(
        stage, "order_manager", code=78, settings={"APCA_API_BASE_URL": "https://api.alpaca.markets"}
    )
    check("not a paper address" in said, f"it said: {said}")
    script(stage, "order_manager")
    for path in stage.world.folder.glob("*.log"):
        lines = path.read_text().splitlines()
        check(all(json.loads(line)["event"] for line in lines), f"{path.name} is not JSON lines")
        secret = stage.world.settings.api_secret_key
        check(not any(secret in line for line in lines), f"{path.name} holds the secret key")


def _killed(stage: Local) -> None:
    market = stage.market
    market.run.start_streamer(CRASH_AT="after_submit:1")
    market.bought()
    market.run.kill_streamer()
    market.run.start_streamer(CRASH_AT="after_pipeline.place:1")
    market.fell()
    market.run.kill_streamer()
    market.run.start_streamer(CRASH_AT="before_recorder.record:2")
    market.rose()
    check(market.deaths == [-9] * 3, f"it was not killed at each boundary: {market.deaths}")
    market.holds()


def _exchange_gone(stage: Local) -> None:
    market = stage.market
    market.run.start_streamer()
    market.bought()
    market.run.restart_exchange()
    market.fell()
    market.rose()
    market.holds()


def _together(stage: Local) -> None:
    """A whole cycle while every caretaker runs beside the streamer: nothing is repaired wrongly."""
    market = stage.market
    caretakers = ("order_manager", "consistency_checker", "cooldown_manager", "asset_caretaker", "watchdog")
    market.run.start_streamer()
    market.bought()
    for name in caretakers[:2]:
        script(stage, name)
    market.fell()
    for name in caretakers[2:]:
        script(stage, name)
    market.rose()
    for name in caretakers[:2]:
        script(stage, name)
    market.holds()
    events = market.run.store.read(lambda tx: tx.events(limit=1000))
    wrong = [event.name for event in events if event.name in ("asset_halted", "error_cycle")]
    check(not wrong, f"what was right was repaired: {wrong}")


def _operator(stage: Stage) -> None:
    """A person adds funds, then closes the cycle by hand."""
    world = stage.world
    world.start_streamer()
    stage.bought()
    before = world.owned()
    added = world.dca("cycle", "add-funds", SYMBOL, "12", "--yes")
    check(added.returncode == 0, f"funds were not added: {added.stdout}{added.stderr}")
    stage.until("the added funds have bought", lambda: world.owned() > before)
    check(cycle_of(stage).safety_orders == 0, "added funds used a safety order")
    closed = world.dca("cycle", "close", SYMBOL, "--yes")
    check(closed.returncode == 0, f"the cycle was not closed: {closed.stdout}{closed.stderr}")
    stage.until("everything is sold", lambda: world.owned() == 0)
    check(cycle_of(stage).status is CycleStatus.COOLDOWN, "the next cycle does not rest")
    if isinstance(stage, Local):
        stage.market.holds()


def _doctor(stage: Stage) -> None:
    report = stage.world.dca("doctor", "--json")
    check(report.returncode in (0, 1), f"the doctor failed: {report.stderr}")
    findings = json.loads(report.stdout)["findings"]
    # Nobody runs the caretakers here, and the doctor says so.
    failed = [one for one in findings if one["level"] == "fail" and one["subject"] != "caretakers"]
    check(not failed, f"the doctor complains: {failed}")


SCENARIOS = [
    Scenario("database", "the schema is there, an asset is read as it was stored", _database, alpaca=True),
    Scenario("account", "keys, account, instrument and price can be read", _account, alpaca=True),
    Scenario("order_and_cancel", "an order rests, is listed and is canceled", _order_and_cancel, alpaca=True),
    Scenario("quotes", "the market stream delivers a quote", _quotes, alpaca=True),
    Scenario("streams", "both streams connect, come back, and stop cleanly", _streams, alpaca=True),
    Scenario("base_order", "a watching cycle buys, and its fill is booked", _base_order, alpaca=True),
    Scenario("foreign_position", "coins of somebody else keep the base order away", _foreign_position),
    Scenario("safety_order", "a fall buys more and lowers the average", _safety_order),
    Scenario("take_profit", "a rise sells everything; the next cycle rests", _take_profit),
    Scenario(
        "stop_loss",
        "a fall through the stop sells everything, once it has lasted",
        _stop_loss,
        rules=STOPPED,
    ),
    Scenario("partial_fills", "each part of a fill is booked as it comes", _partial_fills),
    Scenario("cancellation", "a canceled buy makes the cycle watch again", _cancellation),
    Scenario(
        "stale", "order_manager cancels a buy that rests too long", _stale, extra=tuple(STALE_S.items())
    ),
    Scenario("orphan", "order_manager cancels an orphan and no one else's order", _orphan, alpaca=True),
    Scenario("whole_account", "with ORPHAN_SCOPE=all it cancels every orphan", _whole_account),
    Scenario("stuck_sell", "order_manager sells again what is stuck", _stuck_sell),
    Scenario("cooldown", "cooldown_manager wakes a cycle in time, not before", _cooldown, alpaca=True),
    Scenario("stuck_buying", "consistency_checker frees a cycle without order", _stuck_buying, alpaca=True),
    Scenario("position_gone", "consistency_checker ends a cycle without coins", _position_gone),
    Scenario("missed_fill", "consistency_checker books a fill that was missed", _missed_fill),
    Scenario("unexplained", "a difference halts the asset until a person adopts it", _unexplained),
    Scenario("statement", "every cent of the account is explained, and what is not is told", _statement),
    Scenario("no_cycle", "asset_caretaker gives an asset a cycle", _no_cycle, alpaca=True),
    Scenario(
        "watchdog", "watchdog brings a killed streamer back, not in maintenance", _watchdog, alpaca=True
    ),
    Scenario("settings", "wrong settings are named; logs hold no secret", _settings, alpaca=True),
    Scenario("doctor", "the doctor finds nothing wrong", _doctor, alpaca=True),
    Scenario("operator", "funds are added and the cycle is closed by hand", _operator, alpaca=True),
    Scenario("killed", "killed between two effects, the next process finishes the cycle", _killed),
    Scenario("exchange_gone", "the exchange dies and comes back; nothing is lost", _exchange_gone),
    Scenario("together", "all caretakers beside the streamer disturb nothing", _together),
]
