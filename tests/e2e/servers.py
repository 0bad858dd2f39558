"""Real servers that show a daemon to people, to be killed, frozen and started again."""

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
from random import Random


def free_port() -> int:
    """Give a port that nobody listens at."""
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
    is_frozen: bool = False

    def start(self) -> None:
        """Start it; `ready` waits until it listens."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(list(self.command), stdout=log, stderr=log)

    async def ready(self) -> None:
        """Wait until it listens."""
        async with asyncio.timeout(10):
            while not self._listens():  # noqa: ASYNC110 - a port tells nobody that it opens
                await asyncio.sleep(0.01)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        """End it without a goodbye."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process, self.is_frozen = None, False

    def freeze(self) -> None:
        """Let it hold its sockets and do nothing."""
        self._send(signal.SIGSTOP)
        self.is_frozen = True

    def thaw(self) -> None:
        """Let it go on."""
        self._send(signal.SIGCONT)
        self.is_frozen = False

    def flap(self) -> None:
        """Start it if it is dead, kill it if it lives."""
        if self.process is None:
            self.start()
        else:
            self.kill()

    def suffer(self, dice: Random) -> str:
        """Take the next turn for the worse or for the better; says which."""
        if self.process is None:
            self.start()
            return "started"
        if self.is_frozen:
            self.thaw()
            return "thawed"
        if dice.random() < 0.5:
            self.freeze()
            return "frozen"
        self.kill()
        return "killed"

    def _send(self, number: int) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)


@dataclass
class Servers:
    """Hold a Redis and an MQTT server."""

    redis: Server
    mqtt: Server

    @property
    def all(self) -> tuple[Server, ...]:
        """Give both."""
        return self.redis, self.mqtt

    @property
    def overrides(self) -> tuple[str, ...]:
        """Give the settings by which a daemon finds them."""
        return (
            f"redis.url=redis://127.0.0.1:{self.redis.port}",
            f"mqtt.url=mqtt://127.0.0.1:{self.mqtt.port}",
        )

    def end(self) -> None:
        """Leave nothing of them."""
        for server in self.all:
            server.thaw()
            server.kill()


def servers_in(folder: Path, valkey: Path, mosquitto: Path) -> Servers:
    """Make both in a folder; none is started."""
    redis_port, mqtt_port = free_port(), free_port()
    words = ["--port", str(redis_port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    file = folder / "mosquitto.conf"
    lines = [f"listener {mqtt_port} 127.0.0.1", "allow_anonymous true"]
    file.write_text("\n".join(lines + ["user root"] * (os.getuid() == 0)) + "\n")
    return Servers(
        Server([valkey, *words], redis_port, folder / "redis.log"),
        Server([mosquitto, "-c", file], mqtt_port, folder / "mosquitto.log"),
    )
