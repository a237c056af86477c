"""A bad `.env`: every program ends with exit code 78 and one line that shows no value."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dca.apps.world import SCRIPTS, SOURCE

KEYS = "APCA_API_KEY_ID=canary-key\nAPCA_API_SECRET_KEY=canary-secret\n"
GOOD = f"{KEYS}APCA_API_BASE_URL=http://127.0.0.1:9\n"
LIVE = f"{KEYS}APCA_API_BASE_URL=https://api.alpaca.markets\nLIVE_TRADING=armed\nLIVE_ACCOUNT=1\n"
PROGRAMS = {
    "main_app": [str(SOURCE / "main_app.py")],
    "order_manager": [str(SCRIPTS / "order_manager.py")],
    "dca": ["-m", "dca.apps.cli", "asset", "add", "BTC/USD"],
}
POWERS = "-dac_override,-dac_read_search"


def run(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    """The program as cron would start it: an empty environment, the folder with its `.env`, and no
    power to read what is not for it."""
    powerless = ["setpriv", f"--bounding-set={POWERS}", f"--inh-caps={POWERS}"]
    return subprocess.run(
        [*(powerless if os.geteuid() == 0 else []), sys.executable, *PROGRAMS[program]],
        env={"PYTHONPATH": str(SOURCE), "PATH": os.environ["PATH"]},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def refused(folder: Path, program: str, *words: str) -> None:
    ended = run(folder, program)
    (line,) = [line for line in ended.stderr.splitlines() if "runs_as_root" not in line]
    assert ended.returncode == 78, line
    assert all(word in line for word in words), line
    assert "canary" not in ended.stdout + ended.stderr
    left = [path for path in folder.rglob("*") if path.is_file() and path.name != ".env"]
    assert not [path for path in left if "sqlite" in path.name], "no database is made"
    assert "canary" not in "".join(path.read_text() for path in left)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_missing_one(tmp_path: Path, program: str) -> None:
    refused(tmp_path, program, "APCA_API_KEY_ID is missing", "APCA_API_SECRET_KEY is missing")


def test_an_unreadable_one(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(GOOD)
    (tmp_path / ".env").chmod(0)
    refused(tmp_path, "main_app", ".env cannot be read", "chmod 600")


def test_a_folder(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    refused(tmp_path, "order_manager", ".env cannot be read")


@pytest.mark.parametrize("program", ["main_app", "order_manager"])
def test_one_that_others_may_read_while_real_money_is_traded(tmp_path: Path, program: str) -> None:
    (tmp_path / ".env").write_text(LIVE)
    (tmp_path / ".env").chmod(0o644)
    refused(tmp_path, program, "chmod 600 .env", "real money")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (GOOD.encode("utf-16"), ["not UTF-8"]),
        (f"{GOOD}DATABASE_URL='canary\n".encode(), [".env, line 4", "NAME=value"]),
        (
            f"{GOOD}GRACE_S=canary\nMAX_OPEN_ORDERS=0\n".encode(),
            ["GRACE_S must be", "MAX_OPEN_ORDERS must be"],
        ),
        (
            f"{KEYS}APCA_API_BASE_URL=https://api.alpaca.markets\n".encode(),
            ["APCA_API_BASE_URL", "LIVE_TRADING"],
        ),
        (f"{KEYS}APCA_API_BASE_URL=http://canary.example\n".encode(), ["APCA_API_BASE_URL must be https://"]),
        (f"{GOOD}DATABASE_URL=oracle://canary@example/x\n".encode(), ["DATABASE_URL"]),
    ],
)
def test_a_wrong_one(tmp_path: Path, content: bytes, words: list[str]) -> None:
    (tmp_path / ".env").write_bytes(content)
    (tmp_path / ".env").chmod(0o600)
    refused(tmp_path, "main_app", *words)


def test_one_from_another_system_is_read_all_the_same(tmp_path: Path) -> None:
    """With a mark of its byte order, and lines that end in two characters."""
    text = f'{KEYS}DATABASE_URL="sqlite:///nowhere/dca.sqlite3"\n'.replace("\n", "\r\n")
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (tmp_path / ".env").chmod(0o600)
    ended = run(tmp_path, "order_manager")
    assert (ended.returncode, "dca db upgrade" in ended.stderr) == (78, True), ended.stderr
