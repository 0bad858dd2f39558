"""`equipoise evaluate correlation`: which estimator predicts the covariance of returns best."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Final

import typer

from daemon.commands.evaluate.stress import fitting_tables, shown_share
from daemon.commands.options import (
    AsJson,
    ConfigFiles,
    Overrides,
    console,
    print_json,
    read_settings,
)
from daemon.report.figures import UNDEFINED
from daemon.research.correlation.judging import Judged, Measure
from daemon.research.correlation.results import Race, race_values
from daemon.runtime.logs import configure_logs
from daemon.wiring.correlation import (
    LOSSES_FILE,
    PAGE_FILE,
    RESOURCES_FILE,
    VALUES_FILE,
    WINDOW_DAYS,
    race,
    span_of,
)
from daemon.wiring.walk_forward import bars_to_walk

HEADINGS: Final = (
    "arm",
    "QLIKE less",
    "correlation less",
    "Frobenius less",
    "least var., %/y",
    "turnover",
    "neutral, %",
    "in sets",
)
SHOWN_SETS: Final = {
    "qlike": "Q",
    "correlation_qlike": "C",
    "frobenius": "F",
    "variance": "V",
    "neutral_variance": "N",
}


def correlation(
    arms: Annotated[
        str,
        typer.Option(help="Arms or groups, as historical,dcc,recurrent; empty: all of them."),
    ] = "",
    window_days: Annotated[
        int, typer.Option(min=14, max=730, help="Days of hours that a forecast is made from.")
    ] = WINDOW_DAYS,
    data: Annotated[
        Path | None, typer.Option(help="Folder of Parquet bars; default from settings.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder of page, figures, losses, walks; a run goes on in it.")
    ] = Path("reports/correlation"),
    processes: Annotated[
        int | None, typer.Option(min=0, help="Processes; 0 takes one a core. Default: settings.")
    ] = None,
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Race covariance estimators over blocks of 6 h and 24 h; see [walkforward].

    Bars are those of [backtest]; the recurrent network reads training.covariates. Writes
    correlation.html, correlation.json, losses.csv and resources.json.
    """
    chosen = [*(overrides or []), *([f"backtest.data_folder={data}"] if data is not None else [])]
    settings = read_settings(config, chosen, base="backtest.toml")
    configure_logs(settings.run.log_level, as_json=settings.run.log_json)
    bars = bars_to_walk(settings)
    with shown_share("walks", hidden=as_json) as done:
        found = race(
            settings,
            bars,
            out,
            arms=[name.strip() for name in arms.split(",") if name.strip()],
            window_days=window_days,
            processes=processes,
            done=done,
        )
    files = [str(out / name) for name in (PAGE_FILE, VALUES_FILE, LOSSES_FILE, RESOURCES_FILE)]
    if as_json:
        print_json({**race_values(found), "files": files})
        return
    show(found)
    for file in files:
        console().print(f"written: {file}", soft_wrap=True)


def show(found: Race) -> None:
    """Print the arms at each horizon, and the verdicts."""
    screen = console()
    for judged in found.judged:
        screen.print(
            f"{judged.hours} h: {judged.blocks_n:,} of {judged.all_n:,} blocks, {span_of(found)}",
            style="bold",
            soft_wrap=True,
        )
        rows = [(one.arm, *_cells(one, judged)) for one in judged.measures]
        for table in fitting_tables(HEADINGS, rows, screen.width):
            screen.print(table)
    for one in found.verdicts:
        screen.print(f"{one.claim}: {one.finding}. {one.text}: {one.why}", soft_wrap=True)
    words = "QLIKE, correlation alone, Frobenius, least variance, neutral books"
    screen.print(
        f"less: than {found.facts['baseline']}, below 0 is better, with half of the 95 % interval;"
        " neutral: deviation of random neutral books beside its; in sets: of 90 %, Q C F V N for"
        f" {words}",
        style="dim",
        soft_wrap=True,
    )


def _cells(one: Measure, judged: Judged) -> tuple[str, ...]:
    inside = [
        mark
        for loss, mark in SHOWN_SETS.items()
        if loss in judged.sets and one.arm in judged.sets[loss].members
    ]
    return (
        one.less_text("qlike") or UNDEFINED,
        one.less_text("correlation_qlike") or UNDEFINED,
        one.less_text("frobenius", 1e3) or UNDEFINED,
        _figure(100.0 * one.volatility, ".2f"),
        _figure(one.mean["turnover"], ".2f"),
        _figure(100.0 * one.neutral_risk, ".2f"),
        "".join(inside) or UNDEFINED,
    )


def _figure(value: float, spec: str) -> str:
    return format(value, spec) if math.isfinite(value) else UNDEFINED
