"""`equipoise evaluate reliability`: whether the forecasts of a table mean what they say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from daemon.commands.options import (
    AsJson,
    ConfigFiles,
    Overrides,
    console,
    print_json,
    read_settings,
)
from daemon.report.page import Undefined
from daemon.report.reliability import ROLLING_DAYS, ReliabilityReport
from daemon.report.reliability_page import coverage_cells, interval_text
from daemon.runtime.logs import configure_logs
from daemon.wiring.reliability import reliability_of, reliability_values, write_reliability
from daemon.wiring.walk_forward import bars_to_walk


def reliability(
    table: Annotated[
        Path, typer.Option(help="Table of predictions, as walkforward or predict write it.")
    ],
    data: Annotated[
        Path | None, typer.Option(help="Folder of Parquet bars; default from settings.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of reliability.json and .html.")] = Path(
        "reports/reliability"
    ),
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Judge size, spread, sign and intervals of forecasts by what came of them.

    Bars are those of [backtest]; the table is one of walk-forward or of a model.
    """
    chosen = [*(overrides or []), *([f"backtest.data_folder={data}"] if data is not None else [])]
    settings = read_settings(config, chosen, base="backtest.toml")
    configure_logs(settings.run.log_level, as_json=settings.run.log_json)
    found = reliability_of(settings, table, bars_to_walk(settings))
    paths = write_reliability(found, out)
    if as_json:
        print_json({**reliability_values(found), "files": [str(path) for path in paths]})
        return
    screen = console()
    if not found.states_itself:
        screen.print(
            "warning: the table says nothing of its own law: it is judged as normal with variance"
            " 1",
            style="yellow",
            soft_wrap=True,
        )
    for shown in (_figures(found.report), _deciles(found.report), _coverages(found.report)):
        screen.print(shown)
    for path in paths:
        screen.print(f"written: {path}", soft_wrap=True)


def _plain_table(title: str, *columns: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number == 0 else "right", no_wrap=True)
    return table


def _figures(found: ReliabilityReport) -> Table:
    table = _plain_table(f"{found.instants:,} instants, {found.pairs:,} outcomes", "", "found")
    table.add_row("slope, 1 is right", interval_text(found.slope))
    for name, one in found.slopes_alone.items():
        table.add_row(f"  {name} alone", interval_text(one))
    table.add_row("variance ratio, 1 is right", interval_text(found.variance_ratio))
    table.add_row("PIT: distance from even", f"{found.pit_test.distance:.4f}")
    table.add_row("CRPS, of no forecast", f"{found.crps:.5f}, {found.crps_base:.5f}")
    table.add_row("Brier, of the base rate", f"{found.brier.score:.6f}, {found.brier.base:.6f}")
    parts = f"{found.brier.reliability:.6f}, {found.brier.resolution:.6f}"
    table.add_row("  reliability, resolution", parts)
    table.add_row("  skill", interval_text(found.brier.skill, "+.3%"))
    return table


def _deciles(found: ReliabilityReport) -> Table:
    table = _plain_table("probability of the sign", "decile", "stated", "came", "outcomes")
    curve = found.curve
    rows = zip(curve.confidence, curve.frequency, curve.sizes, strict=True)
    for number, (said, came, size) in enumerate(rows, 1):
        table.add_row(f"{number}", f"{said:.2%}", f"{came:.2%}", f"{size:,}")
    return table


def _coverages(found: ReliabilityReport) -> Table:
    title, worst = "intervals", f"worst {ROLLING_DAYS} d"
    table = _plain_table(title, "", "nominal", "inside", worst, "from", "kept")
    for one in found.coverages:
        cells = coverage_cells(one)
        table.add_row(*("-" if isinstance(cell, Undefined) else str(cell) for cell in cells))
    for quarter in found.quarters:
        shares = (quarter.stated_coverage, quarter.adaptive_coverage)
        texts = ("-" if math.isnan(share) else f"{share:.1%}" for share in shares)
        table.add_row(quarter.name, "", " / ".join(texts))
    return table
