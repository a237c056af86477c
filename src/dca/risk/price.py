"""Whether a price may be believed: one wild tick must neither buy a ladder nor sell a position."""

from datetime import datetime, timedelta
from decimal import Decimal

from dca.domain.market import Quote

MAX_JUMP = Decimal("0.05")
"""No market we trade moves by more from one quote to the next; a larger step wants a second witness."""


def agrees(quote: Quote, witness: Quote) -> bool:
    """Whether both sides of `quote` are within MAX_JUMP of those of `witness`."""
    return (
        abs(quote.bid - witness.bid) <= MAX_JUMP * witness.bid
        and abs(quote.ask - witness.ask) <= MAX_JUMP * witness.ask
    )


def follows(quote: Quote, before: Quote | None, now: datetime, max_age: timedelta) -> bool:
    """Whether `quote` continues the market that `before` showed not long ago.

    Where it does not - the first quote, one after a gap, one that jumps - two bad quotes would agree
    with each other, so only an independent source can confirm it.
    """
    return before is not None and now - before.at <= max_age and agrees(quote, before)
