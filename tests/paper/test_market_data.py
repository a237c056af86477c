"""Market data over REST, and the tapes it comes from."""

import gzip
from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
from exchange_support import T0, Bench, HandClock, config, done, refused, served, until

from dca.domain.errors import ConfigError
from dca.domain.market import Quote
from dca.paper.config import Tape
from dca.paper.data import Data
from dca.paper.gate import Call
from dca.paper.player import BREATH, Player
from dca.paper.prices import Replay, Walk

HEADER = "open_time,open,high,low,close,volume\n"
ROSE = "2023-03-09 12:00:00+00:00,20000,20100,19900,20050,1.5\n"
FELL = "2023-03-09 12:01:00+00:00,20050,20060,19800,19900,2.5\n"


def candles(tmp_path: Path, text: str = HEADER + ROSE + FELL, name: str = "c.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def played(source: Replay) -> list[Quote]:
    return list(source.open(1, T0).quotes)


# Replayed candles


def test_a_candle_that_rose_dips_first_and_one_that_fell_rises_first(tmp_path: Path) -> None:
    quotes = played(Replay("BTC/USD", candles(tmp_path), spread_bps=D(0)))
    assert [quote.bid for quote in quotes] == [20000, 19900, 20100, 20050, 20050, 20060, 19800, 19900]
    assert [(quote.at - T0).total_seconds() for quote in quotes] == [0, 15, 30, 45, 60, 75, 90, 105]


def test_a_candle_that_closed_where_it_opened_counts_as_risen(tmp_path: Path) -> None:
    flat = HEADER + "2023-03-09 12:00:00+00:00,20000,20100,19900,20000,1\n"
    quotes = played(Replay("BTC/USD", candles(tmp_path, flat), spread_bps=D(0)))
    assert [quote.bid for quote in quotes] == [20000, 19900, 20100, 20000]


def test_bid_and_ask_lie_around_the_price_rounded_to_cents(tmp_path: Path) -> None:
    first = played(Replay("BTC/USD", candles(tmp_path)))[0]
    assert (first.bid, first.ask) == (D("19997.00"), D("20003.00"))
    second = played(Replay("BTC/USD", candles(tmp_path), spread_bps=D("3.3")))[1]
    assert (second.bid, second.ask) == (D("19896.72"), D("19903.28"))


def test_cheap_coins_keep_their_spread() -> None:
    quote = next(Walk("DOGE/USD", D("0.08"), spread_bps=D(30)).open(1, T0).quotes)
    assert (quote.bid, quote.ask) == (D("0.079880"), D("0.080120"))


def test_a_window_is_played_without_its_end(tmp_path: Path) -> None:
    path = candles(tmp_path, name="c.csv.gz")
    at = T0 + timedelta(minutes=1)
    assert next(quote.at for quote in played(Replay("BTC/USD", path, start=at))) == at
    tape = Replay("BTC/USD", path, end=at).open(1, T0)
    assert tape.length == 4 and len(list(tape.quotes)) == 4


@pytest.mark.parametrize(
    "text",
    ["", "a,b\n", HEADER, HEADER + "2023-03-09 12:00:00+00:00,1,2\n", HEADER + "soon,1,2,3,4,5\n"],
)
def test_a_file_that_cannot_be_played_is_a_config_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"c\.csv"):
        Replay("BTC/USD", candles(tmp_path, text)).open(1, T0)
    with pytest.raises(ConfigError):
        Replay("BTC/USD", tmp_path / "none.csv").open(1, T0)


def test_a_walk_is_the_same_for_the_same_seed_and_never_ends() -> None:
    walk = Walk("BTC/USD", D(20_000), every_s=2.0)

    def some(seed: int) -> list[Quote]:
        return list(islice(walk.open(seed, T0).quotes, 500))

    assert some(1) == some(1) != some(2)
    assert some(1)[1].at - some(1)[0].at == timedelta(seconds=2)
    assert all(quote.bid < quote.ask for quote in some(1))
    assert walk.open(1, T0).length is None


# Playing


def test_what_is_due_is_played_in_one_go_each_quote_matched_in_its_order(tmp_path: Path) -> None:
    clock = HandClock(T0 - timedelta(seconds=1))
    replay = Replay("BTC/USD", candles(tmp_path), spread_bps=D(0))
    with served(config(sources=(replay,)), clock) as (exchange, http):
        status = exchange.control.status()
        assert (status["replay"]["progress"], status["quotes"]) == (0.0, {})
        buy = {"symbol": "BTC/USD", "side": "buy", "type": "limit", "time_in_force": "gtc", "qty": "0.001"}
        low = http("POST", "/v2/orders", json=buy | {"limit_price": "19900"}).json()
        lower = http("POST", "/v2/orders", json=buy | {"limit_price": "19800"}).json()
        clock.forward(seconds=31)
        until(lambda: exchange.control.status()["replay"]["played"] == 3)
        assert http("GET", f"/v2/orders/{low['id']}").json()["filled_avg_price"] == "19900"
        assert http("GET", f"/v2/orders/{lower['id']}").json()["status"] == "new"
        clock.forward(days=1)
        status = until(lambda: (s := exchange.control.status())["replay"]["ended"] and s)
        assert status["replay"]["progress"] == 1.0
        assert status["replay"]["until"] == "2023-03-09T12:01:45.000000Z"
        assert status["quotes"]["BTC/USD"]["bid"] == "19900"
        assert http("GET", f"/v2/orders/{lower['id']}").json()["filled_avg_price"] == "19800"


def test_several_symbols_are_played_together(tmp_path: Path) -> None:
    clock = HandClock(T0)
    sources = (Replay("BTC/USD", candles(tmp_path)), Walk("ETH/USD", D(1500), every_s=10.0))
    with served(config(sources=sources), clock) as (exchange, _):
        clock.forward(seconds=105)
        status = until(lambda: (s := exchange.control.status())["replay"]["played"] == 8 + 11 and s)
        assert set(status["quotes"]) == {"BTC/USD", "ETH/USD"}
        # A walk has no end, so there is no progress towards one.
        assert (status["replay"]["ended"], status["replay"]["progress"]) == (False, 0.0)


def test_quotes_are_played_by_time_across_symbols_and_requests_are_served_between() -> None:
    def tape(symbol: str, offset: int) -> Tape:
        times = (T0 + timedelta(seconds=2 * step + offset) for step in range(BREATH))
        return Tape((Quote(symbol, D(1), D(2), at) for at in times), BREATH)

    seen: list[Quote] = []
    player = Player((tape("A/USD", 0), tape("B/USD", 1)), HandClock(), seen.append)
    assert player._play_some(T0 + timedelta(days=1)) is True and len(seen) == BREATH
    assert player._play_some(T0 + timedelta(days=1)) is True
    assert player._play_some(T0 + timedelta(days=1)) is False
    assert (player.ended, player.progress) == (True, 1.0)
    assert all(one.at <= two.at for one, two in pairwise(seen))


def test_the_pause_follows_a_clock_that_runs_fast() -> None:
    class Fast(HandClock):
        def span(self, seconds: float) -> timedelta:
            return timedelta(seconds=seconds * 4000)

    tape = Tape(iter([Quote("A/USD", D(1), D(2), T0 + timedelta(seconds=15))]), 1)
    assert Player((tape,), Fast(), lambda quote: None)._pause(T0) == pytest.approx(0.00375)


# REST


@pytest.fixture
def data() -> Data:
    """Two days of minutes of BTC/USD from 101 upwards, and one quote of ETH/USD."""
    made = Bench()
    made.clock.at = datetime(2023, 3, 9, tzinfo=UTC)
    for price in range(100, 100 + 2 * 1440):
        made.venue.quotes.quote(Quote("BTC/USD", D(price), D(price + 2), made.clock.now()))
        made.clock.forward(minutes=1)
    made.venue.quotes.quote(Quote("ETH/USD", D(1500), D(1502), made.clock.now()))
    return Data(made.exchange, made.venue.market)


def ask(data: Data, name: str, **query: str) -> dict[str, Any]:
    return done(getattr(data, name)(Call({"loc": "us"}, {"symbols": "BTC/USD", **query})))


def test_bars_come_page_by_page_symbol_after_symbol(data: Data) -> None:
    query = {"symbols": "ETH/USD,BTC/USD", "timeframe": "1Min", "limit": "1000"}
    pages, token = [], None
    while not pages or token:
        page = ask(data, "bars", **query, **({"page_token": token} if token else {}))
        token = page["next_page_token"]
        pages.append(page["bars"])
    assert [{symbol: len(bars) for symbol, bars in page.items()} for page in pages] == [
        {"BTC/USD": 1000},
        {"BTC/USD": 1000},
        {"BTC/USD": 880, "ETH/USD": 1},
    ]


@pytest.mark.parametrize(
    ("timeframe", "count", "first", "last_open"),
    [
        ("1Min", 2880, "2023-03-09T00:00", 2980.0),
        ("15Min", 192, "2023-03-09T00:00", 2966.0),
        ("15min", 192, "2023-03-09T00:00", 2966.0),
        ("1Hour", 48, "2023-03-09T00:00", 2921.0),
        ("4H", 12, "2023-03-09T00:00", 2741.0),
        ("1Day", 2, "2023-03-09T00:00", 1541.0),
        ("1Week", 1, "2023-03-06T00:00", 101.0),
        ("3Month", 1, "2023-01-01T00:00", 101.0),
    ],
)
def test_bars_of_longer_periods_are_made_of_minutes(
    data: Data, timeframe: str, count: int, first: str, last_open: float
) -> None:
    bars = ask(data, "bars", timeframe=timeframe, limit="10000")["bars"]["BTC/USD"]
    assert len(bars) == count
    assert bars[0]["t"].isoformat().startswith(first)
    assert bars[-1]["o"] == last_open and bars[-1]["c"] == 2980.0
    assert set(bars[0]) == {"t", "o", "h", "l", "c", "v", "n", "vw"}


def test_a_window_includes_both_its_ends(data: Data) -> None:
    window = {"start": "2023-03-09T00:10:00Z", "end": "2023-03-09T00:12:00+00:00"}
    assert [bar["o"] for bar in ask(data, "bars", **window)["bars"]["BTC/USD"]] == [111.0, 112.0, 113.0]
    assert next(bar["o"] for bar in ask(data, "bars", **window, sort="desc")["bars"]["BTC/USD"]) == 113.0
    day = ask(data, "bars", start="2023-03-10", end="2023-03-10", limit="10000")
    assert len(day["bars"]["BTC/USD"]) == 1440
    assert ask(data, "bars", start="2024-01-01") == {"bars": {}, "next_page_token": None}


def test_quotes_and_trades_are_remembered(data: Data) -> None:
    quotes = ask(data, "quotes", limit="2")
    assert [quote["bp"] for quote in quotes["quotes"]["BTC/USD"]] == [100.0, 101.0]
    assert quotes["next_page_token"] == "2"
    assert ask(data, "trades") == {"trades": {}, "next_page_token": None}


def test_the_latest_of_everything(data: Data) -> None:
    both = "BTC/USD,ETH/USD,NEW/USD"
    latest = ask(data, "latest_quotes", symbols=both)["quotes"]
    assert {symbol: quote["ap"] for symbol, quote in latest.items()} == {"BTC/USD": 2981.0, "ETH/USD": 1502.0}
    book = ask(data, "latest_orderbooks")["orderbooks"]["BTC/USD"]
    assert (book["b"][0]["p"], book["a"][0]["p"]) == (2979.0, 2981.0)
    assert ask(data, "latest_bars")["bars"]["BTC/USD"]["c"] == 2980.0
    assert ask(data, "latest_trades") == {"trades": {}}
    snapshot = ask(data, "snapshots")["snapshots"]["BTC/USD"]
    assert snapshot["latestTrade"] is None
    assert (snapshot["dailyBar"]["o"], snapshot["prevDailyBar"]["c"]) == (1541.0, 1540.0)


@pytest.mark.parametrize(
    "query",
    [
        {"symbols": ""},
        {"symbols": "BTCUSD"},
        {"timeframe": "1Fortnight"},
        {"timeframe": "0Min"},
        {"start": "soon"},
        {"limit": "10001"},
        {"limit": "x"},
        {"page_token": "x"},
    ],
)
def test_a_question_without_sense_is_refused_without_a_code(data: Data, query: dict[str, str]) -> None:
    status, body = refused(lambda: ask(data, "bars", **query))
    assert status == 400 and "code" not in body


def test_an_unknown_location_is_refused(data: Data) -> None:
    assert refused(lambda: data.bars(Call({"loc": "mars"}, {"symbols": "BTC/USD"})))[0] == 400


def test_a_symbol_without_a_slash_is_told_the_pattern(data: Data) -> None:
    _, body = refused(lambda: ask(data, "latest_quotes", symbols="BTCUSD"))
    assert body == {"message": "invalid symbol: BTCUSD does not match ^[A-Z]+x?/[A-Z]+$"}
