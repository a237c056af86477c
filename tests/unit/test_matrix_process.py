"""What a process leaves behind: no lock in the hands of its children, nothing that others may read."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

from dca.adapters import process
from dca.adapters.process import PidFile

ENVIRONMENT = {"PYTHONPATH": str(Path(process.__file__).parents[2])}


def test_a_child_does_not_keep_the_lock_of_its_dead_parent(tmp_path: Path) -> None:
    """Not even one that was given every open file."""
    path = tmp_path / "x.pid"
    program = (
        "import subprocess, sys, time; from pathlib import Path; from dca.adapters.process import PidFile;"
        "PidFile(Path(sys.argv[1])).take(); child = subprocess.Popen(['sleep', '60'], close_fds=False);"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, env=os.environ | ENVIRONMENT
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert PidFile(path).held()
        parent.send_signal(signal.SIGKILL)
    try:
        assert process.identity_of(child) is not None, "it lives"
        assert not PidFile(path).held()
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_process_leaves_no_core_and_nothing_that_others_may_read(tmp_path: Path) -> None:
    program = (
        "import resource, sys; from pathlib import Path; from dca.adapters.process import keep_private;"
        "keep_private(); Path('f').write_text('x'); Path('d').mkdir();"
        "print(resource.getrlimit(resource.RLIMIT_CORE))"
    )
    ended = subprocess.run(
        ["sh", "-c", 'umask 0; exec "$0" -c "$1"', sys.executable, program],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=os.environ | ENVIRONMENT,
    )
    assert ended.stdout.strip() == "(0, 0)"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"f": 0o600, "d": 0o700}
