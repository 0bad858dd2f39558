"""Settings of research that fits models many times: `evaluate walkforward` and `architectures`."""

from __future__ import annotations

from typing import Literal

from daemon.settings.fields import Instant, Section, setting


class WalkforwardSettings(Section):
    """Say when `evaluate walkforward` fits models again, and on what."""

    first_test: Instant = setting(
        None, "First instant that is forecast; empty leaves train_days, or half of all, before it."
    )
    refit_days: float = setting(
        60.0, "How long a fit forecasts before the next one.", unit="days", gt=0, le=3650
    )
    train_days: float = setting(
        0.0, "Window that a fit learns from; 0 takes all that came before.", unit="days", ge=0
    )
    stop_days: float = setting(
        30.0, "Part after the window that stops a fit early.", unit="days", gt=0, le=3650
    )
    embargo_h: float = setting(
        24.0,
        "Left out between two parts beyond the reach of a label (12 hours and the lag).",
        unit="hours",
        ge=0,
        le=10_000,
    )


class ArchitecturesSettings(Section):
    """Say how large `evaluate architectures` is; folds are those of [walkforward]."""

    protocol: Literal["default", "full"] = setting(
        "default",
        "default: 2 seeds and 3 trials of tuning a network; full: 10 seeds, 40 trials, all rungs "
        "and no limit of hours, for a GPU (see training.device).",
    )
    core_hours: float = setting(
        4.0,
        "Hours times cores that the default protocol may take at nominal speed; 0: no limit. Kept "
        "by what is decided beforehand, for all arms alike.",
        unit="hours",
        ge=0,
        le=100_000,
    )
