"""The risk review: each limit refuses with its code and its numbers."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal as D
from typing import Any

import pytest
from build import BTC, at, intent, quote

from dca.domain.order import Purpose
from dca.risk.review import Approved, Denied, Exposure, Limits, review

LIMITS = Limits(max_open_orders=5, max_quote_age=timedelta(seconds=60), min_notional=D(10))


def exposure(**changes: Any) -> Exposure:
    base: dict[str, Any] = {
        "instrument": BTC,
        "quote": quote("19990", "20000"),
        "now": at(1),
        "committed": D(0),
        "max_cycle_spend": D(80),
        "owned": D("0.002"),
        "open_orders": 0,
    }
    return Exposure(**{**base, **changes})


BUY = intent("base")
SELL = intent("take_profit", qty=D("0.002"))


@pytest.mark.parametrize("wish", [BUY, SELL])
def test_a_sound_order_is_approved(wish: Any) -> None:
    assert review(wish, exposure(), LIMITS) == Approved(wish)


@pytest.mark.parametrize(
    ("wish", "change", "code"),
    [
        (BUY, {"halted": "by the operator"}, "trading_halted"),
        (SELL, {"halted": "by the operator"}, "trading_halted"),
        (BUY, {"quote": quote("20001", "20000")}, "quote_crossed"),
        (BUY, {"quote": quote("0", "20000")}, "quote_crossed"),
        (BUY, {"quote": quote("NaN", "20000")}, "quote_crossed"),
        (BUY, {"quote": quote("19990", "Infinity")}, "quote_crossed"),
        (BUY, {"now": at(60.1)}, "quote_stale"),
        (BUY, {"now": at(-60.1)}, "quote_stale"),
        (SELL, {"now": at(60.1)}, "quote_stale"),
        (BUY, {"open_orders": 5}, "too_many_open_orders"),
        (BUY, {"committed": D("60.01")}, "cycle_spend"),
        (BUY, {"entries_blocked": "the stream is down"}, "entries_blocked"),
        (intent("base", qty=D("0.0004")), {}, "below_minimum"),
        (intent("base", qty=D("0.00001"), limit=D(20_000)), {}, "below_minimum"),
        (intent("base", limit=D(21_001)), {"max_cycle_spend": D(800)}, "limit_far_from_market"),
        (intent("take_profit", qty=D("0.0020001")), {}, "not_owned"),
        (intent("take_profit", qty=D("0.0001")), {}, "below_minimum"),
        (BUY, {"unsendable": "no requests are left"}, "venue_not_ready"),
        (SELL, {"unsendable": "no requests are left"}, "venue_not_ready"),
        (BUY, {"cooling": True}, "cooling_down"),
    ],
)
def test_a_limit_that_does_not_hold_denies(wish: Any, change: dict[str, Any], code: str) -> None:
    answer = review(wish, exposure(**change), LIMITS)
    assert isinstance(answer, Denied)
    assert answer.code == code
    assert answer.reason


@pytest.mark.parametrize("change", [{"entries_blocked": "x"}, {"open_orders": 9}, {"committed": D(900)}])
def test_what_blocks_entries_does_not_block_an_exit(change: dict[str, Any]) -> None:
    assert review(SELL, exposure(**change), LIMITS) == Approved(SELL)


def test_a_small_position_may_be_sold_whole() -> None:
    wish = intent("take_profit", qty=D("0.0001"))
    assert review(wish, exposure(owned=D("0.0001")), LIMITS) == Approved(wish)


def test_unarmed_real_money_is_not_traded_at_all() -> None:
    for wish in (BUY, SELL):
        answer = review(wish, exposure(), replace(LIMITS, armed=False))
        assert isinstance(answer, Denied) and answer.code == "not_armed"


@pytest.mark.parametrize(
    ("purpose", "bid", "denied"),
    [
        ("take_profit", "20149", True),
        ("take_profit", "20151", False),
        ("stop_loss", "19000", False),
        ("close", "19000", False),
    ],
)
def test_a_take_profit_earns_the_least_profit_after_its_fee(purpose: str, bid: str, denied: bool) -> None:
    limits = replace(LIMITS, min_profit_pct=D("0.5"), taker_fee=D("0.0025"))
    wish = replace(SELL, purpose=Purpose(purpose))
    seen = exposure(quote=quote(bid, "20200"), average=D(20_000))
    assert isinstance(review(wish, seen, limits), Denied) is denied
