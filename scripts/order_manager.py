"""Settles orders in flight, cancels stale buys and orphans, sells again what is stuck.

From cron, every minute.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from dca.apps.caretaking import main

if __name__ == "__main__":
    sys.exit(main("order_manager", __doc__))
