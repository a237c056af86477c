"""The ledger: every change of cash and coins at the venue, and what explains it, to the cent.

The account is counted again and again (the rows of `dca_balances`). Between two counts it may have
changed only by our fills and their fees, by other people's trades, and by transfers: what is left over
is unexplained.

A fee is taken from what was received, at the moment of the fill, and no execution tells it. Ours are
those in the books: measured for coins, the highest possible for dollars. The venue lists fees a day later
as activities of their own; those are not counted, because what they took was gone before.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from enum import StrEnum
from typing import Any

from dca.domain.account import Activity, Balance
from dca.domain.fees import COIN_STEP, FeeRates
from dca.domain.money import CENT, ZERO, exact, plain
from dca.domain.order import KEY, Purpose, Side
from dca.domain.position import Fill
from dca.ports import Tx

USD = "USD"
EXECUTED = "FILL"
FEE_WORDS = "Coin Pair Transaction Fee"
"""How the venue describes what it took from an execution; other fees are called FEE, too."""
TRANSFERS = frozenset({"CSD", "CSW", "JNLC", "JNLS", "TRANS", "ACATC", "ACATS"})
"""Kinds of activities that bring or take cash or coins (docs/alpaca.md, activities)."""
MOMENT = timedelta(microseconds=1)


class Line(StrEnum):
    """What a change is called. FEE_DIFFERENCE: the venue took less than the books expect, or later.

    BY_OTHERS are executions of orders that are not ours, less their fees; OTHER is what the venue calls
    by a name that has no line.
    """

    BUYS = "buys"
    SELLS = "sells"
    FEES = "fees"
    FEE_DIFFERENCE = "fee_difference"
    TRANSFERS = "transfers"
    BY_OTHERS = "by_others"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One change of one unit, USD or a symbol's coins, signed.

    `executed` marks what an execution exchanged, which the venue may round. `kind` is the venue's word
    for what is OTHER.
    """

    line: Line
    at: datetime
    unit: str
    amount: Decimal
    executed: bool = False
    kind: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What a statement is made of: two counts, every move after the first of them, prices by symbol.

    `listed` are fees as the venue's history tells them, which count only where nothing else fits.
    """

    opening: Balance
    closing: Balance
    moves: Sequence[Move]
    listed: Sequence[Move] = ()
    prices: Mapping[str, Decimal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """One unit: what there was, what moved it, what there is. USD are in cents.

    `opening`, `lines`, `rounding` and `unexplained` add up to `closing`, to the last digit. `worth` is
    what is unexplained in USD; None where nobody knows the price.
    """

    unit: str
    opening: Decimal
    lines: Mapping[Line, Decimal]
    rounding: Decimal
    unexplained: Decimal
    closing: Decimal
    worth: Decimal | None

    @property
    def explained(self) -> bool:
        return self.worth is not None and abs(self.worth) < CENT


@dataclass(frozen=True, slots=True)
class Statement:
    """What became of the account from `since` on and before `until`. `other` is by word and unit."""

    since: datetime
    until: datetime
    cash: Sheet
    coins: Sequence[Sheet]
    other: Mapping[tuple[str, str], Decimal]

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        return (self.cash, *self.coins)

    @property
    def explained(self) -> bool:
        """One sheet's gain does not make up for another one's loss."""
        return all(sheet.explained for sheet in self.sheets)

    @property
    def unexplained(self) -> Decimal | None:
        """In USD, all together; None where some of it has no known price."""
        worths = [sheet.worth for sheet in self.sheets if sheet.worth is not None]
        return sum(worths, ZERO) if len(worths) == len(self.sheets) else None

    def fields(self) -> dict[str, Any]:
        """The statement as JSON-ready values, amounts as text."""
        return {
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "unexplained_usd": None if self.unexplained is None else str(self.unexplained),
            "explained": self.explained,
            "cash": _sheet_fields(self.cash),
            "coins": [_sheet_fields(sheet) for sheet in self.coins],
            "other": [
                {"kind": kind, "unit": unit, "amount": plain(amount)}
                for (kind, unit), amount in self.other.items()
            ],
        }


def _sheet_fields(sheet: Sheet) -> dict[str, Any]:
    shown = str if sheet.unit == USD else plain
    return {
        "unit": sheet.unit,
        "opening": shown(sheet.opening),
        **{str(line): shown(sheet.lines[line]) for line in Line},
        "rounding": shown(sheet.rounding),
        "unexplained": shown(sheet.unexplained),
        "closing": shown(sheet.closing),
        "unexplained_usd": None if sheet.worth is None else str(sheet.worth),
    }


# From rows to moves


def moves_of_fills(symbol: str, fills: Iterable[Fill]) -> Iterator[Move]:
    """What our fills of one symbol moved; of each order they are all there. An adopted fill moved
    nothing: it stands for executions of a person's own orders."""
    by_order: dict[str, list[Fill]] = {}
    for fill in fills:
        named = KEY.match(fill.order_key)
        if named is None or named["purpose"] != Purpose.ADOPTED:
            by_order.setdefault(fill.order_key, []).append(fill)
    for mine in by_order.values():
        for fill in _with_true_fees(mine):
            yield from _of_fill(symbol, fill)


def _with_true_fees(fills: Sequence[Fill]) -> Iterator[Fill]:
    """An order's executions, each with its part of what corrects the order's fee."""
    executed = [fill for fill in fills if fill.qty > 0]
    left = sum((fill.fee for fill in fills if fill.qty <= 0), ZERO)
    qty = sum((fill.qty for fill in executed), ZERO)
    for fill in executed:
        part = left if fill is executed[-1] else (left * fill.qty / qty).quantize(COIN_STEP)
        left, qty = left - part, qty - fill.qty
        yield replace(fill, fee=fill.fee + part)


def _of_fill(symbol: str, fill: Fill) -> Iterator[Move]:
    value = fill.qty * fill.price
    if fill.side is Side.BUY:
        yield Move(line=Line.BUYS, at=fill.at, unit=USD, amount=-value, executed=True)
        yield Move(line=Line.BUYS, at=fill.at, unit=symbol, amount=fill.qty, executed=True)
        yield Move(line=Line.FEES, at=fill.at, unit=symbol, amount=-fill.fee)
    else:
        yield Move(line=Line.SELLS, at=fill.at, unit=USD, amount=value, executed=True)
        yield Move(line=Line.SELLS, at=fill.at, unit=symbol, amount=-fill.qty, executed=True)
        yield Move(line=Line.FEES, at=fill.at, unit=USD, amount=-fill.fee)


def moves_of_history(activities: Iterable[Activity], own: Collection[str]) -> Iterator[Move]:
    """What the venue's history tells beside our own fills. `own` are the venue's ids of our orders."""
    for one in activities:
        if one.order_id in own or is_listed_fee(one):
            continue
        executed = one.kind == EXECUTED
        line = Line.BY_OTHERS if executed else Line.TRANSFERS if one.kind in TRANSFERS else Line.OTHER
        kind = one.kind if line is Line.OTHER else ""
        for unit, amount in ((USD, one.net), (one.symbol, one.qty)):
            if unit is not None and amount:
                yield Move(line=line, at=one.at, unit=unit, amount=amount, executed=executed, kind=kind)


def listed_fees(activities: Iterable[Activity]) -> Iterator[Move]:
    for one in filter(is_listed_fee, activities):
        for unit, amount in ((USD, one.net), (one.symbol, one.qty)):
            if unit is not None and amount:
                yield Move(line=Line.FEES, at=one.at, unit=unit, amount=amount)


def is_listed_fee(activity: Activity) -> bool:
    """Whether it only tells what was taken from an execution when that happened."""
    told = str(activity.data.get("description", ""))
    return activity.kind == "CFEE" or (activity.kind == "FEE" and FEE_WORDS in told)


# From moves to the statement


def reckon(rows: Rows, since: datetime, until: datetime) -> Statement:
    """The statement of the time from `since` on and before `until`, before each of which a count lies.

    Pure."""
    units = {*rows.opening.coins, *rows.closing.coins, *(move.unit for move in rows.moves)} - {USD}
    coins = [_sheet(unit, rows, since, until) for unit in sorted(units)]
    other: dict[tuple[str, str], Decimal] = {}
    for move in rows.moves:
        if move.line is Line.OTHER and since <= move.at < until:
            key = move.kind, move.unit
            other[key] = other.get(key, ZERO) + move.amount
    return Statement(since, until, _sheet(USD, rows, since, until), coins, other)


def _sheet(unit: str, rows: Rows, since: datetime, until: datetime) -> Sheet:
    moves = [move for move in rows.moves if move.unit == unit]
    opening, closing = _at(since, rows.opening, unit, moves), _at(until, rows.closing, unit, moves)
    lines = dict.fromkeys(Line, ZERO)
    for move in moves:
        if since <= move.at < until:
            lines[move.line] += move.amount
    left = closing - opening - sum(lines.values(), ZERO)
    rounded = _rounded(unit, moves)
    unexplained = ZERO if abs(left) <= rounded else left
    listed = sum((fee.amount for fee in rows.listed if fee.unit == unit), ZERO)
    line = _explaining(unexplained, rounded, moves, listed)
    if line is not None:
        lines[line] += unexplained
        unexplained = ZERO
    if unit == USD:
        opening, closing, unexplained = _cents(opening), _cents(closing), _cents(unexplained)
        lines = {line: _cents(amount) for line, amount in lines.items()}
    return Sheet(
        unit=unit,
        opening=opening,
        lines=lines,
        rounding=closing - opening - sum(lines.values(), ZERO) - unexplained,
        unexplained=unexplained,
        closing=closing,
        worth=_worth(unexplained, unit, rows.prices),
    )


def _at(instant: datetime, count: Balance, unit: str, moves: Iterable[Move]) -> Decimal:
    """What there was just before `instant`: what was counted, and what moved since."""
    counted = count.cash if unit == USD else exact(count.coins.get(unit, "0"))
    return counted + sum((move.amount for move in moves if count.at < move.at < instant), ZERO)


def _rounded(unit: str, moves: Iterable[Move]) -> Decimal:
    """The most that rounding can come to: the venue may round each execution once."""
    return sum(move.executed for move in moves) * (CENT if unit == USD else COIN_STEP)


def _explaining(difference: Decimal, rounded: Decimal, moves: Iterable[Move], listed: Decimal) -> Line | None:
    """The line of a difference that no row tells; None when nothing explains it.

    The venue takes no more from our executions than the books expect. Whether it takes dollars at once or
    when it lists the fee is not known for certain (docs/alpaca.md, fees): both are right. What it took
    from executions of others shows only in the difference, and is less than the highest fee.
    """
    if not difference:
        return None
    booked = received = ZERO
    for move in moves:
        booked -= move.amount if move.line is Line.FEES else ZERO
        received += move.amount if move.line is Line.BY_OTHERS and move.amount > 0 else ZERO
    when_listed = listed and abs(difference - booked - listed) <= rounded
    if when_listed or ZERO < difference <= booked:
        return Line.FEE_DIFFERENCE
    return Line.BY_OTHERS if ZERO < -difference <= received * FeeRates.HIGHEST else None


def _cents(amount: Decimal) -> Decimal:
    rounded = amount.quantize(CENT, rounding=ROUND_HALF_EVEN)
    return rounded if rounded else abs(rounded)


def _worth(unexplained: Decimal, unit: str, prices: Mapping[str, Decimal]) -> Decimal | None:
    if unit == USD or not unexplained:
        return _cents(unexplained)
    return _cents(unexplained * prices[unit]) if unit in prices else None


# From the database


def statement(
    tx: Tx,
    since: datetime,
    until: datetime,
    *,
    count: Balance | None = None,
    news: Sequence[Activity] = (),
) -> Statement | None:
    """The statement of the counted part of that time; None when no two counts bound any of it.

    The last count before `since` bounds it, or else the first one; the last one before `until` does if
    there is a later one, else the time ends with it. `count` and `news` are taken for rows that are there.
    """
    opening = tx.last_balance(since)
    if opening is None:
        opening = tx.first_balance(since)
        if opening is None or opening.at >= until:
            return None
        since = opening.at + MOMENT
    closing = count or tx.last_balance(until)
    assert closing is not None
    if count is not None or tx.first_balance(until) is None:
        until = closing.at + MOMENT
    if until <= since:
        return None
    rows = _rows(tx, opening, closing, until, news)
    found = reckon(rows, since, until)
    missing = [sheet.unit for sheet in found.coins if sheet.unexplained]
    return reckon(_valued(tx, rows, missing, until), since, until) if missing else found


def _rows(tx: Tx, opening: Balance, closing: Balance, until: datetime, news: Sequence[Activity]) -> Rows:
    begin = opening.at + MOMENT
    history = [*tx.activities(begin, until), *(one for one in news if begin <= one.at < until)]
    own = tx.own_venue_ids({one.order_id for one in history if one.order_id is not None})
    moves, prices = list(moves_of_history(history, own)), _traded_at(history)
    keys = {fill.cycle_id: fill.order_key for fill in tx.fills_between(begin, until)}
    for key in keys.values():
        record = tx.cycle_record(key)
        if record is not None:
            symbol = record.orders[0].intent.symbol
            found = moves_of_fills(symbol, record.fills)
            moves += [move for move in found if begin <= move.at < until]
    listed = [fee for fee in listed_fees(history) if begin <= fee.at <= closing.at]
    return Rows(opening=opening, closing=closing, moves=moves, listed=listed, prices=prices)


def _valued(tx: Tx, rows: Rows, symbols: Sequence[str], until: datetime) -> Rows:
    """With the last bid that was recorded of each of the symbols that the bot watches."""
    prices = dict(rows.prices)
    for symbol in symbols:
        asset = tx.asset_by_symbol(symbol)
        known = None if asset is None else tx.decision_at(asset.id, until)
        if known is not None and known.bid is not None:
            prices[symbol] = known.bid
    return replace(rows, prices=prices)


def _traded_at(history: Iterable[Activity]) -> dict[str, Decimal]:
    """The last price of each symbol that was traded, for those that the bot does not watch."""
    ordered = sorted(history, key=lambda one: one.at)
    return {one.symbol: one.price for one in ordered if one.symbol is not None and one.price is not None}
