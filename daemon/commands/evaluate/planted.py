"""`equipoise evaluate planted`: forecasters judged where it is known what there is to find."""

from __future__ import annotations

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
from daemon.research.planted_market import ArmOutcome, PlantedVerdict, arm_values
from daemon.runtime.logs import configure_logs
from daemon.wiring.planted_market import PlantedPlan, run_planted_market

FAILED_EXIT: Final = 1
PLANTED_FILE: Final = "planted.json"
_PLAN: Final = PlantedPlan()


def planted(
    kind: Annotated[str, typer.Option(help="Kind of network, as training.kind.")] = _PLAN.kind,
    ic: Annotated[float, typer.Option(help="True IC of the planted sequence.")] = _PLAN.planted_ic,
    days: Annotated[int, typer.Option(help="Days of history to train on.")] = _PLAN.train_days,
    decisions: Annotated[
        int, typer.Option(help="Decisions to score, six hours apart.")
    ] = _PLAN.decisions,
    coins: Annotated[int, typer.Option(help="Coins of the market.")] = _PLAN.coins,
    effort: Annotated[
        float, typer.Option(help="Effort of each network in seconds, as training.budget_s.")
    ] = _PLAN.budget_s,
    out: Annotated[
        Path | None, typer.Option(help="Write arms and verdict here; a killed run goes on.")
    ] = None,
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> int:
    """Train on a market with a planted sequence; judge what is found, and what is not."""
    settings = read_settings(config, overrides, base="backtest.toml")
    configure_logs(settings.run.log_level, as_json=settings.run.log_json)
    plan = PlantedPlan(
        planted_ic=ic,
        coins=coins,
        train_days=days,
        decisions=decisions,
        kind=kind,
        budget_s=effort,
    )
    with shown_share("arms", hidden=as_json) as progress:
        outcomes, verdict = run_planted_market(settings, plan, progress, folder=out)
    values = planted_values(outcomes, verdict)
    if out is not None:
        write_planted(out, values)
    if as_json:
        print_json(values)
    else:
        _print(outcomes, verdict, out)
    return 0 if verdict.passed else FAILED_EXIT


def planted_values(outcomes: Sequence[ArmOutcome], verdict: PlantedVerdict) -> dict[str, object]:
    """Give arms and checks as plain values."""
    return {
        "passed": verdict.passed,
        "summary": verdict.summary,
        "planted_ic": verdict.planted_ic,
        "arms": [arm_values(one) for one in outcomes],
        "checks": [
            {"name": c.name, "found": c.found, "wanted": c.wanted, "passed": c.passed}
            for c in verdict.checks
        ],
    }


def write_planted(folder: Path, values: dict[str, object]) -> None:
    """Write the values as one file; the same campaign gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(values, indent=1, sort_keys=True)
    (folder / PLANTED_FILE).write_text(text + "\n", encoding="utf-8")


def _print(outcomes: Sequence[ArmOutcome], verdict: PlantedVerdict, out: Path | None) -> None:
    from rich.table import Table

    shown = console()
    arms = Table("arm", "IC", "95 % interval", "t", "of the truth", "by timeframe")
    for one in outcomes:
        low, high = one.interval
        alone = ", ".join(f"{name} {share:.0%}" for name, share in one.shares.items())
        known = one.share == one.share
        arms.add_row(
            one.arm.value if one.arm.value == one.model else f"{one.arm.value} ({one.model})",
            f"{one.mean:+.4f}",
            f"{low:+.4f} to {high:+.4f}",
            f"{one.t:+.1f}",
            f"{one.share:.0%}" if known else "nothing to find",
            alone if known else "",
        )
    shown.print(arms)
    table = Table("check", "found", "wanted", "")
    for check in verdict.checks:
        table.add_row(check.name, check.found, check.wanted, "ok" if check.passed else "FAILED")
    shown.print(table)
    shown.print(
        verdict.summary, style=f"bold {'green' if verdict.passed else 'red'}", soft_wrap=True
    )
    if out is not None:
        shown.print(f"written: {out}")
