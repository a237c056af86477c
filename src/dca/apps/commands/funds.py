"""`dca funds`."""

import argparse
import json
from typing import Any

from dca import settings as env
from dca import wiring
from dca.apps.commands.options import command
from dca.apps.status import funds_fields
from dca.domain.errors import ConfigError
from dca.service import funds


def add(commands: Any) -> None:
    words = "what the account has, as the review of every buy counts it"
    group = command(commands, "funds", words, "dca funds --forget-peak")
    group.add_argument(
        "--forget-peak", action="store_true", help="count drawdown from the equity there is now"
    )
    group.add_argument("--json", action="store_true", help="print it as JSON")
    group.set_defaults(run=_funds)


def _funds(options: argparse.Namespace) -> None:
    settings = env.local()
    clock = wiring.clock(settings)
    with wiring.opened(settings) as store:
        if options.forget_peak:
            funds.forget_peak(store, clock)
        found = funds_fields(store.read(lambda tx: tx.funds()), clock.now())
    if found is None:
        raise ConfigError("the account was not read yet; the streamer reads it: dca start")
    if options.json:
        print(json.dumps(found, indent=2))
        return
    for name, value in found.items():
        print(f"{name.replace('_usd', '').replace('_', ' '):>16}  {value}")
