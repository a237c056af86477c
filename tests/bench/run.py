"""`make bench`: every figure beside its floor, taken in turn in one run, as JSON.

(a) quotes a second, beside alpaca-py's raw stream on the same frames; (b) quote on the socket to
order at the exchange, beside a bare POST; (c) trade update to committed transaction, beside a bare
transaction; (d) one decision; (e) a pass of each caretaker, beside one with a tenth of the past.
`targets` says which bounds hold.
"""

import json
import platform
import sys
from decimal import Decimal as D
from typing import Any

import bench_caretakers
import bench_decide
import bench_fills
import bench_orders
import bench_quotes
from build import asset, cycle

from dca.adapters.clock import SystemClock
from dca.domain.market import Quote
from dca.strategy.dca import Terms, decide


def decision() -> bench_quotes.Decide:
    """The real decision, for a cycle that holds coins and that no quote of the frames triggers."""
    clock, terms = SystemClock(), Terms(D("0.0025"))
    held = cycle(quantity=D("0.001"), average_purchase_price=D(84_000), last_order_fill_price=D(80_000))
    rules = asset(take_profit_percent=D(50))

    def one(quote: Quote) -> object:
        return decide(held, rules, quote, clock.now(), terms)

    return one


def targets(figures: dict[str, Any]) -> dict[str, bool]:
    quotes, orders, fills = figures["quotes"], figures["orders"], figures["fills"]
    # The venue sends a quote in a frame of its own; full frames are shown for the day it does not.
    met = {"a: at least 2 times alpaca-py": quotes["1_per_frame"]["ours_to_alpaca_py"] >= 2}
    for name, most in (("sqlite", 2), ("mariadb", 4)):
        if name in orders:
            met[f"b: review and journal under {most} ms on {name}"] = orders[name]["journal_p50_ms"] < most
            met[f"b: p50 within {most} ms of the bare POST on {name}"] = orders[name]["over_p50_ms"] <= most
            met[f"b: p99 within 10 ms of the bare POST on {name}"] = orders[name]["over_p99_ms"] <= 10
    for name, one in fills.items():
        met[f"c: at most 3 times the bare transaction on {name}"] = one["ratio"] <= 3
    passes = figures["caretakers"]
    if passes:
        few, many = passes.values()
        slowest = max(one["pass_s"] for one in many.values())
        met["e: a pass over 1,000 assets and 10,000 past cycles under 2 s"] = slowest < 2
        met["e: no more statements for ten times the past"] = all(
            many[name]["statements"] == one["statements"] for name, one in few.items()
        )
    met["d: a decision under 5 us"] = figures["decide"]["decide_us"] < 5
    return met


def main() -> None:
    figures: dict[str, Any] = {"python": sys.version.split()[0], "machine": platform.machine()}
    figures["decide"] = bench_decide.measure()
    figures["fills"] = bench_fills.measure_all()
    figures["caretakers"] = bench_caretakers.measure_all()
    figures["orders"] = bench_orders.measure_all()
    figures["quotes"] = bench_quotes.measure(decide=decision())
    for one in figures["quotes"].values():
        del one["runs"]
    figures["targets"] = targets(figures)
    print(json.dumps(_rounded(figures), indent=2))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return round(value, 3) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
