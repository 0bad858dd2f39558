"""Slices of a rebalance: whatever part of them fills, net exposure stays inside its bound."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain.instrument import TradingRules
from daemon.domain.lots import LOTS_MAX
from daemon.engine.execution import Leg, Plan
from daemon.engine.planning import exact_ratio

STEP = Decimal("0.01")


def leg(
    index: int, left: str, mark: float = 100.0, *, reduces: bool = False, smallest: Decimal = STEP
) -> Leg:
    rules = TradingRules(STEP, STEP, smallest, Decimal(0))
    size = float(left)
    return Leg(index, Decimal(left), size, mark, rules, reduces, abs(size) * mark)


def test_reducing_legs_go_first_and_sides_alternate_towards_zero() -> None:
    plan = Plan.of(0, [leg(0, "5"), leg(1, "-4"), leg(2, "-3", reduces=True), leg(3, "2")])
    sent, high, low = [], 0.0, 0.0
    while (child := plan.next_child(high, low, 1e9, 1e9)) is not None:
        sent.append(child[0].index)
        value = float(child[1]) * child[0].mark
        high, low = high + max(value, 0.0), low + min(value, 0.0)
    assert sent == [2, 0, 1, 3]
    assert plan.done


def test_a_leg_larger_than_the_room_is_cut_and_waits_for_the_rest() -> None:
    plan = Plan.of(0, [leg(0, "10")])
    child = plan.next_child(0.0, 0.0, bound=300.0, order_max=1e9)
    assert child is not None
    assert child[1] == Decimal("2.97")
    assert plan.next_child(299.0, 0.0, bound=300.0, order_max=1e9) is None
    assert not plan.done


def test_whatever_changes_its_legs_lets_a_plan_be_asked_again() -> None:
    plan = Plan.of(0, [leg(0, "10"), leg(1, "-2")])
    changes: tuple[Callable[[], object], ...] = (
        lambda: plan.add([leg(2, "1")]),
        lambda: plan.reprice([90.0, 110.0, 100.0]),
        plan.prune,
        plan.drop_next,
    )
    for change in changes:
        plan.no_room = (1.0, 2.0)
        change()
        assert not plan.no_room


def test_a_slice_never_leaves_a_rest_too_small_to_send() -> None:
    big = leg(0, "10", smallest=Decimal(1))
    plan = Plan.of(0, [big])
    child = plan.next_child(0.0, 0.0, bound=1e9, order_max=950.0)
    assert child is not None
    assert child[1] == Decimal(9)


def test_a_slice_is_worth_the_least_notional_that_the_venue_takes() -> None:
    rules = TradingRules(STEP, STEP, STEP, notional_min=Decimal(100))
    assert Leg(0, Decimal(10), 10.0, 30.0, rules, reduces=False, value=300.0).smallest == Decimal(
        "3.34"
    )


def test_the_largest_leg_that_fits_nowhere_is_named() -> None:
    plan = Plan.of(0, [leg(0, "1"), leg(1, "-7")])
    assert plan.next_child(0.0, 0.0, bound=0.5, order_max=1e9) is None
    dropped = plan.drop_next()
    assert dropped is not None
    assert dropped.index == 1


sizes = st.integers(-400, 400).filter(bool)


@given(
    st.lists(sizes, min_size=1, max_size=12),
    st.integers(50, 2_000),
    st.lists(st.floats(0, 1), min_size=200, max_size=200),
)
@settings(max_examples=200)
def test_no_subset_of_fills_can_push_net_past_the_bound(
    lots: list[int], bound: int, fates: list[float]
) -> None:
    plan = Plan.of(0, [leg(i, str(Decimal(n) * STEP), 100.0 + i) for i, n in enumerate(lots)])
    net, fate = 0.0, iter(fates)
    out: list[float] = []
    for _ in range(200):
        high = net + sum(v for v in out if v > 0)
        low = net + sum(v for v in out if v < 0)
        assert high <= bound + 1e-6
        assert low >= -bound - 1e-6
        child = plan.next_child(high, low, float(bound), 1e9)
        if child is not None:
            out.append(float(child[1]) * child[0].mark)
        elif out:
            net += out.pop(int(next(fate, 0.0) * (len(out) - 1)))
        else:
            break


@given(
    lots=st.integers(-(2**52), 2**52),
    step=st.decimals("0.00000001", "1000", allow_nan=False, places=8),
)
def test_a_size_from_lots_is_the_float_of_the_exact_quantity_to_the_last_bit(
    lots: int, step: Decimal
) -> None:
    top, bottom = exact_ratio(step)
    whole = float(lots) * top
    if abs(whole) < LOTS_MAX:
        assert whole / bottom == float(lots * step)


def test_a_step_that_floats_do_not_hold_is_left_to_the_exact_way() -> None:
    top, _ = exact_ratio(Decimal(2**53 + 1))
    assert not abs(1.0 * top) < LOTS_MAX
