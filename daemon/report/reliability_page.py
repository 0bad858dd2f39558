"""The page of `evaluate reliability`: whether forecasts mean what they say, figure by figure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from daemon.domain.units import iso
from daemon.report import page
from daemon.report.charts import Bar, bar_chart, points_chart
from daemon.report.page import Cell, Undefined
from daemon.report.reliability import ACCEPTED, ROLLING_DAYS, Coverage, ReliabilityReport
from daemon.statistics.bootstrap import Interval

_NOTHING = Undefined("too few outcomes")


def reliability_page(
    name: str, about: Sequence[str], found: ReliabilityReport, states_itself: bool
) -> str:
    """Give the whole document."""
    grave = (
        []
        if states_itself
        else ["The table says nothing of its own law: it is judged as normal with variance 1."]
    )
    period = f"{iso(found.first_ms)[:10]} to {iso(found.last_ms)[:10]}"
    return page.page(
        f"Reliability of {name}",
        [
            page.heading(f"Reliability of {name}", [period, *about]),
            page.caveats(grave, []),
            _tiles(found),
            _slopes(found),
            _signs(found),
            _law(found),
            _coverages(found),
            _quarters(found),
        ],
    )


def interval_text(one: Interval, spec: str = ".2f") -> str:
    """Write `1.02 (0.61 to 1.43)`; without ends where they are not known."""
    if not math.isfinite(one.estimate):
        return "-"
    text = format(one.estimate, spec)
    ends = f" ({one.low:{spec}} to {one.high:{spec}})"
    return text + ends if math.isfinite(one.low + one.high) else text


def _tiles(found: ReliabilityReport) -> str:
    stated = found.coverages[0]
    return page.tiles(
        [
            ("slope", f"{found.slope.estimate:.2f}", "1 is right, below 1 too bold"),
            ("variance ratio", f"{found.variance_ratio.estimate:.2f}", "1 is right"),
            ("Brier skill", f"{found.brier.skill.estimate:+.3%}", "above 0 beats the base rate"),
            (
                f"inside {stated.nominal:.0%}",
                f"{stated.share.estimate:.1%}",
                "of the stated intervals",
            ),
        ]
    )


def _slopes(found: ReliabilityReport) -> str:
    rows: list[list[Cell]] = [["combined", interval_text(found.slope)]]
    rows += [[name, interval_text(one)] for name, one in found.slopes_alone.items()]
    note = (
        "What came for each unit of forecast, with 95 % intervals of the stationary bootstrap over"
        f" {found.instants:,} instants."
    )
    return page.section("Slope", page.table(rows, head=("forecast", "slope")), note=note)


def _signs(found: ReliabilityReport) -> str:
    curve, brier = found.curve, found.brier
    rows: list[list[Cell]] = [
        [f"{number}", f"{said:.2%}", f"{came:.2%}", f"{size:,}"]
        for number, (said, came, size) in enumerate(
            zip(curve.confidence, curve.frequency, curve.sizes, strict=True), 1
        )
    ]
    chart = points_chart(
        list(100 * curve.confidence),
        list(100 * curve.frequency),
        names=("stated probability of a rise, %", "share that rose, %"),
        diagonal=True,
    )
    parts: list[list[Cell]] = [
        ["Brier score", f"{brier.score:.6f}"],
        ["of the base rate alone", f"{brier.base:.6f}"],
        ["lost by wrong probabilities (reliability)", f"{brier.reliability:.6f}"],
        ["won by telling apart (resolution)", f"{brier.resolution:.6f}"],
        ["within the bins", f"{brier.within:+.6f}"],
        ["skill against the base rate", interval_text(brier.skill, "+.3%")],
        ["expected calibration error", f"{curve.ece:.2%}"],
    ]
    head = ("decile", "stated", "came", "outcomes")
    return page.section(
        "Probability of the sign",
        chart,
        page.table(rows, head=head),
        page.table(parts, head=("", "")),
        note="Rise and fall are of residual returns. Equal probabilities share a row.",
    )


def _law(found: ReliabilityReport) -> str:
    even = 1.0 / len(found.pit)
    bars = [
        Bar(f"{number * even:.2f}", 100 * float(share), page.BLUE)
        for number, share in enumerate(found.pit)
    ]
    rows: list[list[Cell]] = [
        ["variance ratio", interval_text(found.variance_ratio)],
        ["distance from even (KS)", f"{found.pit_test.distance:.4f}"],
        ["its p-value, outcomes that do not overlap", f"{found.pit_test.p_value:.2g}"],
        ["CRPS, and of no forecast", f"{found.crps:.5f}, {found.crps_base:.5f}"],
        ["negative log-likelihood, and of no forecast", f"{found.nll:.5f}, {found.nll_base:.5f}"],
    ]
    note = (
        f"Where outcomes lay in the stated law; {even:.0%} in each bar where it is right. The ends"
        " too full: too sure, or fat tails; the middle too full: too unsure, or fat tails."
    )
    return page.section(
        "Outcomes within the stated law",
        bar_chart(bars, unit="% of outcomes"),
        page.table(rows, head=("", "")),
        note=note,
    )


def _coverages(found: ReliabilityReport) -> str:
    rows: list[list[Cell]] = [coverage_cells(one) for one in found.coverages]
    head = ("interval", "nominal", "inside", f"worst {ROLLING_DAYS} days", "from", "windows kept")
    low, high = ACCEPTED
    note = (
        "Stated: the half-width that the calibration gave. Adaptive: conformal, steered by the"
        f" misses that were known. Windows kept: those of {ROLLING_DAYS} days with {low:.0%} to"
        f" {high:.0%} inside."
    )
    return page.section("Intervals", page.table(rows, head=head), note=note)


def coverage_cells(one: Coverage) -> list[Cell]:
    """Give a row of the table of intervals."""
    known = one.worst_from_ms is not None
    return [
        one.name,
        f"{one.nominal:.0%}",
        interval_text(one.share, ".1%"),
        f"{one.worst:.1%}" if known else _NOTHING,
        iso(one.worst_from_ms)[:10] if one.worst_from_ms is not None else _NOTHING,
        f"{one.accepted:.0%}" if known else _NOTHING,
    ]


def _quarters(found: ReliabilityReport) -> str:
    def figure(value: float, spec: str) -> Cell:
        return format(value, spec) if math.isfinite(value) else _NOTHING

    rows: list[list[Cell]] = [
        [
            one.name,
            f"{one.pairs:,}",
            figure(one.slope, "+.2f"),
            figure(one.variance_ratio, ".2f"),
            figure(one.brier_skill, "+.3%"),
            figure(one.stated_coverage, ".1%"),
            figure(one.adaptive_coverage, ".1%"),
        ]
        for one in found.quarters
    ]
    head = ("quarter", "outcomes", "slope", "variance", "Brier skill", "stated", "adaptive")
    return page.section("By quarter", page.table(rows, head=head))
