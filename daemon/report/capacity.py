"""How much equity a run's edge would carry, from its own fills and the paper rule's law of impact.

At m times the equity a fill that took the share x of a bar's volume wants m x of it. With a cap s
on that share it gets the fraction f = min(1, s / (m x)), and with impact_bps = c it pays, per unit
of notional, c sqrt(m f x). For fills of notionals n and a gain g before impact (all at m = 1):

    eaten(m) = 1 - sum(n f) / sum(n) + sum(n f c sqrt(m f x)) / g

is the share of that gain which unfilled orders and impact take. What is not filled is taken to cost
its part of the gain. Capacity is the equity at which eaten reaches one half. Fees, spread and
funding grow with equity as the gain does, so that they are no part of it. It assumes that the same
trades are made at every size: a campaign that runs other sizes tells more.

What was filled of an instrument at one instant counts as one fill, because the rule prices it so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.order import Fill
from daemon.domain.units import require
from daemon.report.run_record import RunRecord
from daemon.statistics.checks import same_length, series

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

EATEN: Final = 0.5
NO_GAIN: Final = "not defined: no gain before impact"
MULTIPLES: Final = np.geomspace(1e-9, 1e12, 421)  # 20 a decade
HALVINGS: Final = 60


@dataclass(frozen=True, slots=True)
class Capacity:
    """Hold the equity at which half of the gain is eaten; infinite where nothing eats it.

    equity: NaN where there is no gain to eat, or where nobody knows. unfilled, impact: the shares
    of the gain that each takes there; they sum to one half. why: empty for a finite equity, else
    what stands in its place.
    """

    equity: float
    unfilled: float
    impact: float
    why: str = ""

    @property
    def is_known(self) -> bool:
        """Tell whether there is a finite equity."""
        return math.isfinite(self.equity)


def in_words(found: Capacity, equity: float, had: str = "had on average") -> str:
    """Say a capacity in a sentence, and beside it the equity that the run `had`."""
    if not found.is_known:
        return f"Capacity is {found.why}."
    place = "less" if found.equity < equity else "more"
    return (
        f"With an equity of about {rounded(found.equity)} half of the gain would be gone: "
        f"{found.impact:.0%} of the gain to impact and {found.unfilled:.0%} to orders that the "
        f"volume limit leaves unfilled; that is {place} than the {rounded(equity)} that this run "
        f"{had}."
    )


def rounded(value: float) -> str:
    """Write an amount to two digits, for people: 480, 12,000, 3.4 million; infinite as such."""
    if math.isinf(value):
        return "no limit"
    value = float(f"{value:.2g}")
    for size, word in ((1e9, "billion"), (1e6, "million")):
        if value >= size:
            return f"{value / size:,.10g} {word}"
    return f"{value:,.10g}"


def no_capacity(why: str) -> Capacity:
    """Stand for a capacity that a run does not have, and say why."""
    return Capacity(math.nan, math.nan, math.nan, why)


ASSUMED: Final = (
    "Measured from the run's own fills: the same trades, many times larger, by the law of impact "
    "and the volume limit of the paper rule; what is not filled costs its part of the gain. The "
    "capacity arms of evaluate stress measure it the other way, by running the strategy again "
    "with more cash: it then sees the higher costs and trades less, and what was not filled waits. "
    "Neither knows how others would answer to so large a book."
)
UNMEASURED: Final = no_capacity("not known: the volumes that its fills met are not in this run")
UNLIMITED: Final = Capacity(
    math.inf, 0.0, 0.0, "not limited: the costs of this run know neither impact nor a volume limit"
)


def capacity_of_run(
    record: RunRecord,
    fills: Sequence[Fill],
    volumes: Floats,
    *,
    impact_bps: float,
    participation_share: float | None,
    moved: float = 0.0,
) -> Capacity:
    """Find the capacity of a run from its fills; the gain is net of all costs but impact.

    volumes: (F,) of the bars that the venue looked at, base units, by fill; NaN where unknown.
    moved: deposits less withdrawals after the first row. Fills up to the first row are left out,
    because its equity has paid for them already. Equity is that of the mean row.
    """
    begin_ms = record.times_ms[0]
    later = [i for i, fill in enumerate(fills) if fill.at_ms > begin_ms]
    if not later:
        return no_capacity("not defined: nothing was traded")
    equity, known = record.column("equity"), volumes[later]
    if not impact_bps and participation_share is None:
        is_gain = equity[-1] - equity[0] > moved
        return UNLIMITED if is_gain else no_capacity(NO_GAIN)  # no volume was looked at
    if not (known > 0).all():
        return UNMEASURED
    notionals, shares = _at_instants([fills[i] for i in later], known)
    paid = float(notionals @ np.sqrt(shares)) * impact_bps * 1e-4
    return capacity(
        equity=float(equity.mean()),
        gain=float(equity[-1] - equity[0]) - moved + paid,
        notionals=notionals,
        volume_shares=shares,
        impact_bps=impact_bps,
        participation_share=participation_share,
    )


def _at_instants(fills: Sequence[Fill], volumes: Floats) -> tuple[Floats, Floats]:
    """Give notionals and volume shares of what was filled of each instrument at each instant."""
    when = np.array([fill.at_ms for fill in fills], dtype=np.int64)
    index = np.array([fill.index for fill in fills], dtype=np.int64)
    sizes = np.array([abs(float(fill.quantity)) for fill in fills])
    prices = np.array([float(fill.price) for fill in fills])
    _, groups = np.unique(when * (int(index.max()) + 1) + index, return_inverse=True)
    n = int(groups.max()) + 1
    notionals, shares = np.zeros(n), np.zeros(n)
    np.add.at(notionals, groups, sizes * prices)
    np.add.at(shares, groups, sizes / volumes)
    return notionals, shares


def volumes_met(fills: Sequence[Fill], close_ms: Ints, volumes: Floats) -> Floats:
    """Look up (F,) volumes that fills met: of the newest bar closed by then, NaN without one.

    close_ms: (T,) rising. volumes: (T, N) base units, NaN where there is no bar.
    """
    if not fills or not len(close_ms):
        return np.full(len(fills), np.nan)
    at = np.searchsorted(close_ms, np.array([f.at_ms for f in fills]), side="right") - 1
    index = np.array([f.index for f in fills])
    found = np.where(at >= 0, volumes[at, index], np.nan)
    for i in np.flatnonzero(np.isnan(found)).tolist():  # a bar is missing: the one before it counts
        before = volumes[: max(int(at[i]), 0), index[i]]
        known = np.flatnonzero(before == before)
        found[i] = before[known[-1]] if len(known) else np.nan
    return np.asarray(found, dtype=np.float64)


def capacity(
    *,
    equity: float,
    gain: float,
    notionals: Floats,
    volume_shares: Floats,
    impact_bps: float,
    participation_share: float | None = None,
) -> Capacity:
    """Find the capacity of a run.

    equity: that the fills were made with, > 0. gain: of the run before impact (with or without the
    other costs, whichever edge is meant), quote currency. notionals, volume_shares: (K,) of the
    fills, both > 0, shares of the volume of the bar that the venue looked at. participation_share:
    the cap, None for none. Raises InvariantViolated for anything else.
    """
    n = series(notionals, "notionals")
    x = series(volume_shares, "volume_shares")
    same_length(n, x, "notionals, volume_shares")
    require(bool((n > 0).all() and (x > 0).all()), "a notional or a share is not above 0")
    require(equity > 0, f"equity {equity}: above 0 is accepted")
    require(0 <= impact_bps < math.inf, f"impact_bps {impact_bps}: at least 0 is accepted")
    cap = math.inf if participation_share is None else participation_share
    require(cap > 0, f"participation_share {cap}: above 0 is accepted")
    if not gain > 0:
        return no_capacity(NO_GAIN)
    fills = _Fills(n, x, gain, impact_bps * 1e-4, cap)
    eaten = np.array([sum(fills.eaten(m)) for m in MULTIPLES])
    beyond = np.flatnonzero(eaten >= EATEN)
    if not len(beyond):
        return UNLIMITED
    at = int(beyond[0])
    low, high = float(MULTIPLES[max(at - 1, 0)]), float(MULTIPLES[at])
    for _ in range(HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if sum(fills.eaten(middle)) >= EATEN else (middle, high)
    unfilled, impact = fills.eaten(high)
    return Capacity(equity * high, unfilled, impact)


class _Fills:
    """Sums over fills in the order of their volume shares, so that a size costs one look-up."""

    def __init__(
        self, notionals: Floats, shares: Floats, gain: float, impact: float, cap: float
    ) -> None:
        order = np.argsort(shares, kind="stable")
        n, x = notionals[order], shares[order]
        self._shares, self._gain, self._impact, self._cap = x, gain, impact, cap
        self._whole = np.concatenate(([0.0], np.cumsum(n)))  # of the first k, by k
        self._roots = np.concatenate(([0.0], np.cumsum(n * np.sqrt(x))))
        self._rest = np.concatenate((np.cumsum((n / x)[::-1])[::-1], [0.0]))  # of all but those

    def eaten(self, m: float) -> tuple[float, float]:
        """Give the shares of the gain that unfilled orders and impact take at m times the size."""
        k = int(np.searchsorted(self._shares, self._cap / m, side="right"))  # these fill wholly
        got, paid = float(self._whole[k]), math.sqrt(m) * float(self._roots[k])
        if k < len(self._shares):
            cut = self._cap / m * float(self._rest[k])
            got, paid = got + cut, paid + cut * math.sqrt(self._cap)
        unfilled = 1.0 - got / float(self._whole[-1])
        return max(unfilled, 0.0), paid * self._impact / self._gain
