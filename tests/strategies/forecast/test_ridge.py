"""The ridge: the textbook's solution, finds what is there, is live what it was in training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from daemon.domain.bar import Window
from daemon.domain.failures import InvariantViolated, ModelError
from daemon.domain.units import Timeframe
from strategies.forecast import checkpoint
from strategies.forecast.inference import ModelEstimator, RidgeModel, build
from strategies.forecast.inputs.dataset import build_tables
from strategies.forecast.inputs.features import FEATURE_NAMES, FEATURES_N
from strategies.forecast.inputs.windows import WINDOW_BARS
from strategies.forecast.ridge import (
    COEFFICIENTS,
    COLUMN_NAMES,
    COLUMNS_N,
    design,
    fit,
    penalty_of,
)
from strategies.forecast.training.job import Job
from strategies.forecast.training.ridge_training import train_ridge
from tests.strategies.forecast.conftest import SETTINGS
from tests.strategies.forecast.markets import job, reverting, walk

Fitted = tuple[Job, Path]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """Train on a market that reverts strongly."""
    small = job(reverting(75, 10, 0.06), tmp_path_factory.mktemp("models"), SETTINGS)
    return small, train_ridge(small)


def test_the_fit_is_that_of_the_textbook_on_standardised_centred_rows() -> None:
    draw = np.random.default_rng(3)
    x, y = draw.standard_normal((50, 6, 4)) * [1.0, 5.0, 0.1, 2.0], draw.standard_normal((50, 6))
    y[draw.random(y.shape) < 0.2] = np.nan
    y[7] = np.nan
    rows, outcomes = [], []
    for at, label in zip(x, y, strict=True):
        known = np.isfinite(label)
        if known.any():
            rows.append(at[known] - at[known].mean(axis=0))
            outcomes.append(label[known] - label[known].mean())
    z, target = np.concatenate(rows), np.concatenate(outcomes)
    size = np.sqrt((z * z).mean(axis=0))
    oracle = Ridge(alpha=17.0, fit_intercept=False).fit(z / size, target)
    np.testing.assert_allclose(fit(x, y, 17.0), oracle.coef_ / size, rtol=1e-9)


def test_a_column_that_is_the_same_for_everybody_counts_nothing() -> None:
    draw = np.random.default_rng(4)
    x, y = draw.standard_normal((40, 5, 3)), draw.standard_normal((40, 5))
    x[:, :, 1] = x[:, :1, 1]  # time of day, state of the market
    found = fit(x, y, 1.0)
    assert found[1] == 0.0
    assert (found[[0, 2]] != 0).all()
    with pytest.raises(ModelError, match="no label"):
        fit(x, np.full_like(y, np.nan), 1.0)


def test_products_are_of_the_ranks_of_the_newest_bars() -> None:
    rows = np.random.default_rng(5).uniform(-1, 1, (9, 4, FEATURES_N))
    rows[6, 1] = np.nan
    found = design(rows, 2)
    assert found.shape == (2, 4, COLUMNS_N)
    np.testing.assert_array_equal(found[:, :, :FEATURES_N], rows[-2:])
    short, long = (FEATURE_NAMES.index(f"rank_residual_{k}") for k in (1, 24))
    for lag in range(6):
        place = COLUMN_NAMES.index(f"rank_residual_1 * rank_residual_24 [-{lag}]")
        product = rows[8 - lag, :, short] * rows[8 - lag, :, long]
        np.testing.assert_array_equal(found[1, :, place], np.nan_to_num(product))
    assert (
        design(rows, 9)[6, 1] == 0
    ).sum() == FEATURES_N + 3  # unknown now, not in the bars before
    np.testing.assert_array_equal(design(rows, 9)[-2:], found)
    with pytest.raises(InvariantViolated, match="newest 10"):
        design(rows, 10)


def test_the_penalty_is_what_the_prior_implies() -> None:
    # 45 coefficients that are worth an IC of 0.03 together, six labels that overlap
    assert COLUMNS_N == 45
    assert penalty_of(6) == pytest.approx(6 * 45 / 0.0009)


def test_a_pattern_that_is_there_is_found_and_the_manifest_says_on_what(fitted: Fitted) -> None:
    small, folder = fitted
    manifest = checkpoint.load(folder).manifest
    hourly = manifest.scores[0].model
    assert hourly.rank_ic > 0.05
    assert hourly.rank_ic_t > 2.5
    assert manifest.kind == "ridge"
    assert manifest.origin == small.origin
    assert manifest.symbols == small.symbols
    assert all(c.slope > 0.0225 for c in manifest.calibration), "more than without outcomes"
    assert train_ridge(replace(small, out=folder.parent / "again")).name == folder.name


def test_a_market_without_a_pattern_shows_no_skill(tmp_path: Path) -> None:
    manifest = checkpoint.load(
        train_ridge(job(walk(75 * 48, 10, seed=3), tmp_path, SETTINGS))
    ).manifest
    assert all(abs(s.model.rank_ic_t) < 3.5 for s in manifest.scores)


def test_live_forecasts_are_those_of_the_training_tables(fitted: Fitted) -> None:
    small, folder = fitted
    live = build({"kind": "network", "model": str(folder), "timeframes_minutes": [60, 90, 120]})
    assert live.model_id == folder.name
    loaded = checkpoint.load(folder)
    for place, table in enumerate(build_tables(small)):
        close_ms, values = small.bars[table.timeframe]
        weights = loaded.weights[COEFFICIENTS][place]
        for t in (400, 401, 655):
            part = values[t + 1 - WINDOW_BARS : t + 1]
            window = Window(table.timeframe, int(close_ms[t]), part)
            found = live.estimate(int(close_ms[t]), [window]).predictions[0]
            raw = (design(table.rows[: t + 1], 1)[0] @ weights)[None]
            mean, variance = loaded.manifest.calibration[place].apply(raw, np.ones(raw.shape[1]))
            np.testing.assert_allclose(found.mean, mean, rtol=1e-12)
            np.testing.assert_allclose(found.variance, variance, rtol=1e-12)


def test_instruments_without_bars_and_strange_windows_get_no_forecast(fitted: Fitted) -> None:
    live = build({"kind": "network", "model": str(fitted[1])})
    bars = walk(WINDOW_BARS, 5)
    bars[-1, 2] = np.nan
    hourly = Timeframe(60)
    found = live.estimate(0, [Window(hourly, hourly.ms * 500, bars)]).predictions[0]
    assert np.isnan(found.mean).tolist() == [False, False, True, False, False]
    assert (found.variance[[0, 1, 3, 4]] > 0).all()
    with pytest.raises(InvariantViolated, match="knows no 4h bars"):
        live.estimate(0, [Window(Timeframe(240), 0, bars)])


def test_coefficients_of_another_shape_are_refused(fitted: Fitted) -> None:
    loaded = checkpoint.load(fitted[1])
    short = replace(loaded, weights={COEFFICIENTS: np.zeros((3, 7))})
    with pytest.raises(ModelError, match=r"shape \(3, 7\), not \(3, 45\)"):
        ModelEstimator(short)
    with pytest.raises(ModelError, match="shape None"):
        RidgeModel(replace(loaded, weights={}))
