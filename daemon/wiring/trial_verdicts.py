"""What the ledger of trials says: the list, and the honest figures for each set of data."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from adapters.trial_ledger import TrialLedger
from daemon.report.trials import Trials
from daemon.settings import Settings
from daemon.statistics.overfitting import backtest_overfitting
from daemon.statistics.trials import deflate
from daemon.wiring.trials import Tried, different_trials, judged, same_data

DAYS_MIN: Final = 30  # fewer daily returns say nothing about a Sharpe ratio
BLOCKS: Final = 16  # of PBO, each of two days at least
YEAR_ROOT: Final = math.sqrt(365.0)
SURE: Final = 0.95


@dataclass(frozen=True, slots=True)
class TrialRow:
    """Hold one different trial for the list; data: the number of its set of data, from 1."""

    data: int
    id: str
    name: str
    command: str
    strategy: str
    first_ms: int
    last_ms: int
    sharpe: float | None  # annual
    is_stress: bool
    repeats: int
    logged_ms: int
    last_logged_ms: int


@dataclass(frozen=True, slots=True)
class GroupVerdict:
    """Hold what was tried on one set of data and what is left of the best; None: not defined.

    sharpe_best and hurdle are annual and over the common days.
    """

    data: int
    tried_n: int
    columns_n: int
    days_n: int
    effective_n: int | None
    best: str | None
    sharpe_best: float | None
    hurdle: float | None
    dsr: float | None
    pbo: float | None
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TriedSoFar:
    """Hold the whole ledger as people read it."""

    file: str
    torn_bytes: int
    rows: tuple[TrialRow, ...]
    groups: tuple[GroupVerdict, ...]


def tried_so_far(settings: Settings) -> TriedSoFar:
    """Read and judge the ledger that settings name; raises CorruptFile for a damaged one."""
    path = Path(settings.evaluation.trials_file)
    logged = TrialLedger(path).read()
    tried = different_trials(logged.trials)
    groups = same_data(tried)
    number_of = {one.name: at for at, group in enumerate(groups, start=1) for one in group}
    rows = tuple(_row(number_of[one.name], one) for one in tried)
    verdicts = tuple(_verdict(at, group) for at, group in enumerate(groups, start=1))
    return TriedSoFar(str(path), logged.torn_bytes, rows, verdicts)


def _row(number: int, one: Tried) -> TrialRow:
    trial = one.trial
    return TrialRow(
        data=number,
        id=trial.id,
        name=one.name,
        command=trial.command,
        strategy=one.strategy,
        first_ms=trial.first_ms,
        last_ms=trial.last_ms,
        sharpe=trial.sharpe,
        is_stress=one.is_stress,
        repeats=one.repeats,
        logged_ms=trial.logged_ms,
        last_logged_ms=one.last_logged_ms,
    )


def _verdict(number: int, group: Sequence[Tried]) -> GroupVerdict:
    """Judge a group over the period that most of its trials have, of equals the latest."""
    attempts = [one for one in group if not one.is_stress] or list(group)
    counts = Counter(one.trial.data_fingerprint for one in attempts)
    latest = {one.trial.data_fingerprint: at for at, one in enumerate(attempts)}
    chosen = max(counts, key=lambda print_: (counts[print_], latest[print_]))
    stressed_n = sum(one.is_stress for one in group)
    return verdict_of(number, judged(group, chosen), stressed_n)


def verdict_of(number: int, trials: Trials, stressed_n: int = 0) -> GroupVerdict:
    """Give effective number, deflated Sharpe ratio and PBO of trials, with plain words."""
    days_n, columns_n = trials.returns.shape
    words: list[str] = []
    if stressed_n:
        words.append(
            f"{stressed_n} arms of stress campaigns do not count: the same ideas elsewhere"
        )
    effective = best = ratio = hurdle = dsr = pbo = None
    if columns_n == 0 or days_n < DAYS_MIN:
        words.append(
            f"not judged: {columns_n} trials with returns that vary over {days_n} common days; "
            f"needed are 1 and {DAYS_MIN}"
        )
    else:
        found = deflate(trials.returns, trials=trials.tried_n)
        effective, best, dsr = found.trials_effective, trials.names[found.best], found.dsr
        ratio, hurdle = found.sharpe.ratio * YEAR_ROOT, found.hurdle * YEAR_ROOT
        words.append(
            f"these count as {effective} independent attempts; the luckiest of so many without "
            f"skill would show a Sharpe ratio of about {hurdle:.2f}"
        )
        words.append(
            f"best: {best} with {ratio:+.2f}; deflated Sharpe ratio {dsr:.1%}: {_about_dsr(dsr)}"
        )
        if columns_n < 2 or days_n < 2 * BLOCKS:
            words.append(f"PBO: not defined for {columns_n} trials over {days_n} days")
        else:
            pbo = backtest_overfitting(trials.returns, blocks=BLOCKS).probability
            words.append(f"PBO {pbo:.1%}: {_about_pbo(pbo)}")
    return GroupVerdict(
        number,
        trials.tried_n,
        columns_n,
        days_n,
        effective,
        best,
        ratio,
        hurdle,
        dsr,
        pbo,
        tuple(words),
    )


def _about_dsr(dsr: float) -> str:
    if dsr >= SURE:
        return "more than luck among so many explains"
    if dsr >= 0.5:
        return "not shown; luck among so many may explain it"
    return "nothing here; luck among so many explains it"


def _about_pbo(pbo: float) -> str:
    if pbo >= 0.5:
        return "picking the best of these is no better than picking any"
    if pbo > 1.0 - SURE:
        return "the best of one half is often poor in the other half"
    return "what is best in one half is mostly good in the other half too"
