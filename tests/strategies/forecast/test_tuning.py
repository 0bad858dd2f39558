"""Fine-tuning: only what is to learn moves, near to where it began, with old bars beside new."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daemon.domain.failures import ModelError
from strategies.forecast import checkpoint
from strategies.forecast.inputs.dataset import build_tables, cut_folds
from strategies.forecast.networks.config import NetworkKind
from strategies.forecast.networks.network import ENCODERS, Network
from strategies.forecast.training.job import Job, Origin, OriginKind, Tune, read_job, write_job
from strategies.forecast.training.network_training import config_of, rate, train_model
from strategies.forecast.training.tuning import Tuning
from tests.strategies.forecast.conftest import SETTINGS
from tests.strategies.forecast.markets import job, reverting

BASE = replace(SETTINGS, steps=20, members=2, layers=2, cross_asset=True)
LONGER = reverting(100, 6, 0.05)


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train on the first 75 of 100 days, so little that there is much left to learn."""
    settings = replace(BASE, steps=2)
    return train_model(job(LONGER[: 75 * 48], tmp_path_factory.mktemp("models"), settings))


def tuned(parent: Path, how: Tune, **changed: Any) -> Job:
    settings = replace(BASE, tune=how, **changed)
    return replace(job(LONGER, parent.parent, BASE), settings=settings, parent=parent)


def moved(parent: Path, folder: Path) -> dict[str, float]:
    """Give for each part of the first member how far its weights moved."""
    before, after = (checkpoint.load(one).weights for one in (parent, folder))
    return {
        name.removeprefix("0."): float(np.abs(after[name] - before[name]).max())
        for name in before
        if name.startswith("0.")
    }


@pytest.mark.parametrize("how", [Tune.HEAD, Tune.LAST, Tune.FULL])
def test_only_what_is_to_learn_moves_and_not_far(parent: Path, how: Tune) -> None:
    folder = train_model(tuned(parent, how, learning_rate=0.01))
    found = moved(parent, folder)
    if not any(found.values()):
        pytest.fail("early stopping kept the weights as they were")
    last = ("heads", "pool", "products", "cross_asset", "encoder.forth.1.", "encoder.back.1.")
    allowed = {Tune.HEAD: ("heads",), Tune.LAST: last, Tune.FULL: ("",)}[how]
    for name, distance in found.items():
        assert (distance > 0) is name.startswith(allowed), name
        assert distance < 0.01 * 0.1 * 20, "at most so many steps of a tenth of the rate"
    manifest = checkpoint.load(folder).manifest
    assert (manifest.parent, manifest.settings.tune) == (parent.name, how)
    assert manifest.data.learned_until_ms > checkpoint.load(parent).manifest.data.learned_until_ms


def test_new_calibration_alone_keeps_every_weight(parent: Path) -> None:
    folder = train_model(tuned(parent, Tune.RECALIBRATE))
    assert folder.name != parent.name
    assert set(moved(parent, folder).values()) == {0.0}
    before, after = (checkpoint.load(one).manifest for one in (parent, folder))
    assert before.weights_sha256 == after.weights_sha256
    assert before.calibration != after.calibration
    assert after.steps == 0
    assert after.data.learned_until_ms == before.data.learned_until_ms, "no weight saw more"


def test_the_pull_goes_back_towards_where_it_began(parent: Path) -> None:
    small = tuned(parent, Tune.HEAD)
    tuning, network = Tuning(small), Network(config_of(small))
    tuning.begin(network, 1)
    began = network.heads.out.weight.detach().clone()
    with_learning = {name for name, w in network.named_parameters() if w.requires_grad}
    assert with_learning == {"heads.out.weight", "heads.out.bias"}
    network.heads.out.weight.detach().add_(1.0)
    tuning.pull(network, 0.02)
    distance = (network.heads.out.weight - began).detach().numpy()
    np.testing.assert_allclose(distance, 0.9, rtol=1e-5)


def test_the_rate_is_a_tenth() -> None:
    gentle = replace(BASE, tune=Tune.HEAD)
    for step in range(50):
        assert rate(step, 50, gentle) == pytest.approx(0.1 * rate(step, 50, BASE))


def test_half_of_a_batch_at_least_was_learned_from_before(parent: Path) -> None:
    small = tuned(parent, Tune.FULL)
    tables = build_tables(small)
    (fold,) = cut_folds(small, tables)
    until_ms = checkpoint.load(parent).manifest.data.learned_until_ms
    for table, (old, new) in zip(tables, Tuning(small).rows(tables, fold), strict=True):
        assert table.close_ms[old].max() < until_ms <= table.close_ms[new].min()
        assert table.close_ms[new].max() < fold.train.end_ms
        assert len(old) + len(new) == len(table.within(fold.train))


def test_a_tuning_without_new_bars_is_refused(parent: Path) -> None:
    short = replace(tuned(parent, Tune.HEAD), bars=job(LONGER[: 75 * 48], parent, BASE).bars)
    with pytest.raises(ModelError, match="tuning needs bars on both sides of"):
        train_model(short)


@pytest.mark.parametrize("how", [Tune.RECALIBRATE, Tune.HEAD])
def test_no_score_is_of_bars_that_the_weights_were_fitted_to(parent: Path, how: Tune) -> None:
    early = replace(tuned(parent, how), bars=job(LONGER[: 48 * 48], parent, BASE).bars)
    with pytest.raises(ModelError, match=r"has learned from bars until .*lower training\.days"):
        train_model(early)


def test_no_score_is_of_bars_that_chose_when_the_weights_were_kept(parent: Path) -> None:
    within = replace(
        tuned(parent, Tune.RECALIBRATE), bars=job(LONGER[: 70 * 48], parent, BASE).bars
    )
    (fold,) = cut_folds(within, build_tables(within))
    assert fold.test.start_ms > checkpoint.load(parent).manifest.data.learned_until_ms
    with pytest.raises(ModelError, match=r"stopped by bars until .*lower training\.days"):
        train_model(within)
    same = replace(tuned(parent, Tune.RECALIBRATE), bars=job(LONGER[: 75 * 48], parent, BASE).bars)
    before, after = (checkpoint.load(one).manifest for one in (parent, train_model(same)))
    assert after.scores == before.scores, "its own test is no more than it was judged by"


def test_a_model_of_a_generated_market_is_not_tuned_on_other_bars(parent: Path) -> None:
    real = replace(tuned(parent, Tune.RECALIBRATE), origin=Origin(OriginKind.FILES, "real"))
    with pytest.raises(ModelError, match="learned from a generated market"):
        train_model(real)


def test_what_cannot_be_tuned_is_refused(parent: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="number of networks"):
        train_model(tuned(parent, Tune.RECALIBRATE, members=1))
    with pytest.raises(ModelError, match="weights do not fit"):
        train_model(tuned(parent, Tune.RECALIBRATE, hidden=12))
    network = checkpoint.load(parent)
    manifest = replace(network.manifest, kind="ridge")
    other = checkpoint.save(manifest, network.weights, tmp_path / "other")
    with pytest.raises(ModelError, match=f"{other.name} is a ridge: only networks.*bilstm, lstm"):
        train_model(replace(tuned(parent, Tune.RECALIBRATE), parent=other))
    with pytest.raises(ModelError, match="tunes a model, or names none"):
        replace(job(LONGER, tmp_path, BASE), parent=parent)


def test_a_written_tuning_job_names_the_model(parent: Path, tmp_path: Path) -> None:
    written = tuned(parent, Tune.LAST)
    back = read_job(write_job(written, tmp_path))
    assert (back.parent, back.settings) == (parent, written.settings)


@pytest.mark.parametrize("kind", NetworkKind)
def test_every_encoder_names_its_last_layer(kind: NetworkKind) -> None:
    config = replace(config_of(job(LONGER[:96], Path(), BASE)), kind=kind)
    last = list(ENCODERS[kind](config).last_layer())
    named = [name for name, _ in Network(config).named_parameters() if name.startswith("encoder.")]
    assert 0 < len(last) < len(named)
