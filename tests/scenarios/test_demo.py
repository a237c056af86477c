"""The demo as a person starts it: a process of its own, its output and its exit code."""

import json
import subprocess
import sys
from pathlib import Path

from dca.apps.world import SOURCE

WINDOW = ["--start", "2023-03-09T12:00", "--end", "2023-03-10T03:00"]


def demo(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dca.apps.cli", "demo", *WINDOW, *options],
        capture_output=True,
        text=True,
        timeout=120,
        env={"PYTHONPATH": str(SOURCE)},
    )


def test_it_trades_accounts_for_every_cent_and_says_so(tmp_path: Path) -> None:
    ended = demo("--json", "--keep", str(tmp_path / "kept"))
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert report["holds"] is True
    assert report["unexplained"] == "0.00"
    assert report["violations"] == []
    assert report["orders"]["base"]["filled"] >= 1
    assert report["checks_total"] > 20
    assert (report["restarts"], len(report["disturbances"])) == (1, 2)
    assert "SIGKILL" in report["disturbances"][0] and "SIGKILL" in ended.stderr
    assert report["caretakers"]["watchdog"]["repairs"] == 1
    assert set(report["caretakers"]) >= {"order_manager", "consistency_checker", "notifier"}
    assert "100%" in ended.stderr, "without a terminal there are plain lines"
    assert (tmp_path / "kept" / "dca.sqlite3").exists()
    assert (tmp_path / "kept" / "main.log").exists()
