"""What is installed is what was locked; what runs needs no rights that it can do without."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import audit
import databases
import pytest
from build import T0, rules
from sqlalchemy import make_url

from dca.adapters.clock import SystemClock
from dca.adapters.db import migrate
from dca.adapters.db.store import SqlStore
from dca.adapters.process import root_complaint
from dca.domain.cycle import CycleStatus
from dca.domain.errors import DcaError
from dca.domain.record import Heartbeat
from dca.service import lease

ROOT = Path(__file__).parents[2]
PIN = re.compile(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)", re.M)


def pins(file: str) -> dict[str, str]:
    found = PIN.findall((ROOT / file).read_text())
    return {name.lower().replace("_", "-"): version for name, version in found}


def test_the_lock_holds_every_requirement_with_the_hashes_of_its_files() -> None:
    wanted, locked = pins("requirements.txt"), pins("requirements.lock")
    assert wanted.items() <= locked.items(), "make lock"
    assert locked.keys() - wanted.keys() <= {"colorama"}, (
        "requirements.txt does not name what else is pulled in"
    )
    entries = re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text())
    for entry in entries:
        if not entry.startswith("#"):
            assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), entry.splitlines()[0]


def test_every_requirement_is_one_version() -> None:
    lines = [line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    assert all(PIN.match(line) for line in lines if line)


@pytest.mark.parametrize(
    ("told", "holes", "unknown"),
    [
        (None, 0, "all"),
        ([{"name": "a", "version": "1", "vulns": []}], 0, ""),
        ([{"name": "a", "skip_reason": "not found"}, {"name": "b", "version": "1", "vulns": []}], 0, "1"),
        ([{"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}], 1, ""),
        ([{"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": []}]}], 1, ""),
    ],
    ids=["nobody answers", "all is well", "one is unknown", "mended", "not mended"],
)
def test_a_known_hole_fails_the_check_and_an_unknown_one_is_said(
    told: Any, holes: int, unknown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, silent = audit.judged(told)
    assert (len(found), silent) == (holes, unknown)
    monkeypatch.setattr(audit, "_told", lambda: told)
    assert audit.main() == bool(holes)


def test_the_image_installs_what_is_locked() -> None:
    assert (
        "pip install --no-cache-dir --require-hashes -r requirements.lock"
        in (ROOT / "compose.yaml").read_text()
    )


@pytest.mark.parametrize(("user", "complains"), [(0, True), (1000, False)])
def test_whoever_runs_as_root_is_told(monkeypatch: pytest.MonkeyPatch, user: int, complains: bool) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert (root_complaint() is not None) is complains


def granted() -> str:
    """The rights that the document says are enough for trading."""
    found = re.search(r"^GRANT (.+) ON dca\.\*", (ROOT / "docs/operations.md").read_text(), re.M)
    assert found is not None
    return found[1]


@pytest.fixture
def poor_url(mariadb: databases.Mariadb, mariadb_url: str) -> Iterator[str]:
    name = make_url(mariadb_url).database
    mariadb.run("CREATE USER 'least'@'127.0.0.1' IDENTIFIED BY 'least-password'")
    mariadb.run(f"GRANT {granted()} ON {name}.* TO 'least'@'127.0.0.1'")
    url = make_url(mariadb_url).set(username="least", password="least-password")
    yield url.render_as_string(hide_password=False)
    mariadb.run("DROP USER 'least'@'127.0.0.1'")


def test_the_rights_that_the_document_names_are_enough_and_no_more(poor_url: str) -> None:
    store = SqlStore(poor_url)
    asset = store.write(lambda tx: tx.insert_asset("BTC/USD", rules(), is_enabled=True, at=T0))
    assert asset is not None
    store.write(lambda tx: tx.insert_cycle(asset.id, CycleStatus.WATCHING, at=T0))
    beat = Heartbeat(name="streamer", at=T0, detail={})
    store.write(lambda tx: tx.beat(beat))
    taken = lease.take(store, SystemClock(), "streamer", "host/1/2", lambda _: True, ttl_s=30)
    assert taken is not None and len(store.read(lambda tx: tx.situations())) == 1
    store.close()
    name = make_url(poor_url).database
    with pytest.raises(DcaError):
        migrate.upgrade(poor_url.replace(str(name), f"{name}_more"))


FORBIDDEN = {
    "S608": 'query = f"SELECT * FROM dca_assets WHERE asset_symbol = {symbol}"',
    "S602": 'subprocess.run("ls " + symbol, shell=True)',
    "S307": "eval(symbol)",
    "S301": "pickle.loads(symbol)",
    "S506": "yaml.load(symbol, Loader=yaml.UnsafeLoader)",
    "S501": "requests.get(symbol, verify=False, timeout=1)",
    "S113": "requests.get(symbol)",
    "S311": "secret = random.random()",
    "S306": "tempfile.mktemp()",
    "S104": 'server.bind(("0.0.0.0", 80))',
}


def test_the_lint_refuses_what_is_dangerous() -> None:
    """Each rule is switched on for the program, and finds what it is there for."""
    names = "import pickle, random, requests, subprocess, tempfile, yaml\n"
    code = names + "def f(symbol, server):\n" + "".join(f"    {line}\n" for line in FORBIDDEN.values())
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "ruff",
            "check",
            "--output-format",
            "json",
            "--stdin-filename",
            "src/dca/x.py",
            "-",
        ],
        input=code,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    found = {one["code"]: one["location"]["row"] for one in json.loads(ran.stdout)}
    assert {rule: found.get(rule) for rule in FORBIDDEN} == {
        rule: row for row, rule in enumerate(FORBIDDEN, start=3)
    }


def test_what_is_secret_or_ours_alone_is_not_committed() -> None:
    private = [".env", "dca.sqlite3", "dca.sqlite3-wal", "logs/main.log", "backups/dca.gz"]
    ran = subprocess.run(["git", "check-ignore", *private], capture_output=True, text=True, cwd=ROOT)
    if ran.returncode == 128:
        pytest.skip("this is no git checkout")
    assert ran.stdout.split() == private
    example = (ROOT / ".env.example").read_text()
    assert re.findall(r"^(APCA_API_\w*(?:KEY|SECRET)\w*)=(.+)$", example, re.M) == []
