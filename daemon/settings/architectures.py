"""Settings of the comparison of architectures."""

from __future__ import annotations

from typing import Literal

from daemon.settings.fields import Section, setting


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
