"""Foresee variances by GARCH(1,1), or GJR where falls count more than rises.

    h_(t+1) = omega + (alpha + gamma [e_t < 0]) e_t^2 + beta h_t,   e_t = r_t - mu

gamma is 0 in GARCH (Bollerslev 1986) and free in GJR (Glosten, Jagannathan and Runkle 1993).
Parameters maximise the likelihood of a normal or of a Student-t with unit variance:

    t:  ln G((nu+1)/2) - ln G(nu/2) - ln(pi (nu-2)) / 2 - ln(h) / 2
        - (nu+1)/2 ln(1 + e^2 / (h (nu-2)))

They are searched by their gradient as alpha + gamma/2 = p s, beta = p (1 - s), alpha = p s k, with
p in (0, PERSISTENCE_MAX), s in (0, 1), k in (0, 2), so that every variance is above zero and comes
back to its mean. Before the first row, e^2 and h stand at a mean of the first squares, falling by
0.94 a row. A missing bar is passed over: the next one that is seen follows the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import minimize
from scipy.signal import lfilter
from scipy.special import expit, gammaln, psi

from strategies.covariance.interface import VARIANCE_MIN, WARM_UP, Floats

PERSISTENCE_MAX: Final = 0.9999
FIT_ROWS_MIN: Final = 250  # returns: fewer say too little of three or more parameters
FIRST_ROWS, FIRST_DECAY = 75, 0.94
ROUNDS_MAX: Final = 100
# of what is searched: mu, ln omega, logits of p, s and k / 2, ln(nu - 2); returns of unit variance
START: Final = (0.0, float(np.log(0.03)), 3.5, -2.5, 0.0, float(np.log(4.0)))
BOUNDS: Final = ((-1.0, 1.0), (-14.0, 3.0), (-6.0, 9.0), (-9.0, 6.0), (-12.0, 12.0), (-3.0, 5.3))
MU, OMEGA, PERSISTENCE, NEWS, ASYMMETRY, TAIL = range(6)


@dataclass(frozen=True, slots=True)
class Garch:
    """Hold the parameters of one series, in units of its returns; nu is infinite for a normal.

    likelihood: the logarithm, of the returns that it was fitted to.
    """

    mu: float
    omega: float
    alpha: float
    gamma: float
    beta: float
    nu: float
    likelihood: float


def fit_garch(
    returns: Floats, *, with_mean: bool, is_asymmetric: bool, has_heavy_tails: bool
) -> Garch:
    """Fit returns (T,) without holes, of which not all are equal.

    with_mean: mu is fitted too, otherwise it is zero.
    """
    scale = float(np.sqrt(np.mean((returns - with_mean * returns.mean()) ** 2)))
    r = returns / scale
    free = [OMEGA, PERSISTENCE, NEWS]
    free += [MU] * with_mean + [ASYMMETRY] * is_asymmetric + [TAIL] * has_heavy_tails
    start = np.array(START)
    start[MU] = r.mean() * with_mean

    def loss(chosen: Floats) -> tuple[float, Floats]:
        u = start.copy()
        u[free] = chosen
        value, slope = likelihood(u, r, has_heavy_tails=has_heavy_tails)
        return -value / len(r), -slope[free] / len(r)

    found = minimize(
        loss,
        start[free],
        jac=True,
        method="L-BFGS-B",
        bounds=[BOUNDS[k] for k in free],
        options={"maxiter": ROUNDS_MAX, "ftol": 1e-13, "gtol": 1e-7},
    )
    u = start.copy()
    u[free] = found.x
    omega, alpha, gamma, beta = _plain(u)
    return Garch(
        mu=float(u[MU]) * scale,
        omega=omega * scale**2,
        alpha=alpha,
        gamma=gamma,
        beta=beta,
        nu=2.0 + float(np.exp(u[TAIL])) if has_heavy_tails else np.inf,
        likelihood=-float(found.fun) * len(r) - len(r) * float(np.log(scale)),
    )


def _plain(u: Floats) -> tuple[float, float, float, float]:
    p, s, k = PERSISTENCE_MAX * expit(u[PERSISTENCE]), expit(u[NEWS]), 2.0 * expit(u[ASYMMETRY])
    news = p * s
    return float(np.exp(u[OMEGA])), float(news * k), float(2 * news * (1 - k)), float(p * (1 - s))


def likelihood(u: Floats, r: Floats, *, has_heavy_tails: bool) -> tuple[float, Floats]:
    """Give the log likelihood of r (T,) and its slope (6,) in the searched parameters u (6,)."""
    omega, alpha, gamma, beta = _plain(u)
    e = r - u[MU]
    first = first_variance(r - r.mean())
    falls = e < 0.0
    squares = np.concatenate([[first], e[:-1] ** 2])
    fallen = np.concatenate([[first / 2.0], (e**2 * falls)[:-1]])
    pole = [1.0, -beta]
    news = omega + alpha * squares + gamma * fallen
    h = lfilter([1.0], pole, news, zi=[beta * first])[0]
    rises = np.concatenate([[0.0], (-2.0 * e * (alpha + gamma * falls))[:-1]])
    inputs = np.array([rises, np.ones_like(h), squares, fallen, np.concatenate([[first], h[:-1]])])
    of_h = lfilter(
        [1.0], pole, inputs, axis=1
    )  #               (5, T): mu, omega, alpha, gamma, beta
    x = e**2 / h
    if has_heavy_tails:
        nu = 2.0 + float(np.exp(u[TAIL]))
        tail = np.log1p(x / (nu - 2.0))
        constant = gammaln((nu + 1) / 2) - gammaln(nu / 2) - 0.5 * np.log(np.pi * (nu - 2.0))
        value = len(r) * constant - 0.5 * np.log(h).sum() - 0.5 * (nu + 1) * tail.sum()
        pull = (nu + 1.0) / (nu - 2.0 + x)  #                    (T,) -2 d value / d x
        of_nu = 0.5 * len(r) * (psi((nu + 1) / 2) - psi(nu / 2) - 1.0 / (nu - 2.0))
        of_nu += 0.5 * float((pull * x).sum()) / (nu - 2.0) - 0.5 * tail.sum()
    else:
        value = -0.5 * float((np.log(2.0 * np.pi * h) + x).sum())
        pull, of_nu, nu = np.ones_like(x), 0.0, 2.0
    slope = 0.5 * of_h @ ((pull * x - 1.0) / h)  #               (5,)
    slope[0] += float((pull * e / h).sum())
    return float(value), _searched_slope(u, slope, of_nu * (nu - 2.0))


def _searched_slope(u: Floats, slope: Floats, of_tail: float) -> Floats:
    """Turn slopes in mu, omega, alpha, gamma, beta into those in what is searched."""
    p, s, k = PERSISTENCE_MAX * expit(u[PERSISTENCE]), expit(u[NEWS]), 2.0 * expit(u[ASYMMETRY])
    _, of_omega, of_alpha, of_gamma, of_beta = slope
    of_news = k * of_alpha + 2.0 * (1.0 - k) * of_gamma
    return np.array(
        [
            slope[0],
            of_omega * np.exp(u[OMEGA]),
            (s * of_news + (1.0 - s) * of_beta) * p * (1.0 - p / PERSISTENCE_MAX),
            (of_news - of_beta) * p * s * (1.0 - s),
            p * s * (of_alpha - 2.0 * of_gamma) * k * (1.0 - k / 2.0),
            of_tail,
        ]
    )


def first_variance(e: Floats) -> float:
    """Give what e^2 and h are taken to be before the first row: a mean of the first squares."""
    decay = FIRST_DECAY ** np.arange(min(FIRST_ROWS, len(e)))
    return float(decay @ e[: len(decay)] ** 2 / decay.sum())


class GarchVolatility:
    """Foresee each instrument's variance by its own GARCH or GJR with Student-t and no mean.

    An instrument with fewer than FIT_ROWS_MIN returns has the median alpha, gamma and beta of the
    others (or TYPICAL, where there are none) and the omega that gives it its own mean square.
    """

    TYPICAL: Final = (0.08, 0.0, 0.90)

    def __init__(self, *, is_asymmetric: bool) -> None:
        """Take whether falls may count more than rises."""
        self._is_asymmetric = is_asymmetric
        self._plain = np.zeros((4, 0))  # omega, alpha, gamma, beta of each
        self._h = self._seen_n = np.zeros(0)

    def begin(self, returns: Floats) -> Floats:
        """Fit each instrument, start anew and step over the rows."""
        N = returns.shape[1]
        series = [column[np.isfinite(column)] for column in returns.T]
        power = np.array([np.mean(r**2) if len(r) else np.nan for r in series])
        shapes = np.full((N, 3), np.nan)
        omega = np.full(N, np.nan)
        for i, r in enumerate(series):
            if len(r) >= FIT_ROWS_MIN and float(np.ptp(r)) ** 2 > VARIANCE_MIN:
                fit = fit_garch(
                    r, with_mean=False, is_asymmetric=self._is_asymmetric, has_heavy_tails=True
                )
                shapes[i], omega[i] = (fit.alpha, fit.gamma, fit.beta), fit.omega
        fitted = np.isfinite(omega)
        shared = np.median(shapes[fitted], axis=0) if fitted.any() else np.array(self.TYPICAL)
        shapes[~fitted] = shared
        persistence = shapes @ np.array([1.0, 0.5, 1.0])
        omega = np.where(fitted, omega, power * np.maximum(1.0 - persistence, 0.0))
        self._plain = np.vstack([omega, shapes.T])
        self._h = np.array([first_variance(r) if len(r) else np.nan for r in series])
        self._seen_n = np.zeros(N)
        return np.array([self.step(row) for row in returns]).reshape(returns.shape)

    def step(self, row: Floats) -> Floats:
        """Take in one row and give what was foreseen for it."""
        foreseen = self.variance()
        seen = np.isfinite(row)
        e = np.where(seen, row, 0.0)
        omega, alpha, gamma, beta = self._plain
        moved = omega + (alpha + gamma * (e < 0.0)) * e**2 + beta * self._h
        self._h = np.where(seen, moved, self._h)
        self._seen_n = self._seen_n + seen
        return foreseen

    def variance(self) -> Floats:
        """Give what is foreseen for the next row; NaN before WARM_UP returns."""
        return np.where(self._seen_n >= WARM_UP, self._h, np.nan)
