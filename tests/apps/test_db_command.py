"""`dca db backup` and `dca db restore`, and the housekeeping script, as an operator meets them."""

import gzip
import json
import os
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import dca
from dca.adapters.db.store import SqlStore
from dca.adapters.process import PidFile
from dca.adapters.supervise import pid_path
from dca.apps import cli
from dca.domain.record import Event

SCRIPTS = Path(dca.__file__).parents[2] / "scripts"


@pytest.fixture
def environment(sqlite_url: str, tmp_path: Path) -> dict[str, str]:
    """Without keys: whoever has lost everything but a backup needs none."""
    return {
        "DCA_ENV_FILE": os.devnull,
        "DATABASE_URL": sqlite_url,
        "DCA_RUN_DIR": str(tmp_path / "logs"),
        "BACKUP_DIR": str(tmp_path / "backups"),
    }


@pytest.fixture
def command(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Any:
    """Runs a command in this process; gives exit code, output and complaint."""
    for name in ("APCA_API_KEY_ID", "APCA_API_SECRET_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def run(*words: str) -> tuple[int, str, str]:
        code = cli.main(words)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def names(url: str) -> list[str]:
    with closing(SqlStore(url)) as store:
        return [event.name for event in store.read(lambda tx: tx.events())]


def note(url: str, name: str) -> None:
    with closing(SqlStore(url)) as store:
        store.write(lambda tx: tx.add_event(Event(name=name, at=datetime.now(UTC))))


@pytest.fixture
def file(command: Any, sqlite_url: str, tmp_path: Path) -> str:
    """A backup, after which something happened."""
    note(sqlite_url, "before")
    code, out, _ = command("db", "backup")
    assert code == 0
    note(sqlite_url, "after")
    made = out.partition(": ")[0]
    assert Path(made).parent == tmp_path / "backups" and out.endswith(" bytes, read again and whole\n")
    return made


def test_a_backup_goes_where_it_is_told(command: Any, tmp_path: Path) -> None:
    code, out, _ = command("db", "backup", "--to", str(tmp_path / "usb"))
    assert code == 0 and out.startswith(str(tmp_path / "usb" / "dca-"))


def test_restoring_says_what_it_did_and_pauses_buying(command: Any, file: str, sqlite_url: str) -> None:
    code, out, _ = command("db", "restore", file, "--yes")
    assert code == 0
    assert f"restored from {file}" in out and ".before-" in out and "dca resume" in out
    assert names(sqlite_url) == ["database_restored", "before"]
    with closing(SqlStore(sqlite_url)) as store:
        assert store.read(lambda tx: tx.modes())
    kept = next(word for word in out.split() if ".before-" in word)
    assert names(f"sqlite:///{kept}") == ["after", "before"]


def test_nobody_restores_by_accident(command: Any, file: str, sqlite_url: str) -> None:
    code, out, complaint = command("db", "restore", file)
    assert code == 78 and "takes the place of everything in" in out and "--yes" in complaint
    code, out, _ = command("db", "restore", file, "--dry-run")
    assert code == 0 and "takes the place of everything in" in out
    assert names(sqlite_url) == ["after", "before"]


def test_a_streamer_that_runs_is_in_the_way(command: Any, file: str, sqlite_url: str, tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from dca.adapters.process import PidFile
PidFile(Path({str(pid_path(tmp_path / "logs"))!r})).take()
print("locked", flush=True)
input()
"""
    streamer = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert streamer.stdin is not None and streamer.stdout is not None
    assert streamer.stdout.readline() == "locked\n"
    ended, _, complaint = command("db", "restore", file, "--yes")
    assert ended == 78 and f"process {streamer.pid} is running already" in complaint
    assert "stop it first with `dca stop`" in complaint and names(sqlite_url) == ["after", "before"]
    streamer.communicate("end\n")
    assert command("db", "restore", file, "--yes")[0] == 0


def test_none_can_be_started_meanwhile(
    command: Any, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dca.adapters.db import restore_sqlite

    seen = []

    def restore(restoring: Any) -> Any:
        seen.append(PidFile(pid_path(tmp_path / "logs")).held())
        return real(restoring)

    real = restore_sqlite.restore
    monkeypatch.setattr(restore_sqlite, "restore", restore)
    assert command("db", "restore", file, "--yes")[0] == 0
    assert seen == [True] and not PidFile(pid_path(tmp_path / "logs")).held()


def test_a_damaged_file_is_refused(command: Any, file: str, sqlite_url: str) -> None:
    path = Path(file)
    path.write_bytes(path.read_bytes()[:-100])
    code, _, complaint = command("db", "restore", file, "--yes")
    assert code == 78 and "damaged: use another backup" in complaint
    assert names(sqlite_url) == ["after", "before"]


def test_a_folder_that_cannot_be_written_is_tried_again_later(command: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, complaint = command("db", "backup", "--to", str(tmp_path / "file"))
    assert code == 75 and "the backup cannot be written" in complaint


def housekeeping(environment: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    keys = {"APCA_API_KEY_ID": "k", "APCA_API_SECRET_KEY": "s"}
    return subprocess.run(
        [sys.executable, str(SCRIPTS / "housekeeping.py"), *options],
        env={**environment, **keys},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_script_keeps_house_once_a_day(environment: dict[str, str], tmp_path: Path) -> None:
    planned = housekeeping(environment, "--dry-run")
    assert planned.returncode == 0 and "would backup database: there is none\n" in planned.stdout
    assert not (tmp_path / "backups").exists()
    first = housekeeping(environment, "--json")
    assert first.returncode == 0, first.stderr
    kinds = [repair["kind"] for repair in json.loads(first.stdout)["repairs"]]
    assert kinds == ["rotate", "backup", "prune"]
    again = json.loads(housekeeping(environment, "--json").stdout)
    assert [repair["kind"] for repair in again["repairs"]] == ["compress", "prune"]
    (backup,) = (tmp_path / "backups").iterdir()
    for path in (tmp_path / "logs", tmp_path / "backups", *(tmp_path / "logs").iterdir(), backup):
        assert path.stat().st_mode & 0o077 == 0, path
    lines = [line for log in (tmp_path / "logs").glob("*.log*") for line in written(log).splitlines()]
    events = [json.loads(line)["event"] for line in lines]
    assert "backed_up" in events and events.count("caretaker_done") == 3


def written(log: Path) -> str:
    data = log.read_bytes()
    return (gzip.decompress(data) if log.suffix == ".gz" else data).decode()
