"""Errors, sorted by what the caller must do about them."""

from dataclasses import dataclass
from datetime import datetime


class DcaError(Exception):
    """Every error this program raises on purpose."""


class ConfigError(DcaError):
    """A person must fix a setting or a rule; the program stops with exit code 78."""


@dataclass(frozen=True, slots=True)
class TooMany:
    """The venue wants fewer requests: the next one in `retry_after_s` real seconds, or at `reset_at` on
    its clock; it may say neither."""

    retry_after_s: float | None = None
    reset_at: datetime | None = None


class VenueError(DcaError):
    """The venue did not do, or did not tell, what was asked.

    `too_many` is set where that is because too much was asked."""

    too_many: TooMany | None = None


class Rejected(VenueError):
    """The venue proved that it refused this request: record it and go on.

    `status` is the HTTP status, `code` the venue's own number (0 when it sent none).
    """

    def __init__(self, message: str, *, status: int = 0, code: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class DuplicateKey(Rejected):
    """The venue already has an order under this key: look it up, never send another."""


class Unauthorized(Rejected):
    """The venue refused the credentials; nothing will work until a person changes them."""


class InDoubt(VenueError):
    """A write may or may not have happened: ask by key, never resend under a new one."""


class Unavailable(VenueError):
    """A read failed: nothing is known, so nothing may be concluded or changed.

    `status` is the HTTP status of an answer that was an error, 0 when there was none."""

    def __init__(self, message: str = "", *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class RateLimited(Unavailable):
    """It was not asked, or not answered, because of too many requests; it may be in `retry_after_s`
    real seconds, where that is known."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message, status=429)
        self.retry_after_s = retry_after_s


class StoreError(DcaError):
    """The database did not do what was asked."""


class StaleWrite(StoreError):
    """Somebody changed the row since it was read: read again, decide again."""


class StoreUnavailable(StoreError):
    """The database cannot be reached or cannot be written; whether a commit happened is unknown."""


class IllegalTransition(DcaError):
    """A state change the table does not allow: leave the row, halt the asset, tell a person."""


class Unmended(DcaError):
    """A repair could not be done; the next pass of its caretaker looks again."""
