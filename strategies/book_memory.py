"""What the shared book remembers between decisions, and how it moves with each of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Flags, Floats
from daemon.domain.units import HOUR_MS, require
from daemon.domain.view import View
from strategies import health, policies, rebalance
from strategies.policies import Wish
from strategies.sizing.sizer import nothing_known

State = Mapping[str, npt.NDArray[np.float64]]
STATE_VERSION: Final = 3.0
READ_ON: Final = (1.0, 2.0)  # versions without some of what `_remembered` gives
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
    widening: Floats  # (2,) as for `policies.moved`
    sizing: Floats  # (2,) mean predicted variance of the book at its full gross, last multiplier
    health: Floats  # (3,) as in `health`, of all books before the last
    tracked: Floats  # (N,) gamma s^2 of the legs of the last book; 0 = not counted
    tracked_ms: Floats  # (1,) when that book was decided
    filled: Floats  # (N,) what fills had cost by then, as the view had it


def fresh_memory(instruments_n: int) -> Memory:
    """Give the memory before the first decision."""
    unknown, one = np.full(instruments_n, np.nan), np.array([np.nan])
    version = np.array([STATE_VERSION])
    return Memory(version, one, one, unknown, unknown, np.zeros(1), **_remembered(instruments_n))


def _remembered(instruments_n: int) -> dict[str, Floats]:
    return {
        "widening": policies.no_widening(),
        "sizing": nothing_known(),
        "health": health.no_sums(),
        "tracked": np.zeros(instruments_n),
        "tracked_ms": np.array([np.nan]),
        "filled": np.zeros(instruments_n),
    }


def read_memory(state: State, instruments_n: int, own: tuple[str, ...] = ()) -> Memory:
    """Take the book's memory from a strategy's state; own: the names of the strategy's arrays.

    Raises InvariantViolated for other arrays, another version or another universe, and for arrays
    of the strategy that are called as those of the book.
    """
    twice = sorted(set(own) & set(Memory._fields))
    require(not twice, f"the strategy's arrays {twice} are called as those of the book")
    if {"version", "ideal"} <= state.keys() and float(state["version"][0]) in READ_ON:
        older = _remembered(len(state["ideal"]))
        state = {**older, **state, "version": np.array([STATE_VERSION])}
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


def with_outcome(memory: Memory, view: View) -> Memory:
    """Add what came of the last book to its health: what fills cost, and how it was off its ideal.

    Asked for again at the same instant it adds nothing.
    """
    sums, tracked = memory.health, memory.tracked
    if view.paid is not None and tracked.any():
        legs = tracked > 0.0
        sums = health.updated(
            sums,
            paid=float((view.paid - memory.filled)[legs].sum()),
            loss_an_hour=health.tracking_loss(
                1.0, tracked[legs], (view.weights - memory.ideal)[legs]
            ),
            hours=(view.as_of_ms - float(memory.tracked_ms[0])) / HOUR_MS,
        )
    return memory._replace(health=sums, tracked=np.zeros(len(tracked)))


def with_book(memory: Memory, view: View, wish: Wish) -> Memory:
    """Remember what the next decision needs to tell how this book fared.

    The first book is not counted: building it costs as much as days of keeping it.
    """
    counted = wish.chosen & wish.usable
    if not (view.weights.any() and np.isfinite(wish.aversion)):
        counted = np.zeros(len(counted), dtype=bool)
    return memory._replace(
        tracked=np.where(counted, wish.aversion * wish.variance, 0.0),
        tracked_ms=np.array([float(view.as_of_ms)]),
        filled=memory.filled if view.paid is None else view.paid,
    )


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
