"""What the worker hosts where a covariance is asked for: another estimator, and it beside."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daemon.wiring.covariance_columns import RunningColumns
from strategies.covariance.hosted import WithCovariance
from strategies.covariance.interface import CovarianceEstimator
from strategies.covariance.known import DEFAULT, make_estimator
from strategies.covariance.monitor import Bounds, Monitor
from strategies.covariance.recurrent_store import load


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
    asked, columns = _asked(chosen, knobs)
    noting = [inner] if inner is not None and hasattr(inner, "note") else []
    noting += [] if columns is None else [columns]
    # By plain volatilities: what fails in those that are asked for must not fail here as well.
    plain = knobs | {"volatility": DEFAULT}
    baseline = asked  # one that is its own baseline is not worked out twice
    if chosen["model"] or chosen["baseline"] != chosen["estimator"] or plain != knobs:
        baseline = make_estimator(chosen["baseline"], plain, chosen["coins"])
    return WithCovariance(
        inner,
        asked,
        baseline,
        Monitor(
            Bounds(
                gap_max=chosen["gap_max"],
                excess_max=chosen["excess_max"],
                half_life_bars=chosen["watch_half_life_hours"],
            )
        ),
        memory_bars=chosen["memory_bars"],
        columns=columns,
        noting=noting,
        factors=chosen["factors"],
    )


def _asked(
    chosen: Mapping[str, Any], knobs: Mapping[str, object]
) -> tuple[CovarianceEstimator, RunningColumns | None]:
    """Make the estimator that is asked for, and what it reads beside returns."""
    if not chosen["model"]:
        return make_estimator(chosen["estimator"], knobs, chosen["coins"]), None
    manifest, network = load(Path(chosen["model"]))
    return network, RunningColumns(manifest.covariates, chosen) if manifest.covariates else None
