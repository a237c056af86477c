"""Values as they stand on the wire, both ways."""

import json
from datetime import UTC, datetime
from decimal import ROUND_FLOOR, Decimal
from typing import Any

from dca.domain.money import CENT, exact, plain

Json = dict[str, Any]
MAX_EXPONENT = 30


def stamp(at: datetime) -> str:
    """RFC 3339 in UTC with a Z, as the trading API writes times."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def stamp_or_none(at: datetime | None) -> str | None:
    return None if at is None else stamp(at)


def instant(text: str) -> datetime:
    """The instant that `text` names: RFC 3339, or a date (its midnight in UTC).

    Raises ValueError. A space stands for the `+` that a careless client left unencoded.
    """
    parsed = datetime.fromisoformat(text.strip().replace(" ", "+"))
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)


def number(value: object) -> Decimal:
    """The exact amount that a JSON number or string spells. Raises ValueError.

    Exponents without sense are refused: writing `1e999999` out would take a megabyte.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, Decimal)):
        raise ValueError(f"not a number: {value!r}")
    amount = exact(value)
    if abs(amount.adjusted()) > MAX_EXPONENT:
        raise ValueError(f"out of range: {value!r}")
    return amount


def plain_or_none(amount: Decimal | None) -> str | None:
    return None if amount is None else plain(amount)


def cents(amount: Decimal) -> str:
    """Dollars cut to the cent, never up: an account must not seem to own what it cannot spend."""
    return plain(amount.quantize(CENT, rounding=ROUND_FLOOR))


def truth(text: str | None) -> bool:
    """A boolean in a query string; Python clients write `True`."""
    return text is not None and text.lower() in ("true", "1")


def dumps(value: object) -> bytes:
    """JSON; times in it are stamped."""
    return _ENCODER.encode(value).encode()


def loads(text: bytes | str) -> Any:
    """JSON with exact numbers. Raises ValueError."""
    return _DECODER.decode(text if isinstance(text, str) else text.decode())


def _no_constant(name: str) -> Any:
    raise ValueError(f"not JSON: {name}")


# Made once: json.dumps and json.loads would make new ones for every call with options.
_ENCODER = json.JSONEncoder(separators=(",", ":"), default=stamp)
_DECODER = json.JSONDecoder(parse_float=Decimal, parse_constant=_no_constant)
