"""The tear sheet: one self-contained HTML file about one run, or about several side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from daemon.domain.units import DAY_MS
from daemon.report import judgement_sections, page, run_sections
from daemon.report.charts import Band, Line, line_chart
from daemon.report.exports import write_text
from daemon.report.judged import Judged
from daemon.report.metrics import daily
from daemon.report.page import Cell, Undefined
from daemon.report.trials import Trials

COLOURS = (page.BLUE, page.AMBER, page.GREEN, page.VIOLET, page.RED, page.GREY)


def write_page(path: Path, judged: Sequence[Judged], trials: Trials | None = None) -> None:
    """Write the page to `path` in one step, making its folder; raises JournalError if refused."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, render(judged, trials))


def render(judged: Sequence[Judged], trials: Trials | None = None) -> str:
    """Give the page as text: one run whole, several compared and then each folded away."""
    if len(judged) == 1:
        only = judged[0]
        return page.page(only.run.facts.title, _sections(only, trials))
    title = f"{len(judged)} runs compared"
    about = sorted({one.run.facts.period for one in judged})
    parts = [page.heading(title, about), _compared(judged), _curves(judged)]
    for one in judged:
        parts.append(page.folded(one.name, *_sections(one, trials)))
    return page.page(title, parts)


def _sections(one: Judged, trials: Trials | None) -> list[str]:
    run, metrics = one.run, one.metrics
    record, facts = run.record, run.facts
    return [
        run_sections.top(run),
        run_sections.tiles(metrics, facts, run.decisions, one.honesty["sharpe"]),
        judgement_sections.verdicts(one.honesty),
        _equity(one),
        run_sections.months(record),
        run_sections.exposure(record, judgement_sections.exposure_lines(one.exposures)),
        judgement_sections.exposures(one.exposures),
        run_sections.trading(record),
        judgement_sections.attribution(one.attribution),
        judgement_sections.skill(one.skill),
        judgement_sections.tried(one.honesty, trials),
        run_sections.figures(metrics, facts),
        run_sections.origin(facts),
    ]


def _equity(one: Judged) -> str:
    """Give equity and drawdown by bar, with the band of resampled days laid between its days."""
    record = one.run.record
    if one.band is None:
        return run_sections.equity(record)
    times = np.asarray(record.times_ms)
    ends = daily(record.times_ms, times.astype(np.float64))
    low, high = (np.interp(times, ends, bound) for bound in one.band)
    return run_sections.equity(
        record, Band("95 of 100 reorderings of its days", low, high, page.BLUE)
    )


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
        "market",
        "score IC 6 h",
    )
    note = (
        "deflated: the probability that skill, not the luck of the best of all that was tried, is "
        "behind the Sharpe ratio. market: correlation of daily returns to the equal-weight market."
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
    """Give the equity at the end of each UTC day, by the day's beginning in ms."""
    record = one.run.record
    ends = daily(record.times_ms, np.asarray(record.times_ms, dtype=np.float64))
    equity = daily(record.times_ms, record.column("equity"))
    starts = ((ends.astype(np.int64) - 1) // DAY_MS * DAY_MS).tolist()
    return dict(zip(starts, equity.tolist(), strict=True))


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
