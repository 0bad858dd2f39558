"""Seeded hourly markets with one planted pattern each, and a book that lives in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from daemon.domain.bar import Floats
from daemon.domain.portfolio import TargetPortfolio
from daemon.domain.units import HOUR_MS, Timeframe
from daemon.ports import Strategy
from tests.strategies.views import make_view

HOUR = Timeframe(60)
COINS_N = 16
COST = 1e-4  # small: what a strategy sees in a market is tested, not whether it pays


@dataclass(frozen=True, slots=True)
class Market:
    """Hold closes (T, N) and funding rates a settlement (N,), with the residual volatilities."""

    closes: Floats
    rates: Floats
    sigma: Floats


def _market(
    rng: np.random.Generator, residual: Floats, sigma: Floats, rates: Floats | None = None
) -> Market:
    shared = 0.004 * rng.standard_normal(len(residual))
    closes = 100.0 * np.exp(np.cumsum(shared[:, None] + residual, axis=0))
    return Market(closes, np.zeros(COINS_N) if rates is None else rates, sigma)


def _noise(seed: int, hours: int) -> tuple[np.random.Generator, Floats, Floats]:
    rng = np.random.default_rng(seed)
    sigma = rng.uniform(0.004, 0.012, COINS_N)
    return rng, sigma, sigma * rng.standard_normal((hours, COINS_N))


def drifting(size: float, seed: int, hours: int) -> Market:
    """Let coins drift for a week or so each: size is the drift in volatilities an hour."""
    rng, sigma, noise = _noise(seed, hours)
    keep = 0.5 ** (1 / 300)
    drift = np.empty((hours, COINS_N))
    now = rng.standard_normal(COINS_N)
    for t in range(hours):
        drift[t] = now
        now = keep * now + np.sqrt(1 - keep**2) * rng.standard_normal(COINS_N)
    return _market(rng, noise + size * sigma * drift, sigma)


def bouncing(size: float, seed: int, hours: int) -> Market:
    """Let an hour take back the share `size` of the mean move of the six hours before it."""
    rng, sigma, noise = _noise(seed, hours)
    residual = noise.copy()
    for t in range(6, hours):
        residual[t] -= size * residual[t - 6 : t].mean(axis=0)
    return _market(rng, residual, sigma)


def calm_pays(size: float, seed: int, hours: int) -> Market:
    """Let calm coins rise: by `size` volatilities an hour for each sd of their log volatility."""
    rng, sigma, noise = _noise(seed, hours)
    z = -np.log(sigma)
    z = (z - z.mean()) / z.std()
    return _market(rng, noise + size * sigma * z, sigma)


def reverting(size: float, seed: int, hours: int) -> Market:
    """Let what the market leaves of a coin fall back to its level by `size` an hour (0: never)."""
    rng, sigma, noise = _noise(seed, hours)
    levels = np.zeros((hours + 1, COINS_N))
    for t in range(hours):
        levels[t + 1] = (1.0 - size) * levels[t] + noise[t]
    return _market(rng, np.diff(levels, axis=0), sigma)


def paying(size: float, seed: int, hours: int) -> Market:
    """Let funding differ between coins: sd `size` a settlement; prices know nothing of it."""
    rng, sigma, noise = _noise(seed, hours)
    return _market(rng, noise, sigma, 1e-4 + size * rng.standard_normal(COINS_N))


def gains(strategy: Strategy, market: Market, *, every: int = 4, funding: bool = False) -> Floats:
    """Let a strategy decide every few hours; give its gains before costs, one per decision."""
    bars = strategy.windows_needed[HOUR]
    state: Mapping[str, Floats] = strategy.initial_state(COINS_N)
    weights = np.zeros(COINS_N)
    found = []
    for t in range(bars, len(market.closes) - every, every):
        state, target = one(strategy, state, market, t, weights)
        moved = market.closes[t + every - 1] / market.closes[t - 1]
        gain = float(target.weights @ (moved - 1.0))
        if funding:
            gain = -float(target.weights @ market.rates) * every / 8.0
        found.append(gain)
        weights = target.weights * moved
        weights /= 1.0 + float(target.weights @ (moved - 1.0))
    return np.array(found)


def one(
    strategy: Strategy, state: Mapping[str, Floats], market: Market, t: int, weights: Floats
) -> tuple[Mapping[str, Floats], TargetPortfolio]:
    """Let a strategy decide once, after the first t bars."""
    bars = strategy.windows_needed[HOUR]
    view = make_view(
        market.closes[t - bars : t],
        as_of_ms=t * HOUR_MS,
        weights=weights,
        funding_rates=market.rates,
        cost=np.full(COINS_N, COST),
    )
    return strategy.decide(state, view)


def t_value(found: Floats) -> float:
    """Give mean over standard error; 0 where nothing was ever held."""
    sd = float(found.std(ddof=1))
    return float(found.mean()) / sd * len(found) ** 0.5 if sd > 0 else 0.0
