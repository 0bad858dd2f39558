"""Hold DCC and cDCC to worked steps, to a planted process and to a likelihood written out."""

from itertools import pairwise

import numpy as np
import pytest

from daemon.domain.bar import Floats
from strategies.covariance import dcc
from strategies.covariance.dcc import DccCorrelation, dcc_step, fitted
from tests.strategies.covariance.returns import drawn

S = np.array([[1.0, 0.4], [0.4, 1.0]])
Z = np.array([1.5, -1.0])


def rho(Q: Floats) -> float:
    return float(Q[0, 1] / np.sqrt(Q[0, 0] * Q[1, 1]))


def test_one_step_is_as_published() -> None:
    Q = np.array([[1.0, 0.5], [0.5, 1.0]])
    moved = dcc_step(Q, Z, S, 0.03, 0.95, is_corrected=False)
    assert moved.ravel() == pytest.approx([1.0375, 0.438, 0.438, 1.0], rel=1e-12)
    assert rho(moved) == pytest.approx(0.430011, abs=5e-7)


@pytest.mark.parametrize(("is_corrected", "wanted"), [(False, 0.415565), (True, 0.412317)])
def test_the_correction_makes_the_published_difference(is_corrected: bool, wanted: float) -> None:
    Q = np.array([[1.2, 0.5], [0.5, 0.9]])
    moved = dcc_step(Q, Z, S, 0.03, 0.95, is_corrected=is_corrected)
    assert rho(moved) == pytest.approx(wanted, abs=5e-7)


def test_a_product_that_is_not_seen_is_taken_to_be_the_target() -> None:
    Q = np.array([[1.2, 0.5], [0.5, 0.9]])
    moved = dcc_step(Q, np.array([1.5, np.nan]), S, 0.03, 0.95, is_corrected=False)
    assert moved[0, 1] == pytest.approx(0.05 * 0.4 + 0.95 * 0.5)
    assert moved[1, 1] == pytest.approx(0.05 + 0.95 * 0.9)


def planted(T: int, N: int, a: float, b: float, seed: int = 11) -> Floats:
    """Draw z from cDCC with equal correlations of 0.4 in the long run."""
    rng = np.random.default_rng(seed)
    target = np.full((N, N), 0.4) + 0.6 * np.eye(N)
    Q, z = target, np.zeros((T, N))
    for t in range(T):
        root = np.sqrt(np.diagonal(Q))
        z[t] = np.linalg.cholesky(Q / root[:, None] / root) @ rng.standard_normal(N)
        y = root * z[t]
        Q = (1 - a - b) * target + a * np.outer(y, y) + b * Q
    return z


def test_a_planted_process_is_recovered() -> None:
    z = planted(6_000, 5, 0.03, 0.95)
    model = DccCorrelation(is_corrected=True)
    model.begin(z)
    a, b = model.parameters
    assert a == pytest.approx(0.03, abs=0.006)
    assert b == pytest.approx(0.95, abs=0.012)


def likelihood_by_loops(z: Floats, a: float, b: float, *, is_corrected: bool) -> float:
    """Go through pairs and rows one by one; in cDCC find S from y first."""
    order = np.argsort(z.sum(axis=0))
    total = 0.0
    for i, j in pairwise(order):
        pair = z[:, [i, j]]
        q, y = np.ones(2), pair.copy()
        if is_corrected:
            for t, row in enumerate(pair):
                y[t] = np.sqrt(q) * row
                q = 1 - a - b + a * y[t] ** 2 + b * q
        s = (y[:, 0] @ y[:, 1]) / np.sqrt((y[:, 0] @ y[:, 0]) * (y[:, 1] @ y[:, 1]))
        target = np.array([[1.0, s], [s, 1.0]])
        Q = target
        for row in pair:
            r = rho(Q)
            R = np.array([[1.0, r], [r, 1.0]])
            total -= 0.5 * (np.log(np.linalg.det(R)) + row @ np.linalg.inv(R) @ row)
            Q = dcc_step(Q, row, target, a, b, is_corrected=is_corrected)
    return total


@pytest.mark.parametrize("is_corrected", [False, True])
def test_the_likelihood_is_its_terms_and_the_fit_is_its_maximum(is_corrected: bool) -> None:
    z = planted(400, 4, 0.05, 0.9)
    z /= np.sqrt(np.mean(z**2, axis=0))
    a, b = fitted(z, is_corrected=is_corrected)
    ordered = z[:, np.argsort(z.sum(axis=0))]
    both = np.ones((400, 3), dtype=np.bool_)
    best = dcc._composite(ordered, both, a, b, is_corrected=is_corrected)
    wanted = likelihood_by_loops(z, a, b, is_corrected=is_corrected)
    assert best == pytest.approx(wanted, rel=1e-10)
    for other in ((a + 0.01, b), (a, b - 0.02), (a / 2, b), (0.01, 0.98), (0.1, 0.5)):
        assert dcc._composite(ordered, both, *other, is_corrected=is_corrected) < best


@pytest.mark.parametrize("is_corrected", [False, True])
def test_a_change_of_correlation_is_followed(is_corrected: bool) -> None:
    rng = np.random.default_rng(2)
    common, own = rng.standard_normal((2_000, 1)), rng.standard_normal((2_000, 4))
    share = np.where(np.arange(2_000) < 1_000, 0.1, 0.8)[:, None]
    z = np.sqrt(share) * common + np.sqrt(1 - share) * own
    model = DccCorrelation(is_corrected=is_corrected)
    model.begin(z)
    R = model.correlation(0)
    assert np.mean(R[np.triu_indices(4, 1)]) > 0.65
    a, b = model.parameters
    assert 0 < a < a + b < 1


def test_one_instrument_or_hardly_any_rows_take_typical_parameters() -> None:
    for z in (drawn(500, 1), drawn(30, 3), np.full((300, 3), np.nan), np.zeros((300, 3))):
        model = DccCorrelation(is_corrected=True)
        model.begin(z)
        assert model.parameters == dcc.TYPICAL
        assert np.isfinite(model.correlation(0)).all()
