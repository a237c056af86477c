"""The watchdog: what it concludes from which signs, when it starts what again, and what it leaves alone.

The processes are real; instead of the streamer they run a few lines that only hold its pid file.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal as D
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import psutil
import pytest
from build import BTC, T0, at

from dca.adapters import process
from dca.adapters.clock import SystemClock
from dca.adapters.memory import MemoryStore
from dca.adapters.process import PidFile, identity
from dca.adapters.supervise import LocalSupervisor, note_exit
from dca.adapters.venues.sim import SimVenue
from dca.domain.errors import ConfigError, Unavailable, Unmended
from dca.domain.market import Quote
from dca.domain.record import Heartbeat
from dca.ports import MAINTENANCE, Launch, Memory, Process, Running
from dca.service.caretakers import restarts
from dca.service.caretakers.diagnosis import Ailment, Limits, Signs, VenueSigns, diagnosis, own, suspicion
from dca.service.caretakers.runner import Report, Result, run
from dca.service.caretakers.watchdog import DATABASE_AGAIN_S, Watchdog, alarm

LIMITS = Limits()
NOW = at(100_000)
SPAN = SystemClock().span
SOURCE = Path(process.__file__).parents[2]
PROGRAM = """
import signal, sys, threading, time
sys.path.insert(0, {source!r})
from pathlib import Path
from dca.adapters.clock import SystemClock
from dca.adapters.process import PidFile
from dca.adapters.supervise import note_exit
folder = Path({folder!r})
def end(code):
    note_exit(folder, SystemClock(), code)
    sys.exit(code)
signal.signal(signal.SIGTERM, lambda *_: end(0))
{first}
PidFile(folder / "main_app.pid").take()
{then}
time.sleep(60)
"""


# Signs


def ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).isoformat()


def signs(*, age_s: float = 3600, beat_ago_s: float | None = 1, now: datetime = NOW, **detail: Any) -> Signs:
    """A streamer that is well, but for what is said."""
    running = Running(True, Process(7, "here/7/a.1", age_s))
    well = {
        "identity": "here/7/a.1",
        "started_at": ago(age_s),
        "links": {"market": "up", "trades": "up"},
        "last_quote_at": ago(1),
        "last_update_at": ago(50_000),
        "trades_down_since": None,
        "market_down_since": None,
        "caught_up_at": ago(5),
        "venue_error": None,
        "assets": {"BTC/USD": "waits"},
    }
    if beat_ago_s is None:
        return Signs(running, None, now)
    beat = Heartbeat(name="streamer", at=NOW - timedelta(seconds=beat_ago_s), detail={**well, **detail})
    return Signs(running, beat, now)


@pytest.mark.parametrize(
    ("changes", "suspected"),
    [
        ({}, None),
        ({"beat_ago_s": 29}, None),
        ({"beat_ago_s": 31}, Ailment.FROZEN),
        ({"beat_ago_s": 31, "age_s": 59}, None),
        ({"beat_ago_s": -4}, None),
        ({"beat_ago_s": -3600}, Ailment.FROZEN),
        ({"beat_ago_s": None}, Ailment.UNSEEN),
        ({"beat_ago_s": None, "age_s": 59}, None),
        ({"trades_down_since": ago(119)}, None),
        ({"trades_down_since": ago(121)}, Ailment.DEAF),
        ({"trades_down_since": ago(121), "age_s": 59}, None),
        ({"last_quote_at": ago(119)}, None),
        ({"last_quote_at": ago(121)}, Ailment.BLIND),
        ({"last_quote_at": None}, Ailment.BLIND),
        ({"last_quote_at": None, "age_s": 100}, None),
        ({"last_quote_at": ago(121), "assets": {}}, None),
        ({"venue_error": "HTTP 503", "caught_up_at": ago(119)}, None),
        ({"venue_error": "HTTP 503", "caught_up_at": ago(121)}, Ailment.CUT_OFF),
        ({"venue_error": "HTTP 503", "caught_up_at": None}, Ailment.CUT_OFF),
        ({"venue_error": None, "caught_up_at": ago(500)}, None),
    ],
)
def test_what_one_look_gives_reason_to_fear(changes: dict[str, Any], suspected: Ailment | None) -> None:
    assert suspicion(signs(**changes), LIMITS, SPAN) is suspected


@pytest.mark.parametrize("strange", [None, 5, "soon", "2026-01-01T00:00:00", ["x"]])
def test_what_a_heartbeat_does_not_tell_is_not_held_against_it(strange: Any) -> None:
    names = ("trades_down_since", "last_quote_at", "caught_up_at", "started_at")
    told = signs(**dict.fromkeys(names, strange), venue_error="x")
    assert suspicion(told, LIMITS, SPAN) is None
    assert told.beat is not None
    silent = replace(told, beat=replace(told.beat, detail={}))
    assert suspicion(silent, LIMITS, SPAN) is None


def test_a_dead_streamer_is_not_ill() -> None:
    assert suspicion(Signs(Running(False), None, NOW), LIMITS, SPAN) is None


def test_on_a_scaled_clock_every_limit_is_still_in_real_seconds() -> None:
    fast = lambda seconds: timedelta(seconds=seconds * 1000)  # noqa: E731
    assert suspicion(signs(beat_ago_s=29_000, last_quote_at=ago(29_000)), LIMITS, fast) is None
    assert suspicion(signs(beat_ago_s=31_000), LIMITS, fast) is Ailment.FROZEN


def test_the_heartbeat_of_an_earlier_process_is_not_its_own() -> None:
    running, beat = signs().running, signs().beat
    assert beat is not None and own(beat, running) is beat
    earlier = replace(beat, detail={**beat.detail, "identity": "here/7/a.0"})
    assert own(earlier, running) is None
    assert own(replace(beat, detail={}), running) is not None, "an older version names nobody"


ANSWERS = VenueSigns(None)


@pytest.mark.parametrize(
    ("before", "after", "venue", "found"),
    [
        # A clock that was set an hour ahead makes every heartbeat old, until the next one.
        ({"beat_ago_s": 3600}, {"beat_ago_s": 3600}, None, Ailment.FROZEN),
        ({"beat_ago_s": 3600}, {"beat_ago_s": 0}, None, None),
        ({"beat_ago_s": 3600}, {"beat_ago_s": 3598}, None, None),
        # Set back, it puts them in the future, where only their movement shows that they beat.
        ({"beat_ago_s": -3600}, {"beat_ago_s": -3602}, None, None),
        ({"beat_ago_s": -3600}, {"beat_ago_s": -3600}, None, Ailment.FROZEN),
        ({"trades_down_since": ago(130)}, {"trades_down_since": None}, ANSWERS, None),
        ({"trades_down_since": ago(130)}, {"trades_down_since": ago(130)}, ANSWERS, Ailment.DEAF),
        ({"last_quote_at": ago(130)}, {"last_quote_at": ago(1)}, ANSWERS, None),
        ({"beat_ago_s": None}, {}, ANSWERS, None),
        ({"beat_ago_s": None}, {"beat_ago_s": None}, ANSWERS, Ailment.UNSEEN),
    ],
)
def test_only_what_still_holds_after_a_while_is_believed(
    before: dict[str, Any], after: dict[str, Any], venue: VenueSigns | None, found: Ailment | None
) -> None:
    assert diagnosis(signs(**before), signs(**after), venue, LIMITS, SPAN) is found


@pytest.mark.parametrize(
    ("quoted_ago_s", "ahead_s", "found"),
    [
        (1, 0, Ailment.BLIND),
        (200, 0, None),
        (196, 0, None),
        (None, 0, None),
        # Our clock is five minutes slow: the venue stamps the quote that we had last in our future.
        (-100, 300, None),
        (-299, 300, Ailment.BLIND),
        # Our clock is five minutes fast: what we missed looks older than what we had.
        (301, -300, Ailment.BLIND),
    ],
)
def test_no_quote_is_no_ailment_while_the_market_stands_still(
    quoted_ago_s: float | None, ahead_s: float, found: Ailment | None
) -> None:
    """The last quote reached us 200 s ago, by our own clock."""
    quoted_at = None if quoted_ago_s is None else NOW - timedelta(seconds=quoted_ago_s)
    venue = VenueSigns(None, timedelta(seconds=ahead_s), quoted_at)
    silent = signs(last_quote_at=ago(200))
    assert diagnosis(silent, silent, venue, LIMITS, SPAN) is found


def test_another_process_by_then_is_left_alone() -> None:
    before, after = signs(beat_ago_s=99), signs(beat_ago_s=99)
    after = replace(after, running=Running(True, Process(8, "here/8/a.2", 3600)))
    assert diagnosis(before, after, None, LIMITS, SPAN) is None


# Pauses between starts


def lives(*seconds: float | None, code: int | None = None) -> tuple[Launch, ...]:
    """Launches one right after the other; None still lives."""
    begun, launches = 0.0, []
    for number, lived_s in enumerate(seconds):
        launches.append(Launch(f"here/{number}/a.1", begun, lived_s, code))
        begun += lived_s or 0.0
    return tuple(launches)


@pytest.mark.parametrize(
    ("launches", "wait_s"),
    [
        ((), 0),
        (lives(1), 30),
        (lives(1, 1), 60),
        (lives(1, 1, 1), 120),
        (lives(1, 1, 1, 1), 240),
        (lives(1, 1, 1, 1, 1), 480),
        (lives(59), 30),
        (lives(61), 0),
        (lives(1, 1, 61), 0),
        (lives(1, 1, 61, 1), 30),
        (lives(0.5, code=78), 900),
        (lives(0.5, code=75), 30),
        (lives(5, code=0), 0),
        (lives(5, code=-9), 30),
    ],
)
def test_the_next_start_waits_longer_after_each_short_life(
    launches: tuple[Launch, ...], wait_s: float
) -> None:
    now = sum(launch.lived_s or 0.0 for launch in launches)
    assert restarts.wait_s(launches, now) == wait_s
    assert restarts.wait_s(launches, now + wait_s) == 0


def test_a_loop_has_at_most_six_starts_an_hour_and_a_quarter_of_an_hour_between_them() -> None:
    launches: tuple[Launch, ...] = ()
    starts: list[float] = []
    for second in range(0, 24 * 3600, 10):
        launches = restarts.judged(launches, second, lived_s=1.0)
        if restarts.wait_s(launches, second) == 0:
            starts.append(second)
            launches = restarts.launched(launches, Launch(f"here/{second}/a.1", second))
    assert max(sum(start <= other < start + 3600 for other in starts) for start in starts) <= 6
    assert starts[:4] == [0, 40, 110, 240], "31, 61 and 121 s after the start before, in steps of 10 s"
    assert max(later - sooner for sooner, later in pairwise(starts[6:])) <= 2600, "it never gives up"


def test_restarts_of_one_that_lives_a_while_are_counted_too() -> None:
    launches = lives(100, 100, 100, 100, 100, 100)
    assert restarts.wait_s(launches, 600) == 3000
    assert restarts.wait_s(launches[1:], 600) == 0


def test_after_ten_minutes_of_life_everything_is_forgotten() -> None:
    short = lives(1, 1, 1)
    assert restarts.judged((*short, Launch("x", 3.0)), 604, lived_s=None) == ()
    assert len(restarts.judged((*short, Launch("x", 3.0)), 602, lived_s=None)) == 4
    assert restarts.judged((*short, Launch("x", 3.0)), 9999, lived_s=601) == ()
    assert restarts.judged((*short, Launch("x", 3.0, 2.0)), 9999, lived_s=601)[-1].lived_s == 2.0
    assert restarts.judged((), 5, lived_s=None) == ()


@pytest.mark.parametrize(
    ("launches", "count"),
    [
        (lives(1, 1), None),
        (lives(1, 1, 1), 3),
        (lives(700, 1, 1, 1, 1), 4),
        (lives(1, code=78), 1),
        (lives(1, 1, 1, code=0), None),
    ],
)
def test_the_third_short_life_in_a_row_is_told_and_a_wrong_setting_at_once(
    launches: tuple[Launch, ...], count: int | None
) -> None:
    loop = restarts.loop(launches)
    assert (loop and loop.count) == count


# Passes, on real processes


class Passing(SystemClock):
    """The machine's clock, which a test can put forward as if that much time had passed."""

    ahead_s = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.ahead_s)

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


class Venue(SimVenue):
    """The simulated venue, which may be out of reach."""

    error: str | None = None

    def time(self) -> datetime:
        if self.error is not None:
            raise Unavailable(self.error)
        return super().time()


@dataclass
class Inbox:
    """Whom the watchdog tells without a database."""

    error: str | None = None
    got: list[str] = field(default_factory=list)

    def send(self, title: str, text: str) -> None:
        if self.error is not None:
            raise Unavailable(self.error)
        self.got.append(text)


class Den:
    """One machine with its run directory, its streamer and its watchdogs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Passing()
        self.store = MemoryStore()
        self.venue = Venue(self.clock, {"BTC/USD": BTC}, D(1000), Random(1))
        self.quiet_s = 0.0
        self.stop_s = 10.0
        self.program()

    def program(self, *, first: str = "", then: str = "") -> None:
        """What the streamer does before and after it takes its pid file."""
        text = PROGRAM.format(source=str(SOURCE), folder=str(self.folder), first=first, then=then)
        (self.folder / "main_app.py").write_text(text)

    def supervisor(self, **changes: Any) -> LocalSupervisor:
        return LocalSupervisor(
            self.folder, self.folder / "main_app.py", self.clock, **{"stop_s": self.stop_s, **changes}
        )

    def watchdog(self, pause: Callable[[float], object] | None = None, **changes: Any) -> Watchdog:
        return Watchdog(self.store, self.venue, self.clock, self.supervisor(), pause or self.rest, **changes)

    def rest(self, seconds: float) -> None:
        self.quiet_s += seconds

    def run(self, **changes: Any) -> Report:
        alive = lambda _: True  # noqa: E731
        return run(self.watchdog(**changes), store=self.store, clock=self.clock, holder="a test", alive=alive)

    def pid(self) -> int:
        running = self.supervisor().running()
        assert running.process is not None
        return running.process.pid

    def beat(self, ago_s: float = 0.0, **detail: Any) -> None:
        """The running streamer's heartbeat; it has run for an hour, in which it was well."""
        running = self.supervisor().running().process
        name = "" if running is None else running.identity
        at = self.clock.now() - timedelta(seconds=ago_s)
        started = (self.clock.now() - timedelta(seconds=3600)).isoformat()
        fields = {"identity": name, "started_at": started, **detail}
        self.store.write(lambda tx: tx.beat(Heartbeat(name="streamer", at=at, detail=fields)))

    def kinds(self, report: Report) -> list[str]:
        return [repair.kind for repair in report.planned]

    def told(self) -> list[str]:
        return [message.name for message in self.store.read(lambda tx: tx.messages())]

    def starts(self) -> int:
        try:
            return (self.folder / "main_app.out").read_text().count("--- started at")
        except FileNotFoundError:
            return 0

    def close(self) -> None:
        supervisor = self.supervisor()
        running = supervisor.running()
        if running.process is not None:
            os.kill(running.process.pid, signal.SIGKILL)


@pytest.fixture
def den(tmp_path: Path) -> Iterator[Den]:
    made = Den(tmp_path)
    yield made
    made.close()


NO_GRACE = Limits(fresh_s=0.0)


def test_a_dead_streamer_is_started_apart_and_told(den: Den) -> None:
    report = den.run()
    assert (report.result, report.mended, den.kinds(report)) == (Result.DONE, 1, ["start"])
    pid = den.pid()
    assert os.getsid(pid) == pid, "it has a session of its own: no terminal takes it along"
    opened = {Path(f"/proc/{pid}/fd/{number}").readlink() for number in (0, 1, 2)}
    assert opened == {Path("/dev/null"), den.folder / "main_app.out"}
    assert psutil.Process(pid).cmdline()[-1] == "--detached"
    assert den.told() == ["watchdog_restart"]
    (event,) = den.store.read(lambda tx: tx.events())
    assert event.name == "watchdog_restart" and event.data["identity"] == process.identity_of(pid)
    den.beat()
    assert den.run().planned == []
    assert den.pid() == pid


def test_a_stale_file_with_a_live_process_in_it_keeps_nothing_from_being_started(den: Den) -> None:
    (den.folder / "main_app.pid").write_text(f'{os.getpid()}\n{identity()}\n["main_app.py"]\n')
    assert den.kinds(den.run()) == ["start"]
    assert den.pid() != os.getpid()


def test_a_frozen_streamer_is_killed_and_started_again(den: Den) -> None:
    den.run()
    first = den.pid()
    den.clock.ahead_s += 700
    den.beat(ago_s=40)
    os.kill(first, signal.SIGSTOP)
    den.stop_s = 0.2
    report = den.run(limits=NO_GRACE)
    assert (den.kinds(report), report.mended) == (["restart"], 1)
    assert den.pid() != first and process.identity_of(first) is None
    assert den.quiet_s == LIMITS.watch_s, "it was watched first"
    reason = den.store.read(lambda tx: tx.events())[0].reason
    assert "the last heartbeat is 40 s old" in reason and "was killed" in reason


def test_a_streamer_that_ends_when_asked_is_not_killed(den: Den) -> None:
    den.run()
    den.clock.ahead_s += 700
    den.beat(ago_s=40)
    den.run(limits=NO_GRACE)
    assert "ended when asked" in den.store.read(lambda tx: tx.events())[0].reason


def test_a_heart_that_beats_again_while_it_is_watched_saves_it(den: Den) -> None:
    den.run()
    pid = den.pid()
    den.beat(ago_s=3600)

    def rest(seconds: float) -> None:
        den.beat(ago_s=3598)

    assert den.run(pause=rest, limits=NO_GRACE).planned == []
    assert den.pid() == pid


def test_a_fresh_one_has_time_to_report(den: Den) -> None:
    den.run()
    assert den.run().planned == []


@pytest.mark.parametrize(
    ("detail", "kind"),
    [
        ({"trades_down_since": T0.isoformat()}, "restart"),
        ({"last_quote_at": T0.isoformat(), "assets": {"BTC/USD": ""}}, "restart"),
        ({"venue_error": "HTTP 503", "caught_up_at": T0.isoformat()}, "leave"),
        ({}, None),
    ],
)
def test_deaf_and_blind_ones_are_started_again(den: Den, detail: dict[str, Any], kind: str | None) -> None:
    den.run()
    den.clock.ahead_s += 700
    den.beat(**detail)
    den.venue.quote(Quote("BTC/USD", D(20_000), D(20_001), den.clock.now()))
    report = den.run(limits=NO_GRACE)
    assert den.kinds(report) == ([] if kind is None else [kind])


@pytest.mark.parametrize(
    "detail",
    [
        {"trades_down_since": T0.isoformat(), "caught_up_at": T0.isoformat()},
        {"last_quote_at": T0.isoformat(), "assets": {"BTC/USD": ""}, "caught_up_at": T0.isoformat()},
        {"venue_error": "HTTP 503", "caught_up_at": T0.isoformat()},
        {"identity": "here/1/earlier"},
    ],
)
def test_while_the_venue_is_away_nothing_is_restarted_and_a_person_told_once(
    den: Den, detail: dict[str, Any]
) -> None:
    den.run()
    pid = den.pid()
    den.venue.error = "no route to host"
    den.beat(**detail)
    assert den.kinds(den.run(limits=NO_GRACE)) == ["tell"]
    den.beat(**detail)
    again = den.run(limits=NO_GRACE)
    assert den.kinds(again) == ["leave"] and "no route to host" in again.notes["main_app"]
    assert den.told().count("venue_unreachable") == 1
    assert den.pid() == pid


def test_a_frozen_one_is_restarted_whatever_the_venue_says(den: Den) -> None:
    den.run()
    den.clock.ahead_s += 700
    den.venue.error = "no route to host"
    den.beat(ago_s=40)
    assert den.kinds(den.run(limits=NO_GRACE)) == ["restart"]


def test_under_maintenance_it_does_nothing_and_says_so(den: Den) -> None:
    den.store.write(lambda tx: tx.set_flag(MAINTENANCE, "a new disk", at=den.clock.now()))
    report = den.run()
    assert report.notes == {"main_app": "maintenance: a new disk"} and report.exit_code == 0
    den.store.write(lambda tx: tx.set_flag(MAINTENANCE, None, at=den.clock.now()))
    den.supervisor().set_maintenance("a new fan")
    assert den.run().notes == {"main_app": "maintenance: a new fan"}
    assert den.starts() == 0
    den.supervisor().set_maintenance(None)
    assert den.kinds(den.run()) == ["start"]


def test_maintenance_that_begins_after_the_look_is_respected(den: Den) -> None:
    watchdog = den.watchdog()
    (start,) = watchdog.plan(watchdog.look(), den.clock.now())
    den.supervisor().set_maintenance("stopped by the operator")
    assert watchdog.mend(start) == "maintenance: stopped by the operator"
    assert den.starts() == 0


def test_one_that_ends_at_once_is_started_ever_later_and_told_at_the_third_time(den: Den) -> None:
    den.program(first="print('the last words', flush=True); sys.exit(3)")
    waits = []
    for _ in range(3):
        report = den.run()
        assert (report.result, report.failed) == (Result.PARTLY, 1)
        assert report.notes["main_app"] == "main_app ended at once with exit code 3: the last words"
        waits.append(restarts.wait_s(den.supervisor().memory().launches, den.clock.monotonic()))
        assert den.starts() == len(waits)
        if len(waits) < 3:
            assert den.kinds(den.run()) == ["leave"]
            den.clock.ahead_s += waits[-1]
    assert waits == pytest.approx([30, 60, 120], abs=1)
    assert den.told() == []
    assert den.kinds(den.run()) == ["tell", "leave"]
    assert den.kinds(den.run()) == ["leave"]
    (message,) = den.store.read(lambda tx: tx.messages())
    assert message.name == "crash_loop"
    assert "3 times in a row" in message.text and "the last words" in message.text
    assert den.starts() == 3


def test_a_setting_that_must_be_fixed_is_told_at_once_and_not_tried_for_a_quarter_of_an_hour(
    den: Den,
) -> None:
    """It takes the pid file first and finds out later, so only its note tells the exit code."""
    den.program(then="time.sleep(0.2); print('main_app: KEY is wrong', file=sys.stderr); end(78)")
    den.run()
    _until(lambda: not den.supervisor().running().lives)
    _until(lambda: den.supervisor().memory().launches[-1].code == 78)
    assert den.kinds(den.run()) == ["tell", "leave"]
    (message,) = [one for one in den.store.read(lambda tx: tx.messages()) if one.name == "crash_loop"]
    assert message.text.endswith("main_app: KEY is wrong")
    den.clock.ahead_s += 890
    assert den.kinds(den.run()) == ["leave"]
    den.clock.ahead_s += 15
    assert den.kinds(den.run()) == ["start"]


def _until(holds: Callable[[], bool]) -> None:
    limit = SystemClock().monotonic() + 10
    while not holds():
        assert SystemClock().monotonic() < limit
        threading.Event().wait(0.02)


def test_one_killed_after_a_short_life_is_waited_for_and_after_a_long_one_not(den: Den) -> None:
    den.run()
    den.beat()
    os.kill(den.pid(), signal.SIGKILL)
    _until(lambda: not den.supervisor().running().lives)
    started = {"started_at": (den.clock.now() - timedelta(seconds=20)).isoformat()}
    name = den.supervisor().memory().launches[-1].identity
    den.beat(**started, identity=name)
    assert den.kinds(den.run()) == ["leave"]
    den.beat(identity=name)
    assert den.kinds(den.run()) == ["start"], "its heartbeats show that it lived for an hour"


def test_an_ill_one_is_kept_rather_than_none_when_it_was_started_too_often(den: Den) -> None:
    den.run()
    memory, now = den.supervisor().memory(), den.clock.monotonic()
    earlier = tuple(Launch(f"here/{n}/a.1", now - 1000 + n * 150, 100.0) for n in range(5))
    den.supervisor().remember(replace(memory, launches=(*earlier, *memory.launches)))
    pid = den.pid()
    den.beat(ago_s=40)
    report = den.run(limits=NO_GRACE)
    assert den.kinds(report) == ["leave"] and "too many starts lately" in report.notes["main_app"]
    assert den.pid() == pid


def test_many_watchdogs_at_once_start_one(den: Den) -> None:
    """The lease in the database would let one through; here each has passed it already."""
    watchdogs = [den.watchdog() for _ in range(8)]
    plans = [watchdog.plan(watchdog.look(), den.clock.now()) for watchdog in watchdogs]
    barrier, ends = threading.Barrier(len(watchdogs)), []

    def mend(watchdog: Watchdog, plan: Any) -> None:
        barrier.wait()
        ends.append(watchdog.mend(plan[0]))

    _all([threading.Thread(target=mend, args=pair) for pair in zip(watchdogs, plans, strict=True)])
    assert ends.count(None) == 1 and den.starts() == 1
    # And one that comes later with the plan of before.
    assert watchdogs[0].mend(plans[0][0]) == "somebody else has started it meanwhile"
    assert den.starts() == 1


def test_a_start_that_failed_meanwhile_is_not_repeated_without_a_pause(den: Den) -> None:
    den.program(first="sys.exit(3)")
    watchdogs = [den.watchdog() for _ in range(2)]
    plans = [watchdog.plan(watchdog.look(), den.clock.now()) for watchdog in watchdogs]
    with pytest.raises(Unmended):
        watchdogs[0].mend(plans[0][0])
    assert watchdogs[1].mend(plans[1][0]) == "somebody else has started it meanwhile"
    assert den.starts() == 1


def test_two_watchdogs_at_an_ill_one_restart_it_once(den: Den) -> None:
    den.run()
    den.clock.ahead_s += 700
    den.beat(ago_s=40)
    watchdogs = [den.watchdog(limits=NO_GRACE) for _ in range(2)]
    plans = [watchdog.plan(watchdog.look(), den.clock.now()) for watchdog in watchdogs]
    barrier = threading.Barrier(2)

    def mend(watchdog: Watchdog, plan: Any) -> None:
        barrier.wait()
        watchdog.mend(plan[0])

    _all([threading.Thread(target=mend, args=pair) for pair in zip(watchdogs, plans, strict=True)])
    watchdogs[0].mend(plans[0][0])
    watchdogs[1].mend(plans[1][0])
    assert den.starts() == 2, "the first start, and one again"
    assert den.supervisor().running().lives


def _all(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_where_something_else_starts_it_the_watchdog_only_stops_it(den: Den) -> None:
    assert den.run(may_start=False).planned[0].kind == "tell"
    assert den.kinds(den.run(may_start=False)) == ["leave"]
    assert den.starts() == 0 and den.told() == ["crash_loop"]
    den.supervisor().start()
    den.beat(ago_s=40)
    assert den.kinds(den.run(may_start=False, limits=NO_GRACE)) == ["restart"]
    assert not den.supervisor().running().lives
    assert den.told() == ["crash_loop", "watchdog_restart"]
    den.beat(ago_s=20)
    assert den.kinds(den.run(may_start=False)) == ["leave"], "it is given time to do so"


def test_one_that_lives_on_another_machine_is_left_there_until_its_heart_stops(den: Den) -> None:
    den.beat(ago_s=29, identity="elsewhere/7/a.1")
    report = den.run()
    assert den.kinds(report) == ["leave"] and "it runs on elsewhere" in report.notes["main_app"]
    den.beat(ago_s=31, identity="elsewhere/7/a.1")
    assert den.kinds(den.run()) == ["start"]


def test_a_lock_without_its_owner_in_the_file_is_left_to_a_person(den: Den) -> None:
    file = PidFile(den.folder / "main_app.pid")
    file.take()
    (den.folder / "main_app.pid").write_text("7\nhere/7/a.1\n[]\n")
    den.beat(ago_s=1)
    assert den.run(limits=NO_GRACE).planned == []
    den.beat(ago_s=40)
    assert den.kinds(den.run()) == ["tell"]
    assert den.kinds(den.run()) == ["leave"]
    assert den.told() == ["caretaker_cannot_run"]
    file.drop()


def test_the_lease_is_of_the_machine(den: Den) -> None:
    held = threading.Event(), threading.Event()

    def rest(seconds: float) -> None:
        held[0].set()
        held[1].wait(10)

    den.run()
    den.beat(ago_s=40)
    alive = lambda _: True  # noqa: E731
    common: dict[str, Any] = {"store": den.store, "clock": den.clock, "alive": alive}
    busy = threading.Thread(
        target=lambda: run(den.watchdog(rest, limits=NO_GRACE), **common, holder="a", place="@one")
    )
    busy.start()
    held[0].wait(10)
    assert run(den.watchdog(), **common, holder="b", place="@one").result is Result.BUSY
    assert run(den.watchdog(), **common, holder="c", place="@two").result is Result.DONE
    held[1].set()
    busy.join()


# Its own memory, and the alarm without a database


def test_what_it_remembers_survives_in_a_private_file_until_the_machine_is_started_anew(
    den: Den, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory((Launch("here/1/a.1", 5.0, 2.0, 3),), {"x": 7.0})
    den.supervisor().remember(memory)
    assert den.supervisor().memory() == memory
    assert oct((den.folder / "watchdog.json").stat().st_mode & 0o777) == "0o600"
    assert [path.name for path in den.folder.iterdir() if path.suffix == ".new"] == []
    monkeypatch.setattr("dca.adapters.supervise.boot", lambda: "another boot")
    assert den.supervisor().memory() == Memory()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"boot": 1}', '{"launches": 5, "told": {}}'])
def test_a_damaged_memory_is_an_empty_one(den: Den, text: str) -> None:
    (den.folder / "watchdog.json").write_text(text)
    assert den.supervisor().memory() == Memory()
    half = f'{{"boot": "{process.boot()}", "launches": [{{"identity": 1}}], "told": []}}'
    (den.folder / "watchdog.json").write_text(half)
    assert den.supervisor().memory() == Memory()
    assert den.kinds(den.run()) == ["start"]


def test_a_disk_that_is_full_keeps_nothing_from_being_started(
    den: Den, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dca.adapters.supervise._write", full)
    report = den.run()
    assert report.mended == 1 and den.supervisor().running().lives
    note_exit(den.folder, den.clock, 0)


def test_the_last_words_are_of_the_newest_start_and_without_secrets(den: Den) -> None:
    out = den.folder / "main_app.out"
    noise = "\n".join(f"line {number}" for number in range(1000))
    out.write_text(f"{noise}\n--- started at 1\nold\n--- started at 2\nkey hush is wrong\n")
    assert den.supervisor(hide=lambda text: text.replace("hush", "***")).said() == "key *** is wrong"
    out.write_text("hush" * 2000 + "\nend\n")
    assert "ush" not in den.supervisor(hide=lambda text: text.replace("hush", "***")).said()


def test_a_program_that_is_not_there_is_said(den: Den) -> None:
    (den.folder / "main_app.py").unlink()
    with pytest.raises(ConfigError, match="there is no"):
        den.run()


def test_without_a_database_a_person_is_told_once_an_hour(den: Den) -> None:
    inbox = Inbox(error="no mail server")
    alarm(den.supervisor(), inbox, den.clock, "connection refused")
    inbox.error = None
    for _ in range(3):
        alarm(den.supervisor(), inbox, den.clock, "connection refused")
        den.clock.ahead_s += DATABASE_AGAIN_S / 3 - 1
    assert len(inbox.got) == 1 and "main_app does not run and cannot start" in inbox.got[0]
    den.clock.ahead_s += 10
    alarm(den.supervisor(), inbox, den.clock, "connection refused")
    assert len(inbox.got) == 2


def test_without_a_database_the_alarm_respects_maintenance(den: Den) -> None:
    inbox = Inbox()
    den.supervisor().set_maintenance("a new disk")
    alarm(den.supervisor(), inbox, den.clock, "connection refused")
    assert inbox.got == []
