"""When a streamer may be started again: at once after a long life, ever later after short ones. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dca.ports import Launch, Memory

SHORT_S = 60.0
"""A streamer that lived no longer never really started."""
LONG_S = 600.0
"""One that lived so long has shown that it can: what was before is forgotten."""
FIRST_S, MOST_S = 30.0, 900.0
"""The pause after one short life, doubled for each that follows it, and the longest pause."""
HOUR_S, MOST_AN_HOUR = 3600.0, 6
LOOP = 3
"""So many short lives in a row are told to a person."""
FIX_A_SETTING = 78
KEPT = 12
TOLD_KEPT = 20


@dataclass(frozen=True, slots=True)
class Loop:
    """A streamer that cannot live: `count` short lives in a row, the newest with exit code `code`."""

    count: int
    code: int | None
    since: str


def judged(launches: Sequence[Launch], now: float, *, lived_s: float | None) -> tuple[Launch, ...]:
    """What still counts of the launches.

    `lived_s` is how long the newest one has lived as far as anybody knows, for when it left no note
    of its end; None while it lives.
    """
    if not launches:
        return ()
    newest = launches[-1]
    known = newest.lived_s if newest.lived_s is not None else lived_s
    if (now - newest.at if known is None else known) >= LONG_S:
        return ()
    return (*launches[:-1], replace(newest, lived_s=known))


def wait_s(launches: Sequence[Launch], now: float) -> float:
    """How long the next start must still wait; 0 when it need not."""
    if not launches:
        return 0.0
    newest = launches[-1]
    ended_at = newest.at + (newest.lived_s or 0.0)
    earliest = ended_at + _pause_s(launches)
    if len(launches) >= MOST_AN_HOUR:
        earliest = max(earliest, launches[-MOST_AN_HOUR].at + HOUR_S)
    return max(0.0, earliest - now)


def _pause_s(launches: Sequence[Launch]) -> float:
    count = len(_short(launches))
    if count == 0:
        return 0.0
    if launches[-1].code == FIX_A_SETTING:
        return MOST_S
    return min(FIRST_S * 2.0 ** (count - 1), MOST_S)


def loop(launches: Sequence[Launch]) -> Loop | None:
    """The loop that a person must hear of; a setting that must be fixed is one from the first time."""
    short = _short(launches)
    if not short or (len(short) < LOOP and short[-1].code != FIX_A_SETTING):
        return None
    return Loop(len(short), short[-1].code, short[0].identity)


def _short(launches: Sequence[Launch]) -> list[Launch]:
    """The short lives at the end of `launches`. One that ended with 0 was asked to."""
    found: list[Launch] = []
    for launch in reversed(launches):
        if launch.lived_s is None or launch.lived_s >= SHORT_S or launch.code == 0:
            break
        found.insert(0, launch)
    return found


def launched(launches: Sequence[Launch], launch: Launch) -> tuple[Launch, ...]:
    """The launches with one more, the oldest forgotten."""
    return (*launches, launch)[-KEPT:]


def told(memory: Memory, key: str, now: float) -> Memory:
    """A person has heard of `key`."""
    kept = sorted({**memory.told, key: now}.items(), key=lambda item: item[1])[-TOLD_KEPT:]
    return replace(memory, told=dict(kept))
