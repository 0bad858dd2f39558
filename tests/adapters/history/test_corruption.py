"""A damaged file is never read as other numbers: equal content, or CorruptFile."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adapters.history.parquet_file import (
    Bars,
    Provenance,
    merged_bars,
    read_bars,
    read_times,
    set_aside,
    write_bars,
)
from adapters.history.store import list_bars
from daemon.domain.bar import Proof
from daemon.domain.failures import CorruptFile
from tests.adapters.history.samples import FACTS, M30, bars_of, store

CUTS = 120
FLIPS = 400


def noted(rows: int, seed: int = 0) -> Bars:
    """Draw bars with provenance."""
    bars, rng = bars_of(rows, seed), np.random.default_rng(seed)
    proof = rng.integers(1, 4, rows).astype(np.uint8)
    proven_ms = bars.open_ms + M30.ms + rng.integers(0, 3000, rows)
    revised_ms = np.where(rng.random(rows) < 0.1, proven_ms + 60_000, 0)
    return Bars(bars.open_ms, bars.values, Provenance(proof, proven_ms, revised_ms))


def content(bars: Bars) -> bytes:
    found = bars.open_ms.tobytes() + bars.values.tobytes()
    if bars.provenance is None:
        return found
    one = bars.provenance
    return found + one.proof.tobytes() + one.proven_ms.tobytes() + one.revised_ms.tobytes()


@pytest.mark.parametrize("has_provenance", [False, True])
def test_every_cut_and_every_flipped_byte_is_found_or_harmless(
    tmp_path: Path, has_provenance: bool
) -> None:
    bars = noted(60) if has_provenance else bars_of(60)
    path = tmp_path / "BTCUSDT-30m.parquet"
    write_bars(path, bars, M30, FACTS)
    whole, truth = path.read_bytes(), content(bars)
    rng = np.random.default_rng(11)
    damaged = [whole[: int(at)] for at in rng.integers(0, len(whole), CUTS)]
    for at in rng.integers(0, len(whole), FLIPS).tolist():
        flipped = whole[at] ^ int(rng.integers(1, 256))
        damaged.append(whole[:at] + bytes([flipped]) + whole[at + 1 :])
    found_n = 0
    for one in damaged:
        path.write_bytes(one)
        try:
            assert content(read_bars(path, M30)) == truth
        except CorruptFile as failure:
            found_n += str(path) in str(failure)
    assert found_n >= CUTS + FLIPS // 2, "damage goes unseen only where no number is"


def test_list_data_sees_a_changed_number_only_when_it_looks_deep(tmp_path: Path) -> None:
    path = store(tmp_path, "somewhere", "BTCUSDT", bars_of(500))
    whole = path.read_bytes()
    at = len(whole) // 2
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
    read_times(path)
    (shallow,) = list_bars(tmp_path)
    (deep,) = list_bars(tmp_path, deep=True)
    assert shallow.problem is None
    assert str(path) in (deep.problem or "")
    aside = set_aside(path)
    assert aside.name.startswith("BTCUSDT-30m.parquet.corrupt-")
    assert list_bars(tmp_path, deep=True) == []


# ---- provenance ----------------------------------------------------------------------------------


def test_provenance_comes_back_and_a_file_without_it_is_as_valid(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    for bars in (noted(50), bars_of(50)):
        write_bars(path, bars, M30, FACTS)
        found = read_bars(path, M30)
        assert content(found) == content(bars)
        assert (found.provenance is None) == (bars.provenance is None)


def test_the_checksum_covers_provenance(tmp_path: Path) -> None:
    path, one = tmp_path / "x.parquet", noted(50)
    write_bars(path, one, M30, FACTS)
    table = pq.read_table(path)
    for name in ("proof", "proven_ms", "revised_ms"):
        changed = table.column(name).to_pylist()
        changed[7] = (changed[7] + 1) % 4
        at = table.schema.get_field_index(name)
        kind = table.schema.field(name).type
        other = table.set_column(at, name, pa.array(changed, kind))
        pq.write_table(other.replace_schema_metadata(table.schema.metadata), path)
        with pytest.raises(CorruptFile, match="SHA-256"):
            read_bars(path, M30)
    pq.write_table(table.drop_columns(["proven_ms"]), path)
    with pytest.raises(CorruptFile, match="column 'proven_ms' is missing"):
        read_bars(path, M30)


def test_united_bars_keep_the_provenance_that_each_has() -> None:
    seen, plain = noted(20), bars_of(30)
    together, _ = merged_bars(seen, plain)
    assert len(together) == 30
    assert together.provenance is not None
    assert seen.provenance is not None
    assert together.provenance.proof[:20].tolist() == seen.provenance.proof.tolist()
    assert together.provenance.proof[20:].tolist() == [Proof.HISTORY] * 10
    assert together.provenance.proven_ms[20:].tolist() == [0] * 10
    assert merged_bars(plain, plain)[0].provenance is None
