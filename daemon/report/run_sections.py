"""The sections of a report that show one run as it went: figures, curves, months, settings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from daemon.domain.units import HOUR_MS
from daemon.report import page
from daemon.report.capacity import ASSUMED, Capacity, in_words, rounded
from daemon.report.charts import Band, Line, line_chart
from daemon.report.exposures import MARKET
from daemon.report.honesty import Finding
from daemon.report.metrics import RunMetrics, drawdown, monthly_returns, yearly_returns
from daemon.report.page import Cell, Shaded, Undefined
from daemon.report.run import Run, RunFacts, without_orders
from daemon.report.run_record import RunRecord, band_health, gross_reached

Floats = npt.NDArray[np.float64]
GRAVE = "SERIOUS: "  # how findings that may make a bad strategy look good begin
FULL_SHADE_RETURN = 0.10  # a month of this size is shaded most
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def top(run: Run, serious: Sequence[str] = ()) -> str:
    """Give the title, what the run was, and what must be known before any figure is read.

    serious: what else stands above all of that.
    """
    facts = run.facts
    about = (
        facts.strategy,
        facts.prices,
        facts.period,
        f"{len(facts.taken)} instruments",
        f"{facts.orders:,} orders",
        f"{facts.fills:,} fills",
    )
    grave = grave_of(facts)
    others = [text for text in facts.caveats if text not in grave]
    boxes = [*serious, *without_orders(run), *grave]
    return page.heading(facts.title, about) + page.caveats(boxes, others)


def grave_of(facts: RunFacts) -> list[str]:
    """Give the findings that may make a bad strategy look good."""
    return [text for text in facts.caveats if text.startswith(GRAVE)]


def tiles(m: RunMetrics, run: Run, sharpe: Finding) -> str:
    """Give the figures that are looked at first."""
    facts = run.facts
    share, decisions_n = gross_reached(list(run.decisions))
    reached = f"{share:.1%} of {decisions_n:,}" if math.isfinite(share) else "0 of 0"
    first = facts.symbols[0]
    return page.tiles(
        [
            ("Return", f"{m.total_return:+.2%}", f"{m.days:,.1f} days"),
            (
                "Sharpe, net",
                figure(m, "sharpe", ".2f"),
                m.why_unknown("sharpe") or _interval(sharpe),
            ),
            ("Deepest drawdown", f"{m.drawdown_max:.2%}", "from the highest equity so far"),
            ("Turnover", f"{m.turnover_per_year:,.0f} x", "of equity a year"),
            (
                "Cost",
                figure(m, "cost_bps", ".1f", " bps"),
                m.why_unknown("cost_bps") or "of traded notional",
            ),
            ("Gross", f"{m.gross_mean:.2f}", f"≥ 80 % of target in {reached}"),
            (
                "Net, worst fill",
                f"{facts.net_weight_worst:.2%}",
                "of equity, after any single fill",
            ),
            (
                f"Correlation to {first}",
                figure(m, "correlation_first", "+.2f"),
                m.why_unknown("correlation_first") or f"beta {m.beta_first:+.3f}",
            ),
            ("Capacity", _room(run.capacity), run.capacity.why or "equity that halves the gain"),
        ]
    )


def _room(found: Capacity) -> Cell:
    return Undefined(found.why) if math.isnan(found.equity) else rounded(found.equity)


def capacity(run: Run) -> str:
    """Give how large the book could become, in words, and what that assumes."""
    held = float(run.record.column("equity").mean())
    return page.section("Capacity", page.paragraph(in_words(run.capacity, held)), note=ASSUMED)


def _interval(sharpe: Finding) -> str:
    if math.isnan(sharpe.low):
        return "too few days for an interval"
    return f"95 %: {sharpe.low:.2f} to {sharpe.high:.2f}"


def figure(m: RunMetrics, name: str, spec: str, unit: str = "") -> Cell:
    """Write a figure of the run, or the dash for one that it does not have."""
    why = m.why_unknown(name)
    return Undefined(why) if why else f"{getattr(m, name):{spec}}{unit}"


def equity(record: RunRecord, band: Band | None = None, value: Floats | None = None) -> str:
    """Give the equity beside the market's, and how deep it fell; band: what luck would allow.

    value: (T,) what the first equity became without later transfers, where there were any.
    """
    times, values = record.times_ms, record.column("equity") if value is None else value
    name = "equity" if value is None else "equity, without what was paid in or out"
    market = record.column("market") / record.column("market")[0] * values[0]
    lines = [
        Line(name, values, page.BLUE, width=1.6),
        Line("market, equal weight", market, page.AMBER),
    ]
    fall = [Line("drawdown", drawdown(values), page.RED, fill=True)]
    return page.section("Equity", line_chart(times, lines, unit="quote", band=band)) + page.section(
        "Drawdown", line_chart(times, fall, unit="", percent=True)
    )


def exposure(record: RunRecord, lines: Sequence[Line] = ()) -> str:
    """Give gross and net through time, and `lines` beside them."""
    values = record.column("equity")
    drawn = [
        Line("gross", record.column("gross") / values, page.GREEN),
        Line("net", record.column("net") / values, page.VIOLET),
        *lines,
    ]
    title = "Exposure, fraction of equity"
    return page.section(title, line_chart(record.times_ms, drawn, unit="", percent=True))


def trading(record: RunRecord) -> str:
    """Give turnover and costs through time."""
    times, values = record.times_ms, record.column("equity")
    hours = max((times[-1] - times[0]) / HOUR_MS, 1.0)
    turnover = record.column("turnover")
    window = max(1, round(len(times) * 24.0 / hours))
    day = np.concatenate([turnover[:window], turnover[window:] - turnover[:-window]]) / values
    first = values[0]
    costs = [
        Line("fees", record.column("fees") / first, page.RED),
        Line("spread, impact, latency", record.column("shortfall") / first, page.AMBER),
        Line("funding paid", -record.column("funding") / first, page.VIOLET),
    ]
    return page.section(
        "Turnover over 24 hours, fraction of equity",
        line_chart(times, [Line("turnover", day, page.BLUE)], unit="", percent=True),
    ) + page.section(
        "Costs so far, fraction of first equity", line_chart(times, costs, unit="", percent=True)
    )


def months(record: RunRecord, value: Floats | None = None) -> str:
    """Give the return of every month, a row a year; value: as in `equity`."""
    values = record.column("equity") if value is None else value
    months = monthly_returns(record.times_ms, values)
    rows: list[list[Cell]] = []
    for year, whole in yearly_returns(record.times_ms, values).items():
        cells = [_shaded(months.get(f"{year}-{month:02d}")) for month in range(1, 13)]
        rows.append([year, *cells, f"{whole:+.2%}"])
    return page.section("By month", page.table(rows, head=("", *MONTHS, "year")))


def _shaded(gain: float | None) -> Cell:
    return "" if gain is None else Shaded(f"{gain:+.2%}", gain / FULL_SHADE_RETURN)


def figures(m: RunMetrics, run: Run, benchmark: str = MARKET) -> str:
    """Give the figures that the tiles leave out."""
    facts, health = run.facts, band_health(run.decisions)
    rows: list[list[Cell]] = [
        ["Equity, first and last", f"{m.equity_first:,.2f}", f"{m.equity_last:,.2f}"],
        [
            "Return and volatility a year",
            figure(m, "annual_return", "+.2%"),
            figure(m, "annual_volatility", ".2%"),
        ],
        [
            f"Sortino ratio; information ratio against {_named(benchmark)}",
            figure(m, "sortino", ".2f"),
            figure(m, "information_ratio", ".2f"),
        ],
        [
            "Longest time below a former height",
            f"{m.underwater_days_max:,.1f} days",
            "recovered" if m.is_recovered else "not recovered",
        ],
        [
            "Shares of the gross gain: fees; spread and impact",
            figure(m, "fee_share", ".1%"),
            figure(m, "shortfall_share", ".1%"),
        ],
        ["Funding's share of it, negative is earned", figure(m, "funding_share", ".1%"), ""],
        ["Fees; spread, impact and latency", f"{m.fees:,.2f}", f"{m.shortfall:,.2f}"],
        ["Funding, negative is paid", f"{m.funding:,.2f}", ""],
        [
            "Trading cost over tracking loss of the bands, at the end",
            f"{health:.2f}" if math.isfinite(health) else Undefined("no decision measured it"),
            "2 where targets move little between decisions, about 1 by the hour",
        ],
        ["|net| / equity, mean and highest", f"{m.net_abs_mean:.3%}", f"{m.net_abs_max:.3%}"],
        [
            f"Correlation and beta to {facts.symbols[0]}",
            figure(m, "correlation_first", "+.3f"),
            figure(m, "beta_first", "+.4f"),
        ],
        [
            "Correlation and beta to the market",
            figure(m, "correlation_market", "+.3f"),
            figure(m, "beta_market", "+.4f"),
        ],
    ]
    return page.section("Figures", page.table(rows))


def _named(benchmark: str) -> str:
    return f"the {benchmark}" if benchmark == MARKET else benchmark


def origin(facts: RunFacts) -> str:
    """Give what the run was made from, so that it can be made again."""
    rows: list[list[Cell]] = [
        ["Prices", facts.prices or Undefined("nobody said where they came from")],
        ["Funding rates", facts.funding_source or Undefined("no rates were read")],
        ["Rules and account", facts.book_venue or Undefined("nobody said whose they are")],
        [
            "Data fingerprint",
            facts.fingerprint[:16] or Undefined("not defined: the bars came live, from no file"),
        ],
        ["Trial", facts.trial_id or Undefined("not defined: this run is no trial")],
        ["Program version", facts.code_version or Undefined("not known")],
        ["Instruments", ", ".join(facts.taken)],
    ]
    shown = page.preformatted(_pretty(facts.settings))
    table = page.table(rows, wordy=(1,))
    return page.section("Origin", table, page.folded("Effective settings", shown))


def _pretty(values: Mapping[str, object]) -> str:
    lines: list[str] = []
    for name, content in values.items():
        lines.append(f"[{name}]")
        items = content.items() if isinstance(content, Mapping) else [("value", content)]
        lines.extend(f"{key} = {value!r}" for key, value in items)
    return "\n".join(lines)
