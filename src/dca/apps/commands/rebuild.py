"""`dca rebuild`: the cycles restored from what the venue knows of our orders."""

import argparse
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from dca import settings as env
from dca import wiring
from dca.adapters.db.installation import carry_on
from dca.adapters.process import identity, may_be_alive
from dca.apps.commands.db import without_streamer
from dca.apps.commands.options import agreed, asking, command
from dca.domain.errors import ConfigError, StaleWrite, Unmended
from dca.ports import Broker, Store
from dca.service import lease
from dca.service.lease import LeaseTaken
from dca.service.rebuild import BEGINNING, Plan, Rebuild, installations

LEASE_S = 3600.0
AGREED = """\
The database is put right as shown. No order is placed or canceled. Buying is paused afterwards, until
you resume it."""
DONE = """\
buying is paused. Before you resume it:
  dca start                               catches up with every order
  python scripts/consistency_checker.py   compares what is owned with the venue's positions
  dca status
  dca resume"""


def add(commands: Any) -> None:
    words = (
        "restore the cycles from the venue's orders and fills, after the database was lost or restored "
        "from an old backup; assets and their rules must be there, they cannot come from the venue"
    )
    rebuilding = command(commands, "rebuild", words, "dca rebuild --from venue --dry-run")
    rebuilding.add_argument("--from", dest="source", choices=["venue"], required=True, help="what to trust")
    rebuilding.add_argument("--install", help="the installation whose orders count (default: the only one)")
    asking(rebuilding)
    rebuilding.set_defaults(run=_rebuild)


def _rebuild(options: argparse.Namespace) -> int:
    settings = env.load()
    wiring.watch_boundaries(settings)
    with ExitStack() as stack:
        if not options.dry_run:
            stack.enter_context(without_streamer(settings.run_dir))
        install = _install(settings, options.install)
        if options.dry_run:
            store = stack.enter_context(wiring.opened(settings))
            return int(_show(_rebuilding(settings, store, install).plans()))
        return _apply(options, settings, install, stack)


def _apply(options: argparse.Namespace, settings: env.Settings, install: str, stack: ExitStack) -> int:
    with wiring.opened(settings) as store:
        differs = _show(_rebuilding(settings, store, install).plans())
        same = store.install == install
    if same and not differs:
        return 0
    if not agreed(options, AGREED):
        return 0
    if not same:
        carry_on(settings.database_url, install)
    store = stack.enter_context(wiring.opened(settings))
    stack.enter_context(_alone(settings, store, wiring.broker(settings, store)))
    rebuild = _rebuilding(settings, store, install)
    try:
        rebuild.apply(rebuild.plans())
    except StaleWrite as error:
        raise Unmended(f"{error}: somebody else writes to the database; repeat it") from error
    remains = _show(rebuild.plans())
    print(DONE)
    return int(remains)


def _rebuilding(settings: env.Settings, store: Store, install: str) -> Rebuild:
    venue = wiring.broker(settings, store)
    rest = threading.Event().wait
    return Rebuild(store, venue, wiring.clock(settings), settings.fees, install, rest)


def _install(settings: env.Settings, wanted: str | None) -> str:
    """The installation whose orders are restored. Raises ConfigError where that is not certain."""
    with wiring.opened(settings) as store:
        mine = store.install
        if store.read(lambda tx: tx.orders()):
            if wanted not in (None, mine):
                raise ConfigError(f"the database has orders of the installation {mine}, not of {wanted}")
            return mine
        if wanted is not None:
            return wanted
        found = installations(wiring.broker(settings, store).orders_since(BEGINNING))
    return mine if mine in found or not found else _only(found)


def _only(found: Counter[str]) -> str:
    if len(found) > 1:
        named = ", ".join(f"{name} ({count} orders)" for name, count in found.most_common())
        raise ConfigError(f"several installations have traded this account: {named}; name one: --install")
    return next(iter(found))


@contextmanager
def _alone(settings: env.Settings, store: Store, venue: Broker) -> Iterator[None]:
    """While inside, no streamer of any machine trades the account. Raises ConfigError."""
    name = f"streamer:{venue.account().id}"
    try:
        holding = lease.take(store, wiring.clock(settings), name, identity(), may_be_alive, ttl_s=LEASE_S)
    except LeaseTaken as error:
        raise ConfigError(f"{error}: stop it first with `dca stop`") from error
    try:
        yield
    finally:
        holding.drop()


def _show(plans: Sequence[Plan]) -> bool:
    """Whether anything differs, after it was printed row by row."""
    lines = [line for plan in plans for line in plan.lines]
    for line in lines:
        print(f"{line.subject}: {line.what}: {line.here} here, {line.venue} by the venue")
    known = f"{len(plans)} cycles" if len(plans) != 1 else "1 cycle"
    print(f"{len(lines) or 'no'} differences; the venue knows orders of {known}")
    return bool(lines)
