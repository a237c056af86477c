"""The judge of a life. It reads what the venue did and what stands in the database, and nothing else
that the program says; its arithmetic is its own."""

import math
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from dca.domain.asset import Asset, Rules
from dca.domain.cycle import Cycle, CycleStatus
from dca.domain.market import Quote
from dca.domain.mode import Mode
from dca.domain.order import Intent, Order, OrderStatus, Purpose, Side
from dca.domain.position import Fill
from dca.domain.record import Event
from dca.ports import CycleRecord, Tx
from dca.prove.exchange import Executed, Placed, Watcher
from dca.prove.fates import LONGEST_S

if TYPE_CHECKING:
    from dca.prove.process import Process
    from dca.prove.world import World

ZERO = Decimal(0)
KEY = re.compile(r"^dca[0-9a-f]{8}-c(\d+)-([a-z_]+)-(\d+)-(\d+)$")
FRESH_S = 3.0
WINDOW_S = 75.0
"""So long ago a decision may have been made whose order arrives now."""
NEAR = Decimal("0.05")
NEAR_AGAIN = Decimal("0.085")
"""What is sent again keeps its limit: that may be 5 % from the quote by now, and an old quote lies by 3 %."""
FLAT_USD = Decimal(1)
DEPOSIT_S = 300.0
"""Coins that were paid in so long ago no request that is under way can have missed."""
IN_HAND = 40
"""Requests that processes may have taken from the budget before a minute began."""
STOP_S = 130.0
"""Below its stop for so long, nobody can have seen another price any more."""
QUOTE_AGE_S = 60.0
ROUND_TRIP_S = 45.0
UNDER_WAY_S = 2.0
UNFORCED = ("error_cycle", "cycle_refolded", "order_restored", "stray_cycle_ended", "cycle_put_right")
BEYOND_GRACE = frozenset({"I1", "I3", "I5", "I6", "UNCALLED"})
"""An order that arrives later than anything may be under way can meet the one that followed it: then its
asset is halted, and that is all that can be asked of this asset from then on."""
BY_HAND = ("sold_by_hand", "deposit")
BY_OPERATOR = "by the operator"
NEVER = -1e9
LONGEST_STEP_S = 90.0
"""So far the wall clock is off at most."""


class Oracle(Watcher):
    """Collects violations, each with the invariant it breaks."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.violations: list[str] = []
        self._asks: dict[str, deque[tuple[float, Decimal, Decimal]]] = {}
        self._finished: dict[int, Cycle] = {}
        self._streaming: list[Process] = []
        self._first_sent: dict[str, float] = {}
        self._sent_again: set[str] = set()
        self._late: list[tuple[float, str, int]] = []
        self._under_way_s = 0.0
        self._without: set[int] = set()
        self._stops: dict[int, tuple[int, Decimal | None]] = {}
        self.completed = 0

    def violates(
        self, invariant: str, what: str, *, symbol: str = "", cycle: int = 0, since: float | None = None
    ) -> None:
        """`what` does not hold, of that asset and cycle, `since` then; without an instant, now."""
        at = self._world.loop.time()
        if invariant in BEYOND_GRACE and self._excused(symbol, cycle, at if since is None else since):
            self._world.fates.happened["excused_beyond_the_grace"] += 1
            return
        self.violations.append(f"{invariant} at {at:.1f} s: {what}")
        self._world.tell("JUDGE", f"VIOLATION {invariant}", what)

    def _excused(self, symbol: str, cycle: int, since: float) -> bool:
        return any(at <= since and (symbol == name or cycle == its) for at, name, its in self._late)

    def _expect(self, invariant: str, holds: bool, what: str, *, symbol: str = "", cycle: int = 0) -> None:
        if not holds:
            self.violates(invariant, what, symbol=symbol, cycle=cycle)

    # While it lives

    def priced(self, quote: Quote) -> None:
        """The market is truly there."""
        now = self._world.loop.time()
        seen = self._asks.setdefault(quote.symbol, deque())
        seen.append((now, quote.bid, quote.ask))
        longest = max(WINDOW_S, STOP_S + LONGEST_STEP_S)
        while len(seen) > 1 and seen[1][0] < now - longest:
            seen.popleft()

    def streams(self, process: "Process") -> None:
        """A streamer has the lease."""
        self._streaming = [one for one in self._streaming if not one.dead]
        fates = self._world.fates
        if self._streaming:
            fates.happened["two_streamers_at_once"] += 1
            excused = any(fates.on(name) for name in ("clock_step", "store_before", "store_after"))
            others = ", ".join(one.identity for one in self._streaming)
            self._expect("I10", excused, f"{process.identity} streams beside {others}")
        self._streaming.append(process)

    def sent(self, process: "Process", intent: Intent) -> None:
        """A process is about to send an order."""
        now, world = self._world.loop.time(), self._world
        if intent.key in self._first_sent:
            world.fates.happened["sent_again"] += 1
            self._sent_again.add(intent.key)
        self._first_sent.setdefault(intent.key, now)
        why = world.store.read(lambda tx: self._halted(tx, intent.cycle_id))
        self._expect("I14", why is None, f"{intent.key} is sent although halted: {why}")
        if intent.side is Side.BUY and not world.fates.on("clock_step"):
            why = world.store.read(lambda tx: self._paused(tx, intent.cycle_id))
            self._expect("I14", why is None, f"{intent.key} buys although paused: {why}")
        if intent.purpose is Purpose.SAFETY:
            self._above_its_stop(intent)
        if process.name == "streamer" and intent.side is Side.BUY:
            self._knows_the_market(process, intent)

    def _above_its_stop(self, intent: Intent) -> None:
        """No safety order is bought while the bid has been at or below the stop for long."""
        found = self._world.store.read(lambda tx: _journaled(tx, intent.key))
        if found is None or found[0].cycle.quantity <= 0 or BY_OPERATOR in intent.reason:
            return
        record, asset = found
        window = STOP_S + abs(self._world.clock.off_s)
        newest = max(fill.at for fill in record.fills)
        since, stop = self._world.clock.true() - timedelta(seconds=window), _stop(record, asset.rules)
        if stop is None or newest > since or record.cycle.created_at > since:
            return
        best = max(bid for _, bid, _ in self._lately(intent.symbol, window))
        self._expect("STOP", best > stop, f"{intent.key} buys, the bid is {best} at best, the stop {stop}")

    def _lately(self, symbol: str, window: float) -> list[tuple[float, Decimal, Decimal]]:
        """The true prices of the last `window` seconds, the one that stood at its beginning among them."""
        seen, since = list(self._asks[symbol]), self._world.loop.time() - window
        older = sum(at < since for at, _, _ in seen)
        return seen[max(0, older - 1) :]

    def look(self) -> None:
        """No stop fell while nothing was bought."""

        def read(tx: Tx) -> list[tuple[Cycle, str, int]]:
            found = [one for one in tx.situations() if one.cycle is not None and one.cycle.quantity > 0]
            return [
                (one.cycle, one.asset.asset_symbol, len(tx.fills_of(one.cycle.id)))
                for one in found
                if one.cycle
            ]

        for cycle, symbol, fills in self._world.store.read(read):
            before = self._stops.get(cycle.id)
            self._stops[cycle.id] = fills, cycle.stop_price
            if before is None or before[0] != fills or before[1] is None:
                continue
            holds = cycle.stop_price is not None and cycle.stop_price >= before[1]
            self._expect("STOP", holds, f"{symbol}: the stop fell from {before[1]} to {cycle.stop_price}")

    @contextmanager
    def arriving(self, after_s: float) -> Iterator[None]:
        """What the venue takes inside was under way for so long."""
        self._under_way_s = after_s
        try:
            yield
        finally:
            self._under_way_s = 0.0

    def _halted(self, tx: Tx, cycle_id: int) -> str | None:
        cycle = tx.cycle(cycle_id)
        situation = None if cycle is None else tx.situation(cycle.asset_id)
        if situation is None:
            return None
        now, fates = self._world.clock.now(), self._world.fates
        if fates.on("store_slow") and fates.on("clock_step"):
            return None
        # Where nothing pauses after a commit, what stands there now stood there when it was journaled.
        before = now - timedelta(seconds=UNDER_WAY_S) if fates.on("store_slow") else now
        asset = situation.asset
        if asset.halted_reason is not None and asset.updated_at <= before:
            return asset.halted_reason
        halts = [one for one in tx.modes() if one.mode is Mode.HALTED and one.holds(now)]
        return next((one.reason for one in halts if one.since <= before), None)

    def _paused(self, tx: Tx, cycle_id: int) -> str | None:
        """Why nothing has been bought for the asset since longer than any decision takes."""
        cycle = tx.cycle(cycle_id)
        situation = None if cycle is None else tx.situation(cycle.asset_id)
        now = self._world.clock.now()
        before = now - timedelta(seconds=ROUND_TRIP_S)
        if situation is None:
            return None
        asset = situation.asset
        if asset.paused_reason is not None and asset.updated_at <= before:
            return asset.paused_reason
        return next((one.reason for one in tx.modes() if one.holds(now) and one.since <= before), None)

    def _knows_the_market(self, process: "Process", intent: Intent) -> None:
        now, slack = self._world.loop.time(), ROUND_TRIP_S + abs(self._world.clock.off_s)
        doors = [door for door in self._world.markets if door.belongs_to(process)]
        heard = max((door.newest.get(intent.symbol, NEVER) for door in doors), default=now)
        open_ones = self._world.store.read(lambda tx: tx.replacements())
        if any(one.new_key == intent.key for one in open_ones):
            # It may be gone on with before the first quote comes, because the venue was asked for one.
            heard = max(heard, process.asked.get(intent.symbol, NEVER))
        age = now - heard
        self._expect("I12", age <= QUOTE_AGE_S + slack, f"{intent.key} on a quote of {age:.0f} s ago")
        for door in self._world.trades:
            if door.belongs_to(process) and not door.up:
                away = now - door.down_since
                self._expect("I12", away <= slack, f"{intent.key} without a trade stream since {away:.0f} s")

    def committed(self) -> None:
        """What the venue showed was booked: no asset is without a cycle, not for a moment."""
        for number, (_, cycle, _) in self._world.store.read(lambda tx: tx.revision()).items():
            if cycle == 0 and number not in self._without:
                asset = next(one for one in self.assets() if one.id == number)
                if asset.is_enabled and asset.halted_reason is None:
                    self._without.add(number)
                    self.violates("I7", f"{asset.asset_symbol} has no unfinished cycle")

    def delivered(self, process: "Process", execution: Executed) -> None:
        """The stream told `process` of an execution: soon it must be in the database."""
        fates = self._world.fates
        if KEY.match(execution.order.key) and not any(
            fates.on(name) for name in ("store_before", "store_after", "store_slow")
        ):
            self._world.loop.call_later(FRESH_S, self._fresh, process, execution)

    def _fresh(self, process: "Process", execution: Executed) -> None:
        if process.dead or self._world.ended:
            return
        record = self._world.store.read(lambda tx: tx.cycle_record(execution.order.key))
        stored = record is not None and any(
            fill.order_key == execution.order.key and fill.cum_qty == execution.cum for fill in record.fills
        )
        self._expect("I2", stored, f"{execution.order.key} told {FRESH_S:g} s ago, and not booked")

    def accepted(self, order: Placed) -> None:
        """The venue took an order."""
        match = KEY.match(order.key)
        if match is None:
            return
        self._world.tell("venue", "accepted", f"{order.id} {order.key}")
        if self._under_way_s > LONGEST_S:
            self._late.append((self._world.loop.time(), order.symbol, int(match[1])))
        found = self._world.store.read(lambda tx: _journaled(tx, order.key))
        if found is None:
            self.violates("I4", f"{order.key} is at the venue and not in the journal")
            return
        record, asset = found
        row = next(one for one in record.orders if one.key == order.key)
        wish = row.intent
        same = (wish.symbol, wish.side, wish.qty, wish.limit) == (
            order.symbol,
            order.side,
            order.qty,
            order.limit,
        )
        self._expect("I4", same, f"{order.key} has another body than its row")
        self._expect("I18", bool(wish.reason), f"{order.key} has no cause")
        others = [one.key for one in self._live(order.symbol) if one is not order]
        self._expect("I1", not others, f"{order.key} beside {', '.join(others)}", symbol=order.symbol)
        self._folds(record)
        if order.side is Side.BUY:
            self._within_budget(record, asset)
            self._within_the_day(order)
            self._nothing_foreign(order, row, asset)
            self._near(order)
        else:
            self._own_coins(order)
            self._no_phantom_sale(order, row, record)

    def _live(self, symbol: str) -> list[Placed]:
        return [
            one for one in self._world.exchange.live.values() if one.symbol == symbol and KEY.match(one.key)
        ]

    def _folds(self, record: CycleRecord) -> None:
        cycle, holds = record.cycle, record.cycle.quantity == _folded(record.fills)
        self._expect("I3", holds, f"cycle {cycle.id} is not its fills", cycle=cycle.id)

    def _within_budget(self, record: CycleRecord, asset: Asset) -> None:
        """What the ladder's orders cost at the venue is within the ladder."""
        spent = ZERO
        for order in record.orders:
            if order.intent.purpose in (Purpose.BASE, Purpose.SAFETY):
                placed = self._world.exchange.by_key.get(order.key)
                if placed is not None:
                    spent += placed.value + (placed.left * (placed.limit or ZERO) if placed.live else ZERO)
        allowed = asset.rules.max_cycle_spend or _ladder(asset.rules)
        why = f"cycle {record.cycle.id} risks {spent:.2f} of {allowed:.2f}"
        self._expect("I5", spent <= allowed, why, cycle=record.cycle.id)

    def _within_the_day(self, order: Placed) -> None:
        """What was bought and is resting is within what a day may cost."""
        most = self._world.setup.limits.max_day
        if most is None:
            return
        buys = [
            one for one in self._world.exchange.orders.values() if one.side is Side.BUY and KEY.match(one.key)
        ]
        spent = sum(
            (one.value + (one.left * (one.limit or ZERO) if one.live else ZERO) for one in buys), ZERO
        )
        self._expect("I5", spent <= most, f"{spent:.2f} of {most} a day", symbol=order.symbol)

    def _nothing_foreign(self, order: Placed, row: Order, asset: Asset) -> None:
        """No cycle begins among coins that somebody paid in, until a person said that this is right."""
        world = self._world
        known = world.loop.time() - world.exchange.deposited_at > DEPOSIT_S
        if row.intent.purpose is not Purpose.BASE or not known or world.fates.happened["sold_by_hand"]:
            return
        extra = world.exchange.foreign[order.symbol] - asset.accepted_difference - self._adopted(order.symbol)
        worth = extra * world.exchange.quotes[order.symbol].bid
        self._expect(
            "I6", worth <= 2 * FLAT_USD, f"{order.key} beside {extra} foreign coins", symbol=order.symbol
        )

    def _near(self, order: Placed) -> None:
        assert order.limit is not None
        near = NEAR_AGAIN if order.key in self._sent_again else NEAR
        asks = [ask for _, _, ask in self._lately(order.symbol, WINDOW_S + self._under_way_s)]
        sane = min(asks) * (1 - near) <= order.limit <= max(asks) * (1 + near)
        self._expect("I9", sane, f"{order.key} at {order.limit}, the ask was {min(asks)} to {max(asks)}")

    def _own_coins(self, order: Placed) -> None:
        own = ZERO
        for one in self._world.exchange.executions:
            if one.order.symbol == order.symbol and KEY.match(one.order.key):
                own += one.qty - one.fee if one.order.side is Side.BUY else -one.qty
        own += self._adopted(order.symbol)
        left = sum((one.left for one in self._live(order.symbol) if one.side is Side.SELL), ZERO)
        self._expect("I6", left <= own, f"{order.key} sells {left} of {own}", symbol=order.symbol)

    def _adopted(self, symbol: str) -> Decimal:
        """Coins that a person traded, and said that they are the bot's."""
        if not any(self._world.fates.happened[name] for name in BY_HAND):
            return ZERO
        orders = self._world.store.read(lambda tx: tx.orders())
        mine = [
            one for one in orders if one.intent.purpose is Purpose.ADOPTED and one.intent.symbol == symbol
        ]
        return sum((one.filled_qty if one.intent.side is Side.BUY else -one.filled_qty for one in mine), ZERO)

    def _no_phantom_sale(self, order: Placed, row: Order, record: CycleRecord) -> None:
        """A take profit is decided on a price that was truly there, or nearly."""
        if row.intent.purpose is not Purpose.TAKE_PROFIT:
            return
        best = max(bid for _, bid, _ in self._lately(order.symbol, WINDOW_S))
        average = record.cycle.average_purchase_price
        reached = best * (1 + NEAR) >= average
        self._expect("I9", reached, f"{order.key} at a bid of {best} at best, paid {average}")

    # Reading

    def assets(self) -> list[Asset]:
        return self._world.store.read(lambda tx: tx.assets())

    def unfinished(self) -> dict[str, Cycle]:
        """The unfinished cycle of each asset, by symbol."""
        found = self._world.store.read(lambda tx: tx.situations())
        return {one.asset.asset_symbol: one.cycle for one in found if one.cycle is not None}

    def newest_cycle(self, asset_id: int) -> int:
        cycles = self._world.store.read(lambda tx: tx.cycles())
        return max((one.id for one in cycles if one.asset_id == asset_id), default=0)

    def unproven(self, first: dict[int, int]) -> list[str]:
        """Enabled assets that have completed no cycle which is newer than their `first`."""
        cycles = self._world.store.read(lambda tx: tx.cycles())
        proven = {
            one.asset_id
            for one in cycles
            if one.status is CycleStatus.COMPLETE and one.id > first.get(one.asset_id, 0)
        }
        return [one.asset_symbol for one in self.assets() if one.is_enabled and one.id not in proven]

    # Afterwards

    def recovered(self, died: float) -> None:
        """What happened until that instant, at which somebody died, is settled: booked, and the same on
        both sides; and a streamer listens."""
        world = self._world
        cycles, orders, fills = world.store.read(lambda tx: (tx.cycles(), tx.orders(), tx.fills()))
        self._one_life(self.assets(), cycles)
        booked = {(one.order_key, one.cum_qty) for one in fills}
        for one in world.exchange.executions:
            missed = one.at <= died and KEY.match(one.order.key) and (one.order.key, one.cum) not in booked
            self._expect("I2", not missed, f"{one.order.key} executed before the death and is not booked")
        self._no_orphans(orders, until=died)
        self._expect("L3", any(door.up for door in world.trades), f"nothing streams since {died:.1f} s")

    def after_quiet(self) -> None:
        """Everything has come to rest: books and venue say the same."""
        self._reckon()
        for asset in self.assets():
            self._stopped(asset)

    def _stopped(self, asset: Asset) -> None:
        """Nothing is held for an hour below its stop."""
        world, symbol = self._world, asset.asset_symbol
        situation = world.store.read(lambda tx: tx.situation(asset.id))
        cycle = None if situation is None else situation.cycle
        if cycle is None or cycle.quantity <= 0 or asset.halted_reason is not None:
            return
        fills = world.store.read(lambda tx: tx.fills_of(cycle.id))
        stop, bid = _stop(CycleRecord(cycle, [], fills), asset.rules), world.exchange.quotes[symbol].bid
        held = stop is not None and bid <= stop
        self._expect("STOP", not held, f"{symbol} is held at a bid of {bid}, the stop is {stop}")

    def after_all(self, unproven: Iterable[str]) -> None:
        """The probe is over, too."""
        for symbol in unproven:
            self.violates("L1", f"{symbol} completed no new cycle on a fall and a rise")
        self._reckon()
        most = self._world.most_requests
        chief = Counter(most).most_common(2)
        rate = self._world.setup.requests_per_minute
        # Without the database each process has a part of the rate for itself.
        alone = any(self._world.fates.on(name) for name in ("store_before", "store_after"))
        allowed = IN_HAND + (2 * rate if alone else rate)
        self._expect("L2", len(most) <= allowed, f"{len(most)} requests in one minute, such as {chief}")

    def _reckon(self) -> None:
        def read(tx: Tx) -> tuple[list[Asset], list[Cycle], list[Order], list[Fill], list[Event]]:
            return tx.assets(), tx.cycles(), tx.orders(), tx.fills(), tx.events(limit=1_000_000)

        assets, cycles, orders, fills, events = self._world.store.read(read)
        self.completed = sum(one.status is CycleStatus.COMPLETE for one in cycles)
        self._exactly_once(fills, orders)
        self._no_orphans(orders)
        self._no_false_end(orders)
        self._one_life(assets, cycles)
        self._history(cycles)
        by_cycle: dict[int, list[Fill]] = {}
        for fill in fills:
            by_cycle.setdefault(fill.cycle_id, []).append(fill)
        for cycle in cycles:
            folded = _folded(by_cycle.get(cycle.id, []))
            why = f"cycle {cycle.id}: {cycle.quantity}, fills {folded}"
            self._expect("I3", cycle.quantity == folded, why, cycle=cycle.id)
        for asset in assets:
            self._position(asset, cycles, orders, fills)
        self._uncalled(events, {one.id: one.asset_symbol for one in assets})
        self._reached(orders, events)

    def _exactly_once(self, fills: list[Fill], orders: list[Order]) -> None:
        adopted = {one.key for one in orders if one.intent.purpose is Purpose.ADOPTED}
        booked = Counter(
            (one.order_key, one.cum_qty, one.qty, one.price)
            for one in fills
            if one.qty > 0 and one.order_key not in adopted
        )
        there = Counter(
            (one.order.key, one.cum, one.qty, one.price)
            for one in self._world.exchange.executions
            if KEY.match(one.order.key)
        )
        for key in sorted({one[0] for one in (booked - there)}):
            self.violates("I2", f"{key} has fills that never happened, or twice")
        for key in sorted({one[0] for one in (there - booked)}):
            self.violates("I2", f"{key} executed and was not booked")
        adopted_cash = [one for one in fills if one.order_key not in adopted]
        cash = sum(((-1 if one.side is Side.BUY else 1) * one.qty * one.price for one in adopted_cash), ZERO)
        venue = sum(
            (
                (-1 if one.order.side is Side.BUY else 1) * one.qty * one.price
                for one in self._world.exchange.executions
                if KEY.match(one.order.key)
            ),
            ZERO,
        )
        self._expect("I16", cash == venue, f"books moved {cash} USD, the venue {venue}")

    def _no_orphans(self, orders: list[Order], *, until: float = math.inf) -> None:
        """Orders that were placed `until` then live on both sides or on none.

        While trading goes on, as it does where an instant is given, one may have ended a moment ago.
        """
        world, now = self._world, self._world.loop.time()

        def ended_now(order: Placed) -> bool:
            return until < math.inf and now - (order.ended_at or 0) < FRESH_S

        journal = {one.key: one for one in orders}
        for placed in world.exchange.live.values():
            row = journal.get(placed.key)
            if KEY.match(placed.key) and placed.at <= until:
                named = row is not None and row.live
                self._expect("I8", named, f"{placed.key} lives at the venue, its row does not")
        for row in orders:
            at_venue = world.exchange.by_key.get(row.key)
            young = world.clock.now() - row.updated_at < timedelta(seconds=5)
            later = (row.created_at - world.start).total_seconds() > until
            if row.live and not young and not later:
                lives = at_venue is not None and (at_venue.live or ended_now(at_venue))
                self._expect("I8", lives, f"{row.key} is {row.status}, at the venue it does not live")

    def _no_false_end(self, orders: list[Order]) -> None:
        for row in orders:
            placed = self._world.exchange.by_key.get(row.key)
            if placed is None or placed.status == "rejected":
                continue
            over = row.status in (OrderStatus.REJECTED, OrderStatus.LOST)
            self._expect("I13", not over, f"{row.key} is {row.status}, the venue has it: {placed.status}")

    def _one_life(self, assets: list[Asset], cycles: list[Cycle]) -> None:
        for asset in assets:
            unfinished = [one.id for one in cycles if one.asset_id == asset.id and not one.finished]
            alone = len(unfinished) == 1 or (not asset.is_enabled and not unfinished)
            self._expect("I7", alone, f"{asset.asset_symbol} has the unfinished cycles {unfinished}")

    def _history(self, cycles: list[Cycle]) -> None:
        for cycle in cycles:
            before = self._finished.get(cycle.id)
            if before is not None:
                self._expect("I7", before == cycle, f"cycle {cycle.id} was finished and changed")
            if cycle.finished:
                self._finished[cycle.id] = cycle

    def _position(self, asset: Asset, cycles: list[Cycle], orders: list[Order], fills: list[Fill]) -> None:
        """What our cycles own, and what is not ours, is what the venue holds."""
        symbol, exchange = asset.asset_symbol, self._world.exchange
        own = sum((one.owned for one in cycles if one.asset_id == asset.id), ZERO)
        difference = exchange.coins[symbol] - own - asset.accepted_difference
        # Where reads kept failing a position was sold on the estimate of its fee, which is the most it
        # can be: so much may have stayed behind.
        measured = {one.order_key for one in fills if one.qty == 0}
        mine = {one.key for one in orders if one.intent.symbol == symbol}
        guessed = [
            one
            for one in fills
            if one.order_key in mine and one.order_key not in measured and one.side is Side.BUY
        ]
        estimated = sum((one.fee for one in guessed), ZERO)
        step = exchange.instruments[symbol].min_trade_increment
        touched = exchange.foreign[symbol] != 0
        room = FLAT_USD / exchange.quotes[symbol].bid if touched else step + estimated
        why = f"{symbol}: {difference} more held than owned"
        self._expect("I3", abs(difference) <= room, why, symbol=symbol)

    def _uncalled(self, events: list[Event], symbols: dict[int, str]) -> None:
        """Nothing is declared broken where nobody broke anything."""
        if any(self._world.fates.happened[name] for name in BY_HAND):
            return
        for event in events:
            by_nobody = event.name == "asset_halted" and "operator" not in event.reason
            if event.name in UNFORCED or by_nobody:
                since = (event.at - self._world.start).total_seconds()
                since += LONGEST_STEP_S if self._world.fates.on("clock_step") else 0.0
                symbol, cycle = symbols.get(event.asset_id or 0, "-"), event.cycle_id or 0
                why = f"{event.name}: {event.reason}"
                self.violates("UNCALLED", why, symbol=symbol, cycle=cycle, since=since)

    def _reached(self, orders: list[Order], events: list[Event]) -> None:
        """What this life has been through, for the table of what must be reached."""
        happened = self._world.fates.happened
        by_key = self._world.exchange.by_key
        lost = [one for one in orders if one.status is OrderStatus.LOST]
        happened["lost_and_never_seen"] = sum(one.key not in by_key for one in lost)
        self._reached_of_late(orders, events)
        found = [one for one in events if one.data.get("source") == "catch_up" and "fills" in one.data]
        happened["fill_found_by_catching_up"] = len(found)
        seen_first: dict[str, Event] = {}
        for event in reversed(events):
            if event.order_key is not None and event.data.get("venue_id"):
                seen_first.setdefault(event.order_key, event)
        happened["in_flight_30_s_then_found"] = sum(
            one.unclear
            and one.key in seen_first
            and seen_first[one.key].at - one.asked_at > timedelta(seconds=30)
            for one in orders
        )

    def _reached_of_late(self, orders: list[Order], events: list[Event]) -> None:
        happened, named = self._world.fates.happened, Counter(event.name for event in events)
        happened["circuit_opened_and_closed"] = min(named["breaker_open"], named["breaker_closed"])
        happened["replacement_finished"] = named["replacement_submit_confirmed"]
        happened["replacement_blocked"] = named["replacement_blocked"]
        denied = Counter(event.data.get("code") for event in events if event.name == "order_denied")
        happened["reservation_denied"] = denied["reserved"] + denied["no_funds"]
        happened["day_denied"], happened["cycle_denied"] = denied["day_spend"], denied["too_many_cycles"]
        happened["anomaly_found"] = named["anomaly"]
        stopped = [one for one in orders if one.intent.purpose is Purpose.STOP_LOSS and one.filled_qty > 0]
        happened["stop_loss_sold"] = len(stopped)


def _stop(record: CycleRecord, rules: Rules) -> Decimal | None:
    """Where the stop stands by the fills alone, or higher where it was moved up to; None without one, or
    where a part was sold already."""
    bought = [fill for fill in record.fills if fill.side is Side.BUY]
    coins = sum((fill.qty - fill.fee for fill in bought), ZERO)
    if rules.stop_loss_percent is None or len(bought) < len(record.fills) or coins <= 0:
        return None
    average = sum((fill.qty * fill.price for fill in bought), ZERO) / coins
    return max(average * (100 - rules.stop_loss_percent) / 100, record.cycle.stop_price or ZERO)


def _journaled(tx: Tx, key: str) -> tuple[CycleRecord, Asset] | None:
    record = tx.cycle_record(key)
    situation = None if record is None else tx.situation(record.cycle.asset_id)
    return None if record is None or situation is None else (record, situation.asset)


def _folded(fills: Iterable[Fill]) -> Decimal:
    total = ZERO
    for fill in fills:
        total += fill.qty - fill.fee if fill.side is Side.BUY else -fill.qty
    return total


def _ladder(rules: Rules) -> Decimal:
    total, step = rules.base_order_amount, rules.safety_order_amount
    for _ in range(rules.max_safety_orders):
        total += step.quantize(Decimal("0.01"))
        step *= rules.safety_order_volume_scale
    return total
