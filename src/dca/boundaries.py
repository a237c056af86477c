"""Named points just before and after every effect, where a test may kill the program.

`crossing` does nothing unless somebody installed a hook: a campaign that wants to show that no
death between two effects loses or doubles anything counts the crossings and dies at each.
"""

import os
import signal
from collections.abc import Callable

_hook: Callable[[str], None] | None = None


def crossing(name: str) -> None:
    """The program has reached the boundary `name`."""
    if _hook is not None:
        _hook(name)


def install(hook: Callable[[str], None] | None) -> None:
    """Every later crossing calls `hook`; None takes it away."""
    global _hook
    _hook = hook


def dying_at(name: str, count: int) -> Callable[[str], None]:
    """A hook that kills this process, as `kill -9` would, the `count`-th time it crosses `name`."""
    left = count

    def hook(crossed: str) -> None:
        nonlocal left
        if crossed == name:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return hook
