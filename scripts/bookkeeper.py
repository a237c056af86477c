"""Counts the account and keeps its history, so that every cent can be explained. From cron, hourly."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from dca.apps.caretaking import main

if __name__ == "__main__":
    sys.exit(main("bookkeeper", __doc__))
