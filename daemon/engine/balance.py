"""Shrink the legs of a plan together, so that what is left of it ends inside the bounds.

Legs are only ever cut, never grown, in whole lots; what is left of a leg and could not be sent on
its own is given up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import ROUND_UP

from daemon.domain.units import quantise
from daemon.engine.execution import Leg


def signed_value(leg: Leg) -> float:
    """Give what is left of a leg in quote currency, negative where it sells."""
    return leg.size * leg.mark


def planned(legs: Iterable[Leg], betas: Sequence[float] | None = None) -> float:
    """Give the net (or, with betas, beta) notional that all of the legs together still add."""
    return sum(signed_value(leg) * (1.0 if betas is None else betas[leg.index]) for leg in legs)


def cut(leg: Leg, notional: float) -> float:
    """Take off a leg at least `notional` (>= 0) in whole lots; give what it really lost.

    The last cut may be more than asked for: a rest below what a venue takes goes as well.
    """
    before, step = leg.value, leg.rules.quantity_step
    if notional <= 0 or not leg.left:
        return 0.0
    size = min(quantise(notional / leg.mark, step, ROUND_UP), abs(leg.left))
    if abs(leg.left) - size < leg.smallest:
        size = abs(leg.left)
    leg.take(size if leg.left > 0 else -size)
    return before - leg.value


def trim_beta(legs: list[Leg], beta: float, betas: Sequence[float], bound: float) -> float:
    """Cut buys and sells in pairs of equal notional until the book ends inside the beta bound.

    beta: of the book before the legs; bound: both in quote currency. Each pair is the one whose
    loss mends most: net stays, beta comes back. Gives the notional cut, 0 where nothing had to be.
    """
    lost = 0.0
    for _ in range(2 * len(legs)):
        after = beta + planned(legs, betas)
        excess = abs(after) - bound
        if excess <= 0:
            return lost
        side = 1.0 if after > 0 else -1.0
        buys = [g for g in legs if g.left > 0]
        sells = [g for g in legs if g.left < 0]
        if not buys or not sells:
            return lost
        worst_buy = max(buys, key=lambda g: (side * betas[g.index], -g.index))
        worst_sell = min(sells, key=lambda g: (side * betas[g.index], g.index))
        gain = side * (betas[worst_buy.index] - betas[worst_sell.index])
        if gain <= 0:
            return lost
        size = min(excess / gain, worst_buy.value, worst_sell.value)
        lost += cut(worst_buy, size) + cut(worst_sell, size)
    return lost


def shrink_net(legs: list[Leg], excess: float) -> float:
    """Cut the legs that lean the way of `excess` (signed), opening ones and smaller ones first.

    Gives what of the excess is left, signed.
    """
    side = 1.0 if excess > 0 else -1.0
    leaning = [g for g in legs if side * signed_value(g) > 0]
    for leg in sorted(leaning, key=lambda g: (g.reduces, -g.value, g.index)):
        if side * excess <= 0:
            break
        # No more than the excess in whole lots: a repair must not lean the other way.
        step = float(leg.rules.quantity_step) * leg.mark
        if side * excess < step / 2:
            break
        excess -= side * cut(leg, side * excess - step / 2)
    return excess
