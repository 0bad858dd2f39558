"""The quality report: holes, outages, wicks and mixed-up names, found and dated."""

import numpy as np
import pytest

from daemon.domain.bar import Field, Floats
from daemon.domain.units import HOUR_MS, Timeframe, iso
from daemon.research.data_quality import (
    QualityFinding,
    StoredBars,
    bar_findings,
    funding_findings,
)
from tests.domain.test_cleansing import MINUTES, STEP, T0, closes, market, scaled, still

NAMES = ("AAA", "BBB", "CCC", "DDD", "EEE")


def report(values: Floats) -> list[QualityFinding]:
    stored = StoredBars("v", Timeframe(MINUTES), NAMES, closes(len(values)), values)
    return list(bar_findings(stored))


def brief(values: Floats) -> list[tuple[str, tuple[str, ...], int, int, int]]:
    """Give rule, symbols, rows of the first and last open, and the number of bars."""
    return [
        (f.rule, f.symbols, (f.first_ms - T0) // STEP, (f.last_ms - T0) // STEP, f.bars_n)
        for f in report(values)
    ]


def test_a_clean_market_has_no_finding() -> None:
    assert brief(market(300)) == []


def test_holes_are_dated_and_one_of_all_is_told_once() -> None:
    values = market(300)
    values[50:60, 1] = np.nan
    values[100:103] = np.nan
    values[103:105, 2] = np.nan
    assert brief(values) == [
        ("hole", ("BBB",), 50, 59, 10),
        ("venue_hole", NAMES, 100, 102, 15),
        ("hole", ("CCC",), 103, 104, 2),
    ]
    (first, *_) = report(values)
    assert first.text == (
        f"10 bars missing after {iso(T0 + 49 * STEP)}, until {iso(T0 + 60 * STEP)}"
    )


def test_who_begins_late_and_ends_early_is_told_together() -> None:
    values = market(300)
    values[:20, 1:3] = np.nan
    values[250:, 0] = np.nan
    values[299:, 4] = np.nan  # the newest bar may be late
    assert brief(values) == [
        ("starts_late", ("BBB", "CCC"), 20, 20, 2),
        ("ends_early", ("AAA",), 249, 249, 1),
    ]


def test_an_outage_is_one_finding_from_its_first_bar_to_its_last() -> None:
    values = market(300)
    for t in range(100, 106):
        for n in range(4 if t % 2 else 5):
            still(values, t, n)
    (outage,) = report(values)
    assert (outage.rule, outage.severity, outage.bars_n) == ("frozen_venue", "serious", 27)
    assert (outage.first_ms, outage.last_ms) == (T0 + 100 * STEP, T0 + 105 * STEP)
    assert "removed" in outage.action


def test_extremes_right_after_a_listing_belong_to_it() -> None:
    values = market(400)
    values[:50, 1] = np.nan
    values[50, 1, Field.HIGH] *= 3.0
    values[100, 1, Field.HIGH] *= 1.4
    values[200, 1, Field.LOW] *= 0.7
    found = brief(values)
    assert [(rule, row) for rule, _, row, _, _ in found] == [
        ("listing", 50), ("starts_late", 50), ("listing", 100), ("wick", 200),
    ]  # fmt: skip
    assert {f.severity for f in report(values)} == {"note"}


def test_a_crash_of_many_is_one_event_with_its_size() -> None:
    values = market(100)
    values[40:, :3, :4] *= 0.7
    values[40, :3, Field.OPEN] /= 0.7
    values[40, :3, Field.HIGH] = values[40, :3, Field.OPEN] * 1.001
    (crash,) = report(values)
    assert (crash.rule, crash.symbols, crash.bars_n) == ("crash", NAMES[:3], 3)
    assert "stays" in crash.action


def test_another_unit_a_split_a_repeat_and_a_still_name_are_told() -> None:
    values = market(300)
    scaled(values, 30, 35, 0, 1000.0)
    values[:, 1, Field.VOLUME] = 5.0
    scaled(values, 60, 300, 1, 0.5)
    values[101, 2] = values[100, 2]
    for t in range(200, 210):
        still(values, t, 3)
    assert brief(values) == [
        ("rescaled", ("AAA",), 30, 34, 5),
        ("rescaled", ("BBB",), 60, 154, 95),  # two days, then it is believed
        ("repeated", ("CCC",), 101, 101, 1),
        ("zero_volume", ("DDD",), 204, 209, 6),
    ]


def test_two_names_with_the_same_bars_are_told() -> None:
    values = market(300)
    values[:, 3] = values[:, 1]
    (twins,) = report(values)
    assert (twins.rule, twins.symbols, twins.severity) == ("twins", ("BBB", "DDD"), "serious")
    values[:300:10, 3, Field.VOLUME] *= 1.1  # a tenth of them differs: kin, no twins
    assert report(values) == []


# ---- funding -------------------------------------------------------------------------------------


def settlements(*hours: float) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return T0 + (np.array(hours) * HOUR_MS).astype(np.int64)


@pytest.mark.parametrize("every", [1, 4, 8])
def test_a_missing_settlement_is_found_whatever_the_interval(every: int) -> None:
    hours = [float(h) for h in range(0, 80 * every, every)]
    assert list(funding_findings("v", "AAA", settlements(*hours))) == []
    del hours[40:43]
    (hole,) = funding_findings("v", "AAA", settlements(*hours))
    assert (hole.first_ms, hole.last_ms) == (
        T0 + 39 * every * HOUR_MS,
        T0 + 43 * every * HOUR_MS,
    )
    assert hole.bars_n == 3


def test_a_change_of_the_interval_is_no_hole() -> None:
    hours = [*range(0, 80, 8), *range(80, 160, 4), *range(160, 200), *range(200, 300, 8)]
    assert list(funding_findings("v", "AAA", settlements(*map(float, hours)))) == []


def test_two_holes_in_a_row_and_a_sparse_file_are_found() -> None:
    hours = [0.0, 8.0, 16.0, 24.0, 72.0, 120.0, 128.0, 136.0, 144.0]
    found = list(funding_findings("v", "AAA", settlements(*hours)))
    assert [(f.first_ms - T0) // HOUR_MS for f in found] == [24, 72]
