"""One fold fitted by any kind: forecasts of the size and place of the stored model's, no labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from daemon.domain.failures import ConfigurationError
from strategies.forecast import checkpoint
from strategies.forecast.inference import RidgeModel
from strategies.forecast.inputs.dataset import build_tables, cut_folds
from strategies.forecast.inputs.windows import SEQUENCE_BARS
from strategies.forecast.training.fitting import TRAINERS, settings_for, trainer_of
from strategies.forecast.training.job import Job, TrainSettings
from strategies.forecast.training.network_training import FittedNetwork
from strategies.forecast.training.ridge_training import train_ridge
from strategies.forecast.training.splits import Span
from tests.strategies.forecast.markets import job, reverting

SETTINGS = TrainSettings(steps=4, hidden=4, embedding=4, batch_rows=60, trees=10, leaf_share=0.05)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Job:
    source = reverting(60, 5, 0.06)
    source[-40:, 3] = np.nan  # one instrument ends before the others
    return job(source, tmp_path_factory.mktemp("models"), SETTINGS)


@pytest.mark.parametrize("kind", sorted(TRAINERS))
def test_forecasts_are_made_where_a_label_is_missing_and_nowhere_else_than_allowed(
    small: Job, kind: str
) -> None:
    tables = build_tables(small)
    (fold,) = cut_folds(small, tables)
    told: list[float] = []
    trainer = trainer_of(TRAINERS[kind])
    asked = replace(small, settings=settings_for(kind, small.settings))
    fitted = trainer.fit_fold(asked, tables, fold, seed=3, told=told.append)
    assert told[-1] == 1.0
    stored_n = sum(array.size for array in fitted.weights().values())
    assert 0 < fitted.parameters_n <= stored_n, "numbers that were learned"
    for table in tables:
        span = Span(fold.test.start_ms, int(table.close_ms[-1]) + 1)
        rows = table.decided(span)
        assert rows[-1] == len(table.close_ms) - 1
        mean, noise = fitted.forecast(table, rows)
        assert (np.isfinite(mean) == table.allowed[rows]).all()
        assert (np.isfinite(noise) == table.allowed[rows]).all()
        assert (noise[table.allowed[rows]] > 0).all()
        assert np.isfinite(mean[-1]).tolist() == [True, True, True, False, True]
        assert np.isnan(table.y[rows[-1]]).all(), "its label lies beyond the bars"
        before_end = np.isnan(table.y[rows, 3]) & table.allowed[rows, 3]
        assert before_end.any(), "the last forecasts of what ends are there as well"


def test_a_fitted_ridge_says_what_the_stored_one_says(small: Job) -> None:
    tables = build_tables(small)
    (fold,) = cut_folds(small, tables)
    fitted = trainer_of(TRAINERS["ridge"]).fit_fold(
        small, tables, fold, seed=1, told=lambda share: None
    )
    stored = RidgeModel(checkpoint.load(train_ridge(small)))
    for table in tables:
        rows = table.decided(fold.test)[:5]
        mean, _ = fitted.forecast(table, rows)
        for at, row in enumerate(rows.tolist()):
            live, _ = stored.forward(table.rows[row - SEQUENCE_BARS + 1 : row + 1], table.place)
            known = table.allowed[row]
            assert mean[at, known] == pytest.approx(live[0, known], rel=1e-9)


def test_a_fitted_network_says_what_training_looks_at(small: Job) -> None:
    tables = build_tables(small)
    (fold,) = cut_folds(small, tables)
    trainer = trainer_of(TRAINERS["bilstm"])
    one, same, other = (
        trainer.fit_fold(small, tables, fold, seed=seed, told=lambda share: None)
        for seed in (3, 3, 4)
    )
    rows = tables[0].decided(fold.test)[:300]
    mean, noise = one.forecast(tables[0], rows)
    assert isinstance(one, FittedNetwork)
    looked = one._batches.predict(one._network, tables[0], rows)
    known = np.isfinite(looked)
    assert known.any()
    assert np.array_equal(mean[known], looked[known])
    assert np.array_equal(same.forecast(tables[0], rows)[0], mean, equal_nan=True)
    assert not np.array_equal(other.forecast(tables[0], rows)[0], mean, equal_nan=True)
    assert np.isfinite(noise[known]).all()


def test_a_kind_that_fits_no_folds_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="cannot be walked forward"):
        trainer_of("strategies.forecast.training.process")
