"""`equipoise summary`: what a day brought, from the journal."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer
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
from daemon.domain.failures import ConfigurationError
from daemon.domain.units import instant_ms
from daemon.status.codec import plain
from daemon.wiring.summary import day_summary, newest_day


def summary(
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    state: StateFolder = None,
    day: Annotated[
        str | None,
        typer.Option("--day", help="YYYY-MM-DD, UTC; default the newest whole day."),
    ] = None,
) -> int:
    """Show P&L, exposure, costs and trading of a day, from the journal; the daemon may run.

    It is what the daemon told at the end of that day.
    """
    journal = state_folder(config, overrides, state) / "journal.sqlite"
    start_ms = newest_day(journal) if day is None else _start(day)
    values: dict[str, object] = plain(day_summary(journal, start_ms))
    if as_json:
        print_json(values)
        return 0
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in values.items():
        table.add_row(name.replace("_", " "), _text(value))
    console().print(table)
    return 0


def _start(day: str) -> int:
    try:
        moment = datetime.strptime(f"{day} +0000", "%Y-%m-%d %z")
    except ValueError:
        raise ConfigurationError(f"--day {day!r}: accepted is YYYY-MM-DD") from None
    return instant_ms(moment)


def _text(value: object) -> str:
    match value:
        case None:
            return "not known"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:,.6g}"
        case _:
            return str(value)
