"""Hold the ranking to its promises: ties, eligibility, places that do not flicker."""

import numpy as np
import pytest

from daemon.domain.failures import InvariantViolated
from strategies.ranking import extremes, is_broad, ranked

ALL = np.ones(6, dtype=bool)
FLAT = np.zeros(6)


def test_the_strongest_long_comes_first_and_ties_keep_the_universe_order() -> None:
    alpha = np.array([0.1, 0.3, 0.1, -0.2, 0.3, 0.0])
    assert ranked(alpha, ALL).tolist() == [1, 4, 0, 2, 5, 3]


def test_the_ineligible_and_the_unknown_get_no_rank() -> None:
    alpha = np.array([0.1, np.nan, 0.2, -0.2, 0.3, 0.0])
    eligible = np.array([True, True, True, False, True, True])
    assert ranked(alpha, eligible).tolist() == [4, 2, 0, 5]


def test_only_the_two_ends_are_kept_in_a_large_universe() -> None:
    order = np.array([5, 4, 3, 2, 1, 0])
    assert extremes(order, 4, FLAT).tolist() == [5, 4, 1, 0]
    assert extremes(order, 3, FLAT).tolist() == [5, 0]
    assert extremes(order, 6, FLAT).tolist() == order.tolist()


def test_a_held_leg_keeps_its_place_while_it_is_near() -> None:
    order = np.arange(12)
    held = np.zeros(12)
    held[2], held[9] = 0.1, -0.1  # third from either end, two places each
    assert extremes(order, 4, held).tolist() == [0, 2, 9, 11]
    held[:] = 0.0
    held[3], held[8] = 0.1, -0.1  # too far from the ends
    assert extremes(order, 4, held).tolist() == [0, 1, 10, 11]


def test_a_leg_held_on_the_other_side_earns_no_place() -> None:
    held = np.zeros(12)
    held[2], held[9] = -0.1, 0.1
    assert extremes(np.arange(12), 4, held).tolist() == [0, 1, 10, 11]


def test_breadth_counts_ranked_instruments() -> None:
    assert is_broad(np.arange(6), 6)
    assert not is_broad(np.arange(5), 6)


def test_a_book_of_one_leg_is_refused() -> None:
    with pytest.raises(InvariantViolated, match="legs_max 1"):
        extremes(np.arange(4), 1, np.zeros(4))
