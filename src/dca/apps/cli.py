"""The command `dca`."""

import argparse
import logging
import sys
from collections.abc import Sequence

from dca.adapters.process import keep_private
from dca.apps.commands import (
    asset,
    cron,
    db,
    doctor,
    operator,
    paper,
    process,
    report,
    state,
    why,
)
from dca.domain.errors import DcaError, StoreUnavailable, Unavailable, Unmended

_QUIET = logging.NullHandler()
"""A command says itself what there is to say; what it did is an event in the database."""
GROUPS = (db, doctor, asset, state, why, operator, process, cron, report, paper)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 a check did not hold, 75 try later, 78 a person must fix something."""
    options = parser().parse_args(arguments)
    logging.getLogger("dca").addHandler(_QUIET)
    keep_private()
    try:
        result: int | None = options.run(options)
    except (Unavailable, StoreUnavailable, Unmended) as error:
        print(f"dca: {error}; nothing was changed, try again later", file=sys.stderr)
        return 75
    except DcaError as error:
        print(f"dca: {error}", file=sys.stderr)
        return 78
    except KeyboardInterrupt:
        return 130
    return result or 0


def parser() -> argparse.ArgumentParser:
    """Every command, each with an example below its help."""
    whole = argparse.ArgumentParser(
        prog="dca",
        description="A dollar-cost-averaging bot for crypto on Alpaca.",
        epilog="example:\n  dca doctor",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    for group in GROUPS:
        group.add(commands)
    return whole


if __name__ == "__main__":
    sys.exit(main())
