"""The watchdog: a streamer that is dead is started, one that is not well is started again.

It never touches orders. That no two streamers trade is not its doing: the streamer's own lock and
lease see to that.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from dca.domain.errors import DcaError, Unmended, VenueError
from dca.domain.record import Event, Heartbeat, Message
from dca.ports import MAINTENANCE, Broker, Clock, Launch, Memory, Notifier, Running, Store, Supervisor, Tx
from dca.service.caretakers import restarts
from dca.service.caretakers.diagnosis import (
    Ailment,
    Limits,
    Signs,
    VenueSigns,
    diagnosis,
    own,
    quoted_at,
    suspicion,
)
from dca.service.caretakers.runner import Repair

log = logging.getLogger(__name__)

SUBJECT = "main_app"
STREAMER = "streamer"
LOOKS = 5
"""So often a streamer that may be ill is looked at again while it is watched."""
DATABASE_AGAIN_S = 3600.0
DATABASE = "database_unreachable"
ASK_THE_VENUE = frozenset({Ailment.UNSEEN, Ailment.DEAF, Ailment.CUT_OFF, Ailment.BLIND})


@dataclass(frozen=True, slots=True)
class View:
    """What one pass knows. `maintenance` is why nothing is to be done; `before` and `venue` are there
    when `signs` gave reason to look twice. `monotonic` is when all this was read."""

    machine: str
    maintenance: str | None
    signs: Signs
    memory: Memory
    monotonic: float
    before: Signs | None = None
    venue: VenueSigns | None = None
    said: str = ""


@dataclass(frozen=True, slots=True)
class Treatment(Repair):
    """`running` and `newest`, the newest launch, are what it was decided on, `launches` those that
    still count; `key` and `name` are the message's."""

    running: Running
    newest: str = ""
    launches: tuple[Launch, ...] = ()
    key: str = ""
    name: str = ""


class Watchdog:
    """A caretaker of the process on this machine. `pause` waits for so many real seconds."""

    name = "watchdog"

    def __init__(
        self,
        store: Store,
        broker: Broker,
        clock: Clock,
        supervisor: Supervisor,
        pause: Callable[[float], object],
        *,
        may_start: bool = True,
        limits: Limits | None = None,
    ) -> None:
        self._store = store
        self._broker = broker
        self._clock = clock
        self._supervisor = supervisor
        self._pause = pause
        self._may_start = may_start
        self._limits = limits or Limits()

    def look(self) -> View:
        maintenance, signs = self._maintenance(), self._signs()
        ailment = suspicion(signs, self._limits, self._clock.span)
        if maintenance is not None or ailment is None:
            return self._view(maintenance, signs)
        venue = self._ask_venue(signs) if ailment in ASK_THE_VENUE else None
        return self._view(maintenance, self._watched(signs, venue), before=signs, venue=venue)

    def _watched(self, before: Signs, venue: VenueSigns | None) -> Signs:
        """How the streamer is once it was watched for a while, or has shown that it is well."""
        after = before
        for _ in range(LOOKS):
            self._pause(self._limits.watch_s / LOOKS)
            after = self._signs()
            if diagnosis(before, after, venue, self._limits, self._clock.span) is None:
                break
        return after

    def _maintenance(self) -> str | None:
        return self._store.read(lambda tx: tx.flag(MAINTENANCE)) or self._supervisor.maintenance()

    def _signs(self) -> Signs:
        running = self._supervisor.running()
        beat = own(self._store.read(_beat), running)
        return Signs(running, beat, self._clock.now())

    def _ask_venue(self, signs: Signs) -> VenueSigns:
        try:
            ahead = self._broker.time() - self._clock.now()
            quotes = self._broker.latest_quotes(signs.symbols) if signs.symbols else {}
        except VenueError as error:
            return VenueSigns(str(error) or type(error).__name__)
        return VenueSigns(None, ahead, max((quote.at for quote in quotes.values()), default=None))

    def _view(
        self,
        maintenance: str | None,
        signs: Signs,
        *,
        before: Signs | None = None,
        venue: VenueSigns | None = None,
    ) -> View:
        return View(
            machine=self._supervisor.machine,
            maintenance=maintenance,
            signs=signs,
            memory=self._supervisor.memory(),
            monotonic=self._clock.monotonic(),
            before=before,
            venue=venue,
            said=self._supervisor.said(),
        )

    def plan(self, view: View, now: datetime) -> Sequence[Treatment]:
        if view.maintenance is not None:
            return [_leave(view, f"maintenance: {view.maintenance}")]
        if not view.signs.running.lives:
            return self._revive(view)
        if view.before is None:
            return []
        ailment = diagnosis(view.before, view.signs, view.venue, self._limits, self._clock.span)
        return [] if ailment is None else self._treat(view, ailment)

    def _revive(self, view: View) -> list[Treatment]:
        """Of a streamer that is dead, or lives on another machine."""
        if (elsewhere := self._elsewhere(view)) is not None:
            return [_leave(view, f"it runs on {elsewhere}; should it end there, it is started here")]
        if not self._may_start:
            return self._report_dead(view)
        launches = restarts.judged(view.memory.launches, view.monotonic, lived_s=self._lived_s(view))
        wait_s = restarts.wait_s(launches, view.monotonic)
        told = [one for one in _loop_told(view, launches, wait_s) if one.kind == "tell"]
        if wait_s > 0:
            return [*told, _leave(view, f"it does not stay alive; the next start is in {wait_s:.0f} s")]
        return [*told, _begin(view, "start", "it was not running", launches)]

    def _elsewhere(self, view: View) -> str | None:
        """The other machine whose streamer's heart beats."""
        beat = view.signs.beat
        if beat is None or view.signs.at - beat.at > self._clock.span(self._limits.stale_s):
            return None
        machine = str(beat.detail.get("identity") or "").partition("/")[0]
        return machine if machine not in ("", view.machine) else None

    def _lived_s(self, view: View) -> float:
        """How long the newest launch is known to have lived: to its last heartbeat."""
        beat, launches = view.signs.beat, view.memory.launches
        if beat is None or not launches or beat.detail.get("identity") != launches[-1].identity:
            return 0.0
        try:
            started_at = datetime.fromisoformat(str(beat.detail.get("started_at")))
            return max(0.0, (beat.at - started_at) / self._clock.span(1.0))
        except (ValueError, TypeError):
            return 0.0

    def _report_dead(self, view: View) -> list[Treatment]:
        beat = view.signs.beat
        since = "ever" if beat is None else beat.at.isoformat()
        if beat is not None and view.signs.at - beat.at < self._clock.span(self._limits.silent_s):
            return [_leave(view, "it is not running; what starts it has not done so yet")]
        text = f"main_app on {view.machine} is not running, and what starts it does not start it"
        return _told_once(view, f"down:{view.machine}:{since}", "crash_loop", text)

    def _treat(self, view: View, ailment: Ailment) -> list[Treatment]:
        """Of a streamer that lives and is not well."""
        why, venue, process = self._words(view, ailment), view.venue, view.signs.running.process
        if venue is not None and venue.error is not None:
            text = (
                f"the venue cannot be reached ({venue.error}): {why}; starting main_app again would not help"
            )
            key = f"venue_unreachable:{view.machine}:{_outage(view)}"
            return _told_once(view, key, "venue_unreachable", text)
        if process is None:
            text = (
                f"main_app on {view.machine} is not well ({why}), but main_app.pid does not name the process "
                "that locks it: find that one with `fuser main_app.pid` and end it by hand"
            )
            key = f"unknown_process:{view.machine}:{_outage(view)}"
            return _told_once(view, key, "caretaker_cannot_run", text)
        if ailment is Ailment.CUT_OFF:
            return [_leave(view, f"{why}, but the venue answers; it will be back by itself")]
        launches = restarts.judged(view.memory.launches, view.monotonic, lived_s=None)
        wait_s = restarts.wait_s(launches, view.monotonic)
        if wait_s > 0:
            return [_leave(view, f"{why}; too many starts lately, the next one is in {wait_s:.0f} s")]
        return [_begin(view, "restart", why, launches)]

    def _words(self, view: View, ailment: Ailment) -> str:
        signs = view.signs
        if ailment is Ailment.FROZEN and signs.beat is not None:
            age_s = (signs.at - signs.beat.at) / self._clock.span(1.0)
            return f"{ailment} (the last heartbeat is {age_s:.0f} s old)"
        if ailment is Ailment.BLIND:
            return f"{ailment} since {quoted_at(signs)}, while the market moved"
        return str(ailment)

    def mend(self, repair: Treatment) -> str | None:
        if repair.kind == "leave":
            return repair.reason
        with self._supervisor.alone() as alone:
            if not alone:
                return "another watchdog, or an operator's command, is at it"
            if repair.kind == "tell":
                return self._tell(repair)
            return self._start(repair)

    def _tell(self, repair: Treatment) -> str | None:
        now = self._clock.now()
        message = Message(key=repair.key[:190], name=repair.name, text=repair.reason, at=now)
        event = Event(name=repair.name, at=now, reason=repair.reason)

        def write(tx: Tx) -> None:
            if tx.add_message(message):
                tx.add_event(event)

        self._store.write(write)
        self._remember_told(repair.key)
        return None

    def _remember_told(self, key: str) -> None:
        self._supervisor.remember(restarts.told(self._supervisor.memory(), key, self._clock.monotonic()))

    def _start(self, repair: Treatment) -> str | None:
        """Started, unless somebody else did so since the plan was made."""
        running, memory = self._supervisor.running(), self._supervisor.memory()
        if not _same(running, repair.running) or _newest(memory) != repair.newest:
            return "somebody else has started it meanwhile"
        if (reason := self._maintenance()) is not None:
            return f"maintenance: {reason}"
        how = ""
        if running.process is not None:
            how = self._supervisor.stop(running.process)
            log.warning("streamer_stopped", extra={"pid": running.process.pid, "how": how})
        if not self._may_start:
            self._report(repair, how, None)
            return None
        launch = self._supervisor.start()
        launches = restarts.launched(repair.launches, launch)
        self._supervisor.remember(replace(memory, launches=launches))
        self._report(repair, how, launch)
        if launch.lived_s is not None:
            said = self._supervisor.said().rpartition("\n")[2]
            raise Unmended(f"main_app ended at once with exit code {launch.code}: {said}")
        return None

    def _report(self, repair: Treatment, how: str, launch: Launch | None) -> None:
        now, machine = self._clock.now(), self._supervisor.machine
        identity = "" if launch is None else launch.identity
        stopped = f"; {how}" if how else ""
        text = f"main_app on {machine} was started again: {repair.reason}{stopped}"
        data = {"machine": machine, "how": how, "identity": identity, "code": launch and launch.code}
        event = Event(name="watchdog_restart", at=now, reason=text, data=data)
        key = f"watchdog_restart:{identity or now.isoformat()}"
        message = Message(key=key[:190], name="watchdog_restart", text=text, at=now)

        def write(tx: Tx) -> None:
            tx.add_event(event)
            if launch is None or launch.lived_s is None:
                tx.add_message(message)

        self._store.write(write)


def _same(now: Running, then: Running) -> bool:
    if not now.lives and not then.lives:
        return True
    return (
        now.process is not None and then.process is not None and now.process.identity == then.process.identity
    )


def _newest(memory: Memory) -> str:
    return memory.launches[-1].identity if memory.launches else ""


def _beat(tx: Tx) -> Heartbeat | None:
    return next((beat for beat in tx.heartbeats() if beat.name == STREAMER), None)


def _begin(view: View, kind: str, why: str, launches: tuple[Launch, ...]) -> Treatment:
    return Treatment(kind, SUBJECT, why, view.signs.running, _newest(view.memory), launches)


def _leave(view: View, why: str) -> Treatment:
    return Treatment("leave", SUBJECT, why, view.signs.running)


def _told_once(view: View, key: str, name: str, text: str) -> list[Treatment]:
    """A person is told, unless he was; then nothing is done, for that reason."""
    if key in view.memory.told:
        return [_leave(view, text)]
    return [Treatment("tell", SUBJECT, text, view.signs.running, key=key, name=name)]


def _loop_told(view: View, launches: Sequence[Launch], wait_s: float) -> list[Treatment]:
    """What a person must hear of a streamer that does not stay alive."""
    loop = restarts.loop(launches)
    if loop is None:
        return []
    if loop.code == restarts.FIX_A_SETTING:
        last = view.said.rpartition("\n")[2]
        text = f"main_app on {view.machine} cannot run until this is fixed, then `dca start`: {last}"
    else:
        text = (
            f"main_app on {view.machine} died {loop.count} times in a row within "
            f"{restarts.SHORT_S:.0f} s; the next start is in {wait_s:.0f} s. It said last:\n{view.said}"
        )
    return _told_once(view, f"crash_loop:{loop.since}:{loop.code}", "crash_loop", text)


def _outage(view: View) -> str:
    """Names the outage: what the streamer last knew of the venue stays the same while it lasts."""
    beat, process = view.signs.beat, view.signs.running.process
    last = None if beat is None else beat.detail.get("caught_up_at")
    return str(last or (process.identity if process else "") or (beat.at.isoformat() if beat else "never"))


def alarm(supervisor: Supervisor, notifier: Notifier, clock: Clock, why: str) -> None:
    """A person knows that the database cannot be reached, which no outbox can tell: at most once in
    DATABASE_AGAIN_S, and never while the machine is under maintenance."""
    with supervisor.alone() as alone:
        memory, now = supervisor.memory(), clock.monotonic()
        last = memory.told.get(DATABASE)
        if not alone or supervisor.maintenance() is not None:
            return
        if last is not None and now - last < DATABASE_AGAIN_S:
            return
        lives = supervisor.running().lives
        state = (
            "main_app runs, and sends no new orders" if lives else "main_app does not run and cannot start"
        )
        text = f"the database cannot be reached on {supervisor.machine}: {why}. {state} until it is back."
        try:
            notifier.send("the database cannot be reached", text)
        except DcaError as error:
            log.warning("database_alarm_not_sent", extra={"error": str(error)})
            return
        supervisor.remember(restarts.told(memory, DATABASE, now))
