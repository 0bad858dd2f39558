"""`equipoise status`: what the running daemon shows; reads Redis only."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.live import Live

from daemon.commands.options import (
    AsJson,
    ConfigFiles,
    Overrides,
    console,
    packaged_for_journal,
    print_json,
    read_settings,
)
from daemon.commands.running import show_until_signal
from daemon.report.terminal_status import status_view
from daemon.settings import Settings
from daemon.status.codec import plain
from daemon.wiring.status import is_shown, status_changes, status_once

NOT_RUNNING_EXIT = 3


def status(
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", help="Keep showing, until Ctrl-C.")] = False,
) -> int:
    """Show equity, positions, targets and recent events.

    A rehearsal that runs with these settings is shown before a paper run; the one that left a book
    here is named when nothing runs, with exit code 3.
    """
    settings = _running(config, overrides)
    if watch and is_shown(settings):
        show_until_signal(_watch(settings, as_json=as_json))
        return 0
    values = asyncio.run(status_once(settings))
    if as_json:
        print_json(plain(values))
    else:
        console().print(status_view(values))
    return 0 if values.get("daemon") == "running" else NOT_RUNNING_EXIT


def _running(config: ConfigFiles, overrides: Overrides) -> Settings:
    """Choose whose status is meant: of a rehearsal that runs with these settings, else of paper.

    Where neither is there, it is the one whose state folder is.
    """
    rehearsal = read_settings(config, overrides, base="rehearsal.toml")
    if is_shown(rehearsal):
        seen = asyncio.run(status_once(rehearsal))
        if seen.get("daemon") == "running":
            return rehearsal
    paper = read_settings(config, overrides, base="paper.toml")
    if is_shown(paper):
        return paper
    return read_settings(config, overrides, base=packaged_for_journal(config, overrides))


async def _watch(settings: Settings, *, as_json: bool) -> None:
    if as_json:
        async for values in status_changes(settings):
            print_json(plain(values))
        return
    with Live(console=console(), screen=False, auto_refresh=False) as live:
        async for values in status_changes(settings):
            live.update(status_view(values), refresh=True)
