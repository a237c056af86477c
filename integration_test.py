"""Named end-to-end scenarios with the real streamer and scripts: offline, or on an Alpaca account.

    python integration_test.py                     every scenario, offline, no keys needed
    python integration_test.py --list              their names
    python integration_test.py --only take_profit
    python integration_test.py --database-url mysql://dca:password@127.0.0.1:3306/dca_test
    python integration_test.py --venue alpaca      those that a paper account allows, with the keys
                                                   in .env.test; it trades the minimum and cleans up

Exit code 0 when every scenario passed, 1 when one failed, 78 when a setting must be fixed.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "src"))

from dca.apps.playing import play
from dca.apps.scenarios import SCENARIOS


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true", help="print the scenarios and end")
    parser.add_argument("--only", metavar="NAME", action="append", help="run this one; may be repeated")
    parser.add_argument("--venue", choices=["local", "alpaca"], default="local")
    parser.add_argument(
        "--database-url", help="an empty database for each local scenario is made beside this one"
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="local scenarios at once (default: one a core)"
    )
    options = parser.parse_args()
    wanted = [one for one in SCENARIOS if options.venue == "local" or one.alpaca]
    if options.only:
        unknown = set(options.only) - {one.name for one in wanted}
        if unknown:
            parser.error(f"no scenario {', '.join(sorted(unknown))} for {options.venue}; see --list")
        wanted = [one for one in wanted if one.name in options.only]
    if options.list:
        print("\n".join(f"{one.name:<18} {one.words}" for one in wanted))
        return 0
    return play(wanted, options.venue, database_url=options.database_url, jobs=options.jobs)


if __name__ == "__main__":
    sys.exit(main())
