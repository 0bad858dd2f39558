"""Several writers of one stored file: nothing is torn, nothing is lost."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from adapters.history.covariates import read_series, series_path
from adapters.history.locks import only_writer, part_of
from adapters.history.parquet_file import Bars, merged_bars, read_bars, set_aside, write_bars
from adapters.history.recorder import Batch, Observation, Recorder, write_observations
from adapters.history.store import bars_path
from daemon.domain.failures import CorruptFile, DataError
from tests.adapters.history.samples import M30, MIDNIGHT, bars_of

FACTS = {"venue": "v", "symbol": "BTCUSDT"}
WRITES = 25
_WRITER = """
import sys
from pathlib import Path
from adapters.history.locks import only_writer
from adapters.history.parquet_file import Bars, merged_bars, read_bars, write_bars
from tests.adapters.history.samples import M30, bars_of
path, first, writes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
all_of = bars_of(2 * writes)
print("ready", flush=True)
sys.stdin.readline()
for n in range(first, 2 * writes, 2):
    new = Bars(all_of.open_ms[n : n + 1], all_of.values[n : n + 1])
    with only_writer(path):
        together = merged_bars(read_bars(path, M30), new)[0] if path.exists() else new
        write_bars(path, together, M30, {"venue": "v", "symbol": "BTCUSDT"})
"""

_LOOKER = """
import sys
from pathlib import Path
from adapters.history.recorder import Recorder
from tests.adapters.history.samples import M30
recorder = Recorder(Path(sys.argv[1]), "v", M30, is_generated=False)
print("ready", flush=True)
sys.stdin.readline()
print(len(recorder.damaged("BTCUSDT")), flush=True)
"""


def test_two_processes_that_merge_into_one_file_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-30m.parquet"
    writers = [_process(_WRITER, str(path), str(first), str(WRITES)) for first in (0, 1)]
    for one in writers:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    torn = 0
    while any(one.poll() is None for one in writers):
        try:
            if path.exists():
                read_bars(path, M30)
        except CorruptFile:
            torn += 1
    said = [one.communicate()[1] for one in writers]
    assert [one.returncode for one in writers] == [0, 0], said
    assert torn == 0
    assert read_bars(path, M30).open_ms.tolist() == bars_of(2 * WRITES).open_ms.tolist()


def test_two_writers_that_do_not_merge_never_tear_the_file(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-30m.parquet"
    failed: list[str] = []

    def write(rows: int) -> None:
        try:
            for _ in range(WRITES):
                write_bars(path, bars_of(rows), M30, FACTS)
                read_bars(path, M30)
        except DataError as e:
            failed.append(str(e))

    threads = [threading.Thread(target=write, args=(rows,)) for rows in (200, 300)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert failed == []
    assert not list(tmp_path.glob(".*.part"))


def test_a_recorder_and_a_download_in_two_threads_lose_nothing(tmp_path: Path) -> None:
    bars = bars_of(2 * WRITES)
    path = bars_path(tmp_path, "v", "BTCUSDT", M30)
    recorder = Recorder(tmp_path, "v", M30, is_generated=False)

    def record() -> None:
        for n in range(0, 2 * WRITES, 2):
            one = slice(n, n + 1)
            zero = np.zeros(1, dtype=np.int64)
            proof = np.ones(1, dtype=np.uint8)
            close_ms = bars.open_ms[one] + M30.ms
            recorder.write(Batch("BTCUSDT", close_ms, bars.values[one], proof, zero, ()))

    def merge() -> None:
        for n in range(1, 2 * WRITES, 2):
            with only_writer(path):
                new = Bars(bars.open_ms[n : n + 1], bars.values[n : n + 1])
                kept = read_bars(path, M30) if path.exists() else new
                write_bars(path, merged_bars(kept, new)[0], M30, FACTS)

    threads = [threading.Thread(target=one) for one in (record, merge)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert read_bars(path, M30).open_ms.tolist() == bars.open_ms.tolist()


def test_two_threads_that_observe_one_series_lose_nothing(tmp_path: Path) -> None:
    def observe(first: int) -> None:
        for n in range(first, 2 * WRITES, 2):
            at = MIDNIGHT + n * M30.ms
            write_observations(tmp_path, [Observation("v", "BTCUSDT", "mark", at, at, float(n))])

    threads = [threading.Thread(target=observe, args=(first,)) for first in (0, 1)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(read_series(series_path(tmp_path, "v", "BTCUSDT", "mark"))) == 2 * WRITES


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    left = part_of(path)
    left.write_bytes(b"half")
    write_bars(path, bars_of(3), M30, FACTS)
    assert not left.exists()


def test_no_two_writers_share_a_temporary_name(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    assert len({part_of(path) for _ in range(9)}) == 9
    assert str(os.getpid()) in part_of(path).name, "of another process"


def test_a_folder_that_takes_no_lock_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot be written"), only_writer(tmp_path / "file" / "a"):
        pass


def test_a_file_that_another_writes_anew_meanwhile_is_not_set_aside(tmp_path: Path) -> None:
    path = bars_path(tmp_path, "v", "BTCUSDT", M30)
    write_bars(path, bars_of(50), M30, FACTS)
    path.write_bytes(path.read_bytes()[:700])
    recorder, found = Recorder(tmp_path, "v", M30, is_generated=False), list[str]()
    looker = threading.Thread(target=lambda: found.extend(recorder.damaged("BTCUSDT")))
    with only_writer(path):
        looker.start()
        looker.join(0.3)
        assert looker.is_alive(), "it has found the file damaged, and waits for who writes it"
        set_aside(path)
        write_bars(path, bars_of(60), M30, FACTS)
    looker.join()
    assert found == []
    assert len(read_bars(path, M30)) == 60


def test_of_two_processes_that_find_a_file_damaged_one_moves_it_and_says_so(
    tmp_path: Path,
) -> None:
    path = bars_path(tmp_path, "v", "BTCUSDT", M30)
    lookers = [_process(_LOOKER, str(tmp_path)) for _ in range(2)]
    write_bars(path, bars_of(50), M30, FACTS)
    path.write_bytes(path.read_bytes()[:700])
    for one in lookers:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    told = [one.communicate() for one in lookers]
    assert sorted(out.strip() for out, _ in told) == ["0", "1"], told
    assert len(list(path.parent.glob("BTCUSDT-30m.parquet.corrupt-*"))) == 1


def _process(code: str, *words: str) -> subprocess.Popen[str]:
    """Begin a process and wait until it is ready to go."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process
