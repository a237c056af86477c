"""The stream of trade updates (docs/alpaca.md): JSON in text or binary frames, one object each."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from websockets.asyncio.client import ClientConnection

from dca.adapters.venues.alpaca.link import Line, LinkLost, Tally
from dca.adapters.venues.alpaca.wire import MISSHAPEN, trade_update
from dca.domain.errors import ConfigError
from dca.domain.order import TradeUpdate
from dca.ports import LinkChange

UNREADABLE = (*MISSHAPEN, RecursionError)
UPDATES = "trade_updates"


class AlpacaTradeFeed:
    """The TradeFeed of Alpaca and of whatever speaks its protocol. `url` is the complete address.

    Silence is normal here, so only pings watch the link: what is missing must be asked for by REST.
    `position_qty` is not read; whether it is net of the coin fee is unknown (docs/alpaca.md, trade updates).
    An exception that a callback raises ends `run`.
    """

    def __init__(self, url: str, key: str, secret: str, *, step_s: float = 10.0) -> None:
        self._line = Line("trades", url, stale_s=None, step_s=step_s)
        # The older of two forms: every SDK sends this one (docs/alpaca.md, trade updates).
        self._auth = json.dumps({"action": "authenticate", "data": {"key_id": key, "secret_key": secret}})
        self._listen = json.dumps({"action": "listen", "data": {"streams": [UPDATES]}})
        self._malformed = Tally("frame_malformed")

    @property
    def malformed(self) -> int:
        """Frames that could not be read."""
        return self._malformed.count

    async def run(self, on_update: Callable[[TradeUpdate], None], on_link: LinkChange) -> None:
        def on_frame(frame: bytes) -> None:
            self._hear(frame, on_update)

        async def greet(ws: ClientConnection) -> str:
            await self._until(ws, self._auth, "authorization", on_update)
            data = await self._until(ws, self._listen, "listening", on_update)
            if UPDATES not in (data.get("streams") or ()):
                raise LinkLost("the venue does not offer trade updates", limited=True)
            return "listening"

        await self._line.keep(greet, on_frame, on_link)

    async def _until(
        self, ws: ClientConnection, message: str | None, stream: str, on_update: Callable[[TradeUpdate], None]
    ) -> dict[str, Any]:
        """The data of the first message of `stream`; updates that come before it are handed on."""
        while True:
            said = self._hear(await self._line.step(ws, message), on_update)
            message = None
            if said is not None and said[0] == stream:
                return said[1]

    def _hear(
        self, frame: bytes, on_update: Callable[[TradeUpdate], None]
    ) -> tuple[str, dict[str, Any]] | None:
        """An update is handed on; another message is returned as its stream and data.

        Raises ConfigError when it refuses the keys, LinkLost when it ends the conversation.
        """
        try:
            body = json.loads(frame, parse_float=Decimal)
            data = body["data"]
            update = trade_update(data) if body.get("stream") == UPDATES else None
        except UNREADABLE as error:
            self._malformed.add(repr(error))
            return None
        if update is not None:
            on_update(update)
            return None
        return self._notice(body, data)

    def _notice(self, body: dict[str, Any], data: Any) -> tuple[str, dict[str, Any]] | None:
        if not isinstance(data, dict):
            self._malformed.add("a message without data")
            return None
        if body.get("action") == "error":
            raise LinkLost(f"the venue says {data.get('error_message')}")
        if body.get("stream") == "authorization":
            self._check(data)
        return str(body.get("stream")), data

    def _check(self, data: dict[str, Any]) -> None:
        status = data.get("status")
        if status == "unauthorized":
            raise ConfigError(f"trade updates: the venue refused the keys ({data.get('message')})")
        if status != "authorized":
            raise LinkLost(f"the venue says {status}")
