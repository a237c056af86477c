"""What an operator does on purpose, on a real exchange and real databases."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from apps.bot import BTC, Bot, start

from dca.adapters.halt_file import HaltFile
from dca.service import operating


def test_closing_sells_everything_once_and_says_what_it_came_to(any_bot: Bot) -> None:
    bot = any_bot
    bot.add()
    bot.at("20000")
    bot.at("19500")
    code, out, _ = bot.dca("cycle", "close", BTC, "--yes")
    assert code == 0
    assert "sell 0.010" in out and "cycle 1 is closed" in out and "dca pause BTC/USD" in out
    assert BTC not in bot.exchange.control.ledger()["coins"]
    assert bot.brief().situation.asset.paused_reason is None
    cycle = bot.brief().cycle
    assert cycle is not None and (cycle.id, cycle.status) == (2, "cooldown")
    assert {"operator_close", "cycle_completed"} <= set(bot.events())


def test_closing_cancels_what_rests_first(bot: Bot) -> None:
    bot.add()
    bot.at("20000")
    resting_buy(bot)
    code, out, _ = bot.dca("cycle", "close", BTC, "--yes")
    assert code == 0, out
    assert "cancel the safety buy" in out
    statuses = [str(order.status) for order in bot.store.read(lambda tx: tx.orders())]
    assert statuses == ["filled", "canceled", "filled"]


def resting_buy(bot: Bot) -> None:
    """A safety order that the market has left behind."""
    quote = bot.desk.broker.latest_quote(BTC)._replace(bid=bot.desk.broker.latest_quote(BTC).bid * 95 / 100)
    low = quote._replace(ask=quote.bid + 3)
    bot.desk.trader.act(bot.brief(), low, before=low)
    assert bot.brief().busy


def test_a_resting_buy_is_replaced_at_a_price_of_today(bot: Bot) -> None:
    bot.add()
    bot.at("20000")
    resting_buy(bot)
    code, out, _ = bot.dca("cycle", "replace", BTC, "--dry-run")
    assert code == 0 and "buy for what is left of it, 100.00 USD, at no more than 20003" in out, out
    assert bot.brief().orders[-1].status == "open"
    code, _, said = bot.dca("cycle", "replace", BTC, "--limit", "30000", "--yes")
    assert code == 78 and "too far from the ask" in said
    code, out, said = bot.dca("cycle", "replace", BTC, "--yes")
    assert code == 0, out + said
    assert "canceled" in out and "filled" in out
    statuses = [str(order.status) for order in bot.store.read(lambda tx: tx.orders())]
    assert statuses == ["filled", "canceled", "filled"]


def test_a_dry_run_and_a_missing_terminal_do_nothing(bot: Bot) -> None:
    bot.add()
    bot.at("20000")
    before = bot.events()
    code, out, _ = bot.dca("cycle", "close", BTC, "--dry-run")
    assert (code, bot.posted("sell")) == (0, 0) and "sell 0.00" in out
    for words in (["close", BTC], ["add-funds", BTC, "50"], ["cancel-orders", BTC]):
        code, _, said = bot.dca("cycle", *words)
        assert code == 78 and "--yes" in said, words
    assert (bot.posted("sell"), bot.posted("buy"), bot.events()) == (0, 1, before)


def test_the_same_as_a_process(bot: Bot) -> None:
    bot.add()
    bot.at("20000")

    def close(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "dca.apps.cli", "cycle", "close", BTC, *more],
            env={**os.environ, **bot.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    ended = close()
    assert (ended.returncode, bot.posted("sell")) == (78, 0) and "nobody can be asked" in ended.stderr
    ended = close("--yes")
    assert (ended.returncode, ended.stderr, bot.posted("sell")) == (0, "", 1)


def test_two_who_close_at_once_sell_once(any_bot: Bot) -> None:
    bot = any_bot
    bot.add()
    bot.at("20000")
    desks = [start(bot.environment) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda pair: operating.close(pair[1], BTC), desks))
    assert [one.ok for one in done] == [True] * 4, done
    assert bot.posted("sell") == 1
    assert bot.brief().situation.asset.paused_reason is None
    for store, desk in desks:
        desk.broker.close()  # type: ignore[attr-defined]
        store.close()


def test_closing_twice_says_that_nothing_is_held(bot: Bot) -> None:
    bot.add()
    bot.at("20000")
    assert bot.dca("cycle", "close", BTC, "--yes")[0] == 0
    code, _, said = bot.dca("cycle", "close", BTC, "--yes")
    assert code == 78 and "nothing to close" in said


def test_a_sell_that_the_venue_refuses_is_reported_and_not_repeated(bot: Bot) -> None:
    bot.add()
    bot.at("20000")
    bot.exchange.control.deposit(BTC, "-0.004")
    code, _, said = bot.dca("cycle", "close", BTC, "--yes")
    assert code == 75 and "insufficient" in said
    assert bot.posted("sell") == 1
    assert bot.brief().situation.asset.paused_reason is None
    # A second press does not wait for the pause after a refusal.
    assert bot.dca("cycle", "close", BTC, "--yes")[0] == 75
    assert bot.posted("sell") == 2


def test_canceling_orders_leaves_the_coins(bot: Bot) -> None:
    bot.add()
    assert "no live order" in bot.dca("cycle", "cancel-orders", BTC, "--yes")[1]
    bot.at("20000")
    resting_buy(bot)
    code, out, _ = bot.dca("cycle", "cancel-orders", BTC, "--yes")
    assert code == 0 and "canceled" in out
    cycle = bot.brief().cycle
    assert cycle is not None and cycle.status == "watching" and cycle.quantity > 0


def test_added_funds_count_into_the_average_and_use_no_step(any_bot: Bot) -> None:
    bot = any_bot
    bot.add()
    bot.at("20000")
    before = bot.brief().cycle
    bot.price("19000")
    code, out, _ = bot.dca("cycle", "add-funds", BTC, "150", "--yes")
    assert code == 0 and "add funds buy" in out and "filled" in out
    after = bot.brief().cycle
    assert before is not None and after is not None
    assert after.average_purchase_price < before.average_purchase_price
    assert after.safety_orders == 0
    # The ladder is as long as before: three safety orders of 100 USD still fit.
    for price in ("18600", "18200", "17800"):
        assert "safety order" in bot.at(price).reason
    cycle = bot.brief().cycle
    assert cycle is not None and cycle.safety_orders == 3


@pytest.mark.parametrize(
    ("before", "words", "complaint"),
    [
        (["pause"], ["add-funds", BTC, "50"], "trading is paused (by the operator)"),
        (["pause", BTC], ["add-funds", BTC, "50"], "dca resume BTC/USD"),
        (["asset", "disable", BTC], ["add-funds", BTC, "50"], "dca asset enable BTC/USD"),
        (["status"], ["add-funds", BTC, "5"], "at least 11 USD"),
        (["halt", "fire"], ["add-funds", BTC, "50"], "trading is halted (fire)"),
        (["halt", "fire"], ["close", BTC], "until: dca resume"),
        (["halt", BTC, "fire"], ["close", BTC], "until: dca resume BTC/USD"),
        (["status"], ["close", "XRP/USD"], "there is no asset XRP/USD"),
    ],
)
def test_what_may_not_be_sent_is_refused_before_anybody_is_asked(
    bot: Bot, before: list[str], words: list[str], complaint: str
) -> None:
    bot.add()
    bot.at("20000")
    assert bot.dca(*before)[0] == 0
    code, out, said = bot.dca("cycle", *words, "--yes")
    assert code == 78 and complaint in said and out == ""
    assert (bot.posted("buy"), bot.posted("sell")) == (1, 0)


def test_funds_are_added_to_a_position_only(bot: Bot) -> None:
    bot.add()
    code, _, said = bot.dca("cycle", "add-funds", BTC, "50", "--yes")
    assert code == 78 and "holds nothing" in said


def test_a_paused_asset_buys_nothing_and_still_sells(bot: Bot) -> None:
    bot.add()
    bot.at("20000")
    assert "paused" in bot.dca("pause", BTC, "--reason", "news at eight")[1]
    assert "paused: no more buys" in bot.at("19000").reason
    bot.at("20500")
    assert (bot.posted("buy"), bot.posted("sell")) == (1, 1)
    assert "not paused any more" in bot.dca("resume", BTC)[1]
    assert bot.events().count("asset_paused") == bot.events().count("asset_resumed") == 1


def test_a_halt_reaches_every_process_and_is_told_to_the_others(bot: Bot) -> None:
    bot.add()
    bot.dca("halt", "something is wrong")
    assert [one.reason for one in bot.store.read(lambda tx: tx.modes())] == ["something is wrong"]
    assert not HaltFile(Path(bot.environment["DCA_RUN_DIR"])).path.exists()
    assert "trading halted" in bot.at("20000").reason
    (message,) = bot.store.read(lambda tx: tx.messages())
    assert message.text == "trading is halted by the operator: something is wrong"
    bot.dca("pause")
    bot.dca("resume")
    assert bot.store.read(lambda tx: tx.modes()) == []


@pytest.mark.parametrize(
    ("words", "halted"),
    [
        ([], "trading halted: by the operator"),
        (["fire"], "trading halted: fire"),
        ([BTC], "BTC/USD halted: by the operator"),
        (["btc/usd", "fire"], "BTC/USD halted: fire"),
    ],
)
def test_a_halt_understands_what_is_meant_in_a_hurry(bot: Bot, words: list[str], halted: str) -> None:
    bot.add()
    code, out, _ = bot.dca("halt", *words)
    assert (code, out.strip()) == (0, halted)


def test_a_reason_without_quotes_is_not_taken_for_an_asset(bot: Bot) -> None:
    code, _, said = bot.dca("halt", "my", "wife")
    assert code == 78 and "NOT halted" in said and 'dca halt "my wife"' in said


def test_a_halt_works_without_a_database(bot: Bot) -> None:
    bot.add()
    file = Path(bot.environment["DATABASE_URL"].removeprefix("sqlite:///"))
    file.rename(file.with_suffix(".away"))
    code, _, said = bot.dca("halt", "fire")
    assert code == 0 and "trading halted by" in said
    file.with_suffix(".away").rename(file)
    outcome = bot.at("20000")
    assert "trading halted" in outcome.reason and "fire" in outcome.reason
    assert bot.posted("buy") == 0
    assert "fire" in bot.dca("status")[1]
    assert bot.dca("resume")[0] == 0
    bot.at("20000")
    assert bot.posted("buy") == 1


def test_a_halt_file_that_cannot_be_read_halts(bot: Bot) -> None:
    bot.add()
    (Path(bot.environment["DCA_RUN_DIR"]) / "HALT").mkdir()
    assert "cannot be read" in bot.at("20000").reason
    assert bot.posted("buy") == 0


def test_resuming_everything_names_what_is_still_halted(bot: Bot) -> None:
    bot.add()
    bot.dca("halt", BTC, "odd")
    assert "still halted: BTC/USD (odd); dca resume BTC/USD" in bot.dca("resume")[1]
    assert "resumed; books and venue agree" in bot.dca("resume", BTC)[1]
    assert "neither halted nor paused" in bot.dca("resume", BTC)[1]


def test_an_asset_that_trades_is_not_taken_out_of_the_books(bot: Bot) -> None:
    bot.add()
    bot.at("20000")
    code, _, said = bot.dca("asset", "remove", BTC)
    assert code == 78 and "dca cycle close BTC/USD" in said
    assert bot.brief().situation.asset.is_enabled
    bot.dca("cycle", "close", BTC, "--yes")
    assert "disabled, and stays in the books" in bot.dca("asset", "remove", BTC)[1]
    assert not bot.brief().situation.asset.is_enabled
    assert json.loads(bot.dca("report", "pnl", "--json")[1])["total"]["cycles"] == 1


def test_coins_of_the_operators_own_are_accepted_or_adopted(bot: Bot) -> None:
    bot.add()
    bot.at("20000")
    bot.exchange.control.deposit(BTC, "0.01")
    bot.dca("halt", BTC, "the venue holds more than the books")
    out = bot.dca("asset", "adopt", BTC, "--dry-run")[1]
    assert "0.01 BTC would count as bought at 20003 (200.03 USD)" in out
    assert "are not the bot's" in bot.dca("resume", BTC)[1]
    assert bot.brief().situation.asset.accepted_difference > 0
    assert bot.dca("asset", "adopt", BTC, "--price", "19000", "--yes")[0] == 0
    cycle = bot.brief().cycle
    assert cycle is not None and cycle.quantity > 0 and cycle.average_purchase_price < 20_000
