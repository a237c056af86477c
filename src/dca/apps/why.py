"""`dca why`: what the bot decides of an asset, now or then, and what stands between it and the rest."""

from collections.abc import Sequence
from datetime import datetime, time
from decimal import Decimal
from typing import Any

from dca import wiring
from dca.apps.prices import prices
from dca.apps.status import SILENT_S, price_fields, streamer
from dca.apps.words import lasting, when
from dca.domain.asset import Asset
from dca.domain.cycle import Cycle
from dca.domain.errors import ConfigError
from dca.domain.mode import mode_of
from dca.domain.money import plain
from dca.domain.order import Order
from dca.domain.record import Decision, Heartbeat
from dca.ports import Clock, Situation, Store, Tx
from dca.service.assets import named
from dca.service.operating import coins, described
from dca.service.trader import switched
from dca.service.verdicts import verdict_of
from dca.settings import Settings
from dca.strategy.dca import Action, Wait, decide, shown
from dca.strategy.explain import triggers

Json = dict[str, Any]
Rows = list[tuple[str, str]]


def now(settings: Settings, store: Store, symbol: str) -> Json:
    """What is decided at this moment, with every trigger; JSON-ready. Raises StoreUnavailable."""
    clock = wiring.clock(settings)

    def read(tx: Tx) -> tuple[Situation, list[Heartbeat], Decision | None]:
        situation = tx.situation(named(tx, symbol).id)
        assert situation is not None
        newest = tx.decisions(situation.asset.id, limit=1)
        return situation, tx.heartbeats(), newest[0] if newest else None

    situation, beats, newest = store.read(read)
    switches = wiring.switches(settings, store)
    mode = mode_of(wiring.restrictions(settings, store), clock.now())
    found = prices(settings, store, [symbol])
    price = found.known.get(symbol)
    at = clock.now()
    process = streamer(beats, at, clock.span(SILENT_S))
    said = next(
        (beat.detail.get("assets", {}).get(symbol) for beat in beats if beat.name == "streamer"), None
    )
    report: Json = {
        "symbol": symbol,
        "at": at.isoformat(),
        "holds": _holds(situation),
        "price": None if price is None else price_fields(price, at),
        "price_error": found.error,
        "decision": None,
        "triggers": [],
        "streamer": {"state": process["state"], "says": said, "blocked": process.get("entries_blocked")},
        "switches": switches,
        "record": None if newest is None else record_fields(newest),
    }
    if price is not None and situation.cycle is not None:
        terms = wiring.terms(settings)
        decision = switched(decide(situation.cycle, situation.asset, price.quote, at, terms), mode)
        report["decision"] = _decision(decision)
        found_triggers = triggers(situation.cycle, situation.asset, price.quote, at, terms)
        report["triggers"] = [one.fields() for one in found_triggers]
    return report


def _holds(situation: Situation) -> Json:
    """The asset and its cycle, as far as they matter here."""
    asset, cycle = situation.asset, situation.cycle
    return {
        "is_enabled": asset.is_enabled,
        "halted_reason": asset.halted_reason,
        "paused_reason": asset.paused_reason,
        "cycle": None if cycle is None else cycle.id,
        "status": None if cycle is None else str(cycle.status),
        "quantity": None if cycle is None else plain(cycle.quantity),
        "average_purchase_price": None if cycle is None else plain(cycle.average_purchase_price),
        "safety_orders": 0 if cycle is None else cycle.safety_orders,
        "max_safety_orders": asset.rules.max_safety_orders,
        "has_stop": asset.rules.stop_loss_percent is not None,
        "words": _words(asset, cycle),
    }


def _words(asset: Asset, cycle: Cycle | None) -> str:
    if cycle is None:
        return "no cycle"
    text = f"cycle {cycle.id}, {cycle.status}"
    if cycle.quantity <= 0:
        return f"{text}, nothing held"
    used = f"{cycle.safety_orders} of {asset.rules.max_safety_orders} safety orders used"
    average = shown(cycle.average_purchase_price)
    return f"{text}, {coins(cycle.quantity, asset.asset_symbol)} at {average} on average, {used}"


def _decision(decision: Action | Wait) -> Json:
    acts = not isinstance(decision, Wait)
    return {"code": verdict_of(decision)[0], "acts": acts, "reason": decision.reason}


def record_fields(record: Decision) -> Json:
    """A record as it was written, JSON-ready."""
    return {
        "at": record.at.isoformat(),
        "cycle": record.cycle_id,
        "code": record.code,
        "reason": record.reason,
        "bid": None if record.bid is None else plain(record.bid),
        "ask": None if record.ask is None else plain(record.ask),
        "triggers": record.data.get("triggers", []),
        "held": record.data.get("held"),
    }


def then(store: Store, symbol: str, at: datetime) -> Json:
    """What was in force at that instant, what came after it, and the cycle's orders around it."""

    def read(tx: Tx) -> Json:
        asset = named(tx, symbol)
        record, after = tx.decision_at(asset.id, at), tx.decision_after(asset.id, at)
        cycle_id = next((one.cycle_id for one in (record, after) if one and one.cycle_id), None)
        orders = tx.orders_of(cycle_id) if cycle_id is not None else []
        return {
            "symbol": symbol,
            "at": at.isoformat(),
            "record": None if record is None else record_fields(record),
            "next": None if after is None else record_fields(after),
            "orders": [_order(order) for order in _around(orders, at)],
        }

    return store.read(read)


def _around(orders: Sequence[Order], at: datetime) -> list[Order]:
    """The last order journaled by then, and the first one afterwards."""
    before = [order for order in orders if order.created_at <= at]
    return [*before[-1:], *orders[len(before) : len(before) + 1]]


def _order(order: Order) -> Json:
    return {
        "key": order.key,
        "at": order.created_at.isoformat(),
        "status": str(order.status),
        "words": described(order),
        "reason": order.intent.reason,
    }


def last(store: Store, symbol: str, count: int) -> list[Json]:
    """The newest records, oldest of them first."""
    found = store.read(lambda tx: tx.decisions(named(tx, symbol).id, limit=count))
    return [record_fields(one) for one in reversed(found)]


def instant(text: str, clock: Clock) -> datetime:
    """The instant that a person means: ISO, local time unless it says otherwise, or today's HH:MM.

    Raises ConfigError, also for the future.
    """
    now = clock.now()
    try:
        found = _parsed(text, now)
    except ValueError as error:
        raise ConfigError(f"{text!r} is not a time such as 14:30 or 2026-01-31T14:30") from error
    found = found.astimezone(now.tzinfo)
    if found > now:
        raise ConfigError(f"{found:%Y-%m-%d %H:%M:%S} UTC lies in the future")
    return found


def _parsed(text: str, now: datetime) -> datetime:
    try:
        return datetime.combine(now.astimezone().date(), time.fromisoformat(text)).astimezone()
    except ValueError:
        return datetime.fromisoformat(text).astimezone()


def rows(report: Json) -> Rows:
    """The report of `now`, for a person."""
    holds, decision = report["holds"], report["decision"]
    found = [(report["symbol"], holds["words"]), ("price", _price_line(report))]
    if decision is not None:
        words = decision["reason"] if decision["acts"] else f"nothing to do: {decision['reason']}"
        found.append(("decision", words))
    elif holds["cycle"] is None:
        found.append(("decision", "nothing to do: the asset has no cycle yet"))
    found += [("", one["sentence"]) for one in report["triggers"]]
    found += [("switches", words) for words in _switched(report)]
    found += [("streamer", words) for words in _streamer(report)]
    record = report["record"]
    if record is None:
        return [*found, ("on record", "nothing yet")]
    since = f"since {_stamp(record['at'])}: {record['code'].replace('_', ' ')}"
    same = decision is not None and decision["reason"] == record["reason"]
    return [*found, ("on record", f"{since}, the same" if same else f"{since}: {record['reason']}")]


def _price_line(report: Json) -> str:
    price = report["price"]
    if price is None:
        return f"not known: {report['price_error'] or 'the venue has no quote for it'}"
    source = f"bid {_short(price['bid'])}, ask {_short(price['ask'])}"
    age = f"{lasting(price['age_s'])} old"
    if not price["recorded"]:
        return f"{source}; from the venue, {age}"
    return f"{source}; from the last record, {age}, because the venue did not tell: {report['price_error']}"


def _switched(report: Json) -> list[str]:
    holds, found = report["holds"], []
    unstopped = holds["has_stop"] and holds["quantity"] not in (None, "0")
    if unstopped and ("halted" in report["switches"] or holds["halted_reason"]):
        found.append("halted: nothing is sold, not even by the stop")
    for name in ("halted", "paused"):
        if name in report["switches"]:
            found.append(f"trading is {name}: {report['switches'][name]} (end it: dca resume)")
        if holds[f"{name}_reason"]:
            why = holds[f"{name}_reason"]
            found.append(f"the asset is {name}: {why} (end it: dca resume {report['symbol']})")
    return found


def _streamer(report: Json) -> list[str]:
    found = report["streamer"]
    if found["state"] != "running":
        words = {"never": "has never run", "stopped": "is not running", "silent": "does not answer"}
        return [f"{words[found['state']]}, so nothing is done about it (dca start)"]
    same = report["decision"] is not None and report["decision"]["reason"] == found["says"]
    says = ["says the same" if same else f"says: {found['says'] or 'nothing of this asset'}"]
    return [*says, f"buys nothing: {found['blocked']}"] if found["blocked"] else says


def rows_then(report: Json) -> Rows:
    """The report of `then`, for a person."""
    record, after = report["record"], report["next"]
    found = [(report["symbol"], f"at {_stamp(report['at'])}")]
    if record is None:
        found.append(("on record", "nothing yet"))
    else:
        found += _told("on record", "since", record)
    found += [("order", f"{_stamp(order['at'])}: {order['words']}") for order in report["orders"]]
    if after is None:
        return [*found, ("then", "nothing else was decided since")]
    return found + _told("then", "from", after)


def _told(label: str, preposition: str, record: Json) -> Rows:
    price = "" if record["bid"] is None else f"; bid {_short(record['bid'])}, ask {_short(record['ask'])}"
    head = f"{preposition} {_stamp(record['at'])}: {record['code'].replace('_', ' ')}{price}"
    return [(label, head), ("", record["reason"]), *(("", one["sentence"]) for one in record["triggers"])]


def rows_last(records: Sequence[Json]) -> Rows:
    """Records in a row, for a person."""
    found = [(_stamp(one["at"]), f"{one['code'].replace('_', ' ')}: {one['reason']}") for one in records]
    return found or [("on record", "nothing yet")]


def _stamp(text: str) -> str:
    return when(datetime.fromisoformat(text))


def _short(price: str) -> str:
    return shown(Decimal(price))
