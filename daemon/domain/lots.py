"""Turn target weights into whole lots, jointly over all legs: the one border from weights to lots.

Rounding each leg by itself unbalances the book, and a leg too small to trade leaves its counterpart
alone. Here all legs are rounded towards zero, what cannot be traded is taken off the other side,
and then single roundings are flipped outwards until the net notional is as near as single flips
bring it to what the weights ask for. Where net and beta have bounds, legs are shrunk until the book
is inside both, and roundings are chosen for both at once (`daemon.domain.roundings`). Floats hold
whole numbers of lots (exact below 2^53); `quantities` gives the exact Decimals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from daemon.domain.failures import InvariantViolated
from daemon.domain.instrument import TradingRules, Universe
from daemon.domain.lot_problem import (
    LOT_TOLERANCE,
    REDISTRIBUTIONS_MAX,
    LotProblem,
    count,
    may_flip,
    whole,
)
from daemon.domain.lots_within import lots_within
from daemon.domain.roundings import Bounds
from daemon.domain.units import require

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

LOTS_MAX: Final = 2.0**53  # above it a float skips whole numbers
FEW_LEGS: Final = 16  # up to here plain numbers are faster than arrays
BALANCED: Final = 1e-12  # share of the traded notional below which nothing is missing


@dataclass(frozen=True, slots=True)
class LotRules:
    """Hold the trading rules as columns, (N,): base units, and quote currency for notional_min.

    rows: step, notional_min and lots_min of each instrument once more, to read single numbers.
    """

    steps: Floats
    quantity_min: Floats
    notional_min: Floats
    lots_min: Floats = field(init=False)
    is_lot_enough: bool = field(init=False)
    rows: list[tuple[float, float, float]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require(bool((self.steps > 0).all()), "a quantity step is not positive")
        # A trade of one lot is the least there is, whatever smaller minimum a venue states.
        least = np.maximum(np.ceil(self.quantity_min / self.steps - LOT_TOLERANCE), 1.0)
        object.__setattr__(self, "lots_min", least)
        object.__setattr__(self, "is_lot_enough", bool((least <= 1.0).all()))
        columns = (self.steps.tolist(), self.notional_min.tolist(), least.tolist())
        object.__setattr__(self, "rows", list(zip(*columns, strict=True)))

    @classmethod
    def of(cls, universe: Universe) -> LotRules:
        """Read the columns off a universe."""
        return cls(universe.steps(), universe.quantity_minima(), universe.notional_minima())


class FeasibleBook(Struct, frozen=True, gc=False):
    """Hold the trades of one decision, legs by index in ascending order.

    trades: (index, signed whole lots as float64) of every leg that trades. net_error: by how much
    the trades miss the wanted change of net notional, in quote currency. left_out: legs whose
    weight should change but that cannot trade (too small, untradable, not allowed to grow) or were
    given up for those. dust: legs that should shrink or go but hold less than the venue takes: they
    stay, and the others offset them. shrunk: notional that is not traded for the bounds' sake.
    """

    instruments_n: int
    trades: list[tuple[int, float]]
    net_error: float
    left_out: Sequence[int] = ()
    dust: Sequence[int] = ()
    shrunk: float = 0.0

    @property
    def lots(self) -> Floats:
        """Give the signed whole lots to trade as an array, (N,)."""
        lots = np.zeros(self.instruments_n)
        for index, lots_n in self.trades:
            lots[index] = lots_n
        return lots

    @property
    def dropped(self) -> Flags:
        """Tell which legs were left out, (N,)."""
        dropped = np.zeros(self.instruments_n, dtype=np.bool_)
        dropped[list(self.left_out)] = True
        return dropped

    @property
    def note(self) -> str:
        """Say in plain words what was dropped, '' when nothing was."""
        count = len(self.left_out)
        return f"{count} leg(s) left as they are: too small or not tradable" if count else ""


def quantities(lots: Floats, rules: Sequence[TradingRules]) -> dict[int, Decimal]:
    """Give the exact signed quantity (base units) of every leg that trades, by its index."""
    return {
        i: Decimal(int(lots[i])) * rules[i].quantity_step for i in np.flatnonzero(lots).tolist()
    }


def feasible_book(
    weights: Floats,
    *,
    equity: float,
    marks: Floats,
    quantities: Floats,
    rules: LotRules,
    trade: Flags | None = None,
    untradable: Flags | None = None,
    reduce_only: Flags | None = None,
    net_tolerance: float = 0.0,
    bounds: Bounds | None = None,
) -> FeasibleBook:
    """Find the whole-lot trades that bring the book nearest to its target weights.

    weights: (N,) targets, fractions of equity; NaN, or False in `trade`, leaves a leg untouched.
    marks: (N,) prices, read where traded. quantities: (N,) held, base units. untradable: legs whose
    wanted change cannot happen; the others make up for it. reduce_only: legs that may neither grow
    nor change sign. net_tolerance: a net error up to this (quote currency) is left as it is.
    bounds: of net and beta after the trades; see `lots_within`. Without them net alone is balanced.

    A leg is dropped when its trade is below quantity_min, or below notional_min unless it closes
    the position completely. A rest smaller than one step stays as dust. Within what the minima
    leave, no other single rounding would bring the net nearer to what the weights ask for. Raises
    InvariantViolated for an equity or a traded mark that is not positive, or beyond 2^53 lots.
    """
    if not equity > 0:
        raise InvariantViolated(f"equity {equity} must be positive")
    if trade is not None and untradable is None and reduce_only is None and bounds is None:
        plain = _plain_book(weights, equity, marks, quantities, rules, trade, net_tolerance)
        if plain is not None:
            return plain
    moves = np.isfinite(weights) if trade is None else trade
    if untradable is not None:
        moves = moves & ~(untradable & ~np.isfinite(marks))
    value = np.where(moves, marks, 1.0) * rules.steps  # of one lot, quote currency
    require(not count(value <= 0), "a traded leg has a mark that is not positive")
    held = quantities / rules.steps
    wanted = np.where(moves, weights * equity / value - held, 0.0)
    # Also false for NaN: a traded leg without a weight or a mark.
    is_number = count(np.abs(wanted) < LOTS_MAX) == len(wanted)
    require(is_number, "a traded leg asks for no number, or for more than 2^53 lots")
    least = (rules.notional_min, rules.lots_min, rules.is_lot_enough)
    plan = LotProblem(wanted, held, value, *least, untradable, reduce_only)
    shrunk = 0.0
    if bounds is None:
        exact, lots = _redistributed(plan)
        error = float(value @ (lots - wanted))
        if abs(error) > net_tolerance:
            lots, error = _flipped(plan, exact, lots, error, net_tolerance)
    else:
        exact, lots, shrunk = lots_within(plan, bounds)
        error = float(value @ (lots - wanted))
    traded = lots.nonzero()[0]
    trades = list(zip(traded.tolist(), lots[traded].tolist(), strict=True))
    left_out = [] if exact is wanted else ((wanted != 0) & (exact == 0)).nonzero()[0].tolist()
    return FeasibleBook(len(lots), trades, error, left_out, plan.dust(lots), shrunk)


def _plain_book(
    weights: Floats,
    equity: float,
    marks: Floats,
    quantities: Floats,
    rules: LotRules,
    trade: Flags,
    net_tolerance: float,
) -> FeasibleBook | None:
    """Round a few legs one by one, where no leg has to make up for another; None where one has.

    Most decisions move a few legs only, and plain numbers are then ten times faster than arrays.
    """
    legs = trade.nonzero()[0].tolist()
    if len(legs) > FEW_LEGS:
        return None
    trades, dust, error = [], list[int](), 0.0
    for i in legs:
        step, notional_min, lots_min = rules.rows[i]
        value = marks.item(i) * step
        if not value > 0:
            return None
        held = quantities.item(i) / step
        wanted = weights.item(i) * equity / value - held
        if not abs(wanted) < LOTS_MAX:
            return None
        whole = math.trunc(wanted + math.copysign(LOT_TOLERANCE, wanted))
        size = abs(whole)
        if size and (size * value < notional_min or size < lots_min):
            return None
        if size:
            trades.append((i, float(whole)))
        elif wanted * held < 0 and abs(held) < lots_min - LOT_TOLERANCE:
            dust.append(i)
        error += value * (whole - wanted)
    if abs(error) > net_tolerance:
        return None
    return FeasibleBook(len(weights), trades, error, dust=dust)


def _redistributed(plan: LotProblem) -> tuple[Floats, Floats]:
    """Drop what cannot trade and take its imbalance off the other legs; give exact and whole lots.

    Legs on the side that is now too heavy shrink in proportion; only when none is left to shrink do
    the others grow, in all rounds together to `LotProblem.growth`. Legs that close a position are
    not shrunk: they have to go.
    """
    exact = plan.allowed()
    most = plan.growth(exact)
    lots = whole(exact)
    small = plan.too_small(lots)
    if exact is plan.wanted and not count(small):
        return exact, lots
    for _ in range(REDISTRIBUTIONS_MAX):
        exact = np.where(small, 0.0, exact)
        missing = float(plan.value @ (exact - plan.wanted))
        if not count(small) and abs(missing) <= BALANCED * float(plan.value @ np.abs(plan.wanted)):
            break
        exact = _offset(plan, exact, missing, most)
        lots = whole(exact)
        small = plan.too_small(lots)
    # Rounds may run out while legs still fall below their minima: those are dropped in any case.
    return np.where(small, 0.0, exact), np.where(small, 0.0, lots)


def _offset(plan: LotProblem, exact: Floats, missing: float, most: Floats) -> Floats:
    """Take `missing` (quote currency, signed) off the legs: shrink the heavy side, then grow.

    most: (N,) the sizes in lots that no leg grows beyond; the next round finds what that leaves.
    """
    notional = plan.value * exact
    free = ~plan.closes(whole(exact))
    heavy = free & (notional * missing > 0)
    weight = float(np.abs(notional[heavy]).sum())
    cut = min(1.0, abs(missing) / weight) if weight > 0 else 0.0
    exact = np.where(heavy, exact * (1.0 - cut), exact)
    left = abs(missing) - cut * weight
    light = free & (notional * missing < 0) & (np.abs(exact) < most)
    if plan.reduce_only is not None:
        light &= ~plan.reduce_only
    room = float(np.abs(notional[light]).sum())
    if left <= 0 or room == 0:
        return exact
    grown = np.minimum(np.abs(exact) * (1.0 + left / room), most)
    return np.where(light, np.copysign(grown, exact), exact)


def _flipped(
    plan: LotProblem, exact: Floats, lots: Floats, error: float, tolerance: float
) -> tuple[Floats, float]:
    """Flip single roundings outwards (and back) while that brings the net error nearer to zero."""
    index = np.flatnonzero(may_flip(plan, exact, lots))
    step = np.sign(exact[index])
    lots = lots.copy()
    for _ in range(2 * len(index)):
        change = step * plan.value[index]
        after = np.abs(error + change)
        best = int(np.argmin(after))
        if after[best] >= abs(error) or abs(error) <= tolerance:
            break
        lots[index[best]] += step[best]
        error += float(change[best])
        step[best] = -step[best]
    return lots, error
