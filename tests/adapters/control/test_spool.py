"""Requests of operators through the state folder: whole or not there, once, private, in order."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from adapters.control import Answer, Request, Spool, is_request_id
from adapters.control.spool import ANSWERS_KEPT
from daemon.domain.failures import ConfigurationError, InvariantViolated
from daemon.domain.messages import OperatorAction

PAUSE, RESUME, KILL = OperatorAction.PAUSE, OperatorAction.RESUME, OperatorAction.KILL
LOOSE = 0o077


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path)
    made.open()
    return made


def answer_to(request: Request, **changes: object) -> Answer:
    values = {
        "obeyed": True,
        "why": "",
        "at_ms": 1,
        "trading": "trading",
        "paused": True,
        "flattening": False,
        "reduce_only": False,
        "halted_why": "",
        "orders_open_n": 0,
        "positions_n": 2,
    }
    return Answer(request.request_id, request.action, **(values | changes))  # type: ignore[arg-type]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_request_waits_until_it_is_settled_and_its_answer_is_read_back(spool: Spool) -> None:
    request = Request(PAUSE, "p1", 5)
    spool.send(request)
    assert spool.answer("p1") is None
    assert Spool(spool.folder.parent).waiting().requests == (request,)  # it outlives both sides
    spool.settle(answer_to(request))
    assert spool.waiting().requests == ()
    assert spool.answer("p1") == answer_to(request)


def test_requests_come_in_the_order_of_their_asking_and_the_careful_one_has_the_last_word(
    spool: Spool,
) -> None:
    for action, name, at_ms in ((KILL, "a", 7), (RESUME, "z", 7), (PAUSE, "m", 6)):
        spool.send(Request(action, name, at_ms))
    assert [r.request_id for r in spool.waiting().requests] == ["m", "z", "a"]


def test_one_id_is_one_request_and_never_two_actions(spool: Spool) -> None:
    spool.send(Request(PAUSE, "one", 5))
    spool.send(Request(PAUSE, "one", 9))
    assert spool.waiting().requests == (Request(PAUSE, "one", 5),)
    with pytest.raises(ConfigurationError, match="one stands for pause already; give kill an id"):
        spool.send(Request(KILL, "one", 9))
    assert spool.waiting().requests == (Request(PAUSE, "one", 5),)


def test_two_clients_with_one_id_at_once_leave_one_whole_request(spool: Spool) -> None:
    started = threading.Barrier(8)

    def client(number: int) -> None:
        mine = Spool(spool.folder.parent)
        started.wait()
        for round_n in range(20):
            mine.send(Request(PAUSE, f"r{round_n}", number))

    clients = [threading.Thread(target=client, args=(n,)) for n in range(8)]
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    found = spool.waiting()
    assert found.aside == ()
    assert sorted(r.request_id for r in found.requests) == sorted(f"r{n}" for n in range(20))


@pytest.mark.parametrize(
    "text", ["", ".", "..", "a/b", "../../x", "a.json", "-x", "x" * 65, "a b", "\u00e4", "a\n"]
)
def test_a_name_that_could_lead_elsewhere_is_no_request_id(spool: Spool, text: str) -> None:
    assert not is_request_id(text)
    with pytest.raises(InvariantViolated, match="is no request id"):
        spool.send(Request(PAUSE, text, 1))


# ---- what else may lie there ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("torn.json", b'{"action":"pau', "truncated"),
        ("empty.json", b"", "truncated"),
        ("zeros.json", bytes(64), "malformed"),
        ("text.json", b"please pause", "malformed"),
        ("other.json", b'{"action":"pause","request_id":"else","asked_ms":1}', "calls itself"),
        ("verb.json", b'{"action":"explode","request_id":"verb","asked_ms":1}', "Invalid enum"),
        ("more.json", b'{"action":"pause","request_id":"more","asked_ms":1,"x":2}', "unknown"),
        ("README", b"hello", "is no request"),
        ("long.json", b" " * 20_000, "longer than"),
    ],
)
def test_a_torn_or_foreign_file_is_named_set_aside_and_stops_nothing(
    spool: Spool, name: str, content: bytes, why: str
) -> None:
    (spool.folder / "commands" / name).write_bytes(content)
    (spool.folder / "commands" / name).chmod(0o600)
    spool.send(Request(PAUSE, "good", 1))
    found = spool.waiting()
    assert [r.request_id for r in found.requests] == ["good"]
    assert [n for n, _ in found.aside] == [name]
    assert why in found.aside[0][1]
    assert names(spool.folder / "aside") == [f"{name}.0"]
    assert spool.waiting().aside == ()


def test_links_pipes_folders_and_files_that_others_may_write_are_set_aside(spool: Spool) -> None:
    commands = spool.folder / "commands"
    good = b'{"action":"kill","request_id":"%s","asked_ms":1}'
    (spool.folder.parent / "elsewhere").write_bytes(good % b"link")
    (commands / "link.json").symlink_to(spool.folder.parent / "elsewhere")
    os.mkfifo(commands / "pipe.json")
    (commands / "folder.json").mkdir()
    (commands / "open.json").write_bytes(good % b"open")
    (commands / "open.json").chmod(0o666)
    found = spool.waiting()
    assert found.requests == ()
    assert sorted(n for n, _ in found.aside) == [
        "folder.json",
        "link.json",
        "open.json",
        "pipe.json",
    ]


def test_a_name_set_aside_twice_keeps_both(spool: Spool) -> None:
    for text in (b"first", b"second"):
        (spool.folder / "commands" / "x.json").write_bytes(text)
        spool.waiting()
    kept = [(spool.folder / "aside" / f"x.json.{n}").read_bytes() for n in (0, 1)]
    assert kept == [b"first", b"second"]


def test_only_the_owner_may_look(spool: Spool) -> None:
    spool.send(Request(PAUSE, "p", 1))
    spool.settle(answer_to(Request(PAUSE, "p", 1)))
    spool.send(Request(PAUSE, "q", 1))
    for path in (spool.folder, *spool.folder.rglob("*")):
        assert not stat.S_IMODE(path.stat().st_mode) & LOOSE, path
    spool.folder.chmod(0o755)
    spool.open()
    assert not stat.S_IMODE(spool.folder.stat().st_mode) & LOOSE


def test_a_torn_answer_is_no_answer_and_settling_again_mends_it(spool: Spool) -> None:
    request = Request(PAUSE, "p", 1)
    spool.send(request)
    (spool.folder / "answers" / "p.json").write_bytes(b'{"request')
    assert spool.answer("p") is None
    spool.settle(answer_to(request))
    assert spool.answer("p") == answer_to(request)


def test_where_no_answer_can_be_written_the_request_stays(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    request = Request(PAUSE, "p", 1)
    spool.send(request)
    monkeypatch.setattr("adapters.control.spool.write_whole", full)
    with pytest.raises(OSError, match="No space"):
        spool.settle(answer_to(request))
    assert spool.waiting().requests == (request,)


def test_answers_are_bounded_and_the_oldest_go(spool: Spool) -> None:
    for number in range(ANSWERS_KEPT + 5):
        spool.settle(answer_to(Request(PAUSE, f"p{number}", 1)))
        os.utime(spool.folder / "answers" / f"p{number}.json", ns=(number, number))
    left = names(spool.folder / "answers")
    assert ANSWERS_KEPT <= len(left) <= ANSWERS_KEPT + 1
    assert spool.answer("p0") is None
    assert spool.answer(f"p{ANSWERS_KEPT + 4}") is not None


# ---- a client that dies --------------------------------------------------------------------------

CLIENT = """
import os, signal, sys
from pathlib import Path
from adapters.control import Request, Spool, files
from daemon.domain.messages import OperatorAction
calls = 0
def dying(real):
    def call(*words, **options):
        global calls
        calls += 1
        if calls == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*words, **options)
    return call
for name in ("open", "fsync", "link", "close"):
    setattr(files.os, name, dying(getattr(os, name)))
files.Path.unlink = dying(files.Path.unlink)
Spool(Path(sys.argv[1])).send(Request(OperatorAction.PAUSE, "p", 1))
"""


def test_killed_at_any_step_of_sending_a_client_leaves_a_whole_request_or_none(
    spool: Spool, repository_root: Path
) -> None:
    seen = set()
    for step in range(1, 12):
        command = [sys.executable, "-c", CLIENT, str(spool.folder.parent), str(step)]
        done = subprocess.run(command, cwd=repository_root, check=False, timeout=30)
        found = spool.waiting()
        assert found.aside == ()
        assert found.requests in ((), (Request(PAUSE, "p", 1),))
        seen.add((done.returncode, len(found.requests)))
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        (spool.folder / "commands" / "p.json").unlink(missing_ok=True)
    assert seen == {(-signal.SIGKILL, 0), (-signal.SIGKILL, 1), (0, 1)}
