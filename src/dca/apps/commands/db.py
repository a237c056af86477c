"""`dca db`: the database."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dca import settings as env
from dca import wiring
from dca.adapters.db import restore, restore_mysql, restore_sqlite
from dca.adapters.db.backup import BackupFolder
from dca.adapters.db.migrate import upgrade
from dca.adapters.process import AlreadyRunning, PidFile, may_be_alive
from dca.adapters.supervise import pid_path
from dca.apps.commands.options import agreed, asking, command
from dca.domain.errors import ConfigError

RESTORING = """\
{file} takes the place of everything in {target}.
What is there now is kept. Buying is paused afterwards, until you resume it."""
RESTORED = """\
restored from {file}: installation {install}
what was there before is kept as {kept}
buying is paused, because the venue may know more than the backup. Before you resume it:
  dca start                               catches up with every order that the backup knows
  python scripts/consistency_checker.py   compares what is owned with the venue's positions
  dca status
  dca resume"""


def add(commands: Any) -> None:
    group = command(commands, "db", "the database", "dca db upgrade")
    db = group.add_subparsers(required=True, metavar="COMMAND")
    upgrading = command(db, "upgrade", "create the database, or bring it to this version", "dca db upgrade")
    upgrading.set_defaults(run=_upgrade)
    backing = command(db, "backup", "copy the whole database into a file", "dca db backup --to /mnt/usb")
    backing.add_argument("--to", type=Path, help="the folder (default: BACKUP_DIR)")
    backing.set_defaults(run=_backup)
    restoring = command(
        db, "restore", "put a backup in the place of the database", "dca db restore backups/dca-...sql.gz"
    )
    restoring.add_argument("file", type=Path, help="a file that `dca db backup` or housekeeping made")
    asking(restoring)
    restoring.set_defaults(run=_restore)


def _upgrade(options: argparse.Namespace) -> None:
    applied = upgrade(env.database_url())
    print("applied: " + ", ".join(applied) if applied else "the database is up to date")


def _backup(options: argparse.Namespace) -> None:
    settings = env.local()
    folder = options.to or settings.keep.backup_dir
    made = BackupFolder(settings.database_url, folder).make(wiring.clock(settings).now())
    print(f"{folder / made.name}: {made.size:,} bytes, read again and whole")


def _restore(options: argparse.Namespace) -> None:
    settings = env.local()
    now = wiring.clock(settings).now()
    with without_streamer(settings.run_dir):
        restoring = restore.begun(settings.database_url, options.file, now, may_be_alive)
        if not agreed(options, RESTORING.format(file=options.file, target=restoring.target)):
            return
        if restoring.target.sqlite:
            done = restore_sqlite.restore(restoring)
        else:
            done = restore_mysql.restore(restoring, settings.keep.backup_dir)
    kept = done.kept or "nothing: there was no database"
    print(RESTORED.format(file=options.file, install=done.install, kept=kept))
    if done.applied:
        print("the schema was brought to this version: " + ", ".join(done.applied))


@contextmanager
def without_streamer(run_dir: Path) -> Iterator[None]:
    """While inside, none runs on this machine, and none can be started. Raises ConfigError."""
    pid_file = PidFile(pid_path(run_dir))
    try:
        pid_file.take()
    except AlreadyRunning as error:
        raise ConfigError(f"{error}: stop it first with `dca stop`") from error
    try:
        yield
    finally:
        pid_file.drop()
