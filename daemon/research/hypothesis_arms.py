"""What a registered run leaves for the tests: days, instants of decision, and months of them.

A decision's ideal weights are its forecast here, so that every strategy can be asked the same: how
did they correlate over instruments with the returns of the following six hours? The entry is one
source bar late, because nobody trades at the close that he decides on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.units import HOUR_MS
from daemon.report.metrics import YEAR_DAYS, day_ends
from daemon.report.run import Run
from daemon.statistics.skill import ic
from strategies.weighting import neutral_projection

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

HORIZON_MS: Final = 6 * HOUR_MS
VOLATILITY_HOURS: Final = 168
INSTRUMENTS_MIN: Final = 3


@dataclass(frozen=True, slots=True)
class Arm:
    """Hold what one run is judged by; days and instants in rising order.

    days (T,): days since 1970 of each return. returns, turnover (T,): net return and traded
    notional over equity of the day. btc, eth, market (T,): their daily returns, NaN where unknown.
    instants (M,): of decisions, ms. ic (M,): correlation of ideal weights with the next 6 h.
    dispersion (M,): standard deviation of those 6 h returns over instruments. raw_n, scaled_n,
    raw_share, scaled_share (M,): effective positions and largest share of the book proportional to
    expected return and of the one divided by variance. NaN where a decision cannot tell.
    """

    name: str
    fingerprint: str
    days: Ints
    returns: Floats
    turnover: Floats
    btc: Floats
    eth: Floats
    market: Floats
    instants: Ints
    ic: Floats
    dispersion: Floats
    raw_n: Floats
    scaled_n: Floats
    raw_share: Floats
    scaled_share: Floats

    @property
    def turnover_per_year(self) -> float:
        """Give the traded notional a year in units of equity."""
        return float(self.turnover.mean()) * YEAR_DAYS if len(self.turnover) else float("nan")


def measure_arm(name: str, run: Run) -> Arm:
    """Reduce a run to what the tests read."""
    record = run.record
    times = np.array(record.times_ms, dtype=np.int64)
    days, last = day_ends(times)
    equity, marks = record.column("equity"), record.marks
    total = record.column("turnover")[last]
    symbols = list(run.facts.symbols)
    eth = next((i for i, s in enumerate(symbols) if s.startswith("ETH")), None)
    market = record.column("market")[last]
    of_eth = marks[last, eth] if eth is not None else np.full(len(last), np.nan)
    instants, skill, spread = _skill(run, times, marks)
    books = _concentration(run, times, marks)
    return Arm(
        name=name,
        fingerprint=run.facts.fingerprint,
        days=days[1:],
        returns=_changes(equity[last]),
        turnover=np.diff(total) / equity[last][:-1],
        btc=_changes(record.column("first")[last]),
        eth=_changes(of_eth),
        market=_changes(market),
        instants=instants,
        ic=skill,
        dispersion=spread,
        raw_n=books[0],
        scaled_n=books[1],
        raw_share=books[2],
        scaled_share=books[3],
    )


def _changes(values: Floats) -> Floats:
    return np.asarray(values[1:] / values[:-1] - 1.0)


def _rows_at(times: Ints, wanted: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Find the row of each instant, and whether there is one."""
    at = np.minimum(np.searchsorted(times, wanted), len(times) - 1)
    return at, times[at] == wanted


def _skill(run: Run, times: Ints, marks: Floats) -> tuple[Ints, Floats, Floats]:
    """Measure every decision's ideal weights against the 6 h from one source bar later."""
    decisions = run.decisions
    instants = np.array([d.as_of_ms for d in decisions], dtype=np.int64)
    unknown = np.full(len(instants), np.nan)
    if len(times) < 2 or not len(instants):
        return instants, unknown, unknown.copy()
    step = int(np.diff(times).min())
    entry, has_entry = _rows_at(times, instants + step)
    leave, has_leave = _rows_at(times, instants + step + HORIZON_MS)
    skill, spread = unknown, unknown.copy()
    for i in np.flatnonzero(has_entry & has_leave).tolist():
        moves = marks[leave[i]] / marks[entry[i]] - 1.0
        known = np.isfinite(moves)
        if known.sum() < INSTRUMENTS_MIN:
            continue
        spread[i] = float(moves[known].std(ddof=1))
        target = decisions[i].target
        if target is not None and target.ideal.any():
            skill[i] = ic(target.ideal, moves)
    return instants, skill, spread


def _concentration(run: Run, times: Ints, marks: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Build the two uncapped books of every decision with signals, and measure their breadth."""
    found = np.full((len(run.decisions), 4), np.nan)
    hourly = times % HOUR_MS == 0
    hours, closes = times[hourly], marks[hourly]
    with np.errstate(invalid="ignore", divide="ignore"):
        moves = np.diff(np.log(closes), axis=0)
    for i, decision in enumerate(run.decisions):
        signals = decision.target.signals if decision.target is not None else None
        at = int(np.searchsorted(hours, decision.as_of_ms, side="right")) - 1
        if signals is None or at < VOLATILITY_HOURS:
            continue
        sd = moves[at - VOLATILITY_HOURS : at].std(axis=0, ddof=1)
        expected = signals.alpha * sd
        usable = np.isfinite(expected) & (sd > 0)
        if usable.sum() < INSTRUMENTS_MIN:
            continue
        expected, variance = expected[usable], sd[usable] ** 2
        raw = expected - expected.mean()
        scaled = neutral_projection(expected, variance, np.ones((len(variance), 1)))
        found[i] = (*breadth(raw), *breadth(scaled))
    return found[:, 0], found[:, 2], found[:, 1], found[:, 3]


def breadth(weights: Floats) -> tuple[float, float]:
    """Give 1 / sum of squared shares of gross and the largest share; NaN for an empty book."""
    gross = float(np.abs(weights).sum())
    if gross == 0.0:
        return float("nan"), float("nan")
    shares = np.abs(weights) / gross
    return 1.0 / float((shares**2).sum()), float(shares.max())
