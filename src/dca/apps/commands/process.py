"""`dca start`, `stop`, `restart`, `run` and `maintenance`: the streamer as a process of this machine."""

import argparse
import os
import sys
import threading
from dataclasses import replace
from typing import Any

from dca import settings as env
from dca import wiring
from dca.apps.commands.options import command
from dca.domain.errors import DcaError, StoreUnavailable
from dca.domain.record import Event
from dca.ports import MAINTENANCE, Launch, Store, Supervisor, Tx

PATIENCE_S = 45.0
"""A watchdog at work is waited for: it may be stopping one streamer and starting the next."""
BEAT_S = 30.0
LOOK_S = 0.2
NOTED_WITHIN_S = 3.0
STOPPED = "stopped by the operator"


def add(commands: Any) -> None:
    starting = command(
        commands,
        "start",
        "start main_app in the background and wait until it reports; the watchdog keeps it running",
        "dca start",
    )
    starting.set_defaults(run=_start)
    stopping = command(
        commands, "stop", "stop main_app and keep it stopped; orders stay where they are", "dca stop"
    )
    stopping.set_defaults(run=_stop)
    again = command(commands, "restart", "stop main_app, if it runs, and start it again", "dca restart")
    again.set_defaults(run=_restart)
    running = command(
        commands, "run", "run main_app in the foreground, until Ctrl-C; same as src/main_app.py", "dca run"
    )
    running.set_defaults(run=_run)
    keeping = command(
        commands,
        "maintenance",
        "keep the watchdog quiet, or end that",
        'dca maintenance on "the server gets a new disk"',
    )
    keeping.add_argument("state", choices=("on", "off"))
    keeping.add_argument(
        "reason", nargs="?", default="set by the operator", help="why; it is shown meanwhile"
    )
    keeping.set_defaults(run=_maintenance)


def _start(options: argparse.Namespace) -> int:
    settings = env.load()
    supervisor = wiring.supervisor(settings)
    _set_maintenance(settings, supervisor, None)
    with supervisor.alone(patience_s=PATIENCE_S) as alone:
        if not alone:
            return _busy()
        if supervisor.running().lives:
            print(f"main_app is running already: {_named(supervisor)}")
            return 0
        launch = _launched(supervisor)
    return _reported(settings, supervisor, launch)


def _stop(options: argparse.Namespace) -> int:
    settings = env.local()
    supervisor = wiring.supervisor(settings)
    _set_maintenance(settings, supervisor, STOPPED)
    with supervisor.alone(patience_s=PATIENCE_S) as alone:
        if not alone:
            return _busy()
        _stopped(supervisor)
        supervisor.remember(replace(supervisor.memory(), launches=()))
    print("the watchdog leaves it stopped until: dca start")
    return 0


def _restart(options: argparse.Namespace) -> int:
    settings = env.load()
    supervisor = wiring.supervisor(settings)
    _set_maintenance(settings, supervisor, None)
    with supervisor.alone(patience_s=PATIENCE_S) as alone:
        if not alone:
            return _busy()
        _stopped(supervisor)
        launch = _launched(supervisor)
    return _reported(settings, supervisor, launch)


def _run(options: argparse.Namespace) -> int:
    """This process becomes main_app, so that nothing can tell the two apart."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, str(wiring.MAIN_APP)])  # noqa: S606


def _maintenance(options: argparse.Namespace) -> int:
    settings = env.local()
    reason = options.reason if options.state == "on" else None
    _set_maintenance(settings, wiring.supervisor(settings), reason)
    print("maintenance is over" if reason is None else f"the watchdog does nothing: {reason}")
    return 0


def _busy() -> int:
    print("dca: the watchdog, or another command, is at main_app; try again", file=sys.stderr)
    return 75


def _set_maintenance(settings: env.Settings, supervisor: Supervisor, reason: str | None) -> None:
    """Noted in the database for everybody, and in a file for this machine's watchdog."""
    supervisor.set_maintenance(reason)
    try:
        with wiring.opened(settings) as store:
            _switch(store, settings, reason)
    except DcaError as error:
        print(f"dca: {error}; noted on this machine only", file=sys.stderr)


def _switch(store: Store, settings: env.Settings, reason: str | None) -> None:
    now = wiring.clock(settings).now()
    name = "maintenance_over" if reason is None else "maintenance_begun"

    def write(tx: Tx) -> None:
        if tx.flag(MAINTENANCE) != reason:
            tx.set_flag(MAINTENANCE, reason, at=now)
            tx.add_event(Event(name=name, at=now, reason=reason or "by the operator"))

    store.write(write)


def _stopped(supervisor: Supervisor) -> None:
    running = supervisor.running()
    if not running.lives:
        print("main_app is not running")
        return
    if running.process is None:
        raise DcaError(
            "main_app.pid does not name the process that locks it: find that one with "
            "`fuser main_app.pid` and end it by hand"
        )
    how = supervisor.stop(running.process)
    print(f"main_app (process {running.process.pid}) is stopped: {how}")


def _launched(supervisor: Supervisor) -> Launch:
    """Started by a person, which ends every wait of the watchdog's."""
    launch = supervisor.start()
    supervisor.remember(replace(supervisor.memory(), launches=(launch,)))
    return launch


def _reported(settings: env.Settings, supervisor: Supervisor, launch: Launch) -> int:
    """Said how the start went, once main_app has reported or is dead."""
    if launch.lived_s is None and _reports(settings, supervisor, launch):
        print(f"main_app runs: {_named(supervisor)}")
        return 0
    if supervisor.running().lives:
        print(
            f"main_app runs ({_named(supervisor)}), but has not reported within {BEAT_S:.0f} s; "
            f"see {settings.run_dir}, or try: dca doctor",
            file=sys.stderr,
        )
        return 75
    clock, pause = wiring.clock(settings), threading.Event()
    limit = clock.monotonic() + NOTED_WITHIN_S
    # It lets go of its lock a moment before it notes how it ended.
    while (code := _code(supervisor, launch)) is None and clock.monotonic() < limit:
        pause.wait(LOOK_S)
    print(f"main_app ended with exit code {code}:\n{supervisor.said()}", file=sys.stderr)
    return code if code is not None and code > 0 else 1


def _code(supervisor: Supervisor, launch: Launch) -> int | None:
    """How it ended, as far as anybody saw or noted."""
    noted = [one.code for one in supervisor.memory().launches if one.identity == launch.identity]
    return launch.code if launch.code is not None or not noted else noted[-1]


def _reports(settings: env.Settings, supervisor: Supervisor, launch: Launch) -> bool:
    """Whether its first heartbeat came before its end, and soon."""
    clock, pause = wiring.clock(settings), threading.Event()
    limit = clock.monotonic() + BEAT_S
    while clock.monotonic() < limit and supervisor.running().lives:
        if _has_reported(settings, launch):
            return True
        pause.wait(LOOK_S)
    return False


def _has_reported(settings: env.Settings, launch: Launch) -> bool:
    try:
        with wiring.opened(settings) as store:
            beats = store.read(lambda tx: tx.heartbeats())
    except StoreUnavailable:
        return False
    return any(beat.detail.get("identity") == launch.identity for beat in beats)


def _named(supervisor: Supervisor) -> str:
    process = supervisor.running().process
    return "process unknown" if process is None else f"process {process.pid}"
