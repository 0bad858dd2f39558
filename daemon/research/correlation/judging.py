"""Judge the arms of a race: means with intervals, confidence sets, quarters, verdicts.

Losses are compared on the blocks that all arms have. A block is an instant; blocks do not overlap,
but a loud week makes neighbours alike, so that resampling takes blocks of blocks: of the automatic
length, and two days at the least.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from daemon.domain.bar import Floats
from daemon.domain.units import utc
from daemon.research.architectures.comparison import INSTANTS_MIN, Set, confidence_set
from daemon.research.architectures.verdicts import Verdict
from daemon.research.correlation.arms import BASELINE, TAXONOMY, Arm, Group
from daemon.research.correlation.market import HORIZONS_H
from daemon.research.correlation.verdicts import Gap, judge_h7, judge_h8
from daemon.research.correlation.walking import AT, COUNT, LOSSES, STEADINESS
from daemon.statistics.skill import MeanIc, mean_ic

Blocks = Mapping[int, Mapping[str, Floats]]  # by horizon in hours, by name: (M,)
SETS: Final = ("qlike", "correlation_qlike", "frobenius", "variance", "neutral_variance")
HOURS_A_YEAR: Final = 8760.0
_APART_DAYS: Final = 1  # blocks of resampling are twice so long at the least
_CONTROLS: Final = (Group.PERMUTED, Group.VOLATILITY)


@dataclass(frozen=True)
class Measure:
    """Hold an arm's mean losses over all blocks that every arm has, and beside the baseline.

    mean: by loss and by what says how steady a forecast is. less: loss less that of the baseline,
    below zero is better. quarters: the same difference of QLIKE, a mean a calendar quarter.
    volatility: of the book of least variance, a year, as it came; said: as it was predicted.
    neutral_risk: deviation of the random neutral books beside that of the baseline's, 1 is as much;
    neutral_said: beside what was predicted of the same books.
    """

    arm: str
    mean: Mapping[str, float]
    less: Mapping[str, MeanIc]
    quarters: Mapping[str, float]
    volatility: float
    volatility_said: float
    neutral_risk: float
    neutral_said: float

    def less_text(self, loss: str, scale: float = 1.0) -> str:
        """Write a loss less that of the baseline with half of its interval; empty where unknown."""
        found = self.less.get(loss)
        if found is None or math.isnan(found.mean):
            return ""
        half = scale * (found.high - found.low) / 2
        text = f"{scale * found.mean:+.4f}"
        return f"{text} ± {half:.4f}" if math.isfinite(half) else text


@dataclass(frozen=True)
class Judged:
    """Hold what a race came to at one horizon.

    blocks_n: that every arm has, of so many in all. sets: confidence sets by loss, without controls
    (permuted taxonomies, other volatilities).
    """

    hours: int
    blocks_n: int
    all_n: int
    instruments: tuple[int, int]
    measures: tuple[Measure, ...]
    sets: Mapping[str, Set]


def judge_horizon(
    arms: Sequence[Arm], blocks: Mapping[str, Blocks], hours: int, seed: int
) -> Judged:
    """Judge all arms at one horizon; blocks: by the name of the arm, the same instants for all."""
    found = {arm.name: blocks[arm.name][hours] for arm in arms}
    whole = common(found)
    per_day = 24 // hours
    kept = {name: {k: v[whole] for k, v in one.items()} for name, one in found.items()}
    first = next(iter(kept.values()))
    measures = tuple(_measure(arm.name, kept, per_day) for arm in arms)
    rivals = [arm.name for arm in arms if arm.group not in _CONTROLS]
    sets = {}
    for loss in SETS:
        made = confidence_set(
            {name: kept[name][loss] for name in rivals}, horizon=_APART_DAYS * per_day, seed=seed
        )
        if made is not None:
            sets[loss] = made
    counts = first[COUNT]
    span = (int(counts.min()), int(counts.max())) if len(counts) else (0, 0)
    return Judged(hours, int(whole.sum()), len(whole), span, measures, sets)


def common(found: Mapping[str, Mapping[str, Floats]]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Tell (M,) which blocks every arm was scored on, over the same instruments."""
    counts = np.stack([one[COUNT] for one in found.values()])
    scored = np.stack([np.isfinite(one["qlike"]) for one in found.values()])
    return np.asarray(scored.all(axis=0) & (np.ptp(counts, axis=0) == 0))


def _measure(name: str, kept: Mapping[str, Mapping[str, Floats]], per_day: int) -> Measure:
    mine, base = kept[name], kept.get(BASELINE)
    mean = {key: _mean(mine[key]) for key in (*LOSSES, *STEADINESS)}
    less, quarters = {}, {}
    if base is not None:
        less = {
            key: mean_ic(mine[key] - base[key], horizon_bars=_APART_DAYS * per_day)
            for key in (*SETS, "volatility_qlike", "cmd")
        }
        names = np.array([quarter_of(int(at)) for at in mine[AT]])
        gap = mine["qlike"] - base["qlike"]
        quarters = {str(q): _mean(gap[names == q]) for q in dict.fromkeys(names.tolist())}
    beside = math.nan if base is None else _mean(base["neutral_variance"])
    return Measure(
        name,
        mean,
        less,
        quarters,
        math.sqrt(mean["variance"] * HOURS_A_YEAR),
        math.sqrt(mean["variance_said"] * HOURS_A_YEAR),
        math.sqrt(mean["neutral_variance"] / beside),
        math.sqrt(mean["neutral_variance"] / mean["neutral_variance_said"]),
    )


def _mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def quarter_of(at_ms: int) -> str:
    """Name the calendar quarter of an instant, such as 2024 Q1."""
    moment = utc(at_ms)
    return f"{moment.year} Q{(moment.month + 2) // 3}"


# ---- claims --------------------------------------------------------------------------------------


def verdicts_of(
    arms: Sequence[Arm], judged: Sequence[Judged], blocks: Mapping[str, Blocks]
) -> tuple[Verdict, ...]:
    """Judge H7 by the sets of all horizons, H8 by the taxonomy beside its permutations."""
    by_group = {group: [a.name for a in arms if a.group is group] for group in Group}
    sets = {
        f"{name} over {one.hours} h": one.sets[loss].members
        for one in judged
        for loss, name in (("qlike", "QLIKE"), ("variance", "least variance"))
        if loss in one.sets
    }
    complete = len(sets) == 2 * len(HORIZONS_H)
    h7 = judge_h7(sets if complete else {}, by_group[Group.HISTORICAL], by_group[Group.PREDICTIVE])
    return h7, judge_h8(_gaps(by_group[Group.PERMUTED], judged, blocks))


def _gaps(
    permuted: Sequence[str], judged: Sequence[Judged], blocks: Mapping[str, Blocks]
) -> list[Gap]:
    """Compare the true taxonomy with the mean of the permuted ones, and with each of them."""
    if TAXONOMY not in blocks or not permuted:
        return []
    found = []
    for one in judged:
        parts = {arm: blocks[arm][one.hours] for arm in (TAXONOMY, *permuted)}
        whole = common(parts)
        if whole.sum() < INSTANTS_MIN:
            return []
        for loss, name in (("correlation_qlike", "correlation alone"), ("variance", "its book")):
            mine = parts[TAXONOMY][loss][whole]
            others = np.stack([parts[arm][loss][whole] for arm in permuted])
            gap = mean_ic(mine - others.mean(axis=0), horizon_bars=_APART_DAYS * 24 // one.hours)
            better = int((mine.mean() < others.mean(axis=1)).sum())
            label = f"{name} over {one.hours} h"
            found.append(Gap(label, gap.mean, gap.low, gap.high, better, len(permuted)))
    return found
