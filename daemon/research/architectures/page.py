"""The page of a comparison, in the style of all reports: verdicts first, then the arms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from daemon.domain.units import iso
from daemon.report import page
from daemon.report.charts import Bar, bar_chart
from daemon.report.figures import counted
from daemon.report.page import Cell, Shaded, Undefined
from daemon.research.architectures.arms import Group
from daemon.research.architectures.quality import HORIZON_H
from daemon.research.architectures.results import ArmReport, Results
from daemon.research.architectures.verdicts import Finding
from daemon.research.walk_forward.scores import ALL, COMBINED, Score
from daemon.statistics.skill import MeanIc

TITLES: Final = {
    Group.ARCHITECTURES: "Architectures",
    Group.TIMEFRAMES: "Timeframes",
    Group.LADDER: "Regularisation",
    Group.INPUTS: "Inputs",
}
LOSSES: Final = {
    "score": "score IC",
    "rank": "RankIC",
    "likelihood": "likelihood",
    "networks": "score IC, networks alone",
}
NOTHING_SAID: Final = Undefined("it does not tell instruments apart, or there are too few of them")
SERIOUS: Final = "SERIOUS:"  # how findings about data begin that are read before any figure
NOT_TRADED: Final = Undefined("a strategy combines the timeframes itself: there is no such book")
SHADE_AT: Final = 0.02  # an IC of this size is shaded in full
COLOURS: Final = {True: page.BLUE, False: page.GREY}


def page_of(results: Results) -> str:
    """Give the whole page."""
    groups = [group for group in Group if any(one.arm.group is group for one in results.arms)]
    parts = [_top(results), _verdicts(results)]
    for group in groups:
        arms = [one for one in results.arms if one.arm.group is group]
        parts += [
            _skill(TITLES[group], arms),
            _periods(TITLES[group], arms),
            _worth(TITLES[group], arms),
            _steps(TITLES[group], arms),
            _money(TITLES[group], arms, results),
            _resources(TITLES[group], arms),
        ]
    parts += [_sets(results), _tests(results), _protocol(results)]
    return page.page("Comparison of architectures", [part for part in parts if part])


def _top(results: Results) -> str:
    first, last = int(results.at_ms[0]), int(results.at_ms[-1])
    about = [
        str(results.facts.get("bars", "")),
        f"{len(results.at_ms):,} decisions from {iso(first)} to {iso(last)}",
        f"{counted(len(results.arms), 'arm')}, {results.protocol} protocol",
    ]
    grave = []
    if results.effort.reason:
        grave.append(f"Reduced so that it fits into its hours: {results.effort.reason}.")
    grave += [f"{text}." for text in results.failures]
    grave += [text for text in results.caveats if text.startswith(SERIOUS)]
    others = [f"{one.name} was not compared: {one.why}." for one in results.absent]
    others += [text for text in results.caveats if not text.startswith(SERIOUS)]
    return page.heading("Comparison of architectures", about) + page.caveats(grave, others)


def _verdicts(results: Results) -> str:
    rows: list[list[Cell]] = [
        [f"{one.claim}: {one.text}", _finding(one.finding), one.why]
        for one in results.judged.verdicts
    ]
    note = "The rules were fixed before the run; no evidence means that these bars do not decide."
    return page.section(
        "Verdicts", page.table(rows, ("claim", "finding", "why"), wordy=(2,)), note=note
    )


def _finding(finding: Finding) -> Cell:
    shade = {Finding.SUPPORT: 1.0, Finding.REFUTED: -1.0}.get(finding)
    return str(finding) if shade is None else Shaded(str(finding), shade)


def _skill(title: str, arms: Sequence[ArmReport]) -> str:
    rows: list[list[Cell]] = []
    bars = []
    for one in arms:
        whole, left = _score(one.measured.scores), _score(one.measured.beyond)
        likelihood = one.measured.likelihood.mean
        gap = one.measured.gap
        rows.append(
            [
                one.arm.name,
                *_ic(whole.rank_ic),
                *_ic(whole.score_ic),
                _with_half(left.rank_ic),
                _with_half(left.score_ic),
                _number(likelihood, ".4f"),
                _number(whole.hit_rate, ".1%"),
                _number(math.nan if gap is None else gap.size, "+.3f", "not asked"),
            ]
        )
        ic = whole.score_ic
        if ic.mean == ic.mean:
            bars.append(Bar(one.arm.name, ic.mean, COLOURS[one.arm.tuned], ic.low, ic.high))
    head = ("arm", "RankIC", "t", "score IC", "t", "RankIC beyond", "score IC beyond")
    note = (
        f"Over {HORIZON_H} hours, out of sample, at every decision; ± is half of the 95 % interval"
        " to rely on, t is Newey and West's, which flatters. Beyond: after reversal, momentum and"
        " low volatility are taken out instant by instant. Where an arm does not tell instruments"
        " apart its IC counts as 0. NLL: smaller is better. Gap: RankIC"
        " where a model learned less RankIC where it was tested, of the first timeframe."
    )
    chart = bar_chart(bars, unit="score IC") if bars else ""
    table = page.table(rows, (*head, "NLL", "hits", "gap"))
    return page.section(f"{title}: skill", chart, table, note=note)


def _periods(title: str, arms: Sequence[ArmReport]) -> str:
    names = [
        score.period
        for score in arms[0].measured.scores
        if (score.signal, score.horizon_h) == (COMBINED, HORIZON_H) and score.period != ALL
    ]
    blocks = []
    for label, mean in (("Score IC", _score_mean), ("RankIC", _rank_mean)):
        rows: list[list[Cell]] = []
        for one in arms:
            found = {s.period: mean(s) for s in _combined(one)}
            rows.append([one.arm.name, *(_shaded(found.get(name, math.nan)) for name in names)])
        blocks.append(page.table(rows, (label, *names)))
    return page.section(f"{title}: by year and quarter", *blocks, note="Green above 0, red below.")


def _worth(title: str, arms: Sequence[ArmReport]) -> str:
    decay_h = [at.hours for at in arms[0].measured.quality.decay]
    ages_h = [at.hours for at in arms[0].measured.quality.ages if at.hours]
    first: list[list[Cell]] = []
    second: list[list[Cell]] = []
    for one in arms:
        quality = one.measured.quality
        first.append(
            [
                one.arm.name,
                *(_number(at.score_ic.mean, "+.4f") for at in quality.decay),
                _number(quality.persistence, ".3f"),
                _number(quality.turnover, ".2f"),
                _friction(quality.friction),
            ]
        )
        aged = (_number(at.score_ic.mean, "+.4f") for at in quality.ages if at.hours)
        second.append([one.arm.name, *aged])
    head = ("arm", *(f"over {h} h" for h in decay_h), "autocorrelation", "turnover a day", "F")
    tables = [page.table(first, head), page.table(second, ("arm", *(f"{h} h old" for h in ages_h)))]
    note = (
        "Score IC over each horizon, and over 6 hours of forecasts that are so old, where an arm"
        " says anything."
        " Autocorrelation: of an instant's forecasts with those before. Turnover: bought and sold a"
        " day by a book that follows the scores in full, in its gross. F: one-way costs beside what"
        " a signal of one standard deviation earns in all; above 1.5 no band makes it pay."
    )
    return page.section(f"{title}: what the signal is worth", *tables, note=note)


def _steps(title: str, arms: Sequence[ArmReport]) -> str:
    shown = [one for one in arms if one.measured.steps]
    if not shown:
        return ""
    names = list(dict.fromkeys(step.step for one in shown for step in one.measured.steps))
    rows: list[list[Cell]] = []
    for one in shown:
        found = {step.step: step.ic for step in one.measured.steps}
        rows.append([one.arm.name, *(_step(found.get(name)) for name in names)])
    note = (
        "Correlation of what each step says with the outcome over 6 hours: forecasts, signal, the"
        " neutral book without a cap on names, with it, both whatever they cost, and what is held"
        " inside the bands where the costs allow a book, weights times residual volatility. The"
        " strategy itself is run. A book is held only where a signal is worth its costs: a wide ±"
        " says that this was seldom."
    )
    return page.section(
        f"{title}: the IC on its way into the book", page.table(rows, ("arm", *names)), note=note
    )


def _step(found: MeanIc | None) -> Cell:
    return NOTHING_SAID if found is None else _with_half(found)


def _money(title: str, arms: Sequence[ArmReport], results: Results) -> str:
    rows: list[list[Cell]] = []
    for one in arms:
        if one.traded is None or one.honest is None:
            rows.append([one.arm.name, *([NOT_TRADED] * 6)])
            continue
        metrics, deflated = one.traded.metrics, one.honest["deflated_sharpe"]
        rows.append(
            [
                one.arm.name,
                _number(metrics.sharpe, "+.2f", "nothing was traded"),
                _interval(metrics.sharpe_low, metrics.sharpe_high),
                _number(deflated.value, ".3f", deflated.text),
                f"{metrics.total_return:+.1%}",
                _number(metrics.turnover_per_year, ",.0f"),
                f"{one.traded.fills:,}",
            ]
        )
    head = ("arm", "Sharpe, net", "95 %", "deflated", "return", "turnover a year", "fills")
    note = (
        "The default strategy over each arm's table, with the costs of the settings"
        f" ({results.one_way_bps:.1f} bps a side). Deflated: confidence that the ratio is above"
        f" what luck gives the best of {counted(results.trials_n, 'trial')} in the ledger."
    )
    return page.section(f"{title}: money", page.table(rows, head), note=note)


def _resources(title: str, arms: Sequence[ArmReport]) -> str:
    unknown = "not measured here"
    rows: list[list[Cell]] = [
        [
            one.arm.name,
            _count(one.resources.parameters),
            _number(one.resources.train_s, ",.1f", unknown),
            _number(one.resources.decision_ms, ".2f", unknown),
            _number(one.resources.peak_mb, ",.0f", unknown),
        ]
        for one in arms
    ]
    head = ("arm", "parameters", "training, s", "p95 of a decision, ms", "peak memory, MB")
    note = (
        "On the machine that ran it, times of the processor: of all fits, without those of tuning;"
        " of all models of the arm that forecast one instant, features given. Memory of"
        " a process that fits, its data included."
    )
    return page.section(f"{title}: resources", page.table(rows, head), note=note)


def _count(parameters: int | None) -> Cell:
    return Undefined("it does not count them") if parameters is None else f"{parameters:,}"


def _sets(results: Results) -> str:
    blocks = []
    for loss, by_period in results.judged.sets.items():
        rows: list[list[Cell]] = [
            [
                period,
                ", ".join(found.members),
                ", ".join(f"{name} {p:.2f}" for name, p in found.p_values.items()),
                f"{found.instants:,}",
                f"{found.block:.0f}",
            ]
            for period, found in by_period.items()
        ]
        if rows:
            head = (LOSSES[loss], "may be the best", "p-values", "decisions", "block")
            blocks.append(page.table(rows, head, wordy=(1, 2)))
    if not blocks:
        return ""
    note = "Model confidence sets of 90 %, stationary bootstrap, blocks in decisions."
    return page.section("Who may be the best", *blocks, note=note)


def _tests(results: Results) -> str:
    judged = results.judged
    blocks = []
    if judged.tests:
        rows: list[list[Cell]] = [
            [name, _number(p, ".3f", "too few decisions")] for name, p in judged.tests.items()
        ]
        blocks.append(page.table(rows, ("SPA: that", "p")))
    if judged.differences:
        pairs: list[list[Cell]] = [
            [name, _with_half(one.difference), _number(one.p_value, ".3f", "too few decisions")]
            for name, one in judged.differences.items()
        ]
        blocks.append(page.table(pairs, ("difference of RankIC", "mean", "p")))
    return page.section("Who beats whom", *blocks) if blocks else ""


def _protocol(results: Results) -> str:
    effort = results.effort
    tuning = (
        f"{counted(len(results.grid), 'setting')} of a grid of 40 for each network, chosen in each"
        " fold by its own stop part and never by a test; the others as the settings say."
    )
    lines = [
        (
            "Fits",
            f"{effort.fits_n:,} in {counted(effort.folds_n, 'refit')}, the same for all arms.",
        ),
        ("Steps", f"{effort.steps:,} of every network."),
        ("Tuning", tuning),
        (
            "Size",
            ", ".join(f"{name} {n:,}" for name, n in results.parameters.items()) + " parameters.",
        ),
    ]
    return page.section("Protocol", page.sentences(lines))


# ---- cells ---------------------------------------------------------------------------------------


def _combined(one: ArmReport) -> list[Score]:
    return [
        score
        for score in one.measured.scores
        if (score.signal, score.horizon_h) == (COMBINED, HORIZON_H)
    ]


def _score(scores: Sequence[Score]) -> Score:
    return next(s for s in scores if s.period == ALL and s.horizon_h == HORIZON_H)


def _score_mean(score: Score) -> float:
    return score.score_ic.mean


def _rank_mean(score: Score) -> float:
    return score.rank_ic.mean


def _ic(found: MeanIc) -> tuple[Cell, Cell]:
    return _with_half(found), _number(found.t, "+.1f")


def _with_half(found: MeanIc) -> Cell:
    if math.isnan(found.mean):
        return NOTHING_SAID
    half = (found.high - found.low) / 2
    return f"{found.mean:+.4f} ± {half:.4f}" if half == half else f"{found.mean:+.4f}"


def _interval(low: float, high: float) -> Cell:
    if math.isnan(low) or math.isnan(high):
        return Undefined("too few days")
    return f"{low:+.2f} to {high:+.2f}"


def _friction(value: float) -> Cell:
    if math.isinf(value):
        return Undefined("no skill that costs could be set against")
    return _number(value, ".2f")


def _number(value: float, spec: str, why: str = "") -> Cell:
    if math.isfinite(value):
        return format(value, spec)
    return Undefined(why) if why else NOTHING_SAID


def _shaded(value: float) -> Cell:
    if math.isnan(value):
        return NOTHING_SAID
    return Shaded(f"{value:+.3f}", value / SHADE_AT)
