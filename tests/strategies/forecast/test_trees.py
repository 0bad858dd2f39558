"""Trees as arrays: the libraries' own forecasts to the last digits, and nothing unsound is read."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt
import pytest
from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor

from daemon.domain.bar import Floats
from daemon.domain.failures import ModelError
from strategies.forecast import checkpoint
from strategies.forecast.inference import ModelEstimator, build, raw_model
from strategies.forecast.inputs.dataset import build_tables, cut_folds
from strategies.forecast.ridge import COLUMNS_N
from strategies.forecast.training.fitting import TRAINERS, trainer_of
from strategies.forecast.training.forest_training import exact, train_forest
from strategies.forecast.training.forest_training import stored as stored_forest
from strategies.forecast.training.job import Job, TrainSettings
from strategies.forecast.training.lightgbm_training import stored as stored_boosted
from strategies.forecast.training.lightgbm_training import train_lightgbm
from strategies.forecast.trees.arrays import NAMES, Trees, joined, leaf, read
from tests.strategies.forecast.markets import job, reverting, walk

SETTINGS = TrainSettings(trees=30, leaf_share=0.02)
TRAIN = {"lightgbm": train_lightgbm, "forest": train_forest}


def sample(rows: int, *, nan_share: float, seed: int = 1) -> tuple[Floats, Floats]:
    """Draw columns of several sizes, one rounded to few values so that thresholds are met."""
    draw = np.random.default_rng(seed)
    x = draw.standard_normal((rows, 6)) * [1.0, 1e-3, 30.0, 1.0, 1.0, 1.0]
    x[:, 3] = np.round(x[:, 3], 1)
    y = np.sin(x[:, 0]) * x[:, 3] + 0.1 * x[:, 2] + draw.standard_normal(rows)
    x[draw.random(x.shape) < nan_share] = np.nan
    return x, y


def asked(x: Floats, trees: Trees, *, with_nan: bool) -> Floats:
    """Give rows to ask for: those learned from, beside them, at thresholds, and some with NaN."""
    splits = np.flatnonzero(trees.left > np.arange(len(trees.left)))
    met = x[splits % len(x)].copy()
    t = np.clip(trees.threshold[splits], -1e9, 1e9)  # one beyond all doubles parts NaN from others
    met[np.arange(len(splits)), trees.feature[splits]] = t
    rows = np.concatenate([x, met, np.nextafter(x, np.inf), np.nextafter(met, -np.inf)])
    holes = x.copy()
    holes[::3, 0] = np.nan
    holes[1::5] = np.nan
    return np.concatenate([rows, holes]) if with_nan else rows


@pytest.mark.parametrize("nan_share", [0.0, 0.1])
@pytest.mark.parametrize("more", [{}, {"bagging_fraction": 0.3, "bagging_freq": 1}])
def test_boosted_trees_say_what_lightgbm_says(nan_share: float, more: dict[str, object]) -> None:
    x, y = sample(1500, nan_share=nan_share)
    settings = {"num_leaves": 31, "num_threads": 1, "seed": 3, "verbosity": -1, **more}
    booster = lightgbm.train(settings, lightgbm.Dataset(x, y), num_boost_round=60)
    ours = stored_boosted(booster.dump_model()["tree_info"])
    rows = asked(x, ours, with_nan=True)
    np.testing.assert_allclose(ours.predict(rows), booster.predict(rows), rtol=0, atol=1e-12)
    assert len(ours.roots) == 60
    dumped = booster.dump_model()["tree_info"][0]["tree_structure"]
    assert dumped["missing_type"] == ("NaN" if nan_share else "None"), "both ways are covered"


def test_what_lightgbm_takes_for_zero_goes_where_zero_goes() -> None:
    draw = np.random.default_rng(6)
    small = float(np.float32(1e-35))
    near = [0.0, -0.0, 5e-324, 1e-36, 1e-35, small, np.nextafter(small, 1), 2e-35]
    x = draw.choice([*near, *(-v for v in near), 1.0, -1.0], (600, 2))
    y = 3.0 * np.sign(x[:, 0]) + np.sign(x[:, 1]) + 0.1 * draw.standard_normal(600)
    settings = {"num_threads": 1, "verbosity": -1, "min_data_in_leaf": 3}
    booster = lightgbm.train(settings, lightgbm.Dataset(x, y), num_boost_round=20)
    ours = stored_boosted(booster.dump_model()["tree_info"])
    np.testing.assert_allclose(ours.predict(x), booster.predict(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("nan_share", [0.0, 0.1])
@pytest.mark.parametrize("forest", [ExtraTreesRegressor, RandomForestRegressor])
def test_a_forest_says_what_scikit_learn_says(forest: Callable[..., Any], nan_share: float) -> None:
    x, y = sample(800, nan_share=nan_share)
    theirs = forest(20, bootstrap=True, max_samples=0.5, min_samples_leaf=3, random_state=2)
    theirs.fit(x, y)
    ours = stored_forest(theirs.estimators_)
    rows = asked(x, ours, with_nan=nan_share > 0)
    np.testing.assert_allclose(ours.predict(rows), theirs.predict(rows), rtol=0, atol=1e-12)


def test_a_threshold_for_doubles_asks_what_the_one_for_singles_asks() -> None:
    draw = np.random.default_rng(4)
    singles = draw.standard_normal(400).astype(np.float32).astype(np.float64)
    thresholds = np.concatenate([singles, draw.standard_normal(400), [0.0, -0.0]])
    moved = exact(thresholds)
    for t, mine in zip(thresholds, moved, strict=True):
        near = np.float32(t) + np.spacing(np.float32(t)) * np.arange(-2, 3) / 2
        beside = np.concatenate([near, [mine, np.nextafter(mine, 9), np.nextafter(mine, -9), t]])
        assert ((beside.astype(np.float32) <= t) == (beside <= mine)).all()


def test_a_row_says_the_same_alone_and_among_many() -> None:
    x, y = sample(5000, nan_share=0.05)
    booster = lightgbm.train(
        {"num_leaves": 31, "num_threads": 1, "verbosity": -1}, lightgbm.Dataset(x, y), 80
    )
    ours = stored_boosted(booster.dump_model()["tree_info"])
    together = ours.predict(x)
    for at in (0, 17, 4999):
        assert ours.predict(x[at : at + 1])[0] == together[at]


def test_trees_that_were_never_grown_say_nothing() -> None:
    assert stored_boosted([]).predict(np.zeros((3, 2))).tolist() == [0.0, 0.0, 0.0]
    assert joined([leaf(1.0), leaf(0.5)]).predict(np.zeros((2, 0))).tolist() == [1.5, 1.5]


# ---- what is refused -----------------------------------------------------------------------------


def grown() -> Trees:
    """Two trees: a split on column 1 and another below its right child, and a leaf."""
    top = Trees(
        feature=np.array([1, 0, 0, 0, 0], np.int32),
        threshold=np.array([0.5, 0.0, -1.0, 0.0, 0.0]),
        left=np.array([1, 1, 3, 3, 4], np.int32),
        right=np.array([2, 1, 4, 3, 4], np.int32),
        nan_left=np.zeros(5, np.uint8),
        value=np.array([0.0, 1.0, 0.0, 2.0, 3.0]),
        roots=np.zeros(1, np.int32),
    )
    return joined([top, leaf(10.0)])


def test_sound_trees_are_read_back_and_walked() -> None:
    found = read(grown().named("0."), "0.", columns=2, where="here")
    x = np.array([[0.0, 0.5], [-1.0, 0.6], [0.0, 0.6], [np.nan, np.nan]])
    assert found.predict(x).tolist() == [11.0, 12.0, 13.0, 13.0]


Change = tuple[str, int, float]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("left", 2, 6), "left: node 2 has child 6, not behind it below 6"),
        (("left", 2, -1), "left: node 2 has child -1"),
        (("right", 2, 0), "right: node 2 has child 0"),
        (("right", 0, 0), "right: node 0 has child 0"),
        (("right", 2, 3), "node 3 belongs to no tree, or to several"),
        (("left", 0, 2), "belongs to no tree"),
        (("feature", 0, 2), "feature: node 0 asks for column 2 of 2"),
        (("feature", 2, -3), "column -3"),
        (("threshold", 0, np.nan), "threshold: node 0 has no number"),
        (("value", 3, np.inf), "value: node 3 has no number"),
        (("roots", 1, 9), "a root outside"),
        (("roots", 1, 0), "belongs to no tree"),
        (("roots", 1, 3), "belongs to no tree"),
    ],
)
def test_what_is_no_tree_is_refused_with_place_and_reason(change: Change, said: str) -> None:
    arrays = {name: array.copy() for name, array in grown().named("").items()}
    name, at, value = change
    arrays[name][at] = value
    with pytest.raises(ModelError, match=rf"^the file: .*{said}"):
        read(arrays, "", columns=2, where="the file")


@pytest.mark.parametrize("name", NAMES)
def test_arrays_that_lack_have_another_type_or_length_are_refused(name: str) -> None:
    sound = grown().named("")
    other: dict[str, npt.NDArray[Any]] = dict(sound)
    del other[name]
    with pytest.raises(ModelError, match=f"{name} is missing"):
        read(other, "", columns=2, where="the file")
    kind = np.float64 if sound[name].dtype.kind != "f" else np.int64
    with pytest.raises(ModelError, match=f"{name} is of type"):
        read(sound | {name: sound[name].astype(kind)}, "", columns=2, where="the file")
    with pytest.raises(ModelError, match="the file: "):
        read(sound | {name: sound[name][:0]}, "", columns=2, where="the file")


# ---- as models -----------------------------------------------------------------------------------

Stored = tuple[Job, Path]


@pytest.fixture(scope="module", params=sorted(TRAIN))
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """Train on a market that reverts strongly."""
    small = job(reverting(75, 10, 0.06), tmp_path_factory.mktemp("models"), SETTINGS)
    return small, TRAIN[request.param](small)


def test_a_pattern_is_found_and_the_same_job_gives_the_same_model(trained: Stored) -> None:
    small, folder = trained
    manifest = checkpoint.load(folder).manifest
    hourly = manifest.scores[0].model
    assert hourly.rank_ic > 0.03
    assert hourly.rank_ic_t > 2.0
    assert manifest.shape.members == 2
    assert manifest.kind in TRAIN
    again = TRAIN[manifest.kind](replace(small, out=folder.parent / "again"))
    assert again.name == folder.name


def test_a_fitted_fold_says_what_the_stored_model_says(trained: Stored) -> None:
    small, folder = trained
    tables = build_tables(small)
    (fold,) = cut_folds(small, tables)
    loaded = checkpoint.load(folder)
    model = raw_model(loaded)
    fit = trainer_of(TRAINERS[loaded.manifest.kind]).fit_fold
    fitted = fit(small, tables, fold, seed=SETTINGS.seed, told=lambda share: None)
    for table in tables:
        rows = table.decided(fold.test)[:4]
        mean, noise = fitted.forecast(table, rows)
        for at, row in enumerate(rows.tolist()):
            live, live_noise = model.forward(table.rows[row - 11 : row + 1], table.place)
            assert np.array_equal(live[0], mean[at])
            assert np.array_equal(live_noise, noise[at])
            assert not np.array_equal(live[0], live[1]), "another seed says something else"


def test_no_library_of_trees_is_loaded_to_forecast(trained: Stored) -> None:
    program = (
        "import sys\nfrom strategies.forecast.inference import build\n"
        f"build({{'kind': 'network', 'model': {str(trained[1])!r}}})\n"
        "print([m for m in ('torch', 'sklearn', 'lightgbm', 'scipy') if m in sys.modules])"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "[]"


def test_corrupt_trees_of_a_stored_model_are_refused_before_anything_is_forecast(
    trained: Stored, tmp_path: Path
) -> None:
    loaded = checkpoint.load(trained[1])
    for name, at, value, said in (
        ("0.1.right", 0, 10**6, "right: node 0 has child 1000000"),
        ("1.2.feature", 0, COLUMNS_N, f"column {COLUMNS_N} of {COLUMNS_N}"),
        ("0.0.left", 0, 0, "left: node 0 has child 0"),
    ):
        arrays = {key: array.copy() for key, array in loaded.weights.items()}
        arrays[name][at] = value
        folder = checkpoint.save(loaded.manifest, arrays, tmp_path)
        with pytest.raises(ModelError, match=rf"{folder.name}, weights.safetensors: .*{said}"):
            build({"kind": "network", "model": str(folder)})


def test_a_market_without_a_pattern_shows_no_skill(tmp_path: Path) -> None:
    for train in TRAIN.values():
        manifest = checkpoint.load(
            train(job(walk(75 * 48, 10, seed=3), tmp_path, SETTINGS))
        ).manifest
        assert all(abs(s.model.rank_ic_t) < 3.5 for s in manifest.scores)


@pytest.mark.parametrize("kind", sorted(TRAIN))
def test_components_are_stored_with_the_trees_that_read_them(kind: str, tmp_path: Path) -> None:
    small = job(reverting(60, 6, 0.06), tmp_path, replace(SETTINGS, components=5, members=1))
    loaded = checkpoint.load(TRAIN[kind](small))
    assert loaded.weights["0.0.projection"].shape == (COLUMNS_N, 5)
    assert loaded.weights["0.0.feature"].max() < 5
    ModelEstimator(loaded)
    short = loaded.weights["0.0.projection"][:-1]
    with pytest.raises(ModelError, match=r"0\.0\.projection does not fit 45 columns"):
        raw_model(replace(loaded, weights={**loaded.weights, "0.0.projection": short}))
