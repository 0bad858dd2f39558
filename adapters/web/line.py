"""What daemon and page say to each other: one JSON object a line, over a socket pair.

    daemon -> page   {"hello": {...}}                            first, the page's settings
                     {"number": 3, "states": {...}, "events": [...]}   answered by its number
                     {"number": 4, "market_ms": 1700000000000}   it lives, and what time it is there
                     {"number": 5, "farewell": true}             the daemon stops on purpose
    page -> daemon   {"bound": "http://127.0.0.1:8787/"}         it is served there
                     {"trouble": "..."}                          it cannot be served, and why
                     {"number": 3}                               taken

The page ends when the line does: whatever becomes of the daemon, no page of it is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from daemon.domain.failures import BadPayload

LINE_BYTES_MAX: Final = 32 << 20


def written(message: Mapping[str, object]) -> bytes:
    """Write one line."""
    return msgspec.json.encode(message) + b"\n"


def read(line: bytes) -> dict[str, Any]:
    """Read one line; raises BadPayload for anything but an object."""
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError as e:
        raise BadPayload(f"the status page's line: {e}") from e
