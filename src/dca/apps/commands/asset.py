"""`dca asset`: what is traded, and how."""

import argparse
import json
from collections.abc import Callable
from dataclasses import fields, replace
from decimal import Decimal
from typing import Any

from dca import settings as env
from dca import wiring
from dca.apps import status as status_page
from dca.apps.commands.options import agreed, amount, asking, command, with_symbol
from dca.domain.asset import Asset, Rules
from dca.domain.money import plain
from dca.ports import Broker, Situation, Store, Tx
from dca.service import adoption, assets
from dca.service.operating import coins
from dca.service.recorder import Recorder
from dca.strategy.dca import shown
from dca.strategy.ladder import ladder, most_lost, warnings

DEFAULTS: dict[str, Any] = {
    "base_order_amount": Decimal(20),
    "safety_order_amount": Decimal(20),
    "max_safety_orders": 5,
    "safety_order_deviation": Decimal(2),
    "take_profit_percent": Decimal("1.5"),
    "cooldown_period": 120,
}
RULE_OPTIONS: list[tuple[str, str, Any, str]] = [
    ("--base", "base_order_amount", "amount", "USD of the base order"),
    ("--safety", "safety_order_amount", "amount", "USD of the first safety order"),
    ("--max-safety", "max_safety_orders", "whole", "how many safety orders a cycle may use"),
    ("--deviation", "safety_order_deviation", "amount", "%% below the last fill for the next safety order"),
    ("--step-scale", "safety_order_step_scale", "amount", "each deviation is this times the one before"),
    ("--volume-scale", "safety_order_volume_scale", "amount", "each amount is this times the one before"),
    ("--take-profit", "take_profit_percent", "amount", "%% above the average at which all is sold"),
    ("--trailing", "ttp_enabled", "switch", "trail the price once the take profit is reached"),
    ("--trailing-deviation", "ttp_deviation_percent", "amount", "%% below the peak at which trailing sells"),
    ("--net-of-fees", "take_profit_net_of_fees", "switch", "add the fee of the sale to the take profit"),
    ("--cooldown", "cooldown_period", "whole", "seconds to rest after a cycle"),
    (
        "--restart-drop",
        "buy_order_price_deviation_percent",
        "amount",
        "%% below the last sale that ends the rest early",
    ),
    ("--max-cycle-spend", "max_cycle_spend", "amount", "USD a cycle may spend at most"),
    (
        "--stop-loss",
        "stop_loss_percent",
        "amount_or_none",
        "%% below the average at which all is sold, or none, which ends the options below too",
    ),
    (
        "--stop-loss-timeout",
        "stop_loss_timeout",
        "whole_or_none",
        "seconds that the price must stay at or below the stop",
    ),
    ("--stop-loss-trailing", "stop_loss_trailing", "switch", "the stop follows the highest bid"),
    (
        "--break-even",
        "break_even_percent",
        "amount_or_none",
        "%% above the average from which on the stop stands where nothing is lost",
    ),
    (
        "--stop-loss-cooldown",
        "stop_loss_cooldown_period",
        "whole_or_none",
        "seconds to rest after a stop, instead of --cooldown",
    ),
]
STOP_RULES = frozenset(
    {"stop_loss_timeout", "stop_loss_trailing", "break_even_percent", "stop_loss_cooldown_period"}
)
"""Rules that mean nothing without a stop."""
NONE = "none"


def add(commands: Any) -> None:
    group = command(commands, "asset", "what is traded, and how", "dca asset list")
    asset = group.add_subparsers(required=True, metavar="COMMAND")
    adding = command(
        asset,
        "add",
        "trade another asset",
        "dca asset add BTC/USD --base 20 --safety 20 --max-safety 5 --deviation 2 --take-profit 1.5",
    )
    adding.add_argument("symbol", help="such as BTC/USD")
    adding.add_argument("--disabled", action="store_true", help="store it, but do not trade it yet")
    _rule_options(adding, DEFAULTS)
    adding.set_defaults(run=_add)
    setting = command(
        asset, "set", "change how an asset is traded", "dca asset set BTC/USD --take-profit 2 --trailing"
    )
    with_symbol(setting)
    _rule_options(setting, {})
    setting.set_defaults(run=_set)
    for name, wanted in (("enable", True), ("disable", False)):
        words = "buy again" if wanted else "buy nothing more; what is held is still sold by its rules"
        switching = command(asset, name, words, f"dca asset {name} BTC/USD")
        with_symbol(switching)
        switching.set_defaults(run=_switch, wanted=wanted)
    _halted_commands(asset)
    removing = command(
        asset,
        "remove",
        "take an asset away; one that has traded is disabled and stays in the books",
        "dca asset remove DOGE/USD",
    )
    with_symbol(removing)
    removing.set_defaults(run=_remove)
    listing = command(asset, "list", "every asset with its ladder", "dca asset list --json")
    listing.add_argument("--json", action="store_true", help="print it as JSON")
    listing.set_defaults(run=_list)


def _halted_commands(asset: Any) -> None:
    """What ends the halt of an asset whose coins are not what the books say."""
    words = "count the difference at the venue as the cycle's own, as if the bot had traded it"
    adopting = command(asset, "adopt", words, "dca asset adopt BTC/USD --price 61000 --yes")
    with_symbol(adopting)
    adopting.add_argument("--price", type=amount, help="USD a coin was traded for (default: today's)")
    asking(adopting)
    adopting.set_defaults(run=_adopt)
    words = "end a halt; a difference at the venue stays, and counts as right from now on"
    resuming = command(asset, "resume", words, "dca asset resume BTC/USD")
    with_symbol(resuming)
    resuming.set_defaults(run=_resume)


def _rule_options(command: argparse.ArgumentParser, defaults: dict[str, Any]) -> None:
    kinds: dict[str, dict[str, Any]] = {
        "amount": {"type": amount},
        "whole": {"type": int},
        "switch": {"action": argparse.BooleanOptionalAction},
        "amount_or_none": {"type": _or_none(amount), "metavar": "PERCENT|none"},
        "whole_or_none": {"type": _or_none(int), "metavar": "SECONDS|none"},
    }
    for option, name, kind, words in RULE_OPTIONS:
        default = defaults.get(name)
        shown = f" (default {default})" if default is not None else ""
        command.add_argument(option, dest=name, default=None, help=words + shown, **kinds[kind])
    command.add_argument("--offline", action="store_true", help="do not ask the venue about the symbol")


def _or_none(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """For argparse: what `read` makes of a text, or NONE."""

    def reading(text: str) -> Any:
        return NONE if text.strip().lower() == NONE else read(text)

    reading.__name__ = "amount" if read is amount else "number"
    return reading


def _rules(options: argparse.Namespace, base: dict[str, Any]) -> Rules:
    """`base` with what was given; `none` puts a rule back to its default."""
    given = {field.name: getattr(options, field.name) for field in fields(Rules)}
    given = {name: value for name, value in given.items() if value is not None}
    off = {name for name, value in given.items() if value == NONE}
    if "stop_loss_percent" in off:
        off |= STOP_RULES - given.keys()
    default = {field.name: field.default for field in fields(Rules)}
    return Rules(**{**base, **given, **{name: default[name] for name in off}})


def _add(options: argparse.Namespace) -> None:
    settings = env.load()
    rules = _rules(options, DEFAULTS)
    venue = None if options.offline else wiring.broker(settings)
    symbol = assets.check(options.symbol, rules, settings.fees.taker, venue)
    with wiring.opened(settings) as store:
        asset = assets.add(store, wiring.clock(settings), symbol, rules, is_enabled=not options.disabled)
    _print(asset, settings)


def _set(options: argparse.Namespace) -> None:
    settings = env.load()
    symbol = options.symbol

    def edit(asset: Asset) -> Asset:
        current = {field.name: getattr(asset.rules, field.name) for field in fields(Rules)}
        return replace(asset, rules=_rules(options, current))

    with wiring.opened(settings) as store:
        situation = store.read(lambda tx: _situation(tx, symbol))
    if situation is not None:
        rules = edit(situation.asset).rules
        venue = None if options.offline else wiring.broker(settings)
        assets.check(symbol, rules, settings.fees.taker, venue)
        if venue is not None:
            assets.check_stop(symbol, rules, situation, venue)
    _changed(settings, symbol, edit, "rules changed by the operator")


def _situation(tx: Tx, symbol: str) -> Situation | None:
    asset = tx.asset_by_symbol(symbol)
    return None if asset is None else tx.situation(asset.id)


def _switch(options: argparse.Namespace) -> None:
    def edit(asset: Asset) -> Asset:
        return replace(asset, is_enabled=options.wanted)

    words = "enabled" if options.wanted else "disabled"
    _changed(env.local(), options.symbol, edit, f"{words} by the operator")


def _resume(options: argparse.Namespace) -> None:
    settings = env.load()
    with wiring.opened(settings) as store:
        venue = wiring.broker(settings, store)
        print(adoption.resume(store, wiring.clock(settings), venue, options.symbol))


def _adopt(options: argparse.Namespace) -> None:
    settings = env.load()
    clock = wiring.clock(settings)
    with wiring.opened(settings) as store:
        venue = wiring.broker(settings, store)
        if not agreed(options, _adopting_plan(store, venue, options.symbol, options.price)):
            return
        recorder = Recorder(store, clock, settings.fees)
        print(adoption.adopt(store, clock, recorder, venue, options.symbol, options.price))


def _adopting_plan(store: Store, venue: Broker, symbol: str, price: Decimal | None) -> str:
    owned = store.read(lambda tx: tx.owned(assets.named(tx, symbol).id))
    held = venue.holding(symbol).qty
    if price is None:
        quote = venue.latest_quote(symbol)
        price = quote.ask if held > owned else quote.bid
    surplus, verb = abs(held - owned), "bought" if held > owned else "sold"
    return (
        f"{symbol}: the venue holds {plain(held)}, the books own {plain(owned)}\n"
        f"  {coins(surplus, symbol)} would count as {verb} at {shown(price)} ({surplus * price:.2f} USD), "
        "and a halt end"
    )


def _remove(options: argparse.Namespace) -> None:
    settings = env.local()
    with wiring.opened(settings) as store:
        gone = assets.remove(store, wiring.clock(settings), options.symbol)
    stays = "has traded: it is disabled, and stays in the books"
    print(f"{options.symbol} {'is removed' if gone else stays}")


def _changed(settings: env.Settings, symbol: str, edit: Any, why: str) -> None:
    with wiring.opened(settings) as store:
        asset = assets.change(store, wiring.clock(settings), symbol, edit, why)
    _print(asset, settings)


def _print(asset: Asset, settings: env.Settings) -> None:
    """The asset in a line, with what may not be meant of it."""
    fee = settings.fees.taker
    print(_described(asset, fee))
    for warning in warnings(asset.rules, fee):
        print(f"  note: {warning}")


def _described(asset: Asset, taker_fee: Decimal) -> str:
    steps = ladder(asset.rules)
    state = "enabled" if asset.is_enabled else "disabled"
    if asset.paused_reason:
        state = f"paused: {asset.paused_reason}"
    if asset.halted_reason:
        state = f"halted: {asset.halted_reason}"
    return (
        f"{asset.asset_symbol} ({state}): {len(steps)} buys, {plain(steps[-1].committed)} USD in all, "
        f"the last at {steps[-1].drop_pct:.2f} % below the base fill; "
        f"take profit {plain(asset.rules.take_profit_percent)} %{_stop(asset.rules, taker_fee)}"
    )


def _stop(rules: Rules, taker_fee: Decimal) -> str:
    """The stop in words; nothing without one."""
    lost = most_lost(rules, taker_fee)
    if rules.stop_loss_percent is None or lost is None:
        return ""
    words = f"; stop loss {plain(rules.stop_loss_percent)} % below the average"
    if rules.stop_loss_trailing:
        words += ", trailing"
    if rules.stop_loss_timeout:
        words += f", after {rules.stop_loss_timeout} s there"
    if rules.break_even_percent is not None:
        words += f", at break-even once {plain(rules.break_even_percent)} % above it"
    return f"{words}: about {lost:.2f} USD are lost when it sells the whole ladder"


def _list(options: argparse.Namespace) -> None:
    settings = env.local()
    with wiring.opened(settings) as store:
        found = store.read(lambda tx: tx.assets())
    if options.json:
        print(json.dumps([status_page.asset_fields(asset) for asset in found], indent=2))
    elif not found:
        print("no assets yet; add one with: dca asset add BTC/USD")
    else:
        for asset in found:
            _print(asset, settings)
