"""Wakes cycles whose cooldown has passed, or whose price has fallen far enough.

From cron, every minute.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from dca.apps.caretaking import main

if __name__ == "__main__":
    sys.exit(main("cooldown_manager", __doc__))
