"""`equipoise replay` and `compare`: the journal again, and one run against another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from daemon.commands.options import (
    AsJson,
    ConfigFiles,
    Overrides,
    StateFolder,
    console,
    print_json,
    state_folder,
)
from daemon.domain.units import iso
from daemon.wiring.decisions import compare_runs, read_run
from daemon.wiring.run_report import write_run_report
from daemon.wiring.verification import Verification, verify_journal

DIVERGED_EXIT = 4


def replay(
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    state: StateFolder = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Fail unless every command is the recorded one.")
    ] = False,
) -> int:
    """Process a journal again and compare its commands.

    It ends at the first divergence, which is shown; with --verify the exit code is then 4. The
    hash chain is always checked; a broken one gives 74. The settings are those that the journal
    recorded.
    """
    folder = state_folder(config, overrides, state)
    with Progress(console=Console(stderr=True), disable=as_json, transient=True) as bar:
        task = bar.add_task("entries", total=None)
        found = verify_journal(folder, lambda n, total: bar.update(task, completed=n, total=total))
    if as_json:
        told = None if found.divergence is None else str(found.divergence)
        detail = None if found.divergence is None else asdict(found.divergence)
        print_json({**asdict(found), "divergence": told, "divergence_detail": detail})
    else:
        for line in _summary(found):
            console().print(line, soft_wrap=True, markup=False, highlight=False)
    return DIVERGED_EXIT if verify and found.divergence is not None else 0


def _summary(found: Verification) -> Iterator[str]:
    """Write for people what was replayed, and how it ended."""
    span = f", {iso(found.first_ms)} to {iso(found.last_ms)}" if found.last_ms else ""
    yield f"{found.entries:,} entries{span}"
    yield f"daemon started at entries {', '.join(f'{n:,}' for n in found.starts) or 'none'}"
    for name, counts in (("events", found.events), ("commands", found.commands)):
        yield f"{name}: {', '.join(f'{kind} {n:,}' for kind, n in counts.items()) or 'none'}"
    yield (
        f"{found.decisions:,} decisions, {found.orders:,} orders, {found.halts:,} halts, equity "
        f"{found.equity:,.2f}"
    )
    if found.divergence is None:
        yield "the hash chain is whole, and every command is the same to the byte"
        return
    yield "the hash chain is whole up to the first divergence:"
    yield from (f"  {line}" for line in found.divergence.lines())


def report(
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    state: StateFolder = None,
    out: Annotated[Path, typer.Option(help="Where the HTML report goes.")] = Path(
        "reports/run.html"
    ),
) -> None:
    """Write the HTML report of a run from its journal."""
    folder = state_folder(config, overrides, state)
    with Progress(console=Console(stderr=True), disable=as_json, transient=True) as bar:
        task = bar.add_task("entries", total=None)
        values = write_run_report(
            folder, out, lambda n, total: bar.update(task, completed=n, total=total)
        )
    if as_json:
        print_json(values)
        return
    table = Table.grid(padding=(0, 2))
    for name, value in values.items():
        shown = f"{value:,}" if isinstance(value, int | float) else str(value)
        table.add_row(name.replace("_", " "), shown)
    console().print(table)


def compare(
    left: Annotated[Path, typer.Argument(help="State folder, journal or decisions file.")],
    right: Annotated[Path, typer.Argument(help="State folder, journal or decisions file.")],
    as_json: AsJson = False,
    whole: Annotated[
        bool,
        typer.Option("--whole", help="A decision outside the common span is a difference too."),
    ] = False,
) -> int:
    """Compare the decisions of two runs by hash, from their first common instant to the last.

    Exit code 4 says that they differ.
    """
    found = compare_runs(read_run(left), read_run(right))
    same = found.same_whole if whole else found.same
    if as_json:
        print_json({**asdict(found), "same": same, "whole": whole})
    else:
        console().print(
            f"{found.compared:,} decisions at common instants, {found.equal:,} equal, "
            f"{found.orders:,} orders; only left {found.only_left}, only right {found.only_right}",
            soft_wrap=True,
        )
        if found.outside_left or found.outside_right:
            console().print(
                f"outside the common span: left {found.outside_left:,}, right "
                f"{found.outside_right:,} decisions, "
                + ("which is a difference" if whole else "not compared (--whole minds them)"),
                soft_wrap=True,
            )
        if found.first_difference:
            console().print(found.first_difference, soft_wrap=True)
    return 0 if same else DIVERGED_EXIT
