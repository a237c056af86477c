"""When a link is made anew, and what counts as a broken one."""

import inspect
import random

import pytest
import websockets.exceptions
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus, InvalidURI, WebSocketException
from websockets.http11 import Response

from dca.adapters.venues.alpaca.link import LONGEST_PAUSE_S, LinkLost, Tally, _network, pause_s
from dca.domain.errors import ConfigError


def tries(chances: list[float], within_s: float, *, limited: bool) -> int:
    """Attempts in the first `within_s` seconds when every one fails at once."""
    at, count = 0.0, 0
    for chance in chances:
        if at > within_s:
            break
        count += 1
        at += pause_s(count, limited=limited, chance=chance)
    return count


@pytest.mark.parametrize("seed", range(50))
def test_a_venue_that_limits_gets_eight_attempts_in_ninety_seconds(seed: int) -> None:
    chance = random.Random(seed)
    assert tries([chance.random() for _ in range(100)], 90, limited=True) <= 8


def test_also_when_chance_is_against_us() -> None:
    assert tries([0.0] * 100, 90, limited=True) <= 8


def test_later_windows_are_no_denser_than_the_first() -> None:
    at, starts = 0.0, [0.0]
    for failures in range(1, 100):
        at += pause_s(failures, limited=True, chance=0.0)
        starts.append(at)
    assert max(sum(begin <= start <= begin + 90 for start in starts) for begin in starts) <= 8


def test_a_lost_link_is_tried_again_soon_and_then_ever_later() -> None:
    pauses = [pause_s(failures, limited=False, chance=1.0) for failures in range(1, 10)]
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_chance_spreads_a_pause_by_half() -> None:
    assert pause_s(3, limited=False, chance=0.0) == 1
    assert pause_s(10_000, limited=False, chance=1.0) == LONGEST_PAUSE_S


def _classes() -> list[type[Exception]]:
    kinds = [kind for kind in vars(websockets.exceptions).values() if inspect.isclass(kind)]
    own = [kind for kind in kinds if issubclass(kind, Exception) and "websockets" in kind.__module__]
    assert len(own) > 15
    return own


@pytest.mark.parametrize("kind", [*_classes(), TimeoutError, ConnectionResetError, OSError, EOFError])
def test_whatever_a_socket_raises_is_a_lost_link(kind: type[Exception]) -> None:
    error = kind.__new__(kind)
    if isinstance(error, InvalidStatus | InvalidURI):
        return
    assert isinstance(error, WebSocketException | OSError | EOFError)


@pytest.mark.parametrize(
    ("status", "limited"), [(429, True), (404, True), (301, True), (500, False), (503, False)]
)
def test_an_http_answer_instead_of_a_stream_is_met_by_trying_again(status: int, limited: bool) -> None:
    with pytest.raises(LinkLost, match=str(status)) as lost, _network():
        raise InvalidStatus(Response(status, "", Headers()))
    assert lost.value.limited is limited


def test_an_address_that_is_none_is_for_a_person_to_mend() -> None:
    with pytest.raises(ConfigError), _network():
        raise InvalidURI("nonsense", "not a websocket address")


def test_a_tally_speaks_ever_more_rarely(caplog: pytest.LogCaptureFixture) -> None:
    tally = Tally("dropped")
    for number in range(1000):
        tally.add(number)
    assert tally.count == 1000
    assert [record.count for record in caplog.records] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
