"""`equipoise rehearse`: the whole daemon against an exchange on this machine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from daemon.commands.options import Accepted, AsJson, ConfigFiles, Overrides, console, read_settings
from daemon.commands.running import run_until_signal, settled_start
from daemon.commands.training import ensure_champion
from daemon.commands.watching import Watcher
from daemon.domain.failures import DataError
from daemon.runtime.logs import configure_logs
from daemon.wiring.core import strategy_of
from daemon.wiring.data import fetch_history
from daemon.wiring.rehearsal import (
    Rehearsal,
    history_days,
    rehearsal_exchange,
    with_venue_time,
)
from daemon.wiring.session import SessionHooks, paper_session
from daemon.wiring.sinks import known_secrets


def rehearse(
    config: ConfigFiles = None,
    overrides: Overrides = None,
    accept: Accepted = None,
    as_json: AsJson = False,
    days: Annotated[
        float, typer.Option(help="Stop after so many days of market time; 0 runs on.", min=0)
    ] = 0.0,
    faults: Annotated[
        int | None,
        typer.Option(
            help="Let REST and streams fail at random, the same for one seed.",
            min=0,
            metavar="SEED",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print a line a day, no tables.")] = False,
    record: Annotated[
        Path | None,
        typer.Option(help="At the end, download what the exchange showed into this bar store."),
    ] = None,
) -> None:
    """Trade on paper against an exchange on this machine.

    The command starts that exchange itself. The first run trains a model on the market's history.
    A later run goes on where the last ended.
    """
    if faults is not None:
        overrides = [*(overrides or []), f"rehearsal.fault_seed={faults}"]
    settings = read_settings(config, overrides, base="rehearsal.toml")
    configure_logs(
        settings.run.log_level, as_json=settings.run.log_json, secrets=known_secrets(settings)
    )
    strategy_of(settings)  # a wrong one is named before an exchange is started and a model trained
    with rehearsal_exchange(settings) as rehearsal:
        ensure_champion(rehearsal.settings, as_json=as_json)
        watcher = Watcher(console(), as_json=as_json, quiet=quiet, days=days)
        hooks = SessionHooks(
            observers=(watcher, settled_start),
            on_warmup=watcher.on_warmup,
            on_ready=watcher.on_ready,
            on_page=watcher.on_page,
            on_end=watcher.market_over,
            speed=rehearsal.speed,
            is_rehearsal=True,
            reread=lambda: rehearsal.leading(
                read_settings(config, overrides, base="rehearsal.toml")
            ),
            accepted=frozenset(accept or ()),
            meta={"market": "rehearsal"},
        )
        run_until_signal(lambda: paper_session(rehearsal.settings, hooks), watcher.stops)
        watcher.finish()
        if record is not None:
            _record(rehearsal, record, as_json=as_json)


def _record(rehearsal: Rehearsal, folder: Path, *, as_json: bool) -> None:
    """Fetch the market through ccxt, as from any exchange: for a backtest to be compared with."""
    settings = with_venue_time(rehearsal.settings)
    fetched = asyncio.run(fetch_history(settings, history_days(settings), folder, lambda _: None))
    for problem in fetched.bars.problems:
        raise DataError(f"recording stopped: {problem}")
    if not as_json:
        rows = sum(one.rows for one in fetched.bars.symbols)
        console().print(f"recorded {rows:,} bars of {len(fetched.instruments)} coins in {folder}")
