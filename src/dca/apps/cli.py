"""The command `dca`: assets, database, status, the paper exchange and the demo."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from dca import settings as env
from dca import wiring
from dca.adapters.db.migrate import upgrade
from dca.apps import status as status_page
from dca.domain.asset import Asset, Rules
from dca.domain.errors import DcaError, StoreUnavailable, Unavailable
from dca.domain.money import exact, plain
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 a check did not hold, 75 try later, 78 a person must fix something."""
    options = _parser().parse_args(arguments)
    try:
        result: int | None = options.run(options)
    except (Unavailable, StoreUnavailable) as error:
        print(f"dca: {error}; nothing was changed, try again later", file=sys.stderr)
        return 75
    except DcaError as error:
        print(f"dca: {error}", file=sys.stderr)
        return 78
    except KeyboardInterrupt:
        return 130
    return result or 0


def _amount(text: str) -> Decimal:
    try:
        return exact(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dca", description="A dollar-cost-averaging bot for crypto on Alpaca."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _db_commands(commands)
    _asset_commands(commands)
    _state_commands(commands)
    _paper_commands(commands)
    _demo_command(commands)
    return parser


def _db_commands(commands: Any) -> None:
    db = commands.add_parser("db", help="the database").add_subparsers(required=True, metavar="COMMAND")
    command = db.add_parser("upgrade", help="create the database, or bring it to this version")
    command.set_defaults(run=_db_upgrade)


def _asset_commands(commands: Any) -> None:
    asset = commands.add_parser("asset", help="what is traded, and how")
    asset = asset.add_subparsers(required=True, metavar="COMMAND")
    command = asset.add_parser("add", help="trade another asset")
    command.add_argument("symbol", help="such as BTC/USD")
    command.add_argument("--disabled", action="store_true", help="store it, but do not trade it yet")
    _rule_options(command, DEFAULTS)
    command.set_defaults(run=_asset_add)
    command = asset.add_parser("set", help="change how an asset is traded")
    command.add_argument("symbol")
    _rule_options(command, {})
    command.set_defaults(run=_asset_set)
    for name, wanted in (("enable", True), ("disable", False)):
        words = "buy again" if wanted else "buy nothing more; what is held is still sold by its rules"
        command = asset.add_parser(name, help=words)
        command.add_argument("symbol")
        command.set_defaults(run=_asset_switch, wanted=wanted)
    command = asset.add_parser("resume", help="trade an asset again that was halted")
    command.add_argument("symbol")
    command.set_defaults(run=_asset_resume)
    command = asset.add_parser("list", help="every asset with its ladder")
    command.add_argument("--json", action="store_true")
    command.set_defaults(run=_asset_list)


def _rule_options(command: argparse.ArgumentParser, defaults: dict[str, Any]) -> None:
    kinds: dict[str, dict[str, Any]] = {
        "amount": {"type": _amount},
        "whole": {"type": int},
        "switch": {"action": argparse.BooleanOptionalAction},
    }
    for option, name, kind, words in RULE_OPTIONS:
        default = defaults.get(name)
        shown = f" (default {default})" if default is not None else ""
        command.add_argument(option, dest=name, default=None, help=words + shown, **kinds[kind])
    command.add_argument("--offline", action="store_true", help="do not ask the venue about the symbol")


def _state_commands(commands: Any) -> None:
    command = commands.add_parser("status", help="assets, cycles, orders in flight, heartbeats")
    command.add_argument("--json", action="store_true")
    command.set_defaults(run=_status)
    command = commands.add_parser("halt", help="send no more orders, in any process, until resumed")
    command.add_argument("reason", help="why; it is shown until trading is resumed")
    command.set_defaults(run=lambda options: _halt(options.reason))
    command = commands.add_parser("resume", help="end a halt")
    command.set_defaults(run=lambda options: _halt(None))


def _paper_commands(commands: Any) -> None:
    paper = commands.add_parser("paper", help="the offline paper exchange")
    paper = paper.add_subparsers(required=True, metavar="COMMAND")
    command = paper.add_parser("serve", help="run it until stopped")
    command.add_argument("--port", type=int, default=8787, help="0 takes a free one (default 8787)")
    command.add_argument("--cash", type=_amount, default=Decimal(10_000), help="USD at the start")
    command.add_argument("--seed", type=int, default=1, help="of the random walk and of partial fills")
    command.add_argument("--state", type=Path, help="a file that keeps the account over restarts")
    command.add_argument("--replay", type=Path, help="a candle file to play as BTC/USD")
    command.add_argument("--symbol", default="BTC/USD", help="the symbol that is played (default BTC/USD)")
    command.add_argument("--start", help="first day of the replay, such as 2023-03-09")
    command.add_argument("--end", help="the day before which the replay ends")
    command.add_argument("--walk", type=_amount, help="start price of a random walk instead of a replay")
    command.set_defaults(run=_paper_serve)


def _demo_command(commands: Any) -> None:
    command = commands.add_parser("demo", help="trade recorded days offline and account for every cent")
    command.add_argument("--json", action="store_true", help="print the statement as JSON")
    command.add_argument("--speed", type=float, default=4000.0, help="times real time (default 4000)")
    command.add_argument("--start", default="2023-03-09", help="first day (default 2023-03-09)")
    command.add_argument("--end", default="2023-03-14", help="the day before which it ends")
    command.add_argument("--database-url", help="trade on this database instead of a new SQLite file")
    command.add_argument("--keep", type=Path, help="keep database, logs and exchange state here")
    command.set_defaults(run=_demo)


def _db_upgrade(options: argparse.Namespace) -> None:
    applied = upgrade(env.database_url())
    print("applied: " + ", ".join(applied) if applied else "the database is up to date")


def _rules(options: argparse.Namespace, base: dict[str, Any]) -> Rules:
    given = {field.name: getattr(options, field.name) for field in fields(Rules)}
    return Rules(**{**base, **{name: value for name, value in given.items() if value is not None}})


def _asset_add(options: argparse.Namespace) -> None:
    settings = env.load()
    rules = _rules(options, DEFAULTS)
    venue = None if options.offline else wiring.broker(settings)
    symbol = assets.check(options.symbol, rules, settings.fees.taker, venue)
    with wiring.opened(settings) as store:
        asset = assets.add(store, wiring.clock(settings), symbol, rules, is_enabled=not options.disabled)
    print(_described(asset))


def _asset_set(options: argparse.Namespace) -> None:
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


def _asset_switch(options: argparse.Namespace) -> None:
    def edit(asset: Asset) -> Asset:
        return replace(asset, is_enabled=options.wanted)

    words = "enabled" if options.wanted else "disabled"
    _changed(env.load(), options.symbol, edit, f"{words} by the operator")


def _asset_resume(options: argparse.Namespace) -> None:
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


def _asset_list(options: argparse.Namespace) -> None:
    with wiring.opened(env.load()) as store:
        found = store.read(lambda tx: tx.assets())
    if options.json:
        print(json.dumps([status_page.asset_fields(asset) for asset in found], indent=2))
    elif not found:
        print("no assets yet; add one with: dca asset add BTC/USD")
    else:
        print("\n".join(_described(asset) for asset in found))


def _status(options: argparse.Namespace) -> None:
    settings = env.load()
    with wiring.opened(settings) as store:
        report = status_page.collect(store, wiring.clock(settings))
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        status_page.show(report)


def _halt(reason: str | None) -> None:
    settings = env.load()
    with wiring.opened(settings) as store:
        assets.halt(store, wiring.clock(settings), reason)
    print("trading resumed" if reason is None else f"trading halted: {reason}")


def _paper_serve(options: argparse.Namespace) -> None:
    from dca.apps.paper import serve

    serve(options)


def _demo(options: argparse.Namespace) -> int:
    from dca.apps.demo import run

    return run(options)


if __name__ == "__main__":
    sys.exit(main())
