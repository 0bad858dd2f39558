"""Judge forecasters on a market whose pattern is known: what each finds of what there is to find.

A forecast's *share* of the truth is its correlation with alpha, the expectation that the generator
knows: a forecast with IC r times the planted one has the share r, and no luck of outcomes is in it.
Its measured IC, against the outcomes themselves, is what a user sees. Labels of the decisions do
not overlap and are independent given the market, so that the standard error of a mean IC is that
of the instants' ICs over the root of their number: about 1 / sqrt((N - 1) M) for M instants of N.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.units import require
from daemon.research.null_market import Check
from daemon.statistics.cross_sections import ics

Floats = npt.NDArray[np.float64]

SHARE_MIN: Final = 0.6  # of the truth, for the network
SHARE_MAX: Final = 0.5  # for a ridge and for momentum
HALF_WIDTH_MAX: Final = 0.01
T_MAX: Final = 3.0
_TWO_SIDED: Final = 1.959964  # normal quantile of 97.5 %


class Arm(StrEnum):
    """Name what is scored: the network, its rivals, and the network where nothing can be found."""

    NETWORK = "network"
    RIDGE = "ridge"
    MOMENTUM = "momentum"
    SHUFFLED = "shuffled labels"
    FAIR = "planted 0"


@dataclass(frozen=True, slots=True)
class ArmOutcome:
    """Hold what one arm showed on decisions that no training saw.

    ics: (M,) correlation of forecast and outcome at each instant, NaN where the forecast did not
    vary. share: see the module, NaN without a pattern; shares: of each timeframe's forecast alone,
    by its label.
    """

    arm: Arm
    model: str
    ics: Floats
    share: float
    shares: Mapping[str, float]

    @property
    def instants(self) -> int:
        """Count the decisions that have an IC."""
        return int(np.isfinite(self.ics).sum())

    @property
    def mean(self) -> float:
        """Give the mean IC, NaN without any."""
        return float(np.nanmean(self.ics)) if self.instants else float("nan")

    @property
    def error(self) -> float:
        """Give the standard error of the mean IC, NaN with fewer than two instants."""
        if self.instants < 2:
            return float("nan")
        return float(np.nanstd(self.ics, ddof=1)) / float(np.sqrt(self.instants))

    @property
    def interval(self) -> tuple[float, float]:
        """Give the two-sided 95 % interval of the mean IC."""
        return self.mean - _TWO_SIDED * self.error, self.mean + _TWO_SIDED * self.error

    @property
    def t(self) -> float:
        """Give the mean IC over its standard error; 0 where the arm forecast nothing."""
        return self.mean / self.error if self.instants >= 2 else 0.0


@dataclass(frozen=True, slots=True)
class PlantedVerdict:
    """Hold the checks of a campaign and whether all were passed."""

    planted_ic: float
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Tell whether the forecasters found what they should, and nothing else."""
        return all(check.passed for check in self.checks)

    @property
    def summary(self) -> str:
        """Say in a sentence what was passed or not."""
        failed = ", ".join(check.name for check in self.checks if not check.passed)
        told = f"a planted IC of {self.planted_ic:g}"
        return f"{told}: NOT shown: {failed}" if failed else f"{told}: everything was shown"


def outcome_of(
    arm: Arm, model: str, forecasts: Mapping[str, Floats], label: Floats, alpha: Floats
) -> ArmOutcome:
    """Score the mean of the timeframes' forecasts, each (M, N) in one unit, by label.

    label, alpha: (M, N) what came and what was known; an alpha of zeros is no pattern.
    """
    require(len(forecasts) > 0, "an arm without forecasts cannot be scored")
    together = np.mean(list(forecasts.values()), axis=0)
    return ArmOutcome(
        arm=arm,
        model=model,
        ics=ics(together, label),
        share=share_of(together, alpha),
        shares={name: share_of(one, alpha) for name, one in forecasts.items()},
    )


def share_of(forecast: Floats, alpha: Floats) -> float:
    """Correlate (M, N) forecasts with alpha, each instant's mean removed; NaN if one is constant.

    Pairs with a NaN are left out.
    """
    known = np.isfinite(forecast) & np.isfinite(alpha)
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)
    f, a = (
        np.where(known, x - np.where(known, x, 0.0).sum(axis=1, keepdims=True) / count, 0.0)
        for x in (forecast, alpha)
    )
    size = float(np.sqrt((f * f).sum() * (a * a).sum()))
    return float((f * a).sum()) / size if size > 0.0 else float("nan")


def judge(outcomes: Sequence[ArmOutcome], planted_ic: float) -> PlantedVerdict:
    """Hold every arm that was run against what it must show."""
    by_arm = {one.arm: one for one in outcomes}
    checks = list[Check]()
    if Arm.NETWORK in by_arm:
        checks += _found_checks(by_arm[Arm.NETWORK])
    for arm in (Arm.RIDGE, Arm.MOMENTUM):
        if arm in by_arm:
            share = by_arm[arm].share
            checks.append(
                Check(
                    f"{arm} finds little",
                    f"{share:.0%} of the truth",
                    f"less than {SHARE_MAX:.0%}",
                    bool(share < SHARE_MAX),
                )
            )
    for arm in (Arm.SHUFFLED, Arm.FAIR):
        if arm in by_arm:
            one = by_arm[arm]
            checks.append(
                Check(
                    f"{arm}: nothing is found",
                    f"IC {one.mean:+.4f}, t {one.t:+.2f}",
                    f"|t| below {T_MAX:g}",
                    abs(one.t) < T_MAX,
                )
            )
    return PlantedVerdict(planted_ic, tuple(checks))


def _found_checks(one: ArmOutcome) -> list[Check]:
    low, high = one.interval
    half = (high - low) / 2
    return [
        Check(
            "network finds the pattern",
            f"{one.share:.0%} of the truth",
            f"at least {SHARE_MIN:.0%}",
            bool(one.share >= SHARE_MIN),
        ),
        Check(
            "network is above zero",
            f"IC {one.mean:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}",
            "above 0",
            bool(low > 0.0),
        ),
        Check(
            "network: precision",
            f"half-width {half:.4f} over {one.instants} decisions",
            f"at most {HALF_WIDTH_MAX:g}",
            bool(half <= HALF_WIDTH_MAX),
        ),
    ]


def arm_values(one: ArmOutcome) -> dict[str, object]:
    """Give the figures of one arm by name; None where one is not defined."""
    low, high = one.interval
    values = {
        "ic": one.mean,
        "standard_error": one.error,
        "low": low,
        "high": high,
        "t": one.t,
        "share": one.share,
    }
    plain: dict[str, object] = {name: _defined(value) for name, value in values.items()}
    shares = {name: _defined(share) for name, share in one.shares.items()}
    arm: dict[str, object] = {"arm": one.arm.value, "model": one.model, "decisions": one.instants}
    return arm | plain | {"shares": shares}


def _defined(value: float) -> float | None:
    return value if np.isfinite(value) else None
