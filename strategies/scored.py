"""What the conventional strategies share: a score of closed bars becomes an alpha and a book.

A conventional strategy is one small function: from its settings, the view and the risk it gives an
alpha per instrument. Everything after that, costs, ranks, weights and bands, is `strategies.book`,
as for the default strategy, so that they differ in what they expect and in nothing else.

A score has no unit of its own. With z its cross-sectional standard score, cut at +-3,

    alpha = IC z        u = IC^2

in residual volatility over the horizon: what a signal of unit size with that information
coefficient is worth (Grinold and Kahn 2000, alpha = IC x volatility x score). IC is assumed, a
setting, and never fitted to what the strategy then trades on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import numpy as np

from daemon.domain.bar import Flags, Floats
from daemon.domain.portfolio import TargetPortfolio
from daemon.domain.units import Timeframe
from daemon.domain.view import View
from strategies import book
from strategies.book import Outlook
from strategies.book_memory import State, fresh_memory, read_memory
from strategies.book_settings import BookSettings
from strategies.knobs import check_range
from strategies.risk import ResidualRisk

SCORE_MAX: Final = 3.0
SEEN_SHARE_MIN: Final = 0.8  # of the bars of a lookback: a score of fewer is none
SPREAD_MIN: Final = 1e-12  # of the scores' size: below it they are equal


@dataclass(frozen=True, slots=True)
class ScoreSettings(BookSettings):
    """Hold the knobs of a conventional strategy, beside those of the book.

    information_coefficient: the assumed correlation of a unit score with the residual return over
    six hours; it scales alphas, by which costs are weighed.
    """

    information_coefficient: float = 0.02

    def __post_init__(self) -> None:
        BookSettings.__post_init__(self)
        check_range(self.OWNER, "information_coefficient", self.information_coefficient, 0.0, 1.0)


S = TypeVar("S", bound=BookSettings)


@dataclass(frozen=True)
class Scored(Generic[S]):
    """Decide by an alpha that closed bars and what else the view holds give; no forecasts.

    alpha: (settings, view, risk, usable) to (N,) in residual volatility over the horizon, NaN = no
    alpha. usable: (N,) bool, what may be compared. variance: u, of that alpha. bars: hourly bars
    that it needs.
    """

    settings: S
    alpha: Callable[[S, View, ResidualRisk, Flags], Floats]
    variance: float
    bars: int = book.RISK_BARS

    @property
    def name(self) -> str:
        """Give the name by which settings choose it."""
        return self.settings.OWNER

    @property
    def needs_estimates(self) -> bool:
        """Tell that decisions do not wait for the estimator."""
        return False

    @property
    def windows_needed(self) -> Mapping[Timeframe, int]:
        """Give the bars without which it cannot decide."""
        return {book.RISK_TIMEFRAME: max(self.bars, book.RISK_BARS)}

    def initial_state(self, instruments_n: int) -> State:
        """Give the state before the first decision: the book's memory alone."""
        return fresh_memory(instruments_n)._asdict()

    def decide(self, state: State, view: View) -> tuple[State, TargetPortfolio]:
        """Give the next state and the target; reads nothing but its arguments."""
        memory = read_memory(state, len(view.weights))
        risk = book.risk_now(view, self.settings)
        usable = view.eligible & np.isfinite(view.marks) & np.isfinite(risk.volatility)
        alpha = np.where(usable, self.alpha(self.settings, view, risk, usable), np.nan)
        outlook = Outlook(
            alpha=alpha,
            variance=np.full(len(alpha), self.variance),
            risk=risk,
            phi=self.settings.phi,
            noun="score",
        )
        memory, target = book.decide(self.settings, memory, view, outlook)
        return memory._asdict(), target


def standardised(score: Floats, usable: Flags) -> Floats:
    """Give the cross-sectional standard scores (N,), cut at +-3; NaN = no score, or not usable.

    Scores that do not differ become zero: nothing is expected of any of them.
    """
    among = usable & np.isfinite(score)
    if int(among.sum()) < 2:
        return np.full(len(score), np.nan)
    level, spread = float(score[among].mean()), float(score[among].std(ddof=1))
    if spread <= SPREAD_MIN * float(np.abs(score[among]).max()):
        return np.where(among, 0.0, np.nan)
    z = np.clip((score - level) / spread, -SCORE_MAX, SCORE_MAX)
    return np.where(among, z, np.nan)


def carried_returns(closes: Floats, bars: int) -> Floats:
    """Give the last `bars` hourly log returns (bars, N) of closes (T, N), the newest last.

    A missing bar counts as no move, and what moved meanwhile comes with the next one: sums over a
    stretch are right. NaN for a whole column without a close at the start of the stretch or at
    fewer than 80% of its bars: a coin newly listed has no past to be compared.
    """
    part = closes[-bars - 1 :]
    seen = np.isfinite(part)
    row = np.maximum.accumulate(np.where(seen, np.arange(len(part))[:, None], 0), axis=0)
    levels = np.log(np.take_along_axis(part, row, axis=0))
    returns = levels[1:] - levels[:-1]
    known = seen[0] & (seen[1:].mean(axis=0) >= SEEN_SHARE_MIN) & (len(part) == bars + 1)
    return np.where(known, returns, np.nan)


def without_market(returns: Floats, beta: Floats) -> Floats:
    """Take beta times the mean return of all known columns off returns (T, N)."""
    known = np.isfinite(returns)
    count = np.maximum(known.sum(axis=1), 1)
    market = np.where(known, returns, 0.0).sum(axis=1) / count  #              (T,)
    return np.asarray(returns - market[:, None] * beta)
