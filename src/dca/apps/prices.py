"""What a coin costs at the moment, as far as that can be known from here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from dca import wiring
from dca.domain.errors import ConfigError, VenueError
from dca.domain.market import Quote
from dca.ports import Store, Tx
from dca.settings import Settings

PATIENCE_S = 3.0
"""Nobody who asks how things stand wants to wait longer for the venue."""


@dataclass(frozen=True, slots=True)
class Price:
    """A quote, and who showed it: the venue just now, or the newest record of a decision."""

    quote: Quote
    recorded: bool


@dataclass(frozen=True, slots=True)
class Prices:
    """By symbol; one that nobody knows is left out. `error` is why the venue did not tell."""

    known: Mapping[str, Price]
    error: str | None = None


def prices(
    settings: Settings, store: Store, symbols: Sequence[str], *, fresh_s: float | None = None
) -> Prices:
    """What the venue shows, or, where it cannot be asked, what was recorded last.

    Records younger than `fresh_s` seconds spare the question. Raises StoreUnavailable only.
    """
    recorded = store.read(lambda tx: _recorded(tx, symbols))
    if fresh_s is not None:
        oldest = wiring.clock(settings).now() - timedelta(seconds=fresh_s)
        if all(symbol in recorded and recorded[symbol].at >= oldest for symbol in symbols):
            return Prices({symbol: Price(quote, True) for symbol, quote in recorded.items()})
    shown, error = _shown(settings, store, symbols)
    known = {symbol: Price(quote, True) for symbol, quote in recorded.items()}
    known |= {symbol: Price(quote, False) for symbol, quote in shown.items()}
    return Prices(known, error)


def _recorded(tx: Tx, symbols: Sequence[str]) -> dict[str, Quote]:
    found = {}
    ids = {asset.asset_symbol: asset.id for asset in tx.assets()}
    for symbol in symbols:
        newest = tx.decisions(ids[symbol], limit=1) if symbol in ids else []
        if newest and newest[0].bid is not None and newest[0].ask is not None:
            found[symbol] = Quote(symbol, newest[0].bid, newest[0].ask, newest[0].at)
    return found


def _shown(settings: Settings, store: Store, symbols: Sequence[str]) -> tuple[dict[str, Quote], str | None]:
    if not symbols:
        return {}, None
    patience = min(settings.request_timeout_s, PATIENCE_S)
    try:
        venue = wiring.broker(replace(settings, request_timeout_s=patience), store)
    except ConfigError as error:
        return {}, str(error)
    try:
        return venue.latest_quotes(symbols), None
    except VenueError as error:
        return {}, str(error)
    finally:
        venue.close()
