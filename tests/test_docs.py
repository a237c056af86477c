"""What the documents say is so: messages, scripts, commands and settings exist, and none is left out."""

import re
import shlex
from pathlib import Path

import pytest

from dca.apps.cli import parser
from dca.domain.notices import NOTICES

ROOT = Path(__file__).parents[1]
OPERATIONS = (ROOT / "docs/operations.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "docs/operations.md"]


def test_every_message_is_explained_with_what_to_do() -> None:
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in OPERATIONS.splitlines()]
    explained = {row[0]: row for row in rows if len(row) == 4 and row[0] in NOTICES}
    assert set(explained) == set(NOTICES)
    for name, (_, urgent, means, todo) in explained.items():
        assert (urgent == "yes") is NOTICES[name].urgent, name
        assert means and todo, name


def test_every_script_is_named() -> None:
    for script in (ROOT / "scripts").glob("*.py"):
        assert f"scripts/{script.name}" in OPERATIONS, script.name


def commands(page: Path) -> list[str]:
    """Lines of its code blocks that are commands of `dca`."""
    blocks = re.findall(r"^```\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("dca ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_shown_is_one(page: Path) -> None:
    shown = commands(page)
    assert shown
    for line in shown:
        parser().parse_args(shlex.split(line)[1:])


def test_every_setting_of_the_example_is_read() -> None:
    names = re.findall(r"^#? ?([A-Z][A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    source = (ROOT / "src/dca/settings.py").read_text()
    assert len(names) > 20
    for name in names:
        assert f'"{name}"' in source, name


def test_links_between_the_documents_lead_somewhere() -> None:
    for page in [*PAGES, *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
