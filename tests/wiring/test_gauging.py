"""Open interest, mark and index of a running daemon: stored as known, and never in the way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog

from adapters.exchange.gauges import GAUGES, GaugeReader, gauge_of
from adapters.history.covariates import StoredSeries, list_series, read_series, series_path
from adapters.history.recorder import Observation, write_observations
from adapters.rehearsal.series import INTEREST_TIMES
from daemon.domain.covariates import Series
from daemon.domain.units import HOUR_MS, MINUTE_MS, Timeframe
from daemon.settings import load_settings
from daemon.wiring.bar_recorder import BarRecorder
from daemon.wiring.gauging import Collector, collector_of, gauges_wanted
from daemon.wiring.series_download import fetch_one
from strategies.forecast.inputs.covariates import CovariateTable
from tests.adapters.exchange.feed_rig import (
    HALF_HOUR_MS,
    SYMBOLS,
    Rig,
    rig,
    unified,
    until,
)
from tests.wiring.test_recording import recorders

VENUE = "binanceusdm"


@dataclass
class Collecting:
    made: Rig
    recorder: BarRecorder
    collector: Collector
    root: Path

    async def run(self, rounds: int) -> None:
        """Let the market run, and do at each instant what is due."""
        for _ in range(rounds):
            await self.made.advance(1)
            await self.collector.settled(self.made.clock.now())

    def series(self, name: str, symbol: str = "BTCUSDT") -> Series:
        return read_series(series_path(self.root, VENUE, symbol, name))


@asynccontextmanager
async def collecting(root: Path, every_ms: int = HALF_HOUR_MS) -> AsyncIterator[Collecting]:
    async with rig() as made:
        recorder = BarRecorder(recorders(root), await made.feed.instruments(), HOUR_MS, root)
        readers = [(VENUE, GaugeReader(made.feed.client, GAUGES))]
        collector = Collector(
            readers, recorder.keys, recorder.observed, made.clock, every_ms, round_s=5.0
        )
        try:
            await made.listen()
            yield Collecting(made, recorder, collector, root)
        finally:
            await recorder.finish()


async def test_each_value_is_the_markets_own_and_known_from_after_it_came(tmp_path: Path) -> None:
    async with collecting(tmp_path) as line:
        await line.run(10)
        market = line.made.exchange.exchange.market
        now_ms = line.made.clock.now()
        for symbol in SYMBOLS:
            mark, index = line.series("mark", symbol), line.series("index", symbol)
            interest = line.series("open_interest", symbol)
            for one in (mark, index, interest):
                assert one.ts.tolist() == [now_ms - n * HALF_HOUR_MS for n in range(9, -1, -1)]
                assert (one.known_ms == one.ts + 1).all()
            for row, at_ms in enumerate(mark.ts.tolist()):
                bar = market.steps(symbol, at_ms - HALF_HOUR_MS, at_ms)
                lots = 10.0 ** (market.coins[symbol].quantity_decimals or 0)
                volume = np.rint(bar.volume.sum() * lots) / lots
                assert interest.values[row] == pytest.approx(INTEREST_TIMES * volume, rel=1e-12)
                told = line.made.exchange.exchange.mark(symbol, at_ms)
                assert told is not None
                assert mark.values[row] == pytest.approx(told[0], abs=1e-8)
                away = 1.0 + market.funding_estimate(symbol, at_ms)
                assert mark.values[row] / index.values[row] == pytest.approx(away, rel=1e-6)
        assert line.collector.shown(VENUE)["series_values_n"] == 10 * 3 * len(SYMBOLS)
        assert line.made.feed.usage.refused_n == 0
    assert all(one.problem is None for one in list_series(tmp_path))


async def test_no_feature_sees_a_value_before_it_was_known_and_a_later_lag_moves_it_so_far(
    tmp_path: Path,
) -> None:
    """Shift every series by a publication lag: each feature moves by it, and never comes early."""
    names = ("open_interest", "basis")
    async with collecting(tmp_path) as line:
        await line.run(60)
        stored = StoredSeries(tmp_path, ("open_interest", "mark", "index"), SYMBOLS, VENUE)
        known = stored.known()
        times = line.series("mark").known_ms
    grid = np.arange(int(times[0]) - HOUR_MS, int(times[-1]) + 9 * HOUR_MS, 5 * MINUTE_MS)
    grid = np.unique(np.concatenate([grid, times - 1, times]))
    table = CovariateTable(names, known, SYMBOLS)
    rows = table.rows(grid)
    assert np.isnan(rows[grid < times[0]]).all()
    basis = rows[:, :, 2]
    at = np.searchsorted(grid, times)
    assert np.isfinite(basis[at]).all()
    moved = basis[at[1:]] != basis[at[1:] - 1]
    assert moved.mean() > 0.9, "it steps at the instant from which it is known, not before"
    for n in range(0, len(times), 7):  # cut off what was known later: nothing before changes
        cut = {
            name: tuple(one and one.known_at(int(times[n])) for one in ones)
            for name, ones in known.items()
        }
        before = grid <= times[n]
        again = CovariateTable(names, cut, SYMBOLS).rows(grid[before])
        np.testing.assert_array_equal(again, rows[before])
    for lag_ms in (1, 5 * MINUTE_MS, 6 * HOUR_MS):
        late = {
            name: tuple(one and one.known_later(lag_ms) for one in ones)
            for name, ones in known.items()
        }
        shifted = CovariateTable(names, late, SYMBOLS).rows(grid + lag_ms)
        np.testing.assert_array_equal(shifted, rows)


@pytest.mark.parametrize(
    "kind",
    ["hang", "http_429", "http_418", "http_503", "http_403", "not_json_200", "cut_json_200"],
)
async def test_a_venue_that_does_not_answer_about_series_leaves_bars_as_they_are(
    tmp_path: Path, kind: str
) -> None:
    async with collecting(tmp_path) as line:
        line.collector._round_s = 0.3
        await line.run(2)
        values_n = line.collector.values_n[VENUE]
        for _ in range(4):
            await line.made.advance(1)
            await line.made.fault(kind, 3)
            async with asyncio.timeout(5):  # less than the client waits for an answer
                await line.collector.settled(line.made.clock.now())
            await line.made.fault("none", 1)
        assert line.collector.failures_n[VENUE] >= 1
        assert line.collector.rounds_n == 6
        told = line.made.bars
        assert [one.close_ms for one in told] == sorted({one.close_ms for one in told})
        for bar in told:
            np.testing.assert_array_equal(bar.values, line.made.truth(bar.close_ms))
        assert line.collector.values_n[VENUE] >= values_n
        assert all(one.problem is None for one in list_series(tmp_path))


async def test_an_hour_has_one_round_however_often_it_is_looked_at(tmp_path: Path) -> None:
    async with collecting(tmp_path, HOUR_MS) as line:
        before_n = line.made.feed.usage.requests_n
        for _ in range(5):
            await line.collector.settled(line.made.clock.now())
        assert line.made.feed.usage.requests_n - before_n == 1 + len(SYMBOLS)
        await line.run(8)
        assert line.collector.rounds_n == 5


def test_what_was_there_before_is_not_stored_again_and_a_change_is_a_version(
    tmp_path: Path,
) -> None:
    def one(ts: int, known: int, value: float) -> Observation:
        return Observation(VENUE, "BTC/USDT:USDT", "mark", ts, known, value)

    write_observations(tmp_path, [one(10, 12, 1.0), one(20, 22, 2.0)])
    write_observations(tmp_path, [one(10, 30, 1.0), one(20, 31, 2.5), one(20, 22, 9.0)])
    found = read_series(series_path(tmp_path, VENUE, "BTCUSDT", "mark"))
    rows = list(zip(found.ts.tolist(), found.known_ms.tolist(), found.values.tolist(), strict=True))
    assert rows == [(10, 12, 1.0), (20, 22, 2.0), (20, 31, 2.5)]
    path = series_path(tmp_path, VENUE, "BTCUSDT", "mark")
    path.write_bytes(path.read_bytes()[:100])
    assert write_observations(tmp_path, [one(40, 41, 4.0)]) is not None
    assert len(read_series(path)) == 1


async def test_a_download_fills_the_time_before_and_the_holes_around_what_was_collected(
    tmp_path: Path,
) -> None:
    async with collecting(tmp_path) as line:
        await line.run(4)
        await line.made.advance(10)
        await line.run(4)
        before = line.series("mark")

        class There:
            client, clock = line.made.feed.client, line.made.clock

        source, since_ms = Timeframe(30), line.made.start_ms - 24 * HOUR_MS
        path = series_path(tmp_path, VENUE, "BTCUSDT", "mark")
        asked: Any = (There, source, path, unified("BTCUSDT"), "mark", since_ms)
        told = await fetch_one(*asked)
        assert told.problem == ""
        assert told.new_n >= 48 + 8
        after = line.series("mark")
        kept = np.isin(after.ts, before.ts)
        np.testing.assert_array_equal(after.known_ms[kept], before.known_ms)
        assert after.ts.min() == since_ms
        assert np.diff(np.unique(after.ts)).max() <= HALF_HOUR_MS
        assert (await fetch_one(*asked)).new_n == 0


# ---- what is asked, and when ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "is_private", "wanted"),
    [
        ([], False, []),
        (["data.series=always"], False, list(GAUGES)),
        (["data.series=always", "data.record=false"], False, []),
        (["data.series=always", "data.series_every_min=0"], False, []),
        (["data.series=always", "estimator.series_folder=x"], True, []),
        (["data.series=always", "estimator.series_folder=x"], False, list(GAUGES)),
        (['training.covariates=["basis"]'], False, ["mark", "index"]),
        (['training.covariates=["basis"]', "data.series=never"], False, []),
        (['training.covariates=["funding", "series:vix"]'], False, []),
        (['training.covariates=["open_interest"]', "estimator.kind=momentum"], False, []),
    ],
)
def test_only_what_a_model_reads_is_collected_unless_settings_say_otherwise(
    tmp_path: Path, chosen: list[str], is_private: bool, wanted: list[str]
) -> None:
    overrides = [f"estimator.models_folder={tmp_path}", "strategy.name=neutral", *chosen]
    settings = load_settings([], overrides=overrides, environment={})
    assert gauges_wanted(settings, is_private=is_private) == wanted


def test_what_is_no_positive_number_is_no_value() -> None:
    for value in (None, "1", True, float("nan"), float("inf"), 0.0, -1.0):
        assert gauge_of("BTC", "mark", value, 5) is None
    found = gauge_of("BTC", "mark", 2, "yesterday")
    assert found is not None
    assert (found.value, found.ts_ms) == (2.0, None)


async def test_in_real_time_it_runs_by_itself_and_ends_with_the_run(tmp_path: Path) -> None:
    async with rig() as made:
        recorder = BarRecorder(
            recorders(tmp_path), await made.feed.instruments(), HOUR_MS, tmp_path
        )
        base = load_settings([], overrides=["data.series=always"], environment={})
        by_itself = collector_of(base, [made.feed], made.clock, recorder, is_private=False)
        async with by_itself as collector:
            assert collector is not None
            await until(lambda: collector.rounds_n == 1, "a round without anybody asking")
        await recorder.finish()
    assert {one.name for one in list_series(tmp_path)} == set(GAUGES)


async def test_a_reader_that_breaks_stops_neither_the_round_nor_the_run(tmp_path: Path) -> None:
    async with collecting(tmp_path) as line:
        line.made.feed.client.api.fetch_funding_rates = None  # no coroutine at all
        await line.run(2)
        assert (line.collector.rounds_n, line.collector.failures_n[VENUE]) == (2, 2)
        assert line.made.bars


class Breaks:
    """Let the client of a line fail in a way nobody foresaw while it is on."""

    def __init__(self, line: Rig) -> None:
        self.on, self.trouble = True, RuntimeError("session is closed")
        self._ask, line.feed.client.ask = line.feed.client.ask, self._asked  # type: ignore[method-assign]

    async def _asked(self, method: str, *args: object, **kwargs: object) -> Any:
        if self.on and method == "fetch_funding_rates":
            raise self.trouble
        return await self._ask(method, *args, **kwargs)


async def test_a_failure_that_nobody_foresaw_ends_no_round_and_no_market(tmp_path: Path) -> None:
    async with collecting(tmp_path) as line:
        breaks = Breaks(line.made)
        with structlog.testing.capture_logs() as logs:
            await line.run(3)
            breaks.on = False
            await line.run(2)
        assert line.collector.rounds_n == 5
        assert line.collector.failures_n == {VENUE: 3}
        failed = [e for e in logs if e.get("exc_info") is breaks.trouble]
        assert [e["venue"] for e in failed] == [VENUE], "told once, with its place"
        well = [e["venue"] for e in logs if e["event"] == "series_collected"]
        assert well == [VENUE]
        assert len(line.series("mark").ts) == 2


async def test_by_itself_it_goes_on_after_such_a_failure_and_ends_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.wiring.gauging.LOOK_S", 0.01)
    async with rig() as made:
        breaks = Breaks(made)
        recorder = BarRecorder(
            recorders(tmp_path), await made.feed.instruments(), HOUR_MS, tmp_path
        )
        base = load_settings([], overrides=["data.series=always"], environment={})
        by_itself = collector_of(base, [made.feed], made.clock, recorder, is_private=False)
        async with by_itself as collector:
            assert collector is not None
            await until(lambda: collector.failures_n[VENUE] == 1, "it did not fail")
            breaks.on = False
            await made.clock.sleep_until(made.clock.now() + HOUR_MS)
            collector._done_ms = -1  # the next instant has come
            await until(lambda: collector.rounds_n == 2, "no round after the failure")
            assert collector.values_n[VENUE] > 0
        await recorder.finish()
