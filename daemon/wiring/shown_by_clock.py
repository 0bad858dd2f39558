"""What people are shown by the clock, because no event of the engine brings it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

import structlog

from adapters.model_store import ModelStore
from daemon.domain.failures import ModelError
from daemon.domain.log_events import LogEvent
from daemon.settings import Settings
from daemon.status.book_topics import models_values

FEED_EVERY_S: Final = 3.0
MODELS_EVERY_S: Final = 600.0
MODELS_MAX: Final = 30
_log = structlog.get_logger()
Show = Callable[[str, Mapping[str, object]], None]


@asynccontextmanager
async def shown_by_clock(
    settings: Settings, show: Show, feed: Callable[[], Mapping[str, object]]
) -> AsyncIterator[None]:
    """Show what no event of the engine brings, for as long as the context lasts.

    The feeds' state every FEED_EVERY_S where it changed; the registry's models, whose files are
    read in a thread, every MODELS_EVERY_S.
    """
    tasks = [asyncio.create_task(_feed_shown(show, feed), name="show the feeds")]
    if settings.estimator.kind == "model":
        store = ModelStore(settings.estimator.models_folder)
        tasks.append(asyncio.create_task(_models_shown(show, store), name="show the models"))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, Exception):  # it stopped showing, and trading went on
                _log.warning(LogEvent.OBSERVER_DROPPED, observer="clock", why=repr(ended))


async def _feed_shown(show: Show, feed: Callable[[], Mapping[str, object]]) -> None:
    last: Mapping[str, object] = {}
    while True:
        await asyncio.sleep(FEED_EVERY_S)
        values = feed()
        if values != last:
            last = values
            show("feed", values)


async def _models_shown(show: Show, store: ModelStore) -> None:
    while True:
        show("models", await asyncio.to_thread(_models, store))
        await asyncio.sleep(MODELS_EVERY_S)


def _models(store: ModelStore) -> dict[str, object]:
    try:
        records = store.list()
    except (ModelError, OSError) as e:
        return models_values([], f"the registry cannot be read: {e}")
    rows = [
        {
            "model_id": record.model_id,
            "kind": record.manifest.kind,
            "champion": record.is_champion,
            "data_to_ms": record.manifest.data.to_ms,
            "origin": f"{record.manifest.origin.kind} {record.manifest.origin.name}".strip(),
            "symbols_n": len(record.manifest.symbols),
        }
        for record in records
    ]
    return models_values(rows[-MODELS_MAX:])
