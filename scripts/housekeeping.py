"""Rotates logs, prunes old rows, makes a backup. From cron, once a day."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from dca.apps.caretaking import main

if __name__ == "__main__":
    sys.exit(main("housekeeping", __doc__))
