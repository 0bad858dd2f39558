"""Say what a comparison means for the founding claims, by rules that were fixed before it.

H5  a Bi-LSTM beats LSTM, GRU, TCN and Transformer: *support* where it is alone in the model
    confidence set of the IC loss, over all and in most years, and stays in that of the likelihood;
    *refuted* where it is not in the set of the five networks alone (a tree that beats all of them
    says nothing about which is the best network); otherwise *no evidence*.
H2  all timeframes together beat any single one: *support* where the combination beats the best
    single one and the control, SPA p below 0.05 each; *refuted* where a single one beats it; else
    *no evidence*, also where it beats the single one but not the control: as many models of one
    timeframe may do as well.
H6  a Bi-LSTM needs special regularisation: *support* where all rungs together make the gap between
    training and test smaller, lose no RankIC, and are better than the ensemble alone; *refuted*
    where they have a lower RankIC than none or than the ensemble alone, or a larger gap; else *no
    evidence*. Better, lower and smaller mean beyond luck, p below 0.05.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

LEVEL: Final = 0.05


class Finding(StrEnum):
    """Name what a claim can come out as."""

    SUPPORT = "support"
    NO_EVIDENCE = "no evidence"
    REFUTED = "refuted"
    NOT_TESTED = "not tested"


@dataclass(frozen=True)
class Verdict:
    """Hold the finding on one claim, and why in plain words."""

    claim: str
    text: str
    finding: Finding
    why: str


H5: Final = "a Bi-LSTM forecasts better than LSTM, GRU, TCN and Transformer of its size"
H2: Final = "all timeframes together forecast better than any of them alone"
H6: Final = "a Bi-LSTM needs its special regularisation"


def judge_h5(
    bilstm: str,
    members: Sequence[str],
    peers: Sequence[str],
    years: Mapping[str, Sequence[str]],
    likely: Sequence[str],
) -> Verdict:
    """Judge by the model confidence sets.

    members: of the set of the IC loss over all. peers: of that of the networks alone. years: as
    members, of each year with enough instants. likely: members of the set of the likelihood.
    """
    others = [name for name in members if name != bilstm]
    alone = [year for year, mine in years.items() if list(mine) == [bilstm]]
    if bilstm not in peers:
        why = f"it is not among the networks that may be the best: {_listed(peers)}"
        return Verdict("H5", H5, Finding.REFUTED, why)
    if bilstm not in members:
        why = (
            f"of the networks {_listed(peers)} may be the best, but of all models {_listed(others)}"
        )
        return Verdict("H5", H5, Finding.NO_EVIDENCE, why)
    if others:
        why = f"{_listed(others)} may be the best as well: these bars cannot tell them apart"
        return Verdict("H5", H5, Finding.NO_EVIDENCE, why)
    if not 2 * len(alone) > len(years):
        why = f"it is alone over all, but in {len(alone)} of {len(years)} years only"
        return Verdict("H5", H5, Finding.NO_EVIDENCE, why)
    if bilstm not in likely:
        why = f"it is alone by its order, but {_listed(likely)} are likelier by their variances"
        return Verdict("H5", H5, Finding.NO_EVIDENCE, why)
    why = f"no other model may be the best, over all and in {len(alone)} of {len(years)} years"
    return Verdict("H5", H5, Finding.SUPPORT, why)


@dataclass(frozen=True)
class Beaten:
    """Hold the p-values of H2: that nothing beats the one named, by SPA."""

    single: float  # the best single timeframe is not beaten by the combination
    control: float  # the control is not beaten by the combination
    combined: float  # the combination is not beaten by any single timeframe
    best_single: str


def judge_h2(p: Beaten) -> Verdict:
    """Judge the combination against the best single timeframe and against the control."""
    if any(math.isnan(value) for value in (p.single, p.control, p.combined)):
        return Verdict("H2", H2, Finding.NOT_TESTED, "too few instants to compare")
    if p.single < LEVEL and p.control < LEVEL:
        why = (
            f"it beats {p.best_single} (p {p.single:.3f}) and as many models of one timeframe"
            f" (p {p.control:.3f})"
        )
        return Verdict("H2", H2, Finding.SUPPORT, why)
    if p.single < LEVEL:
        why = (
            f"it beats {p.best_single} (p {p.single:.3f}), but not as many models of one timeframe"
            f" (p {p.control:.3f}): the gain may be that of several models, not of timeframes"
        )
        return Verdict("H2", H2, Finding.NO_EVIDENCE, why)
    if p.combined < LEVEL:
        why = f"a single timeframe beats it (p {p.combined:.3f})"
        return Verdict("H2", H2, Finding.REFUTED, why)
    why = f"it is not shown to beat {p.best_single} (p {p.single:.2f}), nor the other way round"
    return Verdict("H2", H2, Finding.NO_EVIDENCE, why)


@dataclass(frozen=True)
class Steps:
    """Hold what H6 is judged by.

    gap_low, gap_high: interval of how much smaller the gap between the RankIC of training and of
    test is with all rungs than with none. ic: RankIC with all rungs less that with none, and its
    p-value. ensemble: RankIC with all rungs less that of the ensemble alone, and its p-value.
    """

    gap_low: float
    gap_high: float
    ic: float
    ic_p: float
    ensemble: float
    ensemble_p: float


def judge_h6(s: Steps) -> Verdict:
    """Judge the ladder."""
    if any(math.isnan(x) for x in (s.gap_low, s.ic, s.ic_p, s.ensemble, s.ensemble_p)):
        return Verdict("H6", H6, Finding.NOT_TESTED, "too few instants to compare")
    if s.ic < 0.0 and s.ic_p < LEVEL:
        why = f"all rungs together cost RankIC ({s.ic:+.4f}, p {s.ic_p:.3f})"
        return Verdict("H6", H6, Finding.REFUTED, why)
    if s.gap_high < 0.0:
        why = f"the gap between training and test is larger with all rungs (by {-s.gap_high:.4f})"
        return Verdict("H6", H6, Finding.REFUTED, why)
    if s.gap_low <= 0.0:
        why = "the gap between training and test is not shown to be smaller with all rungs"
        return Verdict("H6", H6, Finding.NO_EVIDENCE, why)
    if s.ensemble > 0.0 and s.ensemble_p < LEVEL:
        why = (
            f"the gap is smaller by at least {s.gap_low:.4f}, no RankIC is lost, and all rungs are"
            f" better than the ensemble alone ({s.ensemble:+.4f}, p {s.ensemble_p:.3f})"
        )
        return Verdict("H6", H6, Finding.SUPPORT, why)
    if s.ensemble < 0.0 and s.ensemble_p < LEVEL:
        why = (
            "the gap is smaller with all rungs, but an ensemble of seeds alone forecasts better"
            f" ({s.ensemble:+.4f}, p {s.ensemble_p:.3f})"
        )
        return Verdict("H6", H6, Finding.REFUTED, why)
    why = (
        "the gap is smaller with all rungs, but they are not shown to be better than an ensemble of"
        f" seeds alone ({s.ensemble:+.4f}, p {s.ensemble_p:.2f})"
    )
    return Verdict("H6", H6, Finding.NO_EVIDENCE, why)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "none"
