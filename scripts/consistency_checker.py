"""Compares the books with the venue: books missed fills, frees stuck cycles, halts what it cannot explain.

From cron, every 5 minutes.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from dca.apps.caretaking import main

if __name__ == "__main__":
    sys.exit(main("consistency_checker", __doc__))
