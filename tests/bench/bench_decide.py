"""One decision, in microseconds: a cycle that holds coins at a quote that triggers nothing."""

import timeit
from decimal import Decimal as D

from build import asset, at, cycle, quote

from dca.strategy.dca import Terms, Wait, decide

CALLS = 50_000
RUNS = 5


def measure() -> dict[str, float]:
    """The best of several runs: a function this short is only ever slowed down by others."""
    held = cycle(
        quantity=D("0.001"),
        average_purchase_price=D("20012.123456789012"),
        last_order_fill_price=D("20000.123456789"),
    )
    rules = asset(take_profit_net_of_fees=True, safety_order_step_scale=D("1.1"))
    price, now, terms = quote("19990.12", "19996.34"), at(1), Terms(D("0.0025"))
    assert isinstance(decide(held, rules, price, now, terms), Wait)
    runs = timeit.repeat(lambda: decide(held, rules, price, now, terms), number=CALLS, repeat=RUNS)
    return {"decide_us": min(runs) / CALLS * 1e6}
