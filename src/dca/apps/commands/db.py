"""`dca db`: the database."""

import argparse
from typing import Any

from dca import settings as env
from dca.adapters.db.migrate import upgrade
from dca.apps.commands.options import command


def add(commands: Any) -> None:
    group = command(commands, "db", "the database", "dca db upgrade")
    db = group.add_subparsers(required=True, metavar="COMMAND")
    upgrading = command(db, "upgrade", "create the database, or bring it to this version", "dca db upgrade")
    upgrading.set_defaults(run=_upgrade)


def _upgrade(options: argparse.Namespace) -> None:
    applied = upgrade(env.database_url())
    print("applied: " + ", ".join(applied) if applied else "the database is up to date")
