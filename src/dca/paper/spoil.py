"""What faults make of answers and of messages."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from dca.domain.market import compact
from dca.paper.effects import Effect
from dca.paper.wire import Json, dumps

CLOSED = ("hang", "reset")
"""Answers that never come: the client waits until it gives up, or the connection is cut."""
SOME = b'{"id":"61e69015-8549-4bfd-b9c3-01e75843f47d","client_order_id":null}'
PAGE = "<html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>"
SAID: dict[int, Json] = {
    307: {"message": "temporary redirect"},
    401: {"message": "unauthorized."},
    403: {"message": "forbidden."},
    404: {"code": 40410000, "message": "order not found"},
    422: {"code": 42210000, "message": "unprocessable"},
    429: {"code": 42910000, "message": "rate limit exceeded"},
    500: {"code": 50010000, "message": "internal server error occurred"},
    502: {"message": "bad gateway"},
    503: {"message": "service unavailable"},
    504: {"message": "gateway timeout"},
}
ELSEWHERE = b"https://redirected.invalid/"


@dataclass(frozen=True, slots=True)
class Told:
    """What goes back over the wire. `wait_s` is what its headers ask the client to wait, if they do."""

    status: int
    content: bytes
    kind: str = "application/json; charset=UTF-8"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    wait_s: int | None = None


def spoiled(effect: Effect, told: Told) -> Told:
    """What the client is told instead of `told`; a request that came to nothing has no such answer."""
    if effect.name == "delay":
        return told
    if effect.name == "empty":
        return Told(200, b"")
    if effect.name == "half":
        content = told.content if effect.reached else SOME
        return Told(200, content[: len(content) // 2])
    number, _, html = effect.name.partition(" ")
    answer = _page(int(number)) if html else Told(int(number), dumps(SAID[int(number)]))
    return replace(answer, headers=_headers(answer.status, effect["retry_after"]), wait_s=_wait(effect))


def _page(status: int) -> Told:
    words = f"{status} {SAID[status]['message'].rstrip('.').title()}"
    return Told(status, PAGE.format(words).encode(), "text/html")


def _headers(status: int, retry_after: int | None) -> tuple[tuple[bytes, bytes], ...]:
    found = [] if retry_after is None else [(b"retry-after", b"%d" % retry_after)]
    if status == 307:
        found.append((b"location", ELSEWHERE))
    return tuple(found)


def _wait(effect: Effect) -> int | None:
    wait: int | None = effect["retry_after"]
    return wait


def unreached(effect: Effect) -> tuple[int, Json]:
    """Status and error under which a request that came to nothing is logged; 0: there was no answer."""
    status = 0 if effect.name in CLOSED else spoiled(effect, Told(200, b"")).status
    return status, {"message": f"injected fault: {effect.name}"}


def framed(effect: Effect, frame: bytes | str) -> bytes | str:
    """What is sent instead of a whole frame of a stream."""
    if effect.name == "raw":
        return str(effect["text"])
    if effect.name == "garbled":
        return frame[: len(frame) // 2]
    size: int = effect["size"]
    return frame + " " * size if isinstance(frame, str) else frame + b" " * size


# Messages and bodies

Alter = Callable[[Effect, Json], Json | None]
"""Of one object, the altered copy; None leaves it out."""
GONE = object()


def altered(effect: Effect, body: Any) -> Any:
    """A copy of `body` with the effect in all the objects that it is about; GONE when nothing is left."""
    if effect.name == "nothing":
        return [] if isinstance(body, list) else {}
    return _refielded(effect, body) if "field" in effect.given else _walked(effect, body, ())


def _walked(effect: Effect, body: Any, path: tuple[str, ...]) -> Any:
    if isinstance(body, list):
        items = (_walked(effect, item, path) for item in body)
        return [item for item in items if item is not GONE]
    if not isinstance(body, dict):
        return body
    if effect.name == "compact":
        body = {name: _compacted(name, value) for name, value in body.items()}
    elif "bp" in body and _about(effect, (*path, str(body.get("S", "")))):
        altered_quote = QUOTES[effect.name](effect, body)
        return GONE if altered_quote is None else altered_quote
    items = ((name, _walked(effect, value, (*path, name))) for name, value in body.items())
    return {name: value for name, value in items if value is not GONE}


def _about(effect: Effect, path: tuple[str, ...]) -> bool:
    return effect.symbol is None or compact(effect.symbol) in map(compact, path)


def _compacted(name: str, value: Any) -> Any:
    return compact(value) if name in ("S", "symbol") and isinstance(value, str) else value


def _refielded(effect: Effect, body: Any, path: tuple[str, ...] = ()) -> Any:
    """Every field of that name has another value, or is not there; `order.qty` is that of an order."""
    if isinstance(body, list):
        return [_refielded(effect, item, path) for item in body]
    if not isinstance(body, dict):
        return body
    wanted = tuple(effect["field"].split("."))
    found: Json = {}
    for name, value in body.items():
        here = (*path, name)
        if here[-len(wanted) :] != wanted:
            found[name] = _refielded(effect, value, here)
        elif effect.name != "without":
            found[name] = effect["value"]
    return found


def _stale(effect: Effect, quote: Json) -> Json:
    at: datetime = quote["t"]
    return quote | {"t": at - timedelta(seconds=effect.seconds)}


def _crossed(effect: Effect, quote: Json) -> Json:
    return _prices(quote, round(quote["ap"] * 1.001, 9), round(quote["bp"] * 0.999, 9))


def _prices(quote: Json, bid: float, ask: float) -> Json:
    return quote | {"bp": bid, "ap": ask}


def _both(number: float) -> Alter:
    return lambda effect, quote: _prices(quote, number, number)


def _scaled(effect: Effect, quote: Json) -> Json:
    factor = float(effect["factor"])
    return _prices(quote, round(quote["bp"] * factor, 9), round(quote["ap"] * factor, 9))


def _negative(effect: Effect, quote: Json) -> Json:
    return _prices(quote, -quote["bp"], -quote["ap"])


def _missing(effect: Effect, quote: Json) -> None:
    """No such quote."""


QUOTES: dict[str, Alter] = {
    "stale": _stale,
    "crossed": _crossed,
    "zero": _both(0.0),
    "negative": _negative,
    "nan": _both(float("nan")),
    "huge": _both(1e308),
    "scaled": _scaled,
    "missing": _missing,
}
