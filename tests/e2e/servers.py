"""Real servers on ports of their own, to be started, killed, frozen and thawed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """Start, kill, freeze and thaw a real server on a port of its own."""

    command: Sequence[str | Path]
    port: int
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(list(self.command), stdout=log, stderr=log)

    async def ready(self) -> None:
        async with asyncio.timeout(10):
            while not self._listens():  # noqa: ASYNC110 - a port tells nobody that it opens
                await asyncio.sleep(0.01)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def send(self, number: int) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    def freeze(self) -> None:
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.send(signal.SIGCONT)

    def flap(self) -> None:
        if self.process is None:
            self.start()
        else:
            self.kill()


@dataclass
class Servers:
    redis: Server
    mqtt: Server

    @property
    def overrides(self) -> tuple[str, ...]:
        return (
            f"redis.url=redis://127.0.0.1:{self.redis.port}",
            f"mqtt.url=mqtt://127.0.0.1:{self.mqtt.port}",
        )
