"""Secrets in every setting, everything started that there is, good days and bad: nothing shows."""

import gzip
import os
import re
import secrets
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from urllib.parse import quote

import databases
import pytest
from build import rules
from messenger import People, served
from sqlalchemy import make_url

from dca.adapters.clock import SystemClock
from dca.adapters.db.backup import BackupFolder
from dca.apps.market import waited
from dca.apps.world import SCRIPTS, SOURCE, World
from dca.paper.config import PaperConfig
from dca.paper.serve import Running, running

PATIENCE_S = 30.0
CARETAKERS = sorted(path.stem for path in SCRIPTS.glob("*.py"))
USER = "dca_canary"
NAMES = ("key", "secret", "wrong", "database", "token", "query", "file")


@dataclass
class Canaries:
    """A secret for each setting. In every form of each, at least its `word` can be told from others."""

    words: dict[str, str] = field(
        default_factory=lambda: {name: f"canary{name}{secrets.token_hex(8)}" for name in NAMES}
    )

    def __getitem__(self, name: str) -> str:
        """With signs that are written differently in addresses, JSON and HTML."""
        return f'{self.words[name]}/+="%\\'

    def found_in(self, data: bytes) -> set[str]:
        """The names of those that show, in whatever form."""
        text = data.decode("utf-8", "replace")
        return {
            name
            for name, word in self.words.items()
            if word in text.lower() or any(core in text for core in _coded(word))
        }


def _coded(word: str) -> list[str]:
    """What base64 makes of `word`, wherever it stands in what is coded."""
    texts = [(skip, b64encode(b"k" * skip + word.encode() + b"kk").decode()) for skip in range(3)]
    cores = [text[(0, 2, 3)[skip] : -5] for skip, text in texts]
    return [*cores, *(core.replace("+", "-").replace("/", "_") for core in cores)]


@dataclass
class Said:
    """Everything that anybody could read: files, output, command lines."""

    canaries: Canaries
    output: dict[str, bytes] = field(default_factory=dict)
    command_lines: set[bytes] = field(default_factory=set)

    def look(self, over: threading.Event) -> None:
        """What `ps` would show of every process meanwhile."""
        while not over.wait(0.05):
            for place in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.command_lines.add(place.read_bytes())
                except OSError:
                    continue

    def leaks(self, folder: Path) -> dict[str, set[str]]:
        """Where a secret shows, and which."""
        files = {str(path): _content(path) for path in folder.rglob("*") if path.is_file()}
        lines = {"ps": b"\n".join(self.command_lines)}
        found = {
            where: self.canaries.found_in(data) for where, data in {**files, **self.output, **lines}.items()
        }
        return {where: names for where, names in found.items() if names}


def _content(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


@pytest.fixture(autouse=True)
def _open_by_default() -> Iterator[None]:
    """As most accounts are: what is private is so because a program made it so."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def canaries() -> Canaries:
    return Canaries()


@pytest.fixture
def exchange(canaries: Canaries) -> Iterator[Running]:
    config = PaperConfig(key=canaries["key"], secret=canaries["secret"], cash=Decimal(10_000))
    with running(config, SystemClock()) as started:
        quote_now(started)
        yield started


def quote_now(exchange: Running) -> None:
    exchange.call(lambda control: control.quote("BTC/USD", Decimal(20_000), Decimal(20_003)))


@pytest.fixture
def people() -> Iterator[People]:
    with served(People(answer=lambda path: 500 if "bad" in path else 200)) as started:
        yield started


@pytest.fixture
def database_url(canaries: Canaries, mariadb: databases.Mariadb, mariadb_url: str) -> Iterator[str]:
    """The address of a database that only the canary opens."""
    password = canaries["database"]
    in_sql = password.replace("\\", "\\\\").replace("'", "''")
    mariadb.run(f"CREATE USER '{USER}'@'127.0.0.1' IDENTIFIED BY '{in_sql}'")
    mariadb.run(f"GRANT ALL ON *.* TO '{USER}'@'127.0.0.1'")
    url = make_url(mariadb_url).set(username="u", password="p").render_as_string(hide_password=False)
    yield url.replace("u:p@", f"{USER}:{quote(password, safe='')}@")
    mariadb.run(f"DROP USER '{USER}'@'127.0.0.1'")


@pytest.fixture
def environment(
    canaries: Canaries, exchange: Running, people: People, database_url: str, tmp_path: Path
) -> dict[str, str]:
    word = canaries.words
    place = f"127.0.0.1:{people.port}"
    password = quote(canaries["token"], safe="")
    good = f"json://{word['token']}:{password}@{place}/{word['token']}?-a={word['query']}"
    return {
        "PYTHONPATH": str(SOURCE),
        "PATH": os.environ["PATH"],
        "DCA_ENV_FILE": os.devnull,
        "APCA_API_KEY_ID": canaries["key"],
        "APCA_API_SECRET_KEY": canaries["secret"],
        "APCA_API_BASE_URL": exchange.base_url,
        "APCA_API_DATA_URL": exchange.base_url,
        "APCA_API_STREAM_URL": exchange.trade_url,
        "APCA_API_DATA_STREAM_URL": exchange.data_url,
        "DATABASE_URL": database_url,
        "DCA_RUN_DIR": str(tmp_path / "run"),
        "BACKUP_DIR": str(tmp_path / "run" / "backups"),
        "NOTIFY_URLS": f"{good} {good}-bad",
        "LOG_LEVEL": "DEBUG",
        "RECONCILE_EVERY_S": "0.5",
        "REQUEST_TIMEOUT_S": "2",
    }


@contextmanager
def world(folder: Path, environment: dict[str, str]) -> Iterator[World]:
    with World(folder=folder, environment=environment) as started:
        yield started


def keep(said: Said, what: str, ended: "subprocess.CompletedProcess[str]", *codes: int) -> None:
    said.output[what] = (ended.stdout + ended.stderr).encode()
    assert ended.returncode in codes, f"{what}: {ended.returncode} {ended.stderr}"


def bad_days(run: World, said: Said) -> None:
    """Keys and passwords that are refused, servers that are gone, a file that cannot be read."""
    wrong = said.canaries["wrong"]
    run.start_streamer(APCA_API_SECRET_KEY=wrong)
    assert run.streamer is not None and run.streamer.wait(PATIENCE_S) == 78
    keep(said, "a wrong key", run.script("order_manager", APCA_API_SECRET_KEY=wrong), 78)
    database = run.environment["DATABASE_URL"]
    refused = re.sub(r":[^:@]+@", f":{quote(wrong, safe='')}@", database)
    gone = re.sub(r"@127.0.0.1:\d+/", "@127.0.0.1:9/", database)
    keep(said, "a wrong password", run.script("order_manager", DATABASE_URL=refused), 78)
    keep(said, "no database", run.dca("db", "backup", DATABASE_URL=gone), 75, 78)
    file = run.folder / "broken.env"
    file.write_text(f'DATABASE_URL="{said.canaries["file"]}\n')
    keep(said, "a broken file", run.script("order_manager", DCA_ENV_FILE=str(file)), 78)
    file.unlink()


def good_days(run: World, said: Said, exchange: Running) -> None:
    """The streamer buys, every caretaker runs, an operator looks at everything."""
    run.start_streamer()
    waited(
        run.clock, "it has bought", lambda: run.owned() > 0, PATIENCE_S, meanwhile=lambda: quote_now(exchange)
    )
    assert run.streamer is not None
    limits = Path(f"/proc/{run.streamer.pid}/limits").read_text()
    assert re.search(r"Max core file size +0 +0 ", limits), "a core dump would hold the keys"
    for name in CARETAKERS:
        keep(said, name, run.script(name, "--json"), 0, 75)
    keep(said, "doctor", run.dca("doctor", "--no-streams"), 0, 1)
    assert run.stop_streamer() == 0


def test_nothing_secret_shows_anywhere(
    canaries: Canaries, environment: dict[str, str], exchange: Running, people: People, tmp_path: Path
) -> None:
    said, over = Said(canaries), threading.Event()
    looking = threading.Thread(target=said.look, args=(over,))
    looking.start()
    try:
        with world(tmp_path / "run", environment) as run:
            run.add_asset("BTC/USD", rules(base_order_amount=Decimal(100)))
            bad_days(run, said)
            good_days(run, said, exchange)
            BackupFolder(environment["DATABASE_URL"], tmp_path / "run" / "dump").make(run.clock.now())
    finally:
        over.set()
        looking.join()
    assert any("Cycle started" in body["title"] for _, body in people.got), "the addresses were used"
    assert said.leaks(tmp_path / "run") == {}
    logs = {path.name for path in (tmp_path / "run").glob("*.log*")}
    assert {"main.log", "caretakers.log"} <= logs and list((tmp_path / "run" / "dump").glob("*.sql.gz"))
    for name in (b"main_app.py", b"notifier.py", b"housekeeping.py"):
        assert any(name in line for line in said.command_lines)
    readable = [path for path in (tmp_path / "run").rglob("*") if path.stat().st_mode & 0o077]
    assert [path for path in readable if path.name != "main_app.out"] == []


LEAKING = """
import base64, html, json, sys, urllib.parse
from datetime import UTC, datetime
from pathlib import Path
from dca import logs, settings
given = settings.local()
hidden = given.secrets() if sys.argv[1] == "hidden" else []
logs.set_up("x", Path(sys.argv[2]), "INFO", secrets=hidden, now=lambda: datetime.now(UTC))
log = logs.logging.getLogger("dca")
for name, secret in (("key", given.api_key_id), ("secret", given.api_secret_key)):
    basic = base64.b64encode(b"x:" + secret.encode() + b":y").decode()
    texts = (str(secret), urllib.parse.quote(secret), json.dumps(secret), html.escape(secret))
    for form in (*texts, repr(str(secret)), basic):
        log.info("said", extra={"of": name, "form": form, "inside": {"it": [form]}})
        try:
            raise ValueError(form)
        except ValueError:
            log.exception("failed")
log.info(str(given.database_url))
log.info(str(given.notify.urls[0]))
"""


@pytest.mark.parametrize("how", ["open", "hidden"])
def test_the_search_finds_what_is_not_hidden(
    canaries: Canaries, environment: dict[str, str], tmp_path: Path, how: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LEAKING, how, str(tmp_path / "run")], env=environment, capture_output=True
    )
    assert ended.returncode == 0, ended.stderr
    said = Said(canaries, {"stderr": ended.stderr}, {canaries["wrong"].encode()})
    leaks = said.leaks(tmp_path / "run")
    assert leaks.pop("ps") == {"wrong"}
    if how == "hidden":
        assert leaks == {}
        return
    # What stands in an address as a password is hidden, configured or not.
    shown = {"key", "secret", "token", "query"}
    assert leaks == {"stderr": shown, str(tmp_path / "run" / "x.log"): shown}
    lines = (tmp_path / "run" / "x.log").read_bytes().splitlines()
    assert [line for line in lines if not canaries.found_in(line)] == lines[-2:-1], "only the database"
