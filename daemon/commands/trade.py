"""`equipoise trade`: on paper with a real venue's public data, or live with real orders."""

from __future__ import annotations

from typing import Annotated

import typer

from daemon.commands.options import (
    Accepted,
    AsJson,
    ConfigFiles,
    Overrides,
    console,
    read_settings,
)
from daemon.commands.running import run_until_signal, settled_start
from daemon.commands.training import ensure_champion
from daemon.commands.watching import Watcher
from daemon.runtime.logs import configure_logs
from daemon.settings import Settings
from daemon.wiring.live_session import live_session, refuse_unfit
from daemon.wiring.session import SessionHooks, paper_session
from daemon.wiring.sinks import known_secrets


def trade(
    paper: Annotated[bool, typer.Option("--paper", help="Simulated fills; the default.")] = True,
    live: Annotated[
        bool, typer.Option("--live", help="Real orders, with [live] settings and a key.")
    ] = False,
    exchange: Annotated[
        str | None, typer.Option(help="A ccxt exchange id; default from settings.")
    ] = None,
    config: ConfigFiles = None,
    overrides: Overrides = None,
    accept: Accepted = None,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print a line a day, no tables.")] = False,
) -> None:
    """Trade on paper with public data of a real exchange; with --live with real orders.

    On paper no key is needed. Ctrl-C stops; a later start goes on with the same book. Without a
    champion a model is trained first, on the exchange's own history.
    """
    chosen = [*(overrides or []), *([f"exchange.id={exchange}"] if exchange is not None else [])]

    def read() -> Settings:
        return read_settings(config, chosen, base="paper.toml")

    settings = read()
    if live:
        refuse_unfit(settings)
    configure_logs(
        settings.run.log_level, as_json=settings.run.log_json, secrets=known_secrets(settings)
    )
    ensure_champion(settings, as_json=as_json)
    watcher = Watcher(console(), as_json=as_json, quiet=quiet)
    hooks = SessionHooks(
        observers=(watcher, settled_start),
        on_warmup=watcher.on_warmup,
        on_ready=watcher.on_ready,
        on_page=watcher.on_page,
        reread=read,
        accepted=frozenset(accept or ()),
    )
    session = live_session if live else paper_session
    run_until_signal(lambda: session(settings, hooks), watcher.stops)
    watcher.finish()
