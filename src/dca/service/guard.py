"""The one way to the venue: what is asked of it passes the rate budget and the circuit breakers.

Reads are repeated where that may help, within seconds. What changes something at the venue is sent
once: whether a lost answer hides an order is the pipeline's to find out.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime

from dca.domain.account import Activity, Breaker, Budget
from dca.domain.errors import InDoubt, RateLimited, Rejected, Unauthorized, Unavailable, VenueError
from dca.domain.market import Instrument, Quote
from dca.domain.order import Execution, Intent, Side, VenueOrder
from dca.ports import Account, Broker, Clock, Holding, T, Tx
from dca.risk.anomaly import SLOW_CALLS
from dca.risk.budget import Priority
from dca.service.breaker import Circuits, Group
from dca.service.budget import NAME, RateBudget
from dca.service.shared import Shared

log = logging.getLogger(__name__)

PAUSES_S = (0.25, 0.75)
"""Between the tries of a read: one more try than pauses."""
PATIENCE_S = 3.0
"""No try begins later than so long after the first."""
TOKEN_PATIENCE_S = 2.0
FRESH_S = 5.0
UNPROVEN = frozenset({408, 425, 429})


class GuardedBroker:
    """A Broker around `inner`. Threads may share it. One call counts as one request; only long lists
    take more.

    While the circuit of a group is open its reads raise Unavailable at once. Sells and cancels are
    sent all the same, because a person must always get out, and an exit that fails is paused by its
    trader anyway; whether anything may be bought `refusal` says, which must be asked before an order
    is journaled. After the venue refused the keys, reads raise the same for `keys_pause_s` seconds: it
    would not answer otherwise, and may lock the account. `keys_refused_since` tells since when.

    Unless it `sends`, nothing that changes anything leaves, whoever asks: such a write is Rejected.
    `rest` waits so many real seconds; `chance` gives numbers from 0 to 1.
    """

    def __init__(
        self,
        inner: Broker,
        shared: Shared,
        clock: Clock,
        budget: RateBudget,
        circuits: Circuits,
        *,
        rest: Callable[[float], object],
        chance: Callable[[], float],
        keys_pause_s: float = 30.0,
        sends: bool = True,
    ) -> None:
        self._inner = inner
        self._shared = shared
        self._clock = clock
        self._budget = budget
        self._circuits = circuits
        self._rest = rest
        self._chance = chance
        self._keys_pause_s = keys_pause_s
        self._sends = sends
        self.keys_refused_since: datetime | None = None
        self._took: deque[float] = deque(maxlen=SLOW_CALLS)
        self._looked_at: float | None = None
        self._keys_refused: tuple[float, Unauthorized] | None = None

    # Writes

    def submit(self, intent: Intent) -> VenueOrder:
        """The same; an order that found no place in the budget at the last moment is Rejected, unsent."""
        self._refuse_dry()
        try:
            # It is journaled, so whether it may go was asked before: it may take the last token.
            self._budget.take(Priority.EXIT)
        except RateLimited as error:
            raise Rejected(f"not sent: {error}", status=429) from error
        return self._asked(Group.ORDERS, lambda: self._inner.submit(intent))

    def cancel(self, venue_id: str) -> None:
        """The same; what found no place in the budget was not sent, and is InDoubt like a lost one."""
        self._refuse_dry()
        try:
            self._budget.take(Priority.EXIT, patience_s=TOKEN_PATIENCE_S)
        except RateLimited as error:
            raise InDoubt(f"not sent: {error}") from error
        self._asked(Group.ORDERS, lambda: self._inner.cancel(venue_id))

    def _refuse_dry(self) -> None:
        if not self._sends:
            raise Rejected("not sent: this is a dry run (DRY_RUN)")

    # Reads

    def find(self, key: str) -> VenueOrder | None:
        return self._read(Group.TRADING, lambda: self._inner.find(key))

    def open_orders(self) -> list[VenueOrder]:
        return self._read(Group.TRADING, self._inner.open_orders)

    def orders_since(self, at: datetime) -> list[VenueOrder]:
        return self._read(Group.TRADING, lambda: self._inner.orders_since(at))

    def executions(self, venue_id: str) -> list[Execution]:
        return self._read(Group.TRADING, lambda: self._inner.executions(venue_id))

    def activities(self, since: datetime) -> list[Activity]:
        return self._read(Group.TRADING, lambda: self._inner.activities(since))

    def positions(self) -> dict[str, Holding]:
        return self._read(Group.TRADING, self._inner.positions)

    def holding(self, symbol: str) -> Holding:
        return self._read(Group.TRADING, lambda: self._inner.holding(symbol))

    def account(self) -> Account:
        return self._read(Group.TRADING, self._inner.account)

    def instruments(self) -> dict[str, Instrument]:
        return self._read(Group.TRADING, self._inner.instruments)

    def time(self) -> datetime:
        return self._read(Group.TRADING, self._inner.time)

    def latest_quote(self, symbol: str) -> Quote:
        return self._read(Group.MARKET, lambda: self._inner.latest_quote(symbol))

    def latest_quotes(self, symbols: Sequence[str]) -> dict[str, Quote]:
        return self._read(Group.MARKET, lambda: self._inner.latest_quotes(symbols)) if symbols else {}

    # What others ask of the guard

    def refusal(self, side: Side) -> str | None:
        """Why an order of that side cannot be sent now; None when it can."""
        self._look(FRESH_S)
        refused = self._keys()
        if refused is not None:
            return f"the venue refused the keys: {refused}"
        if side is Side.SELL:
            return self._budget.lacking(Priority.EXIT)
        return self._circuits.shut() or self._budget.lacking(Priority.ENTRY)

    def reconciled(self) -> None:
        """Everything of ours was compared with the venue just now."""
        self._circuits.reconciled()

    def knock(self) -> None:
        """A stream of the venue is up again: an open circuit need not wait to the end of its pause."""
        self._circuits.knock()

    def tend(self, symbols: Sequence[str]) -> None:
        """What other processes decided is known, there is a request in hand for the next order, a person
        hears what lasts, and prices are asked for where only that can show that they can be."""
        self._look(0.0)
        self._budget.stock()
        self._circuits.tell()
        if symbols and self._circuits.is_unproven(Group.MARKET):
            with suppress(VenueError):
                self.latest_quotes(symbols[:1])

    def states(self) -> dict[str, str]:
        """The circuit of each group, by its name."""
        return self._circuits.states()

    @property
    def took(self) -> Sequence[float]:
        """How many seconds each of the newest requests took."""
        return tuple(self._took)

    def forget_took(self) -> None:
        self._took.clear()

    def close(self) -> None:
        """What `inner` keeps open is closed."""
        end = getattr(self._inner, "close", None)
        if end is not None:
            end()

    # How

    def _read(self, group: Group, ask: Callable[[], T]) -> T:
        begun = self._clock.monotonic()
        for pause_s in (*PAUSES_S, None):
            self._admit(group)
            try:
                return self._asked(group, ask)
            except Unavailable as error:
                wait_s = 0.0 if pause_s is None else pause_s * (0.5 + self._chance())
                late = self._clock.monotonic() + wait_s - begun > PATIENCE_S
                if pause_s is None or late or _is_told(error):
                    raise
                log.info("read_repeated", extra={"group": str(group), "error": str(error)})
            self._rest(wait_s)
        raise AssertionError("unreachable")

    def _admit(self, group: Group) -> None:
        """Raises Unauthorized, Unavailable, RateLimited."""
        refused = self._keys()
        if refused is not None:
            raise Unauthorized(str(refused), status=refused.status, code=refused.code)
        self._look(FRESH_S)
        if not self._circuits.is_shut(group):
            self._budget.take(Priority.READ, patience_s=TOKEN_PATIENCE_S)
        self._circuits.admit(group)

    def _asked(self, group: Group, ask: Callable[[], T]) -> T:
        begun = self._clock.monotonic()
        try:
            answer = ask()
        except VenueError as error:
            self._took.append(self._clock.monotonic() - begun)
            self._judge(group, error)
            raise
        self._took.append(self._clock.monotonic() - begun)
        self._keys_refused = self.keys_refused_since = None
        self._circuits.answered(group)
        return answer

    def _judge(self, group: Group, error: VenueError) -> None:
        if error.too_many is not None:
            self._budget.ban(error.too_many)
        elif isinstance(error, Unauthorized):
            self._keys_refused = self._clock.monotonic() + self._keys_pause_s, error
            self.keys_refused_since = self.keys_refused_since or self._clock.now()
        elif isinstance(error, Rejected) or _is_told(error):
            self._circuits.answered(group)
        else:
            self._circuits.failed(group, error)

    def _keys(self) -> Unauthorized | None:
        """What the venue said to our keys, while asking again is no use."""
        refused = self._keys_refused
        return None if refused is None or self._clock.monotonic() >= refused[0] else refused[1]

    def _look(self, at_most_s: float) -> None:
        """The rows that all processes share were read so many seconds ago at most."""
        now_s = self._clock.monotonic()
        if self._looked_at is not None and now_s - self._looked_at < at_most_s:
            return
        self._looked_at = now_s
        found = self._shared.read(_rows)
        if found is not None:
            rows, budget = found
            self._circuits.seen(rows)
            self._budget.seen(budget)


def _rows(tx: Tx) -> tuple[list[Breaker], Budget | None]:
    return tx.breakers(), tx.budget(NAME)


def _is_told(error: VenueError) -> bool:
    """Whether the venue understood and said no: asking again would not change that."""
    status = error.status if isinstance(error, Unavailable) else 0
    return 400 <= status < 500 and status not in UNPROVEN
