"""`equipoise logs`: what a daemon logged, from the file in its state folder."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.text import Text

from daemon.commands.options import (
    AsJson,
    ConfigFiles,
    Overrides,
    StateFolder,
    console,
)
from daemon.commands.running import show_until_signal
from daemon.commands.running_settings import meant
from daemon.report.figures import QUIET, WARN
from daemon.wiring.log_reading import LogEntry, following, kept_entries
from daemon.wiring.looking import since_ms
from daemon.wiring.timing import wall_ms

LINES_N: Final = 50
_STYLES: Final = {"debug": QUIET, "info": "", "warning": WARN, "error": "bold red"}
_SHOWN_APART: Final = ("event", "level", "timestamp")


class Level(StrEnum):
    """Name the least important level that is shown."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def logs(
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    state: StateFolder = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")
    ] = False,
    level: Annotated[Level, typer.Option(help="Least important level.")] = Level.INFO,
    since: Annotated[
        str | None, typer.Option(help="30m, 2h, 3d before now, or an instant in UTC.")
    ] = None,
    count: Annotated[int, typer.Option("-n", help="The newest so many; 0: all.", min=0)] = LINES_N,
) -> None:
    """Show what the daemon logged; wall times in UTC.

    It is read from logs/daemon.log in the state folder, and the files before it. --json gives the
    lines as they are, one object each.
    """
    folder = state or meant(config, overrides).settings.run.state_folder
    start = since_ms(since, wall_ms())
    out = console()
    for entry in kept_entries(folder, level=level, since_ms=start, count=count or None):
        _print(out, entry, as_json=as_json)
    if follow:
        show_until_signal(_follow(folder, level, out, as_json=as_json))


async def _follow(folder: Path, level: Level, out: Console, *, as_json: bool) -> None:
    async for entry in following(folder, level=level):
        _print(out, entry, as_json=as_json)


def _print(out: Console, entry: LogEntry, *, as_json: bool) -> None:
    if as_json or not entry.values:
        typer.echo(entry.line)
        return
    out.print(_words(entry.values), soft_wrap=not out.is_terminal)


def _words(values: dict[str, Any] | Any) -> Text:
    """Write an entry as a line: time, level, what happened, and its fields."""
    at = str(values.get("timestamp", ""))[:19].replace("T", " ")
    level = str(values.get("level", ""))
    style = _STYLES.get(level, "bold red")
    line = Text.assemble(
        (f"{at} ", QUIET), (f"{level:<7} ", style), (str(values.get("event", "")), style or "bold")
    )
    for name, value in values.items():
        if name not in _SHOWN_APART:
            line.append(f"  {name}=", QUIET).append(str(value))
    return line
