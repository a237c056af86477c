"""The stop on the command line: given, changed, taken away, and seen in every page that shows triggers."""

import json
from dataclasses import replace
from decimal import Decimal as D
from typing import Any

import pytest
from apps.bot import BTC, RULES, Bot

STOP = ["--stop-loss", "20", "--stop-loss-timeout", "60", "--stop-loss-trailing", "--break-even", "1.5"]


def rules_of(bot: Bot) -> dict[str, Any]:
    names = ("stop_loss_percent", "stop_loss_timeout", "stop_loss_trailing", "break_even_percent")
    code, out, _ = bot.dca("asset", "list", "--json")
    assert code == 0
    (asset,) = json.loads(out)
    return {name: asset[name] for name in (*names, "stop_loss_cooldown_period")}


def test_it_is_given_changed_and_taken_away(bot: Bot) -> None:
    code, out, said = bot.dca("asset", "add", BTC, "--offline", *STOP, "--stop-loss-cooldown", "3600")
    assert code == 0, said
    assert (
        "stop loss 20 % below the average, trailing, after 60 s there, at break-even once 1.5 % above it: "
        "about 24.24 USD are lost when it sells the whole ladder"
    ) in out and "note:" not in out
    assert rules_of(bot) == {
        "stop_loss_percent": "20",
        "stop_loss_timeout": 60,
        "stop_loss_trailing": True,
        "break_even_percent": "1.5",
        "stop_loss_cooldown_period": 3600,
    }
    changes = ["--break-even", "none", "--stop-loss-cooldown", "none", "--stop-loss-timeout", "none"]
    assert bot.dca("asset", "set", BTC, "--offline", *changes, "--no-stop-loss-trailing")[0] == 0
    assert list(rules_of(bot).values()) == ["20", 0, False, None, None]
    assert bot.dca("asset", "set", BTC, "--offline", *STOP)[0] == 0
    code, out, _ = bot.dca("asset", "set", BTC, "--offline", "--stop-loss", "none")
    assert code == 0 and "stop loss" not in out
    assert list(rules_of(bot).values()) == [None, 0, False, None, None]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--stop-loss", "0"], "stop_loss_percent is 0; it must be from 0.1 to 99 %"),
        (["--stop-loss-trailing"], "stop_loss_trailing needs a stop_loss_percent"),
        (["--stop-loss", "none", "--break-even", "2"], "break_even_percent needs a stop_loss_percent"),
        (["--stop-loss", "20", "--break-even", "0.1"], "no more than the fee of 0.25 %"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_stored(
    bot: Bot, words: list[str], complaint: str
) -> None:
    code, _, said = bot.dca("asset", "add", BTC, "--offline", *words)
    assert code == 78 and complaint in said
    assert "no assets yet" in bot.dca("asset", "list")[1]


def test_a_word_that_is_no_number_is_named(bot: Bot) -> None:
    with pytest.raises(SystemExit):
        bot.dca("asset", "add", BTC, "--offline", "--stop-loss", "much")


def test_one_that_cuts_the_ladder_is_stored_with_a_note(bot: Bot) -> None:
    note = "note: the stop cuts the ladder at safety order 2: it sells everything 3 % below the average"
    for words in (["asset", "add", BTC, "--offline", "--stop-loss", "3"], ["asset", "list"]):
        code, out, _ = bot.dca(*words)
        assert code == 0 and note in out
    assert "the stop cuts the ladder at safety order 2" in bot.dca("doctor", "--no-streams", "--json")[1]


def test_one_that_would_sell_at_once_is_refused_while_coins_are_held(bot: Bot) -> None:
    assert bot.dca("asset", "add", BTC, "--max-safety", "0", "--stop-loss", "50")[0] == 0
    bot.at("20000")
    bot.price("18000")
    code, _, said = bot.dca("asset", "set", BTC, "--stop-loss", "10")
    assert code == 78 and "the stop would stand at 18047.8" in said and "dca cycle close BTC/USD" in said
    assert rules_of(bot)["stop_loss_percent"] == "50"
    assert bot.dca("asset", "set", BTC, "--stop-loss", "10.5")[0] == 0
    bot.price("17000")
    assert bot.dca("asset", "set", BTC, "--take-profit", "2")[0] == 0, "the stop stays as it is"
    assert bot.dca("asset", "set", BTC, "--stop-loss", "none")[0] == 0


def test_every_page_shows_how_far_it_is(bot: Bot) -> None:
    bot.add(BTC, replace(RULES, stop_loss_percent=D(10)))
    bot.at("20000")
    bot.price("19700")
    assert "stop -8.39% at" in bot.dca("status")[1]
    assert "no stop loss: bid 19700 is 8.39 % above 18047.8" in bot.dca("why", BTC)[1]
    bot.price("18000")
    out = bot.dca("why", BTC)[1]
    assert "bid 18000 is at or below the stop 18047.8" in out and "not even by the stop" not in out
    bot.dca("halt", "fire")
    out = bot.dca("why", BTC)[1]
    assert "trading is halted until a person resumes it" in out and "not even by the stop" in out
    assert "stop loss: bid 18000 has reached 18047.8" in out
