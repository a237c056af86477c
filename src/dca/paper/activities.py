"""The account's history: executions, the fees that were taken from them, and transfers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import NAMESPACE_OID, uuid5

from dca.domain.market import compact
from dca.domain.money import plain
from dca.domain.order import Side
from dca.paper.exchange import Exchange
from dca.paper.gate import Answer, Call
from dca.paper.ledger import Deposit, Execution
from dca.paper.refusals import bad_body
from dca.paper.trading import limit_of
from dca.paper.wire import Json, instant, stamp

PAGE = 100
TRADES, OTHERS = "trade_activity", "non_trade_activity"


@dataclass(frozen=True, slots=True)
class Activity:
    """One line of the history: an execution, or the fee that was taken from it on its day.

    It is rendered when it is on the page that was asked for.
    """

    executed: Execution
    is_fee: bool

    @property
    def at(self) -> datetime:
        return _day(self.executed.at) if self.is_fee else self.executed.at

    @property
    def type(self) -> str:
        return "CFEE" if self.is_fee else "FILL"

    @property
    def order_id(self) -> str:
        """Nothing says which order a fee belongs to."""
        return "" if self.is_fee else self.executed.order_id

    @property
    def id(self) -> str:
        return _name(self.at, self.executed.fee_id if self.is_fee else self.executed.activity_id)

    def wire(self) -> Json:
        return _fee(self) if self.is_fee else _fill(self)


@dataclass(frozen=True, slots=True)
class Transfer:
    """A line of the history about dollars or coins that came or went. `place` is that among all of them."""

    deposit: Deposit
    place: int
    order_id: str = ""

    @property
    def at(self) -> datetime:
        return self.deposit.at

    @property
    def type(self) -> str:
        if self.deposit.asset != "USD":
            return "JNLS"
        return "CSD" if self.deposit.amount > 0 else "CSW"

    @property
    def id(self) -> str:
        return _name(self.at, str(uuid5(NAMESPACE_OID, f"transfer/{self.place}")))

    def wire(self) -> Json:
        amount, in_dollars = plain(self.deposit.amount), self.deposit.asset == "USD"
        coins = {} if in_dollars else {"symbol": compact(self.deposit.asset), "qty": amount}
        return {
            "activity_type": self.type,
            "id": self.id,
            "date": self.at.date().isoformat(),
            "created_at": stamp(self.at),
            "net_amount": amount if in_dollars else "0",
            "description": "",
            "status": "executed",
            **coins,
        }


def _day(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


Line = Activity | Transfer


class Activities:
    """The handlers of `/v2/account/activities`."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange

    def listing(self, call: Call) -> Answer:
        types = call.path.get("type") or call.query.get("activity_types")
        transfers = (Transfer(one, place) for place, one in enumerate(self.exchange.transfers))
        known: list[Line] = [*self._known(), *transfers]
        found = [item for item in known if _wanted(item, types, call.query)]
        found.sort(key=lambda item: item.at)
        if call.query.get("direction", "desc") != "asc":
            found.reverse()
        return Answer([item.wire() for item in _page(found, call.query)])

    def _known(self) -> Iterator[Activity]:
        now = self.exchange.clock.now()
        for executed in self.exchange.executions:
            yield Activity(executed, is_fee=False)
            if self.fee_listed_at(executed) <= now:
                yield Activity(executed, is_fee=True)

    def fee_listed_at(self, executed: Execution) -> datetime:
        """From when on the history shows what the execution cost."""
        at_once = self.exchange.switches.fees_listed_at_once
        return executed.at if at_once else _day(executed.at) + timedelta(days=1)


def _fill(item: Activity) -> Json:
    """The `qty` is gross and no fee is shown, as at the venue."""
    executed = item.executed
    whole = executed.leaves_qty == 0
    return {
        "activity_type": "FILL",
        "id": item.id,
        "order_id": executed.order_id,
        "order_status": "filled" if whole else "partially_filled",
        "symbol": executed.symbol,
        "side": executed.side.value,
        "type": "fill" if whole else "partial_fill",
        "price": plain(executed.price),
        "qty": plain(executed.qty),
        "cum_qty": plain(executed.cum_qty),
        "leaves_qty": plain(executed.leaves_qty),
        "transaction_time": stamp(executed.at),
    }


def _fee(item: Activity) -> Json:
    executed = item.executed
    in_coins = executed.side is Side.BUY
    return {
        "activity_type": "CFEE",
        "id": item.id,
        "date": item.at.date().isoformat(),
        "created_at": stamp(item.at + timedelta(days=1)),
        "net_amount": "0" if in_coins else plain(-executed.fee),
        "description": f"Coin Pair Transaction Fee ({'Non ' if in_coins else ''}USD)",
        "symbol": compact(executed.symbol),
        "qty": plain(-executed.fee) if in_coins else "0",
        "price": plain(executed.price),
        "status": "executed",
    }


def _name(at: datetime, name: str) -> str:
    """An id that sorts by time: to the millisecond, then a UUID."""
    utc = at.astimezone(UTC)
    return f"{utc:%Y%m%d%H%M%S}{utc.microsecond // 1000:03d}::{name}"


def _wanted(item: Line, types: str | None, query: Mapping[str, str]) -> bool:
    if types and item.type not in types.split(","):
        return False
    category = query.get("category")
    if category and category != (TRADES if item.type == "FILL" else OTHERS):
        return False
    if query.get("order_id") not in (None, "", item.order_id):
        return False
    return _in_time(item.at, query)


def _in_time(at: datetime, query: Mapping[str, str]) -> bool:
    day, after, until = query.get("date"), query.get("after"), query.get("until")
    try:
        if day:
            return at.date() == instant(day).date()
        return not ((after and at <= instant(after)) or (until and at >= instant(until)))
    except ValueError as error:
        raise bad_body("invalid date, after or until") from error


def _page(found: list[Line], query: Mapping[str, str]) -> list[Line]:
    """`page_token` is the id of the last item the client has. A whole `date` is never cut."""
    token = query.get("page_token")
    if token:
        places = [place for place, item in enumerate(found) if item.id == token]
        if not places:
            raise bad_body("invalid page_token")
        found = found[places[0] + 1 :]
    if query.get("date") and not query.get("page_size"):
        return found
    return found[: limit_of(query, PAGE, PAGE, "page_size")]
