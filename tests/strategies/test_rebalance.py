"""Hold the no-trade bands to their formula, their economics and their neutrality."""

from random import Random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain.bar import Floats
from daemon.domain.failures import InvariantViolated
from strategies.rebalance import (
    Limits,
    at_gross,
    cube_root_band,
    drift_band,
    factor_rebalance,
    floored_velocity2,
    friction,
    limits,
    nearest_edge,
    neutral_rebalance,
    trimmed,
    updated_velocity2,
)

ONE = np.ones(1)


def one(value: float) -> Floats:
    return np.array([value])


def free(size: int) -> Limits:
    return Limits(np.full(size, -9.0), np.full(size, 9.0))


@st.composite
def books(draw: st.DrawFn) -> tuple[Floats, Floats, Floats, Floats]:
    """Draw held weights, a neutral ideal book, costs and the speed of the targets."""
    size = draw(st.integers(2, 20))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    held = rng.uniform(-0.2, 0.2, size) * draw(st.sampled_from([0.0, 0.3, 1.0]))
    ideal = rng.standard_normal(size) / size
    return held, ideal - ideal.mean(), rng.uniform(1e-4, 2e-3, size), rng.uniform(1e-4, 1e-2, size)


def test_the_band_gives_the_worked_figure_and_scales_as_it_must() -> None:
    h = cube_root_band(one(5e-4), one(0.004**2), 10.0, one(0.007**2))
    assert h[0] == pytest.approx(0.0290399, abs=5e-8)
    dearer = cube_root_band(one(8 * 5e-4), one(0.004**2), 10.0, one(0.007**2))
    faster = cube_root_band(one(5e-4), one((8 * 0.004) ** 2), 10.0, one(0.007**2))
    assert dearer[0] == pytest.approx(2 * h[0])
    assert faster[0] == pytest.approx(4 * h[0])


def test_at_the_band_trading_costs_twice_the_tracking_loss() -> None:
    c, nu2, gamma, sigma2 = 5e-4, 0.004**2, 10.0, 0.007**2
    h = float(cube_root_band(one(c), one(nu2), gamma, one(sigma2))[0])
    assert (c * nu2 / (2 * h)) / (gamma * sigma2 * h**2 / 6) == pytest.approx(2.0)
    assert c / (gamma * sigma2 * h) == pytest.approx(35.138, abs=5e-4)  # bars to earn a trade back


@pytest.mark.parametrize(
    ("gamma", "share", "round_trip", "expected"),
    [(2.0, 0.625, 0.01, 0.059059), (5.0, 0.5, 0.001, 0.021086)],
)
def test_the_band_of_a_log_type_investor_gives_the_classical_figure(
    gamma: float, share: float, round_trip: float, expected: float
) -> None:
    velocity2 = one((share * (1 - share)) ** 2)  # of a share that prices move, per unit variance
    h = cube_root_band(one(round_trip / 2), velocity2, gamma, ONE)
    assert h[0] == pytest.approx(expected, abs=5e-7)


@pytest.mark.parametrize(("F", "kept"), [(0.1, 0.79), (0.3, 0.595), (1.0, 0.235)])
def test_the_band_keeps_the_published_share_of_the_gross_profit(F: float, kept: float) -> None:
    rng = np.random.default_rng(11)
    paths, bars, phi = 400, 1_500, 0.5 ** (1 / 12)
    cost = F / (1 - phi)  # with an ideal weight that earns its own size each bar
    ideal = rng.standard_normal(paths)
    velocity2 = np.full(paths, 2 * (1 - phi))
    band = cube_root_band(np.full(paths, cost), velocity2, 1.0, np.ones(paths))
    held, earned, paid, power = ideal.copy(), 0.0, 0.0, 0.0
    for _ in range(bars):
        moved = nearest_edge(held, ideal, band)
        earned += float(moved @ ideal)
        paid += cost * float(np.abs(moved - held).sum())
        power += float(moved @ moved)
        held = moved
        ideal = phi * ideal + np.sqrt(1 - phi**2) * rng.standard_normal(paths)
    sharpe = (earned - paid) / np.sqrt(power * paths * bars)
    assert sharpe == pytest.approx(kept, abs=0.03)


def test_a_leg_inside_its_band_is_left_alone_to_the_last_bit_and_others_stop_at_the_edge() -> None:
    held = np.array([0.1, 0.30000000000000004, -0.2])
    ideal = np.array([0.2, 0.31, -0.05])
    band = np.full(3, 0.05)
    assert nearest_edge(held, ideal, band).tolist() == [0.15000000000000002, held[1], -0.1]


@given(books(), st.floats(1.0, 50.0))
def test_a_higher_cost_never_makes_another_leg_trade(
    book: tuple[Floats, Floats, Floats, Floats], factor: float
) -> None:
    held, ideal, cost, velocity = book
    risk = np.full(len(held), 1e-4)
    cheap = nearest_edge(held, ideal, cube_root_band(cost, velocity**2, 5.0, risk))
    dear = nearest_edge(held, ideal, cube_root_band(factor * cost, velocity**2, 5.0, risk))
    assert ((dear != held) <= (cheap != held)).all()
    assert (np.abs(dear - held) <= np.abs(cheap - held) + 1e-15).all()


@given(books(), st.floats(1.0, 50.0))
def test_a_higher_cost_of_all_never_raises_what_the_neutral_book_pays_for(
    book: tuple[Floats, Floats, Floats, Floats], factor: float
) -> None:
    held, ideal, cost, velocity = book
    paid = []
    for c in (cost, factor * cost):
        band = cube_root_band(c, velocity**2, 5.0, np.full(len(held), 1e-4))
        traded = neutral_rebalance(held, ideal, band, band / c, free(len(held)), drift_max=0.0)
        paid.append(float(cost @ np.abs(traded - held)))
    assert paid[1] <= paid[0] + 1e-12


@given(books(), st.floats(1.0, 50.0), st.randoms(use_true_random=False))
def test_raising_costs_never_adds_turnover_to_a_neutral_book(
    book: tuple[Floats, Floats, Floats, Floats], factor: float, chance: Random
) -> None:
    """Of all by one factor; or of any, where how gladly legs give way stays as it was."""
    held, ideal, cost, velocity = book
    held = held - held.mean()
    some = np.array([factor if chance.random() < 0.3 else 1.0 for _ in cost])

    def turnover(c: Floats, stiffness: Floats) -> float:
        band = cube_root_band(c, velocity**2, 5.0, np.full(len(c), 1e-4))
        traded = neutral_rebalance(held, ideal, band, 1 / stiffness, free(len(held)), drift_max=0.0)
        return float(np.abs(traded - held).sum())

    def stiffness(c: Floats) -> Floats:
        return c / cube_root_band(c, velocity**2, 5.0, np.full(len(c), 1e-4))

    before = turnover(cost, stiffness(cost))
    assert turnover(factor * cost, stiffness(factor * cost)) <= before + 1e-12
    assert turnover(some * cost, stiffness(cost)) <= before + 1e-12


@given(books(), st.randoms(use_true_random=False))
def test_permuted_instruments_get_permuted_weights(
    book: tuple[Floats, Floats, Floats, Floats], chance: Random
) -> None:
    held, ideal, cost, velocity = book
    order = np.array(chance.sample(range(len(held)), len(held)))
    band = cube_root_band(cost, velocity**2, 5.0, np.full(len(held), 1e-4))
    gross = float(np.abs(ideal).sum())

    def found(at: npt.NDArray[np.intp]) -> Floats:
        return at_gross(
            held[at], ideal[at], band[at], (band / cost)[at], free(len(at)),
            drift_max=0.0, gross_min=0.85 * gross, gross_max=1.1 * gross,
        )[0]  # fmt: skip

    plain = found(np.arange(len(held)))
    assert found(order) == pytest.approx(plain[order], abs=1e-9)


@given(st.floats(-1.0, 1.0), st.floats(-1.0, 1.0), st.floats(1e-6, 1.0))
def test_one_asset_is_clipped_to_its_band_to_the_bit(held: float, ideal: float, h: float) -> None:
    """Beside its mirror image, which makes any trade of it neutral."""
    pair = np.array([1.0, -1.0])
    found = neutral_rebalance(
        held * pair, ideal * pair, np.full(2, h), np.ones(2), free(2), drift_max=0.0
    )
    clipped = float(np.clip(held, ideal - h, ideal + h))
    assert found.tolist() == [clipped, -clipped]
    assert nearest_edge(one(held), one(ideal), one(h)).tolist() == [clipped]


@given(books())
def test_a_leg_inside_its_shifted_band_is_what_it_was_to_the_bit(
    book: tuple[Floats, Floats, Floats, Floats],
) -> None:
    held, ideal, cost, velocity = book
    band = cube_root_band(cost, velocity**2, 5.0, np.full(len(held), 1e-4))
    give = band / cost
    found = neutral_rebalance(held, ideal, band, give, free(len(held)), drift_max=0.0)
    moving = found != held
    side = np.where(found > held, -1.0, 1.0)  # bought to the lower edge, sold to the upper
    shifts = ((ideal + side * band - found) / give)[moving]
    shift = float(np.median(shifts)) if moving.any() else 0.0
    assert shifts == pytest.approx(shift, abs=1e-9 * (1.0 + float(np.abs(1 / give).max())))
    inside = np.abs(held - (ideal - shift * give)) < band * (1 - 1e-6)
    assert (found[inside] == held[inside]).all()


@given(books(), st.booleans())
def test_what_is_traded_leaves_the_book_neutral_and_inside_its_boxes(
    book: tuple[Floats, Floats, Floats, Floats], with_boxes: bool
) -> None:
    held, ideal, cost, velocity = book
    size = len(held)
    band = cube_root_band(cost, velocity**2, 5.0, np.full(size, 1e-4))
    shrinking, closing = np.zeros(size, dtype=bool), np.zeros(size, dtype=bool)
    if with_boxes:
        shrinking[: size // 3], closing[-1] = True, True
    boxes = limits(held, weight_max=0.25, reduce_only=shrinking, closing=closing)
    found = neutral_rebalance(held, ideal, band, band / cost, boxes, drift_max=0.0)
    assert abs(found.sum()) <= 1e-12
    assert (np.abs(found[shrinking & ~closing]) <= np.abs(held[shrinking & ~closing])).all()
    assert (found[shrinking] * held[shrinking] >= 0).all()
    assert not found[closing].any()
    assert np.abs(found).max() <= 0.25


@given(books())
def test_no_neutral_book_is_cheaper_than_the_one_found(
    book: tuple[Floats, Floats, Floats, Floats],
) -> None:
    held, ideal, cost, velocity = book
    band = cube_root_band(cost, velocity**2, 5.0, np.full(len(held), 1e-4))
    kappa = cost / band

    def loss(w: Floats) -> float:
        return float((kappa * (w - ideal) ** 2 / 2 + cost * np.abs(w - held)).sum())

    found = neutral_rebalance(held, ideal, band, 1 / kappa, free(len(held)), drift_max=0.0)
    rng = np.random.default_rng(0)
    for size in (1e-1, 1e-3, 1e-5):
        for _ in range(10):
            step = size * rng.standard_normal(len(held))
            assert loss(found) <= loss(found + step - step.mean()) + 1e-12


def test_drift_alone_is_no_reason_to_trade_until_it_is_too_large() -> None:
    held = np.array([0.104, -0.1, 0.05, -0.05])
    ideal = np.array([0.1, -0.1, 0.05, -0.05])
    band, give = np.full(4, 0.02), np.ones(4)
    rest = neutral_rebalance(held, ideal, band, give, free(4), drift_max=0.005)
    assert rest.tolist() == held.tolist()
    moved = neutral_rebalance(held, ideal, band, give, free(4), drift_max=0.003)
    assert moved.sum() == pytest.approx(0.0, abs=1e-15)
    assert (moved != held).sum() == 1  # the leg nearest to its edge pays for the drift
    assert moved[0] == pytest.approx(0.1)


def test_a_flat_start_under_wide_bands_still_reaches_its_gross() -> None:
    ideal = np.array([0.3, 0.2, -0.2, -0.3])
    band, give = np.full(4, 0.4), np.ones(4)
    boxes = limits(
        np.zeros(4), weight_max=0.3, reduce_only=np.zeros(4, bool), closing=np.zeros(4, bool)
    )
    plain = neutral_rebalance(np.zeros(4), ideal, band, give, boxes, drift_max=0.0)
    assert not plain.any()  # the freeze that the lift is for
    found, lift, narrowing = at_gross(
        np.zeros(4), ideal, band, give, boxes, drift_max=0.0, gross_min=0.85, gross_max=1.1
    )
    assert 0.85 <= np.abs(found).sum() <= 0.87
    assert found.sum() == pytest.approx(0.0, abs=1e-14)
    assert lift > 1.0
    assert narrowing == 1.0


def test_a_book_far_above_its_gross_is_cut_back() -> None:
    held = np.array([0.9, 0.6, -0.6, -0.9])
    ideal = held / 3.0
    found, lift, narrowing = at_gross(
        held,
        ideal,
        np.full(4, 0.8),
        np.ones(4),
        free(4),
        drift_max=0.0,
        gross_min=0.85,
        gross_max=1.1,
    )
    assert 1.0 <= np.abs(found).sum() <= 1.1
    assert lift == 1.0
    assert narrowing < 1.0


def test_inside_the_corridor_nothing_is_scaled() -> None:
    held = np.array([0.45, -0.45])
    found, lift, narrowing = at_gross(
        held, np.array([0.5, -0.5]), np.full(2, 0.1), np.ones(2), free(2),
        drift_max=0.0, gross_min=0.85, gross_max=1.1,
    )  # fmt: skip
    assert (found.tolist(), lift, narrowing) == (held.tolist(), 1.0, 1.0)


def test_velocity_follows_the_targets_and_is_floored() -> None:
    velocity2 = np.array([1e-4, 1e-4, 1e-4])
    step = np.array([0.02, 0.0, np.nan])
    moved = updated_velocity2(velocity2, step, hours=2.0, keep=0.5)
    assert moved == pytest.approx([0.5e-4 + 0.5 * 2e-4, 0.5e-4, 1e-4])
    floored = floored_velocity2(np.array([0.0, 1e-4, 3e-4]), np.ones(3, bool))
    assert floored == pytest.approx([1e-5, 1e-4, 3e-4])
    assert floored_velocity2(velocity2, np.zeros(3, bool)).tolist() == velocity2.tolist()


def test_friction_is_cost_over_the_whole_expected_return() -> None:
    phi, H = 0.5 ** (1 / 12), 6
    per_bar = 2e-4  # sd of the alpha a bar
    whole = per_bar * (1 - phi**H) / (1 - phi)
    found = friction(one(7e-4), 1 - phi**H, one(whole))
    assert found[0] == pytest.approx(7e-4 * (1 - phi) / per_bar)


def test_a_drift_band_trades_in_full_and_only_beyond_it() -> None:
    held = np.array([0.1, 0.1, 0.0])
    target = np.array([0.11, 0.1101, 0.1])
    assert drift_band(held, target, 0.01).tolist() == [0.1, 0.1101, 0.1]


def test_a_leg_that_drifted_above_its_cap_may_stay_but_not_grow() -> None:
    held = np.array([0.2, -0.2, 0.05])
    boxes = limits(held, weight_max=0.1, reduce_only=np.zeros(3, bool), closing=np.zeros(3, bool))
    assert boxes.high.tolist() == [0.2, 0.1, 0.1]
    assert boxes.low.tolist() == [-0.1, -0.2, -0.1]


def test_senseless_inputs_are_refused() -> None:
    with pytest.raises(InvariantViolated, match="risk aversion"):
        cube_root_band(ONE, ONE, 0.0, ONE)
    with pytest.raises(InvariantViolated, match="0 hours"):
        updated_velocity2(ONE, ONE, hours=0, keep=0.5)
    with pytest.raises(InvariantViolated, match="hold zero"):
        Limits(one(0.1), one(0.2))
    with pytest.raises(InvariantViolated, match="positive give"):
        neutral_rebalance(ONE, ONE, ONE, np.zeros(1), free(1), drift_max=0.0)


@settings(max_examples=30)
@given(books())
def test_equal_held_and_ideal_books_need_no_trade(
    book: tuple[Floats, Floats, Floats, Floats],
) -> None:
    _, ideal, cost, velocity = book
    band = cube_root_band(cost, velocity**2, 5.0, np.full(len(ideal), 1e-4))
    found = neutral_rebalance(ideal, ideal, band, band / cost, free(len(ideal)), drift_max=0.0)
    assert found == pytest.approx(ideal, abs=1e-13)


def test_trimming_takes_the_largest_legs_of_the_heavy_side_first() -> None:
    held = np.array([0.1, 0.3, 0.2, -0.2])
    assert trimmed(held) == pytest.approx([0.1, 0.0, 0.1, -0.2])
    assert trimmed(-held) == pytest.approx([-0.1, 0.0, -0.1, 0.2])
    even = np.array([0.2, -0.2])
    assert trimmed(even).tolist() == even.tolist()


@given(seed=st.integers(0, 10_000), wide=st.floats(0.0, 0.1))
def test_a_book_without_exposure_to_factors_is_the_cheapest_of_those(
    seed: int, wide: float
) -> None:
    """No small step that keeps dollars and factors improves what is minimised."""
    rng = np.random.default_rng(seed)
    n = 12
    held, ideal = rng.normal(0.0, 0.08, n), rng.normal(0.0, 0.08, n)
    give, band = rng.uniform(0.1, 1.0, n), np.full(n, wide)
    factors = np.column_stack([rng.uniform(0.4, 1.8, n), rng.standard_normal(n)])
    boxes = limits(
        held,
        weight_max=0.2,
        reduce_only=rng.random(n) < 0.2,
        closing=np.arange(n) < 1,
    )
    found = factor_rebalance(held, ideal, band, give, boxes, factors, drift_max=0.0)
    assert found is not None  # a box holds zero: a book without exposure is always there
    X = np.column_stack([np.ones(n), factors])
    assert np.abs(X.T @ found).max() < 1e-10
    assert found[0] == 0.0
    assert (found >= boxes.low).all()
    assert (found <= boxes.high).all()

    def worth(w: Floats) -> float:
        tracked = float(((w - ideal) ** 2 / give).sum()) / 2
        return tracked + float((band / give) @ np.abs(w - held))

    least = worth(found)
    across = np.linalg.svd(X.T)[2][X.shape[1] :]
    for _ in range(40):
        step = rng.standard_normal(len(across)) @ across * 10 ** rng.uniform(-5, -2)
        tried = found + step
        if (tried >= boxes.low).all() and (tried <= boxes.high).all():
            assert worth(tried) >= least - 1e-12
