"""What a start with real orders refuses before it asks anybody, and what a book is of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from daemon.domain.failures import ConfigurationError, CorruptFile
from daemon.settings import Settings, load_settings
from daemon.wiring.core import LIVE_FILE
from daemon.wiring.live_session import _Book, refuse_unfit
from daemon.wiring.session import PAPER_LEDGER, SessionHooks, paper_session

KEYS = {
    "EQUIPOISE_BINANCEUSDM_API_KEY": "a-key-of-the-tests",
    "EQUIPOISE_BINANCEUSDM_SECRET": "a-secret-of-the-tests",
}


def settings_in(folder: Path, *overrides: str) -> Settings:
    return load_settings([], overrides=[f"run.state_folder={folder}", *overrides], environment={})


def test_without_a_key_live_trading_says_where_one_may_stand(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="EQUIPOISE_BINANCEUSDM_API_KEY"):
        refuse_unfit(settings_in(tmp_path), {})
    assert refuse_unfit(settings_in(tmp_path), KEYS).venue == "binanceusdm"


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.write_text(json.dumps({"api_key": "a" * 12, "secret": "b" * 12}))
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="0644"):
        refuse_unfit(settings_in(tmp_path, f"live.key_file={path}"), {})
    path.chmod(0o600)
    keys = refuse_unfit(settings_in(tmp_path, f"live.key_file={path}"), {})
    assert keys.api_key.reveal() == "a" * 12


def test_a_venue_without_tables_says_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="error codes"):
        refuse_unfit(settings_in(tmp_path, "exchange.id=gate"), KEYS)


def test_a_book_of_paper_is_never_continued_with_real_money(tmp_path: Path) -> None:
    (tmp_path / PAPER_LEDGER).write_text("")
    with pytest.raises(ConfigurationError, match="begun on paper"):
        refuse_unfit(settings_in(tmp_path), KEYS)


async def test_a_book_of_a_real_account_is_never_continued_on_paper(tmp_path: Path) -> None:
    (tmp_path / LIVE_FILE).write_text("{}")
    with pytest.raises(ConfigurationError, match="of a real account"):
        async with paper_session(settings_in(tmp_path), SessionHooks()):
            pass


def test_a_book_remembers_its_account_and_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / LIVE_FILE
    book = _Book(path)
    assert (book.account, book.begun_ms) == ("", None)
    book.of("binanceusdm-0123456789ab")
    book.begin(17)
    again = _Book(path)
    assert (again.account, again.begun_ms) == ("binanceusdm-0123456789ab", 17)
    path.write_text("{")
    with pytest.raises(CorruptFile):
        _Book(path)


def test_what_a_book_is_of_is_on_the_disk_before_anything_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut an operator who kills must still find the account's latch."""
    forced: list[int] = []
    monkeypatch.setattr("os.fsync", forced.append)
    _Book(tmp_path / LIVE_FILE).of("binanceusdm-0123456789ab")
    assert len(forced) == 2, "the file and its folder"
    assert sorted(one.name for one in tmp_path.iterdir()) == [LIVE_FILE]
