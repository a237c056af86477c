"""`dca status`: what the database knows, for a person or as JSON."""

from dataclasses import fields
from datetime import datetime
from decimal import Context, Decimal
from typing import Any

from rich.console import Console
from rich.table import Table

from dca.domain.asset import Asset, Rules
from dca.domain.cycle import Cycle
from dca.domain.money import plain
from dca.domain.order import Order
from dca.domain.record import Heartbeat
from dca.ports import HALTED, Clock, Situation, Store, Tx
from dca.strategy.ladder import commitment

Json = dict[str, Any]
_SHOWN = Context(prec=8)


def collect(store: Store, clock: Clock) -> Json:
    """Assets with their cycles, live orders, heartbeats and the newest events, JSON-ready."""
    now = clock.now()

    def read(tx: Tx) -> Json:
        return {
            "at": now.isoformat(),
            "halted": tx.flag(HALTED),
            "assets": [_situation(situation) for situation in tx.situations()],
            "live_orders": [_order(order, now) for order in tx.live_orders()],
            "heartbeats": [_beat(beat, now) for beat in tx.heartbeats()],
            "events": [
                {"at": event.at.isoformat(), "name": event.name, "reason": event.reason}
                for event in tx.events(limit=5)
            ],
        }

    return store.read(read)


def asset_fields(asset: Asset) -> Json:
    """An asset with its rules, amounts as text."""
    rules = {field.name: _text(getattr(asset.rules, field.name)) for field in fields(Rules)}
    return {
        "asset_symbol": asset.asset_symbol,
        "is_enabled": asset.is_enabled,
        "halted_reason": asset.halted_reason,
        "last_sell_price": _text(asset.last_sell_price),
        "commitment": _text(commitment(asset.rules)),
        **rules,
    }


def _text(value: object) -> object:
    if isinstance(value, Decimal):
        return plain(value)
    return value.isoformat() if isinstance(value, datetime) else value


def _situation(situation: Situation) -> Json:
    cycle = situation.cycle
    return {**asset_fields(situation.asset), "cycle": _cycle(cycle) if cycle is not None else None}


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


def _beat(beat: Heartbeat, now: datetime) -> Json:
    return {"name": beat.name, "age_s": round((now - beat.at).total_seconds(), 1), "detail": beat.detail}


def show(report: Json) -> None:
    """The report is on the terminal."""
    console = Console()
    if report["halted"]:
        console.print(f"trading is halted: {report['halted']}", style="bold red")
    if not report["assets"]:
        console.print("no assets yet; add one with: dca asset add BTC/USD")
        return
    waiting = {
        symbol: reason
        for beat in report["heartbeats"]
        for symbol, reason in beat["detail"].get("assets", {}).items()
    }
    console.print(_assets_table(report, waiting))
    if report["live_orders"]:
        console.print(_orders_table(report))
    for beat in report["heartbeats"]:
        blocked = beat["detail"].get("entries_blocked")
        console.print(
            f"{beat['name']}: {beat['age_s']} s ago" + (f"; no entries: {blocked}" if blocked else "")
        )
    if not report["heartbeats"]:
        console.print("the streamer has never run; start it with: python src/main_app.py")


def _assets_table(report: Json, waiting: dict[str, str]) -> Table:
    table = Table("asset", "cycle", "status", "quantity", "average", "steps", "why", title="assets")
    for asset in report["assets"]:
        cycle = asset["cycle"] or {}
        state = "halted" if asset["halted_reason"] else "" if asset["is_enabled"] else "disabled"
        table.add_row(
            asset["asset_symbol"],
            str(cycle.get("id", "-")),
            " ".join(filter(None, [str(cycle.get("status", "no cycle")), state])),
            str(cycle.get("quantity", "-")),
            _short(cycle.get("average_purchase_price")),
            f"{cycle.get('safety_orders', 0)}/{asset['max_safety_orders']}",
            asset["halted_reason"] or waiting.get(asset["asset_symbol"], ""),
        )
    return table


def _short(price: str | None) -> str:
    """Eight digits: the rest is in the JSON."""
    return "-" if price is None else plain(_SHOWN.plus(Decimal(price)))


def _orders_table(report: Json) -> Table:
    columns = ("key", "side", "qty", "limit", "status", "filled_qty", "age_s")
    table = Table(*columns, title="live orders")
    for order in report["live_orders"]:
        table.add_row(*(str(order[name]) for name in columns))
    return table
