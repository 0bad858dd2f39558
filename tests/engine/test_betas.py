"""Beta exposure: measured as strategies measure it, bounded at the worst case of what is out."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from daemon.domain.bar import Floats
from daemon.domain.instrument import TradingRules
from daemon.domain.order import RefusalReason
from daemon.engine.balance import planned, trim_beta
from daemon.engine.betas import RELIEF_SHARE, BetaExposure, market_betas
from daemon.engine.execution import Leg, Plan
from daemon.engine.risk import RiskLimits
from strategies.risk import residual_risk
from tests.engine.test_risk import book_of, order, reserve, verdict
from tests.engine.world import FixedWeights, bars, decided, feed, trading_engine

STEP = Decimal("0.01")


def closes_of(betas: list[float], bars_n: int, noise: float = 0.0005, seed: int = 1) -> Floats:
    rng = np.random.default_rng(seed)
    market = rng.normal(0, 0.01, bars_n)
    own = rng.normal(0, noise, (bars_n, len(betas)))
    closes: Floats = 100 * np.exp(np.cumsum(market[:, None] * np.array(betas) + own, axis=0))
    return closes


def test_betas_are_those_that_strategies_size_by() -> None:
    closes = closes_of([0.5, 0.8, 1.2, 1.5], 169)
    closes[40, 1] = np.nan
    theirs = residual_risk(closes, half_life_bars=48.0).beta
    assert market_betas(closes) == pytest.approx(theirs.tolist(), rel=1e-12)


def test_a_planted_beta_is_found_and_shrunk_towards_one() -> None:
    found = market_betas(closes_of([0.5, 0.8, 1.2, 1.5], 169))
    assert found == pytest.approx([0.7 * b + 0.3 for b in (0.5, 0.8, 1.2, 1.5)], abs=0.02)


def test_too_few_returns_or_a_still_market_count_as_one() -> None:
    closes = closes_of([0.5, 1.5], 60)
    closes[:40, 0] = np.nan
    assert market_betas(closes)[0] == 1.0
    assert market_betas(np.full((60, 2), 100.0)) == [1.0, 1.0]


# ---- the last word -------------------------------------------------------------------------------

LIMITS = RiskLimits(
    gross_weight_max=9, net_weight_max=9, name_weight_max=9, order_weight_max=9, beta_weight_max=0.1
)
BETAS = [2.0, 0.5, 0.0, -1.0]


@pytest.mark.parametrize(
    ("held", "pending", "quantity", "index", "expected"),
    [
        # 0.1 of 10,000 USDT is 1,000: 5 coins of beta 2, less 0.1 x 1 % of what is traded
        ("0", "0", "4.99", 0, None),
        ("0", "0", "5.01", 0, RefusalReason.BETA),
        ("0", "0", "-5.01", 0, RefusalReason.BETA),
        ("0", "0", "19.9", 1, None),
        ("0", "0", "500", 2, None),  # without beta
        ("0", "0", "-9.98", 3, None),  # short what falls when the market rises
        ("0", "0", "-10.01", 3, RefusalReason.BETA),
        ("0", "3", "1.99", 0, None),  # what is out counts as if it were filled
        ("0", "3", "2.01", 0, RefusalReason.BETA),
        ("0", "-3", "5.01", 0, RefusalReason.BETA),  # but never to our advantage
        ("8", "0", "-10", 0, None),  # outside, and on the way back in
        ("8", "0", "0.1", 0, RefusalReason.BETA),
    ],
)
def test_beta_is_bounded_at_the_worst_case_of_what_is_out(
    held: str, pending: str, quantity: str, index: int, expected: RefusalReason | None
) -> None:
    book = book_of(held)
    book.count_beta(list(BETAS))
    if Decimal(pending):
        reserve(book, order(pending))
    assert verdict(book, order(quantity, index), limits=LIMITS) is expected


def test_without_the_limit_nobody_looks_at_beta() -> None:
    off = RiskLimits(gross_weight_max=9, net_weight_max=9, name_weight_max=9, order_weight_max=9)
    assert verdict(book_of(), order("300"), limits=off) is None


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(-500, 500).filter(bool)), max_size=30),
    st.randoms(use_true_random=False),
)
@settings(max_examples=60)
def test_step_by_step_it_is_what_a_sum_over_everything_gives(
    sent: list[tuple[int, int]], rng: object
) -> None:
    book = book_of()
    book.count_beta(list(BETAS))
    out: list[tuple[int, float]] = []
    for index, lots in sent:
        quantity = lots / 100
        if rng.random() < 0.6:  # type: ignore[attr-defined]
            book.reserve(index, quantity)
            out.append((index, quantity))
        elif out:
            gone, left = out.pop()
            book.release(gone, Decimal(repr(left)))
        exposure = book.beta
        assert exposure is not None
        effects = [q * 100.0 * BETAS[i] for i, q in out]
        assert exposure.up == pytest.approx(sum(e for e in effects if e > 0), abs=1e-6)
        assert exposure.down == pytest.approx(-sum(e for e in effects if e < 0), abs=1e-6)


# ---- plans ---------------------------------------------------------------------------------------


def leg(index: int, left: str) -> Leg:
    rules = TradingRules(STEP, STEP, STEP, Decimal(0))
    size = float(left)
    return Leg(index, Decimal(left), size, 100.0, rules, reduces=False, value=abs(size) * 100.0)


@given(
    st.lists(st.integers(-400, 400).filter(bool), min_size=1, max_size=10),
    st.lists(st.floats(-0.5, 2.5), min_size=10, max_size=10),
    st.integers(100, 1_000),
    st.integers(100, 1_000),
    st.lists(st.floats(0, 1), min_size=300, max_size=300),
)
@settings(max_examples=150)
def test_no_subset_of_fills_can_push_net_or_beta_past_its_bound(
    lots: list[int], betas: list[float], bound: int, beta_bound: int, fates: list[float]
) -> None:
    plan = Plan.of(0, [leg(i, str(Decimal(n) * STEP)) for i, n in enumerate(lots)])
    exposure = BetaExposure(10)
    exposure.betas = betas
    net, fate, out = 0.0, iter(fates), list[tuple[int, float]]()
    for _ in range(300):
        high = net + sum(v for _, v in out if v > 0)
        low = net + sum(v for _, v in out if v < 0)
        room = exposure.room(float(beta_bound))
        assert max(high, -low) <= bound + 1e-6
        assert max(room.high, -room.low) <= beta_bound + 1e-6
        child = plan.next_child(high, low, float(bound), 1e9, beta=room)
        if child is not None:
            value = child[2] * 100.0
            exposure.pend(child[0].index, value, 1.0)
            out.append((child[0].index, value))
        elif out:
            index, value = out.pop(int(next(fate, 0.0) * (len(out) - 1)))
            exposure.pend(index, value, -1.0)
            if next(fate, 0.0) < 0.8:
                exposure.filled(index, value, 1e4)
                net += value
        else:
            break


@given(
    st.lists(st.tuples(st.integers(1, 200), st.floats(0.2, 2.0)), min_size=2, max_size=8),
    st.integers(100, 1_000),
    st.integers(100, 1_000),
)
@example([(1, 2.0), (11, 2.0), (23, 1.0), (85, 0.75), (204, 2.0), (244, 1.0)], 134, 100)
@settings(max_examples=100)
def test_a_book_in_the_corner_of_both_bounds_is_closed_and_hardly_leaves_them(
    held: list[tuple[int, float]], bound: int, beta_bound: int
) -> None:
    """Long what moves more and short what moves less, with prices that took it out there."""
    middle = sorted(beta for _, beta in held)[len(held) // 2]
    sizes = [lots / 100 * (1 if beta >= middle else -1) for lots, beta in held]
    exposure = BetaExposure(len(held))
    exposure.betas = [beta for _, beta in held]
    net = sum(size * 100.0 for size in sizes)
    exposure.net = sum(size * 100.0 * beta for size, (_, beta) in zip(sizes, held, strict=True))
    most = max(1.0, abs(net) / bound, abs(exposure.net) / beta_bound) + 0.0501
    legs = [leg(i, str(round(-size, 2))) for i, size in enumerate(sizes)]
    for one in legs:
        one.reduces = True
    plan = Plan.of(0, legs)
    while not plan.done:
        room = exposure.room(float(beta_bound))
        child = plan.next_child(net, net, float(bound), 1e9, beta=room)
        child = child or plan.relief(net, float(bound), room)
        if child is None:
            assert max(abs(net) / bound, abs(room.high) / beta_bound) > 1.0 + RELIEF_SHARE, "locked"
            break
        value = child[2] * 100.0
        net += value
        exposure.net += value * exposure.betas[child[0].index]
        assert max(abs(net) / bound, abs(exposure.net) / beta_bound) <= most


@pytest.mark.parametrize(
    ("index", "quantity", "open_n", "expected"),
    [
        (0, "-0.1", 0, None),  # closes, brings beta back, and takes net further by 0.8 % of it
        (0, "-0.3", 0, RefusalReason.NET),  # too much at once
        (0, "-0.1", 1, RefusalReason.NET),  # not alone
        (2, "-0.1", 0, RefusalReason.NET),  # opens
        (1, "0.1", 0, RefusalReason.BETA),  # net is past its bound too, but not as far
    ],
)
def test_the_last_word_lets_one_small_closing_order_out_of_the_corner(
    index: int, quantity: str, open_n: int, expected: RefusalReason | None
) -> None:
    book = book_of("8", "-22")
    book.count_beta([2.0, 0.5, 1.0, 1.0])
    limits = replace(LIMITS, net_weight_max=0.13, beta_weight_max=0.04)
    assert (book.net, book.beta and book.beta.net) == (-1400.0, 500.0)
    assert verdict(book, order(quantity, index), open_n=open_n, limits=limits) is expected


def test_a_plan_that_would_end_past_the_beta_bound_is_cut_in_pairs_and_keeps_its_net() -> None:
    legs = [leg(0, "10"), leg(1, "5"), leg(2, "-10"), leg(3, "-5")]
    betas = [2.0, 1.0, 0.5, 1.0]
    assert planned(legs, betas) == 1_500.0
    assert trim_beta(legs, 0.0, betas, 600.0) > 0
    assert planned(legs, betas) == pytest.approx(600.0, abs=2.0)
    assert planned(legs) == pytest.approx(0.0, abs=1e-9)
    assert [g.left for g in legs] == [4, 5, -4, -5]


def test_what_is_inside_the_bound_is_not_cut() -> None:
    legs = [leg(0, "10"), leg(1, "-10")]
    assert trim_beta(legs, 0.0, [1.1, 1.0], 100.5) == 0.0
    assert [str(g.left) for g in legs] == ["10", "-10"]


def test_betas_stand_still_from_one_decision_to_the_next_and_survive_a_restart() -> None:
    limits = RiskLimits(net_weight_max=0.5, beta_weight_max=0.5)
    engine = trading_engine(FixedWeights(lambda _: [0.1, -0.1, 0.0, 0.0]), limits=limits)
    closes = closes_of([0.5, 0.8, 1.2, 1.5], 60)
    for bar, row in enumerate(closes, start=3):
        told = feed(engine, bars(bar, row.tolist()))
        exposure = engine.state.book.beta
        assert exposure is not None
        before = list(exposure.betas)
        if not decided(told) and bar % 2:
            assert exposure.betas == before
    again = trading_engine(FixedWeights(lambda _: [0.1, -0.1, 0.0, 0.0]), limits=limits)
    again.restore(engine.state.to_plain())
    assert again.state.book.beta is not None
    assert again.state.book.beta.to_plain() == engine.state.book.beta.to_plain()  # type: ignore[union-attr]
