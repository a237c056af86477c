"""Processes of the bot, born quickly: forks of one that has loaded everything and done nothing yet.

What a fork saves is the second of imports. From then on it is a process like any other: it has its
own number, folder and settings, and runs what `main_app.py` and the scripts run.
"""

import gc
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import dca
from dca.domain.errors import DcaError, Unmended

STREAMER, COMMAND = "main_app", "dca"
SOURCE = Path(dca.__file__).parents[1]
LOOK_S = 0.01


@dataclass(slots=True)
class Child:
    """A process that was born as a fork. `code` is its exit code, negative for a signal."""

    forks: "Forks"
    pid: int
    code: int | None = None

    def ended(self) -> bool:
        if self.code is None:
            self.code = self.forks.ask({"poll": self.pid})
        return self.code is not None

    def wait(self, patience_s: float) -> int:
        """Its exit code. Raises Unmended when it lives on."""
        pause = threading.Event()
        for _ in range(int(patience_s / LOOK_S)):
            if self.ended():
                break
            pause.wait(LOOK_S)
        if self.code is None:
            raise Unmended(f"process {self.pid} did not end within {patience_s:g} s")
        return self.code

    def stop(self) -> None:
        """It was told to stop."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """It is dead, as after a power cut."""
        self._signal(signal.SIGKILL)
        self.wait(10.0)

    def _signal(self, number: signal.Signals) -> None:
        # Until somebody has asked for its end, its number is nobody else's.
        if not self.ended():
            os.kill(self.pid, number)


class Forks:
    """Any thread may ask it for a process; all of them die with it."""

    def __enter__(self) -> "Forks":
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dca.prove.crash_forks"],
            env={"PYTHONPATH": str(SOURCE)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def start(self, program: str, arguments: Sequence[str], folder: Path) -> Child:
        """`main_app`, `dca` or a script runs in `folder`, where its `.env` lies and its output goes."""
        wish = {"start": program, "arguments": list(arguments), "folder": str(folder)}
        return Child(self, self.ask(wish))

    def ask(self, wish: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            print(json.dumps(wish), file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        if not answer:
            raise DcaError("the process that the others are born of is gone")
        return json.loads(answer)


def _serve() -> None:
    """Answers wishes from stdin until there are no more, then ends whatever still lives."""
    _load()
    living: set[int] = set()
    answer: int | None
    for line in sys.stdin:
        wish = json.loads(line)
        if "start" in wish:
            pid = answer = _born(wish["start"], wish["arguments"], Path(wish["folder"]))
            living.add(pid)
        else:
            answer = _code(wish["poll"])
            if answer is not None:
                living.discard(wish["poll"])
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    for pid in living:
        os.kill(pid, signal.SIGKILL)


def _load() -> None:
    """Everything that a process of the bot would load is loaded."""
    import dca.adapters.venues.alpaca
    import dca.apps.caretaking
    import dca.apps.cli
    import dca.apps.commands.operator  # noqa: F401
    import main_app  # noqa: F401

    # Forks then share what is loaded: no collection touches it.
    gc.freeze()


def _code(pid: int) -> int | None:
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def _born(program: str, arguments: list[str], folder: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        code = _live(program, arguments, folder)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _live(program: str, arguments: list[str], folder: Path) -> int:
    os.chdir(folder)
    out = os.open("out", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, end in ((0, nothing), (1, out), (2, out)):
        os.dup2(end, number)
    sys.argv = [f"{program}.py"]
    if program == STREAMER:
        import main_app

        return main_app.main()
    if program == COMMAND:
        from dca.apps import cli

        return cli.main(arguments)
    from dca.apps import caretaking

    return caretaking.main(program, None, arguments)


if __name__ == "__main__":
    _serve()
