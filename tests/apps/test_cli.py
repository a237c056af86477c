"""The command line: what it stores, what it refuses, and how it says so."""

import argparse
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dca.adapters.clock import SystemClock
from dca.apps import cli
from dca.paper.config import PaperConfig
from dca.paper.serve import Running, running

LADDER = ["--base", "20", "--safety", "20", "--max-safety", "5", "--deviation", "2", "--take-profit", "1.5"]


@pytest.fixture(scope="module")
def exchange() -> Iterator[Running]:
    with running(PaperConfig(), SystemClock()) as started:
        from decimal import Decimal

        started.call(lambda control: control.quote("BTC/USD", Decimal(20_000), Decimal(20_003)))
        yield started


@pytest.fixture
def dca(exchange: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Any:
    """Runs a command in this process; gives exit code, output and complaint."""
    for name, value in {
        "DCA_ENV_FILE": str(tmp_path / "none"),
        "APCA_API_KEY_ID": "PAPER",
        "APCA_API_SECRET_KEY": "paper-secret",
        "APCA_API_BASE_URL": exchange.base_url,
        "APCA_API_DATA_URL": exchange.base_url,
        "DATABASE_URL": f"sqlite:///{tmp_path / 'dca.sqlite3'}",
        "DCA_RUN_DIR": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)

    def command(*words: str) -> tuple[int, str, str]:
        code = cli.main(words)
        said = capsys.readouterr()
        return code, said.out, said.err

    return command


@pytest.fixture
def ready(dca: Any) -> Any:
    assert dca("db", "upgrade")[0] == 0
    return dca


def test_the_database_is_created_once(dca: Any) -> None:
    assert "0001" in dca("db", "upgrade")[1]
    assert "up to date" in dca("db", "upgrade")[1]


def test_without_a_database_the_way_to_one_is_told(dca: Any) -> None:
    code, _, complaint = dca("asset", "list")
    assert code == 78 and "dca db upgrade" in complaint


def test_an_asset_is_added_with_its_commitment_shown(ready: Any) -> None:
    code, out, _ = ready("asset", "add", "btc/usd", *LADDER)
    assert code == 0
    assert "6 buys, 120 USD in all" in out
    (asset,) = json.loads(ready("asset", "list", "--json")[1])
    assert (asset["asset_symbol"], asset["base_order_amount"], asset["is_enabled"]) == ("BTC/USD", "20", True)
    status = json.loads(ready("status", "--json")[1])
    assert status["assets"][0]["cycle"]["status"] == "watching"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["BTC/USD", "--base", "5"], "base_order_amount is 5"),
        (["BTC/USD", "--deviation", "0"], "safety_order_deviation is 0"),
        (["BTC/USD", "--step-scale", "9", "--max-safety", "9"], "waits for a drop"),
        (["BTCUSD"], "write it as BTC/USD"),
        (["NOPE/USD"], "the venue does not list NOPE/USD"),
        (["BTC/USD", "--trailing"], "ttp_deviation_percent above 0"),
    ],
)
def test_bad_rules_are_refused_and_nothing_is_stored(ready: Any, words: list[str], complaint: str) -> None:
    code, out, said = ready("asset", "add", *words)
    assert code == 78 and complaint in said and out == ""
    assert "no assets yet" in ready("asset", "list")[1]


def test_what_is_not_a_number_is_refused(ready: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        ready("asset", "add", "BTC/USD", "--base", "many")
    assert ended.value.code == 2


def test_an_asset_is_there_once(ready: Any) -> None:
    ready("asset", "add", "BTC/USD", *LADDER)
    code, _, complaint = ready("asset", "add", "BTC/USD", *LADDER)
    assert code == 78 and "dca asset set BTC/USD" in complaint


def test_rules_are_changed_one_by_one_and_checked_as_a_whole(ready: Any) -> None:
    ready("asset", "add", "BTC/USD", *LADDER)
    assert ready("asset", "set", "BTC/USD", "--take-profit", "3")[0] == 0
    (asset,) = json.loads(ready("asset", "list", "--json")[1])
    assert (asset["take_profit_percent"], asset["safety_order_amount"]) == ("3", "20")
    code, _, complaint = ready("asset", "set", "BTC/USD", "--max-cycle-spend", "50")
    assert code == 78 and "the whole ladder costs 120 USD" in complaint
    assert ready("asset", "set", "ETH/USD", "--base", "30")[0] == 78


def test_an_asset_is_taken_away_unless_it_has_traded(ready: Any) -> None:
    ready("asset", "add", "BTC/USD", *LADDER)
    assert ready("asset", "remove", "btc/usd")[1] == "BTC/USD is removed\n"
    assert "no assets yet" in ready("asset", "list")[1]
    code, _, complaint = ready("asset", "remove", "BTC/USD")
    assert code == 78 and "there is no asset BTC/USD" in complaint
    assert ready("asset", "add", "BTC/USD", *LADDER)[0] == 0, "and it may come back"


def test_an_asset_is_disabled_and_enabled(ready: Any) -> None:
    ready("asset", "add", "BTC/USD", *LADDER)
    assert "disabled" in ready("asset", "disable", "btc/usd")[1]
    assert "(enabled)" in ready("asset", "enable", "BTC/USD")[1]


def test_a_halt_shows_until_it_is_lifted(ready: Any) -> None:
    ready("asset", "add", "BTC/USD", *LADDER)
    assert ready("halt", "holidays")[0] == 0
    assert json.loads(ready("status", "--json")[1])["halted"] == "holidays"
    assert "halted: holidays (end it: dca resume)" in ready("status")[1]
    ready("resume")
    assert json.loads(ready("status", "--json")[1])["halted"] is None


def test_status_shows_what_there_is(ready: Any) -> None:
    assert "no assets yet" in ready("status")[1]
    ready("asset", "add", "BTC/USD", *LADDER)
    out = ready("status")[1]
    assert "BTC/USD" in out and "has never run; start it with: dca start" in out


def test_a_venue_that_does_not_answer_changes_nothing(ready: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APCA_API_BASE_URL", "http://127.0.0.1:9")
    code, _, complaint = ready("asset", "add", "BTC/USD", *LADDER)
    assert code == 75 and "nothing was changed" in complaint
    assert ready("asset", "add", "BTC/USD", *LADDER, "--offline")[0] == 0


def every_command(
    parser: argparse.ArgumentParser, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    yield words, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield from every_command(command, (*words, name))


COMMANDS = [pytest.param(*found, id=" ".join(found[0]) or "dca") for found in every_command(cli.parser())]


@pytest.mark.parametrize(("words", "command"), COMMANDS)
def test_every_command_shows_an_example_that_works(
    words: tuple[str, ...], command: argparse.ArgumentParser, capsys: Any
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    example = shown.partition("example:\n")[2].splitlines()[0]
    typed = shlex.split(example)
    assert typed[: len(words) + 1] == ["dca", *words]
    assert cli.parser().parse_args(typed[1:]).run is not None


def test_every_group_of_commands_is_known() -> None:
    """A group that nobody registered would be missing without a word."""
    folder = Path(cli.__file__).parent / "commands"
    written = {path.stem for path in folder.glob("*.py")} - {"__init__", "options"}
    assert written == set(cli.GROUPS)


def test_each_command_is_found_in_the_module_it_is_said_to_be_in() -> None:
    whole = _commands(cli.parser())
    assert whole == [name for names in cli.GROUPS.values() for name in names]
    for names in cli.GROUPS.values():
        for name in names:
            assert _commands(cli.parser(name)) == list(names)


def _commands(parser: argparse.ArgumentParser) -> list[str]:
    groups = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    return [name for group in groups for name in group.choices]


def test_the_demo_wants_days_and_an_empty_folder(ready: Any, tmp_path: Path) -> None:
    assert ready("demo", "--start", "soon")[0] == 78
    assert ready("demo", "--keep", str(tmp_path))[0] == 78
