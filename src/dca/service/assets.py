"""Assets as a person keeps them: checked as a whole before anything is stored."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

from dca.domain.asset import Asset, Rules
from dca.domain.cycle import CycleStatus
from dca.domain.errors import ConfigError
from dca.domain.market import symbol_of
from dca.domain.record import Event
from dca.ports import HALTED, Broker, Clock, Store, Tx
from dca.strategy.ladder import complaints, instrument_complaints


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


def change(store: Store, clock: Clock, symbol: str, edit: Callable[[Asset], Asset], why: str) -> Asset:
    """The asset is what `edit` makes it. Raises ConfigError when there is none of that symbol."""
    now = clock.now()

    def write(tx: Tx) -> Asset:
        asset = tx.asset_by_symbol(symbol)
        if asset is None:
            raise ConfigError(f"there is no asset {symbol}; see: dca asset list")
        stored = tx.update_asset(replace(edit(asset), updated_at=now))
        tx.add_event(Event(name="asset_changed", at=now, reason=why, asset_id=asset.id))
        return stored

    return store.write(write)


def halt(store: Store, clock: Clock, reason: str | None) -> None:
    """No process sends another order until trading is resumed; None resumes it."""
    now = clock.now()

    def write(tx: Tx) -> None:
        tx.set_flag(HALTED, reason, at=now)
        name = "trading_resumed" if reason is None else "trading_halted"
        tx.add_event(Event(name=name, at=now, reason=reason or "by the operator"))

    store.write(write)
