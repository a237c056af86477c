"""Assets as a person keeps them: checked as a whole before anything is stored."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

from dca.domain.asset import Asset, Rules
from dca.domain.cycle import CycleStatus, without_stop
from dca.domain.errors import ConfigError, StaleWrite
from dca.domain.market import symbol_of
from dca.domain.record import Event
from dca.ports import Broker, Clock, Situation, Store, T, Tx
from dca.service import cycles
from dca.strategy.dca import shown
from dca.strategy.exits import stop_price
from dca.strategy.ladder import complaints, instrument_complaints

ATTEMPTS = 20


def check(symbol: str, rules: Rules, taker_fee: Decimal, venue: Broker | None) -> str:
    """The symbol in the venue's form. Raises ConfigError with every complaint at once.

    Without a `venue` only what needs none is checked. Raises Unavailable when it cannot be asked.
    """
    try:
        symbol = symbol_of(symbol)
    except ValueError as error:
        raise ConfigError(f"{error}; write it as BTC/USD") from error
    found = complaints(rules, taker_fee)
    if not found and venue is not None:
        instrument = venue.instruments().get(symbol)
        if instrument is None:
            found = [f"the venue does not list {symbol}"]
        else:
            found = instrument_complaints(rules, instrument, venue.latest_quote(symbol).ask)
    if found:
        raise ConfigError(f"{symbol} not saved: " + "; ".join(found))
    return symbol


def check_stop(symbol: str, rules: Rules, situation: Situation, venue: Broker) -> None:
    """Other rules for the stop may be stored: they sell nothing at this moment.

    Raises ConfigError when they would, Unavailable when the price cannot be asked.
    """
    cycle = situation.cycle
    if cycle is None or _stop_rules(rules) == _stop_rules(situation.asset.rules):
        return
    stop = stop_price(without_stop(cycle), rules)
    if stop is None:
        return
    bid = venue.latest_quote(symbol).bid
    if bid <= stop:
        raise ConfigError(
            f"{symbol} not saved: the stop would stand at {shown(stop)} and sell everything at once, because "
            f"the bid is {shown(bid)}; to sell now: dca cycle close {symbol}"
        )


def add(store: Store, clock: Clock, symbol: str, rules: Rules, *, is_enabled: bool = True) -> Asset:
    """The asset and its first cycle are stored. Raises ConfigError when it is there already."""
    now = clock.now()

    def write(tx: Tx) -> Asset | None:
        asset = tx.insert_asset(symbol, rules, is_enabled=is_enabled, at=now)
        if asset is not None:
            tx.insert_cycle(asset.id, CycleStatus.WATCHING, at=now)
            tx.add_event(Event(name="asset_added", at=now, reason=f"{symbol} added", asset_id=asset.id))
        return asset

    added = store.write(write)
    if added is None:
        raise ConfigError(f"{symbol} is there already; change it with: dca asset set {symbol} ...")
    return added


def change(
    store: Store,
    clock: Clock,
    symbol: str,
    edit: Callable[[Asset], Asset],
    why: str,
    *,
    name: str = "asset_changed",
) -> Asset:
    """The asset is what `edit` makes it, and an event `name` says why.

    Raises ConfigError when there is none of that symbol.
    """

    def write(tx: Tx) -> Asset:
        asset = named(tx, symbol)
        now = clock.now()
        stored = tx.update_asset(replace(edit(asset), updated_at=now))
        if _stop_rules(stored.rules) != _stop_rules(asset.rules):
            situation = tx.situation(asset.id)
            if situation is not None and situation.cycle is not None:
                cycles.reset_stop(tx, situation.cycle, clock)
        tx.add_event(Event(name=name, at=now, reason=why, asset_id=asset.id))
        return stored

    return written(store, write)


def _stop_rules(rules: Rules) -> tuple[object, ...]:
    """What decides where a stop stands: it starts anew when a person changes it."""
    return (rules.stop_loss_percent, rules.stop_loss_trailing, rules.break_even_percent)


def remove(store: Store, clock: Clock, symbol: str) -> bool:
    """The asset is gone. False: it has traded, so it is disabled and stays in the books.

    Raises ConfigError while it holds coins or has a live order, or is not there.
    """

    def write(tx: Tx) -> bool:
        asset = named(tx, symbol)
        situation = tx.situation(asset.id)
        cycle = None if situation is None else situation.cycle
        if cycle is not None and (cycle.quantity > 0 or any(one.live for one in tx.orders_of(cycle.id))):
            raise ConfigError(
                f"{symbol} holds coins or has a live order; first: dca pause {symbol}, then "
                f"dca cycle close {symbol}"
            )
        now = clock.now()
        if tx.remove_asset(asset):
            tx.add_event(Event(name="asset_removed", at=now, reason=f"{symbol} removed", asset_id=asset.id))
            return True
        if asset.is_enabled:
            tx.update_asset(replace(asset, is_enabled=False, updated_at=now))
            why = f"{symbol} is not traded any more"
            tx.add_event(Event(name="asset_changed", at=now, reason=why, asset_id=asset.id))
        return False

    return written(store, write)


def named(tx: Tx, symbol: str) -> Asset:
    """The asset of that symbol. Raises ConfigError when there is none."""
    asset = tx.asset_by_symbol(symbol)
    if asset is None:
        raise ConfigError(f"there is no asset {symbol}; see: dca asset list")
    return asset


def written(store: Store, work: Callable[[Tx], T]) -> T:
    """What `work` returns, done again where another process changed the same rows meanwhile.

    For what a person says of a row whatever it holds. Raises StaleWrite when that never ends.
    """
    for _ in range(ATTEMPTS):
        try:
            return store.write(work)
        except StaleWrite:
            continue
    raise StaleWrite(f"lost {ATTEMPTS} races for the same rows in a row")
