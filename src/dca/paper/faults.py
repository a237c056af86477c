"""Faults to be injected: which requests and frames they strike, and what a client sees instead.

They are no state of the exchange: a restarted one is sound.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from dca.paper.refusals import bad_body
from dca.paper.wire import Json, dumps

FRAME = "FRAME"
"""The method of a stream's frames; their paths are `trades/event`, `trades/answer` and so on."""
METHODS = ("*", "GET", "POST", "PATCH", "DELETE")
STREAMS = ("trades", "quotes")
CLOSED = ("hang", "reset")
"""Spoiled answers that never come: the client waits until it gives up, or the connection is cut."""
PAGE = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
SOME = b'{"id":"61e69015-8549-4bfd-b9c3-01e75843f47d","client_order_id":null}'
SAID: dict[str, Json] = {
    "401": {"message": "unauthorized."},
    "403": {"message": "forbidden."},
    "429": {"code": 42910000, "message": "rate limit exceeded"},
    "500": {"code": 50010000, "message": "internal server error occurred"},
    "502": {"message": "bad gateway"},
    "503": {"message": "service unavailable"},
    "504": {"message": "gateway timeout"},
}
ANSWERS = (*SAID, "html", "empty", "half", *CLOSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Strikes `times` of the matching crossings (None: until lifted) after it let `after` of them pass.

    `path` is a prefix of path and query: `/v2/orders?` is the listing alone. With `reached` the
    request had its effect and only the answer is spoiled; without, it came to nothing.
    """

    method: str
    path: str
    answer: str
    times: int | None = None
    after: int = 0
    reached: bool = False

    def matches(self, method: str, path: str) -> bool:
        return self.method in ("*", method) and path.startswith(self.path)


@dataclass(slots=True)
class _Counted:
    fault: Fault
    met: int = 0
    struck: int = 0

    def strikes(self) -> bool:
        """Whether the fault strikes this crossing, which it matches."""
        self.met += 1
        spent = self.fault.times is not None and self.struck >= self.fault.times
        if spent or self.met <= self.fault.after:
            return False
        self.struck += 1
        return True


class Faults:
    """The rules in force; of those that match, the first one that is not spent strikes."""

    def __init__(self) -> None:
        self._rules: list[_Counted] = []

    def add(self, fault: Fault) -> None:
        self._rules.append(_Counted(fault))

    def lift(self) -> None:
        """Nothing is spoiled any more; what hangs, hangs on."""
        self._rules = []

    def struck(self, method: str, path: str) -> Fault | None:
        """The fault that strikes this crossing."""
        for rule in self._rules:
            if rule.fault.matches(method, path) and rule.strikes():
                return rule.fault
        return None

    def rows(self) -> list[Json]:
        """Each rule, with how many crossings it matched and how many of them it struck."""
        return [
            {
                "method": rule.fault.method,
                "path": rule.fault.path,
                "answer": rule.fault.answer,
                "times": rule.fault.times,
                "after": rule.fault.after,
                "reached": rule.fault.reached,
                "met": rule.met,
                "struck": rule.struck,
            }
            for rule in self._rules
        ]


def fault_of(body: Mapping[str, object]) -> Fault:
    """The fault that a request to `/control/faults` asks for. Raises Refusal."""
    if "stream" in body:
        return _frames(body)
    method, path, answer = (body.get(name) for name in ("method", "path", "answer"))
    if method not in METHODS or not isinstance(path, str) or str(answer) not in ANSWERS:
        raise bad_body(f"method must be one of {METHODS}, path a text, answer one of {ANSWERS}")
    return Fault(
        method=str(method),
        path=path,
        answer=str(answer),
        times=_count(body, "times", None),
        after=_count(body, "after", 0) or 0,
        reached=_flag(body, "reached"),
    )


def _frames(body: Mapping[str, object]) -> Fault:
    """`mute` loses every frame, the answers to a client's own words too; `drop` a number of events."""
    stream = body["stream"]
    if stream not in STREAMS or ("drop" in body) == _flag(body, "mute"):
        raise bad_body(f"stream must be one of {STREAMS}, with either drop or mute")
    if "drop" in body:
        times = _count(body, "drop", None)
        return Fault(method=FRAME, path=f"{stream}/event", answer="lost", times=times)
    return Fault(method=FRAME, path=f"{stream}/", answer="lost")


def _count(body: Mapping[str, object], name: str, default: int | None) -> int | None:
    given = body.get(name, default)
    if given is None or (isinstance(given, int) and not isinstance(given, bool) and given >= 0):
        return given
    raise bad_body(f"{name} must be a whole number or null")


def _flag(body: Mapping[str, object], name: str) -> bool:
    given = body.get(name, False)
    if not isinstance(given, bool):
        raise bad_body(f"{name} must be true or false")
    return given


@dataclass(frozen=True, slots=True)
class Told:
    """What goes back over the wire."""

    status: int
    content: bytes
    kind: str = "application/json; charset=UTF-8"


def unreached(fault: Fault) -> tuple[int, Json]:
    """Status and error under which a request that came to nothing is logged; 0: there was no answer."""
    status = 0 if fault.answer in CLOSED else spoiled(fault.answer).status
    return status, {"message": f"injected fault: {fault.answer}"}


def spoiled(answer: str, content: bytes = SOME) -> Told:
    """The answer named `answer`, made of the true `content` where it keeps some of that."""
    if answer == "html":
        return Told(502, PAGE, "text/html")
    if answer == "empty":
        return Told(200, b"")
    if answer == "half":
        return Told(200, content[: len(content) // 2])
    return Told(int(answer), dumps(SAID[answer]))
