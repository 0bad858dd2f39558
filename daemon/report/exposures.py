"""What a book was exposed to: gross, net, beta, how many bets it was, how it moved with markets.

At each close, as fractions of equity and with nothing that was not known then:

    beta           sum of weight * beta_i to the equal-weight market, betas of daemon.report.betas
    bets, bets_apart   see `daemon.domain.concentration`; the covariance is of the returns from row
                   to row over the 30 whole UTC days before, where a missing one counts as zero

Links to markets are of daily returns and look back on the whole run (daemon.report.market_links).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.concentration import NOTHING, bets_apart, bets_by_size
from daemon.report.betas import (
    RETURNS_MIN,
    WINDOW_DAYS,
    days_known,
    full_from_ms,
    known_returns,
    trailing_betas,
)
from daemon.report.market_links import MarketLink, market_link
from daemon.report.metrics import daily
from daemon.report.run import Run
from daemon.report.run_record import RunRecord

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MARKET: Final = "equal-weight market"
COINS: Final = ("BTC", "ETH")
QUOTES: Final = ("USDT", "USDC", "USD", "BUSD", "FDUSD", "TUSD", "EUR")


@dataclass(frozen=True, slots=True)
class Exposures:
    """Hold exposures through time, (T,) each, and the links to markets.

    gross, net, beta: fractions of equity. bets, bets_apart: numbers of 1 and above, NaN where
    nothing is held; bets_apart also where the covariance of what is held is not known yet. links:
    to BTC and ETH where the universe has them, and to the equal-weight market. betas_full_from_ms:
    the midnight from which on 30 whole days stand behind betas and covariances.
    """

    times_ms: Ints
    gross: Floats
    net: Floats
    beta: Floats
    bets: Floats
    bets_apart: Floats
    links: tuple[MarketLink, ...]
    betas_full_from_ms: int = 0

    @property
    def betas_are_full(self) -> bool:
        """Tell whether 30 whole days stood behind the betas from the first row on."""
        return bool(self.betas_full_from_ms <= self.times_ms[0])

    def link(self, market: str) -> MarketLink | None:
        """Give the link whose market's name begins so, None where there is none."""
        return next((link for link in self.links if link.market.startswith(market)), None)


def exposures(run: Run, value: Floats | None = None) -> Exposures:
    """Measure the exposures of a run; raises ValueError when nothing was recorded.

    value: (T,) what the first equity became without later transfers, for the links; the equity
    itself by default.
    """
    record = run.record
    if not record.times_ms:
        raise ValueError("the run recorded nothing: no bar closed in the period")
    marks, equity = record.marks, record.column("equity")
    weights = record.quantities * np.where(marks == marks, marks, 0.0) / equity[:, None]
    return Exposures(
        times_ms=np.asarray(record.times_ms, dtype=np.int64),
        gross=np.abs(weights).sum(axis=1),
        net=weights.sum(axis=1),
        beta=(weights * trailing_betas(record)).sum(axis=1),
        bets=bets_by_size(weights),
        bets_apart=_bets_apart(record, weights),
        links=_links(run, equity if value is None else value),
        betas_full_from_ms=full_from_ms(record),
    )


def column_of(symbols: Sequence[str], coin: str) -> int | None:
    """Find the instrument of a coin: BTC is BTC/USDT:USDT and BTCUSDT, but not BTCDOMUSDT."""
    for at, symbol in enumerate(symbols):
        base, slash, _ = symbol.upper().partition("/")
        rest = base.removeprefix(coin)
        is_quote = rest in ("", *QUOTES) if not slash else not rest
        if base.startswith(coin) and is_quote:
            return at
    return None


def _bets_apart(record: RunRecord, weights: Floats) -> Floats:
    """Count bets by the covariance of the days before, (T,), day by day."""
    returns, _, closed = known_returns(record)
    today = days_known(record.times_ms)
    found = np.full(len(weights), np.nan)
    for day in np.unique(today).tolist():
        rows = today == day
        first, last = np.searchsorted(closed, (day - WINDOW_DAYS, day))
        window = returns[first:last]
        known = np.isfinite(window).sum(axis=0) >= RETURNS_MIN
        held = np.abs(weights[rows])
        is_covered = (held.sum(axis=1) > NOTHING) & (held[:, ~known].sum(axis=1) <= NOTHING)
        if is_covered.any():
            found[rows] = np.where(
                is_covered, _by_returns(weights[rows][:, known], window[:, known]), np.nan
            )
    return found


def _by_returns(weights: Floats, returns: Floats) -> Floats:
    filled = np.where(np.isfinite(returns), returns, 0.0)
    return bets_apart(weights, np.atleast_2d(np.cov(filled, rowvar=False)))


def _links(run: Run, value: Floats) -> tuple[MarketLink, ...]:
    record = run.record
    times = record.times_ms

    def returns(values: Floats) -> Floats:
        ends = daily(times, values)
        return np.asarray(ends[1:] / ends[:-1] - 1.0)

    own, markets = returns(value), dict[str, Floats]()
    for coin in COINS:
        at = column_of(run.facts.symbols, coin)
        if at is not None:
            markets[run.facts.symbols[at]] = returns(record.marks[:, at])
    markets[MARKET] = returns(record.column("market"))
    return tuple(market_link(name, own, market) for name, market in markets.items())
