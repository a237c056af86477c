"""`dca report statement` on real databases and the paper exchange, and what the doctor says of it."""

import csv
import io
import json
from datetime import timedelta
from decimal import Decimal as D
from pathlib import Path
from typing import Any

import pytest
from apps.bot import BTC, Bot
from apps.test_pnl import trade
from rich.console import Console

from dca.apps import ledger
from dca.service.caretakers.bookkeeper import UNEXPLAINED, Bookkeeper
from dca.service.caretakers.runner import run

DAY = "2023-03-09"


def count(bot: Bot) -> None:
    """One pass of the bookkeeper; to the paper exchange nothing is too fresh."""
    keeper = Bookkeeper(bot.store, bot.desk.broker, bot.desk.clock, timedelta(0), lambda seconds: None)
    report = run(keeper, store=bot.store, clock=bot.desk.clock, holder="test", alive=lambda holder: False)
    assert (report.result, report.notes) == ("done", {})


def statement(bot: Bot, *words: str) -> Any:
    code, out, said = bot.dca("report", "statement", "--json", *words)
    assert (code, said) == (0, "")
    return json.loads(out)


def unexplained(bot: Bot) -> Any:
    return statement(bot)["statement"]["unexplained_usd"]


def bought(bot: Bot) -> Bot:
    """Counted, and counted again after a base order."""
    count(bot)
    bot.add()
    bot.at("20000")
    bot.desk.catch_up.everything()
    count(bot)
    return bot


def test_a_day_of_trading_is_explained_to_the_cent(bot: Bot) -> None:
    count(bot)
    trade(bot)
    bot.desk.catch_up.everything()
    bot.exchange.control.deposit("USD", "250.25")
    bot.exchange.control.deposit("ETH/USD", "0.5")
    count(bot)
    found = statement(bot)
    shown = found["statement"]
    assert (shown["explained"], shown["unexplained_usd"]) == (True, "0.00")
    assert (shown["cash"]["opening"], shown["cash"]["transfers"]) == ("10000.00", "250.25")
    venue = bot.exchange.control.ledger()
    assert shown["cash"]["closing"] == f"{int(D(venue['cash']) * 100) / 100:.2f}"
    assert {one["unit"]: one["closing"] for one in shown["coins"]} == venue["coins"]
    names = [name for name in ledger.LABELS if name not in ("opening", "closing")]
    for sheet in (shown["cash"], *shown["coins"]):
        assert D(sheet["opening"]) + sum(D(sheet[name]) for name in names) == D(sheet["closing"])
    code, out, _ = bot.dca("report", "pnl", "--json", "--since", DAY, "--until", DAY)
    assert code == 0
    assert found["realised_usd"] == json.loads(out)["total"]["net_usd"] != "0"
    fills = bot.store.read(lambda tx: tx.fills())
    sold = sum(fill.qty * fill.price for fill in fills if fill.side == "sell")
    assert shown["cash"]["sells"] == f"{sold:.2f}"


def test_the_same_is_said_in_words_and_as_csv(any_bot: Bot, tmp_path: Path) -> None:
    bot = bought(any_bot)
    code, out, _ = bot.dca("report", "statement", "--day", DAY)
    assert code == 0 and "every cent is explained" in out
    assert all(label in out for label in ("opening balance", "buys", "sells", "fees", BTC))
    file = tmp_path / "books.csv"
    assert bot.dca("report", "statement", "--day", DAY, "--to", "2023-03-10", "--csv", str(file))[0] == 0
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    assert [row["unit"] for row in rows] == ["USD", BTC]
    assert rows[0] == {**rows[0], **statement(bot)["statement"]["cash"]}


def test_money_that_is_gone_is_red_and_the_doctor_knows(bot: Bot) -> None:
    bought(bot)
    assert "every cent is explained" in doctor(bot)[1]
    bot.exchange.control.deposit("USD", "-5", listed=False)
    count(bot)
    assert unexplained(bot) == "-5.00"
    code, out, _ = bot.dca("report", "statement")
    assert code == 0 and "-5.00 USD: no fill, fee or transfer explains this" in out
    shown = Console(force_terminal=True, width=120)
    with shown.capture() as screen:
        shown.print(ledger.page(statement(bot)))
    [line] = [line for line in screen.get().splitlines() if "unexplained " in line and "5.00" in line]
    assert "\x1b[1;31m" in line and "-5.00" in line
    assert [event.name for event in bot.store.read(lambda tx: tx.events(name=UNEXPLAINED))] == [UNEXPLAINED]
    assert UNEXPLAINED in [one.name for one in bot.store.read(lambda tx: tx.messages())]
    level, seen = doctor(bot)
    assert level == "warn" and DAY in seen


def doctor(bot: Bot) -> tuple[str, str]:
    _, out, _ = bot.dca("doctor", "--json", "--no-streams")
    found = {one["subject"]: one for one in json.loads(out)["findings"]}
    return found["statement"]["level"], found["statement"]["seen"]


def test_a_day_without_books_says_from_when_on_there_are_some(bot: Bot) -> None:
    code, out, _ = bot.dca("report", "statement")
    assert code == 0 and "there are no books yet" in out
    assert statement(bot) == {
        "first_day": DAY,
        "last_day": DAY,
        "statement": None,
        "books_since": None,
        "books_until": None,
        "realised_usd": "0",
    }
    count(bot)
    for day in ("2023-03-08", "2023-03-10", DAY):
        code, out, _ = bot.dca("report", "statement", "--day", day)
        assert code == 0 and "there are books from 2023-03-09 12:0" in out
    assert bot.dca("report", "statement", "--csv", "-")[1].count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--day", "yesterday"), "'yesterday' is not a day such as 2026-01-31"),
        (("--day", "2023-02-30"), "is not a day"),
        (("--day", DAY, "--to", "9999-12-31"), "is not a day"),
        (("--to", "2023-03-08"), "the first day, 2023-03-09, is after the last one, 2023-03-08"),
    ],
)
def test_a_day_that_is_none_is_an_error(bot: Bot, words: tuple[str, ...], said: str) -> None:
    code, out, error = bot.dca("report", "statement", *words)
    assert (code, out) == (78, "") and said in error
