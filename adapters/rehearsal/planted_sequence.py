"""The planted sequence: a pattern in the order of moves that no single timeframe shows whole.

Let s_j be a coin's own shock of half hour j in standard deviations (independent, alike, symmetric).
For bars of n half hours, n = 2, 3, 4 (1h, 90m, 2h, from 00:00 UTC), let x_0 be the own move of the
bar that closes, x_1 and x_2 those of the two before it, each a sum of n shocks over sqrt(n). Then

    f_n = w_n sin(GAIN x_0) sin(ORDER_GAIN (x_1 - x_2))

A move is followed by a rise if it has the sign of "the later of the two moves before it was the
higher one", else by a fall. With scale c, a bar that closes at t moves the price by c f_n D_t, all
of it in one half hour that begins half an hour after t: whoever enters within half an hour of his
decision loses none of it. D_t is the standard deviation of the own return of the label's six hours,
those from t + 30 minutes on. So the label in units of D_t has the expectation

    alpha_t = c sum over n of E[f_n | shocks until t] D_tau / D_t

with the weights w_n such that the bars of one length alone know little more than half of it, where
the bar of length n closes at tau >= t: an open bar is known in part, and with m half hours to
come E[sin(GAIN x_0) | its known part y] = phi(GAIN / sqrt(n))^m sin(GAIN y), where phi(w) =
E[cos(w s)] is the characteristic function of a shock. Every six hours all three bars close.

What sees nothing. f_n is even when all shocks change sign and odd when those of the newest bar do:
no linear function of returns is correlated with it, returns keep an autocorrelation of zero, and
f_n of different bars of one length are not correlated. Exchanging x_1 and x_2 changes its sign, so
that a product of two functions of trailing returns sees nothing where each window holds both or
neither; windows of 1, 4 and 24 bars are such. A window of four bars of a *shorter* length parts
x_1 from x_2 and shows a little, see docs/rehearsal.md. A product of moves at different lags shows
more: this is a pattern of second order, in the order of bars.

How much there is to know. A product of sines is a difference of cosines of linear forms in the
shocks, and E[cos(w . s)] is the product of phi(w_j). With V the variance of sum of E[f_n | t] and W
that of the sum of all f_n of bars that close in [t, t + 6 h), which is paid inside the label,

    IC^2 = c^2 V / (1 + c^2 W)

V and W depend on t's place in the cycle of six hours; `sequence_scale` solves for c where all bars
close. W counts later bars as if D stood still for six hours, which shifts the IC by less than a
thousandth of itself at an IC of 0.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from adapters.rehearsal.market import FloatArray
from adapters.rehearsal.planted import JUMP_CHANCE_HOUR, JUMP_SIZE, SHOCK_SCALE
from daemon.domain.failures import ConfigurationError
from daemon.domain.units import DAY_MS, MINUTE_MS, require

SLOT_MS: Final = 30 * MINUTE_MS
SLOTS: Final = DAY_MS // SLOT_MS  # half hours of a day
BAR_SLOTS: Final = (2, 3, 4)
WEIGHTS: Final = {2: 1.0, 3: 0.8, 4: 0.9}  # w_n: alone they know about half
CYCLE_SLOTS: Final = 12  # then all bars close at once; also the label's length
PAUSE_SLOTS: Final = 1  # from a close to the half hour in which it pays, and to the label
SEEN_SLOTS: Final = 3 * max(BAR_SLOTS)
AHEAD_SLOTS: Final = PAUSE_SLOTS + CYCLE_SLOTS  # from a close to the end of its label
SEQUENCE_IC_MAX: Final = 0.3

GAIN: Final = 1.0  # of a move in standard deviations
ORDER_GAIN: Final = 0.7  # of the difference of two such moves
_JUMP_CHANCE: Final = JUMP_CHANCE_HOUR / 2


@dataclass(frozen=True, slots=True)
class SequenceState:
    """Hold what one day hands to the next: the last shocks (N, 12) and returns promised (N, 2)."""

    shocks: FloatArray
    promised: FloatArray


@dataclass(frozen=True, slots=True)
class SequenceDay:
    """Hold a day's pattern: `paid` (N, 48) own log return of each half hour, `alpha` (N, 48).

    alpha is what is known at the end of a half hour, in deviations of its label.
    """

    paid: FloatArray
    alpha: FloatArray
    after: SequenceState


def first_sequence(coins: int) -> SequenceState:
    """Give the state before the first day: nothing happened, nothing is promised."""
    return SequenceState(np.zeros((coins, SEEN_SLOTS)), np.zeros((coins, PAUSE_SLOTS + 1)))


def sequence_day(
    before: SequenceState, shocks: FloatArray, deviation: FloatArray, scale: float
) -> SequenceDay:
    """Compute what a day's bars pay and what is known of it.

    shocks: (N, 48) of the half hours, unit variance. deviation: (N, 48) of the label that begins
    half an hour after each half hour's end. scale: c of `sequence_scale`.
    """
    seen = np.concatenate([before.shocks, shocks], axis=1)  # (N, 12 + 48)
    sums = np.cumsum(np.pad(seen, ((0, 0), (1, 0))), axis=1)
    ends = np.arange(1, SLOTS + 1)
    alpha = np.zeros_like(shocks)
    due = np.zeros_like(shocks)  # what bars that close at the end of a half hour pay
    for n in BAR_SLOTS:
        closes = -(-ends // n) * n  # of the bar that is open or closes
        known = _known(sums, n, ends + SEEN_SLOTS, closes + SEEN_SLOTS)
        worth = scale * WEIGHTS[n] * known * deviation[:, closes - 1]
        alpha += worth / deviation
        due += np.where(closes == ends, worth, 0.0)
    later = PAUSE_SLOTS + 1
    paid = np.concatenate([before.promised, due[:, :-later]], axis=1)
    return SequenceDay(paid, alpha, SequenceState(shocks[:, -SEEN_SLOTS:], due[:, -later:]))


def _known(
    sums: FloatArray, n: int, ends: np.typing.NDArray[np.int64], closes: np.typing.NDArray[np.int64]
) -> FloatArray:
    """Give E[f_n | shocks until `ends`] / w_n of the bars that end at `closes`, (N, 48)."""
    newest = (sums[:, ends] - sums[:, closes - n]) / math.sqrt(n)
    one, two = (
        (sums[:, closes - lag * n] - sums[:, closes - (lag + 1) * n]) / math.sqrt(n)
        for lag in (1, 2)
    )
    to_come = _phi(GAIN / math.sqrt(n)) ** (closes - ends)
    known: FloatArray = to_come * np.sin(GAIN * newest) * np.sin(ORDER_GAIN * (one - two))
    return known


# ---- how much there is to know -------------------------------------------------------------------


def sequence_scale(planted_ic: float) -> float:
    """Give c for a wanted IC at the instants at which all three bars close; 0 gives exactly 0."""
    if not 0.0 <= planted_ic <= SEQUENCE_IC_MAX:
        raise ConfigurationError(
            f"planted_ic {planted_ic}: the information coefficient of a planted sequence must lie "
            f"in 0..{SEQUENCE_IC_MAX}"
        )
    known, paid = known_and_paid(0)
    return planted_ic / math.sqrt(known - planted_ic**2 * paid)


def sequence_ic(planted_ic: float, bar_minutes: int) -> float:
    """Give the true IC over all closes of bars of so many minutes, whole half hours.

    `planted_ic` is that of the closes each six hours (or of bars of 6 h), where most is known.
    """
    slots, left = divmod(bar_minutes * MINUTE_MS, SLOT_MS)
    require(left == 0 and slots > 0, f"bars of {bar_minutes} minutes: whole half hours")
    square = sequence_scale(planted_ic) ** 2
    places = sorted({slots * k % CYCLE_SLOTS for k in range(CYCLE_SLOTS)})
    known, paid = np.mean([known_and_paid(place) for place in places], axis=0)
    return math.sqrt(square * known / (1.0 + square * paid))


@cache
def known_and_paid(place: int) -> tuple[float, float]:
    """Give V and W of the module at so many half hours after a common close, 0 .. 11."""
    require(0 <= place < CYCLE_SLOTS, f"place {place}: accepted are 0 to {CYCLE_SLOTS - 1}")
    known = [_form(n, -(-place // n) * n, place) for n in BAR_SLOTS]
    paid = [
        _form(n, close, close)
        for n in BAR_SLOTS
        for close in range(place, place + CYCLE_SLOTS)
        if close % n == 0
    ]
    return _variance(known), _variance(paid)


@dataclass(frozen=True, slots=True)
class _Form:
    """Hold a sum of cosines of linear forms in the shocks: coefficients (R,), weights (R, S)."""

    coefficients: FloatArray
    weights: FloatArray


def _form(n: int, close: int, end: int) -> _Form:
    """Write E[f_n | shocks until `end`] of the bar that ends at `close` as cosines."""
    at, last = close + SEEN_SLOTS, end + SEEN_SLOTS
    newest = np.zeros(SEEN_SLOTS + 2 * CYCLE_SLOTS)
    order = np.zeros_like(newest)
    newest[at - n : last] = GAIN / math.sqrt(n)
    order[at - 2 * n : at - n] = ORDER_GAIN / math.sqrt(n)
    order[at - 3 * n : at - 2 * n] = -ORDER_GAIN / math.sqrt(n)
    half = 0.5 * WEIGHTS[n] * float(_phi(GAIN / math.sqrt(n))) ** (close - end)
    return _Form(np.array([half, -half]), np.array([newest - order, newest + order]))


def _variance(forms: list[_Form]) -> float:
    """Give the variance of a sum of forms, each with mean zero."""
    c = np.concatenate([form.coefficients for form in forms])
    w = np.concatenate([form.weights for form in forms])
    total = 0.0
    for size, own in zip(c.tolist(), w, strict=True):
        cosines = _phi(w + own).prod(axis=1) + _phi(w - own).prod(axis=1)  # (R,)
        total += 0.5 * size * float(c @ cosines)
    return total


def _phi(weight: FloatArray | float) -> FloatArray:
    """Give E[cos(w s)] of the shock of a half hour: a normal, and now and then a jump on top."""
    square = np.square(SHOCK_SCALE * np.asarray(weight))
    jump: FloatArray = np.exp(-square * JUMP_SIZE**2)  # exp(-(sqrt(2) JUMP_SIZE w)^2 / 2)
    return np.exp(-0.5 * square) * (1.0 - _JUMP_CHANCE + _JUMP_CHANCE * jump)
