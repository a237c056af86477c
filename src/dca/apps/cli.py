"""The command `dca`."""

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib import import_module

from dca.adapters.process import keep_private
from dca.domain.errors import DcaError, StoreUnavailable, Unavailable, Unmended

_QUIET = logging.NullHandler()
"""A command says itself what there is to say; what it did is an event in the database."""
GROUPS = {
    "db": ("db",),
    "doctor": ("doctor",),
    "asset": ("asset",),
    "state": ("status",),
    "why": ("why",),
    "operator": ("pause", "halt", "resume", "cycle"),
    "process": ("start", "stop", "restart", "run", "maintenance"),
    "cron": ("cron",),
    "report": ("report",),
    "rebuild": ("rebuild",),
    "funds": ("funds",),
    "paper": ("paper", "demo"),
    "prove": ("prove",),
}
"""The commands of each module in `commands/`; only the module that is needed is loaded."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 a check did not hold, 75 try later, 78 a person must fix something."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = parser(given[0] if given else None).parse_args(given)
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


def parser(wanted: str | None = None) -> argparse.ArgumentParser:
    """Every command, each with an example below its help; of `wanted`, only its own module's."""
    whole = argparse.ArgumentParser(
        prog="dca",
        description="A dollar-cost-averaging bot for crypto on Alpaca.",
        epilog="example:\n  dca doctor",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    for module in [name for name, its in GROUPS.items() if wanted in its] or GROUPS:
        import_module(f"dca.apps.commands.{module}").add(commands)
    return whole


if __name__ == "__main__":
    sys.exit(main())
