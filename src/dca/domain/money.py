"""Exact amounts: Decimal from the wire to the column, rounded once, by the instrument."""

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation

ZERO = Decimal(0)
ONE = Decimal(1)
HUNDRED = Decimal(100)
CENT = Decimal("0.01")


def exact(value: str | int | Decimal) -> Decimal:
    """The finite Decimal that `value` spells.

    Floats are refused because they have already lost digits; NaN and infinity because no amount
    is one. Raises ValueError for both and for text that is not a number.
    """
    if isinstance(value, float):
        raise ValueError(f"a float is not an exact amount: {value!r}")
    try:
        amount = Decimal(value)
    except (InvalidOperation, TypeError) as error:
        raise ValueError(f"not a number: {value!r}") from error
    if not amount.is_finite():
        raise ValueError(f"not a finite number: {value!r}")
    return amount


def plain(amount: Decimal) -> str:
    """`amount` in digits, without exponent or trailing zeros, as venues want it on the wire."""
    text = format(amount, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def floor_to(amount: Decimal, increment: Decimal) -> Decimal:
    """The largest multiple of `increment` that is not above `amount`."""
    return (amount / increment).to_integral_value(rounding=ROUND_FLOOR) * increment


def ceil_to(amount: Decimal, increment: Decimal) -> Decimal:
    """The smallest multiple of `increment` that is not below `amount`."""
    return (amount / increment).to_integral_value(rounding=ROUND_CEILING) * increment


def percent(pct: Decimal) -> Decimal:
    """The ratio that `pct` percent stands for: 2 -> 0.02."""
    return pct / HUNDRED
