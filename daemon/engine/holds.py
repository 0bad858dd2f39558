"""Troubles of the feed: each is told to people, and some forbid to open risk while they last.

A trouble of one venue binds the instruments of that venue alone: they stand as reduce-only, and the
others trade on. What they have need not go, since neither a clock that is off nor timers that
cannot be set say anything against it. Once all venues of the book are held, or one that it does not
have, the whole book only reduces.
So are series beside the bars that fall silent; what a model reads then is the model's affair. And
so is a covariance whose estimator no longer holds; the worker lets a baseline speak in its place. A
baseline that fails, and a covariance that nobody gives, are told too.
"""

from __future__ import annotations

from typing import Final

from daemon.domain.covariance import Covariance
from daemon.domain.messages import Alert, AlertKind, Command, FeedNotice, FeedTrouble
from daemon.engine.risk import TradingState
from daemon.engine.state import EngineState
from daemon.engine.trader import Trader

HOLDING: Final = frozenset({FeedTrouble.CLOCK_OFFSET, FeedTrouble.DEAD_MAN})


class Holds:
    """Hold back new risk while any reason to lasts; reducing stays allowed."""

    def __init__(self, state: EngineState, stale_decisions_max: int, out: list[Command]) -> None:
        self._state = state
        self._stale_max = stale_decisions_max
        self._out = out

    def told(self, event: FeedNotice, trader: Trader) -> None:
        """Note that a trouble began or ended."""
        state, text = self._state, f"{event.venue}: {event.text}"
        holds = event.trouble in HOLDING
        if holds:
            self._note(event)
            if event.active and not state.holds_all:
                text += "; its instruments only reduce, those of other venues trade on"
        self._out.append(Alert(AlertKind.FEED, event.at_ms, text))
        if holds:
            self._bind(trader, ends=not event.active)

    def begin(self, venue: str, name: str, why: str, trader: Trader) -> None:
        """Hold a venue for a reason that the feed knows nothing of."""
        self._state.holds[f"{venue} {name}"] = why
        self._bind(trader, ends=False)

    def end(self, venue: str, name: str, trader: Trader) -> None:
        """Hold a venue for this reason no more."""
        self._state.holds.pop(f"{venue} {name}", None)
        self._bind(trader, ends=True)

    def _bind(self, trader: Trader, *, ends: bool) -> None:
        """Let instruments and trading state follow what is held now."""
        state = self._state
        if held := state.bind_holds():
            trader.hold_back(held)
        if state.holds_all and state.trading is TradingState.TRADING:
            state.trading = TradingState.REDUCE_ONLY
        fresh = state.stale_decisions <= self._stale_max
        if ends and fresh and state.may_open and state.trading is TradingState.REDUCE_ONLY:
            state.trading = TradingState.TRADING

    def _note(self, event: FeedNotice) -> None:
        holds, name = self._state.holds, f"{event.venue} {event.trouble}"
        if event.active:
            holds[name] = event.text
        else:
            holds.pop(name, None)

    def heard(self, at_ms: int, silent: dict[str, str]) -> None:
        """Tell which series of the model fell silent since the last estimates, or speak again."""
        before, self._state.silent = self._state.silent, dict(silent)
        for name in sorted(before.keys() | silent.keys()):
            if before.get(name) != silent.get(name):
                text = silent.get(name, "known again as usual")
                is_series = not name.startswith("covariance")
                kind = AlertKind.SERIES if is_series else AlertKind.COVARIANCE
                self._out.append(Alert(kind, at_ms, f"{name}: {text}"))

    def predicted(self, covariance: Covariance) -> None:
        """Tell when another estimator of the covariance speaks than did, and when it ends."""
        before = self._state.covariance
        was_other = before is not None and bool(before.note)
        if was_other == bool(covariance.note):
            return
        text = f"{covariance.estimator} speaks again"
        if covariance.note:
            text = f"{covariance.estimator} speaks instead: {covariance.note}"
        self._out.append(Alert(AlertKind.COVARIANCE, covariance.as_of_ms, text))
