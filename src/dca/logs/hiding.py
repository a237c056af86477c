"""Secrets, found in whatever form they turn up, and taken out."""

import html
import json
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

HIDDEN = "***"
SHORTEST = 5
"""A shorter value is part of too many words to be taken out of every text."""
SHORTEST_CODED = 8

_PATTERNS = [
    # user:password@ of an address, whoever's it is.
    (re.compile(r"(://[^\s/:@\"']*:)[^\s/@\"']+@"), rf"\1{HIDDEN}@"),
    # The token of a Telegram bot, as it stands in every address that is asked.
    (re.compile(r"(bot\d{6,}:)[\w-]{20,}"), rf"\1{HIDDEN}"),
    (
        re.compile(r"((?:authorization|apca-api-[a-z-]+)[\"']?\s*[:=]\s*[\"']?)(?:\w+ +)?[^\s\"',}]+", re.I),
        rf"\1{HIDDEN}",
    ),
]
_SIGNS = ("://", "bot", "authorization", "apca-api-")
"""What stands in every text that one of the patterns finds."""


class Hiding:
    """Takes `secrets` out of text: as they are, and as addresses, JSON, HTML and base64 write them."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets if len(secret) >= SHORTEST for form in _forms(secret)}
        self._signs = [*{form.lower() for form in forms}, *_SIGNS]
        longest_first = sorted(forms, key=len, reverse=True)
        self._values = re.compile("|".join(map(re.escape, longest_first)), re.I) if forms else None

    def may_be_in(self, text: str) -> bool:
        """False when nothing in `text` has to be hidden: much cheaper than hiding it."""
        lower = text.lower()
        return any(sign in lower for sign in self._signs)

    def __call__(self, text: str) -> str:
        if self._values is not None:
            text = self._values.sub(HIDDEN, text)
        for pattern, instead in _PATTERNS:
            text = pattern.sub(instead, text)
        return text


def _forms(secret: str) -> Iterator[str]:
    once = json.dumps(secret)[1:-1]
    yield from (secret, once, json.dumps(once)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])
    yield from (quote(secret), quote(secret, safe=""), quote_plus(secret))
    yield from (repr(secret)[1:-1], html.escape(secret))
    yield from _coded(secret.encode())


def _coded(data: bytes) -> Iterator[str]:
    """What base64 makes of `data` wherever it stands in what is coded, without the edges that
    depend on its neighbors."""
    for before in range(3):
        text = b64encode(bytes(before) + data).decode()
        core = text[(0, 2, 3)[before] : len(text) - (0, 3, 2)[(before + len(data)) % 3]]
        if len(core) >= SHORTEST_CODED:
            yield core
            yield core.translate({ord("+"): "-", ord("/"): "_"})
