"""Settings choose who predicts the covariance; the worker's process computes it for any run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from daemon.domain.failures import ConfigurationError
from daemon.status.values import covariance_values
from daemon.wiring.backtest import run_backtest
from tests.wiring.small_market import small_settings, write_market

ASKS = "covariance.estimator=ewma"


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
