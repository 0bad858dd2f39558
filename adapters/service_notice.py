"""Tell a service manager that we live: its notification protocol, which is one datagram a message.

systemd names a socket in NOTIFY_SOCKET and, with a watchdog, how long it waits in WATCHDOG_USEC.
The messages come from the event loop itself: a loop that hangs sends none, and is ended and begun
again from outside.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from typing import Final, NoReturn

import structlog

READY: Final = b"READY=1"
ALIVE: Final = b"WATCHDOG=1"
STOPPING: Final = b"STOPPING=1"
SHARE: Final = 3  # messages in the time that the manager waits
PERIOD_S: Final = 10.0  # where it names no time

_log = structlog.get_logger()


class ServiceNotice:
    """Speak to the service manager that our environment names; without one, say nothing."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self.period_s = _period_s(environment)
        self._is_refused = False

    @property
    def is_wanted(self) -> bool:
        """Tell whether somebody listens."""
        return bool(self._address)

    def tell(self, message: bytes) -> bool:
        """Send one message at once; a manager that cannot be reached is no failure of ours."""
        if not self.is_wanted:
            return False
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        try:
            with socket.socket(socket.AF_UNIX, kind) as sender:
                sender.sendto(message, self._address)
        except OSError as e:
            if not self._is_refused:
                _log.warning("service_manager_unreached", why=e.strerror or str(e))
            self._is_refused = True
            return False
        self._is_refused = False
        return True

    async def keep(self) -> NoReturn:
        """Say that we are ready, and then that we live, until cancelled; then that we stop."""
        self.tell(READY)
        try:
            while True:
                self.tell(ALIVE)
                await asyncio.sleep(self.period_s)
        finally:
            self.tell(STOPPING)


def _address(named: str) -> str:
    """Give the address of the socket; one that begins with @ has no file."""
    return "\0" + named[1:] if named.startswith("@") else named


def _period_s(environment: Mapping[str, str]) -> float:
    told, meant = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not told.isdecimal() or not int(told) or (meant and meant != str(os.getpid())):
        return PERIOD_S
    return int(told) / 1e6 / SHARE
