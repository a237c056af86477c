"""The market-data API's handlers."""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import groupby

from dca.paper.exchange import Exchange
from dca.paper.gate import Answer, Call
from dca.paper.market import Bar, Market, Tape, merged, orderbook_wire, quote_wire
from dca.paper.refusals import Refusal
from dca.paper.wire import Json, instant

LOCATIONS = ("us", "us-1", "eu-1", "us-2", "bs-1")
SYMBOL = re.compile(r"^[A-Z]+x?/[A-Z]+$")
TIMEFRAME = re.compile(r"^(\d{1,2})((?i:Min|Hour|Day|Week|Month)|[THDWM])$")
DEFAULT_LIMIT = 1000
MAXIMUM_LIMIT = 10_000
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTES = {"m": 1, "t": 1, "h": 60, "d": 1440, "w": 10_080}
MONDAY = datetime(1970, 1, 5, tzinfo=UTC)

Row = tuple[datetime, Json]


def invalid(message: str) -> Refusal:
    """The data API's refusals carry no code."""
    return Refusal(400, message)


class Data:
    """The handlers of `/v1beta3/crypto/{loc}`, and of the older path without a location."""

    def __init__(self, exchange: Exchange, market: Market) -> None:
        self.exchange = exchange
        self.market = market

    def bars(self, call: Call) -> Answer:
        start_of = _periods(call.query.get("timeframe", "1Min"))
        return self._pages("bars", call, lambda tape: _grouped(tape, start_of))

    def quotes(self, call: Call) -> Answer:
        return self._pages(
            "quotes", call, lambda tape: [(quote.at, quote_wire(quote)) for quote in tape.quotes]
        )

    def trades(self, call: Call) -> Answer:
        return self._pages("trades", call, lambda tape: [(trade["t"], trade) for trade in tape.trades])

    def latest_quotes(self, call: Call) -> Answer:
        return self._latest("quotes", call, lambda tape: quote_wire(tape.quotes[-1]) if tape.quotes else None)

    def latest_orderbooks(self, call: Call) -> Answer:
        return self._latest(
            "orderbooks", call, lambda tape: orderbook_wire(tape.quotes[-1]) if tape.quotes else None
        )

    def latest_trades(self, call: Call) -> Answer:
        return self._latest("trades", call, lambda tape: tape.trades[-1] if tape.trades else None)

    def latest_bars(self, call: Call) -> Answer:
        return self._latest("bars", call, lambda tape: tape.bars[-1].wire() if tape.bars else None)

    def snapshots(self, call: Call) -> Answer:
        return self._latest("snapshots", call, _snapshot)

    def _latest(self, name: str, call: Call, look: Callable[[Tape], Json | None]) -> Answer:
        seen = {symbol: look(tape) for symbol, tape in self._tapes(call)}
        return Answer({name: {symbol: item for symbol, item in seen.items() if item is not None}})

    def _tapes(self, call: Call) -> Iterator[tuple[str, Tape]]:
        """The tapes of the symbols asked for; symbols that are not traded here are left out."""
        location = call.path.get("loc", LOCATIONS[0])
        if location not in LOCATIONS:
            raise invalid(f"invalid location: {location}")
        named = [name for name in call.query.get("symbols", "").split(",") if name]
        if not named:
            raise invalid("symbols is required")
        for name in named:
            if not SYMBOL.match(name):
                raise invalid(f"invalid symbol: {name} does not match {SYMBOL.pattern}")
        return iter((name, self.market.tapes[name]) for name in sorted(named) if name in self.market.tapes)

    def _pages(self, name: str, call: Call, look: Callable[[Tape], list[Row]]) -> Answer:
        """One page: the limit is over all symbols, which come one after the other."""
        window, limit, skip = _window(call.query), _limit(call.query), _place(call.query)
        found: list[tuple[str, Json]] = []
        for symbol, tape in self._tapes(call):
            rows = [row for at, row in look(tape) if window[0] <= at <= window[1]]
            if call.query.get("sort") == "desc":
                rows.reverse()
            found.extend((symbol, row) for row in rows)
        page = found[skip : skip + limit]
        more = str(skip + limit) if len(found) > skip + limit else None
        groups = groupby(page, key=lambda item: item[0])
        return Answer(
            {name: {symbol: [row for _, row in rows] for symbol, rows in groups}, "next_page_token": more}
        )


def _window(query: Mapping[str, str]) -> tuple[datetime, datetime]:
    """First and last instant that are asked for. A last date means the whole of that day."""
    try:
        start = instant(query["start"]) if query.get("start") else EARLIEST
        end = instant(query["end"]) if query.get("end") else datetime.max.replace(tzinfo=UTC)
    except ValueError as error:
        raise invalid("invalid start or end") from error
    return start, end + timedelta(days=1, microseconds=-1) if len(query.get("end", "")) == 10 else end


def _limit(query: Mapping[str, str]) -> int:
    try:
        limit = int(query.get("limit", DEFAULT_LIMIT))
    except ValueError as error:
        raise invalid("invalid limit") from error
    if not 0 < limit <= MAXIMUM_LIMIT:
        raise invalid(f"limit must be between 1 and {MAXIMUM_LIMIT}")
    return limit


def _place(query: Mapping[str, str]) -> int:
    try:
        return int(query.get("page_token") or 0)
    except ValueError as error:
        raise invalid("invalid page_token") from error


def _periods(timeframe: str) -> Callable[[datetime], datetime]:
    """The function from an instant to the start of its period."""
    parts = TIMEFRAME.match(timeframe)
    if parts is None or int(parts[1]) == 0:
        raise invalid(f"invalid timeframe: {timeframe}")
    size, unit = int(parts[1]), parts[2]
    if unit == "M" or unit.lower() == "month":
        return lambda at: _month(at, size)
    letter = unit[0].lower()
    origin, length = MONDAY if letter == "w" else EARLIEST, timedelta(minutes=size * _MINUTES[letter])
    return lambda at: at - (at - origin) % length


def _month(at: datetime, size: int) -> datetime:
    first = (at.month - 1) // size * size + 1
    return datetime(at.year, first, 1, tzinfo=UTC)


def _grouped(tape: Tape, start_of: Callable[[datetime], datetime]) -> list[Row]:
    """Bars of longer periods, made of minute bars; the last one is still forming."""
    groups = groupby(tape.bars, key=lambda bar: start_of(bar.at))
    return [(at, merged(bars, at).wire()) for at, bars in groups]


def _snapshot(tape: Tape) -> Json | None:
    if not tape.quotes:
        return None
    at = tape.quotes[-1].at
    today, before = tape.day(at), tape.day(at - timedelta(days=1))
    return {
        "latestTrade": tape.trades[-1] if tape.trades else None,
        "latestQuote": quote_wire(tape.quotes[-1]),
        "minuteBar": tape.bars[-1].wire(),
        "dailyBar": _wire(today),
        "prevDailyBar": _wire(before),
    }


def _wire(bar: Bar | None) -> Json | None:
    return bar.wire() if bar else None
