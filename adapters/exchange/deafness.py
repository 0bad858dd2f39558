"""When a stream counts as deaf: bars that REST has and that it did not show, counted by instrument.

An instrument that stays unseen after its socket was replaced is waited for twice as long before
that is tried again: a venue that never streams one contract must not cost all others their stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

DOUBLINGS_MAX: Final = 10


class Deafness:
    """Count missed bars in a row of N instruments.

    deadline_bars: how many an instrument may miss before its socket is replaced the first time.
    """

    def __init__(self, instruments_n: int, deadline_bars: int) -> None:
        self._deadline_bars = deadline_bars
        self._missed = [0] * instruments_n
        self._tries = [0] * instruments_n  # replacements since the stream last proved a bar of it
        self._shown = [True] * instruments_n  # anything since the last replacement

    def admit(self, index: int) -> None:
        """Begin anew with an instrument that took a free column."""
        self._missed[index], self._tries[index], self._shown[index] = 0, 0, True

    def shown(self, index: int) -> None:
        """Note that the stream said something of an instrument."""
        self._shown[index] = True

    def proven(self, index: int) -> None:
        """Note that the stream proved a bar of an instrument."""
        self._missed[index] = self._tries[index] = 0

    def dialled(self, indices: Sequence[int]) -> None:
        """Note that the socket of these instruments is a new one."""
        for index in indices:
            self._missed[index] = 0

    def missed(self, index: int, watched: Sequence[int]) -> list[int]:
        """Count a missed bar; give the instruments whose sockets are to be replaced now.

        That is so for one beyond its own deadline, and for all that miss a bar once they are half
        of those `watched`, without the ones that the last replacement did not bring back.
        """
        self._missed[index] += 1
        known = [i for i in watched if not self._tries[i] or self._shown[i]]
        missing = [i for i in known if self._missed[i]]
        if missing and 2 * len(missing) >= len(known):
            deaf = missing
        elif self._missed[index] >= self._deadline_bars << min(self._tries[index], DOUBLINGS_MAX):
            deaf = [index]
        else:
            return []
        for one in deaf:
            self._tries[one] += 1
            self._shown[one] = False
        return deaf
