"""The page of a race of covariance estimators, in the style of all reports: verdicts first."""

from __future__ import annotations

import math
from typing import Final

from daemon.domain.units import iso
from daemon.report import page
from daemon.report.charts import Bar, bar_chart
from daemon.report.figures import counted
from daemon.report.page import Cell, Shaded, Undefined
from daemon.research.architectures.verdicts import Finding
from daemon.research.correlation.arms import Group
from daemon.research.correlation.judging import Judged, Measure
from daemon.research.correlation.results import Race

UNKNOWN: Final = Undefined("not known over these blocks")
SHADE_AT: Final = 0.02  # a difference of QLIKE of this size is shaded in full
NAMES: Final = {
    "qlike": "QLIKE",
    "correlation_qlike": "QLIKE of the correlation alone",
    "frobenius": "squared Frobenius",
    "variance": "variance of the book of least variance",
    "neutral_variance": "variance of random neutral books",
}


def page_of(race: Race) -> str:
    """Give the whole page."""
    parts = [_top(race), _verdicts(race)]
    for one in race.judged:
        parts += [_losses(race, one), _books(race, one), _sets(one), _quarters(race, one)]
    parts += [_networks(race), _resources(race), _protocol(race)]
    return page.page("Race of covariance estimators", [part for part in parts if part])


def _top(race: Race) -> str:
    facts = race.facts
    first, last = facts["folds"][0][0], facts["folds"][-1][1]
    about = [
        str(facts["bars"]),
        f"{iso(first)} to {iso(last)}",
        counted(len(race.arms), "arm"),
        counted(len(facts["symbols"]), "coin"),
    ]
    others = list(race.caveats)
    if race.absent:
        others.append(f"Not in this race: {', '.join(race.absent)}.")
    return page.heading("Race of covariance estimators", about) + page.caveats([], others)


def _verdicts(race: Race) -> str:
    rows: list[list[Cell]] = [
        [f"{one.claim}: {one.text}", _finding(one.finding), one.why] for one in race.verdicts
    ]
    note = "The rules were fixed before the run; no evidence means that these bars do not decide."
    table = page.table(rows, ("claim", "finding", "why"), wordy=(2,))
    return page.section("Verdicts", table, note=note)


def _finding(finding: Finding) -> Cell:
    shade = {Finding.SUPPORT: 1.0, Finding.REFUTED: -1.0}.get(finding)
    return str(finding) if shade is None else Shaded(str(finding), shade)


def _losses(race: Race, judged: Judged) -> str:
    baseline = race.facts["baseline"]
    rows: list[list[Cell]] = []
    bars = []
    for one in judged.measures:
        rows.append(
            [
                one.arm,
                _number(one.mean["qlike"], ".4f"),
                one.less_text("qlike") or UNKNOWN,
                one.less_text("correlation_qlike") or UNKNOWN,
                one.less_text("frobenius", 1e3) or UNKNOWN,
                _number(one.mean["stein"], ".4f", "fewer bars in a block than instruments"),
                _number(one.mean["cmd"], ".4f"),
                _number(one.mean["moved"], ".4f"),
                _inside(one.arm, judged, "qlike"),
            ]
        )
        found = one.less.get("qlike")
        if found is not None and math.isfinite(found.mean) and one.arm != baseline:
            bars.append(Bar(one.arm, found.mean, page.BLUE, found.low, found.high))
    head = (
        "arm",
        "QLIKE",
        "less baseline",
        "correlation alone",
        "Frobenius, 1/1000",
        "Stein",
        "CMD",
        "moved",
        "may be best",
    )
    note = (
        f"{judged.blocks_n:,} blocks of {judged.hours} h that every arm has, of {judged.all_n:,},"
        f" with {judged.instruments[0]} to {judged.instruments[1]} coins; losses an instrument."
        f" Less baseline: the loss less that of {baseline}, below 0 is better, ± half of the 95 %"
        " interval. CMD says how the shape differs from what came, and moved from one forecast to"
        " the next; it does not see scale, never judge by it alone."
    )
    chart = bar_chart(bars, unit="QLIKE less baseline") if bars else ""
    return page.section(f"Losses over {judged.hours} h", chart, page.table(rows, head), note=note)


def _books(race: Race, judged: Judged) -> str:
    rows: list[list[Cell]] = [
        [
            one.arm,
            _number(one.volatility, ".2%"),
            _number(one.volatility_said, ".2%"),
            _number(one.mean["turnover"], ".2f"),
            _inside(one.arm, judged, "variance"),
            _number(one.neutral_risk, ".2%"),
            _number(one.neutral_said, ".2f"),
            _inside(one.arm, judged, "neutral_variance"),
        ]
        for one in judged.measures
    ]
    head = (
        "arm",
        "least variance",
        "as predicted",
        "turnover",
        "may be best",
        "random neutral",
        "came / predicted",
        "may be best",
    )
    note = (
        "Volatility a year of what came of the book of least variance, and of books without net"
        " exposure that hold a random forecast (16 at each block, the same for all arms) with least"
        f" predicted variance, beside that of {race.facts['baseline']}: what a better covariance is"
        " worth. Turnover: bought and sold from one"
        " block to the next, in its net of 1; costs are not in any of these figures."
    )
    return page.section(f"Books over {judged.hours} h", page.table(rows, head), note=note)


def _inside(arm: str, judged: Judged, loss: str) -> Cell:
    found = judged.sets.get(loss)
    if found is None:
        return Undefined("too few blocks")
    if arm not in found.p_values:
        return Undefined("a control, not in the set")
    p = found.p_values[arm]
    return Shaded(f"yes, p {p:.2f}", 0.7) if arm in found.members else f"no, p {p:.2f}"


def _sets(judged: Judged) -> str:
    rows: list[list[Cell]] = [
        [NAMES[loss], ", ".join(one.members), f"{one.instants:,}", f"{one.block:.0f}"]
        for loss, one in judged.sets.items()
    ]
    if not rows:
        return ""
    table = page.table(rows, ("loss", "may be the best", "blocks", "resampled in"), wordy=(1,))
    note = "Model confidence sets of 90 %, stationary bootstrap."
    return page.section(f"Who may be the best over {judged.hours} h", table, note=note)


def _quarters(race: Race, judged: Judged) -> str:
    names = list(dict.fromkeys(q for one in judged.measures for q in one.quarters))
    rows: list[list[Cell]] = [
        [one.arm, *(_shaded(one.quarters.get(name, math.nan)) for name in names), _steady(one)]
        for one in judged.measures
        if one.arm != race.facts["baseline"]
    ]
    if not names:
        return ""
    note = f"QLIKE less that of {race.facts['baseline']}: green is better, red worse."
    table = page.table(rows, ("arm", *names, "better in"))
    return page.section(f"By quarter, {judged.hours} h", table, note=note)


def _steady(one: Measure) -> str:
    better = sum(value < 0.0 for value in one.quarters.values())
    return f"{better} of {len(one.quarters)}"


def _networks(race: Race) -> str:
    rows: list[list[Cell]] = [
        [
            f"{one.arm.name}, tested from {iso(fit.first_test_ms)}",
            f"{fit.epochs}",
            _number(fit.loss, ".4f"),
            _number(fit.ewma_loss, ".4f"),
            fit.model,
        ]
        for one in race.arms
        for fit in one.learned
    ]
    if not rows:
        return ""
    note = (
        "QLIKE of the correlation on the part that stopped the fit, which flatters; 0 epochs means"
        " that nothing better than the EWMA was found there, and the network is the EWMA."
    )
    head = ("network", "epochs", "its loss", "that of the EWMA", "model")
    return page.section("What networks learned", page.table(rows, head), note=note)


def _resources(race: Race) -> str:
    rows: list[list[Cell]] = [
        [
            one.arm.name,
            str(one.arm.group),
            _number(one.cost.forecast_ms, ",.1f"),
            _number(one.cost.fit_s, ",.1f") if one.arm.learned else Undefined("fits as it goes"),
            f"{one.lifted_n:,}",
        ]
        for one in race.arms
    ]
    head = ("arm", "group", "a forecast, ms", "fits, s", "lifted")
    note = (
        "Times of the processor on the machine that ran it, a forecast each 6 h, parameters at the"
        " first of a day. Lifted: matrices that could not be inverted as they were predicted."
    )
    return page.section("Resources", page.table(rows, head), note=note)


def _protocol(race: Race) -> str:
    facts = race.facts
    controls = f"{Group.PERMUTED} and {Group.VOLATILITY}"
    lines = [
        ("Forecasts", f"at 00, 06, 12 and 18 UTC, from {facts['window_h'] // 24} days of hours."),
        (
            "Outcomes",
            f"sums of products of {facts['bar_minutes']}-minute log returns inside a block.",
        ),
        ("Coins", "those with 98 % of the window at 00 UTC; scored where the block is complete."),
        ("Fits", f"{counted(len(facts['folds']), 'fold')}; networks see what was over before."),
        ("Controls", f"the groups {controls} are not in the sets."),
        ("Covariates", ", ".join(facts["covariates"]) + "."),
    ]
    return page.section("Protocol", page.sentences(lines))


# ---- cells ---------------------------------------------------------------------------------------


def _number(value: float, spec: str, why: str = "") -> Cell:
    if math.isfinite(value):
        return format(value, spec)
    return Undefined(why) if why else UNKNOWN


def _shaded(value: float) -> Cell:
    return UNKNOWN if math.isnan(value) else Shaded(f"{value:+.4f}", -value / SHADE_AT)
