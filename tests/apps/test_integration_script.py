"""`integration_test.py` as a person runs it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "integration_test.py"), *options],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT / "tests",
        env={"DCA_ENV_FILE": "/nowhere"},
    )


def test_it_lists_its_scenarios() -> None:
    listed = run("--list").stdout
    assert "take_profit" in listed and "killed" in listed
    assert "take_profit" not in run("--list", "--venue", "alpaca").stdout


def test_one_scenario_runs_offline_without_keys() -> None:
    ended = run("--only", "order_and_cancel", "--only", "quotes")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "2 passed, 0 failed" in ended.stdout


def test_an_unknown_scenario_is_refused() -> None:
    assert run("--only", "nonsense").returncode == 2


def test_a_real_account_needs_keys() -> None:
    ended = run("--venue", "alpaca")
    assert ended.returncode == 78
    assert "APCA_API_KEY_ID is missing" in ended.stderr
