"""Runs one pass of a caretaker: lease, look, plan, mend, one line for the log."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from dca.domain.errors import (
    IllegalTransition,
    StaleWrite,
    StoreUnavailable,
    Unauthorized,
    Unmended,
    VenueError,
)
from dca.domain.record import Heartbeat, Message
from dca.ports import Clock, Store, Tx
from dca.service.lease import Alive, LeaseTaken, take

log = logging.getLogger(__name__)

LEASE_S = 300.0
"""A pass takes seconds; the lease of a dead one is taken over at once on the same machine."""
FAILURES_TO_TELL = 3
"""So many passes in a row that could not look are worth a message."""


@dataclass(frozen=True, slots=True)
class Repair:
    """One change that ends a drift. `kind` is what is done, `subject` to what, `reason` why.

    A caretaker's own repairs extend this with what `mend` needs. `data` is for logs and `--json`.
    """

    kind: str
    subject: str
    reason: str
    data: dict[str, Any] = field(default_factory=dict, kw_only=True)


V = TypeVar("V")
R = TypeVar("R", bound=Repair)


class Caretaker(Protocol[V, R]):
    """Three steps; only `mend` changes anything, and it may run twice or too late."""

    name: str

    def look(self) -> V:
        """Everything the plan needs, read whole. Raises Unavailable, StoreUnavailable: half a view
        is no view."""

    def plan(self, view: V, now: datetime) -> Sequence[R]:
        """What to repair; pure."""

    def mend(self, repair: R) -> str | None:
        """The repair is done; None, or why nothing had to be done any more.

        Raises StaleWrite when somebody else changed the rows first, VenueError, StoreUnavailable,
        Unmended."""


class Result(StrEnum):
    """How a pass ended."""

    DONE = "done"
    DRY_RUN = "dry_run"
    BUSY = "busy"
    UNAVAILABLE = "unavailable"
    UNAUTHORIZED = "unauthorized"
    PARTLY = "partly"


@dataclass(slots=True)
class Report:
    """What a pass came to. `mended`, `passed` and `failed` count the `planned` repairs: done, no
    longer needed, could not be done; `notes` say why of the last two, by subject."""

    caretaker: str
    at: datetime
    result: Result = Result.DONE
    planned: Sequence[Repair] = ()
    mended: int = 0
    passed: int = 0
    failed: int = 0
    notes: dict[str, str] = field(default_factory=dict)
    detail: str = ""
    took_s: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 done, 75 try later, 78 a person must fix the keys."""
        if self.result is Result.UNAUTHORIZED:
            return 78
        return 0 if self.result in (Result.DONE, Result.DRY_RUN) else 75

    def fields(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        return {
            "caretaker": self.caretaker,
            "at": self.at.isoformat(),
            "result": str(self.result),
            "planned": len(self.planned),
            "mended": self.mended,
            "passed": self.passed,
            "failed": self.failed,
            "took_ms": round(self.took_s * 1000, 1),
            "detail": self.detail,
            "repairs": [
                {"kind": one.kind, "subject": one.subject, "reason": one.reason, **one.data}
                for one in self.planned
            ],
            "notes": self.notes,
        }


def run(
    caretaker: Caretaker[V, R],
    *,
    store: Store,
    clock: Clock,
    holder: str,
    alive: Alive,
    dry_run: bool = False,
    place: str = "",
) -> Report:
    """One pass was made, or not begun because another one runs; the report says which.

    A pass that could not look changed nothing. Its result is kept as the heartbeat
    `caretaker:NAME`, and a person is told after FAILURES_TO_TELL failures in a row. A dry run takes
    no lease and writes nothing at all. Passes at different places do not exclude each other.
    """
    report = Report(caretaker.name, clock.now())
    begun = clock.monotonic()
    try:
        if dry_run:
            report.planned = caretaker.plan(caretaker.look(), clock.now())
            report.result = Result.DRY_RUN
        else:
            with _held(store, clock, f"caretaker:{caretaker.name}{place}", holder, alive):
                _pass(caretaker, clock, report)
    except LeaseTaken as error:
        report.result, report.detail = Result.BUSY, str(error)
    except Unauthorized as error:
        report.result = Result.UNAUTHORIZED
        report.detail = f"the venue refused APCA_API_KEY_ID and APCA_API_SECRET_KEY: {error}"
    except (VenueError, StoreUnavailable) as error:
        who = "the venue" if isinstance(error, VenueError) else "the database"
        report.result = Result.UNAVAILABLE
        report.detail = f"{who} cannot be read: {error}; nothing was changed, the next pass tries again"
    report.took_s = clock.monotonic() - begun
    if not dry_run and report.result is not Result.BUSY:
        _keep(store, report)
    _log(report)
    return report


@contextmanager
def _held(store: Store, clock: Clock, name: str, holder: str, alive: Alive) -> Iterator[None]:
    """The lease while inside; dropped afterwards, whatever happened."""
    holding = take(store, clock, name, holder, alive, ttl_s=LEASE_S)
    try:
        yield
    finally:
        try:
            holding.drop()
        except StoreUnavailable as error:
            log.warning("lease_not_dropped", extra={"error": str(error)})


def _pass(caretaker: Caretaker[V, R], clock: Clock, report: Report) -> None:
    report.planned = planned = caretaker.plan(caretaker.look(), clock.now())
    for repair in planned:
        try:
            moot = caretaker.mend(repair)
        except StaleWrite:
            moot = "somebody else changed the rows first"
        except (VenueError, StoreUnavailable, IllegalTransition, Unmended) as error:
            report.failed += 1
            report.notes[repair.subject] = str(error)
            report.result = Result.PARTLY
            continue
        if moot is None:
            report.mended += 1
            log.info(f"mended_{repair.kind}", extra={"subject": repair.subject, "reason": repair.reason})
        else:
            report.passed += 1
            report.notes[repair.subject] = moot


def heartbeat_name(caretaker: str) -> str:
    return f"caretaker:{caretaker}"


def _keep(store: Store, report: Report) -> None:
    """The pass is the caretaker's heartbeat; failures are counted and, when they go on, told."""
    failed = report.result in (Result.UNAVAILABLE, Result.UNAUTHORIZED)

    def work(tx: Tx) -> None:
        name = heartbeat_name(report.caretaker)
        before = next((beat for beat in tx.heartbeats() if beat.name == name), None)
        streak = int(before.detail.get("failures", 0)) + 1 if before and failed else int(failed)
        kept = {key: value for key, value in report.fields().items() if key not in ("repairs", "caretaker")}
        tx.beat(Heartbeat(name=name, at=report.at, detail={**kept, "failures": streak}))
        if streak == FAILURES_TO_TELL:
            text = f"{report.caretaker} could not run {streak} times in a row: {report.detail}"
            key = f"caretaker:{report.caretaker}:{report.at.isoformat()}"
            tx.add_message(Message(key=key[:190], name="caretaker_cannot_run", text=text, at=report.at))

    try:
        store.write(work)
    except StoreUnavailable as error:
        log.warning("pass_not_kept", extra={"error": str(error)})


def _log(report: Report) -> None:
    """The one canonical line of a pass."""
    fields = {key: value for key, value in report.fields().items() if key not in ("at", "repairs")}
    level = logging.INFO if report.exit_code == 0 else logging.WARNING
    log.log(level, "caretaker_done", extra=fields)
