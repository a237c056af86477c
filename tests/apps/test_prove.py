"""`dca prove`: its sizes, what it says while it runs, its page and its picture."""

import argparse
import os
import queue
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from dca.apps import cli
from dca.apps.commands import prove as command
from dca.apps.picture import GREEN, RED, picture
from dca.apps.proof import (
    FULL,
    MEANING,
    QUICK,
    QUICKLY_CAUGHT,
    USUAL,
    Circumstances,
    Part,
    Proof,
    deaths_part,
    gate_part,
    lives_part,
    mutants_part,
    page,
    sweep_part,
)
from dca.apps.sweep import a_dozen, every, once_each, shown
from dca.domain.errors import ConfigError
from dca.prove.crash import Course, Line, Point, Result, Sweep
from dca.prove.crash_scripts import SCRIPTS
from dca.prove.deaths import Deaths, Ended
from dca.prove.hunt import Caught
from dca.prove.lives import Tally
from dca.prove.mutants import MUTANTS
from dca.prove.world import Life

BASE, SAFETY = SCRIPTS[:2]
ALLOWED_S = 60
MADE = Circumstances(datetime(2026, 5, 4, 12), "dca prove --full", "proof.svg")


def point(name: str, ordinal: int = 1, script: object = BASE) -> Point:
    return Point(script, name, ordinal)  # type: ignore[arg-type]


def killed(at: Point, wrong: str = "", delivered: bool = True) -> Result:
    return Result(at, delivered, wrong, 1.5)


def line(*results: Result, **more: object) -> Line:
    wrong = tuple(f"{one.point.text}: {one.wrong}" for one in results if one.wrong)
    found = Line(BASE, "sqlite", results, wrong)
    return replace(found, **more)  # type: ignore[arg-type]


WELL = line(killed(point("before_submit")), killed(point("after_submit")), spared=(point("before_find"),))
UNWELL = line(killed(point("before_submit"), "<two> orders & a bill"), killed(point("after_submit")))


def tally(violations: dict[int, list[str]] | None = None) -> Tally:
    return Tally(
        seeds=[*range(7)],
        happened=Counter(fill_before_answer=12345, death=2),
        violations=violations or {},
        digests=dict.fromkeys(range(7), "d"),
        hours=2.0,
        took_s=1.0,
    )


def proof(*lines: Line) -> Proof:
    seen = [
        gate_part([(7, "abc"), (7, "abc")]),
        lives_part(tally(), 2),
        deaths_part(
            [Deaths(0, 1, [Ended((1,), ("here",), ())])], Deaths(0, 2, [Ended((1, 2), ("a", "b"), ())])
        ),
        mutants_part([Caught("a", "sends twice", 1, 0, "I1")], FULL),
        sweep_part(lines),
    ]
    return Proof(FULL, seen, list(lines), {"sqlite": "3.40.1", "mariadb": "10.11"}, 75.0)


def test_a_crossing_that_time_did_not_bring_again_is_no_failure_but_one_that_never_came_is() -> None:
    sweep = Sweep("sqlite", queue.SimpleQueue(), ThreadPoolExecutor(1))
    first, second = point("before_verdicts.write"), point("before_verdicts.write", 2)
    never, asked, again = point("after_verdicts.write"), point("before_find"), point("before_find", 2)
    came = [first, asked]
    points = (first, second, never, asked, again)
    results = tuple(Result(one, delivered=one in came) for one in points)
    course = Course(first.script, None, points, ())
    found = sweep._line(course, results, [one.text for one in points])
    assert (len(found.results), found.spared) == (4, (second,))
    assert found.complaints == (f"{never.text}: never delivered", f"{again.text}: never delivered")


class TestParts:
    @pytest.mark.parametrize("digests", [("a", "b"), ("a", None), (None, None)])
    def test_lives_that_differ_or_do_not_end_are_not_the_same(self, digests: Sequence[str | None]) -> None:
        assert not gate_part([(7, one) for one in digests]).holds
        assert gate_part([(7, "a"), (7, "a")]).holds

    def test_a_life_that_broke_a_rule_is_named_with_the_way_to_its_story(self) -> None:
        part = lives_part(tally({3: ["I1: two orders"]}), 1)
        assert not part.holds
        assert "I1: two orders" in part.wrong[0] and "dca prove lives --seed 3 --trace" in part.wrong[0]
        assert "1 broke a rule" in part.result

    def test_a_campaign_that_did_not_reach_what_it_claims_is_invalid(self) -> None:
        many = tally()
        nothing: Counter[str] = Counter()
        for seed in range(60):
            many.add(Life(seed, "", [], nothing, 2.0, 1, 1, 1))
        part = lives_part(many, 1)
        assert not part.holds and part.result.startswith("INVALID")
        assert any("lost_and_never_seen" in one for one in part.wrong)

    def test_a_death_that_was_not_delivered_or_broke_something_does_not_hold(self) -> None:
        died, missed = Ended((1,), ("here",), ()), Ended((2,), (), ())
        broke = Ended((1,), ("here",), ("I2 lost",))
        twice = Deaths(0, 2, [Ended((1, 2), ("a", "b"), ())])
        assert deaths_part([Deaths(0, 2, [died])], twice).holds
        assert not deaths_part([Deaths(0, 2, [died, missed])], twice).holds
        assert "I2 lost" in deaths_part([Deaths(0, 2, [broke])], twice).wrong[0]
        assert not deaths_part([Deaths(0, 2, [died])], Deaths(0, 2, [missed])).holds, "no pair met anybody"

    def test_a_mistake_that_had_few_lives_is_open_and_in_the_full_run_it_survived(self) -> None:
        found = [Caught(str(number), "waits", 1, 0, "I1") for number in range(9)]
        found.append(Caught("rare", "waits", 30))
        usual, full, quick = (mutants_part(found, size) for size in (USUAL, FULL, QUICK))
        assert usual.holds and "9 of 10 caught, 1 not within 30 lives (open" in usual.result
        assert not usual.wrong and any("not within 30" in row for row in usual.lines)
        assert not full.holds and "rare" in full.wrong[0]
        assert not quick.holds

    def test_a_judge_that_catches_little_does_not_hold_however_few_lives_it_had(self) -> None:
        found = [Caught("a", "waits", 1, 0, "I1"), Caught("b", "waits", 12)]
        assert not mutants_part(found, USUAL).holds
        assert not mutants_part([], FULL).holds

    def test_processes_that_did_not_recover_or_were_not_killed_do_not_hold(self) -> None:
        assert sweep_part([WELL]).holds
        assert not sweep_part([WELL, UNWELL]).holds
        assert not sweep_part([]).holds
        assert not sweep_part([WELL, Line(SAFETY, "sqlite")]).holds, "it crosses nothing"
        assert sweep_part([WELL, Line(SAFETY, "sqlite", spared=(point("before_find"),))]).holds
        late = line(killed(point("before_submit"), delivered=False))
        assert not sweep_part([late]).holds and not sweep_part([WELL, late]).holds


POINTS = [point(name, n, script) for script in (BASE, SAFETY) for name in "abc" for n in (1, 2)]


class TestChoice:
    def test_all(self) -> None:
        assert every(POINTS) == POINTS

    def test_each_boundary_once_in_the_purpose_that_crosses_it_first(self) -> None:
        late = point("d", 1, SAFETY)
        assert [one.text for one in once_each([*POINTS, late])] == [
            "base a:1",
            "base b:1",
            "base c:1",
            "safety d:1",
        ]

    def test_a_dozen_of_many_from_the_first_to_the_last_quarter(self) -> None:
        many = [point(f"{number}") for number in range(40)]
        chosen = [int(one.boundary) for one in a_dozen(many)]
        assert len(set(chosen)) == 12 and chosen[0] == 0 and chosen[-1] >= 30
        assert {number % 2 for number in chosen} == {0, 1}, "before and after"
        assert len(a_dozen(POINTS)) == 3


class TestPage:
    def test_it_says_what_was_tried_how_often_and_what_came_of_it(self) -> None:
        text = page(proof(WELL), MADE)
        assert "**Everything that was tried held.**" in text and "NOT" not in text
        for words in (
            "2026-05-04",
            "`dca prove --full`",
            "sqlite 3.40.1, mariadb 10.11",
            "1 min 15 s",
            "Python 3",
            "cores",
        ):
            assert words in text
        for title, meaning in MEANING.items():
            assert f"\n| {title} | " in text and f"\n## {title}: holds\n\n{meaning}" in text
        assert "| an order filled before its request was answered | 12,345 |" in text
        assert "](proof.svg)" in text
        assert "](" not in page(proof(WELL), replace(MADE, picture=None))

    def test_what_does_not_hold_comes_first(self) -> None:
        text = page(proof(WELL, UNWELL), MADE)
        head = text.partition("| part |")[0]
        assert "does NOT hold" in head and "base before_submit:1: <two> orders & a bill" in head
        assert "held.**" not in text
        assert "## Real processes killed: DOES NOT HOLD" in text

    def test_a_part_without_words_for_what_is_wrong_is_named_all_the_same(self) -> None:
        found = proof(WELL)
        found.parts[0] = Part(found.parts[0].title, False, "lives", 0, "nothing ended")
        assert "- Determinism: nothing ended" in page(found, MADE).partition("| part |")[0]

    def test_what_would_end_a_cell_does_not(self) -> None:
        part = mutants_part([Caught("a", "this | that", 1, 0, "I1")], FULL)
        assert any("this \\| that" in row for row in part.lines)


SVG = "{http://www.w3.org/2000/svg}"


def cells(text: str) -> dict[str, tuple[str, str]]:
    """By the words of each cell: its color, and what stands in it."""
    found = {}
    for group in ElementTree.fromstring(text).iter(f"{SVG}g"):
        shape, words = group.find(f"{SVG}rect"), group.find(f"{SVG}text")
        if shape is not None and words is not None:
            found[str(group.findtext(f"{SVG}title"))] = (shape.attrib["fill"], str(words.text))
    return found


class TestPicture:
    def test_what_recovered_is_green_and_counted_over_databases(self) -> None:
        text = picture([WELL, replace(WELL, database="mariadb")], "today")
        ((told, (color, number)),) = [one for one in cells(text).items() if "base, submit" in one[0]]
        assert (color, number) == (GREEN, "4")
        assert "4 kills (before 2, after 2, sqlite 2, mariadb 2), all recovered" in told
        assert "all recovered" in text and "not recovered" not in text

    def test_what_did_not_is_red(self) -> None:
        text = picture([UNWELL], "today")
        ((told, (color, number)),) = cells(text).items()
        assert (color, number) == (RED, "1/2")
        assert "<two> orders & a bill" in told and "&lt;two&gt; orders &amp; a bill" in text
        assert "1 not recovered" in text

    def test_what_was_never_delivered_is_red(self) -> None:
        ((_, (color, _)),) = cells(picture([line(killed(point("before_find"), delivered=False))], "")).items()
        assert color == RED

    def test_what_was_crossed_and_not_tried_is_told_from_what_was_not_crossed(self) -> None:
        other = Line(SAFETY, "sqlite", (killed(point("before_cancel", script=SAFETY)),))
        found = cells(picture([WELL, other], ""))
        (spared,) = [one for told, one in found.items() if told.startswith("base, find")]
        assert spared[0] not in (GREEN, RED)
        assert not any(told.startswith(("base, cancel", "safety, submit")) for told in found)

    def test_the_same_results_give_the_same_picture_and_columns_are_purposes(self) -> None:
        other = Line(SAFETY, "sqlite", (killed(point("before_cancel", script=SAFETY)),))
        assert picture([WELL, other], "") == picture([WELL, other], "")
        names = [one.text for one in ElementTree.fromstring(picture([WELL, other], "")).iter(f"{SVG}text")]
        assert names.index("base") < names.index("safety")
        assert names.index("cancel") < names.index("find") < names.index("submit")

    def test_of_nothing_there_is_a_picture_too(self) -> None:
        ElementTree.fromstring(picture([], "<today>"))


class TestOptions:
    def test_quick_and_full_exclude_each_other(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            cli.main(["prove", "--quick", "--full"])
        assert "--full: not allowed with argument --quick" in capsys.readouterr().err

    @pytest.mark.parametrize("option", ["--seeds", "--jobs"])
    def test_there_must_be_one_at_least(self, option: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            cli.main(["prove", "--quick", option, "0"])
        assert "0 is not at least 1" in capsys.readouterr().err

    @pytest.mark.parametrize("name", ["page.svg", "nowhere/page.md", "."])
    def test_a_page_that_cannot_be_written_is_refused_before_anything_runs(
        self, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.main(["prove", "--report", str(tmp_path / name)]) == 78
        assert "--report" in capsys.readouterr().err

    def test_a_page_says_what_repeats_it_without_passwords(self) -> None:
        given = "prove --full --seeds 9 --first 3 --jobs 2 --report a.md --database mysql://me:secret@host/db"
        words = command._command(options(*given.split()))
        assert words.startswith("dca prove --full --seeds 9 --first 3 --jobs 2 --database ")
        assert words.endswith(" --report a.md") and "me" in words and "secret" not in words
        assert command._command(options("prove", "--report", "a.md")) == "dca prove --report a.md"

    def test_a_database_that_is_none_is_refused(self) -> None:
        with pytest.raises(ConfigError):
            shown("oracle")


def options(*given: str) -> argparse.Namespace:
    return cli.parser("prove").parse_args(given)


class TestScreen:
    def said(self, *, terminal: bool) -> str:
        out = StringIO()
        with command._Screen(Console(file=out, force_terminal=terminal, width=100)) as screen:
            screen.show("Seeded lives", 1234, 2000)
            screen._bar.refresh()
            screen.tell(Part("Seeded lives", False, "", 2000, "1 broke a rule", ("seed 7",), took_s=12.0))
        return out.getvalue()

    def test_a_terminal_shows_how_far_a_part_is(self) -> None:
        assert "1,234 of 2,000" in self.said(terminal=True)

    def test_elsewhere_there_is_a_line_when_a_part_is_done(self) -> None:
        lines = self.said(terminal=False).splitlines()
        assert lines[0] == "Seeded lives: DOES NOT HOLD, 2,000 tried: 1 broke a rule (12 s)"
        assert [one.strip() for one in lines[1:] if one.strip()] == ["seed 7"]


def test_the_mistakes_of_the_quick_run_are_there() -> None:
    assert len(QUICKLY_CAUGHT) == len(set(QUICKLY_CAUGHT)) >= 10
    assert set(QUICKLY_CAUGHT) <= {one.name for one in MUTANTS}


@pytest.mark.alone
def test_a_quick_proof_touches_every_part_holds_and_takes_less_than_a_minute(tmp_path: Path) -> None:
    """With no keys, as a person runs it."""
    begun = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "dca.apps.cli", "prove", "--quick", "--report", "proof.md"],
        cwd=tmp_path,
        env={"DCA_ENV_FILE": "/nowhere", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=3 * ALLOWED_S,
    )
    took = time.monotonic() - begun
    assert ended.returncode == 0, ended.stdout + ended.stderr
    said, text = ended.stdout.splitlines(), (tmp_path / "proof.md").read_text()
    for title in MEANING:
        (done,) = [one for one in said if one.startswith(f"{title}: holds, ")]
        assert done.endswith(" s)")
        (row,) = [one for one in text.splitlines() if one.startswith(f"| {title} | ")]
        assert int(row.split(" | ")[2].replace(",", "")) >= 5
    assert "sample" in ended.stdout and "sample" in text
    assert any(color == GREEN for color, _ in cells((tmp_path / "proof.svg").read_text()).values())
    assert took < ALLOWED_S
