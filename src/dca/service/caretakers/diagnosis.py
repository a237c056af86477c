"""What ails a streamer, from its heartbeat and what the venue says. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from dca.domain.record import Heartbeat
from dca.ports import Running

Span = Callable[[float], timedelta]


class Ailment(StrEnum):
    """What is wrong with a streamer that lives."""

    UNSEEN = "it has not reported since it was started"
    FROZEN = "its heart does not beat"
    DEAF = "its trade-update stream is down"
    CUT_OFF = "it cannot read the venue"
    BLIND = "no quote reaches it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Real seconds: how long a streamer may take to report, how old its heartbeat may be, how long it
    may hear nothing, and how long it is watched before anybody believes the worst."""

    fresh_s: float = 60.0
    stale_s: float = 30.0
    silent_s: float = 120.0
    watch_s: float = 15.0
    slack_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Signs:
    """One look at the streamer: its process, its own last heartbeat, and when this was."""

    running: Running
    beat: Heartbeat | None
    at: datetime

    @property
    def age_s(self) -> float:
        """Of the process; endless when it is not known which one it is."""
        return float("inf") if self.running.process is None else self.running.process.age_s

    @property
    def identity(self) -> str | None:
        return None if self.running.process is None else self.running.process.identity

    @property
    def symbols(self) -> list[str]:
        """What it should have quotes of."""
        assets = None if self.beat is None else self.beat.detail.get("assets")
        return sorted(assets) if isinstance(assets, dict) else []


@dataclass(frozen=True, slots=True)
class VenueSigns:
    """What the venue's REST side says; `error` when nothing. `ahead` is its clock before ours."""

    error: str | None
    ahead: timedelta = timedelta(0)
    quoted_at: datetime | None = None


def own(beat: Heartbeat | None, running: Running) -> Heartbeat | None:
    """The heartbeat, unless it is known to be of an earlier process."""
    if beat is None or running.process is None:
        return beat
    return beat if beat.detail.get("identity") in (None, "", running.process.identity) else None


def suspicion(signs: Signs, limits: Limits, span: Span) -> Ailment | None:
    """What one look gives reason to fear. The clock may have been set a moment ago, so it is not
    more than that."""
    if not signs.running.lives or signs.age_s < limits.fresh_s:
        return None
    beat = signs.beat
    if beat is None:
        return Ailment.UNSEEN
    if not -span(limits.slack_s) <= signs.at - beat.at <= span(limits.stale_s):
        return Ailment.FROZEN
    silent_since = signs.at - span(limits.silent_s)
    if _before(_instant(beat, "trades_down_since"), silent_since):
        return Ailment.DEAF
    if beat.detail.get("venue_error") and _before(_instant(beat, "caught_up_at", "started_at"), silent_since):
        return Ailment.CUT_OFF
    if signs.symbols and _before(quoted_at(signs), silent_since):
        return Ailment.BLIND
    return None


def diagnosis(
    before: Signs, after: Signs, venue: VenueSigns | None, limits: Limits, span: Span
) -> Ailment | None:
    """What still ails the same streamer after it was watched, and venue and market bear out."""
    ailment = suspicion(after, limits, span)
    if ailment is not suspicion(before, limits, span) or before.identity != after.identity:
        return None
    if ailment is Ailment.FROZEN and before.beat is not None and after.beat is not None:
        return ailment if before.beat.at == after.beat.at else None
    if ailment is Ailment.BLIND and venue is not None and venue.error is None:
        return ailment if _moved(after, venue, span(limits.slack_s)) else None
    return ailment


def quoted_at(signs: Signs) -> datetime | None:
    """When the last quote reached the streamer, or since when it waits for one; None: unknown."""
    beat = signs.beat
    if beat is None or "last_quote_at" not in beat.detail:
        return None
    return _instant(beat, "last_quote_at", "started_at")


def _moved(signs: Signs, venue: VenueSigns, slack: timedelta) -> bool:
    """Whether the venue has a quote that should have reached the streamer by now and has not.

    The venue stamps quotes with its own clock, so that is compared with ours first.
    """
    last = quoted_at(signs)
    if venue.quoted_at is None or last is None:
        return False
    return venue.quoted_at - venue.ahead > last + slack


def _instant(beat: Heartbeat, *names: str) -> datetime | None:
    """The first of these instants that the heartbeat tells."""
    for name in names:
        text = beat.detail.get(name)
        if isinstance(text, str):
            try:
                found = datetime.fromisoformat(text)
            except ValueError:
                continue
            if found.tzinfo is not None:
                return found
    return None


def _before(instant: datetime | None, limit: datetime) -> bool:
    return instant is not None and instant < limit
