"""What several commands read from the command line."""

import argparse
import sys
from decimal import Decimal
from typing import Any

from dca.domain.errors import ConfigError
from dca.domain.money import exact


def amount(text: str) -> Decimal:
    """An exact number, for argparse."""
    try:
        return exact(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def symbol(text: str) -> str:
    """A symbol as it is stored, for argparse; whether there is such an asset the database says."""
    return text.strip().upper()


def with_symbol(command: argparse.ArgumentParser, *, optional: str = "") -> None:
    """The command names an asset, or, where `optional` says what is meant without, may name one."""
    if optional:
        command.add_argument("symbol", type=symbol, nargs="?", help=f"such as BTC/USD; {optional} without")
    else:
        command.add_argument("symbol", type=symbol, help="such as BTC/USD")


def asking(command: argparse.ArgumentParser) -> None:
    """The command asks before it does anything."""
    command.add_argument("--yes", action="store_true", help="do not ask")
    command.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")


def agreed(options: argparse.Namespace, plan: str) -> bool:
    """Whether to go on, after the `plan` was shown. Raises ConfigError where nobody can be asked."""
    print(plan)
    if options.dry_run or options.yes:
        return not options.dry_run
    if not sys.stdin.isatty():
        raise ConfigError("nobody can be asked here: repeat it with --yes if you mean it; nothing was done")
    answer = input("go on? [y/N] ").strip().lower() in ("y", "yes")
    if not answer:
        print("nothing was done")
    return answer


def command(group: Any, name: str, words: str, example: str, **more: Any) -> argparse.ArgumentParser:
    """A command of `group`, with an example below its help."""
    added: argparse.ArgumentParser = group.add_parser(
        name,
        help=words,
        description=words[:1].upper() + words[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **more,
    )
    return added
