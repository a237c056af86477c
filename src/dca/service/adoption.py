"""What the books do not know, put into them: a person's own trades on his word, and orders of ours
that a restored database has forgotten."""

from dataclasses import dataclass, replace
from decimal import Decimal

from dca.domain.asset import Asset
from dca.domain.cycle import Cycle, CycleStatus
from dca.domain.errors import ConfigError, StaleWrite
from dca.domain.folding import DUST_USD
from dca.domain.market import compact
from dca.domain.money import ZERO, plain
from dca.domain.order import (
    KEY,
    Intent,
    Order,
    OrderStatus,
    Purpose,
    Side,
    VenueOrder,
    last_attempt,
    order_key,
)
from dca.domain.record import Event
from dca.ports import Broker, Clock, CycleRecord, Situation, Store, Tx
from dca.service import cycles
from dca.service.assets import change, named
from dca.service.recorder import Recorder
from dca.strategy.dca import Wake, shown

ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class _Books:
    """An asset, its unfinished cycle with the orders of it, and what all its cycles own."""

    asset: Asset
    cycle: Cycle | None
    orders: list[Order]
    owned: Decimal


def _books(tx: Tx, symbol: str) -> _Books:
    asset = named(tx, symbol)
    situation = tx.situation(asset.id)
    cycle = None if situation is None else situation.cycle
    return _Books(asset, cycle, [] if cycle is None else tx.orders_of(cycle.id), tx.owned(asset.id))


def adopt(
    store: Store, clock: Clock, recorder: Recorder, broker: Broker, symbol: str, price: Decimal | None = None
) -> str:
    """What the venue holds of `symbol` is the cycle's own, and a halt is lifted; what was done, in words.

    The difference counts as bought or sold at `price`, or at the venue's present one. Raises
    ConfigError when there is nothing to adopt or an order is live, Unavailable.
    """
    for _ in range(ATTEMPTS):
        books = store.read(lambda tx: _books(tx, symbol))
        cycle = _resting(books, symbol)
        difference = broker.holding(symbol).qty - books.owned
        order = _adopted(store.install, clock, broker, books, cycle, difference, price)
        try:
            recorder.adopt(books.asset, cycle, order)
        except StaleWrite:
            continue
        return f"{symbol}: {order.intent.reason}"
    raise StaleWrite(f"{symbol} trades; halt it first: dca halt {symbol}")


def _resting(books: _Books, symbol: str) -> Cycle:
    """The cycle, with no order at work. Raises ConfigError."""
    if books.cycle is None:
        raise ConfigError(f"{symbol} has no cycle; the asset_caretaker gives it one while it is enabled")
    if any(order.live for order in books.orders):
        raise ConfigError(
            f"an order of {symbol} is at work; wait for its end, or: dca cycle cancel-orders {symbol}"
        )
    return books.cycle


def _adopted(
    install: str,
    clock: Clock,
    broker: Broker,
    books: _Books,
    cycle: Cycle,
    difference: Decimal,
    price: Decimal | None,
) -> Order:
    """The order that stands for `difference`, over already. Raises ConfigError."""
    symbol, surplus = books.asset.asset_symbol, difference > 0
    if price is None:
        quote = broker.latest_quote(symbol)
        price = quote.ask if surplus else quote.bid
    if price <= 0:
        raise ConfigError(f"{plain(price)} is no price")
    if abs(difference) * price < DUST_USD:
        raise ConfigError(
            f"{symbol}: books and venue agree to less than a dollar, there is nothing to adopt; "
            f"if it is halted: dca asset resume {symbol}"
        )
    qty = abs(difference)
    traded = "bought" if surplus else "sold"
    tried = last_attempt(books.orders, Purpose.ADOPTED, 0)
    intent = Intent(
        key=order_key(install, cycle.id, Purpose.ADOPTED, 0, tried + 1),
        symbol=symbol,
        side=Side.BUY if surplus else Side.SELL,
        purpose=Purpose.ADOPTED,
        step=0,
        qty=qty,
        limit=price,
        cycle_id=cycle.id,
        reason=f"{plain(qty)} {traded} past the bot at {shown(price)} adopted by the operator",
    )
    now = clock.now()
    return Order(
        intent=intent,
        status=OrderStatus.FILLED,
        created_at=now,
        updated_at=now,
        filled_qty=qty,
        filled_avg_price=price,
    )


def resume(store: Store, clock: Clock, broker: Broker, symbol: str) -> str:
    """The asset is not halted any more; what was done, in words.

    Coins at the venue beyond ours are a person's own from now on: they are neither sold nor in the
    way. Raises ConfigError when coins of ours are missing there, or when it traded meanwhile,
    Unavailable.
    """
    books = store.read(lambda tx: _books(tx, symbol))
    accepted = books.asset.accepted_difference
    if not any(order.live for order in books.orders):
        accepted = _surplus(broker, books, symbol)
    # What we bought between the looks at the books and at the venue would pass for somebody else's.
    traded = store.read(lambda tx: _books(tx, symbol)) != books

    def resumed(asset: Asset) -> Asset:
        if traded or asset.version != books.asset.version:
            raise ConfigError(f"{symbol} was changed meanwhile; look again: dca status")
        return replace(asset, halted_reason=None, accepted_difference=accepted)

    words = f"{plain(accepted)} at the venue are not the bot's" if accepted else "books and venue agree"
    change(store, clock, symbol, resumed, f"resumed by the operator: {words}", name="asset_resumed")
    return f"{symbol}: resumed; {words}"


def _surplus(broker: Broker, books: _Books, symbol: str) -> Decimal:
    """Coins at the venue beyond ours; zero where they are only dust. Raises ConfigError."""
    difference = broker.holding(symbol).qty - books.owned
    if not difference:
        return ZERO
    quote = broker.latest_quote(symbol)
    if abs(difference) * quote.bid < DUST_USD:
        return ZERO
    if difference < 0:
        raise ConfigError(
            f"{plain(-difference)} {symbol} that the books own are missing at the venue, and a sale of them "
            f"would fail; if they were sold or moved: dca asset adopt {symbol} --price PRICE"
        )
    return difference


def next_keys(install: str, record: CycleRecord) -> list[str]:
    """The keys that the cycle's next orders will have, buys first: where the venue knows one of them
    already, this database was restored from a backup."""
    if record.cycle.quantity > 0:
        step = record.cycle.safety_orders + 1
        wishes = [
            (Purpose.SAFETY, step),
            (Purpose.ADD_FUNDS, 0),
            (Purpose.TAKE_PROFIT, 0),
            (Purpose.CLOSE, 0),
            (Purpose.STOP_LOSS, 0),
        ]
    else:
        wishes = [(Purpose.BASE, 0), (Purpose.ADD_FUNDS, 0)]
    keys = []
    for purpose, step in wishes:
        tried = last_attempt(record.orders, purpose, step)
        keys.append(order_key(install, record.cycle.id, purpose, step, tried + 1))
    return keys


def forgotten(store: Store, clock: Clock, seen: VenueOrder) -> bool:
    """Whether the journal has the order now, because the cycle that its key names still goes on."""
    match = KEY.match(seen.key)
    if match is None or match["install"] != store.install:
        return False
    number = int(match["cycle"])

    def read(tx: Tx) -> Situation | None:
        cycle = tx.cycle(number)
        return None if cycle is None else tx.situation(cycle.asset_id)

    found = store.read(read)
    if found is None or found.cycle is None or found.cycle.id != number:
        return False
    if compact(found.asset.asset_symbol) != compact(seen.symbol):
        return False
    return restore(store, clock, found.asset, found.cycle, seen)


def restore(store: Store, clock: Clock, asset: Asset, cycle: Cycle, seen: VenueOrder) -> bool:
    """The venue's order under a key of the cycle is in the journal, in flight until it is recorded.

    False when somebody was faster, or the cycle has a live order.
    """
    match = KEY.match(seen.key)
    assert match is not None
    if cycle.status is CycleStatus.COOLDOWN:
        cycles.change(store, clock, cycle, Wake(f"the venue knows its order {seen.key}"))
    now = clock.now()
    intent = Intent(
        key=seen.key,
        symbol=asset.asset_symbol,
        side=seen.side,
        purpose=Purpose(match["purpose"]),
        step=int(match["step"]),
        qty=seen.qty if seen.qty is not None else seen.filled_qty,
        limit=seen.limit,
        cycle_id=cycle.id,
        reason="found at the venue, where the database had forgotten it",
    )
    order = Order(
        intent=intent,
        status=OrderStatus.IN_FLIGHT,
        created_at=min(seen.submitted_at, now),
        updated_at=now,
        unclear=True,
    )

    def write(tx: Tx) -> bool:
        inserted = tx.insert_order(order)
        if inserted:
            tx.add_event(
                Event(
                    name="order_restored",
                    at=now,
                    reason=intent.reason,
                    asset_id=asset.id,
                    cycle_id=cycle.id,
                    order_key=seen.key,
                    data={"venue_id": seen.venue_id, "venue_status": str(seen.status)},
                )
            )
        return inserted

    return store.write(write)
