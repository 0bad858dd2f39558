"""What fills cost against the price a decision saw, by way of execution and class of instrument.

    shortfall = signed quantity x (fill price - reference price)     cost = shortfall + fee

in bps of notional at the reference price. The ways: `cross` (at once), `passive` (a post-only order
that was filled) and `rest` (what a passive order did not trade and crossed later, against the price
before the wait, so that waiting is paid for here). The classes: `liquid`, the names that hedges are
made in, and `other`. The same sums are kept of each instrument.

What is believed of an instrument leans on its class, and that on what was assumed:

    class = (50 assumed + n measured) / (50 + n),   cost = (50 class + m measured) / (50 + m)

with n fills of the class and m of the instrument, in the ways of the present style.

Sums are halved whenever 2,000 fills are in them, so that old fills are forgotten and nothing grows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from daemon.domain.bar import Floats
from daemon.domain.instrument import Universe
from daemon.domain.order import Order
from daemon.engine.styles import ExecutionRules, Style

KEPT_MAX: Final = 2_000  # fills
PRIOR_FILLS: Final = 50.0  # what is leant on counts as so many fills
CLASSES: Final = ("liquid", "other")
# places in the sums
_FILLS, _NOTIONAL, _SHORTFALL, _FEES = range(4)


class Costs:
    """Keep running costs in `sums` and `legs`, which are the state's own: four numbers a name.

    A name is a way and a class, in `legs` a way and an instrument; the numbers: fills, notional,
    shortfall and fees, the last three in quote currency.
    """

    def __init__(
        self, sums: dict[str, list[float]], legs: dict[str, list[float]], rules: ExecutionRules
    ) -> None:
        self._sums, self._legs = sums, legs
        self._hedges = frozenset(rules.hedges)
        self._at_once = "rest" if rules.style is Style.PASSIVE else "cross"
        self._ways = ("passive", "rest") if rules.style is Style.PASSIVE else ("cross",)
        self._universe: Universe | None = None
        self._classes: list[str] = []
        self._names: list[str] = []
        self._market: list[tuple[list[float], list[float]]] = []
        self._passive: list[tuple[list[float], list[float]]] = []

    def took(
        self, order: Order, universe: Universe, notional: float, shortfall: float, fee: float
    ) -> None:
        """Count a fill of an order; notional (>= 0) at its reference price."""
        if universe is not self._universe:
            self._learn(universe)
        for sums in (self._passive if order.post_only else self._market)[order.index]:
            if sums[_FILLS] >= KEPT_MAX:
                sums[:] = [value / 2 for value in sums]
            sums[_FILLS] += 1.0
            sums[_NOTIONAL] += notional
            sums[_SHORTFALL] += shortfall
            sums[_FEES] += fee

    def _learn(self, universe: Universe) -> None:
        self._universe = universe
        liquid, other = CLASSES
        self._classes = [liquid if i.base in self._hedges else other for i in universe.instruments]
        self._names = [str(i.key) for i in universe.instruments]
        # by column, the same lists as in the sums: fills are many
        columns = list(zip(self._classes, self._names, strict=True))
        self._market = [self._of(self._at_once, *names) for names in columns]
        self._passive = [self._of("passive", *names) for names in columns]

    def _of(self, way: str, kind: str, name: str) -> tuple[list[float], list[float]]:
        return (
            self._sums.setdefault(f"{way} {kind}", [0.0, 0.0, 0.0, 0.0]),
            self._legs.setdefault(f"{way} {name}", [0.0, 0.0, 0.0, 0.0]),
        )

    def believed(self, assumed: Floats, universe: Universe) -> Floats:
        """Give one-way costs (N,) as fractions of notional, as the module says.

        Of few fills the assumed cost counts most; a measured gain is no cost.
        """
        if universe is not self._universe:
            self._learn(universe)
        kinds = {name: self._seen(self._sums, name) for name in CLASSES}
        believed = _leaning(assumed, [kinds[name] for name in self._classes])
        believed = _leaning(believed, [self._seen(self._legs, name) for name in self._names])
        return np.maximum(believed, 0.0)

    def _seen(self, sums: Mapping[str, list[float]], name: str) -> tuple[float, float]:
        """Give fills and mean cost, as a fraction of notional, of the present style."""
        rows = [sums[key] for way in self._ways if (key := f"{way} {name}") in sums]
        notional = sum(row[_NOTIONAL] for row in rows)
        if not notional:
            return 0.0, 0.0
        paid = sum(row[_SHORTFALL] + row[_FEES] for row in rows)
        return sum(row[_FILLS] for row in rows), paid / notional


def _leaning(prior: Floats, seen: Sequence[tuple[float, float]]) -> Floats:
    fills, measured = np.array(seen).T
    return np.asarray((PRIOR_FILLS * prior + fills * measured) / (PRIOR_FILLS + fills))


def shown_costs(sums: Mapping[str, list[float]]) -> str:
    """Write shortfall and fee in bps of notional with the count of fills, by name, for people."""
    parts = []
    for name in sorted(sums):
        fills, notional, shortfall, fees = sums[name]
        if notional:
            bps = f"{shortfall / notional * 1e4:+.2f} and fee {fees / notional * 1e4:.2f} bps"
            parts.append(f"{name} {bps} of {fills:.0f} fills")
    return "; ".join(parts)
