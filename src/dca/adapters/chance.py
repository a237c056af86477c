"""Chance, for those that must not ask for it themselves."""

from collections.abc import Callable
from random import Random


def chance() -> Callable[[], float]:
    """Numbers from 0 to 1, other ones in every process."""
    return Random().random  # noqa: S311
