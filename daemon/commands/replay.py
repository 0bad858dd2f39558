"""`equipoise replay` and `compare`: the journal again, and one run against another."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from daemon.commands.options import (
    AsJson,
    ConfigFiles,
    Overrides,
    console,
    print_json,
    read_settings,
)
from daemon.wiring.decisions import compare_runs, read_run
from daemon.wiring.verification import verify_journal

DIVERGED_EXIT = 4


def replay(
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    state: Annotated[
        Path | None, typer.Option(help="State folder; default from settings.", show_default=False)
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Fail unless every command is the recorded one.")
    ] = False,
) -> int:
    """Process a journal's events again and show what came of it; exit code 4 on a divergence.

    The hash chain is always checked. Use the same settings as the run that wrote the journal.
    """
    chosen = [*(overrides or []), *([f"run.state_folder={state}"] if state is not None else [])]
    settings = read_settings(config, chosen, base="rehearsal.toml")
    with Progress(console=Console(stderr=True), disable=as_json) as bar:
        task = bar.add_task("entries", total=None)
        found = verify_journal(
            settings, lambda n, total: bar.update(task, completed=n, total=total)
        )
    divergence = str(found.divergence) if found.divergence is not None else None
    if as_json:
        print_json({**asdict(found), "divergence": divergence})
    else:
        out = console()
        out.print(
            f"{found.entries:,} entries, {found.decisions:,} decisions, {found.orders:,} orders, "
            f"equity {found.equity:,.2f}; the hash chain is whole"
        )
        out.print(f"first divergence: {divergence}" if divergence else "every command is the same")
    return DIVERGED_EXIT if verify and divergence else 0


def compare(
    left: Annotated[Path, typer.Argument(help="State folder, journal or decisions file.")],
    right: Annotated[Path, typer.Argument(help="State folder, journal or decisions file.")],
    as_json: AsJson = False,
) -> int:
    """Compare the decisions of two runs by hash; exit code 4 when they differ."""
    found = compare_runs(read_run(left), read_run(right))
    if as_json:
        print_json({**asdict(found), "same": found.same})
    else:
        console().print(
            f"{found.compared:,} decisions at common instants, {found.equal:,} equal, "
            f"{found.orders:,} orders; only left {found.only_left}, only right {found.only_right}"
        )
        if found.first_difference:
            console().print(found.first_difference)
    return 0 if found.same else DIVERGED_EXIT
