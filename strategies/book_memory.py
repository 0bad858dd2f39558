"""What the shared book remembers between decisions, and how it moves with each of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Flags, Floats
from daemon.domain.units import HOUR_MS, require
from daemon.domain.view import View
from strategies import policies, rebalance
from strategies.policies import Sums
from strategies.sizing.sizer import nothing_known

State = Mapping[str, npt.NDArray[np.float64]]
STATE_VERSION: Final = 2.0
READ_ON: Final = 1.0  # a version without what policies and sizing remember
VELOCITY_HALF_LIFE_HOURS: Final = 48.0
POWER_HALF_LIFE_HOURS: Final = 48.0  # of the alphas' mean square


class Memory(NamedTuple):
    """Hold the book's state between decisions; (N,) or (1,) float64 arrays, NaN = not yet known."""

    version: Floats
    as_of_ms: Floats  # (1,)
    alpha_power: Floats  # (1,) mean square of the alphas about their mean
    velocity2: Floats  # (N,) nu^2, variance per hour of the ideal weight
    ideal: Floats  # (N,) the last ideal weights
    holds: Floats  # (1,) decisions in a row that only kept the book
    health: Floats  # (3,) and (2,) as `policies.Sums`
    widening: Floats
    sizing: Floats  # (2,) mean predicted variance of the book at its full gross, last multiplier

    @property
    def sums(self) -> Sums:
        """Give what policies remember."""
        return Sums(self.health, self.widening)


def fresh_memory(instruments_n: int) -> Memory:
    """Give the memory before the first decision."""
    unknown, one = np.full(instruments_n, np.nan), np.array([np.nan])
    version = np.array([STATE_VERSION])
    return Memory(version, one, one, unknown, unknown, np.zeros(1), **_remembered())


def _remembered() -> dict[str, Floats]:
    return {**policies.no_sums()._asdict(), "sizing": nothing_known()}


def read_memory(state: State, instruments_n: int, own: tuple[str, ...] = ()) -> Memory:
    """Take the book's memory from a strategy's state; own: the names of the strategy's arrays.

    Raises InvariantViolated for other arrays, another version or another universe.
    """
    if "version" in state and float(state["version"][0]) == READ_ON:
        state = {**_remembered(), **state, "version": np.array([STATE_VERSION])}
    wanted = sorted((*Memory._fields, *own))
    require(sorted(state) == wanted, f"state has the arrays {sorted(state)}; want {wanted}")
    version = float(state["version"][0])
    require(version == STATE_VERSION, f"state version {version}; this code reads {STATE_VERSION}")
    held = len(state["ideal"])
    require(held == instruments_n, f"state is of {held} instruments, the view of {instruments_n}")
    return Memory(**{name: state[name] for name in Memory._fields})


def hours_since(memory: Memory, view: View) -> float:
    """Give the hours since the last decision with an outlook; one before the first."""
    before = float(memory.as_of_ms[0])
    if not np.isfinite(before):
        return 1.0
    hours = (view.as_of_ms - before) / HOUR_MS
    require(hours > 0, f"decision at {view.as_of_ms} is not after the last one at {before:.0f}")
    return hours


def _keep(hours: float, half_life_hours: float) -> float:
    return float(0.5 ** (hours / half_life_hours))


def alpha_power(memory: Memory, alpha: Floats, hours: float) -> float:
    """Move the mean square of the alphas about their mean; the first observation starts it."""
    before = float(memory.alpha_power[0])
    if alpha.size < 2:
        return before
    now, keep = float(np.var(alpha, ddof=1)), _keep(hours, POWER_HALF_LIFE_HOURS)
    return keep * before + (1.0 - keep) * now if np.isfinite(before) else now


def with_velocity(memory: Memory, ideal: Floats, usable: Flags, phi: float, hours: float) -> Memory:
    """Remember the ideal book and how fast its weights move.

    Before any change was seen, a weight is taken to move like the alpha: 2 (1 - phi) times its
    mean square an hour.
    """
    step = np.where(usable, ideal - memory.ideal, np.nan)
    prior = 2.0 * (1.0 - phi) * float(np.mean(ideal[usable] ** 2))
    velocity2 = np.where(np.isfinite(memory.velocity2), memory.velocity2, prior)
    velocity2 = rebalance.updated_velocity2(
        velocity2, step, hours=hours, keep=_keep(hours, VELOCITY_HALF_LIFE_HOURS)
    )
    return memory._replace(velocity2=velocity2, ideal=np.where(usable, ideal, memory.ideal))
