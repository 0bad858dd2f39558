"""Settings of the predicted covariance: which estimator, beside which baseline, and until when."""

from __future__ import annotations

from daemon.settings.fields import Section, setting


class CovarianceSettings(Section):
    """Say how the covariance of hourly returns is predicted."""

    estimator: str = setting(
        "none",
        "What predicts the covariance of hourly returns, by name (docs/covariance.md); none asks "
        "for none. A book of weights = 'mean_variance' and sizing need one.",
        min_length=1,
    )
    baseline: str = setting(
        "ewma", "What speaks in its place while the estimator does not hold.", min_length=1
    )
    volatility: str = setting(
        "ewma",
        "What the estimator standardises returns by, by name (docs/covariance.md); the baseline "
        "always does by ewma.",
        min_length=1,
    )
    model: str = setting(
        "",
        "Folder of a network for estimator = 'recurrent', as `equipoise evaluate correlation` "
        "leaves them below models; what it reads besides returns is taken as unknown here.",
    )
    memory_bars: int = setting(
        2160,
        "Hours of returns that estimators look back on; after a start they begin with what a "
        "window of 1h holds (market.window_bars).",
        unit="bars",
        ge=72,
        le=5000,
    )
    half_life_hours: float = setting(
        168.0, "Half-life of correlations by ewma.", unit="hours", ge=2, le=8760
    )
    volatility_half_life_hours: float = setting(
        24.0, "Half-life of volatilities by ewma.", unit="hours", ge=2, le=8760
    )
    window_hours: int = setting(
        720, "Hours that estimators without weights look at.", unit="hours", ge=48, le=8760
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
