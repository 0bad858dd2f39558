"""Settings choose who predicts the covariance; the worker's process computes it for any run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from daemon.domain.failures import ConfigurationError, ModelError
from daemon.status.values import covariance_values
from daemon.wiring.backtest import run_backtest
from strategies.covariance.recurrent import SEQUENCE, STATE
from strategies.covariance.recurrent_store import KIND, SCHEMA, RecurrentManifest, reads, save
from strategies.covariance.recurrent_training import HIDDEN, Corrector
from tests.wiring.small_market import small_settings, write_market

ASKS = "covariance.estimator=ewma"


def fitted_network() -> tuple[RecurrentManifest, dict[str, np.ndarray]]:
    """Give a network that says something and reads one column, as a race would leave it."""
    torch.manual_seed(5)
    model = Corrector(len(SEQUENCE) + 1).double()
    with torch.no_grad():
        model.head.weight.normal_(0.0, 0.5)
    size = len(SEQUENCE) + 1 + len(STATE)
    manifest = RecurrentManifest(
        schema=SCHEMA,
        kind=KIND,
        reads=reads(),
        covariates=("btc_volatility",),
        hidden=HIDDEN,
        centre=(0.0,) * size,
        spread=(1.0,) * size,
        seed=5,
        epochs=1,
        loss=1.0,
        ewma_loss=1.0,
        data="none",
        learned_from_ms=0,
        learned_until_ms=1,
    )
    return manifest, {name: one.detach().numpy() for name, one in model.named_parameters()}


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_market(tmp_path_factory.mktemp("market"), days=8)


def test_a_backtest_without_forecasts_has_it_and_decides_as_before(market: Path) -> None:
    plain = run_backtest(small_settings(market))
    beside = run_backtest(small_settings(market, ASKS))
    assert [d.digest for d in beside.decisions] == [d.digest for d in plain.decisions]
    assert plain.engine.state.covariance is None
    found = beside.engine.state.covariance
    assert found is not None
    assert found.problem(6) is None
    assert np.isfinite(found.volatility).all()
    shown = covariance_values(found)
    assert shown["estimator"] == "ewma+ewma"
    assert shown["hours_n"] > 100
    assert abs(shown["mean_correlation_came"]) < 0.3  # prices of this market move apart


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("covariance.estimator=ewmaa", "did you mean 'ewma'"),
        ("covariance.baseline=none", "no covariance estimator 'none'"),
        ("covariance.volatility=nothing", "volatility = 'nothing'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(
    market: Path, override: str, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        run_backtest(small_settings(market, ASKS, override))


def test_without_bars_of_an_hour_there_is_none(market: Path) -> None:
    with pytest.raises(ConfigurationError, match="is made of bars of 1h"):
        small_settings(market, ASKS, 'market.timeframes=["2h"]')


def test_a_recurrent_network_is_asked_by_its_folder(market: Path, tmp_path: Path) -> None:
    learned, weights = fitted_network()
    folder = save(learned, weights, tmp_path)
    chosen = ("covariance.estimator=recurrent", f"covariance.model={folder}")
    found = run_backtest(small_settings(market, *chosen)).engine.state.covariance
    assert found is not None
    assert found.estimator == "ewma+recurrent"
    assert found.note == ""
    with pytest.raises(ConfigurationError, match=r"covariance\.model is empty"):
        run_backtest(small_settings(market, chosen[0]))
    (folder / "weights.safetensors").write_bytes(b"\0" * 64)
    with pytest.raises(ModelError, match="its hash is not the one"):
        run_backtest(small_settings(market, *chosen))
