"""The page of `dca status` on a terminal of 80 columns."""

from collections.abc import Iterator
from datetime import datetime
from decimal import Context, Decimal
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dca.apps.words import lasting, usd, when
from dca.domain.money import plain

Json = dict[str, Any]
_SHOWN = Context(prec=8)
_BRIEF = {
    "safety_order": "safety",
    "take_profit": "profit",
    "stop_loss": "stop",
    "end_of_cooldown": "rests until",
}
RED, YELLOW, GREEN = "bold red", "yellow", "green"


def page(report: Json) -> RenderableType:
    """The report as `dca status` shows it."""
    parts: list[RenderableType] = [_head(report)]
    if report["assets"]:
        parts += [Text(), _assets(report)]
    else:
        parts.append(Text("no assets yet; add one with: dca asset add BTC/USD"))
    if report["live_orders"]:
        parts += [Text(), _orders(report)]
    if report["prices_error"]:
        parts.append(Text(f"the venue did not tell its prices: {report['prices_error']}", YELLOW))
    return Group(*parts)


def _head(report: Json) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for number, line in enumerate(_process(report["process"], datetime.fromisoformat(report["at"]))):
        table.add_row("" if number else "streamer", line)
    for name, style in (("halted", RED), ("paused", YELLOW), ("maintenance", YELLOW)):
        if report[name]:
            end = f"dca {'maintenance off' if name == 'maintenance' else 'resume'}"
            table.add_row(
                "trading is" if name != "maintenance" else "watchdog",
                Text(f"{name}: {report[name]} (end it: {end})", style),
            )
    if report["dry_run"]:
        table.add_row("dry run", Text("no order is sent (DRY_RUN=no ends it)", YELLOW))
    if report["funds"]:
        table.add_row("funds", _funds(report["funds"]))
    for line in _breakers(report["breakers"]):
        table.add_row("venue", line)
    for number, line in enumerate(_caretakers(report["caretakers"])):
        table.add_row("" if number else "caretakers", line)
    table.add_row("today", _today(report))
    return table


def _funds(funds: Json) -> Text:
    text = f"{usd(Decimal(funds['spendable_usd']))} to spend, {usd(Decimal(funds['equity_usd']))} in all"
    if Decimal(funds["drawdown_pct"]) > 0:
        text += f", {funds['drawdown_pct']} % below the peak"
    return Text(f"{text}; read {lasting(funds['age_s'])} ago")


def _process(process: Json, now: datetime) -> Iterator[Text]:
    state = process["state"]
    if state == "never":
        yield Text("has never run; start it with: dca start", YELLOW)
        return
    who = f"pid {process['pid']} on {process['host']}"
    if state == "stopped":
        yield Text(f"not running, last seen {lasting(process['age_s'])} ago; start it with: dca start", RED)
        return
    if state == "silent":
        yield Text(f"SILENT for {lasting(process['age_s'])}, {who}; restart it with: dca restart", RED)
        return
    started = datetime.fromisoformat(process["started_at"])
    yield Text(f"running for {lasting((now - started).total_seconds())} since {when(started)}, {who}")
    links = ", ".join(f"{name} {state}" for name, state in process["links"].items())
    told = f"{links}; last quote {_since(process['last_quote_at'], now)}"
    told += f"; caught up {_since(process['caught_up_at'], now)}"
    yield Text(told, "" if set(process["links"].values()) == {"up"} else YELLOW)
    if process.get("entries_blocked"):
        yield Text(f"nothing is bought: {process['entries_blocked']}", YELLOW)
    if process.get("venue_error"):
        yield Text(f"the venue: {process['venue_error']}", YELLOW)


def _breakers(breakers: list[Json]) -> Iterator[Text]:
    """What of the venue is left alone because it fails; nothing when all is well."""
    for one in breakers:
        if one["state"] != "closed":
            since = when(datetime.fromisoformat(one["since"]))
            name, state = (one[part].replace("_", " ") for part in ("group", "state"))
            text = f"{name}: circuit {state} since {since}, nothing is bought: {one['reason']}"
            yield Text(text, YELLOW)


def _since(at: str | None, now: datetime) -> str:
    return "never" if at is None else f"{lasting((now - datetime.fromisoformat(at)).total_seconds())} ago"


def _caretakers(caretakers: list[Json]) -> Iterator[Text]:
    """Those that do their work in one line, each of the others in its own."""
    if not caretakers:
        yield Text("none has ever run; set them up with: dca cron install", YELLOW)
        return
    well = [one for one in caretakers if one.get("result") == "done" and not one["late"]]
    if well:
        ran = ", ".join(f"{one['name']} {lasting(one['age_s'])}" + _mended(one) for one in well)
        yield Text(f"{ran} ago")
    for one in caretakers:
        if one not in well:
            yield Text(_unwell(one), YELLOW)


def _mended(one: Json) -> str:
    return f" ({one['mended']} mended)" if one.get("mended") else ""


def _unwell(one: Json) -> str:
    if one["late"]:
        text = f"{one['name']} has not run for {lasting(one['age_s'])}: is cron running?"
    else:
        text = f"{one['name']} {lasting(one['age_s'])} ago"
    if one.get("result") != "done":
        text += f", ended {one.get('result', '?')}"
    if one.get("failures"):
        text += f", {one['failures']} times in a row"
    return f"{text}: {one['detail']}" if one.get("detail") else text


def _today(report: Json) -> Text:
    today = report["today"]
    open_ = [Decimal(one["open_profit_usd"]) for one in report["assets"] if one["open_profit_usd"]]
    gross, fees, net = (Decimal(today[name]) for name in ("gross_usd", "fees_usd", "net_usd"))
    cycles = f"{today['cycles']} cycle{'' if today['cycles'] == 1 else 's'}"
    text = f"{usd(net)} USD net from {cycles} (gross {usd(gross)}, fees {fees:,.2f})"
    if open_:
        text += f"; open {usd(sum(open_, Decimal(0)))}"
    return Text(text)


def _assets(report: Json) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold", pad_edge=False)
    for name, right in (
        ("asset", False),
        ("state", False),
        ("quantity", True),
        ("average", True),
        ("steps", True),
        ("open", True),
        ("next", False),
    ):
        table.add_column(name, justify="right" if right else "left", no_wrap=name != "next")
    for asset in report["assets"]:
        cycle = asset["cycle"] or {}
        held = Decimal(cycle.get("quantity", "0")) > 0
        open_ = asset["open_profit_usd"]
        table.add_row(
            Text(asset["asset_symbol"], "bold"),
            _state(asset, cycle),
            _short(cycle["quantity"]) if held else "-",
            _short(cycle["average_purchase_price"]) if held else "-",
            f"{cycle.get('safety_orders', 0)}/{asset['max_safety_orders']}",
            "-" if open_ is None else usd(Decimal(open_)),
            _next(asset),
        )
    return table


def _state(asset: Json, cycle: Json) -> Text:
    if asset["halted_reason"]:
        return Text("HALTED", RED)
    if asset["paused_reason"]:
        return Text("paused", YELLOW)
    if not asset["is_enabled"]:
        return Text("disabled", YELLOW)
    return Text(cycle.get("status", "no cycle"))


def _next(asset: Json) -> Text:
    """What would change the decision, and how far away it is; without triggers, why nothing happens."""
    lines = [line for line in map(_trigger, asset["triggers"]) if line]
    if asset["halted_reason"] or asset["paused_reason"]:
        lines.insert(0, asset["halted_reason"] or asset["paused_reason"])
    price = asset["price"]
    if price is not None and price["recorded"] and lines:
        lines.append(f"(as of {lasting(price['age_s'])} ago)")
    return Text("\n".join(lines) or asset["reason"] or "-")


def _trigger(one: Json) -> str:
    name = _BRIEF.get(one["name"], one["name"].replace("_", " "))
    name += f" {one['step']}" if one["step"] else ""
    if one["met"]:
        return f"{name}: due"
    if one["distance_pct"] is not None:
        return f"{name} {Decimal(one['distance_pct']):+.2f}% at {_short(one['wanted'])}"
    return f"{name} {one['at'][11:19]} UTC" if one["at"] else name


def _short(price: str | None) -> str:
    """Eight digits: the rest is in the JSON."""
    return "-" if price is None else plain(_SHOWN.plus(Decimal(price)))


def _orders(report: Json) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold", pad_edge=False)
    for name in ("live order", "asset", "quantity", "limit", "status", "filled", "age"):
        table.add_column(name, no_wrap=True)
    for order in report["live_orders"]:
        step = f" {order['step']}" if order["step"] else ""
        table.add_row(
            order["purpose"].replace("_", " ") + step,
            order["symbol"],
            order["qty"],
            _short(order["limit"]) if order["limit"] else "market",
            order["status"].replace("_", " "),
            order["filled_qty"],
            lasting(order["age_s"]),
        )
    return table
