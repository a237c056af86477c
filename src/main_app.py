"""The streamer: trades every enabled asset until it is stopped.

Exit codes: 0 stopped on request, 75 try later (another instance runs), 78 a setting must be fixed.
"""

import asyncio
import logging
import os
import signal
import sys
import threading

from dca import wiring
from dca.adapters.process import AlreadyRunning, keep_private
from dca.adapters.supervise import DETACHED
from dca.domain.errors import ConfigError, StoreUnavailable
from dca.service.lease import LeaseTaken
from dca.settings import Settings, load

log = logging.getLogger("main_app")
STOP_WITHIN_S = 4.8


async def trade(settings: Settings) -> None:
    """Runs the engine until SIGINT or SIGTERM."""
    stop = asyncio.Event()

    def stopping() -> None:
        log.info("stopping")
        stop.set()
        # A call that hangs outside must not hold up the exit: the journal already knows it.
        deadline = threading.Timer(STOP_WITHIN_S, os._exit, (0,))
        deadline.daemon = True
        deadline.start()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping)
    await wiring.run_streamer(settings, stop)


def main() -> int:
    keep_private()
    settings = None
    try:
        settings = load()
        wiring.start_logging("main_app", settings, terminal=DETACHED not in sys.argv)
        asyncio.run(trade(settings))
        code = 0
    except (ConfigError, AlreadyRunning, LeaseTaken, StoreUnavailable) as error:
        print(f"main_app: {error}", file=sys.stderr)
        code = 78 if isinstance(error, ConfigError) else 75
    if settings is not None:
        wiring.streamer_ended(settings, code)
    return code


if __name__ == "__main__":
    sys.exit(main())
