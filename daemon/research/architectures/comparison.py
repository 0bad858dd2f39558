"""Compare arms by their losses at every instant: model confidence sets, SPA, paired tests.

Losses are minus the score IC, minus the RankIC and the Gaussian likelihood, each a mean over the
instruments of an instant. Labels reach over several instants, so that losses depend: blocks are
twice a label long at the least, or as long as the automatic rule asks for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Floats
from daemon.statistics.bootstrap import block_length
from daemon.statistics.comparison import diebold_mariano
from daemon.statistics.multiple_comparison import (
    REPETITIONS,
    model_confidence_set,
    superior_predictive_ability,
)
from daemon.statistics.skill import MeanIc, mean_ic

Longs = npt.NDArray[np.int64]
INSTANTS_MIN: Final = 100  # below this nothing is compared
SET_LEVEL: Final = 0.10
BLOCKS_OF_LABELS: Final = 2


@dataclass(frozen=True, slots=True)
class Set:
    """Hold a model confidence set: who is in it, the p-value of each, and what it stands on."""

    members: tuple[str, ...]
    p_values: Mapping[str, float]
    instants: int
    block: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Hold a paired difference of mean IC (above zero: the first is better) and its p-value."""

    difference: MeanIc
    p_value: float


def confidence_set(
    losses: Mapping[str, Floats], *, horizon: int, seed: int, repetitions: int = REPETITIONS
) -> Set | None:
    """Find which arms may be the best; None with fewer than INSTANTS_MIN instants or two arms.

    losses: (T,) of each arm, NaN where it has none; instants that any arm lacks are left out.
    """
    names, x = _common(losses)
    if len(names) < 2 or len(x) < INSTANTS_MIN:
        return None
    block = _block(x - x.mean(axis=1, keepdims=True), horizon)
    found = model_confidence_set(x, seed=seed, block_mean=block, repetitions=repetitions)
    inside = tuple(names[k] for k in found.members(SET_LEVEL))
    return Set(inside, dict(zip(names, found.p_values, strict=True)), len(x), block)


def beats(
    losses: Mapping[str, Floats],
    benchmark: str,
    rivals: Sequence[str],
    *,
    horizon: int,
    seed: int,
    repetitions: int = REPETITIONS,
) -> float:
    """Give SPA's consistent p-value of `no rival beats the benchmark`; NaN where untestable."""
    _, x = _common({name: losses[name] for name in (benchmark, *rivals)})
    if len(x) < INSTANTS_MIN:
        return math.nan
    d = x[:, :1] - x[:, 1:]
    same = np.ptp(d, axis=0) <= 1e-12
    if same.all():
        return 1.0
    d = d[:, ~same]
    found = superior_predictive_ability(
        x[:, 0],
        x[:, 1:][:, ~same],
        seed=seed,
        block_mean=_block(d, horizon),
        repetitions=repetitions,
    )
    return found.p_consistent


def paired(first: Floats, second: Floats, *, horizon: int) -> Pair:
    """Compare two series (T,) of IC; the p-value is Diebold and Mariano's, two-sided."""
    known = np.isfinite(first) & np.isfinite(second)
    a, b = first[known], second[known]
    difference = mean_ic(a - b, horizon_bars=horizon)
    if len(a) < INSTANTS_MIN:
        return Pair(difference, math.nan)
    return Pair(difference, diebold_mariano(-b, -a, horizon=horizon).p_value)


def best_of(losses: Mapping[str, Floats], names: Sequence[str]) -> str:
    """Name the arm of the smallest mean loss on the instants that all have."""
    kept, x = _common({name: losses[name] for name in names})
    return kept[int(x.mean(axis=0).argmin())] if len(x) else names[0]


def _common(losses: Mapping[str, Floats]) -> tuple[list[str], Floats]:
    names = list(losses)
    x = np.stack([losses[name] for name in names], axis=1) if names else np.empty((0, 0))
    return names, x[np.isfinite(x).all(axis=1)]


def _block(d: Floats, horizon: int) -> float:
    automatic = [block_length(column).stationary for column in d.T if np.ptp(column) > 1e-12]
    return float(max([BLOCKS_OF_LABELS * horizon, *automatic]))
