"""Throw any returns at every estimator: a covariance must come, whatever the columns are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain.bar import Floats
from strategies.covariance.known import known_estimators, known_volatilities, make_estimator
from tests.strategies.covariance.returns import at_hour, drawn

KINDS = ("plain", "constant", "stalled", "newborn", "gone", "holes", "copy", "wick", "empty")
NAMES = [("ewma", volatility) for volatility in known_volatilities()]
NAMES += [(name, "ewma") for name in known_estimators() if name != "ewma"]


def made(kinds: list[str], T: int, seed: int) -> Floats:
    """Draw one column of each kind."""
    rng = np.random.default_rng(seed)
    returns = drawn(T, len(kinds), seed)
    for k, kind in enumerate(kinds):
        column = returns[:, k]
        match kind:
            case "constant":
                column[:] = 0.0
            case "stalled":
                column[rng.integers(T) :] = 0.0
            case "newborn":
                column[: rng.integers(T)] = np.nan
            case "gone":
                column[rng.integers(T) :] = np.nan
            case "holes":
                column[rng.random(T) < rng.random()] = np.nan
            case "copy":
                column[:] = returns[:, 0]
            case "wick":
                column[rng.integers(T)] = rng.choice([-np.inf, -5.0, 5.0, np.inf])
            case "empty":
                column[:] = np.nan
            case _:
                pass
    return returns


@pytest.mark.parametrize(("name", "volatility"), NAMES)
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=7),
    T=st.sampled_from([0, 1, 30, 60, 100, 260]),
    hour=st.integers(0, 23),
    seed=st.integers(0, 1_000),
)
@settings(max_examples=8, deadline=None, derandomize=True)
def test_any_returns_give_a_covariance_that_does_not_depend_on_the_order(
    name: str, volatility: str, kinds: list[str], T: int, hour: int, seed: int
) -> None:
    returns = made(kinds, T, seed) if T else np.zeros((0, len(kinds)))
    N = len(kinds)
    coins = [f"C{k}" if k % 2 else ("BTC", "ETH", "SOL", "LTC")[k // 2] for k in range(N)]
    chosen = {"volatility": volatility, "window_hours": 100}
    found = make_estimator(name, chosen, coins).forecast(returns, None, at_hour(hour))
    assert found.problem(N) is None
    few = np.isfinite(returns).sum(axis=0) < 48
    assert np.isnan(found.volatility[few]).all()
    alone = ~np.isfinite(found.volatility)
    np.testing.assert_array_equal(found.correlation[alone], np.eye(N)[alone])
    order = np.random.default_rng(seed).permutation(N)
    moved = make_estimator(name, chosen, [coins[k] for k in order]).forecast(
        returns[:, order], None, at_hour(hour)
    )
    np.testing.assert_allclose(moved.volatility, found.volatility[order], rtol=1e-5)
    wanted = found.correlation[np.ix_(order, order)]
    np.testing.assert_allclose(moved.correlation, wanted, atol=1e-5)
