"""Settings choose who predicts the covariance; the worker's process computes it for any run."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from adapters.history.covariates import ALL, read_series, series_path, write_series
from adapters.history.parquet_file import Rates, read_rates, write_rates
from daemon.domain.covariance import Covariance, Factors
from daemon.domain.covariates import Series, hourly_funding
from daemon.domain.failures import ConfigurationError, ModelError
from daemon.domain.messages import FundingRates
from daemon.domain.units import HOUR_MS
from daemon.status.values import covariance_values
from daemon.wiring.backtest import run_backtest
from daemon.wiring.covariance_columns import RunningColumns
from strategies.covariance.columns import BTC_VOLATILITY, day_volatility, middle_known
from strategies.covariance.recurrent import SEQUENCE, STATE
from strategies.covariance.recurrent_store import KIND, SCHEMA, RecurrentManifest, reads, save
from strategies.covariance.recurrent_training import HIDDEN, Corrector
from strategies.factor_form import factors_of
from tests.wiring.small_market import FIRST_MS, VENUE, small_settings, write_market

ASKS = "covariance.estimator=ewma"


def fitted_network(*beside: str) -> tuple[RecurrentManifest, dict[str, np.ndarray]]:
    """Give a network that says something and reads such columns, as a race would leave it."""
    names = (BTC_VOLATILITY, *beside)
    torch.manual_seed(5)
    model = Corrector(len(SEQUENCE) + len(names)).double()
    with torch.no_grad():
        model.head.weight.normal_(0.0, 0.5)
    size = len(SEQUENCE) + len(names) + len(STATE)
    manifest = RecurrentManifest(
        schema=SCHEMA,
        kind=KIND,
        reads=reads(),
        covariates=names,
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


@pytest.mark.parametrize("name", ["theory", "theory_permuted"])
def test_one_that_knows_a_taxonomy_is_told_the_coins_of_the_run(market: Path, name: str) -> None:
    asks: tuple[str, ...] = (f"covariance.estimator={name}", "covariance.volatility=har")
    asks += ("covariance.gap_max=2", "covariance.excess_max=100")
    found = run_backtest(small_settings(market, *asks)).engine.state.covariance
    assert found is not None
    assert found.estimator == f"har+{name}"
    assert found.note == ""


def test_weights_that_are_made_by_it_get_it_in_factor_form(market: Path) -> None:
    assert _last(market, "closed_form").factors is None
    found = _last(market, "mean_variance")
    assert found.factors is not None
    made = factors_of(found)  # by this process
    for ours, theirs in ((made.specific, found.factors.specific), *_products(made, found.factors)):
        np.testing.assert_allclose(theirs, ours, rtol=1e-9, atol=1e-15)


def _last(market: Path, weights: str) -> Covariance:
    plain = small_settings(market, ASKS, "estimator.kind=momentum")
    chosen = {"name": "neutral", "parameters": {"weights": weights}}
    strategy = plain.strategy.model_copy(update=chosen)
    run = run_backtest(plain.model_copy(update={"strategy": strategy}))
    solved = [d.target.solved for d in run.decisions if d.target and d.target.solved]
    assert bool(solved) == (weights == "mean_variance")
    assert run.engine.state.covariance is not None
    return run.engine.state.covariance


def _products(one: Factors, other: Factors) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(one.loadings @ one.loadings.T, other.loadings @ other.loadings.T)]


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


VIX = "series:outside/vix"
HOURS = FIRST_MS + HOUR_MS * np.arange(1, 8 * 24, dtype=np.int64)


def with_vix(folder: Path, values: np.ndarray) -> Path:
    """Write a value for each hour, known half an hour later."""
    at = HOURS - HOUR_MS
    path = series_path(folder, "outside", ALL, "vix")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_series(path, Series(at, at + HOUR_MS // 2, values), {})
    return path


def test_a_run_reads_the_columns_that_its_network_was_fitted_with(
    tmp_path: Path, market: Path
) -> None:
    folder = Path(shutil.copytree(market, tmp_path / "market"))
    values = np.random.default_rng(1).normal(0.0, 1.0, len(HOURS))
    learned, weights = fitted_network(VIX, "funding")
    network = save(learned, weights, tmp_path)
    patient = ("covariance.gap_max=1", "covariance.excess_max=10")  # it was never fitted
    chosen = ("covariance.estimator=recurrent", f"covariance.model={network}", *patient)

    def said() -> Covariance:
        found = run_backtest(small_settings(folder, *chosen)).engine.state.covariance
        assert found is not None
        assert found.note == ""
        return found

    with pytest.raises(ModelError, match=r"series:outside/vix'.*import-series brings one"):
        said()
    with_vix(folder, values)
    first = said()
    with_vix(folder, np.where(first.as_of_ms < HOURS, 99.0, values))
    assert np.array_equal(said().correlation, first.correlation), "known after it was asked"
    with_vix(folder, values + 10.0 * (first.as_of_ms - 10 * HOUR_MS < HOURS))
    assert not np.array_equal(said().correlation, first.correlation)
    with_vix(folder, values)
    for path in (folder / "funding").rglob("*.parquet"):
        rates = read_rates(path)
        about = {"venue": VENUE, "symbol": path.stem}
        write_rates(path, Rates(rates.settle_ms, rates.rates * 50.0), about)
    assert not np.array_equal(said().correlation, first.correlation)


def test_columns_of_a_run_are_those_of_the_race(tmp_path: Path) -> None:
    symbols = ("ETHUSDT", "BTCUSDT")
    draw = np.random.default_rng(2)
    vix = with_vix(tmp_path, draw.normal(0.0, 1.0, len(HOURS)))
    names = (BTC_VOLATILITY, VIX, "funding")
    config = {"symbols": symbols, "series_root": str(tmp_path), "venue": VENUE}
    columns = RunningColumns(names, config)
    settled = FIRST_MS + 8 * HOUR_MS * np.arange(1, 24, dtype=np.int64)
    paid = draw.normal(1e-4, 1e-4, (len(settled), 2))
    for at, rates in zip(settled.tolist(), paid, strict=True):
        columns.note(FundingRates(at, rates, np.ones(2)))
    returns = draw.normal(0.0, 0.01, (len(HOURS), 2))
    found = columns.at(HOURS, returns)
    funding = [hourly_funding(settled, paid[:, n]) for n in range(2)]
    assert np.array_equal(found[:, 0], day_volatility(returns[:, 1]), equal_nan=True)
    assert np.array_equal(found[:, 1], middle_known([read_series(vix)], HOURS), equal_nan=True)
    assert np.array_equal(found[:, 2], middle_known(funding, HOURS), equal_nan=True)
    assert np.isfinite(found[24:]).all()
    part = columns.at(HOURS[-100:], returns[-100:])
    assert np.array_equal(part[23:], found[-77:]), "a run that began later says the same"
