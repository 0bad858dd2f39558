"""Train boosted trees with LightGBM from a job and keep them in the registry like a network.

    python -m strategies.forecast.training.lightgbm_training --job job.json

Squared error on the labels; every tree sees half of the columns and half of the rows. Their number
is the setting's: nothing stops early, so that the trees learn from the stop part as well, as a
ridge does. The order of a month of forecasts is known to about 0.02 of rank IC, several times what
there is to be found: who stops by it keeps a number drawn by luck, and gives away the newest month
that could be learned from. LightGBM is needed here and nowhere else.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
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
from strategies.forecast.trees.arrays import Trees, joined, leaf

LIBRARIES: Final = ("numpy", "lightgbm", "safetensors")
SEEDED: Final = True
LEAVES: Final = 31  # of a tree, at most
RATE: Final = 0.03  # the share of a tree that counts
COLUMNS_SHARE: Final = 0.5  # that a tree sees
ROWS_SHARE: Final = 0.5  # that a tree sees, drawn anew for each
ZERO: Final = float(np.float32(1e-35))  # LightGBM takes what is no larger for 0


def train_lightgbm(job: Job, *, progress: Report | None = None) -> Path:
    """Train, score, calibrate and save boosted trees; see `members.train_members`."""
    return train_members(
        job, kind=checkpoint.LIGHTGBM, fit_fold=fit_fold, libraries=LIBRARIES, progress=progress
    )


def fit_fold(
    job: Job, tables: Sequence[Table], fold: Fold, *, seed: int, told: Told
) -> FittedTrees:
    """Grow boosted trees for every timeframe on a fold. See `fitting.FitFold`."""
    return fit_trees(job, tables, fold, seed=seed, told=told, grow=grow)


def parameters(sample: Sample) -> dict[str, object]:
    """Give LightGBM's parameters; the same sample then gives the same trees."""
    return {
        "objective": "regression",
        "num_leaves": LEAVES,
        "learning_rate": RATE,
        "min_data_in_leaf": sample.leaf_rows(ROWS_SHARE),
        "bagging_fraction": ROWS_SHARE,
        "bagging_freq": 1,
        "feature_fraction": COLUMNS_SHARE,
        "num_threads": 1,
        "deterministic": True,
        "force_row_wise": True,
        "seed": sample.seed,
        "verbosity": -1,
    }


def grow(sample: Sample, told: Told) -> Trees:
    """Grow `settings.trees` trees, fewer where no split is left to be made."""
    import lightgbm

    asked, wanted = parameters(sample), sample.settings.trees
    booster = lightgbm.Booster(asked, lightgbm.Dataset(sample.x, sample.y, params=asked))
    for grown in range(wanted):
        if booster.update():
            break
        told((grown + 1) / wanted)
    return stored(booster.dump_model()["tree_info"])


def stored(trees: Sequence[Mapping[str, Any]]) -> Trees:
    """Turn LightGBM's description of trees into ours."""
    made = [_tree(tree["tree_structure"]) for tree in trees]
    return joined(made) if made else leaf(0.0)


def _tree(top: Mapping[str, Any]) -> Trees:
    nodes, children = [top], list[tuple[int, int]]()
    for number, node in enumerate(nodes):  # grows while it is walked: parents stand before children
        if "split_feature" in node:
            nodes += [node["left_child"], node["right_child"]]
            children.append((len(nodes) - 2, len(nodes) - 1))
        else:
            children.append((number, number))
    left, right = np.array(children, dtype=np.int32).T
    return Trees(
        feature=np.array([node.get("split_feature", 0) for node in nodes], dtype=np.int32),
        threshold=exact(np.array([float(node.get("threshold", 0.0)) for node in nodes])),
        left=np.ascontiguousarray(left),
        right=np.ascontiguousarray(right),
        nan_left=np.array([_nan_left(node) for node in nodes], dtype=np.uint8),
        value=np.array([float(node.get("leaf_value", 0.0)) for node in nodes]),
        roots=np.zeros(1, dtype=np.int32),
    )


def exact(thresholds: Floats) -> Floats:
    """Give t' for which x <= t' is what LightGBM asks: x <= t, with 0 for x within `ZERO` of it."""
    below = np.where(thresholds >= -ZERO, np.nextafter(-ZERO, -np.inf), thresholds)
    return np.where(thresholds < 0.0, below, np.maximum(thresholds, ZERO))


def _nan_left(node: Mapping[str, Any]) -> bool:
    """Tell where NaN goes; LightGBM takes it for 0 where it has seen none at this column."""
    if "threshold" not in node:
        return False
    if node["missing_type"] == "NaN":
        return bool(node["default_left"])
    return bool(float(node["threshold"]) >= 0.0)


if __name__ == "__main__":
    sys.exit(run_process(train_lightgbm, sys.argv[1:]))
