"""Compares the books with the venue: books what was missed, frees what is stuck, puts right what was
edited by hand, and halts what it cannot explain."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from dca.domain.asset import Asset
from dca.domain.cycle import Cycle
from dca.domain.fees import COIN_STEP
from dca.domain.folding import DUST_USD, folded
from dca.domain.market import compact
from dca.domain.money import ZERO, plain
from dca.domain.order import Order, OrderStatus, VenueOrder, is_ours
from dca.domain.record import Event
from dca.ports import Broker, Clock, CycleRecord, Situation, Store, Tx
from dca.service import cycles
from dca.service.adoption import next_keys, restore
from dca.service.caretakers.runner import Repair
from dca.service.catchup import CatchUp, is_settled
from dca.service.recorder import Recorder, differing

HELD_OPEN = (OrderStatus.OPEN, OrderStatus.PARTIAL)
MOST_FORGOTTEN = 100


@dataclass(frozen=True, slots=True)
class Sides:
    """What the books own of an asset, and what the venue holds."""

    asset: Asset
    record: CycleRecord
    owned: Decimal
    held: Decimal

    @property
    def unexplained(self) -> Decimal:
        """Coins at the venue that are neither ours nor accepted; below 0: coins of ours missing there.

        Where coins leave, a person's own leave first.
        """
        beyond = self.held - self.owned
        return beyond if beyond < 0 else max(beyond - self.asset.accepted_difference, ZERO)

    @property
    def accepted(self) -> Decimal:
        """The accepted coins that are still there."""
        return max(min(self.asset.accepted_difference, self.held - self.owned), ZERO)

    @property
    def agree(self) -> bool:
        """To the last digit that the rounding of fees leaves certain."""
        rounding = COIN_STEP * max(len(self.record.fills), 1)
        gone = self.asset.accepted_difference - self.accepted
        return abs(self.unexplained) <= rounding and gone <= rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The venue's side, and then that of the books: every order of ours is journaled before the venue
    has it.

    `listed` are the venue's open orders, `busy` the assets (without the slash) in which anything of
    ours is live, `prices` those of assets that differ; `forgotten` are assets of which the venue
    knows an order under a key that we have yet to use.
    """

    assets: Mapping[int, Asset]
    records: Mapping[int, CycleRecord]
    strays: Sequence[CycleRecord]
    live: Sequence[Order]
    owned: Mapping[int, Decimal]
    listed: Collection[str]
    held: Mapping[str, Decimal]
    busy: Collection[str]
    prices: Mapping[str, Decimal]
    forgotten: Collection[str]

    def sides(self) -> Iterator[Sides]:
        """Both sides of every asset that has a cycle."""
        for asset_id, record in self.records.items():
            asset = self.assets[asset_id]
            held = self.held.get(asset.asset_symbol, ZERO)
            yield Sides(asset, record, self.owned.get(asset_id, ZERO), held)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work(Repair):
    """`key` names an order, `cycle` is as it was read, `price` what a coin is worth."""

    asset_id: int
    key: str = ""
    cycle: Cycle | None = None
    price: Decimal = ZERO


class ConsistencyChecker:
    """dca.service.caretakers.runner.Caretaker. Within `grace` of anything an asset is not quiet."""

    name = "consistency_checker"

    def __init__(
        self,
        store: Store,
        broker: Broker,
        clock: Clock,
        recorder: Recorder,
        catch_up: CatchUp,
        grace: timedelta,
    ) -> None:
        self._store = store
        self._broker = broker
        self._clock = clock
        self._recorder = recorder
        self._catch_up = catch_up
        self._grace = grace

    # Look

    def look(self) -> View:
        listed = self._broker.open_orders()
        held = {symbol: one.qty for symbol, one in self._broker.positions().items()}
        view = self._store.read(lambda tx: _view(tx, self._store.install, listed, held))
        differ = [sides for sides in view.sides() if not sides.agree]
        if not differ:
            return view
        quotes = self._broker.latest_quotes([sides.asset.asset_symbol for sides in differ])
        prices = {symbol: quote.bid for symbol, quote in quotes.items()}
        now = self._clock.now()
        forgotten = [
            sides.asset.asset_symbol
            for sides in differ
            if sides.unexplained > 0
            and _nothing_is_ours(sides, _price(sides, prices))
            and _quiet(sides, view.busy, now, self._grace)
            and self._forgotten(sides.asset, sides.record) is not None
        ]
        return replace(view, prices=prices, forgotten=forgotten)

    def _forgotten(self, asset: Asset, record: CycleRecord) -> VenueOrder | None:
        """An order that the venue has under a key the cycle has yet to use."""
        for key in next_keys(self._store.install, record):
            seen = self._broker.find(key)
            # Another asset's: this database gave the number of the cycle a second time.
            if seen is not None and compact(seen.symbol) == compact(asset.asset_symbol):
                return seen
        return None

    # Plan

    def plan(self, view: View, now: datetime) -> list[Work]:
        work = [*_not_live(view, now, self._grace)]
        settling = {one.asset_id for one in work}
        work += [one for one in _misfolded(view, now) if one.asset_id not in settling]
        work += _misplaced(view)
        return [*work, *_different(view, now, self._grace)]

    # Mend

    def mend(self, repair: Work) -> str | None:
        if repair.kind == "settle":
            changed = self._catch_up.settle(repair.key).changed
            return None if changed else "the venue shows nothing new"
        if repair.kind == "compare":
            return self._compare(repair)
        if repair.kind == "halt":
            self._recorder.halt(repair.asset_id, repair.reason)
            return None
        assert repair.cycle is not None
        if repair.kind == "refold":
            return self._refold(repair, repair.cycle)
        if repair.kind in ("end_stray", "end_lost"):
            gone = repair.kind == "end_lost"
            cycles.end(self._store, self._clock, repair.cycle, repair.reason, asset_gone=gone)
        else:
            cycles.put_right(self._store, self._clock, repair.cycle, repair.reason)
        return None

    def _refold(self, work: Work, cycle: Cycle) -> str | None:
        # First: to a cycle that stands where it cannot be, no fill can be booked.
        refolded = self._recorder.refold(cycle.id, work.reason)
        fetched = self._fetch(work.asset_id)
        return None if fetched or refolded else "it agrees by now"

    def _compare(self, work: Work) -> str | None:
        """What the venue knows and we do not is booked; what then differs is dealt with.

        Both sides are read twice: whatever of ours moves a position between the looks is journaled
        before it does, so the second look at the books shows it.
        """
        fetched = self._fetch(work.asset_id)
        first = self._sides(work.asset_id)
        if first is not None and not _matters(first, work.price):
            return None if fetched else "books and venue agree by now"
        busy = {compact(order.intent.symbol) for order in self._store.read(lambda tx: tx.live_orders())}
        again = self._sides(work.asset_id)
        now = self._clock.now()
        if first is None or first != again or not _quiet(first, busy, now, self._grace):
            return None if fetched else "it trades; the next pass looks again"
        return self._deal_with(first, work.price, fetched=fetched)

    def _sides(self, asset_id: int) -> Sides | None:
        """Both sides as they are now; None when the asset has no cycle any more."""
        books = self._store.read(lambda tx: _record(tx, asset_id))
        if books is None:
            return None
        return replace(books, held=self._broker.holding(books.asset.asset_symbol).qty)

    def _deal_with(self, sides: Sides, price: Decimal, *, fetched: bool) -> str | None:
        asset, cycle, unexplained = sides.asset, sides.record.cycle, sides.unexplained
        if abs(unexplained) * price <= DUST_USD:
            self._lower_accepted(sides)
        elif unexplained > 0 and _nothing_is_ours(sides, price):
            return None if fetched else "coins that nobody knows; no base order is placed beside them"
        elif sides.held * price <= DUST_USD < cycle.quantity * price:
            why = f"cycle {cycle.id} ends in error: its {plain(cycle.quantity)} are gone from the venue"
            cycles.fail(self._store, self._clock, Situation(asset, cycle), why, _numbers(sides, price))
        else:
            self._recorder.halt(asset.id, _unexplained(sides, price), _numbers(sides, price))
        return None

    def _lower_accepted(self, sides: Sides) -> None:
        """What a person took of his own coins is accepted no longer."""
        asset, now = sides.asset, self._clock.now()
        why = f"{plain(sides.accepted)} of the accepted {plain(asset.accepted_difference)} are left"

        def write(tx: Tx) -> None:
            tx.update_asset(replace(asset, accepted_difference=sides.accepted, updated_at=now))
            tx.add_event(Event(name="accepted_lowered", at=now, reason=why, asset_id=asset.id))

        self._store.write(write)

    def _fetch(self, asset_id: int) -> bool:
        """Everything the venue knows of the cycle's orders is booked, forgotten ones included; whether
        there was anything."""
        sides = self._store.read(lambda tx: _record(tx, asset_id))
        if sides is None:
            return False
        orders = [order for order in sides.record.orders if not is_settled(order, sides.record.fills)]
        changed = [self._catch_up.order(order.key).changed for order in orders]
        restored = 0
        while restored < MOST_FORGOTTEN and self._restore_one(asset_id):
            restored += 1
        self._catch_up.fees(sides.record.cycle.id)
        return any(changed) or restored > 0

    def _restore_one(self, asset_id: int) -> bool:
        sides = self._store.read(lambda tx: _record(tx, asset_id))
        seen = None if sides is None else self._forgotten(sides.asset, sides.record)
        if sides is None or seen is None:
            return False
        restored = restore(self._store, self._clock, sides.asset, sides.record.cycle, seen)
        if restored:
            self._catch_up.settle(seen.key)
        return restored


# What is read


def _view(tx: Tx, install: str, listed: Sequence[VenueOrder], held: Mapping[str, Decimal]) -> View:
    assets = {asset.id: asset for asset in tx.assets()}
    live = tx.live_orders()
    busy = {order.intent.symbol for order in live}
    busy |= {seen.symbol for seen in listed if is_ours(seen.key, install)}
    records = {record.cycle.asset_id: record for record in tx.open_records()}
    return View(
        assets=assets,
        records={asset_id: record for asset_id, record in records.items() if asset_id in assets},
        strays=[CycleRecord(one, tx.orders_of(one.id), tx.fills_of(one.id)) for one in tx.stray_cycles()],
        live=live,
        owned=tx.owned_by_asset(),
        listed={seen.venue_id for seen in listed},
        held=held,
        busy={compact(symbol) for symbol in busy},
        prices={},
        forgotten=(),
    )


def _record(tx: Tx, asset_id: int) -> Sides | None:
    """The books' side; None when the asset has no unfinished cycle."""
    situation = tx.situation(asset_id)
    if situation is None or situation.cycle is None or situation.cycle.finished:
        return None
    cycle = situation.cycle
    record = CycleRecord(cycle, tx.orders_of(cycle.id), tx.fills_of(cycle.id))
    return Sides(situation.asset, record, tx.owned(asset_id), ZERO)


# What is planned


def _not_live(view: View, now: datetime, grace: timedelta) -> Iterator[Work]:
    """Orders that we hold open and the venue does not."""
    asset_of = {record.cycle.id: asset_id for asset_id, record in view.records.items()}
    for order in view.live:
        missing = order.status in HELD_OPEN and order.venue_id not in view.listed
        if missing and now - order.created_at >= grace:
            yield Work(
                kind="settle",
                subject=order.key,
                reason="a cycle waits for it, but it is not among the venue's open orders",
                key=order.key,
                asset_id=asset_of.get(order.intent.cycle_id, 0),
            )


def _misfolded(view: View, now: datetime) -> Iterator[Work]:
    """Cycles whose columns are not what their orders and fills make."""
    for asset_id, record in view.records.items():
        cycle = record.cycle
        after = folded(cycle, record.orders, record.fills, now)
        if after is not cycle:
            names = ", ".join(differing(cycle, after))
            why = f"{view.assets[asset_id].asset_symbol}: its fills and orders make another {names}"
            yield Work(kind="refold", subject=f"cycle {cycle.id}", reason=why, asset_id=asset_id, cycle=cycle)


def _misplaced(view: View) -> Iterator[Work]:
    """Cycles that somebody's SQL left where no program of ours leaves one."""
    unfinished: dict[int, list[CycleRecord]] = {}
    for record in view.strays:
        if record.cycle.finished:
            yield from _ended_by_hand(view, record.cycle)
        else:
            unfinished.setdefault(record.cycle.asset_id, []).append(record)
    for asset_id, records in unfinished.items():
        yield from _beside(view, asset_id, records)


def _ended_by_hand(view: View, cycle: Cycle) -> Iterator[Work]:
    yield _stray("free_place", cycle, f"it is {cycle.status}, but still in its asset's place")
    asset = view.assets.get(cycle.asset_id)
    if asset is not None and cycle.quantity * cycle.average_purchase_price > DUST_USD:
        why = (
            f"cycle {cycle.id} was ended by hand while it held {plain(cycle.quantity)}; if the bot shall go "
            f"on with them: dca asset adopt {asset.asset_symbol}; if they are yours: "
            f"dca asset resume {asset.asset_symbol}"
        )
        yield from _halting(asset, why)


def _beside(view: View, asset_id: int, records: Sequence[CycleRecord]) -> Iterator[Work]:
    """What becomes of unfinished cycles that are not in their asset's place.

    One gets the place if it is free and there is no doubt which; empty ones end; more than one with
    fills only a person can sort out.
    """
    asset = view.assets.get(asset_id)
    if asset is None:
        yield from (_stray("end_lost", one.cycle, "its asset is gone") for one in records)
        return
    idle = [one for one in records if not one.fills and not any(order.live for order in one.orders)]
    filled = [one for one in records if one.fills]
    chosen = None
    if asset_id not in view.records and len(filled) <= 1 and filled + idle:
        chosen = (filled or idle)[-1]
    if chosen is not None:
        yield _stray("give_place", chosen.cycle, "it is its asset's cycle, but not in its place")
    for one in idle:
        if one is not chosen:
            yield _stray("end_stray", one.cycle, "it is empty, and its asset has another cycle")
    for one in filled:
        if one is not chosen:
            why = (
                f"cycle {one.cycle.id} is unfinished beside another one and has fills; set its status to "
                f"complete or error, then: dca asset resume {asset.asset_symbol}"
            )
            yield from _halting(asset, why)


def _stray(kind: str, cycle: Cycle, why: str) -> Work:
    return Work(kind=kind, subject=f"cycle {cycle.id}", reason=why, asset_id=cycle.asset_id, cycle=cycle)


def _halting(asset: Asset, why: str) -> Iterator[Work]:
    if asset.halted_reason is None:
        yield Work(kind="halt", subject=asset.asset_symbol, reason=why, asset_id=asset.id)


def _different(view: View, now: datetime, grace: timedelta) -> Iterator[Work]:
    """Quiet assets whose sides differ by more than dust."""
    for sides in view.sides():
        symbol, price = sides.asset.asset_symbol, _price(sides, view.prices)
        stands = sides.agree or sides.asset.halted_reason is not None
        if stands or not _matters(sides, price) or not _quiet(sides, view.busy, now, grace):
            continue
        foreign = sides.unexplained > 0 and _nothing_is_ours(sides, price)
        if not foreign or symbol in view.forgotten:
            why = f"the books own {plain(sides.owned)}, the venue holds {plain(sides.held)}"
            yield Work(kind="compare", subject=symbol, reason=why, asset_id=sides.asset.id, price=price)


def _price(sides: Sides, prices: Mapping[str, Decimal]) -> Decimal:
    """What a coin is worth; what ours cost where the venue has no price."""
    return prices.get(sides.asset.asset_symbol, sides.record.cycle.average_purchase_price)


def _matters(sides: Sides, price: Decimal) -> bool:
    gone = sides.asset.accepted_difference - sides.accepted
    return max(abs(sides.unexplained), gone) * price > DUST_USD


def _nothing_is_ours(sides: Sides, price: Decimal) -> bool:
    return sides.owned * price <= DUST_USD


def _quiet(sides: Sides, busy: Collection[str], now: datetime, grace: timedelta) -> bool:
    """Whether nothing of ours is live in the asset, and nothing ended a moment ago: only then do both
    sides speak of the same instant."""
    ended = [order.updated_at for order in sides.record.orders]
    ended += filter(None, [sides.record.cycle.previous_completed_at])
    recent = any(now - at < grace for at in ended)
    return not recent and compact(sides.asset.asset_symbol) not in busy


# What is said


def _unexplained(sides: Sides, price: Decimal) -> str:
    symbol, difference = sides.asset.asset_symbol, abs(sides.unexplained)
    seen = (
        f"the books own {plain(sides.owned)}, the venue holds {plain(sides.held)}: "
        f"{plain(difference)} worth {difference * price:.2f} USD"
    )
    if sides.unexplained < 0:
        return f"{seen} are missing; if you sold or moved them: dca asset adopt {symbol} --price PRICE"
    return (
        f"{seen} are not in the books; if they are the bot's: dca asset adopt {symbol}; "
        f"if they are yours: dca asset resume {symbol}"
    )


def _numbers(sides: Sides, price: Decimal) -> dict[str, str]:
    return {
        "books": plain(sides.owned),
        "venue": plain(sides.held),
        "accepted": plain(sides.asset.accepted_difference),
        "difference": plain(sides.unexplained),
        "worth_usd": f"{abs(sides.unexplained) * price:.2f}",
    }
