"""Operators find the latches that a daemon looks at, whatever their own surroundings are."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.control import Halt
from daemon.domain.failures import CorruptFile, JournalError
from daemon.domain.messages import OperatorAction
from daemon.wiring.control import account_at, latches_at, live_latches
from daemon.wiring.core import LIVE_FILE
from daemon.wiring.live_session import _Book, why_halted
from daemon.wiring.operating import Wish, ask

ACCOUNT = "binanceusdm-0123456789ab"
KILL = Wish(OperatorAction.KILL, wait_s=0.0)


def test_a_folder_of_paper_has_its_own_latch_alone(tmp_path: Path) -> None:
    assert account_at(tmp_path) == ""
    assert len(latches_at(tmp_path, {}).files) == 1


def test_the_book_says_where_the_latch_of_its_account_lies(tmp_path: Path) -> None:
    theirs = live_latches(tmp_path, ACCOUNT, {"XDG_STATE_HOME": str(tmp_path / "theirs")})
    _Book(tmp_path / LIVE_FILE, theirs.files[-1].parent).of(ACCOUNT)
    assert account_at(tmp_path) == ACCOUNT
    assert latches_at(tmp_path, {"XDG_STATE_HOME": "/elsewhere"}).files == theirs.files


def test_two_folders_of_an_account_share_a_latch_and_two_accounts_do_not(tmp_path: Path) -> None:
    around = {"XDG_STATE_HOME": str(tmp_path)}
    one = live_latches(tmp_path / "one", ACCOUNT, around).files
    two = live_latches(tmp_path / "two", ACCOUNT, around).files
    assert one[1] == two[1]
    assert one[0] != two[0]
    other = live_latches(tmp_path / "two", "binanceusdm-ffffffffffff", around).files
    assert other[1] != one[1]


def test_a_kill_sets_the_latch_of_the_account_too_and_makes_its_folder(tmp_path: Path) -> None:
    theirs = live_latches(tmp_path, ACCOUNT, {"XDG_STATE_HOME": str(tmp_path / "theirs")})
    _Book(tmp_path / LIVE_FILE, theirs.files[-1].parent).of(ACCOUNT)
    ask(tmp_path, KILL)
    assert all(path.exists() for path in theirs.files)


def test_a_kill_in_a_folder_that_cannot_name_its_account_sets_what_it_can(tmp_path: Path) -> None:
    (tmp_path / LIVE_FILE).write_text("{")
    with pytest.raises(CorruptFile):
        account_at(tmp_path)
    with pytest.raises(JournalError, match=r"only the latch of the state folder.*latch is set"):
        ask(tmp_path, KILL)


def test_why_halted_is_empty_only_while_no_latch_is_set(tmp_path: Path) -> None:
    latches = live_latches(tmp_path, ACCOUNT, {"XDG_STATE_HOME": str(tmp_path / "xdg")})
    latches.open()
    assert why_halted(latches) == ""
    latches.set(Halt(""))
    assert why_halted(latches)
