"""Losses of covariance forecasts, beside worked figures and beside what each is for."""

from __future__ import annotations

import math

import numpy as np
import pytest

from daemon.domain.covariance import Covariance
from daemon.domain.failures import InvariantViolated
from strategies.covariance.scoring import (
    Floats,
    correlation_of,
    invertible,
    known_part,
    matrix_distance,
    minimum_variance,
    neutral_books,
    qlike,
    random_forecasts,
    realised_covariance,
    squared_frobenius,
    stein,
    traded,
    variance_of,
)


def equal(rho: float, N: int = 2) -> Floats:
    """Give the correlation matrix of which all pairs are the same."""
    return np.asarray(np.full((N, N), rho) + (1.0 - rho) * np.eye(N))


def drawn(N: int, seed: int) -> Floats:
    """Draw a covariance matrix."""
    x = np.random.default_rng(seed).standard_normal((3 * N, N))
    return np.asarray(x.T @ x / (3 * N))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (np.eye(2), equal(0.5), 0.105573),
        (equal(0.5), equal(-0.5), 0.400000),
        (np.eye(3), equal(0.5, 3), 0.183503),
    ],
)
def test_the_distance_of_correlation_matrices_is_the_worked_one(
    first: Floats, second: Floats, expected: float
) -> None:
    assert matrix_distance(first, second) == pytest.approx(expected, abs=5e-7)
    assert matrix_distance(second, first) == pytest.approx(expected, abs=5e-7)


def test_losses_of_matrices_are_the_worked_ones() -> None:
    S, H = equal(0.5), equal(0.2)
    assert qlike(H, S) == pytest.approx(1.834178, abs=5e-7)
    assert qlike(S, S) == pytest.approx(1.712318, abs=5e-7)
    assert stein(H, S) == pytest.approx(0.121860, abs=5e-7)
    assert squared_frobenius(H, S) == pytest.approx(0.18, abs=1e-12)


def test_no_forecast_has_less_expected_loss_than_the_truth() -> None:
    rng = np.random.default_rng(5)
    truth = drawn(6, 1)
    root = np.linalg.cholesky(truth)
    blocks = [realised_covariance(rng.standard_normal((8, 6)) @ root.T) / 8 for _ in range(3000)]
    for other in (1.2 * truth, 0.8 * truth, np.diag(np.diag(truth)), drawn(6, 2)):
        for loss in (qlike, squared_frobenius):
            gap = np.array([loss(other, S) - loss(truth, S) for S in blocks])
            assert gap.mean() > 2.0 * gap.std() / math.sqrt(len(gap)), (loss.__name__, other)


def test_a_singular_outcome_has_a_qlike_and_no_stein_loss() -> None:
    returns = np.random.default_rng(3).standard_normal((4, 6))  # fewer returns than instruments
    S = realised_covariance(returns)
    assert math.isfinite(qlike(equal(0.5, 6), S))
    assert math.isnan(stein(equal(0.5, 6), S))


def test_a_forecast_that_cannot_be_inverted_is_infinitely_bad_until_it_is_lifted() -> None:
    R = correlation_of(np.outer(np.ones(4), np.ones(4)))
    S = drawn(4, 7)
    assert qlike(R, S) == math.inf
    lifted = invertible(R)
    assert math.isfinite(qlike(lifted, S))
    assert np.diagonal(lifted) == pytest.approx(1.0, abs=1e-15)
    assert np.linalg.eigvalsh(lifted)[0] > 0.0
    assert lifted == pytest.approx(R, abs=1e-5)
    with pytest.raises(InvariantViolated, match="cannot be inverted"):
        minimum_variance(R - np.eye(4))


def test_a_sound_forecast_is_scored_as_it_is() -> None:
    R = equal(0.7, 5)
    assert invertible(R) is R


def test_a_realised_covariance_is_that_of_the_block_however_finely_it_is_cut() -> None:
    whole = np.array([[0.02, 0.01], [-0.01, 0.03]])
    assert realised_covariance(whole) == pytest.approx(
        np.array([[0.0005, -0.0001], [-0.0001, 0.001]])
    )
    rng = np.random.default_rng(11)
    fine = rng.standard_normal((96_000, 2)) @ np.linalg.cholesky(equal(0.4)).T * 0.001
    hourly = fine.reshape(-1, 4, 2).sum(axis=1)
    assert realised_covariance(fine) == pytest.approx(realised_covariance(hourly), rel=0.02)


def test_who_is_unknown_on_either_side_is_left_out() -> None:
    predicted = Covariance(0, "any", np.array([0.01, np.nan, 0.02, 0.03]), np.eye(4))
    returns = np.array([[0.01, 0.02, np.nan, 0.01], [0.02, 0.01, 0.03, -0.02]])
    realised = realised_covariance(returns)
    assert known_part(predicted, realised).tolist() == [True, False, False, True]
    still = realised_covariance(np.array([[0.01, 0.0], [0.02, 0.0]]))
    two = Covariance(0, "any", np.array([0.01, 0.01]), np.eye(2))
    assert known_part(two, still).tolist() == [True, False]  # a price that never moved


def test_the_book_of_least_variance_has_less_than_any_other() -> None:
    S = drawn(7, 4)
    w = minimum_variance(S)
    assert w.sum() == pytest.approx(1.0)
    best = float(variance_of(w, S))
    rng = np.random.default_rng(8)
    for _ in range(200):
        step = rng.standard_normal(7) * 0.05
        other = w + step - step.mean()
        assert float(variance_of(other, S)) > best
    two = np.diag([1.0, 4.0])
    assert minimum_variance(two) == pytest.approx(np.array([0.8, 0.2]))


def test_neutral_books_are_neutral_have_their_exposure_and_the_least_variance() -> None:
    S, a = drawn(7, 4), random_forecasts(7, 5, 9)
    books = neutral_books(S, a)
    assert books.sum(axis=1) == pytest.approx(np.zeros(5), abs=1e-12)
    assert (books * a).sum(axis=1) == pytest.approx(np.ones(5))
    best = variance_of(books, S)
    rng = np.random.default_rng(2)
    for book, forecast, least in zip(books, a, best, strict=True):
        X = np.stack([np.ones(7), forecast], axis=1)
        step = rng.standard_normal(7) * 0.01
        step -= X @ np.linalg.lstsq(X, step, rcond=None)[0]  # stays neutral and as exposed
        assert float(variance_of(book + step, S)) > least


def test_random_forecasts_are_drawn_by_the_seed_alone() -> None:
    assert random_forecasts(5, 3, 1).tolist() == random_forecasts(5, 3, 1).tolist()
    assert random_forecasts(5, 3, 1).tolist() != random_forecasts(5, 3, 2).tolist()
    with pytest.raises(InvariantViolated, match="the same for all"):
        neutral_books(np.eye(3), np.ones((1, 3)))


def test_turnover_counts_what_is_bought_and_what_is_sold() -> None:
    assert traded(np.array([0.5, 0.5, 0.0]), np.array([0.2, 0.5, 0.3])) == pytest.approx(0.6)
