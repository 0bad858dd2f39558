"""The simulator of fills that backtest and paper trading share, with one configuration.

`PaperVenue` is the synchronous core that the replay shell calls; `AsyncPaperVenue` puts the ports
of the live shell in front of it. `MemoryStore` forgets, `SqliteStore` is durable before it answers.
"""

from adapters.paper.async_venue import AsyncPaperVenue
from adapters.paper.memory_store import MemoryStore
from adapters.paper.settings import PaperSettings
from adapters.paper.sqlite_store import SqliteStore
from adapters.paper.venue import PaperVenue

__all__ = ["AsyncPaperVenue", "MemoryStore", "PaperSettings", "PaperVenue", "SqliteStore"]
