"""What the ledger of trials says: the list, and the honest figures for each set of data."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adapters.trial_ledger import TrialLedger
from daemon.report.honesty import judge
from daemon.report.trials import Trials, shown_file
from daemon.report.tried import DAYS_MIN
from daemon.settings import Settings
from daemon.wiring.trials import Tried, attempts, different_trials, judged, same_data


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
    """Hold the whole ledger as people read it.

    file: as settings name it; shown: as reports name it. entries_n: lines, repeats included.
    first_logged_ms: None for an empty ledger.
    """

    file: str
    shown: str
    entries_n: int
    first_logged_ms: int | None
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
    return TriedSoFar(
        file=str(path),
        shown=shown_file(path),
        entries_n=len(logged.trials),
        first_logged_ms=min((one.logged_ms for one in logged.trials), default=None),
        torn_bytes=logged.torn_bytes,
        rows=rows,
        groups=verdicts,
    )


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
    runs = [one for one in group if one.trial.training is None] or list(group)
    counted = [one for one in attempts(group) if one.trial.training is None] or runs
    counts = Counter(one.trial.data_fingerprint for one in counted)
    latest = {one.trial.data_fingerprint: at for at, one in enumerate(counted)}
    chosen = max(counts, key=lambda print_: (counts[print_], latest[print_]))
    stressed_n = sum(one.is_stress for one in group)
    return verdict_of(number, judged(group, chosen), stressed_n)


def verdict_of(number: int, trials: Trials, stressed_n: int = 0) -> GroupVerdict:
    """Judge the best of trials as the page of its run would, in the same figures and words."""
    days_n, columns_n = trials.returns.shape
    words: list[str] = []
    if stressed_n:
        words.append(
            f"{stressed_n} arms of stress campaigns do not count: the same ideas elsewhere"
        )
    if trials.trained_n:
        words.append(f"{trials.trained_n} trainings count, though they left no daily returns")
    nothing = GroupVerdict(
        number, trials.tried_n, columns_n, days_n, None, None, None, None, None, None, tuple(words)
    )
    if columns_n == 0 or days_n < DAYS_MIN:
        words.append(
            f"not judged: {columns_n} trials with returns that vary over {days_n} common days; "
            f"needed are 1 and {DAYS_MIN}"
        )
        return replace(nothing, words=tuple(words))
    returns = trials.returns
    best = int((returns.mean(axis=0) / returns.std(axis=0, ddof=1)).argmax())
    found = judge(returns[:, best], trials=trials)
    deflated, overfit = found["deflated_sharpe"], found["overfitting_probability"]
    ratio = found["sharpe"].value
    words.append(f"best: {trials.names[best]} with a Sharpe ratio of {ratio:+.2f}")
    for one in (deflated, overfit):
        value = f" {one.value:.1%}" if one.is_known else ""
        words.append(f"{one.label}{value}: {one.text}")
    return replace(
        nothing,
        effective_n=found.trials_effective,
        best=trials.names[best],
        sharpe_best=ratio,
        hurdle=_known(found.hurdle),
        dsr=_known(deflated.value),
        pbo=_known(overfit.value),
        words=tuple(words),
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
