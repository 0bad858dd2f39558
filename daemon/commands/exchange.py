"""`equipoise exchange`: the rehearsal exchange alone, for whatever wants to trade on it."""

from __future__ import annotations

import asyncio
import os

from daemon.commands.options import (
    AsJson,
    ConfigFiles,
    Overrides,
    console,
    print_json,
    read_settings,
)
from daemon.commands.running import show_until_signal
from daemon.settings import Settings
from daemon.wiring.rehearsal import ServedExchange, served_exchange


def exchange(
    config: ConfigFiles = None, overrides: Overrides = None, as_json: AsJson = False
) -> None:
    """Serve the rehearsal exchange alone, without a daemon.

    Its market is that of [rehearsal], from its beginning. In lock-step it stands still until a
    client moves it: choose rehearsal.pace = "realtime" or a number. Ctrl-C stops it.
    """
    settings = read_settings(config, overrides, base="rehearsal.toml")
    show_until_signal(_serve(settings, as_json=as_json))


async def _serve(settings: Settings, *, as_json: bool) -> None:
    async with served_exchange(settings) as served:
        if as_json:
            print_json(_values(served))
        else:
            console().print(
                f"the rehearsal exchange serves {len(served.symbols)} coins on {served.rest_url}, "
                f"pace {_pace(settings.rehearsal.pace)}; Ctrl-C stops it",
                soft_wrap=True,
            )
        await asyncio.Event().wait()  # until a signal cancels it


def _pace(pace: str | float) -> str:
    return pace if isinstance(pace, str) else f"{pace:g} x real time"


def _values(served: ServedExchange) -> dict[str, object]:
    return {
        "type": "serving",
        "pid": os.getpid(),
        "rest_url": served.rest_url,
        "ws_url": served.ws_url,
        "symbols": list(served.symbols),
        "ccxt_options": dict(served.ccxt_options),
    }
