"""Keeps the disk and the tables small, and a copy of the database at hand."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from dca.domain.errors import ConfigError, StoreUnavailable, Unmended
from dca.domain.record import Message
from dca.ports import Backup, Backups, Clock, LogFile, LogFiles, Store
from dca.service.caretakers.runner import Repair

log = logging.getLogger(__name__)

BITE = 500
"""Rows that one transaction deletes, so that nobody waits for it."""
MOST_BITES = 2_000
ROTATE_BYTES = 5_000_000
LOGS, BACKUPS = "logs", "backups"


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """For how many days what is kept."""

    log_days: int
    events_days: int
    backup_days: int


@dataclass(frozen=True, slots=True)
class View:
    """`backups` are the newest first; `whole` is the newest one that can be read."""

    logs: list[LogFile]
    backups: list[Backup]
    whole: str | None


@dataclass(slots=True)
class Housekeeping:
    """Rotates logs, backs the database up, deletes what is old."""

    store: Store
    clock: Clock
    logs: LogFiles
    backups: Backups
    keep: Keep
    name: str = "housekeeping"

    def look(self) -> View:
        backups = self.backups.found()
        return View(self.logs.found(), backups, self._newest_whole(backups))

    def _newest_whole(self, backups: Sequence[Backup]) -> str | None:
        for one in backups:
            if self.backups.is_whole(one.name):
                return one.name
            log.warning("backup_damaged", extra={"file": one.name})
        return None

    def plan(self, view: View, now: datetime) -> Sequence[Repair]:
        return [
            *_rotations(view.logs, now),
            *_compressions(view.logs),
            *_backup(view, now),
            self._prune(now),
            *_old_logs(view.logs, now - timedelta(days=self.keep.log_days)),
            *_old_backups(view, now - timedelta(days=self.keep.backup_days)),
        ]

    def _prune(self, now: datetime) -> Repair:
        before = now - timedelta(days=self.keep.events_days)
        return Repair(
            "prune", "rows", f"older than {self.keep.events_days} days", data={"before": str(before)}
        )

    def mend(self, repair: Repair) -> str | None:
        name = repair.subject
        match repair.kind:
            case "rotate":
                return None if self.logs.rotate(name, self.clock.now()) else "there is nothing in it"
            case "compress":
                return None if self.logs.compress(name) else "a process still has it open"
            case "backup":
                self._back_up()
            case "prune":
                self._prune_rows(self.clock.now() - timedelta(days=self.keep.events_days))
            case _:
                (self.logs if repair.data["of"] == LOGS else self.backups).delete(name)
        return None

    def _back_up(self) -> None:
        now = self.clock.now()
        try:
            made = self.backups.make(now)
        except (ConfigError, StoreUnavailable, Unmended) as error:
            text = f"the database could not be backed up: {error}"
            message = Message(key=f"backup_failed:{now:%Y-%m-%d}", name="backup_failed", text=text, at=now)
            self.store.write(lambda tx: tx.add_message(message))
            raise Unmended(text) from error
        log.info("backed_up", extra={"file": made.name, "bytes": made.size})

    def _prune_rows(self, before: datetime) -> None:
        gone = 0
        for _ in range(MOST_BITES):
            bite = self.store.write(lambda tx: tx.prune(before, limit=BITE))
            gone += bite
            if not bite:
                break
        log.info("pruned", extra={"rows": gone, "before": before.isoformat()})


def _rotations(logs: Sequence[LogFile], now: datetime) -> list[Repair]:
    """A log is put away once a day, and when it is large."""
    last = {one.log: one.ended_at for one in logs if one.ended_at is not None}
    found = []
    for one in logs:
        if one.ended_at is not None or not one.size:
            continue
        before = last.get(one.log)
        if before is None or before.date() < now.date():
            found.append(Repair("rotate", one.name, "a day is over"))
        elif one.size >= ROTATE_BYTES:
            found.append(Repair("rotate", one.name, f"{one.size} bytes"))
    return found


def _compressions(logs: Sequence[LogFile]) -> list[Repair]:
    waiting = [one for one in logs if one.ended_at is not None and not one.compressed]
    return [Repair("compress", one.name, f"{one.size} bytes") for one in waiting]


def _backup(view: View, now: datetime) -> list[Repair]:
    last = next((one for one in view.backups if one.name == view.whole), None)
    if last is None:
        return [
            Repair(
                "backup", "database", "there is none that can be read" if view.backups else "there is none"
            )
        ]
    if last.at.date() < now.date():
        return [Repair("backup", "database", f"the last is of {last.at:%Y-%m-%d %H:%M}")]
    return []


def _old_logs(logs: Sequence[LogFile], before: datetime) -> list[Repair]:
    return [
        Repair("delete", one.name, f"put away {one.ended_at:%Y-%m-%d}", data={"of": LOGS})
        for one in logs
        if one.ended_at is not None and one.ended_at < before
    ]


def _old_backups(view: View, before: datetime) -> list[Repair]:
    """Never the newest that is whole: it may be the last there will be."""
    return [
        Repair("delete", one.name, f"of {one.at:%Y-%m-%d}", data={"of": BACKUPS})
        for one in view.backups
        if one.at < before and one.name != view.whole
    ]
