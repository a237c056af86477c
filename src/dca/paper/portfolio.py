"""The value of the account over time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from dca.paper.exchange import Exchange
from dca.paper.gate import Answer, Call
from dca.paper.refusals import bad_body
from dca.paper.wire import Json, instant

TIMEFRAMES = {"1Min": 60, "5Min": 300, "15Min": 900, "1H": 3600, "1D": 86_400}
UNITS = {"D": 1, "W": 7, "M": 30, "A": 365}


@dataclass(frozen=True, slots=True)
class Sample:
    at: int
    equity: float


class Portfolio:
    """Samples the equity once a minute of the exchange's time; the samples end with the process."""

    def __init__(self, exchange: Exchange, equity: Callable[[], Decimal]) -> None:
        self.exchange = exchange
        self._equity = equity
        self._samples: list[Sample] = []

    def sample(self, now: datetime) -> None:
        """The equity of this minute is kept."""
        minute = int(now.timestamp()) // 60 * 60
        if not self._samples or self._samples[-1].at < minute:
            self._samples.append(Sample(minute, round(float(self._equity()), 2)))

    def history(self, call: Call) -> Answer:
        """Never null in `equity` and `profit_loss`: alpaca-py cannot read that."""
        name, step = _timeframe(call.query)
        start, end = self._window(call.query)
        found: dict[int, float] = {}
        for sample in self._samples:
            if start.timestamp() <= sample.at <= end.timestamp():
                found.setdefault(sample.at // step * step, sample.equity)
        base = round(float(self.exchange.ledger.deposited), 2)
        gains = [round(equity - base, 2) for equity in found.values()]
        answer: Json = {
            "timestamp": list(found),
            "equity": list(found.values()),
            "profit_loss": gains,
            "profit_loss_pct": [gain / base if base else None for gain in gains],
            "base_value": base,
            "base_value_asof": self.exchange.born.date().isoformat(),
            "timeframe": name,
            "cashflow": {},
        }
        return Answer(answer)

    def _window(self, query: Mapping[str, str]) -> tuple[datetime, datetime]:
        try:
            end = instant(query["end"]) if query.get("end") else self.exchange.clock.now()
            if query.get("start"):
                return instant(query["start"]), end
            period = query.get("period", "1M")
            return end - timedelta(days=int(period[:-1]) * UNITS[period[-1]]), end
        except (ValueError, KeyError) as error:
            raise bad_body("invalid period, start or end") from error


def _timeframe(query: Mapping[str, str]) -> tuple[str, int]:
    name = query.get("timeframe", "1D")
    if name not in TIMEFRAMES:
        raise bad_body("invalid timeframe")
    return name, TIMEFRAMES[name]
