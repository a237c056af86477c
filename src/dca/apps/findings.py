"""What a look at one thing came to: all is well, or what was seen and what to do."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Json = dict[str, Any]


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was seen of a subject, and, where that is not as it should be, what to do."""

    level: Level
    subject: str
    seen: str
    do: str = ""

    def fields(self) -> Json:
        return {"level": str(self.level), "subject": self.subject, "seen": self.seen, "do": self.do}


Findings = Iterator[Finding]


def ok(subject: str, seen: str) -> Finding:
    return Finding(Level.OK, subject, seen)


def warn(subject: str, seen: str, do: str) -> Finding:
    return Finding(Level.WARN, subject, seen, do)


def fail(subject: str, seen: str, do: str) -> Finding:
    return Finding(Level.FAIL, subject, seen, do)
