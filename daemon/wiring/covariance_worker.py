"""What the worker hosts where a covariance is asked for: another estimator, and it beside."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from strategies.covariance.hosted import WithCovariance
from strategies.covariance.known import make_estimator
from strategies.covariance.monitor import Bounds, Monitor


def build(config: Mapping[str, Any]) -> WithCovariance:
    """Build what {"inner": import string or "", "config": its own, "covariance": settings} names.

    Raises what the inner one raises, and ConfigurationError for an unknown estimator.
    """
    chosen = config["covariance"]
    inner = None
    if config["inner"]:
        module, name = config["inner"].split(":")
        inner = getattr(importlib.import_module(module), name)(config["config"])
    knobs = dict(chosen["parameters"])
    return WithCovariance(
        inner,
        make_estimator(chosen["estimator"], knobs, chosen["coins"]),
        make_estimator(chosen["baseline"], knobs, chosen["coins"]),
        Monitor(
            Bounds(
                gap_max=chosen["gap_max"],
                excess_max=chosen["excess_max"],
                half_life_bars=chosen["watch_half_life_hours"],
            )
        ),
        memory_bars=chosen["memory_bars"],
    )
