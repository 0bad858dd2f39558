"""Notice when the last of some contracts has begun its next bar: then nobody's bar is missing."""

from __future__ import annotations


class Beginnings:
    """Count whose bar of an instant has begun; each contract once."""

    def __init__(self) -> None:
        self._newest_ms: dict[int, int] = {}
        self._open_ms = 0
        self._begun_n = 0

    def see(self, index: int, open_ms: int, awaited_n: int) -> bool:
        """Take a row; tell whether it is the one by which the newest bars of all have begun."""
        if open_ms <= self._newest_ms.get(index, 0):
            return False
        self._newest_ms[index] = open_ms
        if open_ms > self._open_ms:
            self._open_ms, self._begun_n = open_ms, 0
        self._begun_n += open_ms == self._open_ms
        return open_ms == self._open_ms and self._begun_n == awaited_n
