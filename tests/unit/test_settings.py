"""Settings: read once, every complaint at once, and no secret in any of them."""

from pathlib import Path
from typing import Any

import pytest

from dca.domain.errors import ConfigError
from dca.settings import load

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
    armed = read(tmp_path, APCA_API_BASE_URL="https://api.alpaca.markets", LIVE_TRADING="armed")
    assert armed.base_url == "https://api.alpaca.markets"


def test_secrets_do_not_show_in_the_text_of_settings(tmp_path: Path) -> None:
    settings = read(tmp_path, DATABASE_URL="mysql://dca:hidden@127.0.0.1/dca")
    assert "very-secret" not in repr(settings) + str(settings)
    assert "hidden" not in repr(settings)
