"""A venue that answers badly: nothing is doubled, nothing is concluded, and a person hears what to do."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from itertools import cycle, pairwise

import pytest
from bad_day import FELL, ROSE, Day, day, passed

from dca.apps.judge import Books

# One world serves several of these, so one worker runs them, in this order.
pytestmark = pytest.mark.xdist_group("test_bad_venue")

ANSWERS = (401, 403, 429, 500, "502 html", "empty", "half", "hang", "reset")
PROVEN = (401, 429)
"""Answers that prove a refusal; a venue that gave them after taking the order would lie."""
LOOKS = ("/v2/positions", "/v2/orders?", "/v2/orders:by_client_order_id")


@pytest.fixture(scope="module")
def venue_day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    with day(tmp_path_factory.mktemp("venue")) as found:
        found.run.start_streamer()
        yield found


class TestTheVenueAnswers:
    @pytest.mark.parametrize("answer", ANSWERS)
    def test_whatever_was_asked(self, venue_day: Day, answer: int | str) -> None:
        """The base order is taken, but its answer spoiled and its events lost; the safety order never
        arrives, the sell is taken or refused, and every look at orders and positions fails once."""
        today = venue_day
        today.lift()
        cycle = today.cycle()
        for path in LOOKS:
            today.fault(method="GET", path=path, effect=answer, times=1)
        unclear = 504 if answer in PROVEN else answer
        today.fault(method="POST", path="/v2/orders", effect=unclear, reached=True, times=1)
        today.fault(method="POST", path="/v2/orders", effect=answer, times=1)
        sold = answer not in PROVEN
        today.fault(method="POST", path="/v2/orders", effect=answer, reached=sold, after=1, times=1)
        today.fault(stream="trades", effect="drop", times=3)
        today.whole_cycle()
        struck = [1, 1, 1, 1, 1, 1, 3]
        today.until("every fault has struck", lambda: [row["struck"] for row in today.faults()] == struck)
        attempts = [row["body"]["client_order_id"].split("-", 2)[2] for row in today.posts(cycle)]
        again = [] if sold else ["take_profit-0-2"]
        # What the venue never had goes out again under its own key, what it refused under a new one.
        second = "safety-1-1" if sold else "safety-1-2"
        assert attempts == ["base-0-1", "safety-1-1", second, "take_profit-0-1", *again]
        today.holds()

    def test_nothing_but_that_the_keys_are_wrong(self, venue_day: Day) -> None:
        """Nothing is concluded and little is asked until they are right again; a person is told."""
        today = venue_day
        today.lift()
        today.mark()
        today.bought()
        cycle, sent = today.cycle(), len(today.posts())
        today.fault(method="*", path="/v2", effect=401)
        begun = len(today.run.control("log"))
        today.until("it is said", lambda: any("APCA_API_KEY_ID" in text for text in today.told()), at=FELL)
        today.until("it shows", lambda: "401" in (today.beat()["venue_error"] or ""), at=FELL)
        asked = [row for row in today.run.control("log")[begun:] if row["kind"] == "request"]
        assert len(asked) < 40
        tries = [datetime.fromisoformat(row["at"]) for row in today.posts()[sent:]]
        pauses = [(after - before).total_seconds() for before, after in pairwise(tries)]
        assert all(pause >= 60 * 2**number for number, pause in enumerate(pauses)), pauses
        assert replace(today.cycle(), version=cycle.version, updated_at=cycle.updated_at) == cycle
        today.lift()
        today.fell()
        today.rose()
        today.holds()

    def test_nothing_at_all_while_an_order_is_in_doubt(self, venue_day: Day) -> None:
        """Not to be found is one thing, not to be answered another: it is not given up.

        It is a sell, because as soon as nothing can be read nothing is bought any more.
        """
        today = venue_day
        today.lift()
        today.bought()
        today.fault(method="POST", path="/v2/orders", effect=504, reached=True, times=1)
        today.fault(method="GET", path="/v2", effect="reset")
        today.fault(stream="trades", effect="drop")
        asked = today.until("it is in doubt", lambda: today.last().unclear and today.last(), at=ROSE)
        late = asked.created_at + today.run.clock.span(1.5)
        today.until("the grace is over", lambda: today.run.clock.now() > late, at=ROSE)
        assert today.struck() > 4
        assert (today.last().key, str(today.last().status)) == (asked.key, "in_flight")
        today.lift()
        today.rose()
        today.holds()

    def test_that_a_symbol_is_not_traded_any_more(self, venue_day: Day) -> None:
        """Its position waits, others trade on, and a person is told."""
        today = venue_day
        today.lift()
        today.mark()
        today.bought()
        today.run.control("instrument", {"symbol": "BTC/USD", "tradable": False})
        words = "BTC/USD: the venue refused order"
        today.until("it is said", lambda: any(words in text for text in today.told()), at=ROSE)
        assert any("asset BTC/USD is not active" in text for text in today.told())
        today.add("ETH/USD", cooldown_s=10**7)
        today.whole_cycle("ETH/USD")
        assert today.cycle().quantity > 0
        today.run.control("instrument", {"symbol": "BTC/USD", "tradable": True})
        today.rose()
        today.holds()


CARETAKERS = ("order_manager", "consistency_checker")


@pytest.fixture(scope="class")
def doubtful_day(venue_day: Day) -> Iterator[Day]:
    today = venue_day
    today.lift()
    today.bought()
    today.hold(on=True)
    today.fault(method="POST", path="/v2/orders", effect=504, reached=True, times=1)
    today.fault(method="GET", path="/v2", effect=500)
    today.fault(stream="trades", effect="drop")
    today.until("an order is in doubt", lambda: today.last().unclear, at=ROSE)
    today.run.kill_streamer()
    today.lift()
    yield today
    today.lift()
    today.hold(on=False)
    today.run.start_streamer()
    today.rose()
    today.holds()


class TestTheVenueAnswersCaretakers:
    """They find a position, and an order of which nobody knows whether the venue has it."""

    def test_what_cannot_be_read_changes_nothing(self, doubtful_day: Day) -> None:
        today, struck = doubtful_day, set()
        before = Books.read(today.run.store)
        for answer, path in zip(ANSWERS, cycle((*LOOKS, "/v2/clock")), strict=False):
            today.fault(method="GET", path=path, effect=answer)
            today.fault(method="GET", path="/v2/orders:by_client_order_id", effect=500)
            for name in CARETAKERS:
                met = today.faults()[0]["struck"]
                report = passed(today, name, request_timeout_s=0.2)
                if today.faults()[0]["struck"] > met:
                    struck.add((name, path))
                    assert report.exit_code in (75, 78), (name, path, report)
                assert Books.read(today.run.store) == before, (name, path, answer)
            today.lift()
        asked = {"order_manager": (LOOKS[1], LOOKS[2], "/v2/clock"), "consistency_checker": LOOKS[:2]}
        assert struck == {(name, path) for name, paths in asked.items() for path in paths}

    def test_an_order_that_cannot_be_canceled_is_not_taken_for_canceled(self, doubtful_day: Day) -> None:
        today = doubtful_day
        passed(today, "order_manager")
        order = today.last()
        assert str(order.status) == "open"
        for answer in ANSWERS:
            today.fault(method="DELETE", path="/v2/orders/", effect=answer, times=1)
            report = passed(today, "order_manager", stuck_sell_s=1.0, request_timeout_s=0.2)
            assert today.struck() == 1 and report.planned, (answer, report)
            assert str(today.last().status) == "open"
            today.lift()
        today.fault(method="DELETE", path="/v2/orders/", effect=504, reached=True)
        today.fault(method="GET", path=LOOKS[2], effect=500)
        passed(today, "order_manager", stuck_sell_s=1.0)
        today.lift()
        before = Books.read(today.run.store)
        for answer in ANSWERS[::4]:
            today.fault(method="GET", path=LOOKS[2], effect=answer)
            assert passed(today, "consistency_checker", request_timeout_s=0.2).exit_code == 75
            assert today.struck() > 0 and Books.read(today.run.store) == before
            today.lift()
        passed(today, "consistency_checker")
        assert str(today.last().status) == "canceled"

    def test_as_cron_runs_them(self, doubtful_day: Day) -> None:
        today = doubtful_day
        today.fault(method="GET", path="/v2", effect=503)
        ended = today.run.script("order_manager")
        words = "the venue cannot be read: HTTP 503; nothing was changed, the next pass tries again"
        assert (ended.returncode, words in ended.stderr) == (75, True), ended.stderr
        today.lift()
        today.fault(method="GET", path="/v2", effect=401)
        ended = today.run.script("consistency_checker")
        words = "the venue refused APCA_API_KEY_ID and APCA_API_SECRET_KEY"
        assert (ended.returncode, words in ended.stderr) == (78, True), ended.stderr
