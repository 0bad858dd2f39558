"""Tell people of instruments of which neither the stream nor REST brings bars.

Nobody hears of a bar that is merely late; of one whose venue says that there is none, neither. An
instrument is dark when `DARK_BARS` bars in a row are neither proven nor denied.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

DARK_BARS: Final = 2


class Darkness:
    """Follow which of N instruments are dark; `tell(active, text)` when that changes."""

    def __init__(self, tell: Callable[[bool, str], None]) -> None:
        self._tell = tell
        self._dark: frozenset[int] = frozenset()
        self._looked_ms = 0

    def look(
        self, instant_ms: int, dark: Callable[[], Collection[int]], symbols: Sequence[str]
    ) -> None:
        """Look once an instant, and while something is dark; a new one is told at once."""
        if instant_ms == self._looked_ms and not self._dark:
            return
        self._looked_ms = instant_ms
        now = frozenset(dark())
        before, self._dark = self._dark, now
        if now - before:
            names = ", ".join(symbols[index] for index in sorted(now))
            self._tell(True, f"neither its stream nor REST brings bars of {names}")
        elif before and not now:
            self._tell(False, "bars of all instruments come again")
