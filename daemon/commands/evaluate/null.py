"""`equipoise evaluate null`: the machine judged on markets where the truth is known."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

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
from daemon.research.null_market import NullVerdict, SeedOutcome, outcome_row
from daemon.runtime.logs import configure_logs
from daemon.wiring.null_market import PLANTED_TEST_DAYS, NullPlan, run_null_markets

FAILED_EXIT: Final = 1
SEEDS_FILE: Final = "null-seeds.csv"
VERDICT_FILE: Final = "null-verdict.json"


def null(
    seeds: Annotated[int, typer.Option(help="Markets without any pattern.")] = 100,
    planted: Annotated[int, typer.Option(help="Markets with a planted pattern.")] = 2,
    ic: Annotated[float, typer.Option(help="True IC of the planted pattern.")] = 0.05,
    days: Annotated[int, typer.Option(help="Days that a null market is traded.")] = 40,
    planted_days: Annotated[
        int, typer.Option(help="Days that a market with a pattern is traded.")
    ] = PLANTED_TEST_DAYS,
    processes: Annotated[
        int | None, typer.Option(help="Worker processes; default from settings.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write seeds as CSV and the verdict as JSON here.")
    ] = None,
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> int:
    """Run the whole machine on markets with nothing to find, and with a known edge."""
    settings = read_settings(config, overrides, base="backtest.toml")
    configure_logs(settings.run.log_level, as_json=settings.run.log_json)
    plan = NullPlan(
        seeds=seeds,
        planted=planted,
        planted_ic=ic,
        test_days=days,
        planted_test_days=planted_days,
    )
    count = settings.evaluation.processes if processes is None else processes
    with shown_share("markets", hidden=as_json) as progress:
        outcomes, verdict = run_null_markets(settings, plan, count, progress)
    if out is not None:
        write_null(out, outcomes, verdict)
    if as_json:
        print_json(verdict_values(verdict))
    else:
        _print(verdict, out)
    return 0 if verdict.passed else FAILED_EXIT


def write_null(folder: Path, outcomes: Sequence[SeedOutcome], verdict: NullVerdict) -> None:
    """Write one row a seed and the verdict; the same campaign gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [outcome_row(one) for one in outcomes]
    with (folder / SEEDS_FILE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    text = json.dumps(verdict_values(verdict), indent=1, sort_keys=True)
    (folder / VERDICT_FILE).write_text(text + "\n", encoding="utf-8")


def verdict_values(verdict: NullVerdict) -> dict[str, object]:
    """Give a verdict as plain values."""
    return {
        "passed": verdict.passed,
        "summary": verdict.summary,
        "not_judged": list(verdict.unjudged),
        "checks": [
            {"name": c.name, "found": c.found, "wanted": c.wanted, "passed": c.passed}
            for c in verdict.checks
        ],
        "notes": list(verdict.notes),
    }


def _print(verdict: NullVerdict, out: Path | None) -> None:
    from rich.table import Table

    shown = console()
    table = Table("check", "found", "wanted", "")
    for check in verdict.checks:
        table.add_row(check.name, check.found, check.wanted, "ok" if check.passed else "FAILED")
    shown.print(table)
    for note in verdict.notes:
        shown.print(f"note: {note}", style="yellow")
    colour = "red" if not verdict.passed else "yellow" if verdict.unjudged else "green"
    shown.print(verdict.summary, style=f"bold {colour}", soft_wrap=True)
    if out is not None:
        shown.print(f"written: {out}")
