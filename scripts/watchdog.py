"""Keeps the streamer running: starts it when it is dead, restarts it when it is not well.

From cron, every minute.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from dca.apps.caretaking import main

if __name__ == "__main__":
    sys.exit(main("watchdog", __doc__))
