"""Hold the ideal book to its promises: neutral, capped, of the wanted gross where there is one."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from daemon.domain.bar import Floats
from daemon.domain.failures import InvariantViolated
from strategies.weighting import Book, long_short, neutral_projection

ALPHA = np.array([0.03, 0.01, -0.02, 0.02])
BETA = np.array([1.2, 0.9, 1.1, 0.8])
VARIANCE = np.array([0.01, 0.04, 0.02, 0.03])
FOUR = np.ones(4, dtype=bool)


def book(alpha: Floats, variance: Floats, *, gross: float = 1.0, weight_max: float = 1.0) -> Book:
    everyone = np.ones(len(alpha), dtype=bool)
    return long_short(alpha, variance, tradable=everyone, gross=gross, weight_max=weight_max)


@st.composite
def problems(draw: st.DrawFn, size_min: int = 2) -> tuple[Floats, Floats, float]:
    """Draw alphas, variances and a cap as a multiple of the even weight."""
    size = draw(st.integers(size_min, 24))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    alpha = rng.standard_t(3, size) * 10.0 ** draw(st.integers(-6, 1))
    variance = rng.uniform(0.2, 5.0, size) ** 2 * 10.0 ** draw(st.integers(-6, 1))
    return alpha, variance, draw(st.floats(0.3, 6.0)) / size


def test_projection_gives_the_worked_figures() -> None:
    X = np.column_stack([np.ones(4), BETA])
    plain = neutral_projection(ALPHA, np.ones(4), X)
    assert plain == pytest.approx([0.022, -0.001, -0.029, 0.008], abs=1e-12)


def test_beta_neutral_book_of_gross_one_gives_the_worked_figures() -> None:
    found = long_short(ALPHA, VARIANCE, tradable=FOUR, gross=1.0, weight_max=1.0, beta=BETA)
    assert found.weights == pytest.approx([0.374408, 0.002370, -0.5, 0.123223], abs=5e-7)
    assert found.note == ""


@given(problems())
def test_the_book_is_neutral_and_capped_and_never_too_large(
    problem: tuple[Floats, Floats, float],
) -> None:
    alpha, variance, cap = problem
    found = book(alpha, variance, weight_max=cap)
    assert abs(found.weights.sum()) <= 1e-12
    assert np.abs(found.weights).max() <= cap * (1 + 1e-12)
    assert np.abs(found.weights).sum() <= 1.0 + 1e-9
    assert found.gross == pytest.approx(np.abs(found.weights).sum(), abs=1e-12)


@given(problems(size_min=4))
def test_the_gross_is_reached_wherever_the_caps_leave_room(
    problem: tuple[Floats, Floats, float],
) -> None:
    alpha, variance, cap = problem
    pairs = len(alpha) // 2
    found = book(alpha, variance, weight_max=cap)
    if 2 * pairs * cap >= 1.05:
        assert found.gross == pytest.approx(1.0, abs=1e-9)
        assert found.note == ""
    if len(alpha) * cap < 0.999:
        assert found.gross < 0.9995
        assert "caps of" in found.note


ALL_SHORTS_CAPPED = (  # at any larger scale too: gross alone does not say which
    np.array([0.152, 0.156, 1.007, -1.977, -2.928, -1.094, 0.307, 2.187, 0.981, -1.313, -1.265]),
    np.array([13.42, 7.408, 2.853, 6.411, 19.98, 21.93, 3.676, 8.663, 3.045, 9.319, 3.320]),
    0.1,
)


@example(ALL_SHORTS_CAPPED, 0)
@given(problems(size_min=4), st.integers(0, 2**32 - 1))
def test_the_order_of_the_instruments_does_not_matter(
    problem: tuple[Floats, Floats, float], seed: int
) -> None:
    alpha, variance, cap = problem
    order = np.random.default_rng(seed).permutation(len(alpha))
    plain = book(alpha, variance, weight_max=cap).weights
    shuffled = book(alpha[order], variance[order], weight_max=cap).weights
    assert shuffled == pytest.approx(plain[order], abs=1e-7)


@given(problems(size_min=4))
def test_higher_alpha_at_equal_risk_never_has_the_lower_weight(
    problem: tuple[Floats, Floats, float],
) -> None:
    alpha, variance, cap = problem
    found = book(alpha, np.full_like(variance, variance[0]), weight_max=cap).weights
    assert (np.diff(found[np.argsort(alpha)]) >= -1e-9).all()


@settings(max_examples=40)
@given(problems(size_min=8), st.integers(0, 2**32 - 1))
def test_the_beta_neutral_book_has_neither_dollars_nor_beta(
    problem: tuple[Floats, Floats, float], seed: int
) -> None:
    alpha, variance, cap = problem
    beta = np.random.default_rng(seed).uniform(0.5, 1.6, len(alpha))
    everyone = np.ones(len(alpha), dtype=bool)
    found = long_short(alpha, variance, tradable=everyone, gross=1.0, weight_max=cap, beta=beta)
    assert abs(found.weights.sum()) <= 1e-11
    if "beta" not in found.note:
        assert abs(found.weights @ beta) <= 1e-11
    assert np.abs(found.weights).max() <= cap * (1 + 1e-12)


def test_factors_given_as_columns_make_the_same_beta_neutral_book() -> None:
    columns = np.column_stack([BETA, 2.0 - BETA])  # the second says nothing new beside the dollars
    found = long_short(ALPHA, VARIANCE, tradable=FOUR, gross=1.0, weight_max=1.0, beta=columns)
    assert found.weights == pytest.approx([0.374408, 0.002370, -0.5, 0.123223], abs=5e-7)


@settings(max_examples=30)
@given(problems(size_min=12), st.integers(0, 2**32 - 1))
def test_the_book_is_neutral_to_each_of_a_few_factors_and_to_what_kept_legs_bring(
    problem: tuple[Floats, Floats, float], seed: int
) -> None:
    alpha, variance, _ = problem
    rng = np.random.default_rng(seed)
    n = len(alpha)
    factors = np.column_stack([rng.uniform(0.5, 1.6, n), np.arange(n) % 2, rng.standard_normal(n)])
    tradable = np.arange(n) > 0
    kept = np.where(tradable, 0.0, 0.02)
    found = long_short(
        alpha, variance, tradable=tradable, gross=1.0, weight_max=0.5, beta=factors, kept=kept
    )
    assert found.weights[0] == 0.02
    assert abs(found.weights.sum()) <= 1e-11
    if "factor" not in found.note:
        assert np.abs(factors.T @ found.weights).max() <= 1e-11


def test_factors_that_the_caps_leave_no_room_for_are_given_up_and_named() -> None:
    kept = np.array([0.3, 0.0, 0.0, 0.0])
    X = np.column_stack([np.array([3.0, 1.0, 1.1, 0.9]), np.array([1.0, 0.0, 1.0, 0.0])])
    free = np.array([False, True, True, True])
    found = long_short(ALPHA, VARIANCE, tradable=free, gross=1.0, weight_max=0.2, beta=X, kept=kept)
    assert found.note.startswith("the caps leave no factor-neutral book; ")
    assert found.weights.sum() == pytest.approx(0.0, abs=1e-12)


def test_equal_betas_add_nothing() -> None:
    plain = book(ALPHA, VARIANCE)
    same = long_short(ALPHA, VARIANCE, tradable=FOUR, gross=1.0, weight_max=1.0, beta=np.ones(4))
    assert same.weights == pytest.approx(plain.weights, abs=1e-15)


def test_caps_hand_their_surplus_to_the_others_on_both_sides() -> None:
    alpha = np.array([10.0, 0.2, 0.1, -0.1, -0.2, -0.3])
    found = book(alpha, np.ones(6), weight_max=0.25)
    assert found.weights[0] == 0.25
    assert found.weights.sum() == pytest.approx(0.0, abs=1e-15)
    assert found.gross == pytest.approx(1.0)
    assert found.weights[1] > found.weights[2] > found.weights[4]


def test_the_untradable_hold_nothing() -> None:
    tradable = np.array([True, True, False, True])
    alpha = np.array([0.03, 0.01, np.nan, 0.02])
    found = long_short(alpha, VARIANCE, tradable=tradable, gross=1.0, weight_max=0.6)
    assert found.weights[2] == 0.0
    assert found.weights.sum() == pytest.approx(0.0, abs=1e-15)
    assert found.gross == pytest.approx(1.0)


def test_kept_legs_are_offset_and_share_the_gross() -> None:
    alpha = np.array([0.03, 0.01, -0.02, 0.02, -0.03])
    tradable = np.array([True, True, True, True, False])
    kept = np.array([0.0, 0.0, 0.0, 0.0, 0.2])
    found = long_short(alpha, np.ones(5), tradable=tradable, gross=1.0, weight_max=0.5, kept=kept)
    assert found.weights[4] == 0.2
    assert found.weights.sum() == pytest.approx(0.0, abs=1e-15)
    assert found.gross == pytest.approx(1.0)


def test_kept_legs_that_take_the_gross_leave_only_their_offset() -> None:
    kept = np.array([0.0, 0.0, 0.0, 0.6])
    tradable = np.array([True, True, True, False])
    found = long_short(ALPHA, np.ones(4), tradable=tradable, gross=1.1, weight_max=0.5, kept=kept)
    # 0.5 of gross is left, 0.6 would be needed: every free leg helps as far as it may
    assert found.weights[3] == 0.6
    assert (found.weights[:3] <= 0).all()
    assert found.note == "offsetting the kept legs takes the whole gross"
    full = long_short(ALPHA, np.ones(4), tradable=tradable, gross=0.5, weight_max=0.5, kept=kept)
    assert full.weights.tolist() == kept.tolist()
    assert full.note == "kept legs take the whole gross"


def test_beta_that_the_caps_cannot_offset_is_given_up_with_a_reason() -> None:
    kept = np.array([0.0, 0.0, 0.0, 0.3])
    tradable = np.array([True, True, True, False])
    beta = np.array([1.0, 1.01, 1.02, 9.0])
    found = long_short(
        ALPHA, np.ones(4), tradable=tradable, gross=1.0, weight_max=0.2, beta=beta, kept=kept
    )
    assert "no beta-neutral book" in found.note
    assert found.weights.sum() == pytest.approx(0.0, abs=1e-12)


def test_no_difference_of_opinion_is_no_book() -> None:
    found = book(np.full(5, 0.3), np.linspace(1, 2, 5))
    assert not found.weights.any()
    assert found.note == "the signals do not differ"
    assert np.isinf(found.risk_aversion)


def test_a_single_leg_is_no_book() -> None:
    one = np.array([True, False, False, False])
    found = long_short(ALPHA, VARIANCE, tradable=one, gross=1.0, weight_max=1.0)
    assert not found.weights.any()
    assert found.note == "fewer than two legs can trade"


def test_risk_aversion_is_what_scales_alpha_to_the_gross() -> None:
    found = book(ALPHA, VARIANCE)
    plain = neutral_projection(ALPHA, VARIANCE, np.ones((4, 1)))
    assert found.weights == pytest.approx(plain / found.risk_aversion, abs=1e-15)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gross": -1.0}, "gross -1.0"),
        ({"weight_max": 0.0}, "weight_max 0.0"),
        ({"alpha": np.array([np.nan, 0, 0, 0])}, "no alpha"),
        ({"variance": np.array([0.0, 1, 1, 1])}, "no risk"),
        ({"kept": np.array([0.1, 0, 0, 0])}, "both kept and free"),
    ],
)
def test_unusable_inputs_are_refused(change: dict[str, object], message: str) -> None:
    inputs: dict[str, object] = {
        "alpha": ALPHA,
        "variance": VARIANCE,
        "tradable": FOUR,
        "gross": 1.0,
        "weight_max": 1.0,
    }
    with pytest.raises(InvariantViolated, match=message):
        long_short(**(inputs | change))  # type: ignore[arg-type]
