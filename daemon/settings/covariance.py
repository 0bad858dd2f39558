"""Settings of the predicted covariance: which estimator, beside which baseline, and until when."""

from __future__ import annotations

from typing import Literal

from daemon.settings.fields import Section, setting

Estimator = Literal[
    "none",
    "ewma",
    "sample",
    "shrinkage",
    "nonlinear",
    "dcc",
    "cdcc",
    "theory_implied",
    "average_oracle",
]


class CovarianceSettings(Section):
    """Say how the covariance of hourly returns is predicted."""

    estimator: Estimator = setting(
        "none",
        "What predicts the covariance of hourly returns; none asks for none. A book of weights = "
        "'mean_variance' and sizing need one.",
    )
    baseline: Literal["ewma", "sample", "shrinkage"] = setting(
        "ewma", "What speaks in its place while the estimator does not hold."
    )
    memory_bars: int = setting(
        720,
        "Hours of returns that estimators look back on; after a start they begin with what a "
        "window of 1h holds (market.window_bars).",
        unit="bars",
        ge=72,
        le=5000,
    )
    half_life_hours: float = setting(
        168.0, "Half-life of correlations by ewma.", unit="hours", ge=6, le=5000
    )
    volatility_half_life_hours: float = setting(
        48.0, "Half-life of volatilities by ewma.", unit="hours", ge=2, le=5000
    )
    gap_max: float = setting(
        0.3,
        "Mean correlation said less that which came, as averages over watch_half_life_hours: "
        "further apart the baseline speaks, until they are within half of it.",
        gt=0,
        le=2,
    )
    excess_max: float = setting(
        0.05,
        "Loss above that of the baseline from which on the baseline speaks.",
        unit="nats a coin and hour",
        gt=0,
        le=100,
    )
    watch_half_life_hours: float = setting(
        168.0, "Half-life of what gap_max and excess_max look at.", unit="hours", ge=6, le=5000
    )
