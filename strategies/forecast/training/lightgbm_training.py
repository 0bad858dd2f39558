"""Train boosted trees with LightGBM from a job and keep them in the registry like a network.

    python -m strategies.forecast.training.lightgbm_training --job job.json

Squared error on the labels; every tree sees half of the columns, and as large a share of the rows
as labels do not overlap. Every `LOOK_TREES` trees the rank IC of the stop part is measured, the
mean of two looks in a row counts, and the number of trees with the best is kept. The loss of the
stop part would be the smoother measure, but with an IC of a few hundredths it moves by a part in a
thousand and is least after a handful of trees, while the order is still being learned. LightGBM is
needed here and nowhere else.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

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
LOOK_TREES: Final = 10
PATIENCE: Final = 8  # looks without a better one


def train_lightgbm(job: Job, *, progress: Report | None = None) -> Path:
    """Train, score, calibrate and save boosted trees; see `members.train_members`."""
    return train_members(
        job, kind=checkpoint.LIGHTGBM, fit_fold=fit_fold, libraries=LIBRARIES, progress=progress
    )


def fit_fold(
    job: Job, tables: Sequence[Table], fold: Fold, *, seed: int, told: Told
) -> FittedTrees:
    """Grow boosted trees for every timeframe on a fold. See `fitting.FitFold`."""
    return fit_trees(job, tables, fold, learned=fold.train, seed=seed, told=told, grow=grow)


def parameters(sample: Sample) -> dict[str, object]:
    """Give LightGBM's parameters; the same sample then gives the same trees."""
    return {
        "objective": "regression",
        "num_leaves": LEAVES,
        "learning_rate": RATE,
        "min_data_in_leaf": sample.leaf_rows,
        "bagging_fraction": sample.drawn_share,
        "bagging_freq": 1,
        "feature_fraction": COLUMNS_SHARE,
        "num_threads": 1,
        "deterministic": True,
        "force_row_wise": True,
        "seed": sample.seed,
        "verbosity": -1,
    }


def grow(sample: Sample, told: Told) -> Trees:
    """Grow at most `settings.trees` trees and keep as many as the stop part likes best."""
    import lightgbm

    asked = parameters(sample)
    data = lightgbm.Dataset(sample.x, sample.y, params=asked)
    booster = lightgbm.Booster(asked, data)
    said = np.zeros(len(sample.stop_x))
    best, best_ic, last = 0, -np.inf, np.nan
    for begun in range(0, sample.settings.trees, LOOK_TREES):
        more = min(LOOK_TREES, sample.settings.trees - begun)
        for _ in range(more):
            booster.update()
        grown = min(begun + more, booster.num_trees())
        if grown <= begun:
            break  # no split is left to be made
        if len(said):
            said += booster.predict(
                sample.stop_x, start_iteration=begun, num_iteration=grown - begun, raw_score=True
            )
        now = sample.judge(said)
        now = now if np.isfinite(now) else 0.0
        seen = now if np.isnan(last) else 0.5 * (now + last)
        last = now
        if seen > best_ic:
            best, best_ic = grown, seen
        told(grown / sample.settings.trees)
        if grown - best >= PATIENCE * LOOK_TREES:
            break
    return stored(booster.dump_model(num_iteration=best)["tree_info"][:best])


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
        threshold=np.array([float(node.get("threshold", 0.0)) for node in nodes]),
        left=np.ascontiguousarray(left),
        right=np.ascontiguousarray(right),
        nan_left=np.array([_nan_left(node) for node in nodes], dtype=np.uint8),
        value=np.array([float(node.get("leaf_value", 0.0)) for node in nodes]),
        roots=np.zeros(1, dtype=np.int32),
    )


def _nan_left(node: Mapping[str, Any]) -> bool:
    """Tell where NaN goes; LightGBM takes it for 0 where it has seen none at this column."""
    if "threshold" not in node:
        return False
    if node["missing_type"] == "NaN":
        return bool(node["default_left"])
    return bool(float(node["threshold"]) >= 0.0)


if __name__ == "__main__":
    sys.exit(run_process(train_lightgbm, sys.argv[1:]))
