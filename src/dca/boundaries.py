"""Numbered points just before and after every effect on the outside, where a test may kill the program.

Adapters cross them: the stores around each commit, the venues around each request. Nothing happens
there unless somebody installed a hook: a campaign that wants to show that no death between two
effects loses or doubles anything counts the crossings and dies at each.
"""

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
Hook = Callable[[str], None]
What = str | Callable[..., Any]
"""The request's name in the port, or the unit of work that is committed."""
ANY = "*"

_hook: Hook | None = None


def before(what: What) -> None:
    """The effect `what` comes next."""
    if _hook is not None:
        _hook(f"before_{label(what)}")


def after(what: What) -> None:
    """The effect `what` has happened."""
    if _hook is not None:
        _hook(f"after_{label(what)}")


def request(method: Callable[P, T]) -> Callable[P, T]:
    """`method` sends one request of that name; an answer that is an error is an answer."""
    name = method.__name__

    @wraps(method)
    def sent(*args: P.args, **named: P.kwargs) -> T:
        before(name)
        try:
            answer = method(*args, **named)
        except Exception:
            after(name)
            raise
        after(name)
        return answer

    return sent


def label(what: What) -> str:
    """A unit of work is called by the module and the function that wrote it: `recorder.record`."""
    if isinstance(what, str):
        return what
    name: str = getattr(what, "__qualname__", type(what).__qualname__)
    function = name.partition(".<locals>")[0].rpartition(".")[2].lstrip("_")
    return f"{what.__module__.rpartition('.')[2]}.{function}"


def install(hook: Hook | None) -> None:
    """Every later crossing calls `hook`; None takes it away."""
    global _hook
    _hook = hook


def counting(at: tuple[str, int] | None, log: Path | None = None) -> Hook:
    """A hook that kills this process, as `kill -9` would, at the boundary `at`: a name (ANY: each of
    them) and how often it was crossed by then. `log` gets a line for every crossing: number, name."""
    lock, crossed, total = threading.Lock(), Counter[str](), 0
    lines = None if log is None else log.open("a", buffering=1, encoding="utf-8")

    def hook(name: str) -> None:
        nonlocal total
        with lock:
            crossed[name] += 1
            total += 1
            if lines is not None:
                lines.write(f"{total} {name}\n")
            if at in ((name, crossed[name]), (ANY, total)):
                os.kill(os.getpid(), signal.SIGKILL)

    return hook
