"""`dca cron`: the user's crontab keeps every byte but those of one marked block.

Most of this runs against a `crontab` of a few lines of shell that keeps what it is given in a file.
"""

import os
import shutil
import subprocess
import sys
import zoneinfo
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dca.adapters import crontab
from dca.apps import cli
from dca.apps.commands import cron
from dca.domain.errors import ConfigError

ROOT = Path(__file__).parents[2]
PLACE = Path("/path/to/dca")
PYTHON = "/path/to/dca/.venv/bin/python"
FAKE = """#!/bin/sh
tab="{tab}"
case "$1" in
-l) if [ -e "$tab" ]; then cat "$tab"; else echo "no crontab for $LOGNAME" >&2; exit 1; fi ;;
-r) rm "$tab" ;;
-) cat > "$tab" ;;
esac
"""
OTHERS = [
    b"",
    b"MAILTO=me@example.com\n\n# mine\n0 5 * * * /bin/backup\n",
    b"# no line end, umlauts \xfc\xff, tabs\t and 100\\% of it\n*/7 * * * * date +\\%s\n\n\n",
    b"# >>> dca /path/to/dca2 >>>\n* * * * * other\n# <<< dca /path/to/dca2 <<<\n",
]


@pytest.fixture
def tab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the stand-in for `crontab` keeps what it is given."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "crontab"
    program.write_text(FAKE.format(tab=tmp_path / "tab"))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return tmp_path / "tab"


def refusing(tab: Path, words: str) -> None:
    (tab.parent / "bin" / "crontab").write_text(f'#!/bin/sh\necho "{words}" >&2\nexit 1\n')


def test_the_example_is_what_the_command_shows() -> None:
    example = (ROOT / "scripts" / "crontab.example").read_text()
    shown = cron.block(PLACE, PYTHON)
    assert example.endswith(shown)
    assert all(line.startswith("#") for line in example.removesuffix(shown).splitlines())


def test_every_script_has_its_line_and_every_line_its_script() -> None:
    scripts = {path.stem for path in (ROOT / "scripts").glob("*.py")}
    assert set(cron.SCHEDULE) == scripts


def test_it_shows_this_project_and_this_interpreter(capsys: Any) -> None:
    assert cli.main(["cron", "show"]) == 0
    out = capsys.readouterr().out
    assert f"* * * * * cd {ROOT} && {sys.executable} scripts/watchdog.py >> logs/cron.log 2>&1\n" in out
    assert f"*/5 * * * * cd {ROOT} && {sys.executable} scripts/consistency_checker.py" in out


@pytest.mark.parametrize(
    ("project", "word"),
    [
        ("/opt/dca", "/opt/dca"),
        ("/home/me/my bots/dca", "'/home/me/my bots/dca'"),
        ("/srv/100%/dca", r"/srv/100\%/dca"),
        ("/srv/it's & more; $HOME", """'/srv/it'"'"'s & more; $HOME'"""),
    ],
)
def test_odd_paths_are_one_word_for_the_shell_and_no_end_of_the_command_for_cron(
    project: str, word: str
) -> None:
    line = cron.block(Path(project), f"{project}/bin/python").splitlines()[1]
    assert f"cd {word} && " in line
    # As cron hands it to the shell: a backslash before a % is taken away.
    command = line.removeprefix("* * * * * ").replace(r"\%", "%")
    told = subprocess.run(
        ["sh", "-c", command.replace("cd ", "printf %s ", 1).partition(" && ")[0]],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == project


@pytest.mark.parametrize("project", ["/a\nb", "/a\\b", "/a\rb"])
def test_what_cron_cannot_carry_is_refused(project: str) -> None:
    with pytest.raises(ConfigError, match="simpler path"):
        cron.block(Path(project), PYTHON)


def test_the_daily_line_runs_once_on_every_day_of_every_zone() -> None:
    """No clock is put forward over it, or back behind it."""
    minute, hour, *_ = cron.DAILY.split()
    of_day = timedelta(hours=int(hour), minutes=int(minute))
    for name in zoneinfo.available_timezones():
        zone = zoneinfo.ZoneInfo(name)
        day = datetime(2026, 1, 1)
        while day.year < 2028:
            local = (day + of_day).replace(tzinfo=zone)
            back = local.astimezone(UTC).astimezone(zone)
            assert back.replace(tzinfo=None) == local.replace(tzinfo=None), f"{name} skips {local}"
            assert local.replace(fold=1).utcoffset() == local.utcoffset(), f"{name} repeats {local}"
            day += timedelta(days=1)


@pytest.mark.parametrize("mine", OTHERS)
def test_installed_and_removed_again_nothing_else_has_changed(mine: bytes) -> None:
    block = cron.block(PLACE, PYTHON).encode()
    once = cron.installed(mine, PLACE, PYTHON)
    assert once == mine + block
    assert cron.installed(once, PLACE, PYTHON) == once
    assert cron.removed(once, PLACE) == mine
    assert cron.removed(mine, PLACE) == mine


def test_an_older_block_is_replaced_where_it_stands() -> None:
    before, after = b"# first\n", b"# last, without a line end"
    old = cron.block(PLACE, "/usr/bin/python3.9").encode().replace(b"watchdog", b"guard_dog")
    found = cron.installed(before + old + after, PLACE, PYTHON)
    assert found == before + cron.block(PLACE, PYTHON).encode() + after
    assert cron.removed(found, PLACE) == before + after


def test_two_projects_do_not_touch_each_others_lines() -> None:
    other = Path("/path/to/dca two")
    both = cron.installed(cron.installed(b"", PLACE, PYTHON), other, PYTHON)
    assert cron.removed(both, PLACE) == cron.block(other, PYTHON).encode()


@pytest.mark.parametrize("keep", [(0, -1), (1, None), (-1, None), (0, 1)])
def test_half_a_block_is_left_to_a_person(keep: tuple[int, int | None]) -> None:
    lines = cron.block(PLACE, PYTHON).encode().splitlines(keepends=True)
    half = b"".join(lines[slice(*keep)])
    for work in (lambda: cron.installed(half, PLACE, PYTHON), lambda: cron.removed(half, PLACE)):
        with pytest.raises(ConfigError, match="half a block"):
            work()
    twice = cron.block(PLACE, PYTHON).encode() * 2
    with pytest.raises(ConfigError):
        cron.installed(twice, PLACE, PYTHON)


def test_the_commands_write_the_users_crontab_and_say_what_they_did(tab: Path, capsys: Any) -> None:
    mine = OTHERS[1]
    tab.write_bytes(mine)
    assert cli.main(["cron", "install"]) == 0
    assert "cron runs 8 caretakers" in capsys.readouterr().out
    with_ours = tab.read_bytes()
    assert with_ours.startswith(mine) and b"scripts/housekeeping.py" in with_ours
    written_at = tab.stat().st_mtime_ns
    assert cli.main(["cron", "install"]) == 0
    assert "already" in capsys.readouterr().out
    assert tab.stat().st_mtime_ns == written_at, "what is there already is not written again"
    assert cli.main(["cron", "remove"]) == 0
    assert tab.read_bytes() == mine
    assert cli.main(["cron", "remove"]) == 0
    assert "has no lines of" in capsys.readouterr().out


def test_who_had_no_crontab_has_none_afterwards(tab: Path) -> None:
    assert cli.main(["cron", "install"]) == 0
    assert tab.exists()
    assert cli.main(["cron", "remove"]) == 0
    assert not tab.exists()


def test_a_crontab_that_cannot_be_read_is_not_taken_for_an_empty_one(tab: Path, capsys: Any) -> None:
    refusing(tab, "You (me) are not allowed to use this program (crontab)")
    assert cli.main(["cron", "install"]) == 78
    assert "not allowed to use this program" in capsys.readouterr().err
    refusing(tab, "crontab: can't open 'me': No such file or directory")
    assert crontab.read() is None


def test_lines_that_are_refused_are_said_to_be(tab: Path) -> None:
    refusing(tab, "bad minute")
    with pytest.raises(ConfigError, match="bad minute"):
        crontab.write(b"x\n")


def test_without_a_crontab_program_the_way_out_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.main(["cron", "install"]) == 78
    assert "systemd/" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("crontab") is None, reason="cron is not installed")
def test_the_real_crontab_takes_the_lines_and_gives_them_back() -> None:
    try:
        before = crontab.read()
    except ConfigError as error:
        pytest.skip(f"this user may have no crontab: {error}")
    place = Path("/no such place/100% dca")
    try:
        with_ours = cron.installed(before or b"", place, "/no such place/python")
        crontab.write(with_ours)
        assert crontab.read() == with_ours
        assert cron.removed(crontab.read() or b"", place) == (before or b"")
    finally:
        crontab.write(before or b"")
    assert crontab.read() == before
