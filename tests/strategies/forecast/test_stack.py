"""A stack learns its shares from forecasts out of its members' sample, and stores its members."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from daemon.domain.bar import Floats
from daemon.domain.failures import ModelError
from strategies.forecast import checkpoint
from strategies.forecast.checkpoint import Shape, Weights
from strategies.forecast.inference import build, raw_model
from strategies.forecast.inputs.dataset import Table, build_tables, cut_folds
from strategies.forecast.ridge import IC_PRIOR
from strategies.forecast.training.fitting import Fitted, Told
from strategies.forecast.training.job import Job, Longs, TrainSettings
from strategies.forecast.training.ridge_training import fit_fold as fit_ridge
from strategies.forecast.training.splits import Fold, Span
from strategies.forecast.training.stack_training import fit_fold as fit_stack_fold
from strategies.forecast.training.stack_training import (
    fit_stack,
    inner_folds,
    learn_shares,
    train_stack,
    unit_scale,
)
from tests.strategies.forecast.markets import job, reverting

SETTINGS = TrainSettings(
    trees=20,
    leaf_share=0.03,
    steps=4,
    hidden=4,
    embedding=4,
    batch_rows=60,
    members=2,
    stack=("lightgbm", "ridge", "gru"),
)


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Job:
    return job(reverting(75, 8, 0.06), tmp_path_factory.mktemp("models"), SETTINGS)


@pytest.fixture(scope="module")
def tables(market: Job) -> tuple[Table, ...]:
    return build_tables(market)


@pytest.fixture(scope="module")
def trained(market: Job) -> Path:
    return train_stack(market)


# ---- the shares ----------------------------------------------------------------------------------


def test_shares_are_the_non_negative_least_squares_with_the_stated_prior() -> None:
    draw = np.random.default_rng(1)
    y = draw.standard_normal((400, 6))
    good = y + 4 * draw.standard_normal(y.shape)
    found = learn_shares(np.array([good / good.std(), -good / good.std()]), y, 2)
    assert found.tolist() == [1.0, 0.0], "what points the wrong way is never sold short"
    assert found.sum() == 1.0
    none = learn_shares(np.zeros((3, 400, 6)), y, 2)
    np.testing.assert_allclose(none, np.full(3, 1 / 3))
    F = np.array([good / good.std(), (y + 9 * draw.standard_normal(y.shape)) / 9])
    f = (F - F.mean(axis=2, keepdims=True)).reshape(2, -1)
    penalty = 2 * 2 / IC_PRIOR**2
    joint = f @ (y - y.mean(axis=1, keepdims=True)).ravel() + penalty * IC_PRIOR / 2
    by_hand = np.linalg.solve(f @ f.T + penalty * np.eye(2), joint)  # both are above zero
    np.testing.assert_allclose(learn_shares(F, y, 2), by_hand / by_hand.sum())


def test_with_little_evidence_members_count_alike() -> None:
    draw = np.random.default_rng(2)
    y = draw.standard_normal((4000, 6))
    F = np.array([y + 20 * draw.standard_normal(y.shape), draw.standard_normal(y.shape)])
    F /= F.std(axis=(1, 2), keepdims=True)
    few, many = learn_shares(F[:, :20], y[:20], 6), learn_shares(F, y, 6)
    assert abs(few[0] - 0.5) < 0.1
    assert many[0] > few[0] + 0.1


def test_inner_folds_go_forward_inside_the_learned_part_with_the_folds_own_gap() -> None:
    fold = Fold(Span(0, 8_000), Span(8_100, 10_000), Span(10_100, 12_000))
    cuts = inner_folds(fold)
    assert len(cuts) == 3
    for cut in cuts:
        assert cut.train.start_ms == 0
        assert cut.stop.start_ms - cut.train.end_ms == 100
        assert cut.test.start_ms - cut.stop.end_ms == 100
    assert [cut.test.end_ms for cut in cuts][-1] <= fold.stop.end_ms
    assert all(a.test.end_ms <= b.test.start_ms for a, b in itertools.pairwise(cuts))
    with pytest.raises(ModelError, match="too few bars for a stack"):
        inner_folds(Fold(Span(0, 800), Span(900, 1_000), Span(1_100, 1_200)))


# ---- the planted leak ----------------------------------------------------------------------------


class Memory:
    """Say of rows that it has learned from what came of them, of others something random."""

    def __init__(self, tables: Sequence[Table], fold: Fold) -> None:
        self._known = [table.within(fold.learned) for table in tables]
        self.parameters_n = sum(map(len, self._known))
        self.chosen: tuple[tuple[str, ...], ...] = ()
        self.stacked: tuple[checkpoint.Stacked, ...] = ()

    def forecast(self, table: Table, rows: Longs) -> tuple[Floats, Floats]:
        draw = np.random.default_rng(3).standard_normal(table.y.shape)
        said = np.where(np.isfinite(table.y), table.y, draw)
        said = np.where(
            np.isin(np.arange(len(said)), self._known[table.place])[:, None], said, draw
        )
        mean = np.where(table.allowed[rows], said[rows], np.nan)
        return mean, np.ones_like(mean)

    def weights(self) -> Weights:
        return {}

    def shape(self) -> Shape:
        return Shape(1, 3, 0, 0, 12, 1)


def fit_memory(job: Job, tables: Sequence[Table], fold: Fold, *, seed: int, told: Told) -> Fitted:
    return Memory(tables, fold)


def test_a_member_that_only_remembers_gets_everything_in_sample_and_nothing_from_us(
    market: Job, tables: tuple[Table, ...]
) -> None:
    (fold,) = cut_folds(market, tables)
    members = {"memory": fit_memory, "ridge": fit_ridge}
    fitted = [
        fit(market, tables, fold, seed=1, told=lambda share: None) for fit in members.values()
    ]
    table = tables[0]
    rows = table.within(fold.train)
    seen = [one.forecast(table, rows)[0] * unit_scale(one, table, fold) for one in fitted]
    leaked = learn_shares(np.array(seen), table.y[rows], table.horizon_bars)
    assert leaked[0] > 0.8, "what a stack of in-sample forecasts believes"
    stack = fit_stack(market, tables, fold, members, seed=1, told=lambda share: None)
    ours = {one.kind: one.shares for one in stack.stacked}
    assert all(share < 0.35 for share in ours["memory"])
    assert ours["memory"][0] < leaked[0] / 2


def test_what_comes_after_the_learned_part_changes_no_share(
    market: Job, tables: tuple[Table, ...]
) -> None:
    (fold,) = cut_folds(market, tables)
    asked = replace(market, settings=replace(SETTINGS, stack=("ridge", "forest")))
    changed = []
    for table in tables:
        later = table.close_ms >= fold.stop.end_ms
        y, rows = table.y.copy(), table.rows.copy()
        y[later], rows[later] = -y[later], 0.5 * rows[later]
        changed.append(replace(table, y=y, rows=rows))
    one, other = (
        fit_stack_fold(asked, some, fold, seed=1, told=lambda share: None)
        for some in (tables, changed)
    )
    assert one.stacked == other.stacked
    assert all(
        np.array_equal(array, other.weights()[name]) for name, array in one.weights().items()
    )


# ---- as a model ----------------------------------------------------------------------------------


def test_the_manifest_says_what_each_kind_counts_and_the_stack_adds_them_up(
    market: Job, tables: tuple[Table, ...], trained: Path
) -> None:
    loaded = checkpoint.load(trained)
    manifest = loaded.manifest
    assert [one.kind for one in manifest.stacked] == ["lightgbm", "ridge", "gru"]
    shares = np.array([one.shares for one in manifest.stacked])
    np.testing.assert_allclose(shares.sum(axis=0), 1.0)
    assert (shares >= 0).all()
    assert manifest.stacked[2].shape.hidden == 4
    assert manifest.shape.members == 2
    assert {"torch", "lightgbm", "scipy"} <= set(manifest.versions)
    (fold,) = cut_folds(market, tables)
    fitted = fit_stack_fold(market, tables, fold, seed=SETTINGS.seed, told=lambda share: None)
    model = raw_model(loaded)
    for table in tables:
        rows = table.decided(fold.test)[:2]
        mean, _ = fitted.forecast(table, rows)
        for at, row in enumerate(rows.tolist()):
            live, noise = model.forward(table.rows[row - 11 : row + 1], table.place)
            assert live.shape == (2, 8)
            np.testing.assert_allclose(live[0], mean[at], rtol=1e-4, atol=1e-7)
            assert (noise == 1.0).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"0.shares": None}, "0.shares: no shares of 3 timeframes and 3 members"),
        ({"1.shares": -np.ones((3, 3))}, "1.shares: no shares"),
        ({"1.shares": np.full((3, 3), np.nan)}, "1.shares holds values that are not finite"),
        ({"1.lightgbm/0.2.left": None}, "0.2.left is missing"),
        ({"0.ridge/coefficients": np.zeros((3, 4))}, "coefficients of shape"),
    ],
)
def test_a_stack_that_lacks_something_is_refused(
    trained: Path, tmp_path: Path, change: dict[str, Floats | None], said: str
) -> None:
    loaded = checkpoint.load(trained)
    arrays = {**loaded.weights, **change}
    kept = {name: array for name, array in arrays.items() if array is not None}
    folder = checkpoint.save(loaded.manifest, kept, tmp_path)
    with pytest.raises(ModelError, match=said):
        build({"kind": "network", "model": str(folder)})


def test_a_stack_of_a_stack_is_refused(trained: Path, tmp_path: Path) -> None:
    loaded = checkpoint.load(trained)
    inner = replace(loaded.manifest.stacked[0], kind="stack")
    manifest = replace(loaded.manifest, stacked=(inner, *loaded.manifest.stacked[1:]))
    folder = checkpoint.save(manifest, loaded.weights, tmp_path)
    with pytest.raises(ModelError, match="a stack cannot hold a 'stack'"):
        build({"kind": "network", "model": str(folder)})
