"""Beta exposure of the book at the worst case of its open orders, and the betas it is counted with.

    r_i = log close_i(t) - log close_i(t-1),   r_m = mean of r_i over the instruments that have one
    beta_i = 0.7 * (sum of d(t) r_m r_i / sum of d(t) r_m^2) + 0.3,   d(t) = 0.5^(age / 48 bars)

over the last 168 returns of the shortest bar length of an hour or more. An instrument with fewer
than 24 returns counts as 1, the mean of all betas to an equal-weight market. It is the estimate
that strategies size by, so that a book built without beta is without beta here as well.

Betas are frozen from one decision to the next: all slices of a decision are judged by the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Final, cast

import numpy as np
from msgspec import Struct

from daemon.domain.bar import Floats
from daemon.domain.units import HOUR_MS, Timeframe
from daemon.engine.windows import WindowStore

SHRINKAGE: Final = 0.7  # weight of the measured slope; the rest is a beta of one
RETURNS_MIN: Final = 24
HALF_LIFE_BARS: Final = 48.0
BARS_MAX: Final = 169  # a week of hourly returns
UNKNOWN: Final = 1.0
# Of the bounds on net and beta, where both hold: the rest is for leaving their corner, where what
# brings net back takes beta further, or the other way round, and nothing fits. A book must always
# be closable: there a closing order, alone, may move each by RELIEF_SHARE of its bound.
USED_SHARE: Final = 0.95
RELIEF_SHARE: Final = 0.05


class BetaRoom(Struct, frozen=True, gc=False):
    """Hold what may still be added: high and low are the worst cases now, in quote currency."""

    betas: Sequence[float]
    high: float
    low: float
    bound: float

    def relieves(self, index: int, notional: float, net: float, net_bound: float) -> float | None:
        """Give by how much a signed notional, alone, lowers the sum of both shares of the bounds.

        net: quote currency. None unless one of them is near what may be used of it, the larger
        share is brought back, and neither is moved by more than RELIEF_SHARE; the other one may
        come to RELIEF_SHARE past its bound, and further only where the sum does not grow.
        """
        shares = (net / net_bound, (self.high + self.low) / 2 / self.bound)
        moves = (notional / net_bound, notional * self.betas[index] / self.bound)
        worse = int(abs(shares[1]) > abs(shares[0]))
        if abs(shares[worse]) <= USED_SHARE - RELIEF_SHARE or shares[worse] * moves[worse] >= 0.0:
            return None
        if max(map(abs, moves)) > RELIEF_SHARE:
            return None
        after = (shares[0] + moves[0], shares[1] + moves[1])
        gain = sum(map(abs, shares)) - sum(map(abs, after))
        return gain if gain >= 0.0 or abs(after[1 - worse]) <= 1.0 + RELIEF_SHARE else None

    def is_past(self, index: int, *, buys: bool) -> bool:
        """Tell whether an open order of this side adds to a worst case that is past the bound."""
        beta = self.betas[index]
        raises = (beta > 0.0) == buys
        return beta != 0.0 and (self.high > self.bound if raises else self.low < -self.bound)


class BetaExposure:
    """Count sum(quantity x mark x beta), and how far open orders may still move it.

    net: quote currency, signed. up, down: what open orders may still add or take off, both >= 0.
    weight_worst: largest |net| / equity after any single fill so far.
    """

    def __init__(self, instruments_n: int) -> None:
        self.betas = [UNKNOWN] * instruments_n
        self.net = 0.0
        self.up = 0.0
        self.down = 0.0
        self.weight_worst = 0.0

    def recount(
        self,
        held: Sequence[float],
        values: Sequence[float],
        buys: Sequence[float],
        sells: Sequence[float],
        pending: Iterable[int],
    ) -> None:
        """Sum everything anew: after marks, positions or betas changed."""
        self.net = float(np.dot(np.multiply(held, values), self.betas))
        self.up = self.down = 0.0
        for index in sorted(pending):
            value = values[index]
            self.pend(index, buys[index] * value, 1.0)
            self.pend(index, -sells[index] * value, 1.0)

    def add(self, net: float, up: float, down: float) -> None:
        """Count what is beside the universe, at a beta of one."""
        self.net += net
        self.up += up
        self.down += down

    def pend(self, index: int, notional: float, sign: float) -> None:
        """Add (sign +1) or take off (sign -1) a signed notional that an order may trade."""
        exposure = notional * self.betas[index]
        if exposure > 0.0:  # plain comparisons, because max() takes five times as long
            up = self.up + sign * exposure
            self.up = up if up > 0.0 else 0.0  # noqa: FURB136
        else:
            down = self.down - sign * exposure
            self.down = down if down > 0.0 else 0.0  # noqa: FURB136

    def filled(self, index: int, notional: float, equity: float) -> None:
        """Move the exposure by a fill's signed notional at the mark."""
        self.net = net = self.net + notional * self.betas[index]
        if equity > 0 and abs(net) > self.weight_worst * equity:
            self.weight_worst = abs(net) / equity

    def room(self, bound: float) -> BetaRoom:
        """Give the worst case now, against `bound` in quote currency."""
        return BetaRoom(self.betas, self.net + self.up, self.net - self.down, bound)

    def to_plain(self) -> dict[str, object]:
        """Give a form that the snapshot codec can write."""
        return {name: getattr(self, name) for name in _FIELDS}

    @classmethod
    def from_plain(cls, plain: Mapping[str, object]) -> BetaExposure:
        """Rebuild it to the last bit."""
        found = cls(len(cast(list[float], plain["betas"])))
        for name in _FIELDS:
            value = plain[name]
            setattr(found, name, list(value) if isinstance(value, list) else value)
        return found


_FIELDS: Final = ("betas", "net", "up", "down", "weight_worst")


@cache
def _decay(returns_n: int) -> Floats:
    """Give the weights of returns, oldest first, (T-1,), not to be written to."""
    decay: Floats = np.power(0.5, np.arange(returns_n - 1, -1, -1) / HALF_LIFE_BARS)
    decay.flags.writeable = False
    return decay


def market_betas(closes: Floats) -> list[float]:
    """Measure betas (N,) from closes (T, N), oldest first, NaN where a bar is missing."""
    levels = np.log(closes)
    returns = levels[1:] - levels[:-1]  #                                     (T-1, N)
    seen = np.isfinite(returns)
    known = np.where(seen, returns, 0.0)
    market = known.sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
    decay = _decay(len(returns))  #                                           (T-1,)
    power = (decay * market**2) @ seen
    measured = (seen.sum(axis=0) >= RETURNS_MIN) & (power > 0)
    slope = (decay * market) @ known / np.where(power > 0, power, 1.0)
    beta = SHRINKAGE * slope + (1.0 - SHRINKAGE)
    found: list[float] = np.where(measured, beta, UNKNOWN).tolist()
    return found


def betas_now(windows: Mapping[Timeframe, WindowStore], instruments_n: int) -> list[float]:
    """Measure betas from the shortest windows of an hour or more; all UNKNOWN before any bar."""
    lengths = sorted(t.minutes for t in windows)
    hourly = [n for n in lengths if n * 60_000 >= HOUR_MS]
    if not lengths:
        return [UNKNOWN] * instruments_n
    store = windows[Timeframe((hourly or lengths)[0])]
    if store.filled < 2:
        return [UNKNOWN] * instruments_n
    return market_betas(store.view().closes[-BARS_MAX:])
