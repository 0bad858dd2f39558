"""An account that cannot be read: told, held to reducing, asked again, and at last halted.

Who cannot see what he holds opens nothing. The venue is asked again after 5, 10, 20, ... seconds of
market time, at most every 80, and after a bounded time trading halts and says so. It is asked still
then, because an operator wants to know when it answers; but only a resume trades again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from daemon.domain.messages import AccountUnread, Alert, AlertKind, AskSnapshot, Command
from daemon.engine.holds import Holds
from daemon.engine.risk import TradingState
from daemon.engine.state import EngineState
from daemon.engine.trader import Trader

ASK_AGAIN_MS: Final = 5_000  # after the first failure; doubles with each
DOUBLINGS_MAX: Final = 4
HOLD: Final = "account_unread"


class Unread:
    """Watch over venues whose account cannot be read; the state keeps since when.

    state.unread: by venue [since_ms, questions, ask_ms], ask_ms 0 while an answer is awaited.
    """

    def __init__(
        self,
        state: EngineState,
        holds: Holds,
        unread_max_ms: int,
        halt: Callable[[int, str], None],
        out: list[Command],
    ) -> None:
        self._state = state
        self._holds = holds
        self._max_ms = unread_max_ms
        self._halt = halt
        self._out = out

    def failed(self, event: AccountUnread, trader: Trader) -> None:
        """Note that a reading failed; the first time, tell it and open nothing from now on."""
        state, venue = self._state, event.venue
        entry = state.unread.get(venue)
        if entry is None:
            entry = state.unread[venue] = [state.now_ms, 0, 0]
            text = f"{venue}: the account cannot be read: {event.why}; nothing is opened meanwhile"
            self._out.append(Alert(AlertKind.ACCOUNT, event.at_ms, text))
            self._holds.begin(venue, HOLD, "the account cannot be read", trader)
        if not entry[2]:
            entry[2] = state.now_ms + ASK_AGAIN_MS * 2 ** min(entry[1], DOUBLINGS_MAX)

    def read(self, venue: str, at_ms: int, trader: Trader) -> None:
        """Note that the account was read."""
        entry = self._state.unread.pop(venue, None)
        if entry is None:
            return
        away_s = (self._state.now_ms - entry[0]) / 1000
        text = f"{venue}: the account is read again after {away_s:.0f} s"
        self._out.append(Alert(AlertKind.ACCOUNT, at_ms, text))
        self._holds.end(venue, HOLD, trader)

    def look(self) -> None:
        """Ask again where it is time, and halt where it lasted too long."""
        state = self._state
        for venue, entry in state.unread.items():
            if 0 < entry[2] <= state.now_ms:
                entry[1], entry[2] = entry[1] + 1, 0
                self._out.append(AskSnapshot(venue, state.cursors.get(venue, 0)))
            if state.now_ms - entry[0] >= self._max_ms and not state.halted_why:
                lasted_s = (state.now_ms - entry[0]) / 1000
                self._halt(state.now_ms, f"{venue}: the account was unread for {lasted_s:.0f} s")

    def patient_again(self) -> None:
        """Count the bounded time anew: an operator resumed."""
        for entry in self._state.unread.values():
            entry[0] = self._state.now_ms

    @property
    def next_ms(self) -> int | None:
        """Give the market time of the next question or halt, None when there is none."""
        if not self._state.unread:
            return None
        unread = self._state.unread.values()
        times = [entry[2] for entry in unread if entry[2]]
        if self._state.trading is not TradingState.HALTED:
            times += [entry[0] + self._max_ms for entry in unread]
        return min(times, default=None)
