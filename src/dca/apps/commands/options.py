"""What several commands read from the command line."""

import argparse
from decimal import Decimal
from typing import Any

from dca.domain.money import exact


def amount(text: str) -> Decimal:
    """An exact number, for argparse."""
    try:
        return exact(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


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
