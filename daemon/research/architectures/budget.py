"""Decide before a run how much is learned, so that all arms fit into the hours that it may take.

The clock is never asked. What a step costs follows from sizes and the nominal speed of one core, so
the same settings and bars give the same plan on every machine. Where the hours do not suffice,
every network arm gets fewer steps, and below `STEPS_FEW` every arm is fitted again less often.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from daemon.domain.failures import ConfigurationError

STEPS_FEW: Final = 600  # on recorded bars networks still gained order up to about a thousand
STEPS_LEAST: Final = 40
EVALUATIONS: Final = 9  # times that a fit forecasts its stop part
FORWARD_SHARE: Final = 0.33  # of what learning from a sequence costs
RESERVED_SHARE: Final = 0.3  # of all hours: features, combination, books, backtests, the page


@dataclass(frozen=True)
class FitCost:
    """Hold what one fit costs in core seconds: fixed, and each step."""

    fixed_s: float
    step_s: float = 0.0


@dataclass(frozen=True)
class Effort:
    """Hold what was decided.

    steps: of every network. refit_days: after so many days all arms are fitted again. fits_n: in
    all. core_s: expected of the fits, at nominal speed. reason: why it is less than the protocol
    has, or empty.
    """

    steps: int
    refit_days: float
    folds_n: int
    fits_n: int
    core_s: float
    reason: str = ""


Costs = Callable[[float], tuple[int, Sequence[FitCost]]]  # refit days -> folds, every fit


def effort_of(costs: Costs, *, refit_days: float, steps_max: int, core_hours: float) -> Effort:
    """Choose steps, and refits where steps alone do not do; core_hours 0: no limit.

    Raises ConfigurationError for hours in which nothing can be compared.
    """
    seconds = 3600.0 * core_hours * (1.0 - RESERVED_SHARE)
    days, reason = refit_days, ""
    while True:
        folds_n, fits = costs(days)
        fixed, each = sum(f.fixed_s for f in fits), sum(f.step_s for f in fits)
        bought = steps_max
        if core_hours and each > 0:
            bought = min(steps_max, int((seconds - fixed) / each))
        enough = STEPS_FEW if folds_n > 1 else STEPS_LEAST
        if bought >= min(enough, steps_max) and (each > 0 or not core_hours or fixed <= seconds):
            break
        if folds_n == 1:
            needed = (fixed + STEPS_LEAST * each) / (1.0 - RESERVED_SHARE) / 3600.0
            raise ConfigurationError(
                f"architectures.core_hours = {core_hours:g}: these arms need {needed:.2f} at the"
                " least; fewer --arms, or more hours"
            )
        days *= 2.0
    if days > refit_days:
        reason = f"all arms are fitted again every {days:g} days instead of {refit_days:g}"
    if bought < steps_max:
        less = f"every network learns {bought:,} steps instead of {steps_max:,}"
        reason = f"{reason}, and {less}" if reason else less
    return Effort(bought, days, folds_n, len(fits), fixed + bought * each, reason)
