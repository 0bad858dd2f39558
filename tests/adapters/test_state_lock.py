import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from adapters.state_lock import LOCK_NAME, StateLock, end_owner, owner_of
from daemon.domain.failures import AlreadyRunning, ConfigurationError

HOLDER = """
import signal, sys
from pathlib import Path
from adapters.state_lock import StateLock
StateLock(Path(sys.argv[1])).acquire()
"""
HOLD_AND_WAIT = HOLDER + 'print("held", flush=True)\nsignal.pause()\n'
HOLD_FORK_AND_WAIT = (
    HOLDER
    + """
import os
if os.fork() == 0:
    print(os.getpid(), flush=True)
    signal.pause()
signal.pause()
"""
)


def test_a_second_lock_names_the_owner_and_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with StateLock(folder), pytest.raises(AlreadyRunning) as failure:
        StateLock(folder).acquire()
    assert str(folder) in str(failure.value)
    assert f"process {os.getpid()}:" in str(failure.value)
    assert failure.value.exit_code == 75
    with StateLock(folder):
        pass


def test_a_released_lock_can_be_taken_again_and_twice_is_once(tmp_path: Path) -> None:
    lock = StateLock(tmp_path)
    lock.acquire()
    lock.acquire()
    lock.release()
    lock.release()
    with StateLock(tmp_path):
        assert lock.path.read_text().strip() == str(os.getpid())


def test_kill_9_frees_the_folder(tmp_path: Path, repository_root: Path) -> None:
    command = [sys.executable, "-c", HOLD_AND_WAIT, str(tmp_path)]
    with subprocess.Popen(command, cwd=repository_root, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(AlreadyRunning, match=f"process {child.pid}:"):
            StateLock(tmp_path).acquire()
        os.kill(child.pid, signal.SIGKILL)
    with StateLock(tmp_path):
        pass


def test_a_forked_worker_does_not_keep_the_folder(tmp_path: Path, repository_root: Path) -> None:
    command = [sys.executable, "-c", HOLD_FORK_AND_WAIT, str(tmp_path)]
    child = subprocess.Popen(command, cwd=repository_root, stdout=subprocess.PIPE)
    assert child.stdout is not None
    worker = int(child.stdout.readline())
    try:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        with StateLock(tmp_path):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)
        child.stdout.close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigurationError, match="file/state"):
        StateLock(tmp_path / "file" / "state").acquire()


# ---- who holds it, for those who must end him ----------------------------------------------------


def test_the_holder_is_told_while_there_is_one(tmp_path: Path) -> None:
    assert owner_of(tmp_path / "nowhere") is None
    with StateLock(tmp_path):
        assert owner_of(tmp_path) == os.getpid()
    assert owner_of(tmp_path) is None, "the file stays, but nobody holds it"
    assert not end_owner(tmp_path, signal.SIGKILL)


def test_to_look_who_holds_it_takes_it_from_nobody(tmp_path: Path) -> None:
    lock = StateLock(tmp_path)
    with lock:
        pass
    assert owner_of(tmp_path) is None
    with lock:
        assert owner_of(tmp_path) == os.getpid()
        with pytest.raises(AlreadyRunning):
            StateLock(tmp_path).acquire()


def test_the_holder_is_ended_by_its_id(tmp_path: Path, repository_root: Path) -> None:
    command = [sys.executable, "-c", HOLD_AND_WAIT, str(tmp_path)]
    with subprocess.Popen(command, cwd=repository_root, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        assert owner_of(tmp_path) == child.pid
        assert end_owner(tmp_path, signal.SIGTERM)
        assert child.wait(10) == -signal.SIGTERM
    assert owner_of(tmp_path) is None


def test_a_process_that_does_not_have_the_lock_open_is_left_alone(tmp_path: Path) -> None:
    sleeper = [sys.executable, "-c", "import signal; signal.pause()"]
    with StateLock(tmp_path), subprocess.Popen(sleeper) as stranger:
        try:
            (tmp_path / LOCK_NAME).write_text(f"{stranger.pid}\n")
            with pytest.raises(ConfigurationError, match=f"not by process {stranger.pid}"):
                end_owner(tmp_path, signal.SIGKILL)
            assert stranger.poll() is None
        finally:
            stranger.kill()
        stranger.wait(10)
        with pytest.raises(ConfigurationError, match=f"not by process {stranger.pid}"):
            end_owner(tmp_path, signal.SIGKILL)


@pytest.mark.parametrize("text", ["", "torn", "-1", "0"])
def test_a_lock_that_does_not_name_its_holder_ends_nobody(tmp_path: Path, text: str) -> None:
    with StateLock(tmp_path):
        (tmp_path / LOCK_NAME).write_text(text)
        with pytest.raises(ConfigurationError, match="does not name by whom"):
            end_owner(tmp_path, signal.SIGKILL)
