"""`dca asset`: what is traded, and how."""

import argparse
import json
from dataclasses import fields, replace
from decimal import Decimal
from typing import Any

from dca import settings as env
from dca import wiring
from dca.apps import status as status_page
from dca.apps.commands.options import amount
from dca.domain.asset import Asset, Rules
from dca.domain.money import plain
from dca.service import assets
from dca.strategy.ladder import ladder

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
]


def add(commands: Any) -> None:
    asset = commands.add_parser("asset", help="what is traded, and how")
    asset = asset.add_subparsers(required=True, metavar="COMMAND")
    command = asset.add_parser("add", help="trade another asset")
    command.add_argument("symbol", help="such as BTC/USD")
    command.add_argument("--disabled", action="store_true", help="store it, but do not trade it yet")
    _rule_options(command, DEFAULTS)
    command.set_defaults(run=_add)
    command = asset.add_parser("set", help="change how an asset is traded")
    command.add_argument("symbol")
    _rule_options(command, {})
    command.set_defaults(run=_set)
    for name, wanted in (("enable", True), ("disable", False)):
        words = "buy again" if wanted else "buy nothing more; what is held is still sold by its rules"
        command = asset.add_parser(name, help=words)
        command.add_argument("symbol")
        command.set_defaults(run=_switch, wanted=wanted)
    command = asset.add_parser("resume", help="trade an asset again that was halted")
    command.add_argument("symbol")
    command.set_defaults(run=_resume)
    command = asset.add_parser("list", help="every asset with its ladder")
    command.add_argument("--json", action="store_true")
    command.set_defaults(run=_list)


def _rule_options(command: argparse.ArgumentParser, defaults: dict[str, Any]) -> None:
    kinds: dict[str, dict[str, Any]] = {
        "amount": {"type": amount},
        "whole": {"type": int},
        "switch": {"action": argparse.BooleanOptionalAction},
    }
    for option, name, kind, words in RULE_OPTIONS:
        default = defaults.get(name)
        shown = f" (default {default})" if default is not None else ""
        command.add_argument(option, dest=name, default=None, help=words + shown, **kinds[kind])
    command.add_argument("--offline", action="store_true", help="do not ask the venue about the symbol")


def _rules(options: argparse.Namespace, base: dict[str, Any]) -> Rules:
    given = {field.name: getattr(options, field.name) for field in fields(Rules)}
    return Rules(**{**base, **{name: value for name, value in given.items() if value is not None}})


def _add(options: argparse.Namespace) -> None:
    settings = env.load()
    rules = _rules(options, DEFAULTS)
    venue = None if options.offline else wiring.broker(settings)
    symbol = assets.check(options.symbol, rules, settings.fees.taker, venue)
    with wiring.opened(settings) as store:
        asset = assets.add(store, wiring.clock(settings), symbol, rules, is_enabled=not options.disabled)
    print(_described(asset))


def _set(options: argparse.Namespace) -> None:
    settings = env.load()
    symbol = options.symbol.strip().upper()

    def edit(asset: Asset) -> Asset:
        current = {field.name: getattr(asset.rules, field.name) for field in fields(Rules)}
        return replace(asset, rules=_rules(options, current))

    with wiring.opened(settings) as store:
        asset = store.read(lambda tx: tx.asset_by_symbol(symbol))
    if asset is not None:
        venue = None if options.offline else wiring.broker(settings)
        assets.check(symbol, edit(asset).rules, settings.fees.taker, venue)
    _changed(settings, symbol, edit, "rules changed by the operator")


def _switch(options: argparse.Namespace) -> None:
    def edit(asset: Asset) -> Asset:
        return replace(asset, is_enabled=options.wanted)

    words = "enabled" if options.wanted else "disabled"
    _changed(env.load(), options.symbol, edit, f"{words} by the operator")


def _resume(options: argparse.Namespace) -> None:
    def edit(asset: Asset) -> Asset:
        return replace(asset, halted_reason=None)

    _changed(env.load(), options.symbol, edit, "resumed by the operator")


def _changed(settings: env.Settings, symbol: str, edit: Any, why: str) -> None:
    with wiring.opened(settings) as store:
        asset = assets.change(store, wiring.clock(settings), symbol.strip().upper(), edit, why)
    print(_described(asset))


def _described(asset: Asset) -> str:
    steps = ladder(asset.rules)
    state = "enabled" if asset.is_enabled else "disabled"
    if asset.halted_reason:
        state = f"halted: {asset.halted_reason}"
    return (
        f"{asset.asset_symbol} ({state}): {len(steps)} buys, {plain(steps[-1].committed)} USD in all, "
        f"the last at {steps[-1].drop_pct:.2f} % below the base fill; "
        f"take profit {plain(asset.rules.take_profit_percent)} %"
    )


def _list(options: argparse.Namespace) -> None:
    with wiring.opened(env.load()) as store:
        found = store.read(lambda tx: tx.assets())
    if options.json:
        print(json.dumps([status_page.asset_fields(asset) for asset in found], indent=2))
    elif not found:
        print("no assets yet; add one with: dca asset add BTC/USD")
    else:
        print("\n".join(_described(asset) for asset in found))
