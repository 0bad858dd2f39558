"""Hold linear and non-linear shrinkage to libraries, to plain loops and to planted truth."""

import numpy as np
import pytest
from sklearn.covariance import OAS, LedoitWolf

from daemon.domain.bar import Floats
from strategies.covariance.nonlinear import nonlinear_correlation, shrunk_eigenvalues
from strategies.covariance.shrinkage import (
    oracle_approximating,
    shrunk_correlation,
    to_constant_correlation,
    to_identity,
    to_one_factor,
)
from tests.strategies.covariance.returns import drawn

ROWS = np.array([(1, 2, 0), (2, 1, 1), (0, 1, 3), (3, 3, 1), (1, 0, 2), (2, 4, 0)], dtype=float)


def centred(x: Floats) -> Floats:
    return np.asarray(x - x.mean(axis=0))


def test_the_published_rows_are_shrunk_as_published() -> None:
    assert to_identity(centred(ROWS)).intensity == pytest.approx(0.406636, abs=5e-7)
    assert oracle_approximating(centred(ROWS)).intensity == pytest.approx(0.831430, abs=5e-7)


@pytest.mark.parametrize("shape", [(60, 8), (30, 50), (500, 20)])
def test_the_identity_target_is_that_of_scikit_learn(shape: tuple[int, int]) -> None:
    x = centred(100.0 * drawn(*shape))
    for theirs, ours in ((LedoitWolf(), to_identity(x)), (OAS(), oracle_approximating(x))):
        theirs.fit(x)
        assert ours.intensity == pytest.approx(theirs.shrinkage_, rel=1e-9)
        np.testing.assert_allclose(ours.matrix, theirs.covariance_, rtol=1e-9, atol=1e-12)


def loops(x: Floats, target: str) -> float:
    """Work out the intensity term by term, with derivatives of the target by small changes."""
    T, N = x.shape
    S, m = x.T @ x / T, x.mean(axis=1)
    root = np.sqrt(np.diag(S))
    r = np.mean([S[i, j] / root[i] / root[j] for i in range(N) for j in range(N) if i != j])
    c, v = np.array([np.mean(x[:, i] * m) for i in range(N)]), np.mean(m**2)

    def of(i: int, j: int, s_ii: float, s_jj: float, c_i: float, c_j: float, v_: float) -> float:
        if i == j:
            return s_ii
        return r * np.sqrt(s_ii * s_jj) if target == "constant" else c_i * c_j / v_

    gain, distance = 0.0, 0.0
    for i in range(N):
        for j in range(N):
            product = x[:, i] * x[:, j]
            noise = np.mean((product - S[i, j]) ** 2) / T
            moments = [S[i, i], S[j, j], c[i], c[j], v]
            rows = [x[:, i] ** 2, x[:, j] ** 2, x[:, i] * m, x[:, j] * m, m**2]
            covaried, step = 0.0, 1e-6
            for k, row in enumerate(rows):
                up, down = list(moments), list(moments)
                up[k] += step
                down[k] -= step
                slope = (of(i, j, *up) - of(i, j, *down)) / (2 * step)
                covaried += slope * np.mean((row - moments[k]) * (product - S[i, j])) / T
            gain += noise - (noise if i == j else covaried)
            distance += (S[i, j] - of(i, j, *moments)) ** 2
    return float(np.clip(gain / distance, 0.0, 1.0))


@pytest.mark.parametrize("target", ["constant", "factor"])
def test_other_targets_are_shrunk_to_as_plain_loops_say(target: str) -> None:
    x = centred(100.0 * drawn(80, 6))
    shrink = to_constant_correlation if target == "constant" else to_one_factor
    found = shrink(x)
    assert 0.0 < found.intensity < 1.0
    assert found.intensity == pytest.approx(loops(x, target), rel=1e-5)


@pytest.mark.parametrize("shrink", [to_identity, to_constant_correlation, to_one_factor])
def test_holes_change_a_little_and_complete_rows_beside_gaps_nothing(shrink: object) -> None:
    assert callable(shrink)
    x = drawn(300, 6)
    holed = np.vstack([np.full((40, 6), np.nan), x, np.full((3, 6), np.nan)])
    plain = shrunk_correlation(shrink)(x)
    np.testing.assert_allclose(shrunk_correlation(shrink)(holed), plain, atol=1e-12)
    holed[50:60, 2] = np.nan
    np.testing.assert_allclose(shrunk_correlation(shrink)(holed), plain, atol=0.1)


def test_pairs_that_share_too_few_rows_have_what_the_target_says() -> None:
    z = drawn(200, 5)
    z[:100, 0] = np.nan
    z[110:, 1] = np.nan
    assert shrunk_correlation(to_identity)(z)[0, 1] == 0.0
    target = to_constant_correlation(z / np.sqrt(np.nanmean(z**2, axis=0))).target
    assert shrunk_correlation(to_constant_correlation)(z)[0, 1] == pytest.approx(target[0, 1])


def eigenvalues_by_loops(values: Floats, n: int) -> list[float]:
    """Write the formula of full rank down once more, term by term."""
    N, h, root5 = len(values), n ** (-1 / 3), 5**0.5
    shrunk = []
    for own in values:
        f = hilbert = 0.0
        for other in values:
            x = (own - other) / (h * other)
            inside = 1 - x * x / 5
            f += 3 / (4 * root5 * h * other) * max(inside, 0.0) / N
            log = np.log(abs((root5 - x) / (root5 + x)))
            kernel = -3 * x / (10 * np.pi) + 3 / (4 * root5 * np.pi) * inside * log
            hilbert += kernel / (h * other) / N
        c = N / n
        shrunk.append(own / ((np.pi * c * own * f) ** 2 + (1 - c - np.pi * c * own * hilbert) ** 2))
    return shrunk


def test_the_nonlinear_formula_is_its_terms() -> None:
    values = np.array([0.2, 0.5, 0.9, 1.4, 4.0])
    assert shrunk_eigenvalues(values, 40) == pytest.approx(eigenvalues_by_loops(values, 40))


@pytest.mark.parametrize(("N", "T"), [(40, 80), (40, 720), (300, 150)])
def test_nonlinear_shrinkage_finds_what_each_direction_really_has(N: int, T: int) -> None:
    """The best value for a sample eigenvector u is u'Su with the true S, which a test knows."""
    rng = np.random.default_rng(4)
    truth = np.repeat([1.0, 3.0, 10.0], [N // 5, 2 * N // 5, N - N // 5 - 2 * N // 5])
    ours = sample = linear = 0.0
    for _ in range(4):
        x = rng.standard_normal((T, N)) * np.sqrt(truth)
        values, vectors = np.linalg.eigh(x.T @ x / T)
        best = np.einsum("ij,i,ij->j", vectors, truth, vectors)
        ours += np.mean((shrunk_eigenvalues(values, T) - best) ** 2)
        sample += np.mean((values - best) ** 2)
        linear += np.mean((np.linalg.eigvalsh(to_identity(x).matrix) - best) ** 2)
    assert ours < 0.5 * sample
    assert ours < linear


def test_eigenvalues_of_equal_variances_are_drawn_to_one() -> None:
    x = np.random.default_rng(1).standard_normal((120, 80))
    values = np.linalg.eigvalsh(x.T @ x / 120).astype(np.float64)
    assert np.mean(np.abs(values - 1.0)) > 0.6
    assert np.mean(np.abs(shrunk_eigenvalues(values, 120) - 1.0)) < 0.12


def test_a_repeated_instrument_stays_correlated_with_itself() -> None:
    z = drawn(300, 6)
    z[:, 5] = z[:, 4]
    assert nonlinear_correlation(z)[4, 5] == pytest.approx(1.0, abs=0.02)


def test_a_single_instrument_is_left_alone() -> None:
    z = drawn(100, 1)
    assert nonlinear_correlation(z) == np.ones((1, 1))
    assert shrunk_correlation(to_constant_correlation)(z) == np.ones((1, 1))
