"""`equipoise backtest`: the strategy over history, through the ordinary engine and paper venue."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from daemon.commands.options import (
    AsJson,
    ConfigFiles,
    Overrides,
    console,
    print_json,
    read_settings,
)
from daemon.report.capacity import Capacity, rounded
from daemon.report.figures import UNDEFINED
from daemon.report.metrics import RunMetrics
from daemon.report.run import without_orders
from daemon.runtime.collector import collect_rarely
from daemon.runtime.logs import configure_logs
from daemon.wiring.backtest import BacktestResult, Progress, run_backtest
from daemon.wiring.decisions import write_decisions


def backtest(
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    report: Annotated[
        Path | None, typer.Option(help="Where the HTML report goes; default from settings.")
    ] = None,
    decisions: Annotated[
        Path | None, typer.Option(help="Write the decision digests here, for `compare`.")
    ] = None,
    book: Annotated[
        Path | None, typer.Option(help="Take instruments and rules of this state folder.")
    ] = None,
) -> None:
    """Trade over recorded bars and write an HTML report."""
    collect_rarely()
    settings = read_settings(config, overrides, base="backtest.toml")
    configure_logs(settings.run.log_level, as_json=settings.run.log_json)
    if as_json:
        result = run_backtest(settings, book=book)
    else:
        with shown_progress() as progress:
            result = run_backtest(settings, progress, book)
    path = report if report is not None else _configured(settings.backtest.report)
    if path is not None:
        from daemon.wiring.judging import write_report  # here: a run without a page needs no SciPy

        write_report(path, result.run, settings)
    if decisions is not None:
        write_decisions(decisions, result.decisions)
    if as_json:
        print_json(_values(result, path))
    else:
        _print(result, path)


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """Draw a bar on stderr; imports what draws it only now, because that takes its time."""
    from rich import progress as rich_progress

    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeRemainingColumn(),
    )
    console_ = Console(stderr=True)
    with rich_progress.Progress(*columns, console=console_, transient=True) as drawn:
        task = drawn.add_task("instants", total=None)
        yield lambda done, total: drawn.update(task, completed=done, total=total)


def _configured(name: str) -> Path | None:
    return Path(name) if name else None


def _values(result: BacktestResult, path: Path | None) -> dict[str, object]:
    facts = result.run.facts
    return {
        **asdict(result.metrics),
        "capacity": asdict(result.run.capacity),
        "orders": facts.orders,
        "fills": facts.fills,
        "decisions": len(result.run.decisions),
        "net_weight_worst": facts.net_weight_worst,
        "seconds": facts.run_seconds,
        "loading_seconds": facts.loading_seconds,
        "memory_mb": facts.memory_mb,
        "fingerprint": facts.fingerprint,
        "caveats": list(facts.caveats),
        "alerts": result.alerts,
        "report": str(path) if path is not None else None,
    }


def _known(text: str, m: RunMetrics, name: str) -> str:
    why = m.why_unknown(name)
    return f"{UNDEFINED}  ({why})" if why else text


def _interval(m: RunMetrics) -> str:
    if math.isnan(m.sharpe_low):
        return m.why_unknown("sharpe_low")
    return f"95 %: {m.sharpe_low:.2f} to {m.sharpe_high:.2f}"


def _room(found: Capacity) -> str:
    if math.isnan(found.equity):
        return f"{UNDEFINED}  ({found.why})"
    return f"{rounded(found.equity)}  ({found.why or 'equity at which half of the gain is gone'})"


def _print(result: BacktestResult, path: Path | None) -> None:
    out, m, facts = console(), result.metrics, result.run.facts
    out.print(f"{facts.title}: {facts.period}", style="bold", soft_wrap=True)
    table = Table(show_header=False)
    sharpe = f"{m.sharpe:.2f}  ({_interval(m)})"
    correlation = f"{m.correlation_first:+.3f}, {m.correlation_market:+.3f}"
    rows = [
        ("return", f"{m.total_return:+.2%} over {m.days:,.1f} days"),
        ("Sharpe, net", _known(sharpe, m, "sharpe")),
        ("deepest drawdown", f"{m.drawdown_max:.2%}"),
        ("turnover a year", f"{m.turnover_per_year:,.0f} x equity"),
        ("cost", _known(f"{m.cost_bps:.1f} bps of traded notional", m, "cost_bps")),
        ("fees / shortfall / funding", f"{m.fees:,.2f} / {m.shortfall:,.2f} / {m.funding:,.2f}"),
        ("capacity", _room(result.run.capacity)),
        ("gross, mean", f"{m.gross_mean:.2f} of equity"),
        ("|net| mean / worst after a fill", f"{m.net_abs_mean:.3%} / {facts.net_weight_worst:.3%}"),
        ("correlation to first, to market", _known(correlation, m, "correlation_first")),
        (
            "orders / fills / decisions",
            f"{facts.orders:,} / {facts.fills:,} / {len(result.run.decisions):,}",
        ),
        ("time / memory", f"{facts.run_seconds:.1f} s / {facts.memory_mb:,.0f} MB"),
    ]
    for row in rows:
        table.add_row(*row)
    out.print(table)
    for caveat in (*without_orders(result.run), *facts.caveats):
        out.print(f"note: {caveat}", style="yellow")
    for kind, count in result.alerts.items():
        out.print(f"  {count} x {kind}", style="yellow")
    if path is not None:
        out.print(f"report: {path}")
