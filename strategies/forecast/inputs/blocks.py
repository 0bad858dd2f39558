"""Blocks of inputs that can be blanked, to ask what each of them is worth to a model.

A blanked input is unknown, which every kind of model reads as 0, at every bar, in training and in
the test alike. Models keep their size, and who may be forecast and when stays what it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from daemon.domain.units import require
from strategies.forecast.inputs.covariates import column_names
from strategies.forecast.inputs.dataset import Table
from strategies.forecast.inputs.features import FEATURE_NAMES, RESIDUAL_BARS, RETURN_BARS

BARS: Final[dict[str, tuple[str, ...]]] = {  # what is made of the bars of `training.timeframes`
    "returns": tuple(f"return_{k}" for k in RETURN_BARS),
    "residual returns": (
        *(f"residual_{k}" for k in RESIDUAL_BARS),
        *(f"rank_residual_{k}" for k in RESIDUAL_BARS),
    ),
    "range and body": ("range", "close_in_range", "body"),
    "volume": ("volume", "illiquidity", "rank_volume"),
    "volatility": ("volatility", "volatility_slope", "rank_volatility"),
    "time of day": ("day_sin", "day_cos"),
    "state of the market": tuple(n for n in FEATURE_NAMES if n.startswith("market_")),
}


def blocks_of(covariates: Sequence[str]) -> tuple[str, ...]:
    """Name all blocks of a model with these covariates; each of them is a block of its own."""
    return (*BARS, *covariates)


def blanked(table: Table, blocks: Sequence[str], covariates: Sequence[str]) -> Table:
    """Give a table without some blocks: 0 where a value was known, NaN where none was.

    covariates: those whose columns follow the ordinary features in `table.rows`.
    """
    names = (*FEATURE_NAMES, *column_names(covariates))
    require(
        len(names) == table.rows.shape[-1], f"{table.rows.shape[-1]} features, {len(names)} names"
    )
    gone = {name for block in blocks for name in BARS.get(block) or column_names([block])}
    places = [place for place, name in enumerate(names) if name in gone]
    rows, inputs = table.rows.copy(), table.inputs.copy()
    rows[..., places] = np.where(np.isfinite(rows[..., places]), 0.0, np.nan)
    inputs[..., places] = 0.0
    return replace(table, rows=rows, inputs=inputs)
