"""Disks that refuse and files that are damaged: told to people, never in the way, made good."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from adapters.history.download import download_funding
from adapters.history.parquet_file import read_bars, read_rates
from adapters.history.recorder import Batch, Recorder
from adapters.history.store import bars_path, funding_path
from adapters.history.written import lost
from daemon.domain.messages import FeedTrouble, FundingRates
from daemon.domain.units import HOUR_MS
from daemon.wiring.bar_recorder import BACKFILL_MS_MAX, BarRecorder
from daemon.wiring.data import rates_from
from tests.adapters.exchange.feed_rig import HALF_HOUR_MS, rig
from tests.adapters.history.samples import M30, MIDNIGHT, bars_of, store
from tests.e2e.line import ROOT, environment
from tests.wiring.full_disk import BARS_EACH, PHASES, SYMBOLS, VENUE, closed, coins, revised
from tests.wiring.test_recording import recorders


def test_a_full_disk_is_told_once_leaves_nothing_half_written_and_no_hole_afterwards(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.wiring.full_disk", str(tmp_path)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["told"] == [["full", True], ["well again", False]]
    assert found["missing"]["full"] >= BARS_EACH - 20, "until then the gap can be seen"
    assert found["missing"]["well again"] <= 20
    assert found["shown"]["full"]["store_fails"] is True
    assert found["shown"]["well"] == found["shown"]["well again"] == {}
    assert found["equal"], "to the bit, in order, none missing"
    assert found["rates"] == len(PHASES) * BARS_EACH // 16
    assert found["revisions"] == [len(PHASES) * BARS_EACH // 50], "each once"
    assert found["parts"] == []


async def test_damaged_files_are_put_aside_at_the_start_told_and_written_anew(
    tmp_path: Path,
) -> None:
    async with rig() as made:
        instruments = await made.feed.instruments()
        path = store(tmp_path, "binanceusdm", "BTCUSDT", bars_of(500))
        path.write_bytes(path.read_bytes()[:700])
        rates = funding_path(tmp_path, "binanceusdm", "ETHUSDT")
        rates.parent.mkdir(parents=True)
        rates.write_bytes(b"")
        whole = {"binanceusdm": Recorder(tmp_path, "binanceusdm", M30, False)}
        recorder = BarRecorder(whole, instruments, HOUR_MS)
        await recorder.put_damaged_aside(5)
        told = recorder.take_notices()
        assert [(n.trouble, n.active) for n in told] == [(FeedTrouble.STORE, True)] * 2
        assert str(path) in told[0].text
        assert "check-data --repair" in told[0].text
        assert str(rates) in told[1].text
        assert not path.exists()
        await made.listen()
        await made.advance(4)
        for event in made.told:
            recorder(event)
        await recorder.finish()
        assert recorder.take_notices() == []
        assert len(read_bars(path, M30)) == 4
        ((_, written),) = lost(path)
        assert (written.first_ms, written.rows) == (MIDNIGHT, 500), "what to fetch is not forgotten"


def test_what_a_run_could_not_store_is_read_again_a_week_back_but_not_for_a_dead_contract(
    tmp_path: Path,
) -> None:
    made = recorders(tmp_path, is_generated=False)
    bars = bars_of(48 * 30)
    end_ms = MIDNIGHT + len(bars) * M30.ms
    recorder = BarRecorder(made, coins(), HOUR_MS)
    assert recorder.missing_from_ms(end_ms) is None
    store(tmp_path, VENUE, "BTCUSDT", bars)
    store(tmp_path, VENUE, "ETHUSDT", bars_of(48 * 26))
    assert recorder.missing_from_ms(end_ms) == MIDNIGHT + 48 * 26 * M30.ms
    store(tmp_path, VENUE, "ETHUSDT", bars_of(48 * 3))
    assert recorder.missing_from_ms(end_ms) == end_ms
    assert recorder.missing_from_ms(end_ms + 20 * 48 * M30.ms) == (
        end_ms + 20 * 48 * M30.ms - BACKFILL_MS_MAX
    )


# ---- funding -------------------------------------------------------------------------------------


async def test_funding_that_a_daemon_saw_is_stored_as_a_download_would_to_the_byte(
    tmp_path: Path,
) -> None:
    async with rig() as made:
        recorder = BarRecorder(recorders(tmp_path / "live"), await made.feed.instruments(), HOUR_MS)
        after_ms = made.start_ms - 30 * HOUR_MS
        async for event in made.feed.history(after_ms, made.start_ms):
            recorder(event)
        await made.listen()
        await made.advance(60)
        for event in made.told:
            recorder(event)
        await recorder.finish()
        assert len(made.funding) >= 3
        until_ms = made.start_ms + 60 * HALF_HOUR_MS
        rates = rates_from(made.feed._reader())
        where = tmp_path / "downloaded"
        asked = (rates, made.symbols, after_ms, until_ms, where)
        assert await download_funding(*asked, venue="binanceusdm") == {}
        for symbol in made.symbols:
            ours = funding_path(tmp_path / "live", "binanceusdm", symbol)
            theirs = funding_path(where, "binanceusdm", symbol)
            assert ours.read_bytes() == theirs.read_bytes()


async def test_funding_told_in_pieces_twice_and_without_some_instruments_is_stored_once(
    tmp_path: Path,
) -> None:
    recorder = BarRecorder(recorders(tmp_path), coins(), HOUR_MS)
    gone = np.full(2, np.nan)
    for at, rates in ((8, [1e-4, np.nan]), (8, [9e-4, 2e-4]), (9, [np.nan, 3e-4])):
        recorder(FundingRates(MIDNIGHT + at * HOUR_MS, np.array(rates), gone))
    await recorder.finish()
    btc, eth = (read_rates(funding_path(tmp_path, "binanceusdm", s)) for s in SYMBOLS)
    assert (btc.settle_ms.tolist(), btc.rates.tolist()) == ([MIDNIGHT + 8 * HOUR_MS], [1e-4])
    assert eth.settle_ms.tolist() == [MIDNIGHT + 8 * HOUR_MS, MIDNIGHT + 9 * HOUR_MS]
    assert bars_path(tmp_path, "binanceusdm", SYMBOLS[0], M30).exists() is False


# ---- revisions -----------------------------------------------------------------------------------

APPENDING = """
import resource, sys
from pathlib import Path
from adapters.history.recorder import _append_whole
path, most = Path(sys.argv[1]), 500
_append_whole(path, "a whole line\\n")
resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
try:
    _append_whole(path, "x" * 2 * most + "\\n")
except OSError:
    print("refused")
"""


def test_a_line_that_does_not_fit_is_not_written_in_part(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", APPENDING, str(path)],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "refused", done.stderr
    assert path.read_text() == "a whole line\n"


async def test_a_file_that_fails_does_not_repeat_the_revisions_of_another(tmp_path: Path) -> None:
    recorder = BarRecorder(recorders(tmp_path), coins(), HOUR_MS)
    in_the_way = bars_path(tmp_path, VENUE, SYMBOLS[1], M30)
    in_the_way.mkdir(parents=True)
    for number in range(12):
        recorder(closed(number))
        if number == 5:
            recorder(revised(2))
        await recorder._written()
    assert recorder.shown(VENUE)["store_fails"] is True
    in_the_way.rmdir()
    for number in range(12, 16):
        recorder(closed(number))
        await recorder._written()
    await recorder.finish()
    assert [one.active for one in recorder.take_notices()] == [True, False]
    (file,) = (tmp_path / "revisions" / VENUE).iterdir()
    assert len(file.read_text().splitlines()) == 1
    assert [len(read_bars(bars_path(tmp_path, VENUE, s, M30), M30)) for s in SYMBOLS] == [16, 16]


async def test_a_file_that_refuses_for_good_lets_nobody_elses_bars_be_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = BarRecorder(recorders(tmp_path), coins(), HOUR_MS)
    bars_path(tmp_path, VENUE, SYMBOLS[1], M30).mkdir(parents=True)
    handed: Counter[str] = Counter()
    write = Recorder.write

    def counted(self: Recorder, batch: Batch) -> Path | None:
        handed[batch.symbol] += len(batch.close_ms)
        return write(self, batch)

    monkeypatch.setattr(Recorder, "write", counted)
    for number in range(40):
        recorder(closed(number))
        await recorder._written()
    await recorder.finish()
    assert recorder.shown(VENUE)["store_fails"] is True
    names = [instrument.key.symbol for instrument in coins()]
    assert handed[names[0]] == 40
    assert handed[names[1]] > 40, "the one that refuses is tried again"
