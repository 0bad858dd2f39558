"""Whether what a strategy answered can be acted on at all.

A strategy of a user may be wrong in ways that types do not catch before it runs: an array of
another length, a weight that is not a number. Such an answer is refused as a whole: the book and
the strategy's state stay as they were, and the decision's note names the strategy and the fault.
Whether weights are wise is the risk checks' business, not asked here.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

import numpy as np

from daemon.domain.portfolio import TargetPortfolio

_FLOAT64 = np.dtype(np.float64)
_BOOL = np.dtype(np.bool_)


def fault(answer: object, as_of_ms: int, instruments_n: int) -> str:
    """Say in words what is wrong with what a strategy's `decide` gave, or ''."""
    if not isinstance(answer, tuple) or len(answer) != 2:
        return f"decide gave {_kind(answer)}; want the next state and a TargetPortfolio"
    state, target = answer
    if not isinstance(target, TargetPortfolio):
        return f"decide gave {_kind(target)} as target; want a TargetPortfolio"
    if target.as_of_ms != as_of_ms:
        return f"the target is of {target.as_of_ms}; want that of {as_of_ms}"
    for name in ("weights", "ideal", "band"):
        wrong = _array_fault(getattr(target, name), _FLOAT64, instruments_n)
        if wrong:
            return f"{name} {wrong}"
    if float(target.band.min()) < 0.0:
        return "band has a negative number"
    if target.reduce_only is not None:
        wrong = _array_fault(target.reduce_only, _BOOL, instruments_n)
        if wrong:
            return f"reduce_only {wrong}"
    return _state_fault(state)


def _array_fault(array: object, dtype: np.dtype[np.generic], instruments_n: int) -> str:
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        return f"is {_kind(array)}; want an array of {dtype}"
    if array.shape != (instruments_n,):
        return f"has the shape {array.shape}; want ({instruments_n},)"
    # One product asks all numbers at once, at a third of the price; only a doubt is looked into.
    if dtype is _FLOAT64 and not isfinite(array.dot(array)):
        strange = int((~np.isfinite(array)).sum())
        return f"is not finite at {strange} of {instruments_n}" if strange else ""
    return ""


def _state_fault(state: object) -> str:
    """Ask for float64 arrays by name, of whatever shape and with NaN: they go into snapshots."""
    if not isinstance(state, Mapping):
        return f"the state is {_kind(state)}; want arrays by name"
    for name, array in state.items():
        if not isinstance(array, np.ndarray) or array.dtype != _FLOAT64:
            return f"the state's {name} is {_kind(array)}; want an array of float64"
    return ""


def _kind(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}"
    return f"of type {type(value).__name__}"
