"""Training as users start it: a model of the kind asked for, in the registry, fit to be traded."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.model_store import ModelStore
from adapters.trial_ledger import TrialLedger
from daemon import cli
from daemon.domain.failures import ConfigurationError, ModelError
from daemon.domain.units import DAY_MS, utc
from daemon.settings import Settings, load_settings
from daemon.wiring.backtest import run_backtest
from daemon.wiring.estimator import list_models, model_facts, promote_model, rollback_model
from daemon.wiring.training import (
    Trained,
    TrainingProgress,
    bars_from_files,
    promote_first,
    train,
    train_settings,
    train_unlogged,
)
from daemon.wiring.trials import different_trials, read_trials
from strategies.forecast import checkpoint
from strategies.forecast.training.fitting import TRAINERS
from strategies.forecast.training.job import Origin, OriginKind, TrainSettings
from tests.simulation.paper_line import ORIGIN_MS, generated_market

ROOT = Path(__file__).resolve().parents[2]
DAYS, TRAINED_DAYS = 52, 40
END_MS = ORIGIN_MS + TRAINED_DAYS * DAY_MS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("market")
    generated_market(place, days=DAYS)
    return place


def options(folder: Path, *more: str) -> list[str]:
    return [
        f"backtest.data_folder={folder}",
        f"backtest.rules_file={ROOT / 'config' / 'trading_rules.toml'}",
        "backtest.report=",
        f"evaluation.trials_file={folder / 'trials.jsonl'}",
        f"estimator.models_folder={folder / 'models'}",
        "estimator.kind=model",
        'strategy.parameters={"breadth_min": 3, "friction_max": 100.0}',
        'market.timeframes=["1h"]',
        "market.window_bars=150",
        "training.kind=ridge",
        f"training.days={TRAINED_DAYS}",
        *more,
    ]


def settings(folder: Path, *more: str) -> Settings:
    base = [ROOT / "config" / "backtest.toml"]
    return load_settings(base, overrides=options(folder, *more), environment={})


Fitted = tuple[Trained, list[TrainingProgress]]


@pytest.fixture(scope="module")
def fitted(folder: Path) -> Fitted:
    """Train on the first part and make the model the champion."""
    chosen = settings(folder, f"backtest.until={utc(END_MS).isoformat()}")
    told: list[TrainingProgress] = []
    trained = train(chosen, bars_from_files(chosen), told.append)
    assert promote_first(chosen, trained.model_id)
    return trained, told


def test_the_kind_that_settings_name_is_trained_and_kept_in_the_registry(
    folder: Path, fitted: Fitted
) -> None:
    trained, told = fitted
    assert trained.kind == "ridge"
    assert [(p.done_steps, p.total_steps, p.rank_ic) for p in told] == [(100, 100, None)]
    assert trained.path.parent == folder / "models"
    manifest = checkpoint.load(trained.path).manifest
    assert (manifest.kind, manifest.data.to_ms) == ("ridge", END_MS)
    (only,) = list_models(settings(folder))
    assert (only.model_id, only.kind, only.is_champion) == (trained.model_id, "ridge", True)


def test_a_training_is_a_trial_of_whoever_trades_its_model(
    folder: Path, fitted: Fitted, tmp_path: Path
) -> None:
    ledger = f"evaluation.trials_file={tmp_path / 'trials.jsonl'}"
    until = f"backtest.until={utc(END_MS).isoformat()}"
    models = f"estimator.models_folder={tmp_path}"
    for seed in (7, 7, 2):
        chosen = settings(folder, until, ledger, models, f"training.seed={seed}")
        trained = train(chosen, bars_from_files(chosen), lambda _: None)
        assert (trained.model_id == fitted[0].model_id) is (seed == 7)
    logged = TrialLedger(tmp_path / "trials.jsonl").read().trials
    assert [(one.command, one.days, one.sharpe) for one in logged] == [("train", [], None)] * 3
    first = logged[0]
    assert first.training is not None
    assert (first.training.model, first.training.kind) == (fitted[0].model_id, "ridge")
    assert [score["timeframe_minutes"] for score in first.training.scores] == [60]
    assert str(folder) not in json.dumps(first.configuration), "no folder of this machine"
    assert (first.first_ms, first.last_ms) < (END_MS, END_MS + 1)
    assert [one.repeats for one in different_trials(logged)] == [1, 0]
    # the test period shares no price with the training, yet the trainings count beside the run
    run = run_backtest(settings(folder, ledger, f"backtest.since={utc(END_MS).isoformat()}")).run
    beside = read_trials(tmp_path / "trials.jsonl", data_fingerprint=run.facts.fingerprint)
    # the training of the model that ran is one attempt together with the run
    assert (beside.tried_n, beside.trained_n) == (2, 1)
    other = settings(folder, until, ledger, models, "training.days=30")
    train(other, bars_from_files(other), lambda _: None)
    beside = read_trials(tmp_path / "trials.jsonl", data_fingerprint=run.facts.fingerprint)
    assert (beside.tried_n, beside.trained_n) == (3, 2)


def test_a_training_whose_trial_could_not_be_logged_does_not_begin(folder: Path) -> None:
    chosen = settings(folder, f"evaluation.trials_file={folder / 'ohlcv'}")
    bars, told = bars_from_files(chosen), list[TrainingProgress]()
    with pytest.raises(ConfigurationError, match=r"evaluation\.trials_file"):
        train(chosen, bars, told.append)
    assert told == []


def test_a_ridge_trades_a_backtest_after_its_training(folder: Path, fitted: Fitted) -> None:
    run = run_backtest(settings(folder, f"backtest.since={utc(END_MS).isoformat()}")).run
    assert fitted[0].model_id[:12] in run.facts.strategy
    assert not any("IN SAMPLE" in one for one in run.facts.caveats)
    assert len(run.decisions) > 200
    assert any(decision.orders for decision in run.decisions)


def test_a_ridge_of_a_generated_market_is_refused_on_real_prices(
    folder: Path, tmp_path: Path
) -> None:
    own = (f"estimator.models_folder={tmp_path}", f"backtest.until={utc(END_MS).isoformat()}")
    chosen = settings(folder, *own)
    generated = Origin(OriginKind.GENERATED, "rehearsal market, seed 3")
    bars = replace(bars_from_files(chosen), origin=generated)
    promote_first(chosen, train(chosen, bars, lambda _: None).model_id)
    facts = model_facts(chosen)
    assert facts is not None
    assert (facts.kind, facts.is_generated) == ("ridge", True)
    with pytest.raises(ModelError, match="learned from a generated market"):
        run_backtest(chosen)


def test_a_ridge_is_not_asked_for_timeframes_that_it_does_not_know(
    folder: Path, fitted: Fitted
) -> None:
    with pytest.raises(ModelError, match="no 2h forecasts; the model knows 1h"):
        run_backtest(settings(folder, 'market.timeframes=["1h", "2h"]'))


def test_the_command_trains_the_kind_asked_for(
    folder: Path, fitted: Fitted, capsys: pytest.CaptureFixture[str]
) -> None:
    until = f"backtest.until={utc(END_MS).isoformat()}"
    chosen = [word for one in options(folder, until) for word in ("--set", one)]
    chosen = [word.replace("training.kind=ridge", "training.kind=bilstm") for word in chosen]
    assert cli.run(["train", "--on", "files", "--kind", "ridge", "--json", *chosen]) == 0
    card: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (card["kind"], card["model"]) == ("ridge", fitted[0].model_id), "the same to the bit"
    assert [one["timeframe_minutes"] for one in card["scores"]] == [60]
    assert cli.run(["models", "--json", *chosen]) == 0
    assert [one["kind"] for one in json.loads(capsys.readouterr().out)["models"]] == ["ridge"]


def test_a_model_that_could_not_forecast_takes_nobodys_place(
    folder: Path, fitted: Fitted, tmp_path: Path
) -> None:
    chosen = settings(folder, f"estimator.models_folder={tmp_path}")
    good = checkpoint.load(fitted[0].path)
    promote_model(chosen, checkpoint.save(good.manifest, good.weights, tmp_path).name)
    broken = {
        "nan": {name: np.full_like(w, np.nan) for name, w in good.weights.items()},
        "short": {name: w[:, :-1].copy() for name, w in good.weights.items()},
    }
    for why, weights in broken.items():
        bad = checkpoint.save(replace(good.manifest, parent=why), weights, tmp_path)
        with pytest.raises(ModelError, match=f"{bad.name}"):
            promote_model(chosen, bad.name)
    facts = model_facts(chosen)
    assert facts is not None
    assert facts.model_id == good.model_id


def test_what_a_start_would_refuse_is_neither_promoted_nor_gone_back_to(
    folder: Path, fitted: Fitted, tmp_path: Path
) -> None:
    chosen = settings(folder, f"estimator.models_folder={tmp_path}")
    mine = checkpoint.load(fitted[0].path)
    real = replace(mine.manifest, origin=Origin(OriginKind.FILES, "binanceusdm"))
    made = replace(mine.manifest, origin=Origin(OriginKind.GENERATED, "seed 7"))
    good, foreign = (checkpoint.save(m, mine.weights, tmp_path).name for m in (real, made))
    promote_model(chosen, good)
    with pytest.raises(ModelError, match="learned from a generated market"):
        promote_model(chosen, foreign)
    other = settings(folder, f"estimator.models_folder={tmp_path}", 'market.timeframes=["2h"]')
    with pytest.raises(ModelError, match="no 2h forecasts; the model knows 1h"):
        promote_model(other, good)
    short = settings(folder, f"estimator.models_folder={tmp_path}", "market.window_bars=140")
    with pytest.raises(ModelError, match=r"market\.window_bars = 140"):
        promote_model(short, good)
    facts = model_facts(chosen)
    assert facts is not None
    assert facts.model_id == good

    practice = settings(
        folder, f"estimator.models_folder={tmp_path}", "estimator.allow_foreign_model=true"
    )
    promote_model(practice, foreign)
    ModelStore(tmp_path).promote(good)
    with pytest.raises(ModelError, match="learned from a generated market"):
        rollback_model(chosen)
    facts = model_facts(chosen)
    assert facts is not None
    assert facts.model_id == good, "the old one is still the champion"
    rollback_model(practice)
    with pytest.raises(ModelError, match="learned from a generated market"):
        run_backtest(chosen)
    rollback_model(chosen)
    with pytest.raises(ModelError, match="no earlier champion"):
        rollback_model(chosen)


def test_an_unknown_kind_is_named_with_what_is_accepted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.run(["train", "--kind", "prophet"]) == ConfigurationError.exit_code
    said = capsys.readouterr().err
    assert (
        'training.kind = "prophet"; accepted: one of bilstm, lstm, gru, tcn, transformer, ridge,'
        in said
    )


def test_every_kind_that_settings_accept_has_a_trainer_and_can_be_loaded() -> None:
    for kind in TRAINERS:
        assert load_settings(overrides=[f"training.kind={kind}"], environment={}).training.kind
    assert set(TRAINERS) == set(checkpoint.KINDS)


def test_every_setting_of_a_kind_reaches_its_training() -> None:
    chosen = {
        "seed": 3,
        "seeds_n": 4,
        "folds_n": 3,
        "budget_s": 9.0,
        "kind": "gru",
        "hidden_size": 24,
        "layers_n": 2,
        "embedding_size": 16,
        "sequence_bars": 40,
        "cross_asset": True,
        "batch_rows": 99,
        "learning_rate": 0.01,
        "feature_dropout": 0.11,
        "time_dropout": 0.12,
        "weight_drop": 0.13,
        "zoneout": 0.14,
        "dropout": 0.15,
        "weight_decay": 0.16,
        "weight_averaging": True,
        "ic_loss": False,
        "list_loss": "listmle",
        "device": "auto",
        "precision": "bf16",
        "trees_n": 44,
        "leaf_share": 0.07,
        "selection": "lasso",
        "components": 9,
        "members": ["ridge", "gru"],
    }
    loaded = load_settings(
        overrides=[
            f"training.{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in chosen.items()
        ],
        environment={},
    )
    renamed = {
        "seeds_n": "members",
        "folds_n": "folds",
        "budget_s": "budget_seconds",
        "kind": "network",
        "hidden_size": "hidden",
        "layers_n": "layers",
        "embedding_size": "embedding",
        "trees_n": "trees",
        "members": "stack",
    }
    found = asdict(train_settings(loaded.training))
    found["stack"] = list(found["stack"])
    assert {k: found[renamed.get(k, k)] for k in chosen} == chosen
    untold = {"lag_bars", "stop_share", "test_share", "steps", "tune", "shuffled"}
    assert set(found) == {renamed.get(k, k) for k in chosen} | untold


@pytest.mark.parametrize("kind", ["tcn", "transformer"])
@pytest.mark.parametrize("rung", ["weight_drop", "zoneout"])
def test_a_rung_that_a_kind_does_not_have_is_refused(kind: str, rung: str) -> None:
    asked = [f"training.kind={kind}", f"training.{rung}=0.1"]
    loaded = load_settings(overrides=asked, environment={})
    words = rf"training\.{rung} = 0.1: a {kind} has no recurrent states; accepted is 0"
    with pytest.raises(ConfigurationError, match=words):
        train_settings(loaded.training)


@pytest.mark.timeout(120)
def test_a_child_that_says_more_than_a_pipe_holds_is_waited_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONVERBOSE", "1")  # every import is told on stderr
    chosen = settings(folder, f"estimator.models_folder={tmp_path}")
    assert train_unlogged(chosen, bars_from_files(chosen), lambda _: None).kind == "ridge"


def test_a_training_inherits_no_key_of_a_venue_and_has_one_thread_a_library(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EQUIPOISE_BINANCEUSDM_API_KEY", "a key")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("EQUIPOISE_ELSE", "stays")
    monkeypatch.setitem(TRAINERS, "ridge", "tests.wiring.environment_trainer")
    chosen = settings(folder, f"estimator.models_folder={tmp_path}")
    with pytest.raises(ModelError) as told:
        train_unlogged(chosen, bars_from_files(chosen), lambda _: None)
    seen = json.loads(str(told.value))
    assert "EQUIPOISE_BINANCEUSDM_API_KEY" not in seen
    assert seen["EQUIPOISE_ELSE"] == "stays"
    for library in ("OMP", "MKL", "OPENBLAS"):
        assert seen[f"{library}_NUM_THREADS"] == "1"


def test_a_training_on_funding_that_is_not_there_names_key_and_folder(folder: Path) -> None:
    asked = ('training.covariates=["funding"]', "backtest.funding_venue=nowhere")
    chosen = settings(folder, *asked)
    words = r'training\.covariates = \["funding"\]: no instrument has settled rates in .*SYMBOL'
    with pytest.raises(ConfigurationError, match=words) as told:
        bars_from_files(chosen)
    assert str(folder) in str(told.value)
    assert "accepted is a folder that holds them" in str(told.value)


BOUNDED = (
    ("budget_s", "budget_seconds", 1_000_000),
    ("seeds_n", "members", 20),
    ("folds_n", "folds", 12),
    ("hidden_size", "hidden", 256),
    ("seed", "seed", 2**31 - 1),
    ("layers_n", "layers", 4),
    ("embedding_size", "embedding", 256),
    ("sequence_bars", "sequence_bars", 512),
    ("batch_rows", "batch_rows", 65_536),
)


@pytest.mark.parametrize(("key", "field", "most"), BOUNDED)
def test_what_settings_accept_a_training_accepts(key: str, field: str, most: int) -> None:
    accepted = load_settings(overrides=[f"training.{key}={most}"], environment={})
    assert getattr(accepted.training, key) == most
    bound: dict[str, Any] = {field: most}
    assert getattr(replace(TrainSettings(), **bound), field) == most
    with pytest.raises(ConfigurationError, match=f"training.{key} = {most + 1}; accepted"):
        load_settings(overrides=[f"training.{key}={most + 1}"], environment={})
    bound[field] += 1
    with pytest.raises(ConfigurationError, match=f"train.{field} = {most + 1}: accepted"):
        replace(TrainSettings(), **bound)


def test_a_model_whose_windows_settings_do_not_keep_is_refused_at_the_start(
    folder: Path, fitted: Fitted
) -> None:
    with pytest.raises(ModelError, match=r"windows of 143 bars and market\.window_bars = 140"):
        run_backtest(settings(folder, "market.window_bars=140"))


def test_a_network_of_the_registry_is_tuned_and_does_not_trade_unasked(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ("training.kind=gru", "training.seeds_n=1", "training.hidden_size=4")
    own = (f"estimator.models_folder={tmp_path}", "training.budget_s=1", *small)
    first = settings(folder, *own, f"backtest.until={utc(END_MS).isoformat()}")
    parent = train(first, bars_from_files(first), lambda _: None)
    promote_first(first, parent.model_id)
    words = [w for one in options(folder, *own, "training.days=52") for w in ("--set", one)]
    command = ["train", "--on", "files", "--json", "--from", "champion", *words]
    assert cli.run([*command, "--set", "training.hidden_size=8"]) == 0
    card = json.loads(capsys.readouterr().out)
    manifest = checkpoint.load(tmp_path / card["model"]).manifest
    assert (card["kind"], manifest.parent) == ("gru", parent.model_id)
    assert (manifest.settings.tune, manifest.settings.hidden) == ("recalibrate", 4)
    assert manifest.data.to_ms > END_MS
    facts = model_facts(first)
    assert facts is not None
    assert facts.model_id == parent.model_id, "the champion is the same"
    assert cli.run(["train", "--from", "champion", "--kind", "gru"]) == ConfigurationError.exit_code
    assert "train --kind gru: a model that is tuned keeps its kind" in capsys.readouterr().err
    assert cli.run(["train", "--tune", "full"]) == ConfigurationError.exit_code
    assert "name the model with --from" in capsys.readouterr().err
