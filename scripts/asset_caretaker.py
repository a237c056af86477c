"""Gives every enabled asset that has no cycle one. From cron, every 5 minutes."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from dca.apps.caretaking import main

if __name__ == "__main__":
    sys.exit(main("asset_caretaker", __doc__))
