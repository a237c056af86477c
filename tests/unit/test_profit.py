"""What a cycle earned: gross, fees and net from its fills, exactly."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal as D

from build import T0, at, fill, intent
from hypothesis import given
from hypothesis import strategies as st

from dca.domain.folding import fee_fill_id
from dca.domain.position import Fill, fold
from dca.strategy.profit import most_bound, profit

BASE, SAFETY, TAKE = intent("base"), intent("safety", 1), intent("take_profit")
ADOPTED = intent("adopted")


def when(one: Fill, seconds: float) -> Fill:
    return replace(one, at=at(seconds))


BOUGHT = [
    when(fill(BASE, "0.001", "20000", "0.0000025"), 0),
    when(fill(SAFETY, "0.002", "19000", "0.000005"), 60),
]
SOLD = when(fill(TAKE, "0.0029925", "20500", "0.16"), 3600)
CORRECTED = replace(
    BOUGHT[0], id=fee_fill_id(BASE.key), qty=D(0), price=D(0), cum_qty=D(0), fee=D("-0.000001")
)


def test_a_cycle_by_hand() -> None:
    made = profit([*BOUGHT, SOLD], finished=True)
    assert made.cost == D(58)
    assert made.proceeds == D("0.0029925") * 20_500 - D("0.16") == D("61.18625")
    assert made.net == D("3.18625")
    # 0.0000025 coins bought at 20000, 0.000005 at 19000, and 16 cents of the sale.
    assert made.fees == D("0.05") + D("0.095") + D("0.16")
    assert made.gross == made.net + made.fees
    assert (made.quantity, made.began_at) == (0, T0)


def test_a_measured_fee_is_worth_what_its_coins_cost() -> None:
    made = profit([*BOUGHT, CORRECTED, SOLD], finished=True)
    assert made.fees == D("0.03") + D("0.095") + D("0.16")
    assert made.net == D("3.18625"), "a correction moves coins, not dollars"
    assert made.quantity == D("0.000001")


def test_what_a_person_traded_past_the_bot_counts_like_anything_else() -> None:
    adopted = when(fill(ADOPTED, "0.001", "18000"), 90)
    made = profit([*BOUGHT, adopted], finished=False)
    assert (made.cost, made.fees) == (D(76), D("0.145"))


def test_nothing_bought_is_nothing_earned() -> None:
    made = profit([], finished=True)
    assert (made.net, made.gross, made.began_at, most_bound([made])) == (0, 0, None, 0)


def test_the_most_that_was_bound_is_counted_over_time() -> None:
    first = profit([*BOUGHT, SOLD], finished=True)
    later = profit([replace(one, at=one.at + timedelta(hours=2)) for one in (*BOUGHT, SOLD)], finished=True)
    beside = profit([replace(one, at=one.at + timedelta(seconds=30)) for one in BOUGHT], finished=False)
    assert most_bound([first]) == 58
    assert most_bound([first, later]) == 58, "one after the other"
    assert most_bound([first, beside]) == 116, "at the same time"
    assert most_bound([first, beside, later]) == 116


def test_a_sale_in_parts_sets_free_what_it_brought() -> None:
    half = when(fill(TAKE, "0.0015", "20000", "0.08"), 120)
    again = when(fill(intent("safety", 2), "0.002", "19500"), 180)
    assert most_bound([profit([*BOUGHT, half, again], finished=False)]) == 58 - D("29.92") + 39


coins = st.decimals("0.000000001", "5", places=9)
prices = st.decimals("0.01", "99999", places=9)
shares = st.decimals("0", "0.01", places=4)


@given(st.lists(st.tuples(coins, prices, shares), min_size=1, max_size=12), st.integers(0, 12))
def test_the_sum_of_parts_is_the_whole_to_the_last_digit(rows: list[tuple[D, D, D]], cut: int) -> None:
    fills = []
    for number, (qty, price, share) in enumerate(rows):
        wish = intent(("base", "safety", "take_profit")[number % 3], number, number + 1)
        fee = (qty * share if number % 3 < 2 else qty * price * share).quantize(D("1e-9"))
        fills.append(fill(wish, str(qty), str(price), str(fee)))
    whole = profit(fills, finished=True)
    parts = [profit(part, finished=True) for part in (fills[:cut], fills[cut:])]
    for name in ("net", "gross", "fees", "cost", "proceeds"):
        assert sum(getattr(part, name) for part in parts) == getattr(whole, name)
    position = fold(fills)
    assert whole.net == position.proceeds - position.cost
    assert whole.gross - whole.fees == whole.net
