"""What housekeeping plans: days in a table, nothing on a disk."""

from datetime import UTC, datetime, timedelta

import pytest

from dca.adapters.clock import ManualClock
from dca.adapters.memory import MemoryStore
from dca.domain.errors import ConfigError, Unavailable, Unmended
from dca.domain.record import Event, Heartbeat
from dca.ports import Backup, LogFile
from dca.service.caretakers.housekeeping import ROTATE_BYTES, Housekeeping, Keep, View
from dca.service.caretakers.runner import Result, run

NOW = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def a_backup(days: float) -> Backup:
    return Backup(f"of-{days}", ago(days), 1_000)


def a_log(
    days: float | None = None, *, size: int = 10, compressed: bool = True, log: str = "main"
) -> LogFile:
    """In use, or put away so many days ago."""
    if days is None:
        return LogFile(f"{log}.log", log, size)
    return LogFile(f"{log}.{days}.log", log, size, ago(days), compressed)


class Disk:
    """Log files and backups that are only written down."""

    def __init__(self) -> None:
        self.logs: list[LogFile] = []
        self.kept: list[Backup] = []
        self.damaged: set[str] = set()
        self.done: list[str] = []
        self.trouble: Exception | None = None

    def is_whole(self, name: str) -> bool:
        return name not in self.damaged

    def make(self, at: datetime) -> Backup:
        if self.trouble is not None:
            raise self.trouble
        self.done.append("backup")
        return Backup("new", at, 1)

    def rotate(self, name: str, at: datetime) -> bool:
        self.done.append(f"rotate {name}")
        return True

    def compress(self, name: str) -> bool:
        self.done.append(f"compress {name}")
        return name != "main.5.log"

    def delete(self, name: str) -> None:
        self.done.append(f"delete {name}")


class Logs(Disk):
    def found(self) -> list[LogFile]:
        return self.logs


class Kept(Disk):
    def found(self) -> list[Backup]:
        if isinstance(self.trouble, Unavailable):
            raise self.trouble
        return self.kept


@pytest.fixture
def keeper() -> Housekeeping:
    keep = Keep(log_days=14, events_days=90, backup_days=7)
    return Housekeeping(MemoryStore(), ManualClock(NOW), Logs(), Kept(), keep)


def planned(keeper: Housekeeping, *, logs: list[LogFile] | None = None, backups: list[Backup] | None = None,
            whole: str | None = None) -> list[str]:  # fmt: skip
    view = View(logs or [], backups or [], whole)
    plan = keeper.plan(view, NOW)
    return [f"{one.kind} {one.subject}" for one in plan if one.kind not in ("prune",)]


class TestLogs:
    @pytest.mark.parametrize(
        ("logs", "plan"),
        [
            ([a_log()], ["rotate main.log"]),
            ([a_log(0.1), a_log()], []),
            ([a_log(0.9), a_log()], ["rotate main.log"]),
            ([a_log(0.1), a_log(size=ROTATE_BYTES)], ["rotate main.log"]),
            ([a_log(3), a_log(size=0)], []),
            ([a_log(3), a_log(0.1), a_log()], []),
            ([a_log(0.1), a_log(), a_log(3, log="dca"), a_log(log="dca")], ["rotate dca.log"]),
            ([a_log(3, compressed=False), a_log(0.1)], ["compress main.3.log"]),
            (
                [a_log(15), a_log(14.1), a_log(13.9), a_log(0.1)],
                ["delete main.15.log", "delete main.14.1.log"],
            ),
        ],
    )
    def test_each_is_put_away_once_a_day_and_kept_for_its_days(
        self, keeper: Housekeeping, logs: list[LogFile], plan: list[str]
    ) -> None:
        assert planned(keeper, logs=logs, backups=[a_backup(0.1)], whole="of-0.1") == plan


class TestBackups:
    @pytest.mark.parametrize(
        ("days", "whole", "plan"),
        [
            ([], None, ["backup database"]),
            ([0.1], "of-0.1", []),
            ([1], "of-1", ["backup database"]),
            ([0.1, 6.9, 7.1, 9], "of-0.1", ["delete of-7.1", "delete of-9"]),
            ([8, 9, 10], "of-8", ["backup database", "delete of-9", "delete of-10"]),
            ([8, 9, 10], "of-9", ["backup database", "delete of-8", "delete of-10"]),
            ([0.1, 9], None, ["backup database", "delete of-9"]),
            ([0.1, 1], "of-1", ["backup database"]),
        ],
    )
    def test_one_a_day_is_kept_for_its_days_and_the_last_whole_one_for_ever(
        self, keeper: Housekeeping, days: list[float], whole: str | None, plan: list[str]
    ) -> None:
        assert planned(keeper, backups=[a_backup(one) for one in days], whole=whole) == plan

    def test_the_newest_that_can_be_read_is_found(self, keeper: Housekeeping) -> None:
        keeper.backups.kept = [a_backup(1), a_backup(2), a_backup(3)]
        keeper.backups.damaged = {"of-1", "of-2"}
        assert keeper.look().whole == "of-3"


class TestPass:
    def passed(self, keeper: Housekeeping) -> "tuple[Result, dict[str, str]]":
        report = run(keeper, store=keeper.store, clock=keeper.clock, holder="h/1/1", alive=lambda _: True)
        return report.result, report.notes

    def test_everything_is_done_in_order(self, keeper: Housekeeping) -> None:
        logs, backups = keeper.logs, keeper.backups
        logs.logs = [a_log(20), a_log(3, compressed=False), a_log()]
        backups.kept = [a_backup(1), a_backup(8)]
        keeper.store.write(lambda tx: tx.add_event(Event(name="old", at=ago(91))))
        keeper.store.write(lambda tx: tx.beat(Heartbeat(name="caretaker:gone", at=ago(91))))
        assert self.passed(keeper) == (Result.DONE, {})
        assert logs.done == ["rotate main.log", "compress main.3.log", "delete main.20.log"]
        assert backups.done == ["backup", "delete of-8"]
        assert keeper.store.read(lambda tx: tx.events()) == []
        assert [beat.name for beat in keeper.store.read(lambda tx: tx.heartbeats())] == [
            "caretaker:housekeeping"
        ]

    def test_a_log_that_is_still_open_waits(self, keeper: Housekeeping) -> None:
        keeper.logs.logs = [a_log(5, compressed=False), a_log(0.1)]
        assert self.passed(keeper) == (Result.DONE, {"main.5.log": "a process still has it open"})

    @pytest.mark.parametrize("trouble", [Unmended("no space"), ConfigError("install mariadb-client")])
    def test_a_backup_that_fails_stops_nothing_else_and_is_told(
        self, keeper: Housekeeping, trouble: Exception
    ) -> None:
        keeper.backups.trouble = trouble
        keeper.logs.logs = [a_log(20)]
        result, notes = self.passed(keeper)
        assert result is Result.PARTLY and str(trouble) in notes["database"]
        assert keeper.logs.done == ["delete main.20.log"]
        (message,) = keeper.store.read(lambda tx: tx.messages())
        assert (message.name, message.key) == ("backup_failed", "backup_failed:2026-03-01")

    def test_half_a_view_mends_nothing(self, keeper: Housekeeping) -> None:
        keeper.backups.trouble = Unavailable("the folder cannot be read")
        keeper.logs.logs = [a_log(20), a_log()]
        assert self.passed(keeper)[0] is Result.UNAVAILABLE
        assert keeper.logs.done == []
