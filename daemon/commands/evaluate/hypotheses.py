"""`equipoise evaluate hypotheses`: the founding claims, judged by thresholds fixed beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from daemon.commands.evaluate.stress import shown_share
from daemon.commands.options import AsJson, console, print_json, read_settings
from daemon.research.hypotheses import Verdict
from daemon.research.hypothesis_page import Campaign, campaign_json, source_of
from daemon.wiring.arms import workers_of
from daemon.wiring.hypotheses import registered_protocol, run_hypotheses, write_campaign

STYLES = {Verdict.SUPPORTED: "green", Verdict.REFUTED: "red", Verdict.PENDING: "dim"}


def hypotheses(
    data: Annotated[
        Path | None, typer.Option(help="Folder of Parquet bars; default from settings.")
    ] = None,
    only: Annotated[str, typer.Option(help="Ids to judge, as H11,H14; empty for all.")] = "",
    out: Annotated[Path, typer.Option(help="Folder for the page and its figures.")] = Path(
        "reports/hypotheses"
    ),
    protocol: Annotated[
        Path | None, typer.Option(help="Another protocol than the registered one; it is said so.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=0, help="Processes; 0 takes one a core. Default: settings.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge the registered hypotheses on recorded bars."""
    settings = read_settings(None, None, base="backtest.toml")
    registered = registered_protocol(protocol)
    folder = data if data is not None else Path(settings.backtest.data_folder)
    ids = [name.strip() for name in only.split(",") if name.strip()]
    if not as_json:
        # before the run, so that what was fixed beforehand is on record whatever comes out
        console().print(f"protocol sha256 {registered.sha256}", soft_wrap=True)
    workers = workers_of(settings, processes)
    with shown_share("runs", hidden=as_json) as done:
        campaign = run_hypotheses(registered, folder, workers, only=ids, done=done)
    paths = write_campaign(campaign, out)
    if as_json:
        print_json({**campaign_json(campaign), "files": [str(path) for path in paths]})
    else:
        _print(campaign, paths)


def _print(campaign: Campaign, paths: tuple[Path, Path]) -> None:
    screen, table = console(), Table("id", "verdict", "why")
    for card in campaign.cards:
        judgement = card.judgement
        style = STYLES.get(judgement.verdict, "")
        table.add_row(card.hypothesis.id, str(judgement.verdict), judgement.reason, style=style)
    screen.print(f"Judged by {source_of(campaign)}.", soft_wrap=True)
    screen.print(table)
    for path in paths:
        screen.print(f"written: {path}", soft_wrap=True)
