"""No feature sees a series early: through the dataset builder and through both kinds of model.

Every kind of series is shifted by a publication lag and cut at an instant. A lag moves every
feature by exactly that much; what became known later changes nothing before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from daemon.domain.bar import Floats, Window
from daemon.domain.bar_builder import aggregate_all
from daemon.domain.covariates import Series, hourly_funding, series_of
from daemon.domain.failures import ConfigurationError, ModelError
from daemon.domain.units import DAY_MS, HOUR_MS, Timeframe, iso
from strategies.forecast import checkpoint
from strategies.forecast.inference import ModelEstimator
from strategies.forecast.inputs.covariates import CovariateTable, Known, checked, column_names
from strategies.forecast.inputs.dataset import build_tables
from strategies.forecast.inputs.features import FEATURES_N
from strategies.forecast.ridge import columns_n
from strategies.forecast.training.job import (
    Job,
    Origin,
    OriginKind,
    TrainSettings,
    fingerprint,
    read_job,
    write_job,
)
from strategies.forecast.training.network_training import train_model
from strategies.forecast.training.ridge_training import train_ridge
from tests.strategies.forecast import markets

N, DAYS = 5, 60
SYMBOLS = tuple(f"C{n}" for n in range(N))
NAMES = ("funding", "open_interest", "basis", "series:vix", "series:glass/flows")
H1 = Timeframe(60)
LAG_MS = 7 * HOUR_MS
CUT_MS = markets.START_MS + 45 * DAY_MS


def observations(seed: int, step_ms: int, lag_ms: int, level: float = 100.0) -> Series:
    """Draw a walk with jitter in its lags, and now and then a second version."""
    draw = np.random.default_rng(seed)
    ts = markets.START_MS - 5 * DAY_MS + step_ms * np.arange((DAYS + 8) * DAY_MS // step_ms)
    values = level * np.exp(np.cumsum(draw.normal(0.0, 0.01, len(ts))))
    known = ts + lag_ms + draw.integers(0, step_ms, len(ts))
    again = draw.random(len(ts)) < 0.1
    return series_of(
        np.concatenate([ts, ts[again]]).astype(np.int64),
        np.concatenate([known, known[again] + 2 * step_ms]).astype(np.int64),
        np.concatenate([values, values[again] * 1.05]),
        3 * DAY_MS,
    )


def near(mark: Series, seed: int) -> Series:
    """Give an index a few bps away from a mark."""
    away = np.random.default_rng(seed).normal(0.0, 5e-4, len(mark))
    return replace(mark, values=mark.values * (1.0 + away))


def funding_of(seed: int) -> Series:
    draw = np.random.default_rng(seed)
    hours = np.concatenate([np.arange(0, 700, (8, 4, 8, 8, 4)[seed % 5]), np.arange(704, 1600)])
    settle_ms = (markets.START_MS + hours * HOUR_MS).astype(np.int64)
    return hourly_funding(settle_ms, draw.normal(1e-5, 1e-4, len(settle_ms)))


@pytest.fixture(scope="module")
def known() -> Known:
    marks = tuple(observations(20 + n, HOUR_MS, HOUR_MS) for n in range(N))
    flows = tuple(observations(40 + n, 6 * HOUR_MS, 900_000) for n in range(N - 1))
    vix = observations(90, DAY_MS // 4, DAY_MS)
    return {
        "funding": tuple(funding_of(n) for n in range(N)),
        "open_interest": tuple(observations(10 + n, HOUR_MS, 5_000) for n in range(N)),
        "mark": marks,
        "index": tuple(near(one, n) for n, one in enumerate(marks)),
        "series:vix": (vix,) * N,
        "series:glass/flows": (*flows, None),
    }


def changed(known: Known, how: str) -> Known:
    """Shift or cut every series; one object of the whole market stays one object."""
    made: dict[int, Series] = {}
    for ones in known.values():
        for one in ones:
            if one is not None:
                made[id(one)] = one.known_later(LAG_MS) if how == "later" else one.known_at(CUT_MS)
    return {
        name: tuple(None if one is None else made[id(one)] for one in ones)
        for name, ones in known.items()
    }


@pytest.fixture(scope="module")
def job(known: Known, tmp_path_factory: pytest.TempPathFactory) -> Job:
    T = DAYS * 48
    values = markets.walk(T, N, seed=3, gaps=0.01)
    open_ms = markets.START_MS + markets.SOURCE.ms * np.arange(T, dtype=np.int64)
    (hourly,) = aggregate_all(open_ms, values, markets.SOURCE, (H1,))
    return Job(
        bars={markets.SOURCE: (open_ms + markets.SOURCE.ms, values), H1: hourly},
        symbols=SYMBOLS,
        source=markets.SOURCE,
        timeframes=(H1,),
        origin=Origin(OriginKind.GENERATED, "3"),
        out=tmp_path_factory.mktemp("models"),
        # nothing is there to learn; forecasts are small and never zero
        settings=TrainSettings(seed=8, members=1, steps=20, hidden=8, embedding=8),
        covariates=NAMES,
        series=known,
    )


def beside(job: Job) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], Floats]:
    (table,) = build_tables(job)
    return table.close_ms, table.rows[:, :, FEATURES_N:]


def test_a_publication_lag_moves_every_feature_by_that_lag_and_by_nothing_else(job: Job) -> None:
    close_ms, rows = beside(job)
    later_ms, later = beside(replace(job, series=changed(job.series, "later")))
    bars = LAG_MS // H1.ms
    assert (later_ms[bars:] == close_ms[:-bars] + LAG_MS).all()
    np.testing.assert_array_equal(later[bars:], rows[:-bars])
    known = np.isfinite(rows)
    assert known[:, :4].mean(axis=(0, 1)).min() > 0.5, "every column says something"
    moved = np.nan_to_num(later) != np.nan_to_num(rows)
    assert moved.any(axis=(0, 1)).all(), "every column notices a lag"
    assert not known[:, 4, column_names(NAMES).index("series:glass/flows")].any()


def test_what_becomes_known_later_changes_no_row_of_the_tables_before(job: Job) -> None:
    close_ms, rows = beside(job)
    _, cut = beside(replace(job, series=changed(job.series, "cut")))
    before = close_ms <= CUT_MS
    np.testing.assert_array_equal(cut[before], rows[before])
    assert (np.nan_to_num(cut[~before]) != np.nan_to_num(rows[~before])).any(axis=(0, 1)).all()


@dataclass(frozen=True, slots=True)
class Beside:
    known: Known
    names: tuple[str, ...] = NAMES

    def table(self) -> CovariateTable:
        return CovariateTable(self.names, self.known, SYMBOLS)


@pytest.fixture(scope="module", params=["ridge", "bilstm"])
def model(request: pytest.FixtureRequest, job: Job) -> checkpoint.Checkpoint:
    folder = {"ridge": train_ridge, "bilstm": train_model}[request.param](job)
    return checkpoint.load(folder)


def means(model: checkpoint.Checkpoint, job: Job, known: Known, closes: list[int]) -> Floats:
    estimator = ModelEstimator(model, Beside(known))
    close_ms, values = job.bars[H1]
    out = []
    for at_ms in closes:
        row = int(np.searchsorted(close_ms, at_ms)) + 1
        window = Window(H1, at_ms, values[row - 200 : row])
        out.append(estimator.estimate(at_ms, [window]).predictions[0].mean)
    return np.array(out)


def test_a_model_forecasts_from_what_was_known_and_from_nothing_later(
    job: Job, model: checkpoint.Checkpoint
) -> None:
    closes = [CUT_MS - 2 * H1.ms, CUT_MS - H1.ms, CUT_MS]
    whole = means(model, job, job.series, closes)
    assert np.isfinite(whole).all(axis=1).any()
    np.testing.assert_array_equal(means(model, job, changed(job.series, "cut"), closes), whole)
    shifted = means(model, job, changed(job.series, "later"), closes)
    assert (np.nan_to_num(shifted) != np.nan_to_num(whole)).any(axis=1).all()
    after = [CUT_MS + DAY_MS]
    cut = means(model, job, changed(job.series, "cut"), after)
    assert (np.nan_to_num(cut) != np.nan_to_num(means(model, job, job.series, after))).any()


def test_each_kind_of_series_alone_reaches_a_forecast_when_it_is_known_and_not_before(
    job: Job, model: checkpoint.Checkpoint
) -> None:
    closes = [CUT_MS, CUT_MS + DAY_MS]
    whole = means(model, job, job.series, closes)
    cut_all = changed(job.series, "cut")
    for name in job.series:
        found = means(model, job, {**job.series, name: cut_all[name]}, closes)
        np.testing.assert_array_equal(found[0], whole[0])
        assert (np.nan_to_num(found[1]) != np.nan_to_num(whole[1])).any(), name


def test_rows_of_inference_are_those_of_the_training_to_the_bit(job: Job) -> None:
    (table,) = build_tables(job)
    at = int(np.searchsorted(table.close_ms, CUT_MS))
    now = Beside(job.series).table().rows(table.close_ms[at - 11 : at + 1])
    np.testing.assert_array_equal(now, table.rows[at - 11 : at + 1, :, FEATURES_N:])


def test_a_model_with_covariates_says_so_and_refuses_to_forecast_from_bars_alone(
    job: Job, model: checkpoint.Checkpoint
) -> None:
    assert model.manifest.covariates == NAMES
    with pytest.raises(ModelError, match="cannot forecast from bars alone"):
        ModelEstimator(model)
    if model.manifest.kind == checkpoint.RIDGE:
        # 27 features, 18 products; 2 columns of each covariate, 3 products of each outside series
        assert model.manifest.shape.channels == columns_n(NAMES) == 45 + 10 + 6


def test_a_job_with_series_is_read_as_it_was_written(job: Job, tmp_path: Path) -> None:
    back = read_job(write_job(job, tmp_path))
    assert fingerprint(back) == fingerprint(job) != fingerprint(replace(job, covariates=()))
    vix = back.series["series:vix"]
    assert all(one is vix[0] for one in vix), "what is shared stays shared"
    assert back.series["series:glass/flows"][4] is None
    with pytest.raises(ModelError, match="no series mark"):
        replace(job, covariates=("basis",), series={})


@pytest.mark.parametrize("names", [("fundings",), ("series:",), ("funding", "funding")])
def test_unknown_and_repeated_covariates_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match="covariate"):
        checked(names)


# ---- who falls silent ----------------------------------------------------------------------------


def test_what_is_silent_is_said_and_from_when() -> None:
    ts = markets.START_MS + DAY_MS * np.arange(20, dtype=np.int64)
    daily = Series(ts, ts + DAY_MS, np.ones(20), 5 * DAY_MS)
    table = CovariateTable(["series:vix"], {"series:vix": (daily, daily, None)}, SYMBOLS[:3])
    last_ms = int(daily.known_ms[-1])
    hidden = "unknown for 1 of 3, read as the middle of the feature"
    assert table.silent(last_ms) == table.silent(last_ms + 2 * DAY_MS - 1) == {"series:vix": hidden}
    late = table.silent(last_ms + 2 * DAY_MS)["series:vix"]
    assert late.startswith(hidden)
    assert "overdue for 2 of 3, read as the last value known" in late
    assert late.endswith(f"; nothing new since {iso(last_ms)}")
    assert table.silent(last_ms + 5 * DAY_MS - 1)["series:vix"] == late, "the words hold on"
    assert table.silent(last_ms + 5 * DAY_MS)["series:vix"].startswith("unknown for 3 of 3")
    spoken = CovariateTable(["series:vix"], {"series:vix": (daily, daily)}, SYMBOLS[:2])
    assert spoken.silent(last_ms) == {}


def test_the_last_known_value_counts_until_it_is_stale_and_then_the_middle_does(
    job: Job, model: checkpoint.Checkpoint
) -> None:
    """A series that ends is the same to training and forecasts as none at all, but not before."""
    (whole,) = build_tables(job)
    for name, place in (("open_interest", 2), ("series:vix", 6)):
        cut = changed(job.series, "cut")[name]
        last_ms = max(int(one.known_ms[-1]) for one in cut if one is not None)
        ended = {**job.series, name: cut}
        stale_ms = last_ms + 3 * DAY_MS
        (table,) = build_tables(replace(job, series=ended))
        column = table.rows[:, :, FEATURES_N + place]
        held = (table.close_ms > last_ms + DAY_MS) & (table.close_ms < stale_ms - DAY_MS)
        after = table.close_ms >= stale_ms
        assert np.isfinite(column[held]).any(axis=0).all()
        assert np.isnan(column[after]).all()
        assert (table.inputs[after][:, :, FEATURES_N + place] == 0.0).all()
        assert (whole.inputs[after][:, :, FEATURES_N + place] != 0.0).any()
        at = stale_ms + DAY_MS  # past the sequence of a network
        at += -at % H1.ms
        never = {**job.series, name: (None,) * N}
        ends, none = means(model, job, ended, [at]), means(model, job, never, [at])
        np.testing.assert_array_equal(ends, none)
        assert (np.nan_to_num(none) != np.nan_to_num(means(model, job, job.series, [at]))).any()
        at = last_ms + DAY_MS // 2  # after a whole day an open interest has not changed
        at += -at % H1.ms
        ends, none = means(model, job, ended, [at]), means(model, job, never, [at])
        assert (np.nan_to_num(ends) != np.nan_to_num(none)).any(), name


def test_estimates_say_which_series_are_silent(job: Job, model: checkpoint.Checkpoint) -> None:
    close_ms, values = job.bars[H1]
    at = int(np.searchsorted(close_ms, CUT_MS + 2 * DAY_MS)) + 1
    window = Window(H1, int(close_ms[at - 1]), values[at - 200 : at])
    for known, wanted in ((job.series, set()), (changed(job.series, "cut"), set(job.series))):
        estimates = ModelEstimator(model, Beside(known)).estimate(window.newest_ms, [window])
        assert estimates.silent.keys() - {"series:glass/flows"} == wanted - {"series:glass/flows"}
        assert "unknown for 1 of 5" in estimates.silent["series:glass/flows"], "it has no series"
    ended = values[at - 200 : at].copy()
    ended[-1, 4] = np.nan  # its last bar is over, so nobody waits for its series
    estimator = ModelEstimator(model, Beside(job.series))
    assert estimator.estimate(window.newest_ms, [Window(H1, window.newest_ms, ended)]).silent == {}


def test_a_table_that_takes_over_gives_what_a_new_one_gives(job: Job) -> None:
    close_ms = job.bars[H1][0][-100:]
    first = CovariateTable(NAMES, job.series, SYMBOLS)
    first.rows(close_ms)
    first.silent(int(close_ms[-1]))
    other = {**job.series, "funding": changed(job.series, "cut")["funding"]}
    again = CovariateTable(NAMES, other, SYMBOLS, before=first)
    alive = {id(one) for ones in other.values() for one in ones}
    assert {key[1] for key in again._made} <= alive, "the id of what is gone may come again"
    assert again._made
    fresh = CovariateTable(NAMES, other, SYMBOLS)
    np.testing.assert_array_equal(again.rows(close_ms), fresh.rows(close_ms))
    assert again.silent(int(close_ms[-1])) == fresh.silent(int(close_ms[-1]))


# ---- the clock of funding ------------------------------------------------------------------------


def settled_every(hours: list[int]) -> Series:
    settle_ms = (markets.START_MS + np.cumsum(hours) * HOUR_MS).astype(np.int64)
    return hourly_funding(settle_ms, np.full(len(hours), 1e-4))


def clock(at_ms: list[int], *ones: Series | None) -> Floats:
    table = CovariateTable(["funding_clock"], {"funding": ones}, SYMBOLS[: len(ones)])
    return table.rows(np.array(at_ms, dtype=np.int64))


def test_the_clock_of_funding_tells_the_place_in_the_contracts_own_interval() -> None:
    ones = (settled_every([8] * 9), settled_every([4] * 18), settled_every([1] * 72), None)
    hours = [60.0, 61.0, 62.5, 63.0, 64.0]
    found = clock([markets.START_MS + round(hour * HOUR_MS) for hour in hours], *ones)
    for n, length in enumerate((8, 4, 1, 8)):
        angle = 2 * np.pi * (np.array(hours) % length) / length
        np.testing.assert_allclose(found[:, n, 0], np.sin(angle), atol=1e-12)
        np.testing.assert_allclose(found[:, n, 1], np.cos(angle), atol=1e-12)
    assert column_names(["funding_clock"]) == ("funding_clock:sin", "funding_clock:cos")


def test_a_change_of_interval_counts_from_the_settlement_that_tells_it_and_not_before() -> None:
    one = settled_every([8] * 6 + [4] * 6)  # the first of 4 h is at 52 h
    at = [markets.START_MS + round(hour * HOUR_MS) for hour in (50, 51.9, 52, 53)]
    found = clock(at, one)[:, 0, 0]
    wanted = [np.sin(2 * np.pi * (hour % 8) / 8) for hour in (50, 51.9)]
    wanted += [np.sin(2 * np.pi * (hour % 4) / 4) for hour in (52, 53)]
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    for until_ms in at:
        cut = clock([t for t in at if t <= until_ms], one.known_at(until_ms))
        np.testing.assert_array_equal(cut[:, 0, 0], found[: len(cut)])
    stale_ms = int(one.known_ms[-1]) + one.stale_ms + HOUR_MS
    np.testing.assert_array_equal(clock([stale_ms], one), clock([stale_ms], None))


def test_the_clock_of_funding_and_funding_itself_share_their_series_and_say_what_is_unknown() -> (
    None
):
    one = settled_every([4] * 20)
    both = CovariateTable(["funding_clock", "funding"], {"funding": (one, None)}, SYMBOLS[:2])
    at_ms = one.known_ms[-3:]
    alone = CovariateTable(["funding"], {"funding": (one, None)}, SYMBOLS[:2])
    np.testing.assert_array_equal(both.rows(at_ms)[:, :, 2:], alone.rows(at_ms))
    np.testing.assert_array_equal(both.rows(at_ms)[:, :, :2], clock(at_ms.tolist(), one, None))
    clocks = CovariateTable(["funding_clock"], {"funding": (one, None)}, SYMBOLS[:2])
    said = clocks.silent(int(at_ms[-1]))["funding"]
    assert said == "unknown for 1 of 2, read as settled every 8 h"
    assert "the middle" in both.silent(int(at_ms[-1]))["funding"]


def test_models_train_with_the_clock_of_funding(job: Job) -> None:
    mine = replace(job, covariates=("funding_clock",))
    for train_one in (train_ridge, train_model):
        stored = checkpoint.load(train_one(mine))
        estimator = ModelEstimator(stored, Beside(job.series, ("funding_clock",)))
        close_ms, values = job.bars[H1]
        window = Window(H1, int(close_ms[-1]), values[-200:])
        (said,) = estimator.estimate(window.newest_ms, [window]).predictions
        assert np.isfinite(said.mean).any()
