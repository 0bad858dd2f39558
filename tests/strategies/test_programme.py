"""Hold the programme of the book to its promises, whatever the numbers are."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from daemon.domain.bar import Floats
from daemon.domain.failures import InvariantViolated
from strategies import rebalance
from strategies.factor_form import FactorForm
from strategies.programme import Outcome, Problem, amortisation, solve, tracking
from tests.strategies.books import objective, random_problem

seeds = st.integers(0, 2**32 - 1)
sizes = st.sampled_from([1, 2, 3, 4, 6, 10, 17, 30])


def exposures_of(problem: Problem, outcome: Outcome) -> Floats:
    return np.abs(problem.exposures.T @ outcome.weights - problem.totals)


def simple(n: int, **changes: object) -> Problem:
    """Make a problem of n like instruments, dollar-neutral, from a flat book."""
    whole = Problem(
        risk=FactorForm(np.empty((n, 0)), np.full(n, 1e-4)),
        aversion=5.0,
        alpha=np.linspace(1e-3, -1e-3, n),
        cost=np.full(n, 1e-4),
        held=np.zeros(n),
        low=np.full(n, -1.0),
        high=np.full(n, 1.0),
        exposures=np.ones((n, 1)),
        totals=np.zeros(1),
        gross_max=1.0,
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


# ---- limits --------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(seeds, sizes, st.integers(0, 4), st.sampled_from([np.inf, 0.5, 0.1]))
def test_boxes_hold_to_the_bit_and_exposures_gross_and_turnover_wherever_no_note_says_otherwise(
    seed: int, n: int, exposures_n: int, turnover_max: float
) -> None:
    problem = random_problem(seed, n, exposures_n=exposures_n, turnover_max=turnover_max)
    found = solve(problem)
    w = found.weights
    assert found.solved.fallback == ""
    assert (w >= problem.low).all()
    assert (w <= problem.high).all()
    if "exposure" not in found.note:
        assert exposures_of(problem, found).max(initial=0.0) <= 1e-12
    if "gross" not in found.note:
        assert np.abs(w).sum() <= problem.gross_max * (1 + 1e-12)
    if "turnover" not in found.note:
        assert np.abs(w - problem.held).sum() <= turnover_max * (1 + 1e-9)


@settings(max_examples=60)
@given(seeds, sizes)
def test_legs_that_rest_rest_to_the_bit(seed: int, n: int) -> None:
    problem = random_problem(seed, n)
    moved = np.abs(solve(problem).weights - problem.held)
    assert not ((moved > 0) & (moved < 1e-11)).any()


def test_kept_legs_that_forbid_neutrality_bring_the_nearest_book_and_it_is_named() -> None:
    low, high = np.full(4, -0.05), np.full(4, 0.05)
    low[0] = high[0] = 0.5
    held = np.array([0.5, 0.0, 0.0, 0.0])
    found = solve(simple(4, low=low, high=high, held=held))
    assert found.weights == pytest.approx([0.5, -0.05, -0.05, -0.05], abs=1e-9)
    assert found.note == "exposure 0 is +0.3500, wanted +0.0000"
    assert found.solved.fallback == ""


def test_dollars_stay_neutral_where_only_beta_cannot() -> None:
    beta = np.array([2.0, 1.0, 1.0, 1.0])
    low, high = np.full(4, -0.2), np.full(4, 0.2)
    low[0] = high[0] = 0.3
    X = np.column_stack([np.ones(4), beta])
    held = np.array([0.3, 0.0, 0.0, 0.0])
    found = solve(simple(4, low=low, high=high, held=held, exposures=X, totals=np.zeros(2)))
    assert found.weights.sum() == pytest.approx(0.0, abs=1e-12)
    assert found.note == "exposure 1 is +0.3000, wanted +0.0000"


def test_legs_that_may_not_trade_and_exceed_the_gross_leave_the_others_flat() -> None:
    held = np.array([0.8, -0.7, 0.0, 0.0])
    low, high = np.full(4, -0.2), np.full(4, 0.2)
    low[:2] = high[:2] = held[:2]
    found = solve(simple(4, held=held, low=low, high=high))
    assert found.weights == pytest.approx([0.8, -0.7, 0.0, 0.0], abs=0)
    assert found.note == (
        "exposure 0 is +0.1000, wanted +0.0000; gross of 1.5000, at most 1.0000 wanted"
    )


def test_a_turnover_limit_gives_way_to_neutrality_and_no_further() -> None:
    held = np.array([0.4, 0.0, 0.0, 0.0])
    found = solve(simple(4, held=held, turnover_max=0.1))
    assert found.weights.sum() == pytest.approx(0.0, abs=1e-12)
    assert np.abs(found.weights - held).sum() == pytest.approx(0.4, abs=1e-9)
    assert found.note == "turnover of 0.4000, at most 0.1000 wanted"


@pytest.mark.parametrize("gross", [0.0, 1e-14])
def test_a_gross_of_next_to_nothing_is_a_flat_book(gross: float) -> None:
    found = solve(simple(5, gross_max=gross, held=np.array([0.2, -0.2, 0.0, 0.1, -0.1])))
    assert np.abs(found.weights).sum() <= gross


def test_all_legs_closing_is_a_flat_book() -> None:
    held = np.array([0.2, -0.2, 0.3, -0.3])
    found = solve(simple(4, held=held, low=np.zeros(4), high=np.zeros(4)))
    assert not found.weights.any()
    assert found.solved.status == "NOTHING_TO_SOLVE"


# ---- hard numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["alpha", "cost"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_leg_without_a_number_is_kept_and_the_closed_form_takes_over(
    field: str, value: float
) -> None:
    problem = random_problem(3, 10)
    moves = np.flatnonzero(problem.low < problem.high)
    spoiled = getattr(problem, field).copy()
    spoiled[moves[0]] = value
    found = solve(replace(problem, **{field: spoiled}))
    assert found.solved.fallback == "1 legs have inputs that are no numbers"
    assert found.weights[moves[0]] == problem.held[moves[0]]
    assert exposures_of(problem, found).max() <= 1e-10


def test_an_unknown_covariance_of_a_leg_that_may_not_trade_does_no_harm() -> None:
    problem = random_problem(3, 10)
    low, high = problem.low.copy(), problem.high.copy()
    low[4] = high[4] = problem.held[4]
    loadings, specific = problem.risk.loadings.copy(), problem.risk.specific.copy()
    loadings[4], specific[4] = np.nan, np.nan
    found = solve(replace(problem, risk=FactorForm(loadings, specific), low=low, high=high))
    assert found.solved.status == "SOLVED"
    assert np.isfinite(found.weights).all()


@settings(max_examples=80)
@given(
    seeds,
    sizes,
    st.sampled_from(["duplicated", "free", "dear", "singular", "huge_alpha", "tiny", "no_risk"]),
)
def test_hard_problems_have_books_too(seed: int, n: int, kind: str) -> None:
    problem = random_problem(seed, n)
    risk = problem.risk
    changes: dict[str, object] = {
        "duplicated": {"risk": FactorForm(np.full((n, 1), 0.01), np.full(n, 1e-10))},
        "free": {"cost": np.zeros(n)},
        "dear": {"cost": problem.cost * 1e9},
        "singular": {"risk": replace(risk, specific=risk.specific * 1e-9)},
        "huge_alpha": {"alpha": problem.alpha * 1e9},
        "tiny": {"alpha": problem.alpha * 1e-12, "cost": problem.cost * 1e-12},
        "no_risk": {"risk": replace(risk, specific=np.zeros(n))},
    }[kind]  # type: ignore[assignment]
    found = solve(replace(problem, **changes))  # type: ignore[arg-type]
    assert (found.weights >= problem.low).all()
    assert (found.weights <= problem.high).all()
    if "exposure" not in found.note:
        assert exposures_of(problem, found).max() <= 1e-8
    if "gross" not in found.note:
        assert np.abs(found.weights).sum() <= problem.gross_max * (1 + 1e-8)


def test_two_hundred_instruments_of_which_half_are_the_same() -> None:
    problem = random_problem(9, 100)
    twice = Problem(
        risk=FactorForm(np.tile(problem.risk.loadings, (2, 1)), np.tile(problem.risk.specific, 2)),
        aversion=problem.aversion,
        alpha=np.tile(problem.alpha, 2),
        cost=np.tile(problem.cost, 2),
        held=np.tile(problem.held, 2),
        low=np.tile(problem.low, 2),
        high=np.tile(problem.high, 2),
        exposures=np.tile(problem.exposures, (2, 1)),
        totals=problem.totals,
        gross_max=2 * problem.gross_max,
    )
    found = solve(twice)
    assert found.solved.status == "SOLVED"
    assert exposures_of(twice, found).max() <= 1e-12
    assert found.weights[:100] == pytest.approx(found.weights[100:], abs=1e-9)


def test_what_no_problem_may_hold_is_refused() -> None:
    with pytest.raises(InvariantViolated, match="held"):
        simple(3, held=np.array([np.nan, 0.0, 0.0]))
    with pytest.raises(InvariantViolated, match="box"):
        simple(3, low=np.full(3, 1.5))
    with pytest.raises(InvariantViolated, match="aversion"):
        simple(3, aversion=0.0)
    with pytest.raises(InvariantViolated, match="cost"):
        simple(3, cost=np.full(3, -1.0))


# ---- when the solver fails -----------------------------------------------------------------------


@settings(max_examples=60)
@given(seeds, sizes)
def test_at_the_limit_of_iterations_the_closed_form_takes_over_and_says_so(
    seed: int, n: int
) -> None:
    problem = random_problem(seed, n)
    found = solve(problem, iterations_max=1)
    again = solve(problem, iterations_max=1)
    assert (found.weights == again.weights).all()
    if found.solved.status == "NOTHING_TO_SOLVE":
        return
    if found.solved.status == "SOLVED":  # one step may be enough
        assert found.weights == pytest.approx(solve(problem).weights, abs=1e-9)
        return
    assert found.solved.fallback == "piqp said MAX_ITER_REACHED"
    assert found.solved.status == "MAX_ITER_REACHED"
    assert (found.weights >= problem.low).all()
    assert (found.weights <= problem.high).all()
    if "exposure" not in found.note:
        assert exposures_of(problem, found).max() <= 1e-11
    if "gross" not in found.note:
        assert np.abs(found.weights).sum() <= problem.gross_max * (1 + 1e-9)


@settings(max_examples=60)
@given(seeds, st.sampled_from([3, 6, 20]))
@example(seed=32369, n=3)
def test_without_correlations_the_closed_form_is_the_solution(seed: int, n: int) -> None:
    problem = random_problem(seed, n)
    alone = replace(problem, risk=FactorForm(np.empty((n, 0)), problem.risk.variance))
    solved, closed = solve(alone), solve(alone, iterations_max=1)
    # a single point that keeps all limits may be missed, which is said
    if solved.note == "" and closed.note == "":
        assert closed.weights == pytest.approx(solved.weights, abs=1e-8)


# ---- what a change of the problem does -----------------------------------------------------------


@settings(max_examples=60)
@given(seeds, st.sampled_from([4, 10, 25]), st.floats(1.0, 50.0))
def test_dearer_trading_never_adds_trades(seed: int, n: int, factor: float) -> None:
    problem = random_problem(seed, n)
    even = replace(problem, cost=np.full(n, float(problem.cost.mean())))
    dear = replace(even, cost=even.cost * factor)
    before, after = (float(np.abs(solve(p).weights - p.held).sum()) for p in (even, dear))
    assert after <= before + 1e-9


@settings(max_examples=60)
@given(seeds, st.sampled_from([4, 10, 25]), st.floats(1.0, 50.0))
def test_a_leg_that_becomes_dearer_is_never_traded_more(seed: int, n: int, factor: float) -> None:
    problem = random_problem(seed, n)
    cost = problem.cost.copy()
    cost[seed % n] *= factor
    before, after = solve(problem), solve(replace(problem, cost=cost))
    moved = [abs(o.weights[seed % n] - problem.held[seed % n]) for o in (before, after)]
    assert moved[1] <= moved[0] + 1e-9


@settings(max_examples=60)
@given(seeds, sizes)
def test_the_order_of_the_instruments_does_not_matter(seed: int, n: int) -> None:
    problem = random_problem(seed, n)
    order = np.random.default_rng(seed).permutation(n)
    shuffled = replace(
        problem,
        risk=FactorForm(problem.risk.loadings[order], problem.risk.specific[order]),
        exposures=problem.exposures[order],
        **{
            name: getattr(problem, name)[order] for name in ("alpha", "cost", "held", "low", "high")
        },
    )
    plain, other = solve(problem), solve(shuffled)
    assert other.weights == pytest.approx(plain.weights[order], abs=1e-7)
    assert other.note == plain.note


@settings(max_examples=40)
@given(seeds, sizes)
def test_the_same_problem_has_the_same_answer_to_the_bit(seed: int, n: int) -> None:
    problem = random_problem(seed, n, turnover_max=0.4)
    first, second = solve(problem), solve(problem)
    assert (first.weights == second.weights).all()
    assert first.solved == second.solved


def test_an_answer_does_not_depend_on_what_was_solved_before() -> None:
    one, other = random_problem(1, 30), random_problem(2, 30)
    before = solve(one)
    solve(other)
    assert solve(one).weights.tobytes() == before.weights.tobytes()


@settings(max_examples=60)
@given(seeds, sizes, st.floats(0.2, 5.0), st.integers(0, 3))
def test_a_start_near_the_answer_changes_nothing_but_its_last_digits(
    seed: int, n: int, factor: float, exposures_n: int
) -> None:
    problem = random_problem(seed, n, exposures_n=exposures_n)
    like = solve(replace(problem, alpha=factor * problem.alpha, high=problem.high + 0.01))
    plain, begun = solve(problem), solve(problem, near=like.near)
    assert begun.weights == pytest.approx(plain.weights, abs=1e-9)
    assert begun.note == plain.note


def test_where_newtons_steps_do_not_arrive_the_interior_point_solver_does() -> None:
    said = set()
    for seed in range(12):
        problem = random_problem(seed, 10)
        singular = replace(problem.risk, specific=problem.risk.specific * 1e-9)
        found = solve(replace(problem, risk=singular))
        said.add((found.solved.solver, found.solved.fallback))
        if found.note == "":
            assert exposures_of(problem, found).max() <= 1e-8
    assert ("piqp", "") in said


@settings(max_examples=40)
@given(seeds, sizes, st.integers(-20, 20))
def test_units_do_not_matter(seed: int, n: int, power: int) -> None:
    problem = random_problem(seed, n)
    k = 2.0**power
    returns = replace(
        problem,
        alpha=problem.alpha * k,
        cost=problem.cost * k,
        aversion=problem.aversion * k,
    )
    assert solve(returns).weights == pytest.approx(solve(problem).weights, abs=1e-9)
    weights = replace(
        problem,
        aversion=problem.aversion / k,
        gross_max=problem.gross_max * k,
        **{name: getattr(problem, name) * k for name in ("held", "low", "high")},
    )
    assert solve(weights).weights / k == pytest.approx(solve(problem).weights, abs=1e-9)


# ---- bands ---------------------------------------------------------------------------------------


@given(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.floats(0.001, 0.2), st.floats(1e-5, 1e-2))
def test_one_instrument_without_constraints_trades_to_the_edge_of_its_band(
    held: float, ideal: float, band: float, cost: float
) -> None:
    problem = tracking(
        FactorForm(np.empty((1, 0)), np.array([0.007**2])),
        10.0,
        ideal=np.array([ideal]),
        band=np.array([band]),
        cost=np.array([cost]),
        held=np.array([held]),
        low=np.array([-10.0]),
        high=np.array([10.0]),
        exposures=np.empty((1, 0)),
        totals=np.empty(0),
        gross_max=100.0,
    )
    weights = solve(problem).weights
    edge = rebalance.nearest_edge(np.array([held]), np.array([ideal]), np.array([band]))
    assert weights == pytest.approx(edge, abs=1e-13)
    if abs(held - ideal) < band * (1 - 1e-9):
        assert weights[0] == held


def test_the_written_off_bars_are_those_of_the_worked_figures() -> None:
    band = rebalance.cube_root_band(
        np.array([5e-4]), np.array([0.004**2]), 10.0, np.array([4.9e-5])
    )
    bars = amortisation(np.array([5e-4]), band, 10.0, np.array([4.9e-5]))
    assert band == pytest.approx([0.0290399], abs=5e-8)
    assert bars == pytest.approx([35.138], abs=5e-4)
    without = amortisation(np.array([5e-4, 0.0]), np.append(band, 0.1), 10.0, np.full(2, 4.9e-5))
    assert without[1] == without[0]
    assert amortisation(np.zeros(2), np.ones(2), 10.0, np.ones(2)) == pytest.approx([1.0, 1.0])


@settings(max_examples=40)
@given(seeds, st.sampled_from([3, 8, 20]))
def test_with_like_correlations_of_none_a_neutral_book_follows_as_the_bands_alone_do(
    seed: int, n: int
) -> None:
    rng = np.random.default_rng(seed)
    ideal, held = (0.3 * (v - v.mean()) for v in rng.standard_normal((2, n)))
    band = rng.uniform(0.01, 0.1, n)
    cost, variance = rng.uniform(1e-4, 1e-3, n), rng.uniform(1e-5, 1e-4, n)
    reach = 5.0
    found = solve(
        tracking(
            FactorForm(np.empty((n, 0)), variance),
            10.0,
            ideal=ideal,
            band=band,
            cost=cost,
            held=held,
            low=np.full(n, -reach),
            high=np.full(n, reach),
            exposures=np.ones((n, 1)),
            totals=np.zeros(1),
            gross_max=1e3,
        )
    )
    boxes = rebalance.Limits(np.full(n, -reach), np.full(n, reach))
    plain = rebalance.neutral_rebalance(held, ideal, band, band / cost, boxes, drift_max=0.0)
    assert found.weights == pytest.approx(plain, abs=1e-9)


def test_an_ideal_that_is_held_is_left_alone() -> None:
    problem = random_problem(4, 20)
    held = np.where(problem.low < problem.high, problem.held, 0.0)
    held -= held.mean()
    found = solve(
        tracking(
            problem.risk,
            5.0,
            ideal=held,
            band=np.full(20, 0.01),
            cost=np.full(20, 1e-4),
            held=held,
            low=np.full(20, -1.0),
            high=np.full(20, 1.0),
            exposures=np.ones((20, 1)),
            totals=np.zeros(1),
            gross_max=10.0,
        )
    )
    assert (found.weights == held).all()


def test_the_solution_beats_every_feasible_neighbour() -> None:
    problem = random_problem(21, 12)
    found = solve(problem)
    best, rng = objective(problem, found.weights), np.random.default_rng(0)
    for _ in range(200):
        other = solve(replace(problem, alpha=problem.alpha + 1e-4 * rng.standard_normal(12)))
        if other.note == "":
            assert objective(problem, other.weights) >= best - 1e-13
