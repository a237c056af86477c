"""`dca pause`, `dca halt`, `dca resume` and `dca cycle`: what an operator does on purpose."""

import argparse
import sys
import threading
from decimal import Decimal
from typing import Any

from dca import settings as env
from dca import wiring
from dca.adapters.halt_file import HaltFile
from dca.apps.commands.options import agreed, amount, asking, command, with_symbol
from dca.domain.asset import Asset
from dca.domain.cycle import Cycle
from dca.domain.errors import ConfigError, StoreError
from dca.domain.market import Quote, symbol_of
from dca.domain.money import plain
from dca.domain.order import Order, Side
from dca.domain.position import fold
from dca.ports import Store
from dca.service import adoption, assets, funds, operating
from dca.service.brief import Brief
from dca.service.operating import Desk, Done
from dca.service.replacing import by_hand, left_to_spend, replaceable
from dca.strategy.dca import shown
from dca.strategy.exits import take_profit_price

UNEXPLAINED = "by the operator"


def add(commands: Any) -> None:
    words = "buy nothing more, of one asset or of any; what is held is still sold by its rules"
    pausing = command(commands, "pause", words, 'dca pause BTC/USD --reason "news at eight"')
    with_symbol(pausing, optional="all")
    pausing.add_argument("--reason", default=UNEXPLAINED, help="it is shown until the pause is ended")
    pausing.set_defaults(run=_pause)
    words = "send no order at all, for one asset or for any, in any process, until resumed"
    halting = command(commands, "halt", words, 'dca halt "something is wrong"')
    halting.add_argument("symbol", nargs="?", help="such as BTC/USD; all without")
    halting.add_argument("reason", nargs="?", help="why, in quotes; it is shown until the halt is ended")
    halting.set_defaults(run=_halt)
    words = "end pause and halt of one asset, or those of trading as a whole"
    resuming = command(commands, "resume", words, "dca resume BTC/USD")
    with_symbol(resuming, optional="trading as a whole")
    resuming.set_defaults(run=_resume)
    _cycle_commands(commands)


def _cycle_commands(commands: Any) -> None:
    group = command(commands, "cycle", "the cycle of an asset, by hand", "dca cycle close BTC/USD --dry-run")
    cycle = group.add_subparsers(required=True, metavar="COMMAND")
    words = "cancel the orders of the cycle and sell all it owns at the market"
    closing = command(cycle, "close", words, "dca cycle close BTC/USD")
    with_symbol(closing)
    asking(closing)
    closing.set_defaults(run=_close)
    words = "cancel the live orders of the cycle"
    canceling = command(cycle, "cancel-orders", words, "dca cycle cancel-orders BTC/USD --yes")
    with_symbol(canceling)
    asking(canceling)
    canceling.set_defaults(run=_cancel_orders)
    words = "cancel the live order of the cycle and send what is left of it anew, at a price of today"
    replacing = command(cycle, "replace", words, "dca cycle replace BTC/USD --limit 61000")
    with_symbol(replacing)
    replacing.add_argument("--limit", type=amount, help="the most a buy may pay per coin (default: the ask)")
    asking(replacing)
    replacing.set_defaults(run=_replace)
    words = "buy more for the cycle now; it counts into the average and uses no safety order"
    adding = command(cycle, "add-funds", words, "dca cycle add-funds BTC/USD 50")
    with_symbol(adding)
    adding.add_argument("amount", type=amount, help="USD to spend")
    asking(adding)
    adding.set_defaults(run=_add_funds)


# Switches


def _pause(options: argparse.Namespace) -> None:
    settings = env.local()
    with wiring.opened(settings) as store:
        operating.pause(store, wiring.clock(settings), options.symbol, options.reason)
    print(f"{options.symbol or 'trading'} paused, nothing more is bought: {options.reason}")


def _halt(options: argparse.Namespace) -> None:
    symbol, reason = _meant(options.symbol, options.reason)
    settings = env.local()
    if symbol is not None:
        with wiring.opened(settings) as store:
            operating.halt(store, wiring.clock(settings), symbol, reason)
        print(f"{symbol} halted: {reason}")
        return
    _halt_all(settings, reason)


def _halt_all(settings: env.Settings, reason: str) -> None:
    """The file comes first: it needs no database, and holds at once. Once the database knows, it is
    not needed any more."""
    file = HaltFile(settings.run_dir)
    _put(file, reason)
    try:
        with wiring.opened(settings) as store:
            operating.halt(store, wiring.clock(settings), None, reason)
    except (StoreError, ConfigError) as error:
        print(
            f"trading halted by {file.path}: {reason}\n"
            f"The database did not take it ({error}), so only what uses this folder holds still. "
            "It ends with: dca resume",
            file=sys.stderr,
        )
        return
    _drop(file)
    print(f"trading halted: {reason}")


def _put(file: HaltFile, reason: str) -> None:
    try:
        file.put(reason)
    except OSError as error:
        print(f"dca: {file.path} could not be written: {error.strerror}", file=sys.stderr)


def _drop(file: HaltFile) -> None:
    try:
        file.drop()
    except OSError as error:
        raise ConfigError(f"remove {file.path} yourself, it halts trading: {error.strerror}") from error


def _meant(first: str | None, second: str | None) -> tuple[str | None, str]:
    """The asset to halt, None for all, and the reason. In a hurry either may be left out."""
    if first is None:
        return None, UNEXPLAINED
    try:
        return symbol_of(first), second or UNEXPLAINED
    except ValueError:
        if second is None:
            return None, first
        raise ConfigError(
            f"NOT halted: {first} is no symbol. A reason of several words needs quotes: "
            f'dca halt "{first} {second}"'
        ) from None


def _resume(options: argparse.Namespace) -> None:
    settings = env.local()
    clock = wiring.clock(settings)
    with wiring.opened(settings) as store:
        if options.symbol is None:
            operating.resume(store, clock, None)
            _drop(HaltFile(settings.run_dir))
            print("trading resumed")
            _tell_assets(store)
            return
        asset = store.read(lambda tx: assets.named(tx, options.symbol))
        if asset.halted_reason is not None:
            venue = wiring.broker(settings, store)
            print(adoption.resume(store, clock, venue, options.symbol))
        if asset.paused_reason is not None:
            operating.resume(store, clock, options.symbol)
            print(f"{options.symbol} is not paused any more")
        if asset.halted_reason is None and asset.paused_reason is None:
            print(f"{options.symbol} was neither halted nor paused")
        for name, reason in wiring.switches(settings, store).items():
            if name in ("halted", "paused"):
                print(f"but trading as a whole is {name}: {reason}; dca resume")


def _tell_assets(store: Store) -> None:
    """What the end of the whole does not end."""
    for asset in store.read(lambda tx: tx.assets()):
        for word, reason in (("halted", asset.halted_reason), ("paused", asset.paused_reason)):
            if reason is not None:
                print(f"still {word}: {asset.asset_symbol} ({reason}); dca resume {asset.asset_symbol}")


# Orders


def _desk(settings: env.Settings, store: Store) -> Desk:
    """Everything an operator's order needs. Raises Unavailable."""
    desk = wiring.desk(settings, store, rest=threading.Event().wait)
    desk.trader.instruments = desk.broker.instruments()
    wiring.refuse_other_account(settings, funds.refresh(store, desk.broker, desk.clock))
    return desk


def _close(options: argparse.Namespace) -> int:
    settings = env.load()
    with wiring.opened(settings) as store:
        desk = _desk(settings, store)
        brief = operating.closable(desk, options.symbol)
        quote = desk.quote(options.symbol)
        if not agreed(options, _closing_plan(settings, brief, quote)):
            return 0
        done = operating.close(desk, options.symbol)
        if done.ok:
            done = _with_hint(done, brief.situation.asset)
    return _told(done)


def _closing_plan(settings: env.Settings, brief: Brief, quote: Quote) -> str:
    cycle = _cycle(brief)
    lines = [f"{quote.symbol}, cycle {cycle.id}:", *_cancellations(brief)]
    if cycle.quantity > 0:
        position = fold(brief.fills)
        worth = cycle.quantity * quote.bid * (1 - settings.fees.taker)
        lines.append(
            f"  sell {operating.coins(cycle.quantity, quote.symbol)} at the market, bid {shown(quote.bid)}:\n"
            f"  about {worth:.2f} USD after fees, {worth + position.proceeds - position.cost:+.2f} USD in all"
        )
    return "\n".join(lines)


def _cancellations(brief: Brief) -> list[str]:
    return [f"  cancel {_order(order)}" for order in brief.orders if order.live]


def _order(order: Order) -> str:
    return f"the {operating.described(order)}"


def _with_hint(done: Done, asset: Asset) -> Done:
    if not asset.buys:
        return done
    hint = f"the next cycle begins by the rules; to keep it from buying: dca pause {asset.asset_symbol}"
    return Done(done.ok, f"{done.text}\n{hint}", done.orders)


def _cancel_orders(options: argparse.Namespace) -> int:
    settings = env.load()
    with wiring.opened(settings) as store:
        desk = _desk(settings, store)
        brief = desk.brief(options.symbol)
        plan = "\n".join([f"{options.symbol}:", *(_cancellations(brief) or ["  there is no live order"])])
        if not agreed(options, plan):
            return 0
        done = operating.cancel_orders(desk, options.symbol)
    return _told(done)


def _replace(options: argparse.Namespace) -> int:
    settings = env.load()
    with wiring.opened(settings) as store:
        desk = _desk(settings, store)
        brief, order = replaceable(desk, options.symbol, options.limit)
        quote = desk.quote(options.symbol)
        if not agreed(options, _replacing_plan(brief, order, quote, options.limit)):
            return 0
        done = by_hand(desk, options.symbol, options.limit)
    return _told(done)


def _replacing_plan(brief: Brief, order: Order, quote: Quote, limit: Decimal | None) -> str:
    lines = [f"{quote.symbol}, cycle {_cycle(brief).id}:", f"  cancel {_order(order)}"]
    if order.intent.side is Side.SELL:
        lines.append(f"  sell what is left of it at the market, bid {shown(quote.bid)}")
    else:
        left, price = left_to_spend(brief, order), limit or quote.ask
        lines.append(f"  buy for what is left of it, {left:.2f} USD, at no more than {shown(price)}")
    return "\n".join(lines)


def _add_funds(options: argparse.Namespace) -> int:
    settings = env.load()
    with wiring.opened(settings) as store:
        desk = _desk(settings, store)
        brief = operating.addable(desk, options.symbol, options.amount)
        quote = desk.quote(options.symbol)
        if not agreed(options, _adding_plan(settings, brief, quote, options.amount)):
            return 0
        done = operating.add_funds(desk, options.symbol, options.amount)
    return _told(done)


def _adding_plan(settings: env.Settings, brief: Brief, quote: Quote, usd: Decimal) -> str:
    cycle = _cycle(brief)
    rules, fee = brief.situation.asset.rules, settings.fees.taker
    position = fold(brief.fills)
    bought = usd / quote.ask * (1 - fee)
    average = (position.cost + usd) / (position.bought + bought)
    return "\n".join(
        [
            f"{quote.symbol}, cycle {cycle.id}:",
            f"  buy for {plain(usd)} USD at no more than {shown(quote.ask)}:",
            f"  about {bought:.9f} {quote.symbol.partition('/')[0]} after fees",
            f"  average {shown(cycle.average_purchase_price)} -> about {shown(average)}",
            f"  take profit {shown(take_profit_price(cycle.average_purchase_price, rules, fee))} -> about "
            f"{shown(take_profit_price(average, rules, fee))}; the bid is {shown(quote.bid)}",
        ]
    )


def _cycle(brief: Brief) -> Cycle:
    assert brief.cycle is not None, "only an asset with a cycle gets a plan"
    return brief.cycle


def _told(done: Done) -> int:
    print(done.text, file=sys.stdout if done.ok else sys.stderr)
    return 0 if done.ok else 75
