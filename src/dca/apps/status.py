"""`dca status`: what the database knows and the market shows, for a person or as JSON."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from dca import wiring
from dca.adapters.process import may_be_alive
from dca.apps.commands.cron import DAILY, EVERY_5_MINUTES, EVERY_MINUTE, HOURLY, SCHEDULE
from dca.apps.prices import Price, prices
from dca.domain.account import Funds, day_of
from dca.domain.asset import Asset, Rules
from dca.domain.cycle import Cycle
from dca.domain.mode import Restriction, mode_of
from dca.domain.money import ZERO, plain
from dca.domain.order import Order
from dca.domain.record import Heartbeat
from dca.ports import MAINTENANCE, Clock, CycleRecord, Situation, Store, Tx
from dca.risk.stakes import drawdown_pct
from dca.service.caretakers.runner import heartbeat_name
from dca.settings import Settings
from dca.strategy.dca import Terms
from dca.strategy.explain import triggers
from dca.strategy.ladder import commitment
from dca.strategy.profit import Profit, profit

Json = dict[str, Any]
SILENT_S = 15.0
"""A streamer whose heart beats every two seconds and has not for so long is not well."""
CARETAKER = heartbeat_name("")
PERIOD_S = {EVERY_MINUTE: 60.0, EVERY_5_MINUTES: 300.0, HOURLY: 3_600.0, DAILY: 86_400.0}
MISSED = 3
"""So many runs in a row that did not come are no chance."""


def collect(settings: Settings, store: Store, symbols: Sequence[str] = ()) -> Json:
    """How everything stands, JSON-ready, for all assets or for those named. Raises StoreUnavailable."""
    clock = wiring.clock(settings)
    now = clock.now()
    report = store.read(lambda tx: _read(tx, now, set(symbols)))
    situations: list[Situation] = report.pop("situations")
    records: dict[int, CycleRecord] = report.pop("records")
    beats: list[Heartbeat] = report.pop("beats")
    switches = wiring.switches(settings, store)
    found = prices(
        settings, store, [one.asset.asset_symbol for one in situations], fresh_s=settings.max_quote_age_s
    )
    process = streamer(beats, now, clock.span(SILENT_S))
    waiting = _waiting(beats)
    assets = [
        _asset(one, records, found.known.get(one.asset.asset_symbol), now, wiring.terms(settings), waiting)
        for one in situations
    ]
    restrictions = wiring.restrictions(settings, store)
    return {
        "at": now.isoformat(),
        "mode": mode_of(restrictions, now).value,
        "restrictions": [_restriction(one) for one in restrictions],
        "dry_run": settings.dry_run,
        "halted": switches.get("halted"),
        "paused": switches.get("paused"),
        "maintenance": switches.get(MAINTENANCE),
        "process": process,
        "caretakers": [_caretaker(beat, clock) for beat in beats if beat.name.startswith(CARETAKER)],
        "assets": assets,
        "prices_error": found.error,
        **report,
    }


def _read(tx: Tx, now: datetime, wanted: set[str]) -> Json:
    """Everything on one view of the database."""
    midnight, next_midnight = day_of(now)
    situations = [one for one in tx.situations() if not wanted or one.asset.asset_symbol in wanted]
    chosen = {one.asset.id for one in situations}
    records = [record for record in tx.open_records() if record.cycle.asset_id in chosen]
    closed = tx.closed_records(midnight, next_midnight)
    return {
        "situations": situations,
        "records": {record.cycle.id: record for record in records},
        "beats": tx.heartbeats(),
        "funds": funds_fields(tx.funds(), now),
        "live_orders": [
            _order(order, now) for order in tx.live_orders() if not wanted or order.intent.symbol in wanted
        ],
        "today": _today(midnight, [record for record in closed if record.cycle.asset_id in chosen]),
        "breakers": [
            {
                "group": one.name,
                "state": str(one.state),
                "since": one.since.isoformat(),
                "retry_at": _text(one.retry_at),
                "reason": one.reason,
            }
            for one in tx.breakers()
        ],
        "events": [
            {"at": event.at.isoformat(), "name": event.name, "reason": event.reason}
            for event in tx.events(limit=5)
        ],
    }


def _restriction(one: Restriction) -> Json:
    return {
        "source": one.source,
        "mode": one.mode.value,
        "reason": one.reason,
        "since": one.since.isoformat(),
        "until": None if one.until is None else one.until.isoformat(),
    }


def funds_fields(funds: Funds | None, now: datetime) -> Json | None:
    """What the account had when it was last read, JSON-ready; None when it never was."""
    if funds is None:
        return None
    return {
        "account": funds.account_id,
        "age_s": round((now - funds.read_at).total_seconds(), 1),
        "cash_usd": plain(funds.cash),
        "spendable_usd": plain(funds.spendable),
        "equity_usd": plain(funds.equity),
        "peak_equity_usd": plain(funds.peak_equity),
        "peak_at": funds.peak_at.isoformat(),
        "drawdown_pct": f"{drawdown_pct(funds):.2f}",
    }


def _today(midnight: datetime, closed: Sequence[CycleRecord]) -> Json:
    """What the cycles that ended since midnight UTC came to."""
    made = [profit(record.fills, finished=True) for record in closed]

    def total(part: Callable[[Profit], Decimal]) -> str:
        return plain(sum(map(part, made), ZERO))

    return {
        "since": midnight.isoformat(),
        "cycles": len(made),
        "gross_usd": total(lambda one: one.gross),
        "fees_usd": total(lambda one: one.fees),
        "net_usd": total(lambda one: one.net),
    }


def streamer(beats: Sequence[Heartbeat], now: datetime, silent: timedelta) -> Json:
    """The streamer by its heartbeat. `state`: running, silent (it lives, but its heart does not
    beat), stopped, or never (it has not run on this database)."""
    beat = next((beat for beat in beats if beat.name == "streamer"), None)
    if beat is None:
        return {"state": "never"}
    identity = str(beat.detail.get("identity", ""))
    host, _, pid = identity.rpartition("/")[0].rpartition("/")
    state = "stopped"
    if may_be_alive(identity):
        state = "running" if now - beat.at <= silent else "silent"
    detail = {name: value for name, value in beat.detail.items() if name not in ("identity", "assets")}
    return {"state": state, "host": host, "pid": pid, **_age(beat.at, now), **detail}


def _age(at: datetime, now: datetime) -> Json:
    return {"at": at.isoformat(), "age_s": round((now - at).total_seconds(), 1)}


def _caretaker(beat: Heartbeat, clock: Clock) -> Json:
    name = beat.name.removeprefix(CARETAKER)
    detail = {key: value for key, value in beat.detail.items() if key != "at"}
    return {"name": name, **_age(beat.at, clock.now()), "late": is_late(name, beat, clock), **detail}


def is_late(caretaker: str, beat: Heartbeat, clock: Clock) -> bool:
    """Whether cron should have run it MISSED times since."""
    period_s = PERIOD_S.get(SCHEDULE.get(caretaker, ""))
    return period_s is not None and clock.now() - beat.at > clock.span(MISSED * period_s)


def _waiting(beats: Sequence[Heartbeat]) -> Mapping[str, str]:
    """Why nothing happens, by symbol, in the streamer's words."""
    found: dict[str, str] = next(
        (beat.detail.get("assets", {}) for beat in beats if beat.name == "streamer"), {}
    )
    return found


def asset_fields(asset: Asset) -> Json:
    """An asset with its rules, amounts as text."""
    rules = {field.name: _text(getattr(asset.rules, field.name)) for field in fields(Rules)}
    return {
        "asset_symbol": asset.asset_symbol,
        "is_enabled": asset.is_enabled,
        "halted_reason": asset.halted_reason,
        "paused_reason": asset.paused_reason,
        "accepted_difference": plain(asset.accepted_difference),
        "last_sell_price": _text(asset.last_sell_price),
        "stopped_out": asset.stopped_out,
        "commitment": _text(commitment(asset.rules)),
        **rules,
    }


def _text(value: object) -> object:
    if isinstance(value, Decimal):
        return plain(value)
    return value.isoformat() if isinstance(value, datetime) else value


def _asset(
    situation: Situation,
    records: Mapping[int, CycleRecord],
    price: Price | None,
    now: datetime,
    terms: Terms,
    waiting: Mapping[str, str],
) -> Json:
    asset, cycle = situation.asset, situation.cycle
    symbol = asset.asset_symbol
    report = {
        **asset_fields(asset),
        "reason": asset.halted_reason or waiting.get(symbol),
        "cycle": None if cycle is None else _cycle(cycle),
        "price": None if price is None else price_fields(price, now),
        "triggers": [],
        "open_profit_usd": None,
    }
    if cycle is None or price is None:
        return report
    report["triggers"] = [one.fields() for one in triggers(cycle, asset, price.quote, now, terms)]
    if cycle.quantity > 0 and cycle.id in records:
        made = profit(records[cycle.id].fills, finished=False)
        report["open_profit_usd"] = plain(made.net + made.quantity * price.quote.bid)
    return report


def price_fields(price: Price, now: datetime) -> Json:
    quote = price.quote
    recorded = {"recorded": price.recorded}
    return {"bid": plain(quote.bid), "ask": plain(quote.ask), **_age(quote.at, now), **recorded}


def _cycle(cycle: Cycle) -> Json:
    return {field.name: _text(getattr(cycle, field.name)) for field in fields(Cycle)}


def _order(order: Order, now: datetime) -> Json:
    intent = order.intent
    return {
        "key": order.key,
        "symbol": intent.symbol,
        "side": str(intent.side),
        "purpose": str(intent.purpose),
        "step": intent.step,
        "qty": plain(intent.qty),
        "limit": _text(intent.limit),
        "status": str(order.status),
        "filled_qty": plain(order.filled_qty),
        "age_s": round((now - order.created_at).total_seconds(), 1),
    }
