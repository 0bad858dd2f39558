"""The tear sheet: one self-contained HTML file about one run, or about several side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from daemon.domain.units import DAY_MS
from daemon.report import judgement_sections, page, run_sections
from daemon.report.charts import Band, Line, line_chart
from daemon.report.files import write_text
from daemon.report.judged import Judged
from daemon.report.metrics import daily, day_ends
from daemon.report.page import Cell, Undefined
from daemon.report.tried_list import LeakStatus, TriedList

COLOURS = (page.BLUE, page.AMBER, page.GREEN, page.VIOLET, page.RED, page.GREY)


Shown = tuple[Judged, TriedList | None]


def write_page(path: Path, shown: Sequence[Shown]) -> None:
    """Write the page to `path` in one step, making its folder; raises OSError if refused."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, render(shown))


def render(shown: Sequence[Shown]) -> str:
    """Give the page as text: one run whole, several compared and then each folded away.

    shown: runs, each with what was tried on its data; None where nobody kept count.
    """
    judged = [one for one, _ in shown]
    if len(judged) == 1:
        return page.page(judged[0].run.facts.title, _sections(*shown[0]))
    title = f"{len(judged)} runs compared"
    facts = [one.run.facts for one in judged]
    about = dict.fromkeys(text for f in facts for text in (f.prices, f.period) if text)
    serious = dict.fromkeys(
        text
        for one, tried in shown
        for text in (*_leak(tried, one.name), *run_sections.grave_of(one.run.facts))
    )
    top = page.heading(title, list(about)) + page.caveats(list(serious), [])
    parts = [top, _compared(judged), _curves(judged)]
    for one, tried in shown:
        parts.append(page.folded(one.name, *_sections(one, tried)))
    return page.page(title, parts)


def _sections(one: Judged, tried: TriedList | None) -> list[str]:
    run, metrics = one.run, one.metrics
    record, facts = run.record, run.facts
    return [
        run_sections.top(run, _leak(tried)),
        run_sections.tiles(metrics, run, one.honesty["sharpe"]),
        judgement_sections.verdicts(one.honesty),
        _equity(one),
        run_sections.months(record, one.value),
        run_sections.exposure(record, judgement_sections.exposure_lines(one.exposures)),
        judgement_sections.exposures(one.exposures),
        run_sections.trading(record),
        run_sections.capacity(run),
        judgement_sections.attribution(
            one.attribution, judgement_sections.betas_text(one.exposures)
        ),
        judgement_sections.skill(one.skill),
        judgement_sections.tried(one.honesty, tried),
        run_sections.figures(metrics, run, one.benchmark),
        run_sections.origin(facts),
    ]


def _leak(tried: TriedList | None, name: str = "") -> list[str]:
    """Say above everything else that a run knew the future, where a test has shown that."""
    if tried is None or tried.leak_test.status is not LeakStatus.LEAK:
        return []
    return [f"{name}: {tried.leak_test.text}" if name else tried.leak_test.text]


def _equity(one: Judged) -> str:
    """Give equity and drawdown by bar, with the band of resampled days laid between its days."""
    record = one.run.record
    if one.band is None:
        return run_sections.equity(record, value=one.value)
    times = np.asarray(record.times_ms)
    ends = daily(record.times_ms, times.astype(np.float64))
    low, high = (np.interp(times, ends, bound) for bound in one.band)
    band = Band("95 of 100 reorderings of its days", low, high, page.BLUE)
    return run_sections.equity(record, band, one.value)


# ---- several runs --------------------------------------------------------------------------------


def _compared(judged: Sequence[Judged]) -> str:
    rows: list[list[Cell]] = []
    for one in judged:
        m, sharpe = one.metrics, one.honesty["sharpe"]
        deflated = one.honesty["deflated_sharpe"]
        link = one.exposures.link("equal-weight")
        rows.append(
            [
                one.name,
                f"{m.total_return:+.2%}",
                _number(sharpe.value, ".2f", sharpe.text),
                f"{sharpe.low:.2f} to {sharpe.high:.2f}" if sharpe.is_known else "",
                _number(deflated.value, ".2f", deflated.text),
                f"{m.drawdown_max:.2%}",
                f"{m.turnover_per_year:,.0f} x",
                run_sections.figure(m, "cost_bps", ".1f", " bps"),
                run_sections.figure(m, "information_ratio", ".2f"),
                _number(link.correlation if link else math.nan, "+.2f", "not defined"),
                _best_ic(one),
            ]
        )
    head = (
        "run",
        "return",
        "Sharpe",
        "95 %",
        "deflated",
        "drawdown",
        "turnover a year",
        "cost",
        "information",
        "market",
        "score IC 6 h",
    )
    note = (
        "deflated: the confidence that the true Sharpe ratio is above what luck alone would give "
        "the best of all that was tried. information: the information ratio against "
        f"{judged[0].benchmark}. market: correlation of daily returns to the equal-weight market."
    )
    return page.section("Side by side", page.table(rows, head=head), note=note)


def _number(value: float, spec: str, why: str) -> Cell:
    return Undefined(why) if math.isnan(value) else f"{value:{spec}}"


def _best_ic(one: Judged) -> Cell:
    """Give the score IC of the joined signal, else of the first forecaster."""
    signals = one.skill.signals
    if not signals:
        return Undefined(one.skill.why or "no forecasts")
    chosen = next((s for s in signals if s.name == "combined"), signals[0])
    found = chosen.at(6).score
    return f"{found.mean:+.4f}" if math.isfinite(found.mean) else Undefined("not defined")


def _by_day(one: Judged) -> dict[int, float]:
    """Give the equity at the end of each UTC day, by that end in ms; the opening first."""
    record = one.run.record
    value = record.column("equity") if one.value is None else one.value
    days, rows = day_ends(record.times_ms)
    ends = ((days + 1) * DAY_MS).tolist()
    return dict(zip(ends, value[rows].tolist(), strict=True))


def _curves(judged: Sequence[Judged]) -> str:
    """Draw equities from 100 over the days that all runs have."""
    days = [_by_day(one) for one in judged]
    common = sorted(set.intersection(*(set(by_day) for by_day in days)))
    if len(common) < 2:
        return page.section("Equity", note="the runs have no two days in common")
    lines = []
    for i, (one, by_day) in enumerate(zip(judged, days, strict=True)):
        values = np.array([by_day[day] for day in common])
        lines.append(Line(one.name, 100.0 * values / values[0], COLOURS[i % len(COLOURS)]))
    return page.section("Equity, 100 at the start", line_chart(common, lines, unit=""))
