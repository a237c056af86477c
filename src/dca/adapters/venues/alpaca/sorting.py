"""What a failed call means, in one place: refused for certain, in doubt, or not known."""

import http.client
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple, TypeVar

import requests
import urllib3
from alpaca.common.exceptions import APIError, RetryException

from dca.domain.errors import (
    DuplicateKey,
    InDoubt,
    RateLimited,
    Rejected,
    TooMany,
    Unauthorized,
    Unavailable,
    VenueError,
)

T = TypeVar("T")

NO_ANSWER = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    RetryException,
    OSError,
    # JSON that is none, text that is no UTF-8, addresses that cannot be parsed, and our Malformed.
    ValueError,
    # JSON nested deeper than the interpreter follows.
    RecursionError,
)
"""Everything but APIError that a call may raise: no answer came, or none that can be read."""

UNPROVEN = frozenset({408, 425})
"""4xx that say nothing about the order: it may have been taken all the same."""
NOT_FOUND = (404, 40410000)
TEXT_LIMIT = 300


class Answer(NamedTuple):
    """An HTTP error. `code` is 0 and `message` empty unless the body has Alpaca's shape."""

    status: int
    code: int
    message: str

    def __str__(self) -> str:
        return f"HTTP {self.status} {self.code}: {self.message}" if self.code else f"HTTP {self.status}"


def answer(error: APIError) -> Answer:
    """What `error` says. The body is whatever came: JSON, HTML, nothing (docs/alpaca.md, the SDK)."""
    try:
        body = json.loads(str(error))
        code, message = body.get("code", 0), body.get("message", "")
    except (ValueError, AttributeError, RecursionError):
        code, message = 0, ""
    if type(code) is not int or not isinstance(message, str):
        code, message = 0, ""
    return Answer(error.status_code or 0, code, message[:TEXT_LIMIT])


def absent(error: APIError) -> bool:
    """Whether the venue itself says that there is no such thing.

    A gateway's 404 does not, and neither does one for the path, which a wrong address earns.
    """
    said = answer(error)
    return said[:2] == NOT_FOUND and "endpoint" not in said.message


def writing(call: Callable[[], T]) -> T:
    """What `call` returns. Raises Rejected only where the answer proves the refusal, else InDoubt.

    A proof is a 4xx with Alpaca's own JSON (an integer `code` and a `message`), or a 401. That
    includes 429 with 42910000: the limiter stands before the order system, so this attempt did not
    reach it; a 429 without that body is somebody else's and stays in doubt, as do 408, 425, every
    5xx and whatever is no answer at all.
    """
    try:
        return call()
    except APIError as error:
        meant = _of_write(answer(error))
        meant.too_many = too_many(error)
        raise meant from error
    except NO_ANSWER as error:
        raise InDoubt(describe(error)) from error


def reading(call: Callable[[], T]) -> T:
    """What `call` returns. Raises Unauthorized for a 401, Unavailable for anything else."""
    try:
        return call()
    except APIError as error:
        raise _of_read(answer(error), too_many(error)) from error
    except NO_ANSWER as error:
        raise Unavailable(describe(error)) from error


def too_many(error: APIError) -> TooMany | None:
    """When the venue wants to be asked again; None unless it said that too much was asked."""
    if error.status_code != 429:
        return None
    headers: Mapping[str, str] = getattr(error.response, "headers", None) or {}
    given, reset = headers.get("Retry-After", ""), headers.get("X-RateLimit-Reset", "")
    try:
        if given:
            return TooMany(retry_after_s=float(given))
        return TooMany(reset_at=datetime.fromtimestamp(float(reset), UTC) if reset else None)
    except (ValueError, OverflowError, OSError):
        return TooMany(reset_at=_date(given))


def _date(text: str) -> datetime | None:
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _of_read(said: Answer, limited: TooMany | None) -> VenueError:
    if said.status == 401:
        return _unauthorized(said)
    if limited is None:
        return Unavailable(str(said), status=said.status)
    meant = RateLimited(str(said), retry_after_s=limited.retry_after_s)
    meant.too_many = limited
    return meant


def _of_write(said: Answer) -> VenueError:
    if said.status == 401:
        return _unauthorized(said)
    if not 400 <= said.status < 500 or said.status in UNPROVEN or not (said.code and said.message):
        return InDoubt(str(said))
    if "client_order_id" in said.message and "unique" in said.message:
        return DuplicateKey(str(said), status=said.status, code=said.code)
    return Rejected(str(said), status=said.status, code=said.code)


def _unauthorized(said: Answer) -> Unauthorized:
    return Unauthorized(str(said), status=said.status, code=said.code)


def describe(error: BaseException) -> str:
    """The kind of `error` and the start of its text, unless that could spell a header's value."""
    name = type(error).__name__
    if isinstance(error, requests.exceptions.InvalidHeader):
        return name
    return f"{name}: {str(error)[:TEXT_LIMIT]}" if str(error) else name
