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
    packaged_for_status,
    print_json,
    read_settings,
)
from daemon.report.terminal_status import status_view
from daemon.settings import Settings
from daemon.status.codec import plain
from daemon.wiring.status import status_changes, status_once

NOT_RUNNING_EXIT = 3


def status(
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", help="Keep showing, until Ctrl-C.")] = False,
) -> int:
    """Show equity, positions, targets and what happened last; exit code 3 when nothing runs.

    Without -c the rehearsal's state folder is tried first, then the paper one.
    """
    settings = read_settings(config, overrides, base=packaged_for_status(config, overrides))
    if watch:
        asyncio.run(_watch(settings, as_json=as_json))
        return 0
    values = asyncio.run(status_once(settings))
    if as_json:
        print_json(plain(values))
    else:
        console().print(status_view(values))
    return 0 if values.get("daemon") == "running" else NOT_RUNNING_EXIT


async def _watch(settings: Settings, *, as_json: bool) -> None:
    if as_json:
        async for values in status_changes(settings):
            print_json(plain(values))
        return
    with Live(console=console(), screen=False, auto_refresh=False) as live:
        async for values in status_changes(settings):
            live.update(status_view(values), refresh=True)
