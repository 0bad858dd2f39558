"""The friction law: what is left of a signal after costs when trades wait in the best way.

A target that follows an AR(1) with sd 1, w* = phi w* + noise, earns its own size each bar: holding
w earns w w*, and trading costs c per unit. With the friction number F = c (1 - phi) / sd(alpha),
the share of the Sharpe ratio that is left,

    R = mean(w w* - c |dw|) / sqrt(mean(w^2)),

is nearly a function of F alone, whatever the half-life. What is run here are the functions that
decide in trading, many paths at once: `rebalance.cube_root_band`, `rebalance.updated_velocity2` and
`rebalance.nearest_edge`, without the portfolio around them. Expected gains are counted, not
realised ones, so that noise of returns hides nothing. In these units nu^2 = 2 (1 - phi) and
gamma sigma^2 = 1, hence h = (3F)^(1/3).

`PUBLISHED` are the figures that an independent study of the same law found: 15,000 bars, 200 paths,
ranges over half-lives of 3, 12 and 48 bars. Trading in full has a closed form, which checks the
simulation itself: R = 1 - F sqrt(4 / (pi (1 - phi))).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Floats
from daemon.domain.units import require
from strategies import rebalance
from strategies.book_memory import VELOCITY_HALF_LIFE_HOURS

Indices = npt.NDArray[np.intp]

HALF_LIVES: Final = (3, 12, 48)
PATHS: Final = 200
BARS: Final = 15_000
TOLERANCE: Final = 0.03
WIDTH_TOLERANCE: Final = 0.10  # two steps of the grid: the best width is a flat top
WIDTH_ROUNDING: Final = 0.006  # two published decimals
GRID_STEP: Final = 0.05
GRID_END: Final = 2.6
WARM_UP_HALF_LIVES: Final = 10
GROUPS: Final = 10  # of paths, for the standard error


class Range(NamedTuple):
    """Hold the ends of a published range."""

    low: float
    high: float

    @property
    def middle(self) -> float:
        """Give the middle, which figures are compared with."""
        return 0.5 * (self.low + self.high)


class Published(NamedTuple):
    """Hold a row of the published table: shares of Sharpe kept, and half-widths in target sds."""

    best: Range
    best_width: Range
    rule_width: float
    rule: Range


PUBLISHED: Final = {
    0.05: Published(Range(0.87, 0.90), Range(0.20, 0.45), 0.53, Range(0.85, 0.87)),
    0.10: Published(Range(0.79, 0.82), Range(0.35, 0.60), 0.67, Range(0.78, 0.80)),
    0.20: Published(Range(0.68, 0.70), Range(0.55, 0.80), 0.84, Range(0.67, 0.68)),
    0.30: Published(Range(0.59, 0.61), Range(0.70, 0.95), 0.97, Range(0.59, 0.60)),
    0.50: Published(Range(0.45, 0.47), Range(0.95, 1.20), 1.14, Range(0.45, 0.46)),
    0.70: Published(Range(0.35, 0.36), Range(1.15, 1.40), 1.28, Range(0.35, 0.36)),
    1.00: Published(Range(0.23, 0.24), Range(1.40, 1.60), 1.44, Range(0.23, 0.24)),
    1.50: Published(Range(0.11, 0.12), Range(1.80, 2.00), 1.65, Range(0.09, 0.11)),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """Hold what one half-life and friction number showed.

    best, rule, measured, full: share of the Sharpe ratio kept with the best constant band, with
    the cube-root band, with that band from the velocity as it is measured while trading, and when
    trading in full. Widths are in sds of the target. standard_error: of best, over groups of paths.
    health: trading cost over tracking loss under the cube-root band.
    """

    half_life: int
    friction: float
    best: float
    best_width: float
    rule: float
    rule_width: float
    measured: float
    full: float
    standard_error: float
    health: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Hold one figure beside its published one; found - published is judged by `tolerance`."""

    name: str
    found: float
    published: float
    tolerance: float

    @property
    def difference(self) -> float:
        """Give found less published."""
        return self.found - self.published

    @property
    def passed(self) -> bool:
        """Tell whether the figures agree."""
        return abs(self.difference) <= self.tolerance


@dataclass(frozen=True, slots=True)
class _Totals:
    """Hold sums per path of one run, (bands, paths): gains, |trades|, weight and gap squared."""

    earned: Floats
    traded: Floats
    power: Floats
    gap: Floats
    bars: int

    def kept(self, band: int, cost: float) -> float:
        """Give the share of the Sharpe ratio that a band keeps at a cost."""
        return self._share(band, cost, slice(None))

    def health(self, band: int, cost: float) -> float:
        """Give trading cost over tracking loss."""
        return float(cost * self.traded[band].sum() / (0.5 * self.gap[band].sum()))

    def standard_error(self, band: int, cost: float) -> float:
        """Give the standard error of `kept`, from the spread over groups of paths."""
        rows = np.array_split(np.arange(self.earned.shape[1]), GROUPS)
        shares = [self._share(band, cost, row) for row in rows]
        return float(np.std(shares, ddof=1) / GROUPS**0.5)

    def _share(self, band: int, cost: float, paths: slice | Indices) -> float:
        earned, traded, power = (x[band, paths] for x in (self.earned, self.traded, self.power))
        net = earned.sum() - cost * traded.sum()
        return float(net / np.sqrt(power.sum() * earned.size * self.bars))


def cells(
    half_life: int,
    frictions: Sequence[float] = tuple(PUBLISHED),
    *,
    paths: int = PATHS,
    bars: int = BARS,
    seed: int = 7,
) -> list[Cell]:
    """Simulate one half-life (in bars) and judge every friction number on the same paths."""
    require(half_life > 0, f"half-life {half_life}: must be positive")
    require(paths >= GROUPS, f"{paths} paths: at least {GROUPS} are needed")
    require(bars >= 1, f"{bars} bars: at least one is needed")
    phi = 0.5 ** (1.0 / half_life)
    costs = np.array(frictions) / (1.0 - phi)
    velocity2 = np.full(len(costs), 2.0 * (1.0 - phi))
    rule = rebalance.cube_root_band(costs, velocity2, 1.0, np.ones(len(costs)))
    grid = np.arange(0.0, GRID_END, GRID_STEP)
    totals = _totals(np.concatenate([grid, rule]), costs, phi, paths, bars, seed)
    found = []
    for k, (F, cost) in enumerate(zip(frictions, costs.tolist(), strict=True)):
        curve = np.array([totals.kept(j, cost) for j in range(len(grid))])
        top, at_rule = int(curve.argmax()), len(grid) + k
        found.append(
            Cell(
                half_life=half_life,
                friction=F,
                best=float(curve[top]),
                best_width=_top_of(grid, curve, top),
                rule=totals.kept(at_rule, cost),
                rule_width=float(rule[k]),
                measured=totals.kept(len(grid) + len(costs) + k, cost),
                full=float(curve[0]),
                standard_error=totals.standard_error(top, cost),
                health=totals.health(at_rule, cost),
            )
        )
    return found


def _totals(widths: Floats, costs: Floats, phi: float, paths: int, bars: int, seed: int) -> _Totals:
    """Run all constant `widths`, then for each of `costs` the band of the measured velocity."""
    rng = np.random.default_rng(seed)
    keep = 0.5 ** (1.0 / VELOCITY_HALF_LIFE_HOURS)
    constant = np.repeat(widths[:, None], paths, axis=1)  #         (bands, paths)
    velocity2 = np.full(paths, 2.0 * (1.0 - phi))  #                (paths,)
    ideal = rng.standard_normal(paths)
    held = np.tile(ideal, (len(widths) + len(costs), 1))
    earned, traded, power, gap = (np.zeros(held.shape) for _ in range(4))
    warm_up = round(WARM_UP_HALF_LIVES * np.log(0.5) / np.log(phi))
    for bar in range(-warm_up, bars):
        measured = rebalance.cube_root_band(costs[:, None], velocity2, 1.0, np.ones(paths))
        moved = rebalance.nearest_edge(held, ideal, np.concatenate([constant, measured]))
        if bar >= 0:
            earned += moved * ideal
            traded += np.abs(moved - held)
            power += moved**2
            gap += (moved - ideal) ** 2
        held = moved
        after = phi * ideal + (1.0 - phi**2) ** 0.5 * rng.standard_normal(paths)
        velocity2 = rebalance.updated_velocity2(velocity2, after - ideal, hours=1.0, keep=keep)
        ideal = after
    return _Totals(earned, traded, power, gap, bars)


def _top_of(grid: Floats, curve: Floats, top: int) -> float:
    """Give where the parabola through the best three points has its top."""
    if not 0 < top < len(grid) - 1:
        return float(grid[top])
    left, middle, right = curve[top - 1 : top + 2].tolist()
    bend = left - 2.0 * middle + right
    return float(grid[top] + (0.5 * GRID_STEP * (left - right) / bend if bend else 0.0))


def comparisons(cell: Cell, *, standard_errors: float = 0.0) -> list[Comparison]:
    """Lay a cell beside the published row of its friction number.

    standard_errors: how many of them are allowed beyond the tolerance, for a small simulation.
    """
    row = PUBLISHED[cell.friction]
    share = TOLERANCE + standard_errors * cell.standard_error
    nearest = min(max(cell.best_width, row.best_width.low), row.best_width.high)
    return [
        Comparison("best constant band", cell.best, row.best.middle, share),
        Comparison("its half-width", cell.best_width, nearest, WIDTH_TOLERANCE),
        Comparison("cube-root band", cell.rule, row.rule.middle, share),
        Comparison("its half-width", cell.rule_width, row.rule_width, WIDTH_ROUNDING),
        Comparison("cube-root band, velocity measured", cell.measured, row.rule.middle, share),
    ]


def full_rebalancing(friction: float, half_life: float) -> float:
    """Give the share that trading in full keeps, in closed form."""
    phi = 0.5 ** (1.0 / half_life)
    return float(1.0 - friction * np.sqrt(4.0 / (np.pi * (1.0 - phi))))
