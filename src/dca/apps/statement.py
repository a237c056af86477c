"""The statement: what was traded, what it earned, and every cent of equity explained."""

from collections import Counter
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from rich.console import Console
from rich.table import Table

from dca.apps.disturbance import Disturbance
from dca.apps.judge import Books, Verdict
from dca.apps.rounds import Rounds
from dca.domain.money import CENT, ZERO
from dca.domain.order import Purpose, Side
from dca.domain.position import Position, fold

Json = dict[str, Any]
ALWAYS_SHOWN = (Purpose.BASE, Purpose.SAFETY, Purpose.TAKE_PROFIT)


@dataclass(frozen=True, slots=True)
class Equity:
    """What the exchange account was worth at the start and is worth now, at the bid.

    `unmeasured` are coins that working orders hold beyond what is booked, by symbol.
    """

    start: Decimal
    end: Decimal
    bids: dict[str, Decimal]
    unmeasured: dict[str, Decimal] = field(default_factory=dict)


def statement(books: Books, equity: Equity, verdict: Verdict) -> Json:
    """The statement, JSON-ready; amounts in USD as text. `holds` says whether everything does."""
    positions = {cycle.id: fold(books.fills_of(cycle.id)) for cycle in books.cycles}
    symbols = {asset.id: asset.asset_symbol for asset in books.assets}
    realised = unrealised = dust = ZERO
    cycles = []
    for cycle in books.cycles:
        position, bid = positions[cycle.id], equity.bids[symbols[cycle.asset_id]]
        gain = position.proceeds - position.cost
        if cycle.finished:
            realised += gain
            dust += cycle.owned * bid
            cycles.append(_cycle_line(cycle.id, symbols[cycle.asset_id], cycle.safety_orders, position))
        else:
            unrealised += gain + cycle.quantity * bid
    not_yet = sum((coins * equity.bids[symbol] for symbol, coins in equity.unmeasured.items()), ZERO)
    change = equity.end - equity.start
    unexplained = change - realised - unrealised - dust - not_yet
    return {
        "cycles_completed": len(cycles),
        "deepest_ladder": max((line["safety_orders"] for line in cycles), default=0),
        "orders": _orders(books),
        "fills": sum(fill.qty > 0 for fill in books.fills),
        "partial_fills": _partial(books),
        "fees": _usd(_fees(books)),
        "cycles": cycles,
        "realised": _usd(realised),
        "unrealised": _usd(unrealised),
        "dust": _usd(dust),
        "unmeasured_fees": _usd(not_yet),
        "equity_start": _usd(equity.start),
        "equity_end": _usd(equity.end),
        "change": _usd(change),
        "unexplained": _usd(unexplained),
        "checks": dict(verdict.checks),
        "checks_total": verdict.checks.total(),
        "violations": verdict.violations,
        "holds": not verdict.violations and _usd(unexplained) == "0.00",
    }


def with_operations(
    report: Json, disturbance: Disturbance, rounds: Rounds, *, restarts: int, left: list[str]
) -> Json:
    """The statement with what was done to the bot on purpose, and what its caretakers did about it.

    `restarts` counts the watchdog's, `left` is what a last pass still found to repair.
    """
    wrong = list(report["violations"])
    if restarts != disturbance.kills:
        wrong.append(f"killed {disturbance.kills} times, but brought back {restarts} times")
    if not disturbance.cleaned:
        wrong.append("nothing was left to go stale, or it was not cleaned up")
    wrong += [f"still to repair at the end: {one}" for one in left]
    return {
        **report,
        "disturbances": disturbance.said,
        "restarts": restarts,
        "caretakers": {
            name: {"passes": passes, "repairs": rounds.repairs[name]}
            for name, passes in sorted(rounds.passes.items())
        },
        "violations": wrong,
        "holds": report["holds"] and not wrong,
    }


def _usd(amount: Decimal) -> str:
    rounded = amount.quantize(CENT, rounding=ROUND_HALF_EVEN)
    return str(rounded if rounded else abs(rounded))


def _cycle_line(cycle_id: int, symbol: str, steps: int, position: Position) -> Json:
    return {
        "cycle": cycle_id,
        "symbol": symbol,
        "safety_orders": steps,
        "cost": _usd(position.cost),
        "proceeds": _usd(position.proceeds),
        "profit": _usd(position.proceeds - position.cost),
    }


def _orders(books: Books) -> Json:
    found: dict[str, Counter[str]] = {purpose: Counter() for purpose in ALWAYS_SHOWN}
    for order in books.orders:
        found.setdefault(order.intent.purpose, Counter())[str(order.status)] += 1
    return {str(purpose): dict(counts) for purpose, counts in found.items()}


def _partial(books: Books) -> int:
    wanted = {order.key: order.intent.qty for order in books.orders}
    return sum(0 < fill.cum_qty < wanted[fill.order_key] for fill in books.fills)


def _fees(books: Books) -> Decimal:
    """Coin fees at the price of their order's fills, and USD fees."""
    price = {fill.order_key: fill.price for fill in books.fills if fill.qty > 0}
    return sum(
        (fill.fee * price[fill.order_key] if fill.side is Side.BUY else fill.fee for fill in books.fills),
        ZERO,
    )


def show(report: Json, console: Console) -> None:
    """The statement is on the terminal."""
    table = Table("cycle", "asset", "safety orders", "cost", "proceeds", "profit", title="completed cycles")
    for line in report["cycles"]:
        table.add_row(
            *(str(line[name]) for name in ("cycle", "symbol", "safety_orders", "cost", "proceeds", "profit"))
        )
    console.print(table)
    for purpose, counts in report["orders"].items():
        shown = ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) or "none"
        _line(console, f"{purpose} orders", shown)
    _line(console, "fills", f"{report['fills']}, of which {report['partial_fills']} partial")
    _line(console, "fees", f"{report['fees']} USD")
    console.print()
    for name, words in (
        ("equity_start", "equity at the start"),
        ("realised", "+ realised profit"),
        ("unrealised", "+ open position, marked to the bid"),
        ("dust", "+ dust of finished cycles"),
        ("unmeasured_fees", "+ fees of working orders, booked at their highest"),
        ("unexplained", "+ unexplained"),
        ("equity_end", "= equity at the end"),
    ):
        _line(console, words, f"{report[name]:>12} USD")
    console.print()
    for words in report.get("disturbances", ()):
        _line(console, words, "")
    for name, done in report.get("caretakers", {}).items():
        _line(console, name, f"{done['passes']} passes, {done['repairs']} repairs")
    if "restarts" in report:
        _line(console, "restarts by the watchdog", str(report["restarts"]))
        console.print()
    for name, count in report["checks"].items():
        _line(console, name, f"{count} checks")
    for violation in report["violations"]:
        console.print(f"VIOLATED  {violation}", style="bold red")
    good = f"{report['checks_total']} checks, all hold; every cent is explained"
    console.print(
        good if report["holds"] else "SOMETHING DOES NOT HOLD",
        style="bold green" if report["holds"] else "bold red",
    )


def _line(console: Console, name: str, value: str) -> None:
    console.print(f"  {name:<72} {value}", highlight=False, soft_wrap=True)
