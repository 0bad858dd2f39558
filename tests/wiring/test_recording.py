"""What the recorder stores of a feed over the real client: truth, proofs and revisions."""

import asyncio
import dataclasses
import json
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest

from adapters.history.parquet_file import read_bars
from adapters.history.recorder import Batch, Recorder
from adapters.history.store import bars_path, list_bars
from daemon.domain.bar import Proof
from daemon.domain.failures import DataError
from daemon.domain.units import Timeframe, iso
from daemon.settings import Settings
from daemon.settings.data import DataSettings
from daemon.wiring.bar_recorder import BarRecorder
from daemon.wiring.recording import bar_recorder, recording_folder
from tests.adapters.exchange.feed_rig import HALF_HOUR_MS, rig
from tests.adapters.history.samples import bars_of, store

M30 = Timeframe(30)
HOUR_MS = 3_600_000


def recorders(root: Path, *, is_generated: bool = True) -> dict[str, Recorder]:
    return {"binanceusdm": Recorder(root, "binanceusdm", M30, is_generated)}


async def test_what_the_stream_proved_is_stored_with_proofs_and_a_revision_replaces_its_bar(
    tmp_path: Path,
) -> None:
    async with rig(audit_every_bars=4) as made:
        recorder = BarRecorder(recorders(tmp_path), await made.feed.instruments(), 2 * HOUR_MS)
        await made.listen()
        await made.advance(3)
        gate = made.feed._pump._gate if made.feed._pump else None
        assert gate is not None
        close_ms = made.bars[2].close_ms
        columns = gate._columns[1].final
        known = columns[close_ms - HALF_HOUR_MS]
        wrong = (*known.values[:4], known.values[4] + 1.0)  # as if the venue had told this first
        columns[close_ms - HALF_HOUR_MS] = dataclasses.replace(known, values=wrong)
        for event in made.told:
            if event is made.bars[2]:
                values = made.bars[2].values.copy()
                values[1] = wrong
                recorder(msgspec.structs.replace(made.bars[2], values=values))
            else:
                recorder(event)
        told_n = len(made.told)
        await made.advance(6)
        for event in made.told[told_n:]:
            recorder(event)
        await recorder.finish()
        (revised,) = made.revised
        for n, symbol in enumerate(made.symbols):
            bars = read_bars(bars_path(tmp_path, "binanceusdm", symbol, M30), M30)
            assert bars.open_ms.tolist() == [b.close_ms - HALF_HOUR_MS for b in made.bars]
            for row, told in enumerate(made.bars):
                assert bars.values[row].tobytes() == made.truth(told.close_ms)[n].tobytes()
            noted = bars.provenance
            assert noted is not None
            assert noted.proof.tolist() == [b.proof[n] for b in made.bars]
            assert noted.proven_ms.tolist() == [
                0 if b.proven_ms is None else b.proven_ms[n] for b in made.bars
            ]
            wanted = [revised.seen_ms if (n, b.close_ms) == (1, close_ms) else 0 for b in made.bars]
            assert noted.revised_ms.tolist() == wanted
    (file,) = (tmp_path / "revisions" / "binanceusdm").iterdir()
    (line,) = [json.loads(one) for one in file.read_text().splitlines()]
    assert file.name == "ETHUSDT-30m.jsonl"
    assert (line["bar_closed"], line["seen_ms"]) == (iso(close_ms), revised.seen_ms)
    assert line["shown_by"] == Proof(revised.shown_by).name.lower()
    assert line["before"] == pytest.approx(revised.before.tolist(), abs=0)
    assert line["after"] == pytest.approx(revised.after.tolist(), abs=0)


async def test_a_slow_disk_does_not_hold_up_who_tells(tmp_path: Path) -> None:
    gate = threading.Event()

    class Slow(Recorder):
        __slots__ = ()

        def write(self, batch: Batch) -> Path | None:
            assert gate.wait(5)
            return super().write(batch)

    async with rig() as made:
        slow = {"binanceusdm": Slow(tmp_path, "binanceusdm", M30, True)}
        recorder = BarRecorder(slow, await made.feed.instruments(), HOUR_MS)
        await made.listen()
        await made.advance(8)
        for event in made.told:
            recorder(event)
        assert list_bars(tmp_path) == [], "the disk is still busy with the first"
        asyncio.get_running_loop().call_later(0.05, gate.set)
        await recorder.finish()
        assert recorder.writes_n == 2
        for symbol in made.symbols:
            bars = read_bars(bars_path(tmp_path, "binanceusdm", symbol, M30), M30)
            assert len(bars) == 8


async def test_what_a_refusing_disk_did_not_take_is_written_when_it_takes_again(
    tmp_path: Path,
) -> None:
    root = tmp_path / "root"
    root.write_text("in the way")
    async with rig() as made:
        recorder = BarRecorder(recorders(root), await made.feed.instruments(), HOUR_MS)
        await made.listen()
        await made.advance(8)
        for event in made.told[:-2]:
            recorder(event)
        await recorder._written()
        assert recorder._is_failing
        root.unlink()
        for event in made.told[-2:]:
            recorder(event)
        await recorder.finish()
        bars = read_bars(bars_path(root, "binanceusdm", "BTCUSDT", M30), M30)
        assert len(bars) == 8


async def test_switched_off_there_is_no_recorder() -> None:
    settings = Settings(data=DataSettings(record=False))
    async with bar_recorder(settings, (), is_private=True) as recorder:
        assert recorder is None


def batch(rows: int, seed: int = 0) -> Batch:
    bars = bars_of(rows, seed)
    closes = bars.open_ms + M30.ms
    proof = np.full(rows, Proof.SUCCESSOR, dtype=np.uint8)
    return Batch("BTCUSDT", closes, bars.values, proof, closes, ())


def test_generated_bars_are_never_mixed_with_real_ones(tmp_path: Path) -> None:
    path = store(tmp_path, "binanceusdm", "BTCUSDT", bars_of(10))
    before = path.read_bytes()
    with pytest.raises(DataError, match="another kind of market"):
        recorders(tmp_path)["binanceusdm"].write(batch(20))
    assert path.read_bytes() == before
    recorders(tmp_path, is_generated=False)["binanceusdm"].write(batch(20))
    assert len(read_bars(path, M30)) == 20


def test_a_corrupt_file_is_moved_aside_before_writing(tmp_path: Path) -> None:
    path = store(tmp_path, "binanceusdm", "BTCUSDT", bars_of(10))
    path.write_bytes(path.read_bytes()[:-30])
    aside = recorders(tmp_path, is_generated=False)["binanceusdm"].write(batch(20))
    assert aside is not None
    assert aside.exists()
    assert len(read_bars(path, M30)) == 20


@pytest.mark.parametrize(
    ("changes", "is_private", "wanted"),
    [
        ({}, False, "data"),
        ({}, True, "state/paper/bars"),
        ({"generated": True}, False, "state/paper/bars"),
        ({"options": {"urls": {}}}, False, "state/paper/bars"),
    ],
)
def test_only_a_venue_that_is_what_it_says_shares_the_downloads_folder(
    changes: dict[str, object], is_private: bool, wanted: str
) -> None:
    plain = Settings()
    exchange = plain.exchange.model_copy(update=changes)
    settings = plain.model_copy(update={"exchange": exchange})
    assert recording_folder(settings, is_private=is_private) == Path(wanted)
