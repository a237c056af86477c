"""The streamer's lookout: keys that are refused, circuits that stay open, orders that are, answers that
take long, clocks that differ."""

import logging
from collections.abc import Sequence
from datetime import datetime

from dca.domain.mode import Mode, Restriction
from dca.domain.record import Event, Message
from dca.ports import Clock, Store, Tx
from dca.risk.anomaly import REJECTS, Anomaly, latency, rejects, skew
from dca.service.guard import GuardedBroker

log = logging.getLogger(__name__)

LOOK_S = 10.0
CLOCK_S = 60.0
LASTS = 3
"""A clock that was not looked at so many times in a row says nothing any more."""
SLOW_ANSWER_S = 5.0
"""What the venue's clock showed so long ago is not compared."""


class Lookout:
    """What it finds restricts trading to REDUCE_ONLY: until its time is over, or `dca resume`.

    While that lasts it can become longer, never shorter. The same evidence restricts once, so what an
    operator lifted stays lifted until something new happens.
    """

    def __init__(self, store: Store, clock: Clock, guard: GuardedBroker) -> None:
        self._store = store
        self._clock = clock
        self.guard = guard
        self._raised: dict[str, str] = {}
        self._skewed: bool | None = None
        self._keys_told: datetime | None = None
        self._look_at = self._clock_at = clock.monotonic()

    def look(self, symbols: Sequence[str]) -> None:
        """What is due was looked at; `symbols` are those whose prices matter.

        Raises VenueError, StoreError; whatever failed is looked at again when it is due.
        """
        now_s, now = self._clock.monotonic(), self._clock.now()
        self.guard.tend(symbols)
        self._tell_of_keys()
        if now_s >= self._look_at:
            self._look_at = now_s + LOOK_S
            self._consider(latency(self.guard.took, now), now)
            self._consider(rejects(self._store.read(_refused), now), now)
        if now_s >= self._clock_at:
            self._clock_at = now_s + CLOCK_S
            self._compare_clocks()

    def _tell_of_keys(self) -> None:
        """A person hears once that the venue takes our keys no more: only he can mend that."""
        since = self.guard.keys_refused_since
        if since is None or since == self._keys_told:
            return
        text = (
            f"since {since:%H:%M} UTC the venue refuses APCA_API_KEY_ID and APCA_API_SECRET_KEY: nothing is "
            "bought or sold; put them right, then: dca restart"
        )
        message = Message(key=f"keys:{since.isoformat()}", name="keys_refused", text=text, at=since)
        event = Event(name="keys_refused", at=since, reason=text, uid=message.key)
        self._store.write(lambda tx: tx.add_message(message) and tx.add_event(event))
        self._keys_told = since

    def _consider(self, found: Anomaly | None, now: datetime) -> None:
        if found is None or self._raised.get(found.name) == found.evidence:
            return
        self._restrict(found, now)
        self._raised[found.name] = found.evidence
        if found.name == "latency":
            self.guard.forget_took()

    def _restrict(self, found: Anomaly, now: datetime) -> None:
        source, until = _source(found.name), found.until or now + self._clock.span(CLOCK_S * LASTS)
        event = Event(
            name="anomaly",
            at=now,
            reason=found.reason,
            data={"name": found.name, "until": until.isoformat()},
            uid=f"{source}:{found.evidence}",
        )

        def write(tx: Tx) -> bool:
            return tx.add_event(event) and _put(tx, source, found.reason, now, until)

        if self._store.write(write):
            log.warning("anomaly", extra={"anomaly": found.name, "reason": found.reason})

    def _compare_clocks(self) -> None:
        asked = self._clock.now()
        shown = self.guard.time()
        now = self._clock.now()
        if now - asked > self._clock.span(SLOW_ANSWER_S):
            return
        self._clock_seen(skew(shown - asked - (now - asked) / 2, now, self._clock.span(1)), now)

    def _clock_seen(self, found: Anomaly | None, now: datetime) -> None:
        before, self._skewed = self._skewed, found is not None
        if found is None:
            if before is not False:
                self._store.write(lambda tx: _lift(tx, "clock", now))
        elif not before:
            self._restrict(found, now)
        else:
            until = now + self._clock.span(CLOCK_S * LASTS)
            self._store.write(lambda tx: _prolong(tx, "clock", found.reason, now, until))


def _refused(tx: Tx) -> list[datetime]:
    return [event.at for event in tx.events(limit=REJECTS, name="order_rejected")]


def _source(name: str) -> str:
    return f"anomaly:{name}"


def _restriction(tx: Tx, source: str) -> Restriction | None:
    return next((one for one in tx.modes() if one.source == source), None)


def _put(tx: Tx, source: str, reason: str, now: datetime, until: datetime) -> bool:
    """It runs until then; one that is in force goes on from when it began."""
    before = _restriction(tx, source)
    since = before.since if before is not None and before.holds(now) else now
    mode = Mode.REDUCE_ONLY
    tx.put_mode(Restriction(source=source, mode=mode, reason=reason, since=since, until=until))
    return True


def _prolong(tx: Tx, name: str, reason: str, now: datetime, until: datetime) -> bool:
    """An operator may have lifted it: then it stays lifted."""
    source = _source(name)
    return _restriction(tx, source) is not None and _put(tx, source, reason, now, until)


def _lift(tx: Tx, name: str, now: datetime) -> None:
    if tx.drop_mode(_source(name)):
        tx.add_event(Event(name="anomaly_over", at=now, reason=name, data={"name": name}))
