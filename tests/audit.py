"""`make check` asks whether a package of requirements.lock has a known hole.

The list of known holes is a service's, so this needs the network. Where nobody can be asked it says so
and lets the rest go on: a check that fails without a network would soon be left out.
"""

import json
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TOOL = "pip-audit==2.10.1"
PLACE = ROOT / ".venv" / "audit"
"""Apart from the program, so that what the tool pulls in is nobody else's."""
PATIENCE_S = 60


def main() -> int:
    """1 when a package has a known hole; 0 when none has, or nobody could be asked."""
    told = _told()
    holes, unknown = judged(told)
    for hole in holes:
        print(hole, file=sys.stderr)
    if unknown:
        print(f"known holes: nobody could be asked about {unknown} packages", file=sys.stderr)
    elif not holes:
        print("known holes: none")
    return 1 if holes else 0


def judged(told: Sequence[dict[str, Any]] | None) -> tuple[list[str], str]:
    """A line for each known hole, and of how many packages nothing was said; empty: of none."""
    if told is None:
        return [], "all"
    holes = [
        f"{one['name']} {one['version']} has the known hole {hole['id']}: "
        f"{'mended in ' + ', '.join(hole['fix_versions']) if hole['fix_versions'] else 'not mended yet'}"
        for one in told
        for hole in one.get("vulns", [])
    ]
    skipped = sum("skip_reason" in one for one in told)
    return holes, str(skipped) if skipped else ""


def _told() -> list[dict[str, Any]] | None:
    """What the tool says of each package; None when it could not be installed or had no answer."""
    try:
        if not (PLACE / "ready").exists():
            venv.create(PLACE, with_pip=True, clear=True)
            _run("-m", "pip", "install", "--quiet", "--disable-pip-version-check", TOOL).check_returncode()
            (PLACE / "ready").touch()
        lock = ("--disable-pip", "--require-hashes", "--requirement", str(ROOT / "requirements.lock"))
        answer = _run("-m", "pip_audit", "--format", "json", "--progress-spinner", "off", *lock)
        packages: list[dict[str, Any]] = json.loads(answer.stdout)["dependencies"]
    except (OSError, subprocess.SubprocessError, json.JSONDecodeError, KeyError):
        return None
    return packages


def _run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [str(PLACE / "bin" / "python"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)


if __name__ == "__main__":
    sys.exit(main())
