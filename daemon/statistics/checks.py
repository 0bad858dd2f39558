"""Refuse bad input once, in the same words, for the whole room.

Every message names the argument, what it held and what is accepted; all raise InvariantViolated.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from daemon.domain.units import require

Floats = npt.NDArray[np.float64]


def series(values: npt.ArrayLike, name: str, *, at_least: int = 1) -> Floats:
    """Give (T,) finite numbers with T >= at_least; raises for another shape, or for a hole."""
    x = np.asarray(values, dtype=np.float64)
    require(x.ndim == 1, f"{name} has shape {x.shape}: one dimension is accepted")
    return _long_and_finite(x, name, at_least)


def table(
    values: npt.ArrayLike, name: str, *, rows_at_least: int = 1, columns_at_least: int = 1
) -> Floats:
    """Give (T, N) finite numbers with enough rows and columns; raises otherwise."""
    x = np.asarray(values, dtype=np.float64)
    require(x.ndim == 2, f"{name} has shape {x.shape}: two dimensions are accepted")
    enough = x.shape[1] >= columns_at_least
    require(enough, f"{name} has {x.shape[1]} columns: at least {columns_at_least} are needed")
    return _long_and_finite(x, name, rows_at_least)


def same_length(a: Floats, b: Floats, names: str) -> None:
    """Require two arrays with equally many rows; `names` says which, as in `forecast, outcome`."""
    require(len(a) == len(b), f"{names} have {len(a)} and {len(b)} rows: equal counts are accepted")


def share(value: float, name: str) -> None:
    """Require a number strictly between 0 and 1."""
    require(0.0 < value < 1.0, f"{name} {value}: accepted is a number between 0 and 1")


def count(value: int, name: str, *, at_least: int = 1) -> None:
    """Require a whole number of at least `at_least`."""
    whole = isinstance(value, int | np.integer)
    require(whole, f"{name} {value!r}: a whole number is accepted")
    require(value >= at_least, f"{name} {value}: at least {at_least} is accepted")


def _long_and_finite(x: Floats, name: str, at_least: int) -> Floats:
    require(len(x) >= at_least, f"{name} has {len(x)} rows: at least {at_least} are needed")
    holes = np.argwhere(~np.isfinite(x))
    if len(holes):
        where = tuple(int(i) for i in holes[0])
        require(
            False,
            f"{name} at {', '.join(map(str, where))} is {x[where]}: finite numbers are accepted",
        )
    return x
