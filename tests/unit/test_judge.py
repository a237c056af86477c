"""The judge can find every kind of fault: sound books pass, each broken one is named."""

from dataclasses import replace
from decimal import Decimal as D
from typing import Any

import pytest
from build import BTC, asset, at, cycle, fill, intent, order

from dca.apps import judge
from dca.apps.judge import Books, Executed, Request, VenueLog
from dca.apps.statement import Equity, statement

BASE = intent("base")
EXIT = intent("take_profit", qty=D("0.0009975"))
FILLS = [fill(BASE, "0.001", "20000", "0.0000025"), fill(EXIT, "0.0009975", "21000", "0.06")]


def books(**changes: Any) -> Books:
    done = cycle("complete", completed_at=at(60), sell_price=D(21_000), quantity=D(0))
    base: dict[str, Any] = {
        "assets": [asset()],
        "cycles": [done, cycle("cooldown", id=8)],
        "orders": [order("filled", BASE), order("filled", EXIT)],
        "fills": FILLS,
    }
    return Books(**{**base, **changes})


def request(wish: Any, **changes: Any) -> Request:
    base: dict[str, Any] = {
        "key": wish.key, "symbol": wish.symbol, "side": str(wish.side), "qty": wish.qty,
        "limit": wish.limit, "at": at(1), "accepted": True,
    }  # fmt: skip
    return Request(**{**base, **changes})


def executed(wish: Any, qty: str, price: str, fee: str) -> Executed:
    return Executed(
        key=wish.key, symbol=wish.symbol, side=str(wish.side), qty=D(qty), price=D(price), fee=D(fee)
    )


def venue(**changes: Any) -> VenueLog:
    base: dict[str, Any] = {
        "requests": [request(BASE), request(EXIT)],
        "executions": [
            executed(BASE, "0.001", "20000", "0.0000025"),
            executed(EXIT, "0.0009975", "21000", "0.06"),
        ],
        "steps": [(BASE.key, True), (BASE.key, False), (EXIT.key, True), (EXIT.key, False)],
        "cash": D("10000"),
        "coins": {"BTC/USD": D(0)},
    }
    return VenueLog(**{**base, **changes})


def violated(log: VenueLog, written: Books) -> set[str]:
    found = judge.judge(log, written, {"BTC/USD": BTC}).violations
    return {violation.partition(":")[0] for violation in found}


def test_sound_books_have_no_violation_and_everything_was_checked() -> None:
    verdict = judge.judge(venue(), books(), {"BTC/USD": BTC})
    assert verdict.violations == []
    assert set(verdict.checks) == {
        judge.ONE_ORDER, judge.JOURNALED, judge.NOT_IN_FLIGHT, judge.POSITION, judge.SPEND,
        judge.ONE_ENTRY, judge.EXACTLY_ONCE, judge.FOLDED, judge.ONE_LIFE, judge.OWN_COINS,
    }  # fmt: skip


EXECUTIONS = venue().executions
STRANGE = request(intent("safety", 9))


@pytest.mark.parametrize(
    ("log", "written", "name"),
    [
        (venue(requests=[request(BASE), request(BASE), request(EXIT)]), books(), judge.ONE_ORDER),
        (venue(requests=[request(BASE), STRANGE]), books(), judge.JOURNALED),
        (venue(requests=[request(BASE, qty=D("0.002")), request(EXIT)]), books(), judge.JOURNALED),
        (venue(requests=[request(BASE, limit=D(1)), request(EXIT)]), books(), judge.JOURNALED),
        (venue(requests=[request(BASE, at=at(-1)), request(EXIT)]), books(), judge.JOURNALED),
        (venue(), books(orders=[order("in_flight", BASE), order("filled", EXIT)]), judge.NOT_IN_FLIGHT),
        (venue(coins={"BTC/USD": D("0.000000002")}), books(), judge.POSITION),
        (venue(coins={}), books(cycles=[cycle("complete", quantity=D("0.1")), cycle(id=8)]), judge.POSITION),
        (venue(executions=[executed(BASE, "0.01", "20000", "0"), EXECUTIONS[1]]), books(), judge.SPEND),
        (
            venue(steps=[(BASE.key, True), (EXIT.key, True), (BASE.key, False), (EXIT.key, False)]),
            books(),
            judge.ONE_ENTRY,
        ),
        (venue(executions=EXECUTIONS[:1]), books(), judge.EXACTLY_ONCE),
        (venue(), books(fills=FILLS[1:]), judge.EXACTLY_ONCE),
        (
            venue(),
            books(fills=[*FILLS, replace(FILLS[0], id="again", cum_qty=D("0.002"))]),
            judge.EXACTLY_ONCE,
        ),
        (venue(executions=EXECUTIONS[::-1]), books(), judge.OWN_COINS),
        (venue(), books(cycles=[cycle("complete", quantity=D("0.5")), cycle(id=8)]), judge.FOLDED),
        (venue(), books(cycles=[cycle("complete")]), judge.ONE_LIFE),
        (venue(), books(cycles=[cycle("complete"), cycle(id=8), cycle(id=9)]), judge.ONE_LIFE),
    ],
)
def test_each_fault_is_found(log: VenueLog, written: Books, name: str) -> None:
    assert name in violated(log, written)


def test_the_statement_explains_every_cent() -> None:
    verdict = judge.judge(venue(), books(), {"BTC/USD": BTC})
    # 20 USD were paid, 0.0009975 * 21000 - 0.06 came back.
    end = D(10_000) - 20 + D("20.9475") - D("0.06")
    report = statement(books(), Equity(D(10_000), end, {"BTC/USD": D(21_000)}), verdict)
    assert (report["realised"], report["unexplained"], report["holds"]) == ("0.89", "0.00", True)
    assert report["cycles_completed"] == 1
    assert report["orders"]["take_profit"] == {"filled": 1}
    off = statement(books(), Equity(D(10_000), end + D("0.01"), {"BTC/USD": D(21_000)}), verdict)
    assert (off["unexplained"], off["holds"]) == ("0.01", False)


def test_a_violation_is_enough_to_not_hold() -> None:
    verdict = judge.judge(venue(), books(cycles=[cycle("complete")]), {"BTC/USD": BTC})
    end = D(10_000) - 20 + D("20.9475") - D("0.06")
    report = statement(books(), Equity(D(10_000), end, {"BTC/USD": D(21_000)}), verdict)
    assert not report["holds"]


def test_a_working_order_may_hold_more_than_its_highest_fee_left() -> None:
    """Its fee is booked at the highest rate until it has ended."""
    orders = [order("partial", BASE, filled_qty=D("0.0004"))]
    written = books(
        cycles=[cycle("buying", quantity=D("0.000399"))],
        orders=orders,
        fills=[fill(BASE, "0.0004", "20000", "0.000001")],
    )
    log = venue(
        requests=[request(BASE)],
        executions=[executed(BASE, "0.0004", "20000", "0.0000006")],
        steps=[(BASE.key, True)],
        coins={"BTC/USD": D("0.0003994")},
    )
    verdict = judge.judge(log, written, {"BTC/USD": BTC})
    assert verdict.violations == []
    end = D(10_000) - 8 + D("0.0003994") * 20_000
    coins = judge.unmeasured(log, written)
    report = statement(written, Equity(D(10_000), end, {"BTC/USD": D(20_000)}, coins), verdict)
    assert (report["unexplained"], report["unmeasured_fees"]) == ("0.00", "0.01")
    more = replace(log, coins={"BTC/USD": D("0.0003996")})
    assert judge.POSITION in violated(more, written)


def test_what_a_person_traded_and_adopted_is_in_the_books_and_not_at_the_venue() -> None:
    """Half as much again was bought by hand, adopted, and sold with the rest."""
    by_hand = intent("adopted", qty=D("0.0005"))
    exit_all = intent("take_profit", qty=D("0.0014975"))
    written = books(
        orders=[
            order("filled", BASE),
            order("filled", by_hand, filled_qty=D("0.0005")),
            order("filled", exit_all),
        ],
        fills=[FILLS[0], fill(by_hand, "0.0005", "20000"), fill(exit_all, "0.0014975", "21000", "0.08")],
    )
    log = venue(
        requests=[request(BASE), request(exit_all)],
        executions=[
            executed(BASE, "0.001", "20000", "0.0000025"),
            executed(exit_all, "0.0014975", "21000", "0.08"),
        ],
        steps=[(BASE.key, True), (BASE.key, False), (exit_all.key, True), (exit_all.key, False)],
    )
    assert violated(log, written) == set()


def test_the_coins_of_a_cycle_in_error_are_gone() -> None:
    lost = cycle("error", completed_at=at(60), quantity=D("0.0009975"))
    written = books(cycles=[lost, cycle(id=8)], orders=[order("filled", BASE)], fills=FILLS[:1])
    log = venue(
        requests=[request(BASE)], executions=EXECUTIONS[:1], steps=[(BASE.key, True), (BASE.key, False)]
    )
    assert violated(log, written) == set()
