"""What the account has: read from the venue, kept in the database, counted before every buy."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from dca.domain.account import Funds, Stake, day_of
from dca.domain.asset import Asset
from dca.domain.errors import StaleWrite
from dca.domain.mode import Mode, Restriction
from dca.domain.money import ZERO, percent
from dca.domain.order import Intent
from dca.domain.position import fold
from dca.domain.record import Event
from dca.ports import Account, Broker, Clock, Store, Tx
from dca.risk.review import Limits
from dca.risk.stakes import AtStake, drawdown_pct, free_funds, promised
from dca.strategy.ladder import rest

SOURCE = "balance"
"""The source of the restriction while the balance is not known."""


def refresh(store: Store, broker: Broker, clock: Clock) -> Account:
    """The account as the venue tells it now; the database knows it too.

    Raises Unavailable, Unauthorized, StoreUnavailable; then what was known before stays, and ages.
    """
    read_at = clock.now()
    account = broker.account()
    # Stale: another process has written a reading of its own at the same moment.
    with suppress(StaleWrite):
        store.write(lambda tx: _keep(tx, account, read_at))
    return account


def _keep(tx: Tx, account: Account, read_at: datetime) -> None:
    before = tx.funds(lock=True)
    if before is not None and before.account_id == account.id and before.read_at >= read_at:
        return
    known = before if before is not None and before.account_id == account.id else None
    tx.put_funds(_funds(account, read_at, known))


def _funds(account: Account, read_at: datetime, before: Funds | None) -> Funds:
    now = Funds(
        account_id=account.id,
        read_at=read_at,
        cash=account.cash,
        equity=account.equity,
        spendable=account.spendable,
        peak_equity=account.equity,
        peak_at=read_at,
    )
    if before is None:
        return now
    now = replace(now, version=before.version)
    if before.peak_equity < account.equity:
        return now
    return replace(now, peak_equity=before.peak_equity, peak_at=before.peak_at)


def tell_known(store: Store, clock: Clock, known: bool) -> None:
    """Trading is reduced to sales while the balance is not known, and not any longer."""
    now = clock.now()
    reason = "the balance cannot be read" if not known else "the balance is read again"

    def write(tx: Tx) -> None:
        if known:
            tx.drop_mode(SOURCE)
        else:
            wish = Restriction(source=SOURCE, mode=Mode.REDUCE_ONLY, reason=reason, since=now)
            tx.put_mode(wish)
        name = "balance_known" if known else "balance_unknown"
        tx.add_event(Event(name=name, at=now, reason=reason))

    store.write(write)


def forget_peak(store: Store, clock: Clock) -> Funds | None:
    """Drawdown counts from the equity that was read last; None when none was read yet."""

    def write(tx: Tx) -> Funds | None:
        funds = tx.funds(lock=True)
        return funds and tx.put_funds(replace(funds, peak_equity=funds.equity, peak_at=clock.now()))

    return store.write(write)


def count(
    tx: Tx,
    intent: Intent,
    asset_id: int,
    assets: Mapping[int, Asset],
    limits: Limits,
    now: datetime,
    slack: timedelta,
) -> AtStake:
    """What is at stake on the account before `intent`, read in the transaction that journals it.

    The row of the funds is locked, so buys of different assets are counted one after the other.
    `assets` may be some moments old; those that it lacks are read.
    """
    funds = tx.funds(lock=True)
    stakes = tx.stakes()
    free = None
    if funds is not None:
        free = free_funds(funds, stakes, tx.bought_between(funds.read_at - slack, now + slack), slack)
    if any(stake.asset_id not in assets for stake in stakes) or asset_id not in assets:
        assets = {asset.id: asset for asset in tx.assets()}
    return AtStake(
        free=free,
        funds_age=None if funds is None else now - funds.read_at,
        promised=_promised(intent, asset_id, stakes, assets, limits),
        asset=_risked(stake for stake in stakes if stake.asset_id == asset_id),
        account=_risked(stakes),
        day=_spent_today(tx, stakes, now) if limits.max_day is not None else ZERO,
        active=len({stake.cycle_id for stake in stakes if stake.asset_id != asset_id}),
        lost_today=_lost_today(tx, now) if limits.max_daily_loss is not None else ZERO,
        drawdown_pct=ZERO if funds is None else drawdown_pct(funds),
    )


def _promised(
    intent: Intent, asset_id: int, stakes: Sequence[Stake], assets: Mapping[int, Asset], limits: Limits
) -> Decimal:
    if limits.reserve_pct <= 0:
        return ZERO
    whole = promised(intent, asset_id, stakes, assets, lambda asset, done: rest(asset.rules, done))
    return whole * percent(limits.reserve_pct)


def _risked(stakes: Iterable[Stake]) -> Decimal:
    return sum((stake.owned_cost + stake.resting for stake in stakes), ZERO)


def _spent_today(tx: Tx, stakes: Iterable[Stake], now: datetime) -> Decimal:
    """Bought since the day began, by whatever clock, and resting."""
    bought = tx.bought_between(day_of(now)[0], now + timedelta(days=1))
    return bought + sum((stake.resting for stake in stakes), ZERO)


def _lost_today(tx: Tx, now: datetime) -> Decimal:
    """Realised by the cycles that ended since the day began; below 0 when they gained."""
    ended = tx.closed_records(day_of(now)[0], now + timedelta(days=1))
    positions = [fold(record.fills) for record in ended]
    return sum((position.cost - position.proceeds for position in positions), ZERO)
