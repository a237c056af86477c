"""What the exchange refuses, with the status, the code and the words of the venue.

One code stands for many meanings there, and so it does here.
"""

from dca.paper.wire import Json


class Refusal(Exception):
    """A request is refused with `status` and `body`, and nothing has changed."""

    def __init__(self, status: int, message: str, code: int | None = None, **extra: str) -> None:
        super().__init__(message)
        self.status = status
        self.body: Json = {**extra, "message": message}
        if code is not None:
            self.body["code"] = code


def bad_body(message: str) -> Refusal:
    return Refusal(422, message, 40010001)


def not_valid(message: str) -> Refusal:
    return Refusal(422, message, 42210000)


def forbidden(message: str, **extra: str) -> Refusal:
    return Refusal(403, message, 40310000, **extra)


def not_found(message: str) -> Refusal:
    return Refusal(404, message, 40410000)


def insufficient(asset: str, requested: str, available: str, balance: str) -> Refusal:
    """The venue says `symbol: USD` even where coins are missing."""
    words = f"insufficient balance for {asset} (requested: {requested}, available: {available})"
    return forbidden(words, available=available, balance=balance, symbol="USD")


def wash_trade(order_id: str, kind: str) -> Refusal:
    return forbidden(
        "potential wash trade detected. use complex orders",
        existing_order_id=order_id,
        reject_reason=f"opposite side {kind} order exists",
    )
