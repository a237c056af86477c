"""Faults to be injected. Each is a matcher, a chooser and an effect: what it is about, which of the
crossings it matches it strikes, and what happens there.

What each effect does is told where it happens: `spoil.py` (answers, messages), `fates.py` (orders, the
account), `sieve.py` and `gate.py` (streams). Faults are no state of the exchange: a restarted one has
only those it was started with.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from random import Random

from dca.domain.market import compact
from dca.paper.effects import Effect, Place
from dca.paper.wire import Json

STREAMS = ("trades", "quotes")


@dataclass(frozen=True, slots=True)
class Crossing:
    """A request (method, path with query) or something on a stream (its name, the event)."""

    source: str
    name: str
    symbols: tuple[str, ...] = ()
    client_order_id: str | None = None


@dataclass(frozen=True, slots=True)
class Matcher:
    """What a fault is about. A path is a prefix of path and query; events and client ids are globs."""

    source: str
    name: str
    symbol: str | None
    client_order_id: str | None

    def __call__(self, crossing: Crossing) -> bool:
        if self.source in STREAMS:
            met = crossing.source == self.source and fnmatchcase(crossing.name, self.name)
        else:
            met = self.source in ("*", crossing.source) and crossing.name.startswith(self.name)
        if met and self.symbol is not None:
            met = compact(self.symbol) in map(compact, crossing.symbols)
        if met and self.client_order_id is not None:
            met = fnmatchcase(crossing.client_order_id or "", self.client_order_id)
        return met


@dataclass(frozen=True, slots=True)
class Chooser:
    """Which of the matching crossings are struck: `times` of them (None: all) after `after` others,
    each with `probability`, for the `lasts` seconds that begin with the first."""

    after: int = 0
    times: int | None = None
    probability: float = 1.0
    lasts: float | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """Strikes as its chooser says. Several `effects` are a script, one for each matching crossing."""

    said: Json
    place: Place
    matcher: Matcher
    chooser: Chooser
    effects: tuple[Effect | None, ...]
    scripted: bool


class _Counted:
    """A fault in force, with what it met and struck."""

    def __init__(self, fault: Fault, random: Random, monotonic: Callable[[], float]) -> None:
        self.fault = fault
        self.met = 0
        self.struck = 0
        self._random = random
        self._monotonic = monotonic
        self._first_at: float | None = None

    def strike(self) -> Effect | None:
        """What happens at this crossing, which the fault matches."""
        self.met += 1
        effect = self._chosen(self.met - self.fault.chooser.after - 1)
        if effect is not None:
            self.struck += 1
            if self._first_at is None:
                self._first_at = self._monotonic()
        return effect

    def _chosen(self, turn: int) -> Effect | None:
        chooser, effects = self.fault.chooser, self.fault.effects
        if turn < 0 or self._over(chooser):
            return None
        if self.fault.scripted:
            return effects[turn] if turn < len(effects) else None
        if chooser.times is not None and self.struck >= chooser.times:
            return None
        if chooser.probability < 1 and self._random.random() >= chooser.probability:
            return None
        return effects[0]

    def _over(self, chooser: Chooser) -> bool:
        if chooser.lasts is None or self._first_at is None:
            return False
        return self._monotonic() >= self._first_at + chooser.lasts


class Faults:
    """The faults in force. At one place, the first of them that matches and chooses to, strikes."""

    def __init__(self, monotonic: Callable[[], float], seed: int = 1, faults: Iterable[Fault] = ()) -> None:
        self._monotonic = monotonic
        self._seed = seed
        self._counted: list[_Counted] = []
        self._places: set[Place] = set()
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault) -> None:
        """It is in force. Its chance is drawn from the seed and from how many were there before it."""
        random = Random(f"{fault.said.get('seed', self._seed)}/{len(self._counted)}")  # noqa: S311
        self._counted.append(_Counted(fault, random, self._monotonic))
        self._places.add(fault.place)

    def lift(self) -> None:
        """Nothing is spoiled any more; what hangs, hangs on."""
        self._counted = []
        self._places = set()

    def at(self, *places: Place) -> bool:
        """Whether any fault may strike there; asked first, because most of the time none may."""
        return not self._places.isdisjoint(places)

    def struck(self, place: Place, crossing: Crossing) -> Effect | None:
        """What happens to this crossing there."""
        for counted in self._counted:
            if counted.fault.place is place and counted.fault.matcher(crossing):
                effect = counted.strike()
                if effect is not None:
                    return effect
        return None

    def rows(self) -> list[Json]:
        """Each fault, with how many crossings it met and how many of them it struck."""
        return [{**one.fault.said, "met": one.met, "struck": one.struck} for one in self._counted]
