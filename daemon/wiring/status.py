"""Where `equipoise status` reads: Redis only, whether the server is embedded or anywhere else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from adapters.embedded_redis import embedded_url
from adapters.redis_status import read_status, watch_status
from daemon.domain.failures import ConfigurationError
from daemon.settings import Settings
from daemon.wiring.sinks import redis_password

EVENTS_N: Final = 10
LOOK_S: Final = 1.0  # between two looks for a server that is not there


def status_url(settings: Settings) -> str | None:
    """Give the address to read from; None when the embedded server of this run does not live.

    Raises ConfigurationError when settings switch Redis off.
    """
    if not settings.redis.enabled:
        raise ConfigurationError(
            "redis.enabled = false: status is read from Redis; set it to true for this run"
        )
    if settings.redis.url == "embedded":
        return embedded_url(settings.run.state_folder)
    return settings.redis.url


def is_shown(settings: Settings) -> bool:
    """Tell whether there is a server to read this run's status from; embedded ones may be gone."""
    return settings.redis.enabled and status_url(settings) is not None


async def status_once(settings: Settings, *, events_n: int = EVENTS_N) -> dict[str, Any]:
    """Read what a run shows, as of one moment, with so many of the newest of its events."""
    url = status_url(settings)
    if url is None:
        return _nobody(settings)
    return await read_status(url, *_names(settings), events_n=events_n, **_login(settings))


async def status_changes(settings: Settings) -> AsyncIterator[dict[str, Any]]:
    """Yield what a run shows, again after every change, for ever.

    A daemon that is started anew has another embedded server: it is looked for while none answers.
    """
    while True:
        url = status_url(settings)
        if url is None:
            yield _nobody(settings)
            await asyncio.sleep(LOOK_S)
            continue
        async for values in watch_status(url, *_names(settings), **_login(settings)):
            yield values
            if values["daemon"] == "unreachable" and status_url(settings) != url:
                break


def _names(settings: Settings) -> tuple[str, str]:
    return settings.redis.namespace, settings.run.run_name


def _login(settings: Settings) -> dict[str, Any]:
    return {"username": settings.redis.username, "password": redis_password(settings)}


def _nobody(settings: Settings) -> dict[str, Any]:
    folder = settings.run.state_folder
    why = f"no daemon runs in {folder}: its embedded Redis is not there"
    return {"daemon": "absent", "run": settings.run.run_name, "why": why}
