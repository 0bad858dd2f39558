"""Say what a race means for two claims, by rules that were fixed before it.

H7  predicted correlations beat historical ones. Looked at are the model confidence sets of 90 % of
    QLIKE and of the realised variance of the book of least variance, at 6 h and at 24 h: four sets.
    *Support* where a predictive model (DCC, cDCC, Average Oracle, recurrent) is in all four and no
    historical one (EWMA, rolling sample) is in any. *Refuted* for practice where a historical one
    is in all four: whoever uses it gives up nothing that these blocks show. Otherwise *no
    evidence*. Shrunk and theory-implied estimators are in the sets, but speak for neither side.
H8  a taxonomy of coins frees correlations from noise. The theory-implied estimator is set beside
    itself with the coins of its taxonomy changed at random. *Support* where its QLIKE of the
    correlation is smaller than the mean of the permuted ones, beyond luck (the whole 95 % interval
    below 0), at 6 h and at 24 h, smaller than that of each of them, and the variance of its book is
    not larger beyond luck. *Refuted* where QLIKE is larger beyond luck at either. Otherwise *no
    evidence* that the theory adds anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from daemon.research.architectures.verdicts import Finding, Verdict

H7: Final = "predicted correlations beat historical ones"
H8: Final = "a taxonomy of coins frees correlations from noise"


@dataclass(frozen=True, slots=True)
class Gap:
    """Hold a loss with the taxonomy less the mean of those with permuted ones, and its interval.

    better: over how many of the permutations the taxonomy has the smaller mean; of how many.
    """

    loss: str
    mean: float
    low: float
    high: float
    better: int
    permuted: int


def judge_h7(
    sets: Mapping[str, Sequence[str]], historical: Sequence[str], predictive: Sequence[str]
) -> Verdict:
    """Judge by the members of each set, by its name; none: there were too few blocks."""
    if not sets or not historical or not predictive:
        why = "too few blocks, or one of the sides does not take part"
        return Verdict("H7", H7, Finding.NOT_TESTED, why)
    stays = [name for name in historical if all(name in mine for mine in sets.values())]
    somewhere = [name for name in historical if any(name in mine for mine in sets.values())]
    foresees = [name for name in predictive if all(name in mine for mine in sets.values())]
    if foresees and not somewhere:
        all_of = _listed(list(sets))
        why = f"{_listed(foresees)} may be the best by {all_of}; nothing historical by any"
        return Verdict("H7", H7, Finding.SUPPORT, why)
    if stays:
        beside = f", as may {_listed(foresees)}" if foresees else "; no predictive one may"
        why = f"{_listed(stays)} may be the best by {_listed(list(sets))}{beside}"
        return Verdict("H7", H7, Finding.REFUTED, why)
    parts = [
        f"{loss}: {_listed([n for n in mine if n in (*historical, *predictive)])}"
        for loss, mine in sets.items()
    ]
    why = f"the sets do not agree; of both sides there may be the best in {'; '.join(parts)}"
    return Verdict("H7", H7, Finding.NO_EVIDENCE, why)


def judge_h8(gaps: Sequence[Gap]) -> Verdict:
    """Judge by the differences of both losses at every horizon; none: it was not tested."""
    shape = [gap for gap in gaps if gap.loss.startswith("correlation")]
    books = [gap for gap in gaps if not gap.loss.startswith("correlation")]
    if not shape or not books:
        why = "too few blocks, or no taxonomy beside permuted ones"
        return Verdict("H8", H8, Finding.NOT_TESTED, why)
    said = "; ".join(f"{g.loss}: {g.mean:+.3g} ({g.low:+.3g} to {g.high:+.3g})" for g in shape)
    worse = [gap for gap in shape if gap.low > 0.0]
    if worse:
        why = f"permuted taxonomies do better beyond luck ({said})"
        return Verdict("H8", H8, Finding.REFUTED, why)
    clear = all(gap.high < 0.0 and gap.better == gap.permuted for gap in shape)
    costly = [gap.loss for gap in books if gap.low > 0.0]
    if clear and not costly:
        why = f"it has a smaller loss than the permuted ones, on average and each ({said})"
        return Verdict("H8", H8, Finding.SUPPORT, why)
    if clear:
        why = f"its loss is smaller ({said}), but its book varies more ({_listed(costly)})"
        return Verdict("H8", H8, Finding.NO_EVIDENCE, why)
    why = f"it is not shown to differ from permuted taxonomies ({said})"
    return Verdict("H8", H8, Finding.NO_EVIDENCE, why)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "none"
