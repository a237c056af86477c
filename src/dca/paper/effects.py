"""What faults can do: every effect, where it happens, and the parameters it takes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum, auto
from typing import Any

from dca.paper.refusals import bad_body
from dca.paper.wire import Json, number


class Place(Enum):
    """Where a fault strikes. A request comes by the first five in this order, a stream by the others."""

    ACCOUNT = auto()
    """Before the request is looked at."""
    ANSWER = auto()
    PLACED = auto()
    """Once for every order that the request placed."""
    CANCELED = auto()
    """Once for every order whose cancel was accepted."""
    BODY = auto()
    WORD = auto()
    """What a client of a stream says, from the handshake on."""
    MESSAGE = auto()
    FRAME = auto()
    """Everything that leaves, answers to the client's words too."""


NEEDED = object()
Defaults = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """Where an effect happens, and which parameters it takes, with their defaults."""

    place: Place
    takes: Defaults = field(default_factory=dict)


STATUSES = ("307", "401", "403", "404", "422", "429", "500", "502", "503", "504")
_ANSWERED: Defaults = {"reached": False, "seconds": 0.0, "retry_after": None}
_ALTERED: dict[str, Defaults] = {
    "changed": {"field": NEEDED, "value": None},
    "without": {"field": NEEDED},
    "compact": {},
    "missing": {},
    "stale": {"seconds": NEEDED},
    "crossed": {},
    "zero": {},
    "negative": {},
    "nan": {},
    "huge": {},
    "scaled": {"factor": NEEDED},
}
QUOTED = tuple(_ALTERED)[3:]
"""Effects on quotes alone."""
FLAGS = ("account_blocked", "trading_blocked", "transfers_blocked", "trade_suspended_by_user")
INCREMENTS = ("min_order_size", "min_trade_increment", "price_increment")
FEES: Defaults = dict.fromkeys(("maker", "taker", "coin_step", "usd_step")) | {"rounding": "up"}
REQUESTS: dict[str, Kind] = {
    **{status: Kind(Place.ANSWER, _ANSWERED) for status in STATUSES},
    **{f"{status} html": Kind(Place.ANSWER, _ANSWERED) for status in STATUSES},
    **{name: Kind(Place.ANSWER, _ANSWERED) for name in ("empty", "half", "hang", "reset")},
    "delay": Kind(Place.ANSWER, {"reached": False, "seconds": NEEDED}),
    "unseen": Kind(Place.PLACED, {"seconds": NEEDED}),
    "rejected": Kind(Place.PLACED, {"seconds": 0.0}),
    "canceled": Kind(Place.PLACED, {"seconds": 0.0}),
    "partly": Kind(Place.PLACED, {"part": Decimal("0.5"), "seconds": 0.0}),
    "filled": Kind(Place.CANCELED, {"part": Decimal(1), "seconds": 0.0}),
    "stuck": Kind(Place.CANCELED, {"seconds": None}),
    "filled late": Kind(Place.CANCELED, {"part": Decimal(1), "seconds": 0.0}),
    "deposit": Kind(Place.ACCOUNT, {"asset": "USD", "amount": NEEDED}),
    "fees": Kind(Place.ACCOUNT, FEES),
    "account": Kind(Place.ACCOUNT, dict.fromkeys((*FLAGS, "crypto_status"))),
    "instrument": Kind(Place.ACCOUNT, {"asset": NEEDED} | dict.fromkeys(("tradable", *INCREMENTS))),
    "nothing": Kind(Place.BODY),
    **{name: Kind(Place.BODY, takes) for name, takes in _ALTERED.items()},
}
CODES = ("400", "401", "402", "403", "404", "405", "406", "407", "409", "410", "429", "500", "503")
EVENTS: dict[str, Kind] = {
    **{code: Kind(Place.WORD) for code in CODES},
    "hang": Kind(Place.WORD),
    "drop": Kind(Place.MESSAGE),
    "delay": Kind(Place.MESSAGE, {"seconds": NEEDED}),
    "duplicate": Kind(Place.MESSAGE, {"copies": 1, "field": None, "value": None}),
    "swap": Kind(Place.MESSAGE, {"seconds": 1.0}),
    "disconnect": Kind(Place.MESSAGE),
    **{name: Kind(Place.MESSAGE, takes) for name, takes in _ALTERED.items()},
    "mute": Kind(Place.FRAME),
    "garbled": Kind(Place.FRAME),
    "padded": Kind(Place.FRAME, {"size": 3 << 20}),
    "raw": Kind(Place.FRAME, {"text": NEEDED}),
}


@dataclass(frozen=True, slots=True)
class Effect:
    """What happens where a fault strikes. `symbol` is the one that the fault is about, if it is."""

    name: str
    given: Mapping[str, Any]
    symbol: str | None = None

    def __getitem__(self, parameter: str) -> Any:
        return self.given[parameter]

    @property
    def reached(self) -> bool:
        """A request had its effect, and only the answer is spoiled."""
        return bool(self.given["reached"])

    @property
    def seconds(self) -> float:
        """Of real time."""
        return float(self.given["seconds"] or 0.0)


def kind_of(name: object, kinds: Mapping[str, Kind]) -> Kind:
    found = kinds.get(str(name))
    if found is None:
        raise bad_body(f"unknown effect {name}; one of {', '.join(kinds)}")
    return found


def effect_of(name: str, kind: Kind, given: Mapping[str, object], symbol: str | None = None) -> Effect:
    """The effect with every parameter it takes. Raises Refusal."""
    read = _parameters(kind.takes, given)
    if kind.place is Place.ACCOUNT and all(read[one] is None for one in given if one != "asset"):
        raise bad_body(f"one at least is needed of {', '.join(kind.takes)}")
    return Effect(name, read, symbol)


def _parameters(takes: Defaults, given: Mapping[str, object]) -> Json:
    for name in given:
        if name not in takes:
            raise bad_body(f"{name} means nothing here; known are {', '.join(takes) or 'none'}")
    read: Json = {}
    for name, default in takes.items():
        if name not in given and default is NEEDED:
            raise bad_body(f"{name} is needed")
        value = given.get(name, default)
        read[name] = PARAMETERS[name](name, value) if value is not None or default is NEEDED else None
    return read


Reader = Callable[[str, Any], Any]


def whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise bad_body(f"{name} must be a whole number")
    return value


def _amount(name: str, value: Any) -> Decimal:
    try:
        return number(str(value) if isinstance(value, float) else value)
    except ValueError as error:
        raise bad_body(f"{name} must be a number") from error


def positive(name: str, value: Any) -> Decimal:
    amount = _amount(name, value)
    if amount < 0:
        raise bad_body(f"{name} must not be negative")
    return amount


def _above_zero(name: str, value: Any) -> Decimal:
    amount = _amount(name, value)
    if amount <= 0:
        raise bad_body(f"{name} must be above 0")
    return amount


def in_seconds(name: str, value: Any) -> float:
    return float(positive(name, value))


def _part(name: str, value: Any) -> Decimal:
    part = _above_zero(name, value)
    if part > 1:
        raise bad_body(f"{name} must be above 0 and not above 1")
    return part


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise bad_body(f"{name} must be true or false")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise bad_body(f"{name} must be a text")
    return value


def _rounding(name: str, value: Any) -> str:
    if value not in ("up", "down", "nearest"):
        raise bad_body(f"{name} must be up, down or nearest")
    return str(value)


def _anything(name: str, value: Any) -> Any:
    return value


PARAMETERS: dict[str, Reader] = {
    "reached": _flag,
    "seconds": in_seconds,
    "retry_after": whole,
    "part": _part,
    "copies": whole,
    "size": whole,
    "field": _text,
    "value": _anything,
    "text": _text,
    "factor": _above_zero,
    "asset": _text,
    "amount": _amount,
    "maker": positive,
    "taker": positive,
    "coin_step": _above_zero,
    "usd_step": _above_zero,
    "rounding": _rounding,
    "crypto_status": _text,
    "tradable": _flag,
    **dict.fromkeys(INCREMENTS, _above_zero),
    **dict.fromkeys(FLAGS, _flag),
}
