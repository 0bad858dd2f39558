"""Exposures that a book may be neutral to besides dollars, from what a decision sees.

    market       beta to the equal-weight market (`strategies.risk`), one where it is unknown
    bitcoin      0.7 times the weighted slope of hourly returns on those of BTC, plus 0.3
    size         log of the dollar volume of the window
    momentum     log return over the window, in its own volatility
    volatility   log of the hourly residual volatility
    funding      last known funding rate an hour
    sectors      one column for each branch of the tree of coins that two instruments or more belong
                 to, as of the decision: 1 where one does, else 0 (`strategies.covariance.taxonomy`)

A run whose universe has no BTC is refused `bitcoin` at its start; where BTC stops trading later,
the decision's note says so (`blind`).

Betas are as they are; the others are centred and of unit spread over the instruments that have one,
kept within 3. What is not known is 0: such an instrument is taken for an average one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple

import numpy as np

from daemon.domain.bar import Field, Floats
from daemon.domain.units import Timeframe
from daemon.domain.view import View
from strategies.covariance.taxonomy import read_taxonomy
from strategies.funding import hourly_rates
from strategies.risk import BETA_SHRINKAGE, ResidualRisk

EXPOSURE_MAX: Final = 3.0
HOUR: Final = Timeframe(60)
BRANCH: Final = "sector "  # before the name of a column
BITCOIN: Final = "BTC"
BLIND_HOURS: Final = (
    24  # without a bar of BTC for so long, what follows is not known of betas to it
)


class Factor(StrEnum):
    """Name an exposure."""

    MARKET = "market"
    BITCOIN = "bitcoin"
    SIZE = "size"
    MOMENTUM = "momentum"
    VOLATILITY = "volatility"
    FUNDING = "funding"
    SECTORS = "sectors"


class Exposed(NamedTuple):
    """Hold exposures, columns (N, M), and what each of the M is called."""

    names: tuple[str, ...]
    columns: Floats


def exposures(
    factors: Sequence[Factor], view: View, risk: ResidualRisk, *, half_life_bars: float
) -> Exposed:
    """Give the exposures of the named factors, in their order; no entry is NaN."""
    names, columns = list[str](), list[Floats]()
    for factor in factors:
        if factor is Factor.SECTORS:
            found = _sectors(view)
        else:
            found = {str(factor): _column(factor, view, risk, half_life_bars)}
        names += found.keys()
        columns += found.values()
    return Exposed(
        tuple(names), np.column_stack(columns) if columns else np.empty((len(view.weights), 0))
    )


def blind(factors: Sequence[Factor], exposed: Exposed, view: View) -> str:
    """Say of which named exposures nothing new is known; '' of none."""
    unknown = [
        name for name, x in zip(exposed.names, exposed.columns.T, strict=True) if not x.any()
    ]
    if Factor.SECTORS in factors and not any(name.startswith(BRANCH) for name in exposed.names):
        unknown.append(Factor.SECTORS)
    said = [f"nothing is known of {', '.join(unknown)}"] if unknown else []
    if Factor.BITCOIN in factors:
        at = _place_of_bitcoin(view)
        if at is None or not np.isfinite(view.windows[HOUR].closes[-BLIND_HOURS:, at]).any():
            said.append(f"no bar of {BITCOIN} in {BLIND_HOURS} h: {Factor.BITCOIN} by older bars")
    return "; ".join(said)


def _sectors(view: View) -> dict[str, Floats]:
    tree = read_taxonomy()
    branch = [tree.place(one.base, view.as_of_ms)[0] for one in view.universe.instruments]
    shared = sorted(name for name, count in Counter(branch).items() if count > 1)
    return {
        f"sector {name}": np.array([1.0 if b == name else 0.0 for b in branch]) for name in shared
    }


def _place_of_bitcoin(view: View) -> int | None:
    bases = [instrument.base for instrument in view.universe.instruments]
    return bases.index(BITCOIN) if BITCOIN in bases else None


def _column(factor: Factor, view: View, risk: ResidualRisk, half_life_bars: float) -> Floats:
    if factor is Factor.MARKET:
        return np.where(np.isfinite(risk.beta), risk.beta, 1.0)
    if factor is Factor.FUNDING:
        return _standard(hourly_rates(view))
    if factor is Factor.VOLATILITY:
        return _standard(np.log(risk.volatility))
    window = view.windows[HOUR]
    if factor is Factor.SIZE:
        traded = np.nansum(window.closes * window.values[:, :, int(Field.VOLUME)], axis=0)
        return _standard(np.where(traded > 0, np.log(np.maximum(traded, 1e-300)), np.nan))
    with np.errstate(invalid="ignore", divide="ignore"):
        returns = np.diff(np.log(window.closes), axis=0)  #                         (T - 1, N)
    if factor is Factor.BITCOIN:
        return _bitcoin(returns, view, half_life_bars)
    seen = np.isfinite(returns)
    spread = np.sqrt(np.where(seen, returns, 0.0).__pow__(2).sum(axis=0))
    moved = np.where(seen, returns, 0.0).sum(axis=0)
    return _standard(np.where(spread > 0, moved / np.where(spread > 0, spread, 1.0), np.nan))


def _bitcoin(returns: Floats, view: View, half_life_bars: float) -> Floats:
    """Give shrunk betas to BTC (N,), ones where the book has no BTC."""
    at = _place_of_bitcoin(view)
    if at is None:
        return np.ones(len(view.weights))
    of_btc = returns[:, [at]]
    both = np.isfinite(returns) & np.isfinite(of_btc)
    age = np.arange(len(returns) - 1, -1, -1)
    decay = np.power(0.5, age / half_life_bars)[:, None]
    joint = (decay * np.where(both, returns * of_btc, 0.0)).sum(axis=0)
    power = (decay * np.where(both, of_btc**2, 0.0)).sum(axis=0)
    slope = np.where(power > 0, joint / np.where(power > 0, power, 1.0), 1.0)
    return np.asarray(BETA_SHRINKAGE * slope + (1.0 - BETA_SHRINKAGE))


def _standard(values: Floats) -> Floats:
    """Centre and scale over what is known, keep within EXPOSURE_MAX; 0 where nothing is."""
    known = np.isfinite(values)
    if known.sum() < 2:
        return np.zeros(len(values))
    centred = values - float(values[known].mean())
    spread = float(values[known].std())
    scaled = centred / spread if spread > 0 else np.zeros(len(values))
    return np.where(known, np.clip(scaled, -EXPOSURE_MAX, EXPOSURE_MAX), 0.0)
