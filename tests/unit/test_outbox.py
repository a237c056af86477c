"""The outbox: what goes out, what waits for the morning, what is dropped, and who is told again."""

import ast
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

import dca
from dca.adapters.clock import ManualClock
from dca.adapters.memory import MemoryStore
from dca.domain.errors import StoreUnavailable, Unavailable
from dca.domain.notices import NOTICES, Quiet, notice
from dca.domain.record import Message
from dca.service.caretakers.notifier import NotifierCaretaker
from dca.service.caretakers.runner import Result, run
from dca.service.lease import take
from dca.service.outbox import BUDGET_S, LEASE, MANY, Outbox, Plan, Policy, plan
from dca.settings import load

VIENNA = ZoneInfo("Europe/Vienna")
NIGHT = datetime(2026, 1, 10, 1, 0, tzinfo=UTC)
NOON = datetime(2026, 1, 10, 12, 0, tzinfo=UTC)
BOTH = ("mail-0a1b2c3d", "chat-4e5f6a7b")


def quiet(hours: str) -> Quiet:
    found = load({"APCA_API_KEY_ID": "k", "APCA_API_SECRET_KEY": "s", "NOTIFY_QUIET": hours,
                  "NOTIFY_TZ": "Europe/Vienna"}, env_file=Path("/dev/null")).notify.quiet  # fmt: skip
    assert found is not None
    return found


def a_message(key: str = "m1", name: str = "take_profit", at: datetime = NOON) -> Message:
    return Message(key=key, name=name, text=f"text of {key}", at=at)


class Recording:
    """A notifier that remembers, and that some addresses of refuse."""

    def __init__(self, addresses: Sequence[str] = BOTH) -> None:
        self.addresses = tuple(addresses)
        self.refusing: set[str] = set()
        self.took: list[tuple[str, str]] = []

    def send(self, title: str, text: str, *, to: str | None = None) -> None:
        assert to is not None
        if to in self.refusing:
            raise Unavailable(f"{to} is down")
        self.took.append((to, text))


class TestQuietHours:
    @pytest.mark.parametrize(
        ("hours", "at", "holds"),
        [
            ("22:00-07:00", "2026-01-10T20:59:59", False),
            ("22:00-07:00", "2026-01-10T21:00:00", True),
            ("22:00-07:00", "2026-01-10T05:59:59", True),
            ("22:00-07:00", "2026-01-10T06:00:00", False),
            ("22:00-07:00", "2026-07-10T19:59:59", False),
            ("22:00-07:00", "2026-07-10T20:00:00", True),
            ("22:00-07:00", "2026-07-10T05:00:00", False),
            ("13:00-14:00", "2026-01-10T12:30:00", True),
            ("13:00-14:00", "2026-01-10T13:00:00", False),
        ],
    )
    def test_they_follow_the_clock_of_people(self, hours: str, at: str, holds: bool) -> None:
        assert quiet(hours).holds(datetime.fromisoformat(at).replace(tzinfo=UTC)) is holds

    def test_the_night_in_which_clocks_go_forward_ends_at_seven_of_the_new_time(self) -> None:
        night = [datetime(2026, 3, 28, 20, 0, tzinfo=UTC) + timedelta(minutes=m) for m in range(12 * 60)]
        silent = [at for at in night if quiet("22:00-07:00").holds(at)]
        assert (silent[0].hour, silent[-1].hour, len(silent)) == (21, 4, 8 * 60)

    def test_the_night_in_which_they_go_back_is_an_hour_longer(self) -> None:
        night = [datetime(2026, 10, 24, 19, 0, tzinfo=UTC) + timedelta(minutes=m) for m in range(12 * 60)]
        silent = [at for at in night if quiet("22:00-07:00").holds(at)]
        assert (silent[0].hour, silent[-1].hour, len(silent)) == (20, 5, 10 * 60)

    def test_an_hour_that_does_not_exist_and_one_that_comes_twice(self) -> None:
        hour = quiet("02:00-03:00")
        spring = [datetime(2026, 3, 29, tzinfo=UTC) + timedelta(minutes=m) for m in range(240)]
        autumn = [datetime(2026, 10, 25, tzinfo=UTC) + timedelta(minutes=m) for m in range(240)]
        assert sum(map(hour.holds, spring)) == 0 and sum(map(hour.holds, autumn)) == 120


class TestPlan:
    policy = Policy(off=frozenset({"safety_order"}), quiet=quiet("22:00-07:00"), zone=VIENNA)

    def test_each_goes_alone_in_the_order_it_was_written(self) -> None:
        names = ["take_profit", "asset_halted", "cycle_started"]
        found = plan([a_message(f"m{n}", name) for n, name in enumerate(names)], self.policy, BOTH, NOON)
        assert [(one.title, one.text, one.addresses) for one in found.parcels] == [
            (f"DCA: {notice(name).title}", f"text of m{n}", BOTH) for n, name in enumerate(names)
        ]

    def test_what_is_switched_off_is_dropped_and_says_why(self) -> None:
        found = plan([a_message(name="safety_order")], self.policy, BOTH, NOON)
        assert found == Plan(dropped=((a_message(name="safety_order"), "switched off"),))

    def test_without_an_address_everything_is_dropped(self) -> None:
        assert plan([a_message()], self.policy, (), NIGHT) == Plan(dropped=((a_message(), "no address"),))

    def test_at_night_only_what_is_urgent_goes(self) -> None:
        urgent, other = a_message("m2", "asset_halted", NIGHT), a_message("m1", at=NIGHT)
        found = plan([other, urgent], self.policy, BOTH, NIGHT)
        assert found.waiting == (other,) and [one.messages for one in found.parcels] == [(urgent,)]

    def test_a_few_go_in_the_morning_with_the_time_they_were_written(self) -> None:
        morning = NIGHT + timedelta(hours=6)
        found = plan([a_message(f"m{n}", at=NIGHT) for n in range(MANY)], self.policy, BOTH, morning)
        assert len(found.parcels) == MANY
        assert found.parcels[0].text == "text of m0 (2026-01-10 02:00)"

    def test_many_go_in_the_morning_as_one(self) -> None:
        morning = NIGHT + timedelta(hours=6)
        waiting = [a_message(f"m{n}", at=NIGHT + timedelta(minutes=n)) for n in range(60)]
        urgent = a_message("u", "crash_loop", morning)
        one, other = plan([*waiting, urgent], self.policy, BOTH, morning).parcels
        assert (one.messages, one.title) == (tuple(waiting), "DCA: 60 messages")
        lines = one.text.splitlines()
        assert lines[0] == "01-10 02:00 Take profit: text of m0" and lines[-1].startswith("and 20 more")
        assert other.messages == (urgent,)

    def test_a_name_that_nobody_knows_wakes_people(self) -> None:
        (one,) = plan([a_message(name="new_trouble", at=NIGHT)], self.policy, BOTH, NIGHT).parcels
        assert one.title == "DCA: New trouble"

    def test_what_only_one_address_missed_goes_there_alone(self) -> None:
        message = a_message(f"m1@{BOTH[1]}")
        assert plan([message], self.policy, BOTH, NOON).parcels[0].addresses == (BOTH[1],)
        assert plan([message], self.policy, BOTH[:1], NOON).dropped == ((message, "no address"),)


def test_every_message_the_program_writes_has_a_title() -> None:
    """Names are written where the message is; NOTIFY_OFF and the titles must know them."""
    found = set()
    for path in Path(dca.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Message":
                name = next((word.value for word in node.keywords if word.arg == "name"), None)
                if isinstance(name, ast.Constant):
                    found.add(name.value)
    assert found and found <= NOTICES.keys()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


def outbox(store: MemoryStore, clock: ManualClock, to: Recording, policy: Policy | None = None) -> Outbox:
    return Outbox(store, clock, to, policy or Policy(), holder="here/1/1.0")


def given(store: MemoryStore, *messages: Message) -> None:
    store.write(lambda tx: [tx.add_message(message) for message in messages])


def unsent(store: MemoryStore) -> list[str]:
    return [message.key for message in store.read(lambda tx: tx.messages())]


class TestDelivery:
    def test_what_was_sent_is_sent_once(self, store: MemoryStore, clock: ManualClock) -> None:
        given(store, a_message("m1"), a_message("m2"))
        people = Recording(BOTH[:1])
        for _ in range(3):
            outbox(store, clock, people).deliver()
        assert [text for _, text in people.took] == ["text of m1", "text of m2"]
        assert unsent(store) == []

    def test_without_anything_to_do_it_asks_once_and_writes_nothing(self, clock: ManualClock) -> None:
        class Counting(MemoryStore):
            reads = 0

            def read(self, work):  # type: ignore[no-untyped-def]
                self.reads += 1
                return super().read(work)

            def write(self, work):  # type: ignore[no-untyped-def]
                raise AssertionError("nothing to write")

        store = Counting()
        outbox(store, clock, Recording()).deliver()
        assert store.reads == 1

    def test_an_address_that_is_down_is_told_later_and_the_other_not_again(
        self, store: MemoryStore, clock: ManualClock
    ) -> None:
        given(store, a_message("m1"), a_message("m2"))
        people = Recording()
        people.refusing = {BOTH[1]}
        for _ in range(3):
            outbox(store, clock, people).deliver() if not unsent(store) else _fails(store, clock, people)
        assert [to for to, _ in people.took] == [BOTH[0]] * 2
        assert unsent(store) == [f"m1@{BOTH[1]}", f"m2@{BOTH[1]}"]
        people.refusing = set()
        outbox(store, clock, people).deliver()
        assert people.took[2:] == [(BOTH[1], "text of m1"), (BOTH[1], "text of m2")]
        assert unsent(store) == []

    def test_when_nobody_takes_it_it_stays_and_holds_up_nothing(
        self, store: MemoryStore, clock: ManualClock
    ) -> None:
        class Choosy(Recording):
            def send(self, title: str, text: str, *, to: str | None = None) -> None:
                if "m1" in text:
                    raise Unavailable("too odd")
                super().send(title, text, to=to)

        given(store, a_message("m1"), a_message("m2"))
        people = Choosy(BOTH[:1])
        with pytest.raises(Unavailable, match="1 messages were not taken by anybody"):
            outbox(store, clock, people).deliver()
        assert unsent(store) == ["m1"] and [text for _, text in people.took] == ["text of m2"]

    def test_what_could_not_be_marked_is_sent_again(self, store: MemoryStore, clock: ManualClock) -> None:
        class Losing(Recording):
            def send(self, title: str, text: str, *, to: str | None = None) -> None:
                super().send(title, text, to=to)
                if len(self.took) == 1:
                    raise StoreUnavailable("died between sending and marking")

        given(store, a_message())
        people = Losing(BOTH[:1])
        with pytest.raises(StoreUnavailable):
            outbox(store, clock, people).deliver()
        outbox(store, clock, people).deliver()
        assert len(people.took) == 2 and unsent(store) == []

    def test_what_is_written_meanwhile_goes_too(self, store: MemoryStore, clock: ManualClock) -> None:
        class Busy(Recording):
            def send(self, title: str, text: str, *, to: str | None = None) -> None:
                super().send(title, text, to=to)
                if len(self.took) < 4:
                    given(store, a_message(f"n{len(self.took)}"))

        given(store, a_message("n0"))
        people = Busy(BOTH[:1])
        outbox(store, clock, people).deliver()
        assert [text for _, text in people.took] == [f"text of n{n}" for n in range(4)]

    def test_a_slow_address_ends_the_pass_in_time(self, store: MemoryStore, clock: ManualClock) -> None:
        class Slow(Recording):
            def send(self, title: str, text: str, *, to: str | None = None) -> None:
                clock.move(BUDGET_S - 1)
                super().send(title, text, to=to)

        given(store, *(a_message(f"m{n}") for n in range(MANY)))
        people = Slow(BOTH[:1])
        with pytest.raises(Unavailable, match="too long"):
            outbox(store, clock, people).deliver()
        assert len(people.took) == 2 and len(unsent(store)) == MANY - 2

    def test_while_somebody_else_sends_nothing_is_sent(self, store: MemoryStore, clock: ManualClock) -> None:
        given(store, a_message())
        people = Recording()
        held = take(store, clock, LEASE, "there/2/2.0", lambda holder: True)
        outbox(store, clock, people).deliver()
        assert people.took == [] and unsent(store) == ["m1"]
        held.drop()
        outbox(store, clock, people).deliver()
        assert len(people.took) == 2

    def test_a_history_that_nobody_was_told_is_not_poured_out_later(
        self, store: MemoryStore, clock: ManualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        given(store, *(a_message(f"m{n}") for n in range(1_200)))
        with caplog.at_level("INFO", logger="dca"):
            outbox(store, clock, Recording(())).deliver()
        assert unsent(store) == []
        told = [record for record in caplog.records if record.getMessage() == "notice"]
        assert len(told) == 1_200 and told[0].outcome == "no address" and told[0].text == "text of m0"
        people = Recording()
        outbox(store, clock, people).deliver()
        assert people.took == []

    def test_a_long_key_leaves_room_for_the_address(self, store: MemoryStore, clock: ManualClock) -> None:
        given(store, a_message("k" * 190))
        people = Recording()
        people.refusing = {BOTH[1]}
        outbox(store, clock, people).deliver() if False else _fails(store, clock, people)
        (key,) = unsent(store)
        assert len(key) == 190 and key.endswith(f"@{BOTH[1]}")


def _fails(store: MemoryStore, clock: ManualClock, people: Recording) -> None:
    """A pass in which something is left over; it may or may not say so."""
    try:
        outbox(store, clock, people).deliver()
    except Unavailable:
        return


class TestCaretaker:
    def test_it_sends_drops_and_reports(self, store: MemoryStore, clock: ManualClock) -> None:
        given(store, a_message("m1"), a_message("m2", "safety_order"), a_message("m3", "asset_halted"))
        people = Recording(BOTH[:1])
        policy = Policy(off=frozenset({"safety_order"}))
        caretaker = NotifierCaretaker(outbox(store, clock, people, policy))
        seen = run(caretaker, store=store, clock=clock, holder="h/1/1", alive=lambda _: True, dry_run=True)
        assert [(one.kind, one.subject, one.reason) for one in seen.planned] == [
            ("drop", "m2", "switched off"),
            ("send", "m1", "DCA: Take profit"),
            ("send", "m3", "DCA: Asset halted"),
        ]
        assert people.took == [] and len(unsent(store)) == 3
        report = run(caretaker, store=store, clock=clock, holder="h/1/1", alive=lambda _: True)
        assert (report.result, report.mended) == (Result.DONE, 3)
        assert len(people.took) == 2 and unsent(store) == []

    def test_what_nobody_takes_is_tried_again_at_the_next_pass(
        self, store: MemoryStore, clock: ManualClock
    ) -> None:
        given(store, a_message("m1"), a_message("m2"))
        people = Recording(BOTH[:1])
        people.refusing = {BOTH[0]}
        caretaker = NotifierCaretaker(outbox(store, clock, people))
        report = run(caretaker, store=store, clock=clock, holder="h/1/1", alive=lambda _: True)
        assert (report.result, report.failed, report.exit_code) == (Result.PARTLY, 2, 75)
        people.refusing = set()
        report = run(caretaker, store=store, clock=clock, holder="h/1/1", alive=lambda _: True)
        assert (report.result, report.mended) == (Result.DONE, 2)

    def test_it_waits_while_the_streamer_sends(self, store: MemoryStore, clock: ManualClock) -> None:
        given(store, a_message())
        take(store, clock, LEASE, "there/2/2.0", lambda holder: True)
        caretaker = NotifierCaretaker(outbox(store, clock, Recording()))
        report = run(caretaker, store=store, clock=clock, holder="h/1/1", alive=lambda _: True)
        assert report.result is Result.BUSY
