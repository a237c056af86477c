"""Mail and messengers, through the Apprise library."""

import hashlib
import logging
import threading
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

from dca.domain.errors import ConfigError, Unavailable

log = logging.getLogger(__name__)

LIMIT_S = 30.0
"""For one message to one address. Apprise limits the wait for each piece of an answer, not for all."""
FILES = frozenset({"template", "keyfile", "subfile", "pgpkey", "pgppub", "pgpprv"})
"""What makes Apprise read a file of this machine and send, or sign with, what is in it."""
NAMED = 8
"""Hex digits of an address that tell it from the others of its kind."""


class AppriseNotifier:
    """dca.ports.Notifier on addresses as Apprise writes them. Threads may share it.

    Apprise takes longer to load than most passes of a caretaker: it is loaded when it is needed.
    """

    def __init__(self, urls: Sequence[str], *, limit_s: float = LIMIT_S) -> None:
        self._urls = {_name(url): url for url in urls}
        self._limit_s = limit_s

    @property
    def addresses(self) -> Sequence[str]:
        return tuple(self._urls)

    def check(self) -> None:
        """Every address can be used. Raises ConfigError that says which cannot, and shows none."""
        wrong = []
        for number, url in enumerate(self._urls.values(), 1):
            if _files(url):
                wrong.append(f"address {number} ({_scheme(url)}) names a file, which is not allowed")
            elif _opened(url) is None:
                wrong.append(f"address {number} ({_scheme(url)}) is not one that Apprise understands")
        if wrong:
            raise ConfigError("settings: NOTIFY_URLS: " + "; ".join(wrong))

    def send(self, title: str, text: str, *, to: str | None = None) -> None:
        missed = [
            name
            for name in (self.addresses if to is None else (to,))
            if not self._sent(self._urls[name], title, text)
        ]
        if missed:
            raise Unavailable(f"not taken by {', '.join(missed)}")

    def _sent(self, url: str, title: str, text: str) -> bool:
        took: list[bool] = []

        def work() -> None:
            service = None if _files(url) else _opened(url)
            took.append(service is not None and service.notify(body=text, title=title) is True)

        thread = threading.Thread(target=work, name="notify", daemon=True)
        thread.start()
        thread.join(self._limit_s)
        if thread.is_alive():
            log.warning("notice_slow", extra={"address": _name(url), "limit_s": self._limit_s})
        return took == [True]


def _scheme(url: str) -> str:
    return url.partition("://")[0].lower()


def _name(url: str) -> str:
    return f"{_scheme(url)}-{hashlib.sha256(url.encode()).hexdigest()[:NAMED]}"


def _files(url: str) -> bool:
    names = {name.strip().lower() for name, _ in parse_qsl(url.partition("?")[2], keep_blank_values=True)}
    return not FILES.isdisjoint(names)


def _opened(url: str) -> Any:
    """What sends to `url`; None when Apprise cannot."""
    from apprise import Apprise, AppriseAsset, ContentLocation, NotifyFormat

    asset = AppriseAsset(
        app_id="DCA",
        async_mode=False,
        body_format=NotifyFormat.TEXT,
        # A redirect would carry the token of the address to whoever it names.
        http_redirects=False,
        secure_logging=True,
        storage_mode="memory",
    )
    # No attachment could be read from this machine, even if a message came with one.
    service = Apprise(asset=asset, location=ContentLocation.INACCESSIBLE)
    return service if service.add(str(url)) and len(service) == 1 else None
