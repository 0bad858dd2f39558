"""Make more columns of the bars themselves, for models that ask for them by name. No series here.

    ranks     of each feature of one instrument its rank over instruments, -1..1, where it has none
              among the features yet

A row depends to the bit on its last `FEATURE_MEMORY_BARS` bars only, as one of `features` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from daemon.domain.bar import Floats
from strategies.forecast.inputs.features import FEATURE_NAMES, ranks

RANKS: Final = "ranks"

_RANKED: Final = (
    *(name for name in FEATURE_NAMES if name.startswith("return_")),
    "range",
    "close_in_range",
    "body",
    "illiquidity",
    "volatility",  # rank_volatility is that of sigma, this of how unusual it is
    "volatility_slope",
)

# what each name gives, in order
DERIVED: Final[Mapping[str, tuple[str, ...]]] = {RANKS: tuple(f"rank:{name}" for name in _RANKED)}


@dataclass(frozen=True, slots=True)
class Shown:
    """Hold feature rows (T, N, F) and bars (S, N, 5) that end with the same bar.

    Bars before the first row are what it was made of; those that are not there count as missing.
    """

    rows: Floats
    values: Floats


def derived(name: str, shown: Shown) -> list[Floats]:
    """Give the columns of a name, (T, N) each, NaN where not known."""
    return _MAKERS[name](shown)


def _ranks(shown: Shown) -> list[Floats]:
    return [ranks(shown.rows[:, :, FEATURE_NAMES.index(name)]) for name in _RANKED]


_MAKERS: Final[Mapping[str, Callable[[Shown], list[Floats]]]] = {RANKS: _ranks}
