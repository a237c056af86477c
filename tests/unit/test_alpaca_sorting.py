"""What a failed call means: the table, and that nothing escapes it."""

import http.client
import inspect
import json
import socket
import ssl
from types import ModuleType
from typing import Any

import alpaca.common.exceptions
import pydantic
import pytest
import requests
import urllib3
from alpaca.common.exceptions import APIError, RetryException
from alpaca.trading.client import TradingClient

from dca.adapters.venues.alpaca import AlpacaBroker, sorting
from dca.adapters.venues.alpaca.sorting import NO_ANSWER, reading, writing
from dca.domain.errors import DuplicateKey, InDoubt, RateLimited, Rejected, Unauthorized, Unavailable

HTML = "<html><body>Gateway</body></html>"


def said(code: int, message: str) -> str:
    return json.dumps({"code": code, "message": message})


def failing(status: int, body: str) -> Any:
    response = requests.Response()
    response.status_code = status

    def call() -> None:
        raise APIError(body, requests.HTTPError(response=response))

    return call


ANSWERS: list[tuple[int, str, type, type]] = [
    # status, body, what it means for a write, what it means for a read
    (400, said(40010000, "bad request"), Rejected, Unavailable),
    (400, json.dumps({"message": "invalid symbol: BTCUSD"}), InDoubt, Unavailable),
    (401, json.dumps({"message": "unauthorized."}), Unauthorized, Unauthorized),
    (401, said(40110000, "access key verification failed"), Unauthorized, Unauthorized),
    (401, "<html>401 Authorization Required</html>", Unauthorized, Unauthorized),
    (401, "", Unauthorized, Unauthorized),
    (403, said(40310000, "insufficient balance for USD"), Rejected, Unavailable),
    (403, HTML, InDoubt, Unavailable),
    (403, "", InDoubt, Unavailable),
    (403, json.dumps({"error": "blocked"}), InDoubt, Unavailable),
    (403, json.dumps({"code": "40310000", "message": "text for a code"}), InDoubt, Unavailable),
    (403, json.dumps({"code": True, "message": "no number"}), InDoubt, Unavailable),
    (403, json.dumps([{"code": 40310000, "message": "in a list"}]), InDoubt, Unavailable),
    (404, said(40410000, "order not found"), Rejected, Unavailable),
    (404, HTML, InDoubt, Unavailable),
    (408, said(40810000, "timed out"), InDoubt, Unavailable),
    (409, said(40910000, "client_order_id must be unique"), DuplicateKey, Unavailable),
    (422, said(40010001, "client_order_id must be unique"), DuplicateKey, Unavailable),
    (422, said(40010001, "invalid order type for crypto order"), Rejected, Unavailable),
    (422, said(42210000, 'order is already in "filled" state'), Rejected, Unavailable),
    (425, said(42510000, "too early"), InDoubt, Unavailable),
    (429, said(42910000, "rate limit exceeded"), Rejected, RateLimited),
    (429, json.dumps({"message": "too many requests."}), InDoubt, RateLimited),
    (429, HTML, InDoubt, RateLimited),
    (500, said(50010000, "internal server error occurred"), InDoubt, Unavailable),
    (502, HTML, InDoubt, Unavailable),
    (503, "", InDoubt, Unavailable),
    (504, HTML, InDoubt, Unavailable),
    (504, "[" * 100_000, InDoubt, Unavailable),
]


@pytest.mark.parametrize(("status", "body", "write", "read"), ANSWERS)
def test_an_answer_means(status: int, body: str, write: type, read: type) -> None:
    with pytest.raises(write) as written:
        writing(failing(status, body))
    assert type(written.value) is write
    with pytest.raises(read) as seen:
        reading(failing(status, body))
    assert type(seen.value) is read


def test_a_refusal_keeps_status_code_and_words() -> None:
    with pytest.raises(Rejected, match="insufficient balance") as refused:
        writing(failing(403, said(40310000, "insufficient balance for USD")))
    assert (refused.value.status, refused.value.code) == (403, 40310000)


def test_only_the_venue_itself_can_say_that_something_is_not_there() -> None:
    def error(status: int, body: str) -> APIError:
        with pytest.raises(APIError) as raised:
            failing(status, body)()
        return raised.value

    assert sorting.absent(error(404, said(40410000, "order not found for x")))
    assert sorting.absent(error(404, said(40410000, "position does not exist")))
    assert not sorting.absent(error(404, HTML))
    assert not sorting.absent(error(404, ""))
    assert not sorting.absent(error(404, said(40410000, "endpoint not found.")))
    assert not sorting.absent(error(422, said(40410000, "order not found")))


MODULES: list[ModuleType] = [
    alpaca.common.exceptions,
    requests.exceptions,
    urllib3.exceptions,
    http.client,
    json,
    socket,
    ssl,
]


def _classes() -> list[type[Exception]]:
    found = {
        kind
        for module in MODULES
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Exception) and not issubclass(kind, Warning) and not kind.__name__.startswith("_")
    }
    found |= {UnicodeDecodeError, RecursionError, TimeoutError}
    return sorted(found, key=lambda kind: f"{kind.__module__}.{kind.__name__}")


CLASSES = _classes()


def test_the_list_of_classes_is_not_empty_by_accident() -> None:
    names = {kind.__name__ for kind in CLASSES}
    expected = {"APIError", "RetryException", "ReadTimeout", "ChunkedEncodingError", "MaxRetryError"}
    assert expected | {"JSONDecodeError", "IncompleteRead", "gaierror", "SSLError"} <= names
    assert len(CLASSES) > 60


def _one_of(kind: type[Exception]) -> Exception:
    """An instance of `kind` without what its constructor wants."""
    quiet = type(kind.__name__, (kind,), {"__init__": lambda self: None, "__str__": lambda self: "text"})
    found: Exception = quiet.__new__(quiet)
    return found


def test_a_model_that_does_not_fit_is_sorted_too() -> None:
    assert issubclass(pydantic.ValidationError, NO_ANSWER)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_whatever_a_call_can_raise_is_sorted(kind: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    error = _one_of(kind)
    assert isinstance(error, (APIError, *NO_ANSWER)), f"{kind} is not sorted"

    if isinstance(error, RetryException):
        return  # alpaca-py keeps it to itself, and raises it only while it has attempts left

    def send(*args: Any, **kwargs: Any) -> None:
        raise error if not isinstance(error, APIError) else APIError("")

    broker = AlpacaBroker("key", "secret", base_url="http://127.0.0.1:9", data_url="http://127.0.0.1:9")
    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    with pytest.raises(Unavailable):
        broker.find("k")
    with pytest.raises(Unavailable):
        broker.latest_quote("BTC/USD")
    with pytest.raises(InDoubt):
        broker.cancel("an-id")


def test_a_key_that_cannot_be_a_header_is_not_written_into_the_error() -> None:
    url = "http://127.0.0.1:9"
    broker = AlpacaBroker("key", "bad\nsecret", base_url=url, data_url=url)
    with pytest.raises(Unavailable) as raised:
        broker.account()
    assert "secret" not in str(raised.value)


def test_the_sdk_still_has_what_is_switched_off_in_it() -> None:
    client = TradingClient("key", "secret", raw_data=True)
    assert client._retry == 3
    assert isinstance(client._session, requests.Session)
