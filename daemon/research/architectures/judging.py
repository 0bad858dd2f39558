"""Compare the arms of a run and judge the claims by `verdicts`: who may be best, who beats whom.

H5 is judged by minus the score IC, which is what a linear book earns, H2 and H6 by minus the
RankIC. Years count with `YEAR_INSTANTS_MIN` decisions or more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Floats
from daemon.research.architectures.arms import (
    ALL_INPUTS,
    ALONE,
    BASELINES,
    BILSTM,
    COMBINED_NAME,
    CONTROL_NAME,
    ENSEMBLE,
    EVERYTHING,
    MEAN_NAME,
    NETWORKS,
    NOTHING,
    Arm,
    Group,
)
from daemon.research.architectures.comparison import (
    Pair,
    Set,
    beats,
    best_of,
    confidence_set,
    paired,
)
from daemon.research.architectures.measures import Gap, Losses
from daemon.research.architectures.verdicts import (
    H5,
    H6,
    Beaten,
    Finding,
    Steps,
    Verdict,
    judge_h2,
    judge_h5,
    judge_h6,
)
from daemon.research.walk_forward.scores import ALL, periods
from daemon.statistics.skill import mean_ic

Longs = npt.NDArray[np.int64]
YEAR_INSTANTS_MIN: Final = 500
SCORE, RANK, LIKELIHOOD = "score", "rank", "likelihood"
PEERS: Final = "networks"  # the score IC once more, of the networks alone


@dataclass(frozen=True)
class Compared:
    """Hold one arm as judging needs it; gap: None where it cannot be measured."""

    arm: Arm
    losses: Losses
    gap: Gap | None

    @property
    def label(self) -> str:
        """Name it among arms of all groups."""
        return self.arm.name


@dataclass(frozen=True)
class Judged:
    """Hold what comparing says.

    sets: of each loss, by period, of the models of the architectures, and of the networks alone
    over all (PEERS). tests: p-values of `nothing
    beats it`, by what is asked. differences: paired, of mean RankIC.
    """

    sets: Mapping[str, Mapping[str, Set]]
    tests: Mapping[str, float]
    differences: Mapping[str, Pair]
    verdicts: tuple[Verdict, ...]


def judge(arms: Sequence[Compared], at_ms: Longs, *, horizon: int, seed: int) -> Judged:
    """Compare arms at decisions (M,); horizon: over how many of them a label reaches."""
    by_group = {
        group: {one.arm.name: one for one in arms if one.arm.group is group} for group in Group
    }
    sets: dict[str, dict[str, Set]] = {}
    tests: dict[str, float] = {}
    differences: dict[str, Pair] = {}
    verdicts = []
    if by_group[Group.ARCHITECTURES]:
        models = {n: o for n, o in by_group[Group.ARCHITECTURES].items() if n not in BASELINES}
        sets = _sets(models, at_ms, horizon, seed)
        tests |= _against(by_group[Group.ARCHITECTURES], horizon, seed)
        verdicts.append(_h5(sets))
    if by_group[Group.TIMEFRAMES]:
        verdicts.append(_h2(by_group[Group.TIMEFRAMES], tests, differences, horizon, seed))
    if by_group[Group.INPUTS]:
        _inputs(by_group[Group.INPUTS], differences, horizon)
    if by_group[Group.LADDER]:
        verdicts.append(_h6(by_group[Group.LADDER], differences, horizon))
    return Judged(sets, tests, differences, tuple(verdicts))


def _sets(
    models: Mapping[str, Compared], at_ms: Longs, horizon: int, seed: int
) -> dict[str, dict[str, Set]]:
    found: dict[str, dict[str, Set]] = {}
    for name in (SCORE, RANK, LIKELIHOOD):
        found[name] = {}
        for period, rows in periods(at_ms):
            if period != ALL and ("-" in period or len(rows) < YEAR_INSTANTS_MIN):
                continue
            losses = {n: np.asarray(getattr(o.losses, name))[rows] for n, o in models.items()}
            mine = confidence_set(losses, horizon=horizon, seed=seed)
            if mine is not None:
                found[name][period] = mine
    peers = {n: o.losses.score for n, o in models.items() if n in NETWORKS}
    among = confidence_set(peers, horizon=horizon, seed=seed)
    return found | {PEERS: {} if among is None else {ALL: among}}


def _against(arms: Mapping[str, Compared], horizon: int, seed: int) -> dict[str, float]:
    """Ask of the tabular models and the plain forecasters whether any network beats them."""
    networks = [name for name, one in arms.items() if one.arm.tuned]
    losses = {name: one.losses.score for name, one in arms.items()}
    others = [name for name in arms if name not in networks]
    if not networks:
        return {}
    return {
        f"no network beats {name}": beats(losses, name, networks, horizon=horizon, seed=seed)
        for name in others
    }


def _h5(sets: Mapping[str, Mapping[str, Set]]) -> Verdict:
    whole = sets[SCORE].get(ALL)
    if whole is None:
        return Verdict("H5", H5, Finding.NOT_TESTED, "too few decisions, or no rivals")
    lacking = [name for name in NETWORKS if name not in whole.p_values]
    if lacking:
        why = f"not all networks took part: {', '.join(lacking)} did not"
        return Verdict("H5", H5, Finding.NOT_TESTED, why)
    years = {p: found.members for p, found in sets[SCORE].items() if p != ALL}
    peers = sets[PEERS][ALL].members  # all networks took part at the instants of the whole
    likely = sets[LIKELIHOOD].get(ALL)
    return judge_h5(BILSTM, whole.members, peers, years, () if likely is None else likely.members)


def _h2(
    arms: Mapping[str, Compared],
    tests: dict[str, float],
    differences: dict[str, Pair],
    horizon: int,
    seed: int,
) -> Verdict:
    losses = {name: one.losses.rank for name, one in arms.items()}
    control = next(name for name in arms if name.startswith(CONTROL_NAME))
    singles = [name for name in arms if name not in (COMBINED_NAME, MEAN_NAME, control)]
    best = best_of(losses, singles)

    def p(benchmark: str, *rivals: str) -> float:
        return beats(losses, benchmark, rivals, horizon=horizon, seed=seed)

    found = Beaten(
        p(best, COMBINED_NAME), p(control, COMBINED_NAME), p(COMBINED_NAME, *singles), best
    )
    tests |= {
        f"{COMBINED_NAME} does not beat {best}": found.single,
        f"{COMBINED_NAME} does not beat {control}": found.control,
        f"no single timeframe beats {COMBINED_NAME}": found.combined,
    }
    for name in (best, control, MEAN_NAME):
        differences[f"{COMBINED_NAME} less {name}"] = _paired(arms, COMBINED_NAME, name, horizon)
    labels = [name.removesuffix(ALONE) for name in singles]
    text = f"{', '.join(labels[:-1])} and {labels[-1]} together forecast better than any alone"
    return replace(judge_h2(found), text=text)


def _h6(arms: Mapping[str, Compared], differences: dict[str, Pair], horizon: int) -> Verdict:
    alone, kind = f"+ {ENSEMBLE}", arms[NOTHING].arm.kind
    for name in arms:
        if name.startswith("+"):
            differences[f"{name} less {NOTHING}"] = _paired(arms, name, NOTHING, horizon)
        if name.startswith("-"):
            differences[f"{name} less {EVERYTHING}"] = _paired(arms, name, EVERYTHING, horizon)
    both = differences[f"{EVERYTHING} less {NOTHING}"] = _paired(arms, EVERYTHING, NOTHING, horizon)
    over = differences[f"{EVERYTHING} less {alone}"] = _paired(arms, EVERYTHING, alone, horizon)
    if kind != BILSTM:
        return Verdict(
            "H6", H6, Finding.NOT_TESTED, f"the ladder is that of another network, {kind}"
        )
    low, high = _gap_interval(arms[NOTHING].gap, arms[EVERYTHING].gap, horizon)
    return judge_h6(
        Steps(low, high, both.difference.mean, both.p_value, over.difference.mean, over.p_value)
    )


def _inputs(arms: Mapping[str, Compared], differences: dict[str, Pair], horizon: int) -> None:
    """Say what is lost without each block of inputs; no claim was made beforehand."""
    for name in arms:
        if name != ALL_INPUTS:
            differences[f"{name} less {ALL_INPUTS}"] = _paired(arms, name, ALL_INPUTS, horizon)


def _paired(arms: Mapping[str, Compared], first: str, second: str, horizon: int) -> Pair:
    return paired(-arms[first].losses.rank, -arms[second].losses.rank, horizon=horizon)


def _gap_interval(before: Gap | None, after: Gap | None, horizon: int) -> tuple[float, float]:
    """Give the 95 % interval of how much smaller the second gap is than the first."""
    if before is None or after is None or len(before.tested) != len(after.tested):
        return math.nan, math.nan
    learned = mean_ic(_known(before.learned - after.learned), horizon_bars=1)
    tested = mean_ic(_known(before.tested - after.tested), horizon_bars=horizon)
    middle = learned.mean - tested.mean
    half = math.hypot(learned.high - learned.mean, tested.high - tested.mean)
    return middle - half, middle + half


def _known(values: Floats) -> Floats:
    return values[np.isfinite(values)]
