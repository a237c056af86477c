"""The stream of quotes (docs/alpaca.md): msgpack both ways, arrays from the venue."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgpack
from websockets.asyncio.client import ClientConnection

from dca.adapters.venues.alpaca.link import Line, LinkLost
from dca.adapters.venues.alpaca.quotes import UNPACKABLE, QuoteDecoder, unpack
from dca.domain.errors import ConfigError
from dca.domain.market import Quote
from dca.ports import LinkChange

log = logging.getLogger(__name__)

FATAL = {
    400: "the venue does not understand the subscription",
    402: "the venue refused the keys",
    405: "the subscription names more symbols than the account may stream",
    408: "the account may not use this stream",
    409: "the account's subscription does not include this stream",
    410: "this stream has no quotes",
    411: "the keys may not use this stream",
}
"""Errors that no reconnect mends; every other code is met by trying again."""
LIMITED = frozenset({406, 429})
ALREADY_AUTHENTICATED = 403


class AlpacaMarketFeed:
    """The MarketFeed of Alpaca and of whatever speaks its protocol. `url` is the complete address.

    After `stale_s` seconds without a frame of any kind the link is reported DOWN and made anew:
    pings are answered on a connection that has gone mute, too. Quotes move only when the best price
    does, so minute bars are subscribed as well: they tell a quiet market from a mute stream.

    Numbers that cannot be a price are dropped one by one. An exception that a callback raises ends
    `run`: whoever consumes quotes must keep its own errors.
    """

    def __init__(
        self, url: str, key: str, secret: str, *, stale_s: float = 90.0, step_s: float = 10.0
    ) -> None:
        headers = {"Content-Type": "application/msgpack"}
        self._line = Line("market", url, headers=headers, stale_s=stale_s, step_s=step_s)
        self._auth = msgpack.packb({"action": "auth", "key": key, "secret": secret})
        self._decoder = QuoteDecoder((), _notice)

    @property
    def dropped(self) -> int:
        """Items of the current run that were no usable quote."""
        return self._decoder.dropped.count

    @property
    def malformed(self) -> int:
        """Frames of the current run that could not be read at all."""
        return self._decoder.malformed.count

    async def run(
        self,
        symbols: Sequence[str],
        on_quotes: Callable[[Iterable[Quote]], None],
        on_link: LinkChange,
    ) -> None:
        self._decoder = QuoteDecoder(symbols, _notice)
        newest = self._decoder.newest

        def on_frame(frame: bytes) -> None:
            quotes = newest(frame)
            if quotes:
                on_quotes(quotes)

        async def greet(ws: ClientConnection) -> str:
            return await self._greet(ws, symbols)

        await self._line.keep(greet, on_frame, on_link)

    async def _greet(self, ws: ClientConnection, symbols: Sequence[str]) -> str:
        await self._until(ws, None, _success("connected"))
        await self._until(ws, self._auth, _success("authenticated"))
        wanted = msgpack.packb({"action": "subscribe", "quotes": list(symbols), "bars": list(symbols)})
        ack = await self._until(ws, wanted, lambda item: item["T"] == "subscription")
        given = ack.get("quotes") or ()
        missing = [symbol for symbol in symbols if symbol not in given and "*" not in given]
        if len(missing) == len(symbols):
            raise LinkLost("the venue subscribed none of the symbols")
        if missing:
            log.error("symbols_not_streamed", extra={"symbols": missing})
            return f"subscribed, without {', '.join(missing)}"
        return "subscribed"

    async def _until(
        self, ws: ClientConnection, message: bytes | None, wanted: Callable[[dict[str, Any]], bool]
    ) -> dict[str, Any]:
        """The first item that is `wanted`, after `message` was sent; quotes before it are passed over."""
        while True:
            frame = await self._line.step(ws, message)
            message = None
            try:
                items = [item for item in unpack(frame) if isinstance(item, dict) and "T" in item]
            except UNPACKABLE as error:
                self._decoder.malformed.add(repr(error))
                continue
            for item in items:
                _notice(item)
                if wanted(item):
                    return item


def _success(word: str) -> Callable[[dict[str, Any]], bool]:
    return lambda item: item["T"] == "success" and item.get("msg") == word


def _notice(item: dict[str, Any]) -> None:
    """Raises ConfigError or LinkLost for an error item; anything else is of no concern."""
    if item.get("T") != "error":
        return
    code, text = item.get("code"), item.get("msg")
    if not isinstance(code, int):
        raise LinkLost(f"the venue says {text}")
    if code == ALREADY_AUTHENTICATED:
        return
    if code in FATAL:
        raise ConfigError(f"market data: {FATAL[code]} ({code} {text})")
    raise LinkLost(f"the venue says {code} {text}", limited=code in LIMITED)
