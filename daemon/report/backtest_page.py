"""The report of one run as a single HTML file: no script, no outside request, light and dark."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from daemon.domain.decision import Decision
from daemon.domain.units import HOUR_MS
from daemon.report.charts import Line, line_chart
from daemon.report.figures import UNDEFINED
from daemon.report.metrics import RunMetrics, drawdown
from daemon.report.run import Run, RunFacts
from daemon.report.run_record import RunRecord, gross_reached

BLUE, RED, GREEN, AMBER, VIOLET = "#3b82c4", "#c8553d", "#3f9d6d", "#c08a2d", "#8465b8"


@dataclass(frozen=True, slots=True)
class Undefined:
    """Stand for a figure that this run does not have; shown as a dash that says why."""

    why: str


Cell = str | Undefined


def write_page(path: Path, run: Run, metrics: RunMetrics) -> None:
    """Write the page to `path`, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(run, metrics), encoding="utf-8")


def render(run: Run, metrics: RunMetrics) -> str:
    """Give the page as text."""
    record, decisions, facts = run.record, run.decisions, run.facts
    parts = [
        _heading(facts),
        "".join(f"<p class=caveat>{_e(c)}</p>" for c in facts.caveats),
        _tiles(metrics, facts, list(decisions)),
        *_charts(record),
        _table("Figures", _figures(metrics, facts)),
        _table("By month", _months(record)),
        _table("Run", _facts(facts)),
        _settings(facts),
    ]
    return f"{_HEAD.format(title=_e(facts.title))}<main>{''.join(parts)}</main></html>\n"


def _heading(facts: RunFacts) -> str:
    about = (
        facts.strategy,
        facts.period,
        f"{len(facts.symbols)} instruments",
        f"{facts.orders:,} orders",
        f"{facts.fills:,} fills",
    )
    return f"<h1>{_e(facts.title)}</h1><p class=sub>{_e(' · '.join(about))}</p>"


def _settings(facts: RunFacts) -> str:
    shown = _e(_pretty(facts.settings))
    return f"<details><summary>Effective settings</summary><pre>{shown}</pre></details>"


def _tiles(m: RunMetrics, facts: RunFacts, decisions: list[Decision]) -> str:
    share, decisions_n = gross_reached(decisions)
    reached = f"{share:.1%} of {decisions_n:,}" if math.isfinite(share) else "0 of 0"
    first = facts.symbols[0]
    tiles: list[tuple[str, Cell, str]] = [
        ("Return", f"{m.total_return:+.2%}", f"{m.days:,.1f} days"),
        (
            "Sharpe, net",
            _cell(m, "sharpe", ".2f"),
            m.why_unknown("sharpe") or f"95 %: {m.sharpe_low:.2f} to {m.sharpe_high:.2f}",
        ),
        ("Deepest drawdown", f"{m.drawdown_max:.2%}", "from the highest equity so far"),
        ("Turnover", f"{m.turnover_per_year:,.0f} x", "of equity a year"),
        (
            "Cost",
            _cell(m, "cost_bps", ".1f", " bps"),
            m.why_unknown("cost_bps") or "of traded notional",
        ),
        ("Gross", f"{m.gross_mean:.2f}", f"≥ 80 % of target in {reached}"),
        ("Net, worst fill", f"{facts.net_weight_worst:.2%}", "of equity, after any single fill"),
        (
            f"Correlation to {first}",
            _cell(m, "correlation_first", "+.2f"),
            m.why_unknown("correlation_first") or f"beta {m.beta_first:+.3f}",
        ),
    ]
    cells = (f"<div><b>{_e(v)}</b><span>{_e(n)}</span><i>{_e(h)}</i></div>" for n, v, h in tiles)
    return f"<section class=tiles>{''.join(cells)}</section>"


def _cell(m: RunMetrics, name: str, spec: str, unit: str = "") -> Cell:
    """Write a figure of the run, or the dash for one that it does not have."""
    why = m.why_unknown(name)
    return Undefined(why) if why else f"{getattr(m, name):{spec}}{unit}"


def _charts(record: RunRecord) -> list[str]:
    times, equity = record.times_ms, record.column("equity")
    hours = max((times[-1] - times[0]) / HOUR_MS, 1.0)
    turnover = record.column("turnover")
    window = max(1, round(len(times) * 24.0 / hours))
    day = np.concatenate([turnover[:window], turnover[window:] - turnover[:-window]]) / equity
    market = record.column("market") / record.column("market")[0] * equity[0]
    charts = [
        ("Equity", [Line("equity", equity, BLUE), Line("market, equal weight", market, AMBER)], 0),
        ("Drawdown", [Line("drawdown", drawdown(equity), RED, fill=True)], 1),
        (
            "Exposure, fraction of equity",
            [
                Line("gross", record.column("gross") / equity, GREEN),
                Line("net", record.column("net") / equity, VIOLET),
            ],
            1,
        ),
        ("Turnover over 24 hours, fraction of equity", [Line("turnover", day, BLUE)], 1),
        (
            "Costs so far, fraction of first equity",
            [
                Line("fees", record.column("fees") / equity[0], RED),
                Line("spread, impact, latency", record.column("shortfall") / equity[0], AMBER),
                Line("funding paid", -record.column("funding") / equity[0], VIOLET),
            ],
            1,
        ),
    ]
    return [
        f"<section><h2>{_e(title)}</h2>"
        f"{line_chart(times, lines, unit='quote', percent=bool(percent))}</section>"
        for title, lines, percent in charts
    ]


def _figures(m: RunMetrics, facts: RunFacts) -> list[tuple[Cell, ...]]:
    return [
        ("Equity, first and last", f"{m.equity_first:,.2f}", f"{m.equity_last:,.2f}"),
        (
            "Return and volatility a year",
            _cell(m, "annual_return", "+.2%"),
            _cell(m, "annual_volatility", ".2%"),
        ),
        ("Fees, spread and impact", f"{m.fees:,.2f}", f"{m.shortfall:,.2f}"),
        ("Funding, negative is paid", f"{m.funding:,.2f}", ""),
        ("|net| / equity, mean and highest", f"{m.net_abs_mean:.3%}", f"{m.net_abs_max:.3%}"),
        (
            f"Correlation and beta to {facts.symbols[0]}",
            _cell(m, "correlation_first", "+.3f"),
            _cell(m, "beta_first", "+.4f"),
        ),
        (
            "Correlation and beta to the market",
            _cell(m, "correlation_market", "+.3f"),
            _cell(m, "beta_market", "+.4f"),
        ),
    ]


def _months(record: RunRecord) -> list[tuple[Cell, ...]]:
    equity = record.column("equity")
    # A close at midnight is the end of the month before, as it is of the day before.
    closed = np.asarray(record.times_ms, dtype=np.int64) - 1
    months = closed.astype("datetime64[ms]").astype("datetime64[M]")
    rows: list[tuple[Cell, ...]] = []
    before = float(equity[0])
    for month in np.unique(months):
        last = float(equity[months == month][-1])
        rows.append((str(month), f"{last / before - 1.0:+.2%}", f"{last:,.2f}"))
        before = last
    return rows


def _facts(facts: RunFacts) -> list[tuple[Cell, ...]]:
    return [
        ("Time and peak memory", f"{facts.run_seconds:.1f} s", f"{facts.memory_mb:,.0f} MB"),
        (
            "Data fingerprint",
            facts.fingerprint[:16] or Undefined("not defined: the bars came live, from no file"),
            "",
        ),
        ("Instruments", ", ".join(facts.symbols), ""),
    ]


def _table(title: str, rows: Sequence[tuple[Cell, ...]]) -> str:
    body = "".join(
        f"<tr><th>{_e(r[0])}</th>{''.join(f'<td>{_e(c)}</td>' for c in r[1:])}</tr>" for r in rows
    )
    return f"<section><h2>{_e(title)}</h2><table>{body}</table></section>"


def _pretty(values: Mapping[str, object]) -> str:
    lines: list[str] = []
    for section, content in values.items():
        lines.append(f"[{section}]")
        items = content.items() if isinstance(content, Mapping) else [("value", content)]
        lines.extend(f"{key} = {value!r}" for key, value in items)
    return "\n".join(lines)


def _e(text: object) -> str:
    if isinstance(text, Undefined):
        return f'<abbr title="{html.escape(text.why)}">{UNDEFINED}</abbr>'
    return html.escape(str(text))


_HEAD = """<!doctype html><html lang=en><meta charset=utf-8>
<meta name=viewport content="width=device-width,initial-scale=1">
<meta http-equiv=Content-Security-Policy content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title><style>
:root{{color-scheme:light dark;--page:#f7f7f5;--card:#fff;--ink:#20242a;--dim:#69707a;
--rule:#e3e3df}}
@media(prefers-color-scheme:dark){{:root{{--page:#14171b;--card:#1c2026;--ink:#e4e7eb;--dim:#949ca7;
--rule:#2c323a}}}}
body{{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}}
main{{max-width:1000px;margin:0 auto;padding:24px 16px 48px}}
h1{{font-size:1.6rem;margin:.2em 0}}h2{{font-size:1rem;margin:0 0 8px;color:var(--dim)}}
.sub{{color:var(--dim);margin:0 0 16px}}
.caveat{{border-left:3px solid #c08a2d;background:var(--card);padding:8px 12px;margin:8px 0}}
section{{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:14px 16px;
margin:14px 0;overflow-x:auto}}
.tiles{{display:grid;grid-template-columns:repeat(auto-fit,minmax(165px,1fr));gap:14px}}
.tiles div{{display:flex;flex-direction:column}}.tiles b{{font-size:1.45rem}}
.tiles span{{font-weight:600}}.tiles i{{font-style:normal;color:var(--dim);font-size:.82rem}}
svg{{width:100%;height:auto;display:block}}
table{{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}}
th{{text-align:left;font-weight:400;color:var(--dim)}}td{{text-align:right}}
th,td{{padding:5px 8px;border-top:1px solid var(--rule)}}tr:first-child>*{{border-top:0}}
abbr{{color:var(--dim);text-decoration:none;cursor:help}}
pre{{white-space:pre-wrap;font-size:.8rem}}
</style>"""
