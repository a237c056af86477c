"""Logs: one event one line, whoever writes and whatever is put away meanwhile; no secret in any form."""

import gzip
import html
import json
import logging
import os
import re
import resource
import signal
import subprocess
import sys
from base64 import b64encode, urlsafe_b64encode
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from dca import logs
from dca.logs import files
from dca.logs.hiding import Hiding

NOW = datetime(2023, 3, 9, tzinfo=UTC)
SECRET = 'hush"hush/ü+8f3k&a'
SOURCE = Path(logs.__file__).parents[2]


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[Path]:
    before = logging.getLogger().handlers[:]
    start(tmp_path)
    yield tmp_path / "many.log"
    for handler in logging.getLogger().handlers:
        handler.close()
    logging.getLogger().handlers[:] = before


def start(folder: Path) -> None:
    logs.set_up("x", folder, "INFO", file="many", secrets=["hush-hush", SECRET], now=lambda: NOW)


def read(file: Path) -> list[dict[str, Any]]:
    data = file.read_bytes()
    text = gzip.decompress(data) if file.suffix == ".gz" else data
    return [json.loads(line) for line in text.splitlines()]


class TestLines:
    def test_an_event_is_one_line_of_json_with_its_fields(self, lines: Path) -> None:
        logging.getLogger("dca.a").info("order_filled", extra={"key": "k1", "qty": "0.1", "n": 3})
        (found,) = read(lines)
        assert (found["event"], found["key"], found["n"]) == ("order_filled", "k1", 3)
        assert (found["at"], found["process"], found["pid"]) == (NOW.isoformat(), "x", os.getpid())

    def test_control_characters_get_out_neither_to_the_file_nor_to_the_terminal(
        self, lines: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        start(lines.parent)
        bad = "X\r\nERROR paid\x1b[31m\x7f\x9b\u2028\u202e\u0085"
        logging.getLogger("dca.a").error(f"event {bad}", extra={"symbol": bad, "list": [bad]})
        text = lines.read_text()
        assert text.count("\n") == 1 and text.isascii()
        assert read(lines)[0]["symbol"] == bad and read(lines)[0]["list"] == [bad]
        shown = capsys.readouterr().err
        assert shown.count("\n") == 1 and not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]", shown)

    def test_fields_are_cut_and_stay_json(self, lines: Path) -> None:
        logging.getLogger("dca.a").error("long", extra={"a": "x" * 9_000, "b": list(range(9_000))})
        (found,) = read(lines)
        assert len(found["a"]) == len(found["b"]) == 2_000

    def test_what_cannot_be_written_as_json_is_written_somehow(self, lines: Path) -> None:
        round_and_round: dict[str, Any] = {}
        round_and_round["it"] = round_and_round
        logging.getLogger("dca.a").error("odd", extra={"a": {1: object}, "b": {(1, 2): round_and_round}})
        assert read(lines)[0]["event"] == "odd" and "it" in str(read(lines)[0]["b"])

    def test_a_line_that_was_called_wrongly_is_there_all_the_same(self, tmp_path: Path) -> None:
        ended = python(tmp_path, "log.info('odd %d', 'hush-hush')", terminal=True)
        assert read(tmp_path / "x.log")[0]["event"] == "odd %d"
        assert "odd %d" in ended.stderr and "hush" not in ended.stderr and ended.stderr.count("\n") == 1

    def test_others_say_only_what_they_must(self, tmp_path: Path, lines: Path) -> None:
        logs.set_up("x", tmp_path, "DEBUG", file="many", now=lambda: NOW)
        for name in ("urllib3.connectionpool", "websockets.client", "httpx", "anybody"):
            logging.getLogger(name).info("https://api/bot1:token")
        logging.getLogger("dca.a").debug("ours")
        assert [line["event"] for line in read(lines)] == ["ours"]


def forms(secret: str) -> dict[str, str]:
    once = json.dumps(secret)[1:-1]
    pairs = {f"base64 after {n}": b64encode(b"k" * n + secret.encode() + b"!").decode() for n in range(4)}
    return {
        "as it is": secret,
        "upper case": secret.upper(),
        "quoted": quote(secret, safe=""),
        "as a path": quote(secret),
        "lower case hex": quote(secret, safe="").lower(),
        "in a form": quote_plus(secret),
        "JSON": once,
        "JSON in JSON": json.dumps(once)[1:-1],
        "JSON in Unicode": json.dumps(secret, ensure_ascii=False)[1:-1],
        "repr": repr(secret)[1:-1],
        "HTML": html.escape(secret),
        "base64 for addresses": urlsafe_b64encode(secret.encode()).decode(),
        **pairs,
    }


class TestSecrets:
    @pytest.mark.parametrize("form", forms(SECRET))
    def test_a_secret_is_hidden_in_every_form(self, lines: Path, form: str) -> None:
        text = forms(SECRET)[form]
        logging.getLogger("dca.a").error(f"said {text} so", extra={"url": text, "in": {"a": [text]}})
        (found,) = read(lines)
        for part in (found["event"], found["url"], found["in"]["a"][0]):
            assert "***" in part and text[4:-6] not in part, form

    def test_a_secret_is_hidden_where_a_field_is_cut(self, lines: Path) -> None:
        logging.getLogger("dca.a").error("x", extra={"a": "y" * 1_995 + "hush-hush"})
        assert "hush" not in lines.read_text()

    def test_a_traceback_stays_in_its_line_without_secrets_and_locals(
        self, lines: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        start(lines.parent)
        local = "value-of-a-local-variable"
        try:
            raise ValueError(f"hush-hush\x1b[0m {len(local)}")
        except ValueError:
            logging.getLogger("dca.a").exception("failed")
        shown = capsys.readouterr().err
        assert len(read(lines)) == 1 and "ValueError" in read(lines)[0]["traceback"]
        for text in (lines.read_text(), shown):
            assert "ValueError" in text and "hush-hush" not in text
            assert local not in text and "\x1b" not in text

    @pytest.mark.parametrize(
        "text",
        [
            "mysql://dca:some-word@127.0.0.1/dca",
            "https://api.telegram.org/bot123456789:AAF-some-word-some-word-some/getMe",
            "Authorization: Basic c29tZS13b3Jkc29tZS13b3Jk",
            "{'APCA-API-SECRET-KEY': 'some-word'}",
        ],
    )
    def test_what_looks_like_a_secret_is_hidden_though_nobody_configured_it(self, text: str) -> None:
        hidden = Hiding([])(text)
        assert "some-word" not in hidden and "c29t" not in hidden and "***" in hidden

    def test_ordinary_text_is_left_alone(self) -> None:
        text = "order dca0a1b2c3d-c42-safety-3-1 at 20000 (https://paper-api.alpaca.markets/v2/orders: 12:30)"
        assert Hiding(["hush-hush", "abc"])(text) == text

    def test_what_ends_a_process_unforeseen_is_logged_and_shown_without_secrets(self, tmp_path: Path) -> None:
        ended = python(tmp_path, "secret = 'hush-hush'\nraise ValueError('hush-hush')", terminal=False)
        assert ended.returncode == 1 and "crashed" in ended.stderr and "ValueError: ***" in ended.stderr
        assert "hush-hush" not in ended.stderr and "Traceback" in read(tmp_path / "x.log")[-1]["traceback"]


def python(folder: Path, code: str, *, terminal: bool, **options: Any) -> subprocess.CompletedProcess[str]:
    """`code` ran in a process that logs to `x.log`."""
    before = f"""
import logging, os, sys
from datetime import UTC, datetime
from pathlib import Path
from dca import logs
logs.set_up('x', Path({str(folder)!r}), 'INFO', secrets=['hush-' + 'hush'],
            now=lambda: datetime(2023, 3, 9, tzinfo=UTC), terminal={terminal})
log = logging.getLogger('dca.x')
"""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.run(
        [sys.executable, "-c", before + code],
        env={"PYTHONPATH": str(SOURCE)},
        text=True,
        timeout=30,
        **{**pipes, **options},
    )


class TestTerminal:
    def test_a_script_that_nobody_watches_prints_only_warnings(self, tmp_path: Path) -> None:
        code = "log.info('quiet'); log.warning('loud')"
        watched = python(tmp_path, code, terminal=True)
        alone = python(tmp_path, code, terminal=False)
        assert "quiet" in watched.stderr and "loud" in watched.stderr
        assert "quiet" not in alone.stderr and "loud" in alone.stderr
        assert [line["event"] for line in read(tmp_path / "x.log")] == ["quiet", "loud"] * 2

    def test_on_a_terminal_it_prints_all(self, tmp_path: Path) -> None:
        ours, theirs = os.openpty()
        python(tmp_path, "log.info('quiet')", terminal=False, stdout=None, stderr=theirs)
        assert b"quiet" in os.read(ours, 1_000)
        os.close(theirs)
        os.close(ours)

    def test_a_terminal_that_is_gone_ends_nothing(self, tmp_path: Path) -> None:
        ended = python(tmp_path, "os.close(2)\nlog.warning('loud')", terminal=True)
        assert ended.returncode in (0, 120), "Python itself misses its stderr at the end"
        assert [line["event"] for line in read(tmp_path / "x.log")] == ["loud"]


class TestFullDisk:
    def test_it_is_said_once_and_the_program_goes_on(self, tmp_path: Path) -> None:
        code = """
for number in range(100):
    log.info('line', extra={'text': 'x' * 100, 'number': number})
print('went on')
"""
        limit = (4_096, resource.RLIM_INFINITY)
        ended = python(
            tmp_path,
            code,
            terminal=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
        )
        assert ended.stdout == "went on\n" and ended.returncode == 0
        assert ended.stderr.count("cannot be written") == 1 and ended.stderr.count("\n") == 1

    def test_afterwards_the_lines_go_on_whole_and_the_loss_is_counted(self, tmp_path: Path) -> None:
        code = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, resource.RLIM_INFINITY))
for number in range(20):
    log.info('line', extra={'number': number})
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.info('after')
log.info('last')
"""
        assert python(tmp_path, code, terminal=False).returncode == 0
        text = (tmp_path / "x.log").read_text().splitlines()
        whole = [json.loads(line) for line in text if line.endswith("}")]
        assert len(whole) == len(text) - 1, "only the line that the disk cut is torn"
        counts = [line["number"] for line in whole if line["event"] == "line"]
        assert [line["event"] for line in whole[-3:]] == ["after", "log_lines_lost", "last"]
        assert whole[-2]["lines"] == 20 - len(counts) > 0


class TestFiles:
    def test_logs_belong_to_their_user_alone(self, tmp_path: Path) -> None:
        old = os.umask(0o022)
        try:
            files.LineFile(tmp_path / "new" / "x.log", lambda: NOW).write(b"{}\n")
        finally:
            os.umask(old)
        assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "new" / "x.log").stat().st_mode & 0o777 == 0o600

    def test_a_link_is_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "x.log").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(OSError):
            files.LineFile(tmp_path / "x.log", lambda: NOW).write(b"{}\n")
        assert not (tmp_path / "elsewhere").exists()

    def test_a_writer_goes_on_in_the_new_file_and_the_old_one_is_compressed_when_it_is_free(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "x.log"
        writer = files.LineFile(path, lambda: NOW)
        writer.write(b'{"n": 1}\n')
        name = files.rotate(path, NOW)
        assert name == "x.20230309T000000Z.log"
        assert not files.compress(tmp_path / name), "its writer has not noticed yet"
        writer.write(b'{"n": 2}\n')
        assert files.compress(tmp_path / name)
        assert read(tmp_path / f"{name}.gz") == [{"n": 1}] and read(path) == [{"n": 2}]
        assert not (tmp_path / name).exists()
        assert (tmp_path / f"{name}.gz").stat().st_mode & 0o777 == 0o600
        assert [one.ended_at for one in files.found(tmp_path)] == [NOW, None]
        writer.close()

    def test_names_are_never_used_twice(self, tmp_path: Path) -> None:
        names = []
        for _ in range(3):
            (tmp_path / "x.log").write_text("{}\n")
            names.append(files.rotate(tmp_path / "x.log", NOW))
            files.compress(tmp_path / str(names[-1]))
        assert len(set(names)) == 3 and len(list(tmp_path.glob("*.gz"))) == 3
        assert [one.name.removesuffix(".gz") for one in files.found(tmp_path)] == names
        assert files.rotate(tmp_path / "x.log", NOW) is None, "there is nothing to put away"

    def test_a_log_that_nobody_looks_after_stays_small(self, tmp_path: Path) -> None:
        moments = iter(NOW + timedelta(seconds=n) for n in range(10_000))
        writer = files.LineFile(tmp_path / "x.log", lambda: next(moments), max_bytes=100)
        for number in range(400):
            writer.write(b'{"n": %4d, "text": "twenty characters ...."}\n' % number)
        kept = files.found(tmp_path)
        assert len(kept) == files.MOST_FILES + 1 and all(one.size <= 160 for one in kept)
        assert read(tmp_path / "x.log")[-1]["n"] == 399
        writer.close()

    def test_a_line_that_somebody_died_over_is_ended(self, tmp_path: Path) -> None:
        path = tmp_path / "x.log"
        path.write_bytes(b'{"n": 1}\n{"n": 2, "te')
        writer = files.LineFile(path, lambda: NOW)
        writer.write(b'{"n": 3}\n')
        assert path.read_bytes().splitlines() == [b'{"n": 1}', b'{"n": 2, "te', b'{"n": 3}']
        writer.close()


WRITERS, EACH = 8, 1_500
WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from dca.logs.files import LineFile
folder, who, each = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
file = LineFile(folder / "x.log", lambda: datetime.now(UTC), max_bytes=3_000_000)
for number in range(each):
    file.write(b'{"who": %d, "n": %d, "text": "%s"}\\n' % (who, number, b"x" * (number % 7 * 900)))
"""


def test_no_line_is_torn_lost_or_doubled_while_many_write_and_files_are_put_away(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(who), str(EACH)],
            env={"PYTHONPATH": str(SOURCE)},
        )
        for who in range(WRITERS)
    ]
    compressed = rotated = 0
    while any(writer.poll() is None for writer in writers):
        if rotated < 15:
            at = NOW + timedelta(seconds=rotated)
            rotated += files.rotate(tmp_path / "x.log", at, above=500_000) is not None
        for one in files.found(tmp_path):
            if one.ended_at is not None and not one.compressed:
                compressed += files.compress(tmp_path / one.name)
    assert [writer.wait() for writer in writers] == [0] * WRITERS
    seen = Counter((line["who"], line["n"]) for one in tmp_path.iterdir() for line in read(one))
    assert len(seen) == WRITERS * EACH and set(seen.values()) == {1}
    assert rotated and compressed, "nothing happened that could have torn a line"


def test_a_compression_that_is_killed_loses_and_doubles_nothing(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from dca.logs import files
steps = iter(range(int(sys.argv[2])))
def killing(real):
    def step(*args, **more):
        if next(steps, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **more)
    return step
files.os.fsync = killing(os.fsync)
Path.replace, Path.unlink = killing(Path.replace), killing(Path.unlink)
files.compress(Path(sys.argv[1]))
"""
    plain = tmp_path / "x.20230309T000000Z.log"
    for step in range(10):
        plain.write_text('{"n": 1}\n')
        ended = subprocess.run(
            [sys.executable, "-c", code, str(plain), str(step)], env={"PYTHONPATH": str(SOURCE)}
        )
        packed = tmp_path / f"{plain.name}.gz"
        assert read(plain) == [{"n": 1}] if plain.exists() else read(packed) == [{"n": 1}]
        if plain.exists():
            assert files.compress(plain)
        assert read(packed) == [{"n": 1}] and not plain.exists()
        packed.unlink()
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL
    assert step == 4, "every step was killed once"
