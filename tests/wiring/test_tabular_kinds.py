"""Trees and stacks as users train, list, walk forward and trade them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from adapters.history.predictions_file import read_predictions
from daemon import cli
from daemon.domain.failures import ConfigurationError
from daemon.domain.units import utc
from daemon.settings import load_settings
from daemon.wiring.backtest import run_backtest
from daemon.wiring.model_card import card_of
from daemon.wiring.training import bars_from_files, promote_first, train
from daemon.wiring.walk_forward import bars_to_walk, walk_forward
from strategies.forecast import checkpoint
from tests.simulation.paper_line import generated_market
from tests.wiring.test_training import DAYS, END_MS, options, settings

SMALL = ("training.trees_n=10", "training.leaf_share=0.05", "training.seeds_n=1")
UNTIL = f"backtest.until={utc(END_MS).isoformat()}"
SHARES = 'training.members=["lightgbm", "ridge"]'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("market")
    generated_market(place, days=DAYS)
    return place


def words(folder: Path, *more: str) -> list[str]:
    """Give the command line's words for some settings."""
    return [word for one in options(folder, *SMALL, *more) for word in ("--set", one)]


def test_a_stack_is_trained_listed_and_shows_what_it_is_made_of(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = (UNTIL, SHARES, f"estimator.models_folder={tmp_path}", "training.selection=lasso")
    asked = words(folder, *own)
    assert cli.run(["train", "--on", "files", "--kind", "stack", *asked]) == 0
    card = capsys.readouterr().out
    assert "60m is lightgbm " in card
    assert "60m ridge reads " in card
    assert cli.run(["models", "--json", *asked]) == 0
    (listed,) = json.loads(capsys.readouterr().out)["models"]
    assert listed["kind"] == "stack"
    assert [kind for kind, _ in listed["stacked"]] == ["lightgbm", "ridge"]
    assert sum(shares[0] for _, shares in listed["stacked"]) == pytest.approx(1.0)
    assert cli.run(["models", *asked]) == 0
    assert "made of" in capsys.readouterr().out


def test_trees_trade_a_backtest_after_their_training_and_name_their_columns(
    folder: Path, tmp_path: Path
) -> None:
    own = (*SMALL, "training.kind=forest", "training.selection=correlation")
    models = f"estimator.models_folder={tmp_path}"
    chosen = settings(folder, *own, models, UNTIL)
    trained = train(chosen, bars_from_files(chosen), lambda _: None)
    assert promote_first(chosen, trained.model_id)
    (names,) = checkpoint.load(trained.path).manifest.chosen
    assert card_of(chosen, trained.model_id).chosen == (names,)
    since = f"backtest.since={utc(END_MS).isoformat()}"
    run = run_backtest(settings(folder, *own, models, since)).run
    assert trained.model_id[:12] in run.facts.strategy
    assert any(decision.orders for decision in run.decisions)


def test_trees_and_stacks_are_walked_forward_and_found_again(folder: Path, tmp_path: Path) -> None:
    parts = ("walkforward.refit_days=20", "walkforward.stop_days=4", "walkforward.embargo_h=2")
    chosen = settings(folder, *SMALL, *parts, SHARES)
    bars = bars_to_walk(chosen)
    first = walk_forward(chosen, bars, ["lightgbm", "forest", "stack"], tmp_path, processes=1)
    for arm in first.arms:
        table = read_predictions(arm.path).table
        assert np.isfinite(table.prediction).any()
        assert arm.fitted_n == arm.fits_n
    again = walk_forward(chosen, bars, ["lightgbm", "forest", "stack"], tmp_path, processes=1)
    assert [arm.fitted_n for arm in again.arms] == [0, 0, 0]


def test_without_lightgbm_the_remedy_is_named_before_anything_is_read(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)  # what Python knows as not installed
    asked = words(folder, "backtest.data_folder=nowhere")
    for kind in ("lightgbm", "stack"):
        assert cli.run(["train", "--on", "files", "--kind", kind, *asked]) == (
            ConfigurationError.exit_code
        )
        said = capsys.readouterr().err
        assert "lightgbm, which is not installed: pip install 'lightgbm>=4.5,<5'" in said
    chosen = settings(folder)
    with pytest.raises(ConfigurationError, match="not installed"):
        walk_forward(chosen, bars_to_walk(chosen), ["ridge", "lightgbm"], folder / "walk")


@pytest.mark.parametrize("members", ["[]", '["ridge", "ridge"]', '["stack"]', '["prophet"]'])
def test_members_of_a_stack_are_known_kinds_each_once(members: str) -> None:
    with pytest.raises(ConfigurationError, match=r"training\.members"):
        load_settings(overrides=[f"training.members={members}"], environment={})
