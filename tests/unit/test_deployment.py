"""What is written for other programs to read: systemd's units, Docker's compose file, sd_notify."""

import asyncio
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dca import settings as env
from dca.adapters.sdnotify import supervised, tell
from dca.apps.commands.cron import DAILY, EVERY_5_MINUTES, EVERY_MINUTE, HOURLY, SCHEDULE
from dca.domain.errors import ConfigError

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "systemd").iterdir())
TIMERS = {
    EVERY_MINUTE: "dca-minute@",
    EVERY_5_MINUTES: "dca-5minutes@",
    HOURLY: "dca-hourly@",
    DAILY: "dca-daily@",
}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    for unit in UNITS:
        text = unit.read_text().replace("/opt/dca/.venv/bin/python", sys.executable)
        (tmp_path / unit.name).write_text(text.replace("/opt/dca", str(ROOT)))
    instances = [f"{TIMERS[when]}{script}.timer" for script, when in SCHEDULE.items()]
    services = ["dca.service", "dca-caretaker@watchdog.service"]
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *[str(tmp_path / name) for name in services + instances]],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert checked.returncode == 0, checked.stderr
    # It tells of keys it does not know, and says that all is well.
    assert "dca" not in checked.stderr, checked.stderr


def test_the_timers_that_the_service_names_are_cron_s_lines() -> None:
    enabled = set(re.findall(r"dca-\w+@\w+\.timer", (ROOT / "systemd" / "dca.service").read_text()))
    assert enabled == {f"{TIMERS[when]}{script}.timer" for script, when in SCHEDULE.items()}
    minute, hour, *_ = DAILY.split()
    daily = (ROOT / "systemd" / "dca-daily@.timer").read_text()
    assert f"OnCalendar=*-*-* {int(hour):02}:{int(minute):02}:00" in daily
    hourly = (ROOT / "systemd" / "dca-hourly@.timer").read_text()
    assert f"OnCalendar=*:{HOURLY.split()[0]}:00" in hourly


def compose() -> Any:
    return yaml.safe_load((ROOT / "compose.yaml").read_text())


def test_the_compose_file_runs_a_database_the_streamer_and_its_caretakers() -> None:
    services = compose()["services"]
    assert set(services) == {"database", "streamer", "caretakers"}
    assert services["streamer"]["depends_on"]["database"]["condition"] == "service_healthy"
    assert services["streamer"]["command"].endswith("exec python src/main_app.py'"), "it gets the signals"
    named = {volume.partition(":")[0] for one in services.values() for volume in one.get("volumes", [])}
    assert named == set(compose()["volumes"])
    text = (ROOT / "compose.yaml").read_text()
    assert all(name == "DB_PASSWORD" for name in re.findall(r"(?<!\$)\$\{(\w+)", text))


def test_the_loop_of_the_compose_file_keeps_cron_s_schedule() -> None:
    """Run by the shell, with `sleep` and `python` that only say what they were asked."""
    _, _, loop = compose()["services"]["caretakers"]["command"]
    asked = (
        "n=0; sleep() { n=$((n + 1)); [ $n -le 1442 ]; }; "
        'python() { name=${1#scripts/}; echo "$((n - 1)) ${name%.py}"; }\n'
    )
    ran = subprocess.run(
        ["sh", "-c", asked + loop.replace("$$", "$")], capture_output=True, text=True, check=True
    )
    minutes: dict[str, list[int]] = {}
    for line in ran.stdout.splitlines():
        minute, name = line.split()
        minutes.setdefault(name, []).append(int(minute))
    every = {EVERY_MINUTE: 1, EVERY_5_MINUTES: 5, HOURLY: 60, DAILY: 1440}
    wanted = {
        script: list(range(0, 1442, every[when])) for script, when in SCHEDULE.items() if script != "watchdog"
    }
    assert minutes == wanted


def test_what_the_image_is_made_of_is_there() -> None:
    inline = compose()["services"]["streamer"]["build"]["dockerfile_inline"]
    copied = [word for line in re.findall(r"^COPY (.+) \S+$", inline, re.M) for word in line.split()]
    assert copied
    assert [name for name in copied if not (ROOT / name).exists()] == []


KEYS = {"APCA_API_KEY_ID": "x", "APCA_API_SECRET_KEY": "y", "DCA_ENV_FILE": "/nowhere"}


def test_what_systemd_sets_is_read() -> None:
    plain = env.load(KEYS)
    assert (plain.watchdog_may_start, plain.systemd_socket, plain.systemd_watchdog_s) == (True, None, None)
    told = {"WATCHDOG_MAY_START": "no", "NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "60000000"}
    under = env.load({**KEYS, **told})
    assert (under.watchdog_may_start, under.systemd_socket, under.systemd_watchdog_s) == (
        False,
        "/run/notify",
        60.0,
    )
    with pytest.raises(ConfigError, match="WATCHDOG_MAY_START must be yes or no"):
        env.load({**KEYS, "WATCHDOG_MAY_START": "perhaps"})


@pytest.fixture
def systemd(tmp_path: Path) -> Any:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.bind(str(tmp_path / "notify"))
        link.settimeout(5)
        yield link


def test_systemd_hears_of_the_start_of_the_loop_and_of_the_end(systemd: socket.socket) -> None:
    heard = []

    async def live() -> None:
        async with supervised(systemd.getsockname(), 0.02):
            for _ in range(4):
                heard.append(await asyncio.to_thread(systemd.recv, 99))

    asyncio.run(live())
    assert heard == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1", b"WATCHDOG=1"]
    while (last := systemd.recv(99)) == b"WATCHDOG=1":
        pass
    assert last == b"STOPPING=1"


def test_without_systemd_or_with_one_that_is_gone_nothing_happens(tmp_path: Path) -> None:
    async def live() -> None:
        async with supervised(None, None):
            pass
        async with supervised(str(tmp_path / "nobody"), None):
            pass

    asyncio.run(live())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has abstract addresses")
def test_an_address_of_the_abstract_namespace() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.bind("\0dca-test-notify")
        link.settimeout(5)
        tell("@dca-test-notify", "READY=1")
        assert link.recv(99) == b"READY=1"
