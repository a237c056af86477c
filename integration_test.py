"""Named end-to-end scenarios with the real streamer: on the offline paper exchange, or on Alpaca.

    python integration_test.py                     every scenario, offline, no keys needed
    python integration_test.py --list              their names
    python integration_test.py --only take_profit
    python integration_test.py --venue alpaca      those that a paper account allows; reads .env

Exit code 0 when every scenario passed, 1 when one failed, 78 when a setting must be fixed.
"""

import argparse
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "src"))

from dca.apps.scenarios import SCENARIOS, Scenario
from dca.domain.errors import ConfigError, DcaError


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true", help="print the scenarios and end")
    parser.add_argument("--only", metavar="NAME", action="append", help="run this one; may be repeated")
    parser.add_argument("--venue", choices=["paper", "alpaca"], default="paper")
    options = parser.parse_args()
    wanted = [one for one in SCENARIOS if options.venue == "paper" or one.alpaca]
    if options.only:
        unknown = set(options.only) - {one.name for one in wanted}
        if unknown:
            parser.error(f"no scenario {', '.join(sorted(unknown))} for {options.venue}; see --list")
        wanted = [one for one in wanted if one.name in options.only]
    if options.list:
        print("\n".join(f"{one.name:<18} {one.words}" for one in wanted))
        return 0
    return _run(wanted, options.venue)


def _run(scenarios: list[Scenario], venue: str) -> int:
    logging.getLogger("dca").addHandler(logging.NullHandler())
    failed = 0
    for scenario in scenarios:
        try:
            scenario.run(venue)
        except ConfigError as error:
            print(f"integration_test: {error}", file=sys.stderr)
            return 78
        except DcaError as error:
            failed += 1
            print(f"FAILED  {scenario.name}: {error}", flush=True)
        else:
            print(f"passed  {scenario.name}: {scenario.words}", flush=True)
    print(f"{len(scenarios) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
