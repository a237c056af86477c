"""Who a process is, and whose the pid file is: a reused number, a look-alike and a stale file fool nobody."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from dca.adapters import process
from dca.adapters.process import AlreadyRunning, PidFile, identity, identity_of, may_be_alive


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives until it is killed."""
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield started
    started.kill()
    started.wait()


def test_a_process_has_one_name_for_ever_whatever_is_done_to_the_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = identity()
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: psutil.boot_time() - 3600)
    assert identity() == before
    assert may_be_alive(before)


def test_a_process_that_died_is_dead_even_while_nobody_has_buried_it(
    other: subprocess.Popen[bytes],
) -> None:
    name = identity_of(other.pid)
    assert name is not None and may_be_alive(name)
    other.kill()
    _until_zombie(other.pid)
    assert not may_be_alive(name)
    assert identity_of(other.pid) is None


def _until_zombie(pid: int) -> None:
    while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        pass


@pytest.mark.parametrize("holder", ["", "no such form", "{host}/x/1", "{host}/99999999/8b96dc3f.1"])
def test_names_of_nobody_on_this_machine(holder: str) -> None:
    name = holder.format(host=identity().partition("/")[0])
    here = name.startswith(identity().partition("/")[0] + "/")
    assert may_be_alive(name) is not here


def test_a_process_of_another_machine_may_be_alive() -> None:
    assert may_be_alive("elsewhere/1/8b96dc3f.1")


def test_the_age_of_a_process_is_in_real_seconds(other: subprocess.Popen[bytes]) -> None:
    assert 0 <= process.age_s(other.pid) < 30
    assert process.age_s(99_999_999) == 0


def test_the_file_names_its_owner(tmp_path: Path) -> None:
    file = PidFile(tmp_path / "x.pid")
    assert not file.held() and file.owner() is None
    file.take()
    owner = PidFile(tmp_path / "x.pid").owner()
    assert owner is not None and file.held()
    found = owner.process()
    assert found is not None and (found.pid, found.identity) == (os.getpid(), identity())
    assert oct((tmp_path / "x.pid").stat().st_mode & 0o777) == "0o600"
    file.drop()
    assert not file.held() and not (tmp_path / "x.pid").exists()


@pytest.mark.parametrize("wrong", ["identity", "command"])
def test_a_reused_process_id_and_a_look_alike_are_not_the_owner(
    wrong: str, other: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    command = psutil.Process(other.pid).cmdline()
    lines = {"pid": other.pid, "identity": identity_of(other.pid), "command": json.dumps(command)}
    changes = {"identity": identity(), "command": json.dumps(["tail", "-f", "main_app.py.notes"])}
    path = tmp_path / "x.pid"
    path.write_text("\n".join(map(str, lines.values())))
    owner = PidFile(path).owner()
    assert owner is not None and owner.process() is not None
    path.write_text("\n".join(map(str, {**lines, wrong: changes[wrong]}.values())))
    owner = PidFile(path).owner()
    assert owner is not None and owner.process() is None
    assert not PidFile(path).held(), "nobody holds the lock, however alive that process is"


@pytest.mark.parametrize("text", ["", "12\n", "x\ny\nz\n", "1\nname\n{}\n", "1\nname\nnull\n"])
def test_a_file_that_says_nothing_names_nobody(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.pid").write_text(text)
    owner = PidFile(tmp_path / "x.pid").owner()
    assert owner is None or owner.process() is None


def test_the_lock_dies_with_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "x.pid"
    program = (
        "import sys, time; from pathlib import Path; from dca.adapters.process import PidFile;"
        "PidFile(Path(sys.argv[1])).take(); print('taken', flush=True); time.sleep(60)"
    )
    source = Path(process.__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(source)},
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"taken\n"
        assert PidFile(path).held()
        with pytest.raises(AlreadyRunning, match=str(holder.pid)):
            PidFile(path).take()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert not PidFile(path).held()
    successor = PidFile(path)
    successor.take()
    successor.drop()


def test_whoever_only_looks_does_not_keep_the_owner_out(tmp_path: Path) -> None:
    path = tmp_path / "x.pid"
    path.touch()
    handle = os.open(path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_SH)
    looks_up = threading.Timer(0.1, os.close, (handle,))
    looks_up.start()
    file = PidFile(path)
    file.take()
    file.drop()
    looks_up.join()


def test_a_file_taken_away_while_it_was_opened_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner ends between another's open and lock: that one must lock the file that is there."""
    path, real = tmp_path / "x.pid", os.open
    first = PidFile(path)
    first.take()

    def slow(name: str, *rest: int) -> int:
        handle = real(name, *rest)
        first.drop()
        return handle

    monkeypatch.setattr(process.os, "open", slow)
    second = PidFile(path)
    second.take()
    monkeypatch.undo()
    third = PidFile(path)
    with pytest.raises(AlreadyRunning):
        third.take()
    second.drop()


def test_of_many_at_once_one_wins(tmp_path: Path) -> None:
    for _ in range(5):
        files = [PidFile(tmp_path / "x.pid") for _ in range(8)]
        barrier, won = threading.Barrier(len(files)), []

        def take(file: PidFile, barrier: threading.Barrier = barrier, won: list[PidFile] = won) -> None:
            barrier.wait()
            try:
                file.take()
                won.append(file)
            except AlreadyRunning:
                pass

        threads = [threading.Thread(target=take, args=(file,)) for file in files]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        won[0].drop()
