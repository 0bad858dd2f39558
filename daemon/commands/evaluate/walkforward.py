"""`equipoise evaluate walkforward`: forecasts out of sample over years, scored and kept."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Final, Literal

import typer
from rich import box
from rich.table import Table

from daemon.commands.evaluate.stress import shown_share
from daemon.commands.options import (
    AsJson,
    ConfigFiles,
    Overrides,
    console,
    print_json,
    read_settings,
)
from daemon.domain.units import iso
from daemon.research.walk_forward.scores import COMBINED, Score
from daemon.runtime.logs import configure_logs
from daemon.wiring.combinations import FILE as CPCV_FILE
from daemon.wiring.combinations import (
    WARNING,
    Scatter,
    combinations_of,
    cross_validate,
    scatter_values,
)
from daemon.wiring.walk_forward import (
    SCORES_FILE,
    ArmResult,
    WalkForward,
    bars_to_walk,
    walk_forward,
    walk_forward_values,
)

UNKNOWN: Final = "-"


def walkforward(
    kinds: Annotated[
        str, typer.Option(help="Kinds of models, as ridge,bilstm,lightgbm; empty: training.kind.")
    ] = "",
    data: Annotated[
        Path | None, typer.Option(help="Folder of Parquet bars; default from settings.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for tables, scores and fits; a run goes on in it.")
    ] = Path("reports/walkforward"),
    processes: Annotated[
        int | None, typer.Option(min=0, help="Processes; 0 takes one a core. Default: settings.")
    ] = None,
    combinations: Annotated[
        bool, typer.Option(help="Score every rule of combination too; each is one more trial.")
    ] = False,
    cpcv: Annotated[
        str, typer.Option(help="GROUPS,TESTED as 6,2: scatter of fits that know the future.")
    ] = "",
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Refit models over time and score what they say of the time after; see [walkforward].

    Bars are those of [backtest]. Writes KIND.parquet, a table that backtests replay
    (estimator.kind = table), and walkforward.json.
    """
    chosen = [*(overrides or []), *([f"backtest.data_folder={data}"] if data is not None else [])]
    settings = read_settings(config, chosen, base="backtest.toml")
    configure_logs(settings.run.log_level, as_json=settings.run.log_json)
    names = [name.strip() for name in kinds.split(",") if name.strip()]
    names = names or [settings.training.kind]
    combination = combinations_of(cpcv) if cpcv else None
    bars = bars_to_walk(settings)
    with shown_share("fits", hidden=as_json) as done:
        result = walk_forward(
            settings, bars, names, out, every_rule=combinations, processes=processes, done=done
        )
    scatter = None
    if combination is not None:
        with shown_share("combinations", hidden=as_json) as done:
            scatter = cross_validate(
                settings,
                bars,
                result.plan,
                names,
                out,
                combination,
                processes=processes,
                done=done,
            )
    if as_json:
        files = [str(arm.path) for arm in result.arms] + [str(out / SCORES_FILE)]
        more = {} if scatter is None else {"cpcv": scatter_values(scatter)}
        print_json({**walk_forward_values(result), **more, "files": files})
        return
    _print(result, out)
    if scatter is not None:
        _print_scatter(scatter, out)


def _print(result: WalkForward, out: Path) -> None:
    screen, folds = console(), result.plan.folds
    screen.print(
        f"{len(folds)} fits in time, tested from {iso(folds[0].test.start_ms)} to"
        f" {iso(folds[-1].test.end_ms - 1)}; no label that was learned from reaches a test",
        soft_wrap=True,
    )
    for arm in result.arms:
        screen.print(_table(arm))
        there = arm.fits_n - arm.fitted_n
        screen.print(f"{arm.fitted_n} fits computed, {there} were there", style="dim")
        rules = " ".join(one.reading.rule for one in arm.stitched.learned)
        screen.print(f"combined, fit by fit: {rules}", style="dim")
    screen.print(
        "t is Newey and West's, which flatters; ± is the 95 % interval to rely on; n instants",
        style="dim",
        soft_wrap=True,
    )
    for path in (*(arm.path for arm in result.arms), out / SCORES_FILE):
        screen.print(f"written: {path}", soft_wrap=True)


def _print_scatter(scatter: Scatter, out: Path) -> None:
    screen = console()
    screen.print(f"warning: {WARNING}", style="yellow", soft_wrap=True)
    for kind, paths in scatter.paths.items():
        for name in ("rank_ic", "score_ic"):
            figures = sorted(getattr(path, name) for path in paths)
            low, high = _figure(figures[0], "+.4f"), _figure(figures[-1], "+.4f")
            words = name.replace("_ic", " IC")
            screen.print(f"{kind}: {words} of {len(paths)} paths from {low} to {high}")
    screen.print(f"written: {out / CPCV_FILE}", soft_wrap=True)


def _table(arm: ArmResult) -> Table:
    title, padding = f"{arm.name}, table {arm.table_id}", (0, 0, 0, 1)
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, padding=padding)
    for name in ("signal", "h", "period", "rank IC", "t", "score IC", "t", "hits", "n"):
        side: Literal["left", "right"] = "left" if name in ("signal", "period") else "right"
        table.add_column(name, justify=side, no_wrap=True)
    before = ""
    for score in arm.scores:
        if score.signal != COMBINED and score.period != "all":
            continue
        if before and before != f"{score.signal} {score.horizon_h}":
            table.add_section()
        before = f"{score.signal} {score.horizon_h}"
        table.add_row(*_cells(score))
    return table


def _cells(score: Score) -> tuple[str, ...]:
    ranked, scored = score.rank_ic, score.score_ic
    return (
        score.signal,
        f"{score.horizon_h}",
        score.period,
        _with_interval(ranked.mean, ranked.low, ranked.high),
        _figure(ranked.t, "+.1f"),
        _with_interval(scored.mean, scored.low, scored.high),
        _figure(scored.t, "+.1f"),
        _figure(score.hit_rate, ".1%"),
        f"{ranked.instants}",
    )


def _with_interval(mean: float, low: float, high: float) -> str:
    found, half = _figure(mean, "+.4f"), _figure((high - low) / 2, ".4f")  # it lies evenly
    text = f"{found} ±{half}" if half != UNKNOWN else found
    return text.replace("0.", ".")  # a correlation; eighty columns are few


def _figure(value: float, spec: str) -> str:
    return UNKNOWN if math.isnan(value) else format(value, spec)
