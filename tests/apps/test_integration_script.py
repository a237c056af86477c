"""`integration_test.py` as a person runs it."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal as D
from pathlib import Path

import pytest

from dca.adapters.clock import SystemClock
from dca.paper.config import PaperConfig
from dca.paper.prices import Walk
from dca.paper.serve import Running, running

ROOT = Path(__file__).parents[2]
SCRIPT = str(ROOT / "integration_test.py")
ENVIRONMENT = {"DCA_ENV_FILE": "/nowhere"}
ALLOWED_S = 120


def run(*options: str, cwd: Path = ROOT / "tests") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *options],
        capture_output=True,
        text=True,
        timeout=2 * ALLOWED_S,
        cwd=cwd,
        env=ENVIRONMENT,
    )


def test_it_lists_its_scenarios() -> None:
    listed = run("--list").stdout
    assert "take_profit" in listed and "killed" in listed
    assert "take_profit" not in run("--list", "--venue", "alpaca").stdout


def test_an_unknown_scenario_is_refused() -> None:
    assert run("--only", "nonsense").returncode == 2


@pytest.mark.alone
def test_every_scenario_passes_in_time(request: pytest.FixtureRequest, database_url: str) -> None:
    """With no keys, in under two minutes, on each database."""
    begun = time.monotonic()
    options = [] if database_url.startswith("sqlite") else ["--database-url", database_url]
    ended = run(*options)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert " 0 failed" in ended.stdout
    assert time.monotonic() - begun < ALLOWED_S


class TestAccount:
    """`--venue alpaca`, on an exchange that speaks as Alpaca does: only the address is another."""

    def test_it_needs_keys(self, tmp_path: Path) -> None:
        ended = run("--venue", "alpaca", cwd=tmp_path)
        assert ended.returncode == 78
        assert ".env.test is missing" in ended.stderr

    def test_real_money_is_refused_even_when_armed(self, tmp_path: Path) -> None:
        write_env(tmp_path, "https://api.alpaca.markets", "LIVE_TRADING=armed\nLIVE_ACCOUNT=1")
        ended = run("--venue", "alpaca", cwd=tmp_path)
        assert ended.returncode == 78
        assert "not a paper address" in ended.stderr

    def test_it_trades_little_touches_its_own_and_cleans_up(self, tmp_path: Path) -> None:
        with account(tmp_path) as venue:
            ended = run("--venue", "alpaca", "--only", "operator", "--only", "cooldown", cwd=tmp_path)
            assert ended.returncode == 0, ended.stdout + ended.stderr
            assert_clean(venue)

    def test_an_interrupt_cleans_up_too(self, tmp_path: Path) -> None:
        with account(tmp_path) as venue:
            begun = subprocess.Popen(
                [sys.executable, SCRIPT, "--venue", "alpaca", "--only", "operator"],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=tmp_path,
                env=ENVIRONMENT,
            )
            limit = time.monotonic() + 60
            while not venue.control.status()["executions"]:
                assert time.monotonic() < limit and begun.poll() is None, begun.communicate()
                time.sleep(0.02)
            begun.send_signal(signal.SIGTERM)
            _, said = begun.communicate(timeout=60)
            assert begun.returncode == 130, said
            assert_clean(venue)


def write_env(folder: Path, base_url: str, *more: str) -> None:
    host = base_url.partition("://")[2]
    lines = [
        "APCA_API_KEY_ID=PAPER",
        "APCA_API_SECRET_KEY=paper-secret",
        f"APCA_API_BASE_URL={base_url}",
        *(
            [f"APCA_API_DATA_URL={base_url}", f"APCA_API_DATA_STREAM_URL=ws://{host}/v1beta3/crypto/us"]
            if "127" in host
            else []
        ),
        *more,
    ]
    (folder / ".env.test").write_text("\n".join(lines) + "\n")


@contextmanager
def account(folder: Path) -> Iterator[Running]:
    """An account whose keys are in `.env.test`."""
    config = PaperConfig(cash=D(1000), sources=(Walk("BTC/USD", D(20_000)),))
    with running(config, SystemClock()) as venue:
        write_env(folder, venue.base_url)
        yield venue


def assert_clean(venue: Running) -> None:
    status, ledger = venue.control.status(), venue.control.ledger()
    assert status["open_orders"] == 0
    assert D(ledger["coins"].get("BTC/USD", "0")) * 20_000 < 1, "more than dust is left"
    spent = [
        D(row["body"]["qty"]) * D(row["body"]["limit_price"]) for row in venue.control.log() if buys(row)
    ]
    assert spent and max(spent) <= 13, "it traded more than the minimum"


def buys(row: dict[str, object]) -> bool:
    body = row.get("body")
    return (
        row["kind"] == "request"
        and row["method"] == "POST"
        and isinstance(body, dict)
        and body.get("side") == "buy"
    )
