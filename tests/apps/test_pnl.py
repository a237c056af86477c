"""`dca report pnl` on real databases: rows, totals and CSV that agree to the last digit."""

import csv
import io
import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal as D
from pathlib import Path
from typing import Any

import pytest
from apps.bot import BTC, Bot

from dca.apps import pnl
from dca.domain.position import fold
from dca.service import assets, operating

NUMBERS = ("gross_usd", "fees_usd", "net_usd", "cost_usd", "proceeds_usd")


@pytest.fixture
def traded(bot: Bot) -> Bot:
    return trade(bot)


def trade(bot: Bot) -> Bot:
    """Three finished cycles of two coins, and one that is open."""
    bot.exchange.control.quote("ETH/USD", "1500", "1503")
    bot.add()
    bot.add("ETH/USD")
    bot.at("20000")
    bot.at("19500")
    bot.at("1500", "ETH/USD")
    assert operating.close(bot.desk, BTC).ok
    assert operating.close(bot.desk, "ETH/USD").ok
    again(bot)
    bot.at("19000")
    assert operating.close(bot.desk, BTC).ok
    again(bot)
    bot.at("21000")
    bot.price("21210")
    return bot


def again(bot: Bot) -> None:
    """The rest after a cycle is over."""
    rules = replace(bot.brief().situation.asset.rules, cooldown_period=0)
    assets.change(bot.store, bot.desk.clock, BTC, lambda asset: replace(asset, rules=rules), "a test")
    bot.at("19000")


def report(bot: Bot, *words: str) -> Any:
    code, out, said = bot.dca("report", "pnl", "--json", *words)
    assert (code, said) == (0, "")
    return json.loads(out)


def test_every_grouping_adds_up_to_what_the_fills_say(any_bot: Bot) -> None:
    traded = trade(any_bot)
    fills = traded.store.read(lambda tx: tx.fills())
    finished = {cycle.id for cycle in traded.store.read(lambda tx: tx.cycles()) if cycle.finished}
    assert len(finished) == 3
    position = fold([fill for fill in fills if fill.cycle_id in finished])
    for group in pnl.GROUPS:
        found = report(traded, "--by", group)
        total = {name: D(found["total"][name]) for name in NUMBERS}
        assert total["net_usd"] == position.proceeds - position.cost
        assert total["gross_usd"] - total["fees_usd"] == total["net_usd"]
        for name in NUMBERS:
            assert sum(D(row[name]) for row in found["rows"]) == total[name], (group, name)
        assert found["total"]["cycles"] == 3 and found["total"]["safety_orders"] == 1
    assert [row["asset"] for row in report(traded, "--by", "asset")["rows"]] == [BTC, "ETH/USD"]
    assert [row["asset"] for row in report(traded)["rows"]] == [BTC, "ETH/USD", BTC]


def test_an_open_position_is_worth_its_bid(traded: Bot) -> None:
    found = report(traded)
    (row,) = found["open"]
    cycle = traded.brief().cycle
    assert cycle is not None
    assert D(row["value_usd"]) == cycle.quantity * 21_210
    assert D(row["net_usd"]) == D(row["value_usd"]) - D(row["cost_usd"])
    assert found["open_total_usd"] == row["net_usd"]
    ledger = traded.exchange.control.ledger()
    change = D(ledger["cash"]) + D(ledger["coins"][BTC]) * 21_210 - 10_000
    assert change == D(found["total"]["net_usd"]) + D(found["open_total_usd"]), "the account says the same"


def test_capital_is_what_was_bound_at_once(traded: Bot) -> None:
    by_cycle, by_day = report(traded), report(traded, "--by", "day")
    first, second, third = (D(row["max_capital_usd"]) for row in by_cycle["rows"])
    assert first > 199 and 99 < second <= 100 and 99 < third <= 100
    assert D(by_day["rows"][0]["max_capital_usd"]) == first + second, "both coins were held together"


def test_csv_holds_exact_numbers_and_no_total(traded: Bot, tmp_path: Path) -> None:
    file = tmp_path / "pnl.csv"
    assert traded.dca("report", "pnl", "--csv", str(file))[0] == 0
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    assert [row["kind"] for row in rows] == ["cycle"] * 3 + ["open"]
    found = report(traded)
    assert sum(D(row["net_usd"]) for row in rows[:3]) == D(found["total"]["net_usd"])
    assert traded.dca("report", "pnl", "--csv", "-")[1] == file.read_text()
    code, _, said = traded.dca("report", "pnl", "--csv", str(tmp_path / "no" / "where.csv"))
    assert code == 78 and "cannot be written" in said


def test_only_cycles_of_the_days_asked_for_count(traded: Bot) -> None:
    today = traded.desk.clock.now().date()
    yesterday = today - timedelta(days=1)
    assert report(traded, "--since", f"{today}", "--until", f"{today}")["total"]["cycles"] == 3
    assert report(traded, "--until", f"{yesterday}")["total"]["cycles"] == 0
    assert "no cycle has ended" in traded.dca("report", "pnl", "--until", f"{yesterday}")[1]
    for words in (["--since", "soon"], ["--since", f"{today}", "--until", f"{yesterday}"]):
        assert traded.dca("report", "pnl", *words)[0] == 78


def test_the_table_shows_each_row_and_the_total(traded: Bot) -> None:
    found = report(traded)
    out = traded.dca("report", "pnl")[1]
    for row in [*found["rows"], found["total"]]:
        assert f"{D(row['net_usd']):+.2f}" in out
    assert "3 cycles" in out and "open" in out


def test_without_a_price_an_open_position_is_of_unknown_worth(
    bot: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    bot.add()
    bot.at("20000")
    monkeypatch.setenv("APCA_API_DATA_URL", "http://127.0.0.1:9")
    code, out, said = bot.dca("report", "pnl", "--json")
    assert (code, json.loads(out)["open_total_usd"]) == (0, None)
    assert "the venue did not tell its prices" in said
    assert "?" in bot.dca("report", "pnl")[1]
