"""What a person sees while recorded days are traded: a live view, or plain lines without a terminal."""

from types import TracebackType
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dca.domain.cycle import Cycle
from dca.domain.order import Order
from dca.ports import Situation, Store, Tx
from dca.strategy.dca import safety_trigger
from dca.strategy.ladder import ladder

State = dict[str, Any]
LAST = 6
LINE_EVERY = 0.1


class Progress(Protocol):
    def __enter__(self) -> Any: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, state: State, store: Store) -> None:
        """The state of the exchange and of the books, as they are now."""

    def tell(self, words: str) -> None:
        """Something happened that a person should see."""


def _look(store: Store) -> tuple[list[Situation], list[Order], int]:
    def read(tx: Tx) -> tuple[list[Situation], list[Order], int]:
        done = sum(cycle.finished for cycle in tx.cycles())
        return tx.situations(), tx.orders()[: -LAST - 1 : -1], done

    return store.read(read)


class Plain:
    """One line for every tenth of the replay."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = 0.0

    def __enter__(self) -> "Plain":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def tell(self, words: str) -> None:
        self._console.print(words, highlight=False, soft_wrap=True, style="bold")

    def show(self, state: State, store: Store) -> None:
        done = float(state["replay"]["progress"])
        if done < self._next:
            return
        self._next = done - done % LINE_EVERY + LINE_EVERY
        situations, _, completed = _look(store)
        for situation in situations:
            line = f"{done:4.0%}  {_price_line(state, situation)}  {completed} cycles completed"
            self._console.print(line, highlight=False, soft_wrap=True)


class Screen:
    """A view that is redrawn in place: replay, price, position, ladder, last decisions."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> "Screen":
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def tell(self, words: str) -> None:
        self._live.console.print(words, highlight=False, soft_wrap=True, style="bold")

    def show(self, state: State, store: Store) -> None:
        situations, orders, completed = _look(store)
        done = float(state["replay"]["progress"])
        head = Table.grid(padding=(0, 2))
        head.add_row(
            ProgressBar(total=1.0, completed=done, width=40),
            f"{done:.0%} of the replay, {completed} cycles completed",
        )
        parts: list[Any] = [head]
        for situation in situations:
            parts.append(Text(_price_line(state, situation)))
            parts.append(_ladder_table(situation))
        parts.append(_decisions_table(orders))
        self._live.update(Group(*parts))


def _price_line(state: State, situation: Situation) -> str:
    symbol, cycle = situation.asset.asset_symbol, situation.cycle
    quote = state["quotes"].get(symbol)
    price = f"bid {quote['bid']} ask {quote['ask']}" if quote else "no price yet"
    position = "no cycle" if cycle is None else f"{cycle.status}, {_position(cycle)}"
    return f"{str(state['now'])[:16]}  {symbol} {price}  {position}"


def _position(cycle: Cycle) -> str:
    if cycle.quantity <= 0:
        return "no position"
    return f"{cycle.quantity} at {cycle.average_purchase_price:.2f}, {cycle.safety_orders} safety orders"


def _ladder_table(situation: Situation) -> Table:
    asset, cycle = situation.asset, situation.cycle
    table = Table("step", "below base", "spend", "state")
    used = -1 if cycle is None or cycle.quantity <= 0 else cycle.safety_orders
    trigger = safety_trigger(cycle, asset) if cycle is not None and cycle.quantity > 0 else None
    for step in ladder(asset.rules):
        name = "base" if step.step == 0 else str(step.step)
        waiting = step.step == used + 1 and trigger is not None
        what = "bought" if step.step <= used else f"at {trigger:.2f}" if waiting else ""
        table.add_row(name, f"{step.drop_pct:.2f} %", f"{step.spend:.2f}", what)
    return table


def _decisions_table(orders: list[Order]) -> Table:
    table = Table("at", "order", "state", "why", title="last decisions")
    for order in orders:
        name = f"{order.intent.purpose} {order.intent.step or ''}".replace("_", " ")
        table.add_row(f"{order.created_at:%m-%d %H:%M}", name, str(order.status), order.intent.reason)
    return table
