"""`equipoise evaluate report`: run what is configured, and show it as a fund would be shown it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from daemon.commands.backtest import shown_progress
from daemon.commands.options import (
    AsJson,
    ConfigFiles,
    Overrides,
    console,
    print_json,
    read_settings,
)
from daemon.domain.failures import ConfigurationError
from daemon.runtime.collector import collect_rarely
from daemon.settings import Settings
from daemon.wiring.backtest import run_backtest
from daemon.wiring.judging import write_folder


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
) -> None:
    """Write the tear sheet of a backtest, or of several side by side.

    Beside the page lie a folder for each run with its figures as JSON and its fills, fees, funding
    and days as CSV. Every run counts as a trial.
    """
    collect_rarely()
    wanted = [_arm(text, config, overrides) for text in arms or ()]
    if not wanted:
        wanted = [("run", read_settings(config, overrides, base="backtest.toml"))]
    _refuse_twins([name for name, _ in wanted])
    runs = []
    for name, settings in wanted:
        if as_json:
            runs.append((name, run_backtest(settings, command="evaluate report").run, settings))
            continue
        console().print(f"running {name}")
        with shown_progress() as progress:
            result = run_backtest(settings, progress, command="evaluate report")
        runs.append((name, result.run, settings))
    found, paths = write_folder(out, runs)
    if as_json:
        print_json(
            {
                "runs": {
                    name: {
                        "total_return": one.metrics.total_return,
                        "sharpe": one.honesty["sharpe"].value,
                        "verdict": one.honesty.headline,
                    }
                    for (name, _, _), one in zip(runs, found, strict=True)
                },
                "files": [str(path) for path in paths],
            }
        )
        return
    for (name, _, _), one in zip(runs, found, strict=True):
        console().print(f"{name}: {one.metrics.total_return:+.2%}. {one.honesty.headline}")
    console().print(f"wrote {paths[0]} and {len(paths) - 1} files beside it")


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
