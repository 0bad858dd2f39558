"""Count bets by hand, and hold the counts to their bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.concentration import bets_apart, bets_by_risk, bets_by_size


def test_bets_by_size_are_those_of_shares_of_gross() -> None:
    books = np.array([[0.3, -0.1, 0.1], [0.1, -0.1, 0.0], [0.0, 0.0, 0.0]])
    found = bets_by_size(books)
    assert found[:2] == pytest.approx([1 / 0.44, 2.0])
    assert np.isnan(found[2])


def test_bets_by_risk_by_hand() -> None:
    assert bets_by_risk(np.array([0.1, -0.1, 0.1, -0.1]), np.ones(4)) == pytest.approx(4.0)
    assert bets_by_risk(np.array([0.5, 0.0]), np.ones(2)) == pytest.approx(1.0)
    # shares of risk 0.8 and 0.2: 1 / (0.64 + 0.04)
    assert bets_by_risk(np.array([0.2, -0.1]), np.ones(2)) == pytest.approx(1 / 0.68)
    assert bets_by_risk(np.array([0.1, -0.1]), np.array([4.0, 1.0])) == pytest.approx(1 / 0.68)
    assert bets_by_risk(np.zeros(3), np.ones(3)) == 0.0


def test_bets_apart_by_hand() -> None:
    as_one = np.full((3, 3), 1.0)
    assert bets_apart(np.array([[0.1, 0.2, 0.3]]), as_one)[0] == pytest.approx(1.0)
    # directions (1, 1) and (1, -1) with variances 1.5 and 0.5: shares of a lone leg 3/4 and 1/4
    pair = np.array([[1.0, 0.5], [0.5, 1.0]])
    found = bets_apart(np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]), pair)
    assert found[0] == pytest.approx(np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25))))
    assert found[1] == pytest.approx(1.0)
    assert np.isnan(found[2])


@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_every_count_is_from_one_to_the_number_of_legs_at_any_scale(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    w, A = rng.standard_normal(size), rng.standard_normal((size, size))
    S = A @ A.T + 0.1 * np.eye(size)
    for scale in (1.0, 1e-3):
        found = [
            float(bets_by_size(scale * w[None])[0]),
            bets_by_risk(scale * w, np.diag(S)),
            float(bets_apart(scale * w[None], S)[0]),
        ]
        assert all(1.0 - 1e-9 <= one <= size + 1e-9 for one in found)
        if scale == 1.0:
            before = found
    assert found == pytest.approx(before)
