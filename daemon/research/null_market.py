"""Judge the machine by markets whose truth is known: nothing to find, or exactly so much.

On a market without any pattern a 95 % interval must cover zero in about 95 of 100 seeds: fewer, and
the statistics flatter; all of them, and they say nothing. On a market with a planted pattern the
interval must be narrow, above zero and around the true value. The bounds are those that a binomial
count with p = 0.95 leaves with a chance of about one in a hundred on each side, 90 to 99 of 100.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.units import require
from daemon.statistics.bootstrap import Interval
from daemon.statistics.overfitting import backtest_overfitting
from daemon.statistics.skill import MeanIc
from daemon.statistics.trials import Deflated, deflate

Floats = npt.NDArray[np.float64]

LEVEL: Final = 0.95
TAIL: Final = 0.012
HALF_WIDTH_MAX: Final = 0.01
SEEDS_MIN: Final = 20  # below this the best of the seeds is no search worth deflating
DSR_MAX: Final = 0.95  # a deflated Sharpe ratio above it claims skill
PBO_MIN: Final = 0.2  # noise shows 0.5 +- 0.15; below this a choice among seeds would look real
BLOCKS_MAX: Final = 10


@dataclass(frozen=True, slots=True)
class SeedOutcome:
    """Hold what one seed showed; ICs are of the hourly forecast over its own six hours.

    rank, score: of the hourly forecast; combined: RankIC of the strategy's signal. gross and net:
    daily Sharpe ratio before and after fees, spread, impact and funding; gross_returns,
    net_returns: (D,) daily. true_ic: the score IC that the generator knows this forecast to have,
    0 without a pattern. pattern: IC of the pattern itself against its own label, NaN without one.
    """

    seed: int
    planted_ic: float
    rank: MeanIc
    score: MeanIc
    combined: MeanIc
    gross: Interval
    net: Interval
    gross_returns: Floats
    net_returns: Floats
    true_ic: float
    pattern: MeanIc


@dataclass(frozen=True, slots=True)
class Check:
    """Hold one thing that had to be so, in words, and whether it was."""

    name: str
    found: str
    wanted: str
    passed: bool


@dataclass(frozen=True, slots=True)
class NullVerdict:
    """Hold all checks of a campaign; notes: what is worth saying and no check.

    seeds, planted: how many markets there were. unjudged: what so many cannot judge.
    """

    checks: tuple[Check, ...]
    notes: tuple[str, ...]
    seeds: int
    planted: int
    unjudged: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Tell whether the machine passed its own test."""
        return all(check.passed for check in self.checks)

    @property
    def summary(self) -> str:
        """Say in a sentence what was passed or not, and what was not judged at all."""
        told = (_counted(self.seeds, "null seed"), _counted(self.planted, "planted seed"))
        used = " and ".join(text for text in told if text)
        if not self.passed:
            failed = ", ".join(check.name for check in self.checks if not check.passed)
            result = f"the machine FAILED its own test ({used}): {failed}"
        elif not self.unjudged:
            return f"the machine passed its own test, all of it ({used})"
        else:
            result = f"the machine passed what {used} can test"
        return f"{result}; not judged: {', '.join(self.unjudged)}" if self.unjudged else result


def covered_bounds(seeds: int) -> tuple[int, int]:
    """Give fewest and most of `seeds` honest 95 % intervals that may cover; 90 and 99 of 100."""
    from scipy.stats import binom  # heavy, and most commands do without

    require(seeds >= 1, f"{seeds} seeds: at least 1 is needed")
    low = next(k for k in range(seeds + 1) if binom.cdf(k, seeds, LEVEL) > TAIL)
    high = next(k for k in range(seeds, -1, -1) if binom.sf(k - 1, seeds, LEVEL) > TAIL)
    return low, high


def judge(outcomes: Sequence[SeedOutcome]) -> NullVerdict:
    """Check null seeds and planted seeds; either may be absent, not both."""
    require(len(outcomes) > 0, "a campaign without seeds cannot be judged")
    null = [one for one in outcomes if one.planted_ic == 0.0]
    planted = [one for one in outcomes if one.planted_ic > 0.0]
    checks, notes = list[Check](), list[str]()
    if null:
        checks += _coverage_checks(null)
        notes.append(_net_note(null))
        if len(null) >= SEEDS_MIN:
            checks += _search_checks(null)
        else:
            notes.append(f"DSR and PBO are judged from {SEEDS_MIN} null seeds on")
    if planted:
        checks += _planted_checks(planted)
    unjudged = [] if null else ["coverage of zero"]
    unjudged += [] if len(null) >= SEEDS_MIN else ["DSR", "PBO"]
    unjudged += [] if planted else ["the planted edge"]
    return NullVerdict(tuple(checks), tuple(notes), len(null), len(planted), tuple(unjudged))


def _counted(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}" if number else ""


_Ends = Callable[[SeedOutcome], MeanIc | Interval]
_COVERED: Final[Sequence[tuple[str, _Ends]]] = (
    ("RankIC of the hourly forecast", lambda one: one.rank),
    ("score IC of the hourly forecast", lambda one: one.score),
    ("RankIC of the combined signal", lambda one: one.combined),
    ("gross daily Sharpe ratio", lambda one: one.gross),
)


def _coverage_checks(null: Sequence[SeedOutcome]) -> list[Check]:
    low, high = covered_bounds(len(null))
    checks = []
    for name, of in _COVERED:
        covered = sum(_covers(of(one), 0.0) for one in null)
        found = f"95 % interval covers zero in {covered} of {len(null)} seeds"
        checks.append(Check(name, found, f"{low} to {high}", low <= covered <= high))
    return checks


def _covers(found: MeanIc | Interval, value: float) -> bool:
    return found.low <= value <= found.high


def _net_note(null: Sequence[SeedOutcome]) -> str:
    net = [one.net.estimate for one in null]
    below = sum(one.net.high < 0.0 for one in null)
    return (
        f"after costs the mean daily Sharpe ratio is {np.mean(net):+.3f}, and its interval lies"
        f" below zero in {below} of {len(null)} seeds: costs are certain, skill there is none"
    )


def _search_checks(null: Sequence[SeedOutcome]) -> list[Check]:
    """Take the seeds for trials of one search: the best of them must not look like skill."""
    gross, net = (
        np.column_stack(columns)
        for columns in ([o.gross_returns for o in null], [o.net_returns for o in null])
    )
    checks = [
        _deflated_check("before costs", deflate(gross)),
        _deflated_check("after costs", deflate(net)),
    ]
    blocks = min(BLOCKS_MAX, len(gross) // 4 * 2)
    probability = backtest_overfitting(gross, blocks=blocks).probability
    found = f"PBO of the best seed before costs is {probability:.2f}"
    checks.append(Check("PBO", found, f"at least {PBO_MIN}", probability >= PBO_MIN))
    return checks


def _deflated_check(when: str, found: Deflated) -> Check:
    text = (
        f"DSR of the best of {found.trials} seeds ({found.trials_effective} different) {when} is"
        f" {found.dsr:.2f}, daily Sharpe {found.sharpe.ratio:+.3f} against {found.hurdle:.3f} by"
        " luck"
    )
    return Check(f"DSR {when}", text, f"at most {DSR_MAX}", found.dsr <= DSR_MAX)


def _planted_checks(planted: Sequence[SeedOutcome]) -> list[Check]:
    low, high = covered_bounds(len(planted))
    low = max(low, 1)  # of a single seed nothing less than covering is accepted
    wanted = f"{low} to {high}"
    checks = []
    kinds: Sequence[tuple[str, Callable[[SeedOutcome], tuple[MeanIc, float]]]] = (
        ("ridge", lambda one: (one.score, one.true_ic)),
        ("planted pattern itself", lambda one: (one.pattern, one.planted_ic)),
    )
    for name, of in kinds:
        pairs = [of(one) for one in planted]
        covered = sum(_covers(found, true) for found, true in pairs)
        text = f"95 % interval covers the true IC in {covered} of {len(pairs)} seeds: " + "; ".join(
            f"{found.mean:.4f} ({found.low:.4f} to {found.high:.4f}), true {true:.4f}"
            for found, true in pairs
        )
        checks.append(Check(f"{name}: true IC", text, wanted, low <= covered <= high))
        widest = max((found.high - found.low) / 2 for found, _ in pairs)
        text = f"widest half-width {widest:.4f}"
        passed = bool(widest <= HALF_WIDTH_MAX)
        checks.append(Check(f"{name}: precision", text, f"at most {HALF_WIDTH_MAX}", passed))
        lowest = min(found.low for found, _ in pairs)
        text = f"lowest lower end {lowest:+.4f}"
        checks.append(Check(f"{name}: is found", text, "above 0", bool(lowest > 0.0)))
    return checks


_INTERVALS: Final = ("rank", "score", "combined", "pattern", "gross", "net")


def outcome_row(one: SeedOutcome) -> dict[str, object]:
    """Give the figures of one seed by name, for a table."""
    row: dict[str, object] = {
        "seed": one.seed,
        "planted_ic": one.planted_ic,
        "true_ic": one.true_ic,
    }
    for name in _INTERVALS:
        found: MeanIc | Interval = getattr(one, name)
        row[name] = found.mean if isinstance(found, MeanIc) else found.estimate
        row[f"{name}_low"], row[f"{name}_high"] = found.low, found.high
    row["gross_return"] = _compounded(one.gross_returns.tolist())
    row["net_return"] = _compounded(one.net_returns.tolist())
    return row


def _compounded(returns: Iterable[float]) -> float:
    total = 1.0
    for one in returns:
        total *= 1.0 + one
    return total - 1.0
