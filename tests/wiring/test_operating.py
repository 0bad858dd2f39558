"""The operator's side alone: what it leaves, what it says, and a kill that nothing keeps back."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from adapters.control import LATCH_NAME, Answer, Request, Spool
from adapters.state_lock import StateLock
from daemon.domain.failures import ConfigurationError, JournalError
from daemon.domain.messages import OperatorAction
from daemon.wiring.control import latches_of
from daemon.wiring.operating import Wish, ask, running_in

PAUSE, RESUME, KILL = OperatorAction.PAUSE, OperatorAction.RESUME, OperatorAction.KILL


def answer_to(request: Request) -> Answer:
    return Answer(
        request.request_id, request.action, True, "", 1, "halted", False, False, False, "why", 0, 2
    )


def serve(spool: Spool, served: threading.Event) -> None:
    """Answer one request, as a daemon would."""
    while not served.is_set():
        for request in spool.waiting().requests:
            spool.settle(answer_to(request))
            served.set()


def test_the_answer_is_waited_for_while_somebody_holds_the_folder(tmp_path: Path) -> None:
    spool, served = Spool(tmp_path), threading.Event()
    spool.open()
    daemon = threading.Thread(target=serve, args=(spool, served))
    with StateLock(tmp_path):
        assert running_in(tmp_path)
        daemon.start()
        told = ask(tmp_path, Wish(PAUSE, wait_s=20))
        daemon.join()
    assert told.answer is not None
    assert told.answer.request_id == told.request_id
    assert told.owner is None


def test_where_nobody_runs_it_waits_for_nobody(tmp_path: Path) -> None:
    told = ask(tmp_path, Wish(PAUSE, "p", wait_s=60))
    assert (told.answer, told.owner) == (None, None)
    assert [r.request_id for r in Spool(tmp_path).waiting().requests] == ["p"]


def test_who_does_not_answer_is_named(tmp_path: Path) -> None:
    with StateLock(tmp_path):
        told = ask(tmp_path, Wish(PAUSE, wait_s=0.1))
    assert (told.answer, told.owner) == (None, os.getpid())


def test_an_answered_id_stands_for_its_action_for_good(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.open()
    spool.settle(answer_to(Request(PAUSE, "p", 1)))
    assert ask(tmp_path, Wish(PAUSE, "p")).answer == answer_to(Request(PAUSE, "p", 1))
    with pytest.raises(ConfigurationError, match=r"p stands for pause already"):
        ask(tmp_path, Wish(RESUME, "p"))
    assert spool.waiting().requests == ()


def test_a_kill_that_was_answered_once_is_asked_anew(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.open()
    spool.settle(answer_to(Request(KILL, "k", 1)))
    assert ask(tmp_path, Wish(KILL, "k")).answer is None
    assert [r.request_id for r in spool.waiting().requests] == ["k"]


def test_a_kill_latches_and_a_resume_clears_only_when_told_to(tmp_path: Path) -> None:
    ask(tmp_path, Wish(KILL, "k", reason="odd fills"))
    found = latches_of(tmp_path).found()
    assert found is not None
    assert (found.reason, found.request_id) == ("killed by the operator: odd fills", "k")
    assert ask(tmp_path, Wish(RESUME)).cleared == ()
    assert latches_of(tmp_path).found() == found
    assert ask(tmp_path, Wish(RESUME, clear_latch=True)).cleared == (tmp_path / LATCH_NAME,)
    assert latches_of(tmp_path).found() is None


def test_a_kill_that_cannot_ask_says_that_its_latch_is_set(tmp_path: Path) -> None:
    (tmp_path / "control").write_text("no folder")
    with pytest.raises(JournalError, match=r"could not be asked.*; the halt latch is set;"):
        ask(tmp_path, Wish(KILL))
    assert latches_of(tmp_path).found() is not None


def test_a_kill_whose_id_was_used_or_whose_process_is_not_found_is_latched_too(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path)
    spool.open()
    spool.settle(answer_to(Request(PAUSE, "p", 1)))
    with StateLock(tmp_path) as lock:
        lock.path.write_text("nobody")
        with pytest.raises(JournalError, match=r"p stands for pause already.*could not be ended"):
            ask(tmp_path, Wish(KILL, "p", force_after_s=0.0))
    assert latches_of(tmp_path).found() is not None


def test_a_kill_that_cannot_latch_asks_all_the_same_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("adapters.control.latch._set", broken)
    with pytest.raises(JournalError, match=r"could not be set.*; NO HALT LATCH IS SET;"):
        ask(tmp_path, Wish(KILL, "k"))
    assert [r.action for r in Spool(tmp_path).waiting().requests] == [KILL]
