"""`dca why`: the decision of now with every trigger, and what was on record at any time before."""

import json
from datetime import timedelta
from decimal import Decimal as D
from typing import Any

import pytest
from apps.bot import BTC, RULES, Bot

from dca.adapters.process import identity
from dca.apps import why
from dca.domain.record import Heartbeat
from dca.service.verdicts import Verdicts, verdict_of
from dca.strategy.dca import Wait


def recorded(bot: Bot, bid: str) -> None:
    """The streamer decided at that price, and wrote it down."""
    bot.price(bid)
    quote = bot.desk.broker.latest_quote(BTC)
    situation = bot.brief().situation
    decision = bot.desk.trader.think(situation, quote)
    verdicts = Verdicts(bot.desk.trader.terms)
    now = bot.desk.clock.now()
    verdicts.note(situation, quote, verdict_of(decision), decision.reason, now, held=False)
    verdicts.write(bot.store)


def beating(bot: Bot, says: str, **more: Any) -> None:
    """A streamer seems to run, and says that of the asset."""
    detail = {"identity": identity(), "assets": {BTC: says}, **more}
    beat = Heartbeat(name="streamer", at=bot.desk.clock.now(), detail=detail)
    bot.store.write(lambda tx: tx.beat(beat))


def told(bot: Bot, *words: str) -> str:
    code, out, said = bot.dca("why", BTC, *words)
    assert code == 0, said
    return out


@pytest.fixture
def held(bot: Bot) -> Bot:
    bot.add()
    bot.at("20000")
    bot.price("19700")
    return bot


def test_it_names_each_trigger_with_its_distance(held: Bot) -> None:
    out = told(held)
    assert "no safety order 1: ask 19703 is 0.51 % above 19602.94" in out
    assert "no take profit: bid 19700 is" in out
    assert "nothing to do: ask 19703 is above the next safety order" in out
    assert "0 of 3 safety orders used" in out and "from the venue" in out
    report = json.loads(told(held, "--json"))
    assert report["decision"]["code"] == "between" and not report["decision"]["acts"]
    assert [one["name"] for one in report["triggers"]] == ["safety_order", "take_profit"]
    assert D(report["triggers"][0]["distance_pct"]) == D("-0.51")


def test_it_decides_as_the_streamer_would(held: Bot) -> None:
    held.price("19500")
    assert "is at or below 19602.94: safety order 1" in told(held)
    assert json.loads(told(held, "--json"))["decision"]["acts"]


def test_switches_are_named_with_their_end(held: Bot) -> None:
    held.price("19500")
    held.dca("pause", "--reason", "holidays")
    out = told(held)
    assert "trading is paused: no more buys" in out and "(end it: dca resume)" in out
    held.dca("resume")
    held.dca("pause", BTC)
    assert "the asset is paused: by the operator (end it: dca resume BTC/USD)" in told(held)
    held.dca("halt", BTC, "fire")
    assert "the asset is halted: fire" in told(held)


def test_it_tells_when_nobody_acts_on_it(held: Bot) -> None:
    assert "has never run, so nothing is done about it" in told(held)
    decision = held.desk.trader.think(held.brief().situation, held.desk.broker.latest_quote(BTC))
    assert isinstance(decision, Wait)
    beating(held, decision.reason)
    assert "says the same" in told(held)
    beating(held, "paused after a refusal until 12:30:00", entries_blocked="the trade-update stream is down")
    out = told(held)
    assert "says: paused after a refusal until 12:30:00" in out
    assert "buys nothing: the trade-update stream is down" in out


def test_without_the_venue_the_last_record_is_what_is_known(
    held: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APCA_API_DATA_URL", "http://127.0.0.1:9")
    assert "not known:" in told(held)
    monkeypatch.undo()
    recorded(held, "19690")
    monkeypatch.setenv("DATABASE_URL", held.environment["DATABASE_URL"])
    monkeypatch.setenv("CLOCK_WALL_ORIGIN", held.environment["CLOCK_WALL_ORIGIN"])
    monkeypatch.setenv("CLOCK_ORIGIN", held.environment["CLOCK_ORIGIN"])
    out = told(held)
    assert "bid 19690, ask 19693; from the last record" in out
    assert "APCA_API_KEY_ID is missing" in out, "and it needs no keys"
    assert "no safety order 1: ask 19693 is 0.46 % above 19602.94" in out


def test_the_past_is_told_from_the_records(held: Bot) -> None:
    clock = held.desk.clock
    before = clock.now()
    recorded(held, "19700")
    between = clock.now()
    held.at("19500")
    recorded(held, "19500")
    at = json.loads(told(held, "--at", between.isoformat(), "--json"))
    assert at["record"]["code"] == "between" and at["record"]["bid"] == "19700"
    assert at["next"]["code"] == "between" and at["next"]["bid"] == "19500"
    assert [order["key"].split("-")[2] for order in at["orders"]] == ["base", "safety"]
    out = told(held, "--at", between.isoformat())
    assert "no safety order 1: ask 19703 is 0.51 % above 19602.94" in out
    assert "then" in out and "safety buy of" in out
    early = told(held, "--at", (before - timedelta(hours=1)).isoformat())
    assert "nothing yet" in early
    assert "nothing else was decided since" in told(held, "--at", clock.now().isoformat())
    assert told(held, "--last", "2").count("between:") == 2
    assert len(json.loads(told(held, "--last", "1", "--json"))) == 1


def test_an_instant_may_be_written_in_several_ways(held: Bot) -> None:
    clock = held.desk.clock
    now = clock.now()
    local = now.astimezone()
    minute = local.replace(second=0, microsecond=0)
    assert why.instant(f"{local:%H:%M}", clock) == minute
    assert why.instant(f"{local:%Y-%m-%dT%H:%M}", clock) == minute
    assert why.instant(now.isoformat(), clock) == now
    assert why.instant("2023-03-09T11:59:00+00:00", clock).isoformat() == "2023-03-09T11:59:00+00:00"
    for text, words in (("noon", "is not a time"), ("2199-01-01", "lies in the future")):
        code, _, said = held.dca("why", BTC, "--at", text)
        assert code == 78 and words in said


def test_an_unknown_asset_and_one_without_a_cycle(bot: Bot) -> None:
    code, _, said = bot.dca("why", "XRP/USD")
    assert code == 78 and "there is no asset XRP/USD" in said
    bot.store.write(lambda tx: tx.insert_asset(BTC, RULES, is_enabled=True, at=bot.desk.clock.now()))
    assert "the asset has no cycle yet" in told(bot)
