"""Settings: read once, every complaint at once, and no secret in any of them."""

import logging
import os
from dataclasses import asdict, replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from dca import wiring
from dca.domain.errors import ConfigError
from dca.ports import Account
from dca.settings import KeepSettings, NotifySettings, database_url, env_file_complaint, load, local

KEYS = {"APCA_API_KEY_ID": "PKTEST", "APCA_API_SECRET_KEY": "very-secret"}


def read(tmp_path: Path, **environ: str) -> Any:
    return load({**KEYS, **environ}, env_file=tmp_path / ".env")


def test_keys_alone_are_enough_for_a_paper_account(tmp_path: Path) -> None:
    settings = read(tmp_path)
    assert settings.base_url == "https://paper-api.alpaca.markets"
    assert settings.stream_url == "wss://paper-api.alpaca.markets/stream"
    assert settings.data_stream_url.endswith("/v1beta3/crypto/us")


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text('MAX_OPEN_ORDERS="7"\r\nLOG_LEVEL=debug\r\n')
    assert read(tmp_path).max_open_orders == 7
    assert read(tmp_path, MAX_OPEN_ORDERS="8").max_open_orders == 8
    assert read(tmp_path).log_level == "DEBUG"


def test_the_trade_updates_of_an_address_belong_to_it(tmp_path: Path) -> None:
    settings = read(tmp_path, APCA_API_BASE_URL="http://127.0.0.1:8787/v2/")
    assert (settings.base_url, settings.stream_url) == ("http://127.0.0.1:8787", "ws://127.0.0.1:8787/stream")


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"APCA_API_SECRET_KEY": " "}, "APCA_API_SECRET_KEY is missing"),
        ({"REQUESTS_PER_MINUTE": "29"}, "REQUESTS_PER_MINUTE must be a whole number from 30"),
        ({"BREAKER_PAUSE_S": "0"}, "BREAKER_PAUSE_S must be a whole number above 0"),
        ({"MAX_OPEN_ORDERS": "0"}, "MAX_OPEN_ORDERS must be a whole number above 0"),
        ({"GRACE_S": "-1"}, "GRACE_S must be a number above 0"),
        ({"GRACE_S": "nan"}, "GRACE_S must be a number above 0"),
        ({"TAKER_FEE_PCT": "25"}, "TAKER_FEE_PCT must be a percentage from 0 to 10"),
        ({"APCA_API_DATA_URL": "ftp://x"}, "APCA_API_DATA_URL must be a https:// address"),
        ({"APCA_API_DATA_URL": "http://data.alpaca.markets"}, "http:// is for this machine only"),
        ({"CLOCK_ORIGIN": "2023-03-09"}, "CLOCK_ORIGIN must be a time with an offset"),
        ({"APCA_API_BASE_URL": "https://api.alpaca.markets"}, "LIVE_TRADING=armed"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, environ: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match="settings:") as found:
        read(tmp_path, **environ)
    assert words in str(found.value)


def test_every_complaint_comes_at_once_and_without_values(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as found:
        read(tmp_path, GRACE_S="many", MAX_OPEN_ORDERS="few", APCA_API_KEY_ID="")
    text = str(found.value)
    assert all(name in text for name in ("GRACE_S", "MAX_OPEN_ORDERS", "APCA_API_KEY_ID"))
    assert "many" not in text and "very-secret" not in text


def test_live_money_needs_two_settings_that_agree(tmp_path: Path) -> None:
    armed = read(
        tmp_path,
        APCA_API_BASE_URL="https://api.alpaca.markets",
        LIVE_TRADING="armed",
        LIVE_ACCOUNT="123456789",
    )
    assert armed.base_url == "https://api.alpaca.markets"


def test_secrets_do_not_show_in_the_text_of_settings(tmp_path: Path) -> None:
    settings = read(tmp_path, DATABASE_URL="mysql://dca:hidden@127.0.0.1/dca")
    assert "very-secret" not in repr(settings) + str(settings)
    assert "hidden" not in repr(settings)


class TestEnvFile:
    """A `.env` that cannot be used ends in one line that names it and says what to do."""

    def complaint(self, file: Path, environ: dict[str, str] | None = None) -> str:
        with pytest.raises(ConfigError) as found:
            load({**KEYS, **(environ or {})}, env_file=file)
        assert str(file) in str(found.value) and "\n" not in str(found.value)
        return str(found.value)

    def test_it_may_be_missing(self, tmp_path: Path) -> None:
        assert load(KEYS, env_file=tmp_path / "nowhere" / ".env").env_file == tmp_path / "nowhere" / ".env"

    @pytest.mark.parametrize(
        "content",
        [
            b"\xef\xbb\xbfLOG_LEVEL=debug\nGRACE_S=5\n",
            b"LOG_LEVEL=debug\r\nGRACE_S=5\r\n",
            b"LOG_LEVEL='debug'\nexport GRACE_S=\"5\"\n",
            b"\n# why\n LOG_LEVEL = debug   # loud\nGRACE_S=5",
        ],
    )
    def test_what_editors_make_of_it_is_understood(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / ".env").write_bytes(content)
        settings = read(tmp_path)
        assert (settings.log_level, settings.grace_s) == ("DEBUG", 5.0)

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("APCA_API_KEY_ID=very-secret\n".encode("utf-16"), "is not UTF-8 text: save it again"),
            (b"NAME=very-secret-\xfc\n", "is not UTF-8 text: save it again"),
            (b'GRACE_S=5\nAPCA_API_KEY_ID="very-secret\n', "line 2: write NAME=value, and end the quotes"),
            (b"APCA_API_KEY_ID: very-secret\n", "line 1: write NAME=value"),
            ("APCA_API_KEY_ID=“very-secret”\n".encode(), 'APCA_API_KEY_ID: use plain quotes (") or none'),
        ],
    )
    def test_what_cannot_be_understood_is_told_without_a_value(
        self, tmp_path: Path, content: bytes, words: str
    ) -> None:
        (tmp_path / ".env").write_bytes(content)
        said = self.complaint(tmp_path / ".env")
        assert words in said and "very-secret" not in said

    def test_a_folder_in_its_place_is_named(self, tmp_path: Path) -> None:
        (tmp_path / ".env").mkdir()
        assert "cannot be read (Is a directory): make it a file" in self.complaint(tmp_path / ".env")

    def test_a_file_of_somebody_else_is_named(self, tmp_path: Path) -> None:
        file = tmp_path / ".env"
        file.write_text("GRACE_S=5\n")
        file.chmod(0)
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            if os.getuid() == 0:
                os.setuid(65_534)
            try:
                load(KEYS, env_file=file)
            except ConfigError as error:
                os.write(theirs, str(error).encode())
            os._exit(0)
        os.close(theirs)
        os.waitpid(pid, 0)
        with os.fdopen(ours) as pipe:
            said = pipe.read()
        assert f"{file} cannot be read (Permission denied)" in said and "chmod 600" in said

    @pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o604, 0o777])
    def test_keys_of_real_money_that_others_can_read_are_refused(self, tmp_path: Path, mode: int) -> None:
        file = tmp_path / ".env"
        file.write_text("LIVE_TRADING=armed\nLIVE_ACCOUNT=1\nAPCA_API_BASE_URL=https://api.alpaca.markets\n")
        file.chmod(mode)
        said = self.complaint(file)
        assert f"chmod 600 {file}" in said and "very-secret" not in said
        file.chmod(0o600)
        assert load(KEYS, env_file=file).base_url == "https://api.alpaca.markets"

    def test_on_paper_it_is_a_warning(self, tmp_path: Path) -> None:
        file = tmp_path / ".env"
        file.write_text("GRACE_S=5\n")
        file.chmod(0o644)
        assert load(KEYS, env_file=file).grace_s == 5
        assert env_file_complaint(file) == f"{file} can be read by others: chmod 600 {file}"
        file.chmod(0o600)
        assert env_file_complaint(file) is None
        assert env_file_complaint(tmp_path / "none") is None
        assert env_file_complaint(Path(os.devnull)) is None

    def test_the_warning_stands_in_the_log_of_the_streamer(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        file = tmp_path / ".env"
        file.write_text("GRACE_S=5\n")
        file.chmod(0o644)
        before = logging.getLogger().handlers[:]
        try:
            wiring.start_logging("main_app", load({**KEYS, "DCA_RUN_DIR": str(tmp_path)}, env_file=file))
        finally:
            for handler in set(logging.getLogger().handlers) - set(before):
                handler.close()
            logging.getLogger().handlers[:] = before
        assert "can be read by others: chmod 600" in (tmp_path / "main.log").read_text()

    def test_commands_that_need_only_the_database_say_the_same(self, tmp_path: Path) -> None:
        (tmp_path / ".env").write_bytes(b'DATABASE_URL="mysql://u:very-secret\n')
        with pytest.raises(ConfigError, match="line 1") as found:
            database_url({"DCA_ENV_FILE": str(tmp_path / ".env")})
        assert "very-secret" not in str(found.value)


class TestNotify:
    def test_addresses_are_separated_by_spaces_or_commas(self, tmp_path: Path) -> None:
        text = "mailto://a:b@c.example?to=x,y, json://h/p\n tgram://1:2/3,"
        assert read(tmp_path, NOTIFY_URLS=text).notify.urls == (
            "mailto://a:b@c.example?to=x,y",
            "json://h/p",
            "tgram://1:2/3",
        )

    @pytest.mark.parametrize(
        ("environ", "words"),
        [
            ({"NOTIFY_URLS": "very-secret"}, "NOTIFY_URLS must be addresses such as"),
            ({"NOTIFY_URLS": "json://x very-secret:// "}, "NOTIFY_URLS must be addresses such as"),
            ({"NOTIFY_OFF": "take_profit,tea"}, "NOTIFY_OFF must be some of asset_halted, "),
            ({"NOTIFY_QUIET": "22-7"}, "NOTIFY_QUIET must be two times of day"),
            ({"NOTIFY_QUIET": "22:00-22:00"}, "NOTIFY_QUIET must be two times of day"),
            ({"NOTIFY_QUIET": "22:00+01:00-07:00"}, "NOTIFY_QUIET must be two times of day"),
            ({"NOTIFY_TZ": "Europe/Wien"}, "NOTIFY_TZ must be a time zone"),
            ({"NOTIFY_TZ": "Europe"}, "NOTIFY_TZ must be a time zone"),
            ({"NOTIFY_TZ": "../../etc/passwd"}, "NOTIFY_TZ must be a time zone"),
            ({"LOG_LEVEL": "chatty"}, "LOG_LEVEL must be one of DEBUG, INFO, WARNING, ERROR"),
            ({"LOG_KEEP_DAYS": "0"}, "LOG_KEEP_DAYS must be a whole number of days from 1"),
            ({"BACKUP_KEEP_DAYS": "99999999999"}, "BACKUP_KEEP_DAYS must be a whole number of days"),
            ({"EVENTS_KEEP_DAYS": "soon"}, "EVENTS_KEEP_DAYS must be a whole number of days"),
            ({"APCA_API_DATA_URL": "https://[very-secret"}, "APCA_API_DATA_URL must be a https:// address"),
        ],
    )
    def test_a_wrong_one_is_named_and_not_shown(
        self, tmp_path: Path, environ: dict[str, str], words: str
    ) -> None:
        with pytest.raises(ConfigError) as found:
            read(tmp_path, **environ)
        assert words in str(found.value) and "very-secret" not in str(found.value)

    def test_nothing_is_told_to_nobody_by_default(self, tmp_path: Path) -> None:
        settings = read(tmp_path)
        assert settings.notify == NotifySettings() and settings.keep == KeepSettings()


class TestSecrets:
    def test_everything_secret_is_named(self, tmp_path: Path) -> None:
        settings = read(
            tmp_path,
            DATABASE_URL="mysql://dca:p%40ss%2Fword@127.0.0.1/dca",
            NOTIFY_URLS="tgram://123456789:abcdefg_hijklmnop/12315544321/ mailto://user:hunter2@gmail.com "
            "discord://4174216298/JHMHI8qBe7bk2Zw?footer=no json://localhost:8080/short",
        )
        secrets = set(settings.secrets())
        assert {"PKTEST", "very-secret", "p%40ss%2Fword", "p@ss/word", "hunter2"} <= secrets
        assert {"abcdefg_hijklmnop", "12315544321", "4174216298", "JHMHI8qBe7bk2Zw"} <= secrets
        assert not {"gmail.com", "localhost", "short", "dca"} & secrets

    def test_they_show_in_no_text_of_the_settings(self, tmp_path: Path) -> None:
        settings = read(
            tmp_path, DATABASE_URL="mysql://dca:hidden@h/dca", NOTIFY_URLS="json://h/hidden-token"
        )
        shown = f"{settings!r} {settings} {vars(settings)} {settings.notify} {asdict(settings)}"
        assert "very-secret" not in shown and "hidden" not in shown and "PKTEST" not in shown
        assert settings.api_secret_key == "very-secret" and f"{settings.api_secret_key}" == "very-secret"


def test_without_the_venue_only_what_concerns_it_may_be_wrong(tmp_path: Path) -> None:
    wrong = {"APCA_API_BASE_URL": "https://api.alpaca.markets", "APCA_API_DATA_URL": "ftp://x"}
    settings = local(wrong, env_file=tmp_path / ".env")
    names = " ".join(settings.venue_complaints)
    for name in ("APCA_API_KEY_ID", "APCA_API_SECRET_KEY", "LIVE_TRADING=armed", "APCA_API_DATA_URL"):
        assert name in names
    with pytest.raises(ConfigError, match="APCA_API_KEY_ID is missing"):
        wiring.broker(settings)
    with pytest.raises(ConfigError, match="GRACE_S") as found:
        local({**wrong, "GRACE_S": "-1"}, env_file=tmp_path / ".env")
    assert "APCA" not in str(found.value)
    assert local(KEYS, env_file=tmp_path / ".env") == load(KEYS, env_file=tmp_path / ".env")


def test_money_is_counted_and_a_dry_run_sends_nothing_unless_settings_say_otherwise(tmp_path: Path) -> None:
    sound = wiring.limits(read(tmp_path))
    assert sound.max_funds_age == timedelta(seconds=120) and sound.reserve_pct == 100 and sound.armed
    assert read(tmp_path).dry_run is False and read(tmp_path, DRY_RUN="yes").dry_run is True
    given = read(tmp_path, RESERVE="none", MAX_DAY_USD="100.50", MAX_DRAWDOWN_PCT="15", MIN_PROFIT_PCT="0.5")
    found = wiring.limits(given)
    assert (found.reserve_pct, found.max_day, found.max_drawdown_pct) == (0, Decimal("100.50"), 15)
    assert found.min_profit_pct == Decimal("0.5")


@pytest.mark.parametrize(
    ("name", "value"),
    [("RESERVE", "half"), ("MAX_DAY_USD", "0"), ("MAX_DRAWDOWN_PCT", "101"), ("SELL_SLIPPAGE_PCT", "5.1"),
     ("BUY_TIME_IN_FORCE", "day"), ("DRY_RUN", "maybe"), ("MAX_ACTIVE_CYCLES", "0")],
)  # fmt: skip
def test_a_limit_that_is_none_is_refused_by_its_name(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        read(tmp_path, **{name: value})


def test_keys_of_another_account_than_the_armed_one_are_refused(tmp_path: Path) -> None:
    live = {
        "APCA_API_BASE_URL": "https://api.alpaca.markets",
        "LIVE_TRADING": "armed",
        "LIVE_ACCOUNT": "123456789",
    }
    account = Account("id", Decimal(1), Decimal(1), Decimal(1), blocked=False, number="987654321")
    with pytest.raises(ConfigError, match="LIVE_ACCOUNT is 123456789, but the keys are of account 987654321"):
        wiring.refuse_other_account(read(tmp_path, **live), account)
    wiring.refuse_other_account(read(tmp_path, **live), replace(account, number="123456789"))
    wiring.refuse_other_account(read(tmp_path), account)
