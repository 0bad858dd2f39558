"""Columns and components are chosen from a training part alone: signals stay, noise goes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import Lasso

from daemon.domain.bar import Floats
from strategies.forecast import checkpoint
from strategies.forecast.inputs.dataset import Table, build_tables, cut_folds
from strategies.forecast.ridge import COLUMN_NAMES, COLUMNS_N
from strategies.forecast.training.fitting import TRAINERS, trainer_of
from strategies.forecast.training.job import Job, Selection, TrainSettings
from strategies.forecast.training.ridge_training import train_ridge
from strategies.forecast.training.selection import choose, descend, reduction
from tests.strategies.forecast.markets import job, reverting

CHOOSING = [Selection.CORRELATION, Selection.ELIMINATION, Selection.LASSO]
T, N, P = 600, 12, 10
SIGNALS = (2, 5)


def planted(seed: int = 0, strength: float = 0.15) -> tuple[Floats, Floats]:
    """Draw columns (T, N, P) of which two count.

    Column 7 is column 2 with a little noise, column 8 the same for all instruments.
    """
    draw = np.random.default_rng(seed)
    x = draw.standard_normal((T, N, P)) * np.linspace(0.5, 3.0, P)
    x[:, :, 7] = x[:, :, 2] + 0.01 * draw.standard_normal((T, N))
    x[:, :, 8] = x[:, :1, 8]
    signal = x[:, :, SIGNALS[0]] / x[:, :, SIGNALS[0]].std() - x[:, :, SIGNALS[1]] / x[..., 5].std()
    y = strength * signal + draw.standard_normal((T, N))
    y[draw.random((T, N)) < 0.1] = np.nan
    return x, y


def chosen(x: Floats, y: Floats, selection: Selection) -> list[int]:
    return [int(column) for column in choose(x, y, selection, horizon_bars=4, gap=5)]


@pytest.mark.parametrize("selection", CHOOSING)
def test_a_planted_signal_is_kept_and_planted_noise_is_dropped(selection: Selection) -> None:
    kept = chosen(*planted(), selection)
    assert 5 in kept
    assert {2, 7} & set(kept)
    noise = {0, 1, 3, 4, 6, 9}
    assert len(noise & set(kept)) <= (1 if selection is Selection.CORRELATION else 0)
    assert 8 not in kept, "what is the same for all tells none from another"
    assert kept == sorted(kept)


def test_of_columns_that_are_alike_the_stronger_stays() -> None:
    x, y = planted()
    kept = chosen(x, y, Selection.CORRELATION)
    assert len({2, 7} & set(kept)) == 1


@pytest.mark.parametrize("selection", CHOOSING)
def test_something_is_kept_where_nothing_can_be_found(selection: Selection) -> None:
    draw = np.random.default_rng(5)
    x, y = draw.standard_normal((200, 6, 5)), draw.standard_normal((200, 6))
    assert 1 <= len(chosen(x, y, selection)) <= 3
    flat = np.repeat(x[:, :1], 6, axis=1)
    assert len(chosen(flat, y, selection)) == 1
    assert chosen(x, y, Selection.NONE) == list(range(5))


def test_coordinate_descent_ends_where_the_library_does() -> None:
    draw = np.random.default_rng(6)
    z = draw.standard_normal((300, 8))
    z[:, 3] += z[:, 1]
    y = z @ np.array([1.0, -0.5, 0, 0, 0.2, 0, 0, 0]) + draw.standard_normal(300)
    for penalty in (3.0, 30.0, 120.0):
        ours = descend(z.T @ z, z.T @ y, penalty, np.zeros(8))
        theirs = Lasso(alpha=penalty / 300, fit_intercept=False, tol=1e-12, max_iter=100_000)
        np.testing.assert_allclose(ours, theirs.fit(z, y).coef_, atol=1e-7)


def test_components_are_those_of_the_library_on_standardised_columns() -> None:
    x, y = planted()
    found = reduction(x, y, Selection.NONE, 4, horizon_bars=4, gap=5)
    rows = x[np.isfinite(y)]
    standard = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    theirs = PCA(4, svd_solver="full").fit_transform(standard)
    ours = found.apply(rows)
    assert ours.shape == (len(rows), 4)
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-9)
    weights = np.array([1.0, 0.5, -1.0, 2.0])
    difference = found.apply(rows) @ weights - rows @ found.expanded(weights, P)
    np.testing.assert_allclose(difference, difference[0], atol=1e-9)


def test_components_are_of_what_was_chosen_and_no_more_than_that() -> None:
    x, y = planted()
    found = reduction(x, y, Selection.LASSO, 50, horizon_bars=4, gap=5)
    assert found.projection is not None
    assert found.projection.shape == (P, len(found.columns))
    read = np.flatnonzero(np.abs(found.projection).sum(axis=1))
    assert read.tolist() == found.columns.tolist()


# ---- inside a fold -------------------------------------------------------------------------------

SETTINGS = TrainSettings(trees=10, leaf_share=0.05, members=1)


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Job:
    return job(reverting(60, 8, 0.06), tmp_path_factory.mktemp("models"), SETTINGS)


def changed_after(table: Table, at_ms: int) -> Table:
    """Change every feature and label of decisions from an instant on."""
    later = table.close_ms >= at_ms
    draw = np.random.default_rng(9)
    rows, y = table.rows.copy(), table.y.copy()
    rows[later] = draw.standard_normal(rows[later].shape)
    y[later] = np.where(np.isfinite(y[later]), rows[later][..., 20], np.nan)
    return replace(table, rows=rows, y=y)


@pytest.mark.parametrize(
    ("kind", "selection"),
    [
        *(("ridge", one) for one in CHOOSING),
        ("lightgbm", Selection.LASSO),
        ("forest", Selection.CORRELATION),
    ],
)
def test_what_comes_after_the_learned_part_changes_nothing_that_is_chosen(
    market: Job, kind: str, selection: Selection
) -> None:
    asked = replace(market, settings=replace(SETTINGS, selection=selection, components=3))
    tables = build_tables(asked)
    (fold,) = cut_folds(asked, tables)
    end_ms = fold.learned.end_ms
    fit = trainer_of(TRAINERS[kind]).fit_fold
    ours, theirs = (
        fit(asked, some, fold, seed=1, told=lambda share: None)
        for some in (tables, [changed_after(table, end_ms) for table in tables])
    )
    assert ours.chosen == theirs.chosen
    assert [len(names) for names in ours.chosen] != [COLUMNS_N] * 3
    names = [n for n in ours.weights() if n.endswith(("projection", "coefficients"))]
    assert names
    for name in names:
        assert np.array_equal(ours.weights()[name], theirs.weights()[name])
    if kind != "ridge":
        return
    before = fit(
        asked,
        [changed_after(table, (fold.train.start_ms + end_ms) // 2) for table in tables],
        fold,
        seed=1,
        told=lambda share: None,
    )
    assert before.chosen != ours.chosen, "the learned part itself does decide"


def test_the_manifest_names_what_was_chosen(market: Job, tmp_path: Path) -> None:
    asked = replace(market, settings=replace(SETTINGS, selection=Selection.LASSO), out=tmp_path)
    loaded = checkpoint.load(train_ridge(asked))
    coefficients = loaded.weights["coefficients"]
    for place, names in enumerate(loaded.manifest.chosen):
        read = [COLUMN_NAMES[p] for p in np.flatnonzero(coefficients[place])]
        assert list(names) == read
        assert 1 <= len(names) < COLUMNS_N
    plain = checkpoint.load(train_ridge(replace(market, out=tmp_path)))
    assert plain.manifest.chosen == ()
