"""Train a forest from a job and keep it in the registry like a network.

    python -m strategies.forecast.training.forest_training --job job.json

Bagging: every tree grows on rows drawn anew with repetition, as large a share of all as labels do
not overlap, and the forecast is the mean of the trees. At each node a third of the columns is
tried, each at one random threshold: with so little to be found, trees that differ are worth more
than thresholds that fit, and they grow several times faster. Nothing stops early, so that the
forest learns from the stop part as well, as a ridge does. scikit-learn is needed here alone.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from daemon.domain.bar import Floats
from strategies.forecast import checkpoint
from strategies.forecast.inputs.dataset import Table
from strategies.forecast.training.fitting import Told
from strategies.forecast.training.job import Job
from strategies.forecast.training.members import train_members
from strategies.forecast.training.process import Report, run_process
from strategies.forecast.training.splits import Fold
from strategies.forecast.training.tabular import FittedTrees, Sample, fit_trees
from strategies.forecast.trees.arrays import Trees, joined

LIBRARIES: Final = ("numpy", "scikit-learn", "safetensors")
SEEDED: Final = True
COLUMNS_SHARE: Final = 1 / 3  # tried at a node


def train_forest(job: Job, *, progress: Report | None = None) -> Path:
    """Train, score, calibrate and save a forest; see `members.train_members`."""
    return train_members(
        job, kind=checkpoint.FOREST, fit_fold=fit_fold, libraries=LIBRARIES, progress=progress
    )


def fit_fold(
    job: Job, tables: Sequence[Table], fold: Fold, *, seed: int, told: Told
) -> FittedTrees:
    """Grow a forest for every timeframe on a fold. See `fitting.FitFold`."""
    return fit_trees(job, tables, fold, seed=seed, told=told, grow=grow)


def grow(sample: Sample, told: Told) -> Trees:
    """Grow `settings.trees` trees; see the module."""
    from sklearn.ensemble import ExtraTreesRegressor

    settings, share = sample.settings, 1.0 / sample.horizon_bars
    forest = ExtraTreesRegressor(
        n_estimators=settings.trees,
        criterion="squared_error",
        min_samples_leaf=sample.leaf_rows(share),
        max_features=COLUMNS_SHARE,
        bootstrap=True,
        max_samples=share,
        n_jobs=1,
        random_state=sample.seed,
    ).fit(sample.x, sample.y)
    return stored(forest.estimators_)


def stored(estimators: Sequence[Any]) -> Trees:
    """Turn scikit-learn's trees into ours, whose sum is their mean."""
    return joined([_tree(one.tree_, len(estimators)) for one in estimators])


def _tree(tree: Any, trees: int) -> Trees:
    place = np.arange(tree.node_count)
    largest = np.finfo(np.float64).max  # for an infinite one, which parts NaN from all else
    is_leaf = tree.children_left < 0
    return Trees(
        feature=np.where(is_leaf, 0, tree.feature).astype(np.int32),
        threshold=np.where(is_leaf, 0.0, np.minimum(exact(tree.threshold), largest)),
        left=np.where(is_leaf, place, tree.children_left).astype(np.int32),
        right=np.where(is_leaf, place, tree.children_right).astype(np.int32),
        nan_left=np.where(is_leaf, 0, tree.missing_go_to_left).astype(np.uint8),
        value=np.where(is_leaf, tree.value[:, 0, 0] / trees, 0.0),
        roots=np.zeros(1, dtype=np.int32),
    )


def exact(thresholds: Floats) -> Floats:
    """Give the doubles t' for which x <= t' is what scikit-learn asks: float32(x) <= t.

    The last double that rounds to a single of at most t lies half-way to the next single, and is
    that half-way itself where a tie rounds down.
    """
    below = thresholds.astype(np.float32)
    below = np.where(below > thresholds, np.nextafter(below, np.float32(-np.inf)), below)
    above = np.nextafter(below, np.float32(np.inf))
    middle = (below.astype(np.float64) + above.astype(np.float64)) / 2
    return np.where(middle.astype(np.float32) == below, middle, np.nextafter(middle, -np.inf))


if __name__ == "__main__":
    sys.exit(run_process(train_forest, sys.argv[1:]))
