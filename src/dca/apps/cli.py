"""The command `dca`."""

import argparse
import sys
from collections.abc import Sequence

from dca.apps.commands import asset, db, paper, state
from dca.domain.errors import DcaError, StoreUnavailable, Unavailable

GROUPS = (db, asset, state, paper)


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dca", description="A dollar-cost-averaging bot for crypto on Alpaca."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for group in GROUPS:
        group.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
