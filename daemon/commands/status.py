"""`equipoise status`: what the running daemon shows; reads Redis only."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Annotated, Final

import typer
from rich.live import Live

from daemon.commands.options import AsJson, ConfigFiles, Overrides, StateFolder, console, print_json
from daemon.commands.running import show_until_signal
from daemon.commands.running_settings import meant
from daemon.report.terminal_status import status_view
from daemon.report.terminal_watch import NOTHING_YET, watch_line, watch_view
from daemon.settings import Settings
from daemon.status.codec import plain
from daemon.wiring.status import is_shown, status_changes, status_once
from daemon.wiring.timing import wall_ms

NOT_RUNNING_EXIT = 3
DRAW_S: Final = 0.25  # at most so often; a rehearsal tells of changes many times a second
TICK_S: Final = 1.0  # and at least so often: the countdown moves


def status(
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    state: StateFolder = None,
    watch: Annotated[
        bool,
        typer.Option("--watch", "-w", help="One live screen, or plain lines in a pipe, to Ctrl-C."),
    ] = False,
) -> int:
    """Show equity, positions, targets and recent events.

    A rehearsal that runs with these settings is shown before a paper run; the one that left a book
    here is named when nothing runs, with exit code 3.
    """
    settings = meant(config, overrides, state).settings
    if watch and is_shown(settings):
        show_until_signal(_watch(settings, as_json=as_json))
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
    elif console().is_terminal:
        await _screen(settings)
    else:
        await _lines(settings)


async def _lines(settings: Settings) -> None:
    """Print a plain line whenever the one before says something else."""
    seen, told = NOTHING_YET, ""
    async for values in status_changes(settings):
        seen = seen.with_look(values, wall_ms())
        line = watch_line(seen)
        if line != told:
            typer.echo(line)
            told = line


async def _screen(settings: Settings) -> None:
    """Draw the live view on a screen of its own, which is given back as it was at the end.

    Reading is the task that a signal cancels, again and again until it ends: a time-out inside it
    may take one cancellation for its own. Drawing only sleeps, and ends at the first.
    """
    out, news = console(), asyncio.Event()
    seen = NOTHING_YET

    async def draw(live: Live) -> None:
        while True:
            live.update(watch_view(seen, wall_ms(), out.width, out.height), refresh=True)
            await asyncio.sleep(DRAW_S)
            with suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), TICK_S - DRAW_S)
            news.clear()

    with Live(console=out, screen=True, auto_refresh=False) as live:
        drawing = asyncio.create_task(draw(live), name="draw status")
        try:
            async for values in status_changes(settings):
                seen = seen.with_look(values, wall_ms())
                news.set()
                if drawing.done():
                    drawing.result()
        finally:
            drawing.cancel()
