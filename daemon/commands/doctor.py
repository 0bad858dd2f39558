"""`equipoise doctor`: is everything here that a run needs, and how much capital does it need."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from daemon.commands.options import (
    AsJson,
    ConfigFiles,
    Overrides,
    console,
    print_json,
    read_settings,
)
from daemon.runtime.logs import configure_logs
from daemon.settings import Settings
from daemon.wiring.checks import Finding, Verdict, examine
from daemon.wiring.rehearsal import rehearsal_exchange

BAD_EXIT: Final = 1
TABLE_COLUMNS: Final = 60
_STYLES: Final = {Verdict.GOOD: "green", Verdict.WARNING: "yellow", Verdict.BAD: "bold red"}


def doctor(
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask the exchange.")] = False,
    rehearsal: Annotated[
        bool, typer.Option("--rehearsal", help="Check a rehearsal instead of a real venue.")
    ] = False,
) -> int:
    """Check what a run needs; tell the least capital.

    Machine, settings, secrets, disk and its speed, clock, strategy, model, journal, Redis, MQTT,
    page, exchange and the rights of a key. Exit code 0 where nothing is bad, warnings or not, 1 if
    something is; settings that cannot be read end with 78.
    """
    settings = read_settings(
        config, overrides, base="rehearsal.toml" if rehearsal else "paper.toml"
    )
    configure_logs("error")
    if rehearsal and not offline:
        with rehearsal_exchange(settings) as running:
            return _report(running.settings, offline=False, as_json=as_json)
    return _report(settings, offline=offline, as_json=as_json)


def _report(settings: Settings, *, offline: bool, as_json: bool) -> int:
    found = examine(settings, offline=offline)
    bad = sum(one.verdict is Verdict.BAD for one in found)
    if as_json:
        print_json({"findings": [asdict(one) for one in found], "bad": bad})
    else:
        _show(console(), found)
    return BAD_EXIT if bad else 0


def _show(out: Console, found: list[Finding]) -> None:
    """Show a table, or where there is no room for one a paragraph a check."""
    table = Table("check", "", "what was seen", show_lines=False)
    for one in found:
        words = Text(one.text)
        if one.remedy and one.verdict is not Verdict.GOOD:
            words.append(f"\nto do: {one.remedy}", "bold")
        verdict = Text(str(one.verdict), _STYLES[one.verdict])
        if out.width >= TABLE_COLUMNS:
            table.add_row(one.name, verdict, words)
        else:
            out.print(Text.assemble(verdict, " ", (one.name, "bold"), ": ", words))
    if out.width >= TABLE_COLUMNS:
        out.print(table)
