"""Hold every named estimator to the interface, and bad names and settings to clear errors."""

from pathlib import Path

import numpy as np
import pytest

from daemon.domain.bar import Floats
from daemon.domain.failures import ConfigurationError
from strategies.covariance.dcc import DccCorrelation
from strategies.covariance.ewma import EwmaCorrelation, EwmaVolatility
from strategies.covariance.garch import GarchVolatility
from strategies.covariance.joined import JoinedEstimator
from strategies.covariance.known import (
    known_estimators,
    known_volatilities,
    make_estimator,
    read_settings,
)
from tests.strategies.covariance.returns import COINS, at_hour, drawn, with_holes

T, N = 300, 6
NAMES = [("ewma", volatility) for volatility in known_volatilities()]
NAMES += [(name, "ewma") for name in known_estimators() if name != "ewma"]


@pytest.mark.parametrize(("name", "volatility"), NAMES)
def test_a_window_with_holes_newborns_and_stalled_prices_gives_a_covariance(
    name: str, volatility: str
) -> None:
    estimator = make_estimator(name, {"volatility": volatility}, COINS[:N])
    found = estimator.forecast(with_holes(drawn(T, N)), None, at_hour(7))
    assert found.problem(N) is None
    assert np.isfinite(found.volatility).all()
    assert found.estimator == estimator.name == f"{volatility}+{name}"


@pytest.mark.parametrize(("name", "volatility"), NAMES)
def test_stepping_through_two_days_is_starting_anew_at_each_hour(
    name: str, volatility: str
) -> None:
    returns = with_holes(drawn(T + 27, N))
    running = make_estimator(name, {"volatility": volatility}, COINS[:N])
    for hour in range(22, 27):
        window = returns[hour : hour + T]
        fresh = make_estimator(name, {"volatility": volatility}, COINS[:N])
        one = running.forecast(window, None, at_hour(hour))
        other = fresh.forecast(window, None, at_hour(hour))
        np.testing.assert_allclose(one.volatility, other.volatility, rtol=1e-9)
        np.testing.assert_allclose(one.correlation, other.correlation, atol=1e-9)


class _CountedCorrelation(EwmaCorrelation):
    """The correlation of ewma, which counts how often it was begun."""

    begun_n = 0

    def begin(self, z: Floats) -> None:
        self.begun_n += 1
        super().begin(z)


@pytest.mark.parametrize("rows_n", [144, 192, 312])
@pytest.mark.parametrize("grows", [True, False])
def test_models_begin_once_a_day_while_a_window_grows_or_moves(grows: bool, rows_n: int) -> None:
    returns, counted = with_holes(drawn(rows_n + 49, N)), _CountedCorrelation(168.0)
    running = JoinedEstimator("", EwmaVolatility(24.0), counted)
    for hour in range(24, 72):
        window = returns[0 if grows else hour - 24 : rows_n + hour - 24]
        one = running.forecast(window, None, at_hour(hour))
        fresh = JoinedEstimator("", EwmaVolatility(24.0), EwmaCorrelation(168.0))
        other = fresh.forecast(window, None, at_hour(hour))
        np.testing.assert_allclose(one.matrix, other.matrix, rtol=1e-9)
    assert counted.begun_n == 2


@pytest.mark.parametrize(("name", "volatility"), NAMES)
def test_permuting_the_instruments_permutes_the_forecast(name: str, volatility: str) -> None:
    returns = with_holes(drawn(T, N))
    order = np.random.default_rng(5).permutation(N)
    settings = {"volatility": volatility}
    straight = make_estimator(name, settings, COINS[:N]).forecast(returns, None, at_hour(3))
    coins = [COINS[k] for k in order]
    moved = make_estimator(name, settings, coins).forecast(returns[:, order], None, at_hour(3))
    np.testing.assert_allclose(moved.volatility, straight.volatility[order], rtol=1e-7)
    np.testing.assert_allclose(
        moved.correlation, straight.correlation[np.ix_(order, order)], atol=1e-7
    )


def test_what_a_run_holds_after_its_start_is_stepped_on_through_its_first_days() -> None:
    """A window of 200 bars gives 199 returns; they grow by one each hour."""
    returns, counted = with_holes(drawn(199 + 72, N)), _CountedCorrelation(168.0)
    running = JoinedEstimator("", EwmaVolatility(24.0), counted)
    for hour in range(7, 72):
        running.forecast(returns[: 199 + hour - 7], None, at_hour(hour))
    assert counted.begun_n == 3


def test_revised_bars_are_noticed() -> None:
    returns = drawn(T + 1, N)
    running = make_estimator("ewma")
    running.forecast(returns[:-1], None, at_hour(5))
    revised = returns.copy()
    revised[200, 0] += 0.05
    one = running.forecast(revised[1:], None, at_hour(6))
    other = make_estimator("ewma").forecast(revised[1:], None, at_hour(6))
    np.testing.assert_array_equal(one.matrix, other.matrix)


@pytest.mark.parametrize("name", ["ewma", "cdcc", "average_oracle"])
def test_what_was_seen_later_is_forgotten_when_an_earlier_hour_is_asked(name: str) -> None:
    returns = drawn(T + 2, N)
    running = make_estimator(name, {"volatility": "garch"}, COINS[:N])
    running.forecast(returns[2:], None, at_hour(7))
    one = running.forecast(returns[:-2], None, at_hour(5))
    fresh = make_estimator(name, {"volatility": "garch"}, COINS[:N])
    np.testing.assert_array_equal(one.matrix, fresh.forecast(returns[:-2], None, at_hour(5)).matrix)


@pytest.mark.parametrize("name", ["ewma", "lw_constant", "dcc", "average_oracle"])
def test_many_coins_born_together_do_not_seem_riskless_together(name: str) -> None:
    returns = drawn(900, 24)
    returns[:-50, :12] = np.nan
    found = make_estimator(name).forecast(returns, None, at_hour(0))
    assert found.problem(24) is None
    assert np.linalg.eigvalsh(found.correlation)[0] > 0.01
    newborn = found.correlation[:12, 12:]
    assert np.ptp(newborn, axis=0).max() < 0.1  # to an old one they all look alike
    assert abs(newborn.mean() - (found.correlation[12:, 12:].sum() - 12) / (12 * 11)) < 0.1
    returns[-420:, :12] = drawn(420, 12, seed=9)
    grown = make_estimator(name).forecast(returns, None, at_hour(0)).correlation
    assert np.ptp(grown[:12, 12:], axis=0).max() > 0.15


def test_pairs_measured_on_different_rows_leave_no_direction_without_risk() -> None:
    returns = drawn(900, 12)
    for k in range(12):
        returns[k * 70 : 500 + k * 35, k] = np.nan
    estimator = make_estimator("ewma", {"half_life_hours": 48})
    found = estimator.forecast(returns, None, at_hour(0))
    assert found.problem(12) is None
    assert np.linalg.eigvalsh(found.correlation)[0] > 0.02


def test_parameters_know_nothing_of_the_hours_since_midnight() -> None:
    models = []
    for spoiled in (False, True):
        returns = drawn(T, N)
        if spoiled:
            returns[-7:] *= 20.0
        model = DccCorrelation(is_corrected=False)
        volatility = GarchVolatility(is_asymmetric=False)
        JoinedEstimator("", volatility, model).forecast(returns, None, at_hour(7))
        models.append((model.parameters, volatility.variance()))
    assert models[0][0] == models[1][0]
    assert (models[0][1] < models[1][1]).all()


def test_a_taxonomy_needs_the_names_of_the_coins_and_may_be_another_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="needs the base coins"):
        make_estimator("theory")
    file = tmp_path / "tree.toml"
    file.write_text("version = 1\n[sectors]\n[coins]\n", encoding="utf-8")
    returns = drawn(T, N)
    flat, packaged = (
        make_estimator("theory", {"taxonomy": path}, COINS[:N]).forecast(returns, None, at_hour(0))
        for path in (str(file), "")
    )
    assert np.abs(flat.correlation - packaged.correlation).max() > 0.001


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ConfigurationError, match=r"no covariance estimator 'ewna' .*'ewma'.*sample"
    ):
        make_estimator("ewna")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"halflife_hours": 3}, "no setting 'halflife_hours' .*'half_life_hours'"),
        ({"half_life_hours": "long"}, "half_life_hours = 'long': want float"),
        ({"half_life_hours": 0.5}, "half_life_hours = 0.5: accepted are values from 2"),
        ({"window_hours": 10}, "window_hours = 10: accepted are values from 48"),
        ({"volatility": "grach"}, "volatility = 'grach'.*known: .*ewma"),
    ],
)
def test_a_bad_setting_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_estimator("ewma", settings)


def test_whole_numbers_are_welcome_where_numbers_are() -> None:
    assert read_settings({"half_life_hours": 48}).half_life_hours == 48.0
