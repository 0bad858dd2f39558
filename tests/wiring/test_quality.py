"""Our own report on stores: broken files beside sound ones, and the recorded data, every event."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from adapters.history.foreign import ForeignLayout
from adapters.history.parquet_file import Bars
from daemon.domain.bar import Field
from daemon.domain.cleansing import REMOVING, CleansingRules
from daemon.domain.failures import DataError
from daemon.domain.units import MINUTE_MS, iso
from daemon.research.data_quality import QualityFinding
from daemon.wiring.importing import import_files
from daemon.wiring.quality import QualityReport, check_store
from tests.adapters.history.samples import bars_of, store, without

RULES = CleansingRules()


def test_a_broken_file_is_named_and_the_rest_is_checked(tmp_path: Path) -> None:
    for n, symbol in enumerate(("AAAUSDT", "BBBUSDT", "CCCUSDT")):
        store(tmp_path, "v", symbol, without(bars_of(300, n), range(50, 60)))
    path = store(tmp_path, "v", "DDDUSDT", bars_of(300, 9))
    whole = path.read_bytes()
    at = len(whole) // 2
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    found = check_store(tmp_path, None, RULES)
    assert len(found.broken) == 1
    assert str(path) in found.broken[0]
    assert (found.files_n, found.bars_n) == (4, 870)
    (hole,) = [one for one in found.findings if "hole" in one.rule]
    assert (hole.rule, len(hole.symbols), hole.bars_n) == ("venue_hole", 3, 30)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no bars and no funding"):
        check_store(tmp_path, None, RULES)


@pytest.mark.parametrize("venue", ["v", "other"])
def test_only_the_venue_asked_for_is_read(tmp_path: Path, venue: str) -> None:
    values = bars_of(300).values.copy()
    values[100, Field.LOW] *= 0.5
    store(tmp_path, "v", "AAAUSDT", Bars(bars_of(300).open_ms, values))
    store(tmp_path, "other", "AAAUSDT", bars_of(200))
    found = check_store(tmp_path, venue, RULES)
    assert found.bars_n == (300 if venue == "v" else 200)
    assert [one.rule for one in found.findings] == (["wick"] if venue == "v" else [])


# ---- the recorded data ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def imported(recorded_data: Path, tmp_path_factory: pytest.TempPathFactory) -> QualityReport:
    """Import the recorded data into a store of our own, and check that."""
    root = tmp_path_factory.mktemp("imported")
    files = import_files([recorded_data], root, "", ForeignLayout(), now_ms=1 << 42).files
    assert sum(one.new_n for one in files) == 2_359_944 + 7_733 + 753
    assert {one.differ_n + one.twice_n + one.unclosed_n for one in files} == {0}
    return check_store(root, None, RULES)


def opening(found: QualityReport, rule: str, at: str) -> list[QualityFinding]:
    """Give the findings of a rule of 15 minute spot bars that cover an opening instant."""
    return [
        one
        for one in found.findings
        if one.rule == rule
        and one.venue == "binance_spot"
        and iso(one.first_ms) <= f"{at}:00Z" <= iso(one.last_ms)
    ]


@pytest.mark.real_data
def test_the_recorded_data_come_in_whole(imported: QualityReport) -> None:
    assert imported.broken == ()
    assert (imported.files_n, imported.bars_n, imported.rates_n) == (90, 2_359_944, 8_486)
    print("\nfindings:", dict(Counter(one.rule for one in imported.findings)))


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("symbol", "before", "resumes"),
    [
        ("XRPUSDT", "2024-09-07T02:00:00Z", "2025-04-30T00:00:00Z"),
        ("DOGEUSDT", "2024-09-07T02:00:00Z", "2025-04-30T00:00:00Z"),
        ("OPUSDT", "2024-09-07T02:15:00Z", "2025-04-30T00:00:00Z"),
        ("ADAUSDT", "2024-04-09T23:30:00Z", "2025-01-01T00:00:00Z"),
        ("DOTUSDT", "2024-04-09T23:30:00Z", "2025-04-30T00:00:00Z"),
        ("BNBUSDT", "2024-04-09T23:30:00Z", "2024-04-30T00:00:00Z"),
    ],
)
def test_every_documented_hole_is_listed(
    imported: QualityReport, symbol: str, before: str, resumes: str
) -> None:
    (hole,) = [f for f in imported.findings if f.rule == "hole" and f.symbols == (symbol,)]
    step = 15 * MINUTE_MS
    assert iso(hole.first_ms - step) == before
    assert iso(hole.last_ms + step) == resumes


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("at", "instruments"),
    [
        ("2023-06-10T04:15", 11),
        ("2023-08-17T21:30", 7),
        ("2024-01-03T12:00", 30),
        ("2024-03-05T19:45", 25),
        ("2024-04-12T18:30", 20),
        ("2024-04-13T20:00", 20),
        ("2024-08-05T01:00", 20),
        ("2025-02-03T02:00", 2),
    ],
)
def test_every_documented_crash_is_listed_and_none_is_removed(
    imported: QualityReport, at: str, instruments: int
) -> None:
    found = [*opening(imported, "crash", at), *opening(imported, "wick", at)]
    assert len({symbol for one in found for symbol in one.symbols}) >= instruments
    assert {one.severity for one in found} == {"note"}
    if at.startswith("2025-02-03"):
        assert any("ETHUSDT" in one.symbols for one in opening(imported, "wick", at))


@pytest.mark.real_data
def test_the_listing_wick_is_known_as_such_and_no_recorded_bar_is_bad(
    imported: QualityReport,
) -> None:
    (listing,) = opening(imported, "listing", "2024-05-16T12:00")
    assert (listing.symbols, listing.severity) == (("NOTUSDT",), "note")
    assert "kept" in listing.action
    assert not opening(imported, "crash", "2024-05-16T12:00")
    assert not {one.rule for one in imported.findings} & {str(rule) for rule in REMOVING}


@pytest.mark.real_data
def test_funding_holes_are_listed_and_a_change_of_interval_is_none(
    imported: QualityReport,
) -> None:
    holes = {f.symbols[0]: f for f in imported.findings if f.rule == "funding_hole"}
    assert iso(holes["BTCUSDT"].first_ms) == "2023-08-17T00:00:00Z"
    assert iso(holes["BTCUSDT"].last_ms) == "2025-01-01T00:00:00Z"
    assert "LAYERUSDT" not in holes
    assert len(holes) == 14
    assert np.all([one.bars_n > 1000 for one in holes.values()])
