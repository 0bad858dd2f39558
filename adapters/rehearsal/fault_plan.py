"""Which faults strike when: named ones at their instants, and random ones reproducible by a seed.

What is drawn for an instant depends on the seed and that instant alone, so that a market that is
resumed, or runs at another pace, meets the same faults.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from adapters.rehearsal.faults import PRIVATE_FAULTS, Fault, Strike, fault_named
from daemon.domain.failures import ConfigurationError

STRIKES_SHARE: Final = 0.12
"""Share of instants at which something random goes wrong."""
TWICE_SHARE: Final = 0.25
"""Share of those at which a second thing does."""
COUNT_MAX: Final = 3
SECONDS_MAX: Final = 3
_KEYS: Final = {"at_ms", "kind", "count", "symbol", "seconds"}
_FOR_ALL: Final = {
    Fault.DROP_SOCKETS,
    Fault.HALF_OPEN,
    Fault.DIAL_REFUSED,
    Fault.DIAL_HANG,
    Fault.SUBSCRIBE_REFUSED,
    Fault.EMPTY_EXCHANGE_INFO,
    Fault.CLOCK_JUMP,
}
_FOR_ONE: Final = {Fault.REVISED_FRAME, Fault.REVISED_REST}
RANDOM_FAULTS: Final = tuple(f for f in Fault if f is not Fault.NONE and f not in PRIVATE_FAULTS)


@dataclass(frozen=True, slots=True)
class PlannedStrike:
    """Say that a fault is switched on at a market instant; the rest as in `Strike`."""

    at_ms: int
    kind: str
    count: int = 1
    symbol: str = ""
    seconds: float = 1.0

    def __post_init__(self) -> None:
        self.strike()

    def strike(self) -> Strike:
        """Give the strike; raises ConfigurationError naming what is accepted."""
        return Strike(fault_named(self.kind), self.count, self.symbol, self.seconds)


def strike_of(raw: object, *, at: Callable[[str, Any], int]) -> PlannedStrike:
    """Read a planned strike from plain values; `at` reads its instant."""
    if not isinstance(raw, Mapping) or not {"at_ms", "kind"} <= set(raw) <= _KEYS:
        accepted = ", ".join(sorted(_KEYS))
        raise ConfigurationError(
            f"faults {raw!r}: accepted are tables with at_ms, kind ({accepted})"
        )
    count, seconds = raw.get("count", 1), raw.get("seconds", 1.0)
    for key, value, kinds in (("count", count, (int,)), ("seconds", seconds, (int, float))):
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise ConfigurationError(f"faults.{key} {value!r}: accepted is a number")
    instant_ms = at("faults.at_ms", raw["at_ms"])
    symbol = str(raw.get("symbol", ""))
    return PlannedStrike(instant_ms, str(raw["kind"]), count, symbol, float(seconds))


class FaultPlan:
    """Tell which faults begin between two instants.

    symbols: whom random faults may strike. every_ms: the grid of instants for which one is drawn.
    """

    def __init__(
        self,
        planned: Sequence[PlannedStrike],
        seed: int | None,
        symbols: Sequence[str],
        every_ms: int,
    ) -> None:
        for strike in planned:
            if strike.symbol and strike.symbol not in symbols:
                raise ConfigurationError(
                    f"faults.symbol {strike.symbol!r}: accepted is one of {', '.join(symbols)}"
                )
        self._planned = sorted(planned, key=lambda strike: strike.at_ms)
        self._seed = seed
        self._symbols = tuple(symbols)
        self._every_ms = every_ms

    def due(self, after_ms: int, until_ms: int) -> list[Strike]:
        """List the faults that begin in (after, until], by instant."""
        due = [p.strike() for p in self._planned if after_ms < p.at_ms <= until_ms]
        if self._seed is not None:
            first_ms = (after_ms // self._every_ms + 1) * self._every_ms
            for at_ms in range(first_ms, until_ms + 1, self._every_ms):
                due += random_strikes(self._seed, at_ms, self._symbols)
        return due


def random_strikes(seed: int, at_ms: int, symbols: Sequence[str]) -> list[Strike]:
    """Draw what goes wrong at one instant: mostly nothing, sometimes one thing, rarely two."""
    dice = random.Random(f"{seed}:{at_ms}")
    if dice.random() >= STRIKES_SHARE:
        return []
    several = 2 if dice.random() < TWICE_SHARE else 1
    return [_random_strike(dice, fault, symbols) for fault in dice.sample(RANDOM_FAULTS, several)]


def _random_strike(dice: random.Random, fault: Fault, symbols: Sequence[str]) -> Strike:
    one = fault in _FOR_ONE or (fault not in _FOR_ALL and dice.random() < 1 / 3)
    return Strike(
        fault,
        dice.randint(1, COUNT_MAX),
        dice.choice(symbols) if one else "",
        float(dice.randint(1, SECONDS_MAX)),
    )
