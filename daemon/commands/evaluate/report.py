"""`equipoise evaluate report`: run what is configured, and show it as a fund would be shown it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from daemon.commands.evaluate.stress import shown_share
from daemon.commands.options import (
    AsJson,
    ConfigFiles,
    Overrides,
    console,
    print_json,
    read_settings,
)
from daemon.domain.failures import ConfigurationError
from daemon.report.judged import Judged
from daemon.runtime.collector import collect_rarely
from daemon.settings import Settings
from daemon.wiring.arms import Task, run_arms, run_whole, workers_of
from daemon.wiring.judging import MARKET_BENCHMARK, refuse_benchmark, write_folder
from daemon.wiring.timing import memory_mb, wall_seconds


def report(
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    arms: Annotated[
        list[str] | None,
        typer.Option(
            "--arm",
            help="NAME:section.key=value[;section.key=value], a run to compare; repeat for more.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the page and the tables.")] = Path(
        "reports/evaluation"
    ),
    benchmark: Annotated[
        str,
        typer.Option(help="What information ratios are against: market, BTC, ETH or arm:NAME."),
    ] = MARKET_BENCHMARK,
    processes: Annotated[
        int | None, typer.Option(min=0, help="Processes; 0 takes one a core. Default: settings.")
    ] = None,
) -> None:
    """Write the tear sheet of a backtest, or of several side by side.

    Beside the page lie a folder for each run with its figures as JSON and its fills, fees, funding
    and days as CSV. Every run counts as a trial. The files do not depend on the number of
    processes.
    """
    collect_rarely()
    started_s = wall_seconds()
    wanted = [_arm(text, config, overrides) for text in arms or ()]
    if not wanted:
        wanted = [("run", read_settings(config, overrides, base="backtest.toml"))]
    _refuse_twins([name for name, _ in wanted])
    refuse_benchmark(benchmark, dict(wanted))
    tasks = [Task(name, settings, "evaluate report") for name, settings in wanted]
    with shown_share("runs", hidden=as_json) as done:
        made = run_arms(workers_of(wanted[0][1], processes), run_whole, tasks, done)
    runs = [(name, run, settings) for (name, settings), run in zip(wanted, made, strict=True)]
    with shown_share("report", hidden=as_json) as done:
        found, paths = write_folder(out, runs, done, benchmark)
    if as_json:
        print_json(_values(found, paths))
        return
    for one in found:
        console().print(f"{one.name}: {one.metrics.total_return:+.2%}. {one.honesty.headline}")
    console().print(f"wrote {paths[0]} and {len(paths) - 1} files beside it")
    ours, theirs = memory_mb()
    took = f"{wall_seconds() - started_s:.1f} s; peak memory {ours:,.0f} MB here"
    console().print(f"{took}, {theirs:,.0f} MB in the largest worker", style="dim")


def _values(found: Sequence[Judged], paths: Sequence[Path]) -> dict[str, object]:
    return {
        "runs": {
            one.name: {
                "total_return": one.metrics.total_return,
                "sharpe": one.honesty["sharpe"].value,
                "information_ratio": one.metrics.information_ratio,
                "benchmark": one.benchmark,
                "verdict": one.honesty.headline,
            }
            for one in found
        },
        "files": [str(path) for path in paths],
    }


def _arm(
    text: str, config: Sequence[Path] | None, overrides: Sequence[str] | None
) -> tuple[str, Settings]:
    name, colon, rest = text.partition(":")
    plain = name.replace("-", "").replace("_", "").replace(".", "").isalnum() and name[0] != "."
    if not colon or not plain:
        raise ConfigurationError(
            f"--arm {text!r}: accepted: NAME:section.key=value, with ; between several settings; "
            "the name becomes a folder: letters, digits, - _ and ."
        )
    own = [one.strip() for one in rest.split(";") if one.strip()]
    return name, read_settings(config, [*(overrides or ()), *own], base="backtest.toml")


def _refuse_twins(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"--arm {name}: the name is given twice")
