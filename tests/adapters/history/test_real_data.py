"""The recorded market data beside the checkout loads whole, with its known holes."""

import resource
import timeit
from pathlib import Path

import numpy as np
import pytest

from adapters.history.replay_feed import ReplayFeed
from adapters.history.rules import instruments_from, load_rules
from adapters.history.store import (
    Panel,
    funding_missing_share,
    list_bars,
    load_funding,
    load_panel,
)
from daemon.domain.bar import Proof
from daemon.domain.bar_builder import BarBuilder, aggregate_all
from daemon.domain.messages import BarsClosed, FundingRates
from daemon.domain.units import Timeframe, iso

pytestmark = pytest.mark.real_data

M15, M30 = Timeframe(15), Timeframe(30)
THREE = (Timeframe(60), Timeframe(90), Timeframe(120))


def symbols_of(root: Path, venue: str, timeframe: Timeframe) -> list[str]:
    found = [one for one in list_bars(root, venue) if one.timeframe == timeframe]
    assert [one.problem for one in found if one.problem] == []
    return [one.symbol for one in found]


def load(root: Path, venue: str, timeframe: Timeframe) -> tuple[list[str], Panel]:
    symbols = symbols_of(root, venue, timeframe)
    begin = timeit.default_timer()
    panel = load_panel(root, venue, symbols, timeframe)
    seconds = timeit.default_timer() - begin
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    shape = panel.values.shape
    print(f"\n{venue} {timeframe.label}: {shape} in {seconds:.2f} s, peak {peak_mb:.0f} MB")
    return symbols, panel


def test_the_perpetuals_load_without_a_hole(recorded_data: Path) -> None:
    symbols, panel = load(recorded_data, "binance_perp", M30)
    assert len(symbols) == 12
    assert len(panel.close_ms) == 2064
    assert iso(int(panel.close_ms[0])) == "2025-05-22T00:30:00Z"
    assert iso(int(panel.close_ms[-1])) == "2025-07-04T00:00:00Z"
    assert np.isfinite(panel.values).all()
    assert int(panel.values.shape[0] * panel.values.shape[1]) == 24_768


@pytest.mark.parametrize(
    ("symbol", "before", "after"),
    [
        ("XRPUSDT", "2024-09-07T02:", "2025-04-30T00:00:00Z"),
        ("DOGEUSDT", "2024-09-07T02:", "2025-04-30T00:00:00Z"),
        ("OPUSDT", "2024-09-07T02:", "2025-04-30T00:00:00Z"),
        ("ADAUSDT", "2024-04-09T23:30:00Z", "2025-01-01T00:00:00Z"),
        ("DOTUSDT", "2024-04-09T23:30:00Z", "2025-04-30T00:00:00Z"),
        ("BNBUSDT", "2024-04-09T23:30:00Z", "2024-04-30T00:00:00Z"),
    ],
)
def test_the_documented_holes_are_reported_where_they_are(
    recorded_data: Path, symbol: str, before: str, after: str
) -> None:
    found = [one for one in list_bars(recorded_data, "binance_spot") if one.symbol == symbol]
    assert any(
        iso(gap.last_before_ms).startswith(before) and iso(gap.resumes_ms) == after
        for gap in found[0].gaps
    )


def test_two_years_of_spot_replay_through_the_builder_as_in_the_batch(
    recorded_data: Path, repository_root: Path
) -> None:
    symbols, panel = load(recorded_data, "binance_spot", M15)
    assert panel.values.shape == (79_200, 35, 5)
    there = ~np.isnan(panel.values[:, :, 0])
    assert int(there.sum()) == 1_383_016
    funding = load_funding(recorded_data, "binance_perp", symbols)
    print(
        f"funding missing: {funding_missing_share(panel, funding):.1%}, {len(funding.absent)} files"
    )
    table = load_rules(repository_root / "config" / "trading_rules.toml")
    made = instruments_from(table, "binance_spot", symbols)
    assert made.defaulted == ()
    feed = ReplayFeed(panel, M15, made.instruments, funding)

    begin = timeit.default_timer()
    counts = {BarsClosed: 0, FundingRates: 0}
    for event in feed.replay(0, feed.last_ms):
        counts[type(event)] += 1
    print(f"replay of {len(feed)} instants: {timeit.default_timer() - begin:.2f} s")
    assert counts == {BarsClosed: 79_200, FundingRates: len(funding.settle_ms)}

    builder = BarBuilder(M15, THREE, len(symbols))
    batch = aggregate_all(panel.close_ms - M15.ms, panel.values, M15, THREE)
    wanted = {
        (timeframe, close_ms): row
        for timeframe, (closes, rows) in zip(THREE, batch, strict=True)
        for close_ms, row in zip(closes.tolist(), rows, strict=True)
    }
    begin = timeit.default_timer()
    seen = 0
    for event in feed.replay(0, feed.last_ms):
        if isinstance(event, BarsClosed):
            for bars in builder.add(event.close_ms, event.values, event.proof != Proof.ABSENT):
                row = wanted.pop((bars.timeframe, bars.close_ms))
                assert bars.values.tobytes() == row.tobytes()
                seen += 1
    us = (timeit.default_timer() - begin) / len(feed) * 1e6
    print(f"builder: {us:.1f} us an instant with comparison, {seen} cross-sections")
    assert all(np.isnan(row).all() for row in wanted.values())
    assert builder.too_late_n == builder.malformed_n == 0
