"""The sections of a tear sheet that judge a run: statistics, attribution, skill, market links."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Final

import numpy as np

from daemon.domain.instrument import is_spare_symbol
from daemon.domain.units import DAY_MS, iso
from daemon.report import page
from daemon.report.attribution import Attribution
from daemon.report.betas import RETURNS_MIN, UNKNOWN, WINDOW_DAYS
from daemon.report.charts import Bar, Line, bar_chart, line_chart, points_chart
from daemon.report.exposures import Exposures
from daemon.report.forecast_skill import ForecastSkill, SignalSkill, SkillAt
from daemon.report.honesty import Finding, Honesty
from daemon.report.market_links import Slope
from daemon.report.page import Cell, Undefined
from daemon.report.tried_list import TriedList

PART_NAMES: Final = {
    "alpha": "Alpha",
    "beta_leak": "Beta leak",
    "funding": "Funding",
    "fees": "Fees",
    "spread_and_impact": "Spread and impact",
    "rounding": "Rounding and unfilled",
    "delay": "Delay",
}

LEAK_AND_SLOPE: Final = (
    "It may differ, even in sign, from the beta under Links to markets: the leak sums the book's "
    "beta at each close times the market's next move, so it sees leaning within a day, while that "
    "beta is one regression of returns from midnight to midnight, after the fact and with costs."
)


def verdicts(honesty: Honesty) -> str:
    """Give what the statistics say, in words and in numbers."""
    said = [(f"{one.label}.", one.text) for one in honesty.findings]
    rows = [[one.label, _value(one), _interval(one.low, one.high)] for one in honesty.findings]
    numbers = page.folded("The same in numbers", page.table(rows, head=("", "value", "95 %")))
    return page.section("What the statistics say", page.sentences(said), numbers)


def _value(finding: Finding) -> Cell:
    if not finding.is_known:
        return Undefined(finding.text)
    return "infinite" if math.isinf(finding.value) else f"{finding.value:,.3g}"


def _interval(low: float, high: float) -> Cell:
    return "" if math.isnan(low) or math.isnan(high) else f"{low:,.3g} to {high:,.3g}"


def betas_text(found: Exposures) -> str:
    """Say from when on the betas have all the days behind them that they are said to have."""
    later = f"An instrument with fewer than {RETURNS_MIN} returns counts as beta {UNKNOWN:g}."
    if found.betas_are_full:
        return (
            f"Betas are of the {WINDOW_DAYS} whole days before, from the first row on: the closes "
            f"before the run were read for it. {later}"
        )
    begin = iso(found.betas_full_from_ms)
    if found.betas_full_from_ms > int(found.times_ms[-1]):
        begin += ", which is after the end of this run"
    return (
        f"{WINDOW_DAYS} whole days stand behind the betas only from {begin}; before, they are of "
        f"the days there were. {later}"
    )


def attribution(found: Attribution | str, betas: str) -> str:
    """Give where the gain came from: by part, through time and by name; or why nobody knows.

    betas: what the betas are made of, in words.
    """
    if isinstance(found, str):
        return page.section("Where it came from", note=found)
    parts = {PART_NAMES[name]: amount for name, amount in found.parts.items()}
    bars = [Bar(name, float(amount), _colour(amount)) for name, amount in parts.items()]
    rows: list[list[Cell]] = [[name, _amount(amount)] for name, amount in parts.items()]
    rows.append(["Total", _amount(found.total)])
    note = (
        "The parts sum exactly to the total. Beta leak is what the market moved through the betas "
        "known at the time; delay is what prices did while orders waited, with the paper venue's "
        f"latency charge. {LEAK_AND_SLOPE} {betas}"
    )
    table = page.table(rows)
    result = page.section("Where it came from", bar_chart(bars, unit="quote"), table, note=note)
    days = [int(day) for day in found.days_ms]
    if len(days) > 1:
        ends = [days[0], *(day + DAY_MS for day in days)]  # a day's sum is known at its end
        colours = (page.BLUE, page.AMBER, page.VIOLET, page.RED, page.GREY, page.GREEN, page.PINK)
        totals = np.cumsum(np.vstack((np.zeros(len(PART_NAMES)), found.daily)), axis=0)
        lines = [
            Line(PART_NAMES[name], totals[:, i], colours[i]) for i, name in enumerate(found.parts)
        ]
        drawn = line_chart(ends, lines, unit="quote")
        result += page.section("Where it came from, through time", drawn)
    return result + _by_name(found)


def _by_name(found: Attribution) -> str:
    there = [one for one in found.by_name if not is_spare_symbol(one.symbol)]
    ranked = sorted(there, key=lambda one: (-one.total, one.symbol))
    bars = [Bar(_short(one.symbol), float(one.total), _colour(one.total)) for one in ranked]
    rows: list[list[Cell]] = [
        [
            _short(one.symbol),
            *map(_amount, (one.holding, one.trading, one.fees, one.funding, one.total)),
        ]
        for one in ranked
    ]
    head = ("", "holding", "trading", "fees", "funding", "total")
    table = page.folded("In numbers", page.table(rows, head=head))
    return page.section("By instrument", bar_chart(bars, unit="quote"), table)


def _short(symbol: str) -> str:
    return symbol.partition("/")[0]


def _colour(amount: Decimal | float) -> str:
    return page.GREEN if amount >= 0 else page.RED


def _amount(amount: Decimal) -> str:
    return f"{amount:+,.2f}"


def skill(found: ForecastSkill) -> str:
    """Give how well forecasts ranked what came, and whether they mean what they say."""
    if not found.signals:
        return page.section("Forecasts", note=found.why or "this run made no forecasts")
    shown = _told_apart(found.signals)
    rows = [row for signal in shown for row in _skill_rows(signal)]
    head = ("forecaster", "horizon", "rank IC", "t", "95 %", "score IC", "t", "one bar later")
    note = (
        "IC: correlation across instruments of forecasts with what came, averaged over time; rank: "
        "of ranks; score: of normal scores with the outcome, which is nearer to what a book earns. "
        "t and intervals allow for overlapping outcomes. The last column enters one bar later."
    )
    result = page.section("Forecast skill", page.table(rows, head=head), note=note)
    bars = [
        Bar(f"{s.name} {d.horizon_hours} h", d.score.mean, page.BLUE, d.score.low, d.score.high)
        for s in shown
        for d in s.decay
        if d.lag_bars == 0 and math.isfinite(d.score.mean)
    ]
    if bars:
        chart = bar_chart(bars, unit="score IC with its 95 % interval")
        result += page.section("Score IC by forecaster and horizon", chart)
    return result + "".join(_calibration(signal) for signal in shown)


def _told_apart(signals: Sequence[SignalSkill]) -> list[SignalSkill]:
    """Join forecasters that all shown figures are the same of, as a signal and its strength are."""
    shown: dict[str, SignalSkill] = {}
    for one in signals:
        nameless = replace(one, name="")
        looks = f"{_skill_rows(nameless)} {_calibration(nameless)}"
        twin = shown.get(looks)
        shown[looks] = one if twin is None else replace(twin, name=f"{twin.name}, {one.name}")
    return list(shown.values())


def _skill_rows(signal: SignalSkill) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    for one in signal.decay:
        if one.lag_bars:
            continue
        later = next(d for d in signal.decay if d.horizon_hours == one.horizon_hours and d.lag_bars)
        rows.append(
            [
                signal.name,
                f"{one.horizon_hours} h",
                _ic(one, one.rank.mean),
                _t(one.rank.t),
                _ic_interval(one.rank.low, one.rank.high),
                _ic(one, one.score.mean),
                _t(one.score.t),
                _ic(later, later.score.mean),
            ]
        )
    return rows


def _ic(one: SkillAt, value: float) -> Cell:
    return f"{value:+.4f}" if math.isfinite(value) else Undefined(one.why or "not defined")


def _ic_interval(low: float, high: float) -> str:
    return f"{low:+.4f} to {high:+.4f}" if math.isfinite(low + high) else ""


def _t(value: float) -> str:
    return f"{value:+.1f}" if math.isfinite(value) else ""


def _calibration(signal: SignalSkill) -> str:
    found = signal.calibration
    title = f"Calibration of {signal.name}"
    if found.slope is None and found.reliability is None:
        return page.section(title, note=found.why or "not defined")
    rows: list[list[Cell]] = []
    if found.slope is not None:
        slope, error = found.slope.slope, found.slope.slope_error
        rows.append(["Slope of outcomes on forecasts, 1 is right", f"{slope:.2f} +- {error:.2f}"])
    for level in found.coverage:
        share = level.found
        text = f"{share.share:.1%} ({share.low:.1%} to {share.high:.1%})"
        rows.append([f"Outcomes inside the {level.level:.0%} interval", text])
    chart = ""
    if found.reliability is not None:
        curve = found.reliability
        rows.append(["Expected calibration error of the sign", f"{curve.ece:.2%}"])
        names = ("stated probability that the sign is right", "how often it was")
        chart = points_chart(
            curve.confidence.tolist(), curve.frequency.tolist(), names=names, diagonal=True
        )
    return page.section(title, chart, page.table(rows), note=found.why)


def exposure_lines(found: Exposures) -> list[Line]:
    """Give the book's beta through time, to be drawn beside gross and net."""
    return [Line("beta to the market", found.beta, page.AMBER)]


def exposures(found: Exposures) -> str:
    """Give the links to the markets, and of how many bets the book was made."""
    rows: list[list[Cell]] = []
    for link in found.links:
        correlation: Cell = (
            f"{link.correlation:+.3f}"
            if math.isfinite(link.correlation)
            else Undefined(link.why or "not defined")
        )
        slopes = (_slope(one) for one in (link.beta, link.beta_up, link.beta_down))
        rows.append([link.market, correlation, *slopes])
    head = ("daily returns against", "correlation", "beta", "on its up days", "on its down days")
    note = (
        "Betas with their 95 % intervals (Newey-West), of daily returns over the whole run. A "
        "neutral book's contain zero."
    )
    chart = line_chart(
        found.times_ms.tolist(),
        [
            Line("by size", found.bets, page.BLUE),
            Line("by independent risk", found.bets_apart, page.GREEN),
        ],
        unit="bets",
    )
    return page.section("Links to markets", page.table(rows, head=head), note=note) + page.section(
        "Effective number of bets", chart, note=betas_text(found)
    )


def _slope(one: Slope) -> Cell:
    if not math.isfinite(one.beta):
        return Undefined(one.why or "not defined")
    return f"{one.beta:+.3f} ({one.low:+.3f} to {one.high:+.3f})"


def tried(honesty: Honesty, found: TriedList | None) -> str:
    """Give what else was run on the same data, because the best of many is lucky."""
    title = "What was tried"
    if found is None:
        text = "Nobody kept count of what else was tried on this data: discount what you see here."
        return page.section(title, note=text)
    summary: Sequence[Sequence[Cell]] = [
        ["Different configurations run on this data", f"{honesty.trials_n:,}"],
        ["Those amount to independent trials", f"{honesty.trials_effective:,}"],
        [
            "Annual Sharpe ratio that luck alone gives the best of them",
            f"{honesty.hurdle:.2f}"
            if math.isfinite(honesty.hurdle)
            else Undefined("too few trials with returns of the same days"),
        ],
    ]
    rows: list[list[Cell]] = [
        [
            row.name,
            row.text,
            f"{row.sharpe:+.2f}"
            if math.isfinite(row.sharpe)
            else Undefined("no returns that vary"),
            f"{row.days:,}",
            row.command,
        ]
        for row in found.shown
    ]
    head = ("trial", "differs from this run by", "Sharpe", "days", "command")
    hidden = len(found.rows) - len(rows)
    note = "Highest Sharpe ratio first, each over its own days."
    if hidden:
        note += f" {hidden:,} more are in run.json and in the ledger of trials."
    return page.section(
        title,
        page.table(summary),
        page.table(rows, head=head, wordy=(1,)),
        page.sentences([("Look-ahead test.", found.leak_test.text)]),
        note=note,
    )
