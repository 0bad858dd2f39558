"""Learn from forecasts out of sample how to combine them, and what comes of the combination.

    scale             slope of y on a through the origin, drawn to its prior by the normal-normal
                      rule and kept from 0.1 to 3 times that, so that it changes a size and never
                      an order. The prior of the rules that shrink is the slope of the plain mean of
                      the timeframes' forecasts on a: each of these was brought to the size of the
                      outcome, and a rule that shrinks them again says too little. Else it is 1
    outcome_variance  mean of (y - scale a)^2: the squared error over it has the mean 1
    up                P(y > 0 | z), z = scale a / sqrt(outcome_variance): z in up to 50 groups of
                      equal size, the shares of y > 0 in them made rising by pooling neighbours
                      that fall (PAVA), stored as a step function
    half_width        split conformal: the rank ceil((n + 1) coverage) of |y - scale a|

Standard errors are Newey and West's over instants, since labels overlap. What too few outcomes
cannot tell stays at its prior. `choose` compares the rules on one stretch of outcomes that are
known: another rule than the formula's is taken only where its score IC is better by more than luck.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from daemon.domain.bar import Floats
from daemon.domain.forecast import Reading
from daemon.statistics.calibration import isotonic
from daemon.statistics.conformal import conformal_quantile
from daemon.statistics.cross_sections import score_ics
from daemon.statistics.skill import newey_west_error
from strategies.forecast.calibration import shrunk, slope_of
from strategies.rules import RULES, Contender, Rule

COVERAGE: Final = 0.9  # that of the stated interval
SCALE_PRIOR_SD: Final = 0.5  # of the prior, as are the bounds
SCALE_MIN, SCALE_MAX = 0.1, 3.0
SHRINKING: Final = (Rule.STRENGTH, Rule.KALMAN)
PAIRS_MIN: Final = 500  # outcomes below which a variance and a quantile keep their prior
SIGN_PAIRS_MIN: Final = 2_000  # outcomes below which the sign follows the normal law
GROUPS_MAX: Final = 50
GROUP_PAIRS: Final = 500
DEFAULT_RULE: Final[Rule] = Rule.STRENGTH
CHOICE_INSTANTS_MIN: Final = 240  # ten days of hourly decisions
CHOICE_T: Final = 1.645  # one-sided 5 %; three rules contend, so that one in seven gets it by luck


@dataclass(frozen=True, slots=True)
class Choice:
    """Hold the rule that validation chose, and what it was compared with."""

    rule: Rule
    contenders: tuple[Contender, ...]


def choose(alphas: Mapping[Rule, Floats], y: Floats, *, lags: int) -> Choice:
    """Choose a rule by its score IC on alphas (T, N) by rule and outcomes (T, N) that are known.

    lags: instants that share a label's horizon. Rows without outcomes do not count.
    """
    skill = {rule: score_ics(alphas[rule], y) for rule in RULES}
    known = np.all([np.isfinite(values) for values in skill.values()], axis=0)
    contenders, best, best_lead = [], DEFAULT_RULE, 0.0
    for rule in RULES:
        values = skill[rule][known]
        lead = values - skill[DEFAULT_RULE][known]
        contender = _contender(rule, values, lead, lags)
        contenders.append(contender)
        enough = len(values) >= CHOICE_INSTANTS_MIN and contender.lead_t > CHOICE_T
        if enough and contender.lead > best_lead:
            best, best_lead = rule, contender.lead
    return Choice(best, tuple(contenders))


def _contender(rule: Rule, values: Floats, lead: Floats, lags: int) -> Contender:
    n = len(values)
    if n < 2:
        return Contender(str(rule), n, *(float("nan"),) * 3)
    error = newey_west_error(lead, min(lags, n - 1))
    return Contender(
        str(rule), n, float(values.mean()), float(lead.mean()), float(lead.mean() / error)
    )


def learn(
    rule: Rule, slopes: Sequence[float], alphas: Mapping[Rule, Floats], y: Floats, *, lags: int
) -> Reading:
    """Learn what a rule's alphas (T, N) are worth from outcomes (T, N) that are known, else NaN.

    alphas: by rule, those of the plain mean too where the rule shrinks.
    """
    alpha = alphas[rule]
    prior = _prior_scale(alpha, alphas[Rule.MEAN]) if rule in SHRINKING else 1.0
    scale = _scale(alpha, y, lags, prior)
    pairs = np.isfinite(alpha) & np.isfinite(y)
    a, outcome = scale * alpha[pairs], y[pairs]
    if len(a) < PAIRS_MIN:
        return Reading(str(rule), tuple(map(float, slopes)), scale)
    error = outcome - a
    variance = float(np.mean(error**2))
    sd = float(np.sqrt(variance))
    edges, up = sign_steps(a / sd, outcome)
    return Reading(
        rule=str(rule),
        slopes=tuple(map(float, slopes)),
        scale=scale,
        outcome_variance=variance,
        edges=edges,
        up=up,
        half_width=conformal_quantile(np.abs(error), 1.0 - COVERAGE) / sd,
        coverage=COVERAGE,
    )


def _prior_scale(alpha: Floats, mean: Floats) -> float:
    """Give by how much a rule's alphas must grow to say as much as the plain mean; at least 1."""
    both = np.isfinite(alpha) & np.isfinite(mean)
    power = float(np.sum(alpha[both] ** 2))
    return max(1.0, float(np.sum(alpha[both] * mean[both])) / power) if power > 0 else 1.0


def _scale(alpha: Floats, y: Floats, lags: int, prior: float) -> float:
    slope, sd = slope_of(alpha, y, lags)
    if not (np.isfinite(sd) and sd > 0):
        return prior
    drawn = shrunk(slope, sd, prior, SCALE_PRIOR_SD * prior)[0]
    return float(np.clip(drawn, SCALE_MIN * prior, SCALE_MAX * prior))


def sign_steps(z: Floats, outcome: Floats) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Fit P(outcome > 0 | z) as a rising step function; give edges (B - 1,) and shares (B,).

    z, outcome: (n,). Outcomes of 0 have no sign and do not count. Both are empty with fewer than
    SIGN_PAIRS_MIN signs.
    """
    signed = outcome != 0.0
    if int(signed.sum()) < SIGN_PAIRS_MIN:
        return (), ()
    order = np.argsort(z[signed], kind="stable")
    z, came = z[signed][order], (outcome[signed][order] > 0.0).astype(np.float64)
    groups_n = min(GROUPS_MAX, len(z) // GROUP_PAIRS)
    starts = np.array([part[0] for part in np.array_split(np.arange(len(z)), groups_n)])
    starts = np.unique(np.searchsorted(z, z[starts], side="left"))  # equal z share a group
    group = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(z))))
    shares = isotonic(group.astype(np.float64), came).values
    steps = np.flatnonzero(np.diff(shares) > 0.0) + 1  # groups with which the share rises
    firsts = starts[steps]
    edges = 0.5 * (z[firsts - 1] + z[firsts])
    return tuple(edges.tolist()), tuple(shares[np.concatenate(([0], steps))].tolist())
