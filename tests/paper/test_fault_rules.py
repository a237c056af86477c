"""A fault as it is written: what it is about, which crossings it strikes, and what is refused."""

import re
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import requests
from exchange_support import Bench, config, refused, served

from dca.apps.cli import main, parser
from dca.domain.errors import ConfigError
from dca.paper.config import Switches
from dca.paper.effects import EVENTS, PARAMETERS, REQUESTS, STATUSES, Place
from dca.paper.fault_tables import CHOSEN, fault_of, read_file
from dca.paper.faults import Crossing, Fault, Faults
from dca.paper.refusals import Refusal
from dca.paper.wire import loads

POST = Crossing("POST", "/v2/orders", ("BTC/USD",), "dca-7-base")
GET = Crossing("GET", "/v2/orders?status=open")


class Time:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def answers(*crossings: Crossing, **table: Any) -> list[str | None]:
    """The names of the effects at one crossing after the other."""
    faults = Faults(Time(), 1, [fault_of({"path": "/v2/orders", **table})])
    struck = (faults.struck(Place.ANSWER, crossing) for crossing in crossings)
    return [effect.name if effect else None for effect in struck]


@pytest.mark.parametrize(
    ("table", "strikes"),
    [
        ({}, (True, True)),
        ({"method": "POST"}, (True, False)),
        ({"method": "GET", "path": "/v2/orders?"}, (False, True)),
        ({"path": "/v2/account"}, (False, False)),
        ({"symbol": "BTC/USD"}, (True, False)),
        ({"symbol": "BTCUSD"}, (True, False)),
        ({"symbol": "ETH/USD"}, (False, False)),
        ({"client_order_id": "dca-7-*"}, (True, False)),
        ({"client_order_id": "*-base"}, (True, False)),
        ({"client_order_id": "dca-7"}, (False, False)),
        ({"client_order_id": "*"}, (True, True)),
    ],
    ids=str,
)
def test_what_a_fault_is_about(table: dict[str, Any], strikes: tuple[bool, bool]) -> None:
    struck = answers(POST, GET, **{"effect": 500, **table})
    assert tuple(name is not None for name in struck) == strikes


@pytest.mark.parametrize(
    ("table", "struck"),
    [
        ({"effect": 500}, ["500"] * 5),
        ({"effect": 500, "times": None}, ["500"] * 5),
        ({"effect": 500, "times": 2}, ["500", "500", None, None, None]),
        ({"effect": 500, "after": 1, "times": 1}, [None, "500", None, None, None]),
        ({"script": ["ok", 504, "ok", "hang"]}, [None, "504", None, "hang", None]),
        ({"script": [504, {"effect": "503 html"}], "after": 2}, [None, None, "504", "503 html", None]),
        ({"effect": 500, "probability": 0}, [None] * 5),
    ],
    ids=str,
)
def test_which_crossings_it_strikes(table: dict[str, Any], struck: list[str | None]) -> None:
    assert answers(*[POST] * 5, **table) == struck


def test_it_lasts_from_its_first_strike_on() -> None:
    time = Time()
    faults = Faults(time, 1, [fault_of({"path": "/", "effect": 429, "after": 1, "lasts": 10})])
    seen = []
    for time.at in (0, 100, 109, 110, 111):
        seen.append(faults.struck(Place.ANSWER, POST) is not None)
    assert seen == [False, True, True, False, False]


def test_chance_comes_from_the_seed() -> None:
    def drawn(exchange_seed: int, **table: Any) -> list[bool]:
        faults = Faults(
            Time(), exchange_seed, [fault_of({"path": "/", "effect": 500, "probability": "0.5", **table})]
        )
        return [faults.struck(Place.ANSWER, POST) is not None for _ in range(40)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert drawn(1, seed=7) == drawn(2, seed=7)
    assert 8 < sum(drawn(1)) < 32


def test_at_one_place_the_first_that_may_strikes_and_the_others_do_not_count() -> None:
    tables: list[dict[str, Any]] = [
        {"path": "/", "effect": 503, "times": 1},
        {"path": "/", "effect": 504},
        {"path": "/", "effect": "stuck"},
    ]
    faults = Faults(Time(), 1, map(fault_of, tables))
    assert [faults.struck(Place.ANSWER, POST), faults.struck(Place.ANSWER, POST)] == [
        fault_of(tables[0]).effects[0],
        fault_of(tables[1]).effects[0],
    ]
    assert [row["met"] for row in faults.rows()] == [2, 1, 0]
    assert faults.struck(Place.CANCELED, POST) == fault_of(tables[2]).effects[0]
    faults.lift()
    assert faults.struck(Place.ANSWER, POST) is None and not faults.at(*Place)


def test_the_steps_of_a_script_take_what_the_fault_says_unless_they_say_it_themselves() -> None:
    script = ["504", "ok", {"effect": "delay", "seconds": 9}, {"effect": "500", "reached": False}]
    fault = fault_of({"path": "/", "script": script, "reached": True, "seconds": 2, "retry_after": 7})
    first, second, third, fourth = fault.effects
    assert first and second is None and third and fourth
    assert (first.reached, first.seconds, first["retry_after"]) == (True, 2, 7)
    assert (third.reached, third.seconds) == (True, 9)
    assert (fourth.reached, fourth.seconds) == (False, 2)


BAD: list[tuple[dict[str, Any], str]] = [
    ({}, "needs path or stream"),
    ({"effect": 500}, "needs path or stream"),
    ({"path": "/"}, "either effect or script"),
    ({"path": "/", "effect": 500, "script": [500]}, "either effect or script"),
    ({"path": "/", "effect": 418}, "unknown effect 418; one of 307, 401"),
    ({"path": "/", "effect": "mute"}, "unknown effect mute"),
    ({"path": "/", "effect": "ok"}, "one of them at least"),
    ({"path": "/", "answer": 500}, "unknown field answer"),
    ({"path": "/", "effect": 500, "event": "fill"}, "unknown field event"),
    ({"method": "PUT", "path": "/", "effect": 500}, "method must be one of"),
    ({"path": 1, "effect": 500}, "must be texts"),
    ({"path": "/", "effect": 500, "client_order_id": 1}, "must be texts"),
    ({"path": "/", "effect": 500, "symbol": 1}, "symbol must be a text"),
    ({"path": "/", "effect": 500, "times": -1}, "times must be a whole number"),
    ({"path": "/", "effect": 500, "times": True}, "times must be a whole number"),
    ({"path": "/", "effect": 500, "seed": "x"}, "seed must be a whole number"),
    ({"path": "/", "effect": 500, "probability": 2}, "probability must be from 0 to 1"),
    ({"path": "/", "effect": 500, "lasts": "soon"}, "lasts must be a number"),
    ({"path": "/", "effect": 500, "reached": 1}, "reached must be true or false"),
    ({"path": "/", "effect": 500, "part": "0.5"}, "part means nothing to 500"),
    ({"path": "/", "effect": "partly", "part": 2}, "part must be above 0 and not above 1"),
    ({"path": "/", "effect": "delay"}, "seconds is needed"),
    ({"path": "/", "effect": "delay", "seconds": -1}, "seconds must not be negative"),
    ({"path": "/", "effect": "changed", "field": 1}, "field must be a text"),
    ({"path": "/", "effect": "scaled", "factor": 0}, "factor must be above 0"),
    ({"path": "/", "effect": "fees", "rounding": "odd"}, "rounding must be up, down or nearest"),
    ({"path": "/", "effect": "account"}, "one at least is needed of account_blocked"),
    ({"path": "/", "effect": "instrument", "asset": "BTC/USD"}, "one at least is needed"),
    ({"path": "/", "script": []}, "script must be a list"),
    ({"path": "/", "script": [500, "stuck"]}, "must happen in one place"),
    ({"path": "/", "script": [500], "times": 1}, "neither times nor probability"),
    ({"path": "/", "script": [{"effect": 500, "part": 1}]}, "part means nothing here"),
    ({"stream": "news", "effect": "drop"}, "stream must be one of"),
    ({"stream": "trades"}, "either effect or script"),
    ({"stream": "trades", "effect": "stale", "seconds": 1}, "no quotes in stream trades"),
    ({"stream": "trades", "effect": "mute", "event": "fill"}, "a whole frame has no event"),
    ({"stream": "quotes", "effect": 406, "event": "quotes"}, "event must be one of connect"),
    ({"stream": "quotes", "effect": "drop", "path": "/"}, "unknown field path"),
]


@pytest.mark.parametrize(("table", "why"), BAD, ids=str)
def test_a_fault_without_sense_is_refused_with_the_reason(table: dict[str, Any], why: str) -> None:
    status, body = refused(lambda: fault_of(table))
    assert status == 422 and why in body["message"]


class TestFile:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return tmp_path / "faults.toml"

    def read(self, file: Path, content: str) -> tuple[tuple[Fault, ...], Switches]:
        file.write_text(content)
        return read_file(file)

    def test_its_faults_are_in_force_from_the_start(self, file: Path) -> None:
        content = """
            [switches]
            partial_rate = 0
            rate_limit = 1

            # the first order is taken, and nobody is told
            [[fault]]
            method = "POST"
            path = "/v2/orders"
            script = ["504", "ok", { effect = "delay", seconds = 0.01 }]
            reached = true

            [[fault]]
            stream = "quotes"
            effect = "scaled"
            factor = 0.1
            probability = 0.25
        """
        faults, switches = self.read(file, content)
        assert switches == Switches(partial_rate=0, rate_limit=1)
        with served(config(faults=faults)) as (_, http):
            assert http("POST", "/v2/orders", json={}).status_code == 504
            assert http("POST", "/v2/orders", json={}).status_code == 422
            first, second = http("GET", "/control/faults").json()
            assert (first["method"], first["met"], first["struck"]) == ("POST", 2, 1)
            assert first["script"] == ["504", "ok", {"effect": "delay", "seconds": 0.01}]
            assert (second["effect"], second["factor"], second["met"]) == ("scaled", 0.1, 0)

    def test_an_empty_file_has_none(self, file: Path) -> None:
        assert self.read(file, "") == ((), Switches())

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            ("[[fault]", "not a readable file of faults"),
            ("[[fault]]\npath = '/'\neffect = '500'\n[[fault]]\npath = '/'", "fault 2: a fault needs"),
            ("fault = [1]", "fault 1: a fault needs"),
            ("fault = 1", "one table"),
            ("[[rule]]\npath = '/'", "rule: it has one table"),
            ("switches = 1", "one table"),
            ("[switches]\nmagic = true", "unknown switch magic; known are crypto_tier"),
            ("[switches]\npartial_rate = 'x'", "switch partial_rate must be like 0.1, not 'x'"),
            ("[switches]\nlog_reads = 1", "switch log_reads must be like True, not 1"),
            ("[switches]\nrate_limit = true", "switch rate_limit"),
            ("[switches]\ncrypto_tier = 9", "crypto_tier must be from 1 to 8"),
            ("[switches]\npartial_rate = 2", "must be from 0 to 1"),
        ],
    )
    def test_what_is_wrong_with_it_is_said(self, file: Path, content: str, why: str) -> None:
        with pytest.raises(ConfigError, match=why) as raised:
            self.read(file, content)
        assert str(file) in str(raised.value)

    def test_the_exchange_does_not_start_with_a_bad_one(
        self, file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file.write_text("[[fault]]\npath = '/'\neffect = 'explode'\n")
        assert main(["paper", "serve", "--port", "0", "--faults", str(file)]) == 78
        assert "fault 1: unknown effect explode" in capsys.readouterr().err
        assert main(["paper", "serve", "--port", "0", "--faults", str(file) + "x"]) == 78
        assert "not a readable file of faults" in capsys.readouterr().err

    @pytest.mark.parametrize(
        "table",
        [
            {"path": "/", "effect": "500", "symbol": "NOPE/USD"},
            {"path": "/", "effect": "instrument", "asset": "NOPE/USD", "tradable": False},
        ],
    )
    def test_nor_with_one_about_a_symbol_that_is_not_traded(self, table: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match="unknown symbol NOPE/USD"):
            Bench(config(faults=(fault_of(table),)))
        with served() as (exchange, _), pytest.raises(Refusal, match="unknown symbol"):
            exchange.control.fault(**table)


class TestDocument:
    """What docs/paper-exchange.md says is so, and nothing is left out of it."""

    PAGE = (Path(__file__).parents[2] / "docs/paper-exchange.md").read_text()

    def blocks(self, language: str) -> list[str]:
        return re.findall(rf"^```{language}\n(.*?)^```", self.PAGE, re.DOTALL | re.MULTILINE)

    def test_its_examples_are_understood(self, tmp_path: Path) -> None:
        lines = [line for block in self.blocks("json") for line in block.splitlines()]
        assert len(lines) > 10
        bench = Bench()
        for line in lines:
            bench.control.fault(fault_of(loads(line)))
        (example,) = self.blocks("toml")
        (tmp_path / "faults.toml").write_text(example)
        faults, switches = read_file(tmp_path / "faults.toml")
        assert (len(faults), switches.rate_limit) == (3, 200)

    def test_its_program_runs(self) -> None:
        (program,) = self.blocks("python")
        program = program.replace("    ...  #", "    requests.post(exchange.base_url + '/v2/orders')  #")
        exec(compile(program, "docs/paper-exchange.md", "exec"), {"requests": requests})

    def test_every_command_shown_is_one(self) -> None:
        lines = [line for block in self.blocks("") for line in block.splitlines()]
        shown = [line for line in lines if line.startswith("dca ")]
        assert len(shown) > 2
        for line in shown:
            parser().parse_args(shlex.split(line)[1:])

    @pytest.mark.parametrize(
        "name",
        sorted(
            {*REQUESTS, *EVENTS, *PARAMETERS, *CHOSEN, *(item.name for item in fields(Switches))}
            - {f"{status} html" for status in STATUSES}
        ),
    )
    def test_every_name_is_explained(self, name: str) -> None:
        assert f"`{name}`" in self.PAGE or f'"{name}"' in self.PAGE

    def test_every_lever_is_named(self) -> None:
        for _, path, _ in Bench().venue._control():
            assert path in self.PAGE
