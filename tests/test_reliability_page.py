"""docs/reliability.md: every test, misfortune and effect it names is there, every fault is understood."""

import ast
import json
import re
import shlex
from functools import cache
from pathlib import Path

from dca.apps.cli import parser
from dca.paper.fault_tables import fault_of
from dca.prove.fates import CHANCES
from dca.prove.lives import REACHED

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/reliability.md").read_text()
ROWS = [
    [cell.strip() for cell in line.split("|")[1:-1]]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| what ")
]


@cache
def names(file: str) -> frozenset[str]:
    """The tests of a file, and its classes of tests, read from its syntax tree."""
    path = ROOT / "tests" / file
    if not path.exists():
        return frozenset()
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found.add(node.name)
            found |= {f"{node.name}::{one.name}" for one in node.body if isinstance(one, ast.FunctionDef)}
    return frozenset(name for name in found if re.search(r"(^|::)[Tt]est", name))


def swept() -> set[str]:
    """The effects whose boundaries are swept."""
    tree = ast.parse((ROOT / "src/dca/prove/crash_scripts.py").read_text())
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    made = (one for one in calls if isinstance(one.func, ast.Name) and one.func.id == "Script")
    return {str(one.args[0].value) for one in made if isinstance(one.args[0], ast.Constant)}


def test_every_test_it_names_exists() -> None:
    named = re.findall(r"`([a-z_/]+/test_\w+\.py)::([\w:]+)`", PAGE)
    assert len(named) > 150
    missing = [f"{file}::{name}" for file, name in named if name not in names(file)]
    assert missing == []


def test_every_misfortune_and_every_swept_effect_stands_there_and_no_other() -> None:
    misfortunes, effects = set(re.findall(r"`lives:(\w+)`", PAGE)), set(re.findall(r"`sweep:(\w+)`", PAGE))
    assert CHANCES.keys() - misfortunes == set()
    assert misfortunes - CHANCES.keys() - REACHED.keys() == set()
    assert effects == swept()


def test_every_fault_it_shows_is_one() -> None:
    shown = re.findall(r"`(\{.*?\})`", PAGE)
    assert len(shown) > 40
    for text in shown:
        fault_of(json.loads(text))


def test_every_command_it_shows_is_one() -> None:
    shown = set(re.findall(r"`dca ([^`]+)`", PAGE))
    assert len(shown) > 10
    for line in shown:
        parser().parse_args(shlex.split(line))


def test_every_row_is_shown_by_something_or_says_that_it_is_not() -> None:
    assert len(ROWS) > 110
    for row in ROWS:
        text = " ".join(row)
        assert len(row) == 4, row
        assert re.search(r"`[\w/]+\.py::|`lives:|`sweep:|\*\*not shown\*\*", text), row[0]
