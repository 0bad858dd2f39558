"""The process of the status page: `python -m daemon.wiring.web_process DESCRIPTOR`.

The daemon starts it and holds the other end of the descriptor; nobody else has a use for it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from adapters.clocks import TransportClock
from adapters.prometheus_text import exposition
from adapters.web.app import Sources, page
from adapters.web.guards import Doorkeeper, Guard, names_of
from adapters.web.hub import Hub
from adapters.web.line import LINE_BYTES_MAX
from adapters.web.serving import Serving, hello_of, line_of
from daemon.domain.failures import EquipoiseError
from daemon.runtime.logs import configure_logs
from daemon.wiring.web_past import Past

POLITENESS: Final = 5  # trading comes first where both want the processor


async def serve(descriptor: int) -> None:
    """Serve the page until the daemon's line ends."""
    reader, writer = await line_of(descriptor, LINE_BYTES_MAX)
    hello = await hello_of(reader)
    clock, past = TransportClock(), Past(Path(hello["state_folder"]))
    doorkeeper = Doorkeeper(hello["token"], clock.monotonic, private=hello["private"])
    facts = {**hello["facts"], "takes_commands": doorkeeper.takes_commands}
    hub = Hub(facts, clock.monotonic, clock.wall_ms, clients_max=hello["clients_max"])
    sources = Sources(past.decision, past.candles, past.command, exposition)
    serving = Serving(
        hub,
        _maker(hub, sources, doorkeeper, hello),
        host=hello["host"],
        port=hello["port"],
        clients_max=hello["clients_max"],
    )
    remembering = asyncio.create_task(_remember(hub, past), name="remember")
    try:
        await serving.run(reader, writer)
    finally:
        remembering.cancel()
        writer.close()


def _maker(
    hub: Hub, sources: Sources, doorkeeper: Doorkeeper, hello: Mapping[str, Any]
) -> Callable[[Callable[[], int]], Guard]:
    def make(port: Callable[[], int]) -> Guard:
        names = names_of(hello["host"], port(), hello["names"])
        return page(hub, sources, doorkeeper, lambda: names)

    return make


async def _remember(hub: Hub, past: Past) -> None:
    """Put what the journal knows in front of what the daemon tells."""
    try:
        told = await asyncio.to_thread(past.before)
    except EquipoiseError:
        return  # a new book has none yet; a broken one is the daemon's to tell
    hub.trail.remember(told.points)
    hub.recall(told.states)
    hub.remember("decision", told.decisions)
    hub.remember("fill", told.fills)


def main() -> None:
    """Run until the daemon is gone; the signals of a terminal are for the daemon."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(POLITENESS)
    configure_logs("warning")
    asyncio.run(serve(int(sys.argv[1])))


if __name__ == "__main__":
    main()
