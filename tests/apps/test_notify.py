"""Messages on their way to people: real Apprise addresses, real sockets, real processes."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from messenger import People, served

import dca
from dca import settings as env
from dca import wiring
from dca.adapters.clock import SystemClock
from dca.adapters.db.store import SqlStore
from dca.adapters.notify import AppriseNotifier
from dca.domain.errors import ConfigError, Unavailable
from dca.domain.record import Message
from dca.ports import Store
from dca.service.outbox import Outbox

SCRIPTS = Path(dca.__file__).parents[2] / "scripts"
TOKEN = "canary-token-7f3a9c"


@pytest.fixture
def people() -> Iterator[People]:
    with served(People()) as started:
        yield started


def given(store: Store, *keys: str, name: str = "take_profit") -> None:
    at = datetime.now(UTC)
    messages = [Message(key=key, name=name, text=f"text of {key}", at=at) for key in keys]
    store.write(lambda tx: [tx.add_message(message) for message in messages])


def unsent(store: Store) -> list[str]:
    return [message.key for message in store.read(lambda tx: tx.messages())]


def outbox(store: Store, *urls: str) -> Outbox:
    return Outbox(store, SystemClock(), AppriseNotifier(urls), holder=f"here/{os.getpid()}/1.0")


class TestDelivery:
    def test_what_was_sent_is_sent_once(self, store: SqlStore, people: People) -> None:
        given(store, "m1", "m2")
        for _ in range(3):
            outbox(store, people.url(TOKEN)).deliver()
        assert people.texts() == ["text of m1", "text of m2"]
        assert people.got[0][1]["title"] == "DCA: Take profit" and people.got[0][0] == f"/{TOKEN}"

    def test_while_the_server_is_down_messages_wait(self, store: SqlStore) -> None:
        with served(People()) as gone:
            pass
        given(store, "m1", "m2")
        with pytest.raises(Unavailable):
            outbox(store, gone.url(TOKEN)).deliver()
        assert unsent(store) == ["m1", "m2"]
        with served(gone):
            outbox(store, gone.url(TOKEN)).deliver()
        assert gone.texts() == ["text of m1", "text of m2"] and unsent(store) == []

    def test_one_bad_address_keeps_no_other_from_hearing_and_lets_it_hear_once(
        self, store: SqlStore, people: People
    ) -> None:
        people.answer = lambda path: 500 if path == "/bad" else 200
        given(store, "m1", "m2")
        urls = (people.url("good"), people.url("bad"), people.url("fine"))
        for _ in range(3):
            with suppress(Unavailable):
                outbox(store, *urls).deliver()
        assert [path for path, _ in people.got] == ["/good", "/fine"] * 2
        people.answer = lambda path: 200
        outbox(store, *urls).deliver()
        assert [path for path, _ in people.got[4:]] == ["/bad", "/bad"] and unsent(store) == []

    def test_one_bad_message_holds_up_no_other(self, store: SqlStore, people: People) -> None:
        codes = iter([400, 200, 200, 400, 200])
        people.answer = lambda path: next(codes)
        given(store, "m1", "m2", "m3")
        for _ in range(2):
            with pytest.raises(Unavailable):
                outbox(store, people.url(TOKEN)).deliver()
        assert people.texts() == ["text of m2", "text of m3"]
        outbox(store, people.url(TOKEN)).deliver()
        assert people.texts()[2:] == ["text of m1"]

    def test_eight_at_once_send_each_message_once(self, database_url: str, people: People) -> None:
        stores = [SqlStore(database_url) for _ in range(8)]
        try:
            given(stores[0], *(f"m{n}" for n in range(5)))
            start = threading.Barrier(8)

            def deliver(store: SqlStore) -> None:
                start.wait()
                for _ in range(5):
                    outbox(store, people.url(TOKEN)).deliver()

            with ThreadPoolExecutor(8) as pool:
                for done in [pool.submit(deliver, store) for store in stores]:
                    done.result()
            assert sorted(people.texts()) == [f"text of m{n}" for n in range(5)]
            assert unsent(stores[0]) == []
        finally:
            for store in stores:
                store.close()

    def test_a_redirect_is_not_followed_with_the_message(self, store: SqlStore, people: People) -> None:
        people.answer = lambda path: 302 if path != "/elsewhere" else 200
        given(store, "m1")
        with pytest.raises(Unavailable):
            outbox(store, people.url(TOKEN)).deliver()
        assert people.got == []

    def test_an_address_that_never_answers_is_given_up(self, people: People) -> None:
        hold = threading.Event()
        people.on_message = lambda: hold.wait(10) and None
        notifier = AppriseNotifier([people.url(f"{TOKEN}?rto=9")], limit_s=0.3)
        begun = SystemClock().monotonic()
        with pytest.raises(Unavailable):
            notifier.send("title", "text")
        assert SystemClock().monotonic() - begun < 3
        hold.set()


class TestAddresses:
    @pytest.mark.parametrize(
        ("url", "words"),
        [
            ("file:///etc/passwd", r"address 2 \(file\) is not one that Apprise understands"),
            ("nobody://knows/canary-token", r"address 2 \(nobody\) is not one that Apprise understands"),
            ("tgram://canary-token", r"address 2 \(tgram\) is not one that Apprise understands"),
            ("discord://4174216298/canary-token-canary-token?template=/etc/passwd", "names a file"),
            ("fcm://project@canary-token/topic/?mode=oauth2&keyfile=/etc/passwd", "names a file"),
            ("mailto://u:canary-token@example.com?pgpkey=/etc/passwd", "names a file"),
        ],
    )
    def test_one_that_cannot_be_used_is_named_without_being_shown(
        self, people: People, url: str, words: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with pytest.raises(ConfigError, match=words) as found:
            AppriseNotifier([people.url("good"), url]).check()
        assert "canary" not in str(found.value)
        with pytest.raises(Unavailable):
            AppriseNotifier([url]).send("title", "text")
        assert people.got == []

    def test_names_tell_addresses_apart_and_nothing_else(self, people: People) -> None:
        one, two = AppriseNotifier([people.url("one"), people.url("two")]).addresses
        assert one != two and one.startswith("json-") and str(people.port) not in one + two

    def test_all_that_can_be_used_pass(self, people: People) -> None:
        AppriseNotifier(
            [people.url(TOKEN), "mailto://user:word@example.com", "tgram://123456789:abcdefghij_klmn/12/"]
        ).check()


@pytest.fixture
def environment(sqlite_url: str, tmp_path: Path) -> dict[str, str]:
    return {
        "DCA_ENV_FILE": os.devnull,
        "APCA_API_KEY_ID": "canary-key-id",
        "APCA_API_SECRET_KEY": "canary-secret-key",
        "DATABASE_URL": sqlite_url,
        "DCA_RUN_DIR": str(tmp_path / "logs"),
    }


def script(environment: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPTS / "notifier.py"), *options],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


class TestScript:
    @pytest.fixture
    def store(self, sqlite_url: str) -> Iterator[SqlStore]:
        with closing(SqlStore(sqlite_url)) as opened:
            yield opened

    def test_a_pass_sends_and_tells_nothing_secret(
        self, environment: dict[str, str], store: SqlStore, people: People, tmp_path: Path
    ) -> None:
        people.answer = lambda path: 500 if "bad" in path else 200
        given(store, "m1", "m2")
        given(store, "m3", name="safety_order")
        urls = f"{people.url(TOKEN)}, {people.url(f'{TOKEN}-bad')}"
        environment |= {"NOTIFY_URLS": urls, "NOTIFY_OFF": "safety_order", "LOG_LEVEL": "DEBUG"}
        planned = script(environment, "--dry-run")
        assert planned.stdout.splitlines()[0] == "notifier: would drop m3: switched off"
        assert people.got == [] and len(unsent(store)) == 3
        done = script(environment, "--json")
        assert (done.returncode, json.loads(done.stdout)["mended"]) == (0, 3)
        assert people.texts() == ["text of m1", "text of m2"]
        log = (tmp_path / "logs" / "caretakers.log").read_text()
        assert '"outcome": "switched off"' in log and "notice_not_taken" in log
        assert "canary" not in log + done.stdout + done.stderr + planned.stdout

    def test_killed_between_sending_and_marking_it_sends_again(
        self, environment: dict[str, str], store: SqlStore, people: People
    ) -> None:
        given(store, "m1")
        environment |= {"NOTIFY_URLS": people.url(TOKEN)}
        command = [sys.executable, str(SCRIPTS / "notifier.py")]
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        people.on_message = lambda: os.kill(process.pid, signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
        people.on_message = lambda: None
        assert unsent(store) == ["m1"]
        assert script(environment).returncode == 0
        assert people.texts() == ["text of m1"] * 2 and unsent(store) == []

    def test_an_address_that_cannot_be_used_is_a_matter_for_a_person(
        self, environment: dict[str, str], store: SqlStore
    ) -> None:
        environment |= {"NOTIFY_URLS": "nobody://knows/canary-token-x"}
        ended = script(environment)
        assert (
            ended.returncode == 78 and "address 1 (nobody)" in ended.stderr and "canary" not in ended.stderr
        )

    def test_the_streamer_sends_through_the_same_door(
        self, environment: dict[str, str], store: SqlStore, people: People
    ) -> None:
        given(store, "m1")
        settings = env.load({**environment, "NOTIFY_URLS": people.url(TOKEN)})
        wiring.outbox(settings, store, wiring.clock(settings)).deliver()
        assert people.texts() == ["text of m1"]


def test_other_programs_do_not_wait_for_the_library() -> None:
    code = "import sys, dca.wiring, dca.apps.caretaking, dca.apps.cli; print('apprise' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "False\n"
