"""How much of a result may be luck: the honest statistics of a run, each with a plain sentence.

Everything is computed from the returns of UTC days by `daemon.statistics`; a year has 365 of them.
A figure that cannot be known is NaN, and its sentence then says why. The sentences speak to people
who know no statistics, and say no more than the figures do. Sources: Lo 2002; Bailey and Lopez de
Prado 2012 (PSR, MinTRL) and 2014 (DSR, MinBTL, with others PBO); Politis and Romano 1994 (the
stationary bootstrap, for the band of the equity); Newey and West 1987. The interval of the Sharpe
ratio is that of `statistics.sharpe_interval`: a percentile bootstrap covers too little on the few
months that most runs have.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.report.figures import counted
from daemon.report.metrics import YEAR_DAYS
from daemon.report.trials import Trials
from daemon.report.tried import DAYS_MIN, Picked, Tried, picked, tried
from daemon.statistics.bootstrap import (
    REPETITIONS,
    block_length,
    stationary_indices,
)
from daemon.statistics.checks import series
from daemon.statistics.sharpe import SharpeMoments, sharpe_moments
from daemon.statistics.sharpe_inference import (
    backtest_years_min,
    probabilistic_sharpe,
    track_record_min,
)
from daemon.statistics.sharpe_interval import sharpe_interval
from daemon.statistics.skill import newey_west_lags, newey_west_t

Floats = npt.NDArray[np.float64]

LEVEL: Final = 0.95
BAND_DAYS_MIN: Final = 8  # what the bootstrap needs


@dataclass(frozen=True, slots=True)
class Finding:
    """Hold one statistic; low and high bound its 95 % interval where it has one, else NaN.

    text: the verdict in plain words, or why the value is not known.
    """

    name: str
    label: str
    value: float
    text: str
    low: float = math.nan
    high: float = math.nan

    @property
    def is_known(self) -> bool:
        """Tell whether the value is a number; infinite counts as known (no length suffices)."""
        return not math.isnan(self.value)


@dataclass(frozen=True, slots=True)
class Honesty:
    """Hold the honest statistics of a run, in the order in which they are read.

    days: daily returns. trials_n, trials_effective: configurations tried on this data and how many
    different ones they amount to; 0 where nobody kept count. hurdle: annual Sharpe ratio that the
    best of them is expected to show by luck, NaN where unknown.
    """

    days: int
    trials_n: int
    trials_effective: int
    hurdle: float
    findings: tuple[Finding, ...]

    def __getitem__(self, name: str) -> Finding:
        """Give the finding called `name`; raises KeyError for an unknown one."""
        for finding in self.findings:
            if finding.name == name:
                return finding
        raise KeyError(name)

    @property
    def headline(self) -> str:
        """Give the one sentence that must stand above everything else."""
        deflated, plain = self["deflated_sharpe"], self["probabilistic_sharpe"]
        return (deflated if deflated.is_known else plain).text


def judge(daily_returns: npt.ArrayLike, *, trials: Trials | None) -> Honesty:
    """Judge (T,) finite daily returns, T >= 0, and what was tried to get them.

    trials counts this run too. None: nobody kept count, and what depends on the count is not known.
    """
    x = np.asarray(daily_returns, dtype=np.float64)
    x = series(x, "daily_returns") if len(x) else x
    seen = sharpe_moments(x) if len(x) else None
    why = _too_little(x, seen)
    beside = tried(trials, len(x))
    findings = (
        _sharpe(x, seen, why),
        _error(seen, why),
        _probabilistic(seen, why),
        _deflated(seen, why, beside),
        _track_record(seen, why),
        _backtest_years(seen, why, beside, len(x)),
        _overfitting(picked(trials)),
        _newey_west(x, why),
        _ledger(trials),
    )
    return Honesty(
        days=len(x),
        trials_n=beside.trials_n,
        trials_effective=beside.effective_n,
        hurdle=beside.hurdle * math.sqrt(YEAR_DAYS),
        findings=findings,
    )


def equity_band(daily_returns: npt.ArrayLike, seed: int) -> tuple[Floats, Floats]:
    """Give the band in which 95 of 100 reorderings of the same days lie, day by day.

    (T + 1,) lows and highs of equity, 1 at the start and then after each of the T days, from the
    stationary bootstrap. NaN after the start with fewer than 8 days.
    """
    x = np.asarray(daily_returns, dtype=np.float64)
    if len(x) < BAND_DAYS_MIN:
        unknown = np.concatenate([[1.0], np.full(len(x), np.nan)])
        return unknown, unknown.copy()
    x = series(x, "daily_returns")
    rng = np.random.default_rng(seed)
    block_mean = block_length(x).stationary
    draws = stationary_indices(rng, len(x), block_mean=block_mean, repetitions=REPETITIONS)
    paths = np.stack([np.cumprod(1.0 + x[index]) for index in draws])  # (B, T)
    low, high = np.quantile(paths, [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0], axis=0)
    return np.concatenate([[1.0], low]), np.concatenate([[1.0], high])


# ---- what can be known at all --------------------------------------------------------------------


def _too_little(x: Floats, seen: SharpeMoments | None) -> str:
    """Say why these days allow no inference, or nothing."""
    if len(x) < DAYS_MIN:
        return f"Not known: {len(x)} daily returns, and fewer than {DAYS_MIN} say nothing."
    if seen is None or math.isnan(seen.sharpe.ratio):
        return "Not known: the returns never vary, so there is nothing to measure."
    if not seen.sharpe.standard_error > 0.0:
        return "Not known: the returns take too few different values."
    return ""


# ---- the findings --------------------------------------------------------------------------------


def _sharpe(x: Floats, seen: SharpeMoments | None, why: str) -> Finding:
    label = "Sharpe ratio, a year"
    if why or seen is None:
        known = math.nan if seen is None else seen.sharpe.annualised(YEAR_DAYS).ratio
        shown = "" if math.isnan(known) else " The ratio itself is no evidence of anything."
        return Finding("sharpe", label, known, why + shown)
    found = sharpe_interval(x, level=LEVEL)
    low, high = found.low * YEAR_DAYS**0.5, found.high * YEAR_DAYS**0.5
    if math.isnan(low):
        text = "Its interval is not known: on too few days did anything happen."
    elif low > 0.0:
        text = f"The true ratio lies between {low:.2f} and {high:.2f}, as far as these days tell."
    elif high < 0.0:
        text = f"A losing book: the true ratio lies between {low:.2f} and {high:.2f}."
    else:
        text = (
            f"Anything from {low:.2f} to {high:.2f} fits these days, so they do not even tell "
            "whether it earns or loses."
        )
    return Finding("sharpe", label, found.estimate * YEAR_DAYS**0.5, text, low, high)


def _error(seen: SharpeMoments | None, why: str) -> Finding:
    label = "Standard error of the Sharpe ratio"
    if why or seen is None:
        return Finding("sharpe_error", label, math.nan, why)
    error = seen.sharpe.annualised(YEAR_DAYS).standard_error
    years = seen.sharpe.observations / YEAR_DAYS
    text = f"By luck alone a ratio measured over {years:.1f} years is off by about {error:.2f}."
    return Finding("sharpe_error", label, error, text)


def _probabilistic(seen: SharpeMoments | None, why: str) -> Finding:
    label = "Probabilistic Sharpe ratio"
    if why or seen is None:
        return Finding("probabilistic_sharpe", label, math.nan, why)
    value = _psr(seen, 0.0)
    years = _years(seen.sharpe.observations)
    text = (
        f"{years} of luck without any skill would look at least this good "
        f"{chance(1.0 - value)}, if nothing else had been tried."
    )
    return Finding("probabilistic_sharpe", label, value, text)


def _deflated(seen: SharpeMoments | None, why: str, beside: Tried) -> Finding:
    label = "Deflated Sharpe ratio"
    if why or beside.why or seen is None:
        return Finding("deflated_sharpe", label, math.nan, why or beside.why)
    value = _psr(seen, beside.hurdle)
    hurdle = beside.hurdle * math.sqrt(YEAR_DAYS)
    if beside.effective_n <= 1:
        text = (
            f"{_one_idea(beside)}, so nothing is taken off: luck does this {chance(1.0 - value)}."
        )
    else:
        ratio = seen.sharpe.annualised(YEAR_DAYS).ratio
        verdict = "is not above that" if ratio <= hurdle else "is above that"
        text = (
            f"{_tries(beside)}: the luckiest of so many without skill is expected to show "
            f"{hurdle:.2f}. This run's {ratio:.2f} {verdict}; if the truth were just that hurdle, "
            f"a result at least this good would come {chance(1.0 - value)}."
        )
    return Finding("deflated_sharpe", label, value, text)


def _track_record(seen: SharpeMoments | None, why: str) -> Finding:
    label = "Shortest convincing track record, days"
    if why or seen is None:
        return Finding("track_record_days", label, math.nan, why)
    days = seen.sharpe.observations
    least = track_record_min(
        seen.sharpe.ratio, skewness=seen.skewness, kurtosis=seen.kurtosis, confidence=LEVEL
    )
    if math.isinf(least):
        text = "No length of record would do: the ratio is not above 0."
    elif least <= days:
        text = f"{least:,.0f} days would do to rule out luck 19 times of 20; there are {days:,}."
    else:
        text = (
            f"At this ratio it takes {least:,.0f} days to rule out luck 19 times of 20; there are "
            f"only {days:,}."
        )
    return Finding("track_record_days", label, least, text)


def _backtest_years(seen: SharpeMoments | None, why: str, beside: Tried, days: int) -> Finding:
    name, label = "backtest_years", "Shortest backtest for so many trials, years"
    if why or beside.trials_n == 0 or seen is None:
        return Finding(name, label, math.nan, why or beside.why or "Not known: nothing was tried.")
    ratio = seen.sharpe.annualised(YEAR_DAYS).ratio
    if ratio <= 0.0:
        return Finding(name, label, math.nan, "Not defined: the ratio is not above 0.")
    least, years = backtest_years_min(max(beside.effective_n, 1), ratio), days / YEAR_DAYS
    if beside.effective_n <= 1:
        text = f"{_one_idea(beside)}, so there was nothing to pick a winner from."
    elif least > years:
        text = (
            f"{_tries(beside)}: over {years:.1f} years the best of so many is expected to reach "
            f"{ratio:.2f} without any skill; it takes {least:.1f} years until that is no longer so."
        )
    else:
        text = (
            f"{_tries(beside)}: luck alone is expected to reach {ratio:.2f} within {least:.1f} "
            f"years, and these are {years:.1f}."
        )
    return Finding(name, label, least, text)


def _overfitting(found: Picked) -> Finding:
    name, label = "overfitting_probability", "Probability of backtest overfitting"
    if found.why:
        return Finding(name, label, math.nan, found.why)
    middle = ", the middle one included," if found.trials_n % 2 else ""
    text = (
        f"Picking the best of {found.trials_n} trials on half of the days gave one of the worse "
        f"half{middle} on the other days in {found.probability:.0%} of {found.splits_n:,} splits; "
        f"picking one blindly would in {found.blind:.0%}."
    )
    return Finding(name, label, found.probability, text)


def _ledger(trials: Trials | None) -> Finding:
    """Say where trials were counted, since a ledger that starts anew forgets what was tried."""
    name, label = "trials_in_ledger", "Trials in the ledger"
    if trials is None or trials.ledger is None:
        return Finding(name, label, math.nan, "Not known: no ledger of trials was kept.")
    ledger = trials.ledger
    text = (
        f"The ledger {ledger.file} holds {counted(ledger.trials_n, 'different trial')}, of which "
        f"{counted(trials.tried_n, 'attempt')} on this data"
    )
    text += f" ({counted(trials.trained_n, 'training')})." if trials.trained_n else "."
    text += " What was tried beside another ledger is not counted."
    return Finding(name, label, float(ledger.trials_n), text)


def _newey_west(x: Floats, why: str) -> Finding:
    label = "Newey-West t of the mean daily return"
    if why:
        return Finding("newey_west_t", label, math.nan, why)
    value = newey_west_t(x, newey_west_lags(len(x), 1))
    if math.isnan(value):
        return Finding("newey_west_t", label, value, "Not known: no spread is left.")
    per_day = f"{float(x.mean()) * 1e4:+.2f} bps a day"
    if abs(value) < 1.96:
        text = f"{per_day}, which is too near to 0 to be told from it: |t| is below 1.96."
    else:
        text = f"{per_day}, which is more than days like these scatter around 0: |t| is above 1.96."
    return Finding("newey_west_t", label, value, text)


# ---- words ---------------------------------------------------------------------------------------


def chance(p: float) -> str:
    """Say how often something of probability p happens, for people; never rounds to never."""
    if p >= 0.995:
        return "in practically all cases"
    if p >= 0.4:
        return f"in {p:.0%} of cases"
    if p < 0.0005:
        return "in fewer than one of 2,000 cases"
    return f"in {p:.1%} of cases (about one of {round(1.0 / p):,})"


def _years(days: int) -> str:
    if days < 2 * 30:
        return f"{days} days"
    if days < 1.5 * YEAR_DAYS:
        return f"{days / YEAR_DAYS * 12:.0f} months"
    return f"{days / YEAR_DAYS:.1f} years"


def _one_idea(beside: Tried) -> str:
    if beside.trials_n <= 1:
        return "One idea was tried"
    return f"{beside.trials_n:,} trials of one and the same idea were run"


def _tries(beside: Tried) -> str:
    if beside.effective_n == beside.trials_n:
        return f"{beside.trials_n:,} things were tried"
    return (
        f"{beside.trials_n:,} things were tried, as good as {beside.effective_n:,} independent ones"
    )


def _psr(seen: SharpeMoments, benchmark: float) -> float:
    return probabilistic_sharpe(
        seen.sharpe.ratio,
        seen.sharpe.observations,
        benchmark=benchmark,
        skewness=seen.skewness,
        kurtosis=seen.kurtosis,
    )
