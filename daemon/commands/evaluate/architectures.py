"""`equipoise evaluate architectures`: every kind of model against every other, on equal terms."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
from daemon.report.figures import UNDEFINED, counted
from daemon.research.architectures.arms import DEFAULT_GROUPS, Group, groups_of
from daemon.research.architectures.quality import HORIZON_H
from daemon.research.architectures.results import ArmReport, Results, results_values
from daemon.research.walk_forward.scores import ALL
from daemon.runtime.logs import configure_logs
from daemon.wiring.architecture_plan import Campaign
from daemon.wiring.architectures import (
    PAGE_FILE,
    RESOURCES_FILE,
    TABLES_FOLDER,
    VALUES_FILE,
    compare,
)
from daemon.wiring.walk_forward import bars_to_walk

HEADINGS: Final = (
    "arm",
    "RankIC",
    "t",
    "score IC",
    "t",
    "beyond",
    "t",
    "NLL",
    "F",
    "Sharpe net",
    "DSR",
    "params",
    "train s",
    "p95 ms",
)


def architectures(
    arms: Annotated[
        str, typer.Option(help=f"Groups of arms to compare, of {','.join(Group)}.")
    ] = ",".join(DEFAULT_GROUPS),
    kinds: Annotated[
        str, typer.Option(help="Kinds of the architectures, as bilstm,ridge; empty: all.")
    ] = "",
    data: Annotated[
        Path | None, typer.Option(help="Folder of Parquet bars; default from settings.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder of page, figures, tables, fits; a run goes on in it.")
    ] = Path("reports/architectures"),
    processes: Annotated[
        int | None, typer.Option(min=0, help="Processes; 0 takes one a core. Default: settings.")
    ] = None,
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Compare networks, other models, timeframes, regularisation, inputs; see [architectures].

    Bars are those of [backtest], folds those of [walkforward]. Writes architectures.html,
    architectures.json, resources.json and a table of predictions for each arm.
    """
    chosen = [*(overrides or []), *([f"backtest.data_folder={data}"] if data is not None else [])]
    settings = read_settings(config, chosen, base="backtest.toml")
    configure_logs(settings.run.log_level, as_json=settings.run.log_json)
    groups = groups_of(arms)
    bars = bars_to_walk(settings)
    with shown_share("arms", hidden=as_json) as done:
        results = compare(
            settings,
            bars,
            groups,
            out,
            kinds=[name.strip() for name in kinds.split(",") if name.strip()],
            processes=processes,
            told=lambda campaign: None if as_json else _tell(campaign),
            done=done,
        )
    files = [str(out / name) for name in (PAGE_FILE, VALUES_FILE, RESOURCES_FILE)]
    files += [str(out / TABLES_FOLDER / one.arm.file_name) for one in results.arms]
    if as_json:
        print_json({**results_values(results), "files": files})
        return
    show(results)
    for file in (*files[:3], f"{out / TABLES_FOLDER}: {counted(len(results.arms), 'table')}"):
        console().print(f"written: {file}", soft_wrap=True)


def _tell(campaign: Campaign) -> None:
    """Say before the first fit what is going to be done."""
    screen, effort = console(), campaign.effort
    screen.print(
        f"{counted(len(campaign.arms), 'arm')}, {counted(effort.fits_n, 'fit')} in"
        f" {counted(effort.folds_n, 'refit')}, {effort.steps:,} steps a network; fits take"
        f" {effort.core_s / 3600:.1f} core hours at nominal speed",
        soft_wrap=True,
    )
    if effort.reason:
        screen.print(f"reduced to fit its hours: {effort.reason}", style="yellow", soft_wrap=True)
    for one in campaign.absent:
        screen.print(f"not compared: {one.name}: {one.why}", style="yellow", soft_wrap=True)


def show(results: Results) -> None:
    """Print the arms by group, and the verdicts."""
    screen = console()
    for group in Group:
        mine = [one for one in results.arms if one.arm.group is group]
        if mine:
            screen.print(f"{group}: {len(results.at_ms):,} decisions", style="bold")
            for table in fitting_tables(HEADINGS, _rows(mine), screen.width):
                screen.print(table)
    for text in results.failures:
        screen.print(text, style="yellow", soft_wrap=True)
    for one in results.judged.verdicts:
        screen.print(f"{one.claim}: {one.finding}. {one.text}: {one.why}", soft_wrap=True)
    screen.print(
        "t is Newey and West's, which flatters; beyond: score IC after reversal, momentum and low"
        f" volatility; DSR allows for {counted(results.trials_n, 'trial')}",
        style="dim",
        soft_wrap=True,
    )


def _rows(arms: Sequence[ArmReport]) -> list[tuple[str, ...]]:
    return [(one.arm.name, *_cells(one)) for one in arms]


def _cells(one: ArmReport) -> tuple[str, ...]:
    found = one.measured
    whole = next(s for s in found.scores if s.period == ALL and s.horizon_h == HORIZON_H)
    left = next(s for s in found.beyond if s.period == ALL)
    sharpe = math.nan if one.traded is None else one.traded.metrics.sharpe
    deflated = math.nan if one.honest is None else one.honest["deflated_sharpe"].value
    resources = one.resources
    return (
        *_ic(whole.rank_ic.mean, whole.rank_ic.t),
        *_ic(whole.score_ic.mean, whole.score_ic.t),
        *_ic(left.score_ic.mean, left.score_ic.t),
        _figure(found.likelihood.mean, ".4f"),
        _figure(found.quality.friction, ".2f"),
        _figure(sharpe, "+.2f"),
        _figure(deflated, ".3f"),
        UNDEFINED if resources.parameters is None else f"{resources.parameters:,}",
        _figure(resources.train_s, ",.1f"),
        _figure(resources.decision_ms, ".2f"),
    )


def _ic(mean: float, t: float) -> tuple[str, str]:
    return _figure(mean, "+.4f"), _figure(t, "+.1f")


def _figure(value: float, spec: str) -> str:
    return format(value, spec) if math.isfinite(value) else UNDEFINED
