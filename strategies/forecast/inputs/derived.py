"""Make more columns of the bars themselves, for models that ask for them by name. No series here.

    majors    return over 1, 4 and 24 bars less what BTC and ETH explain of it, in units of sigma:
              r_i - b_i r_BTC - e_i r_ETH, with b and e of least squares through the origin over
              the newest 64 one-bar moves; its rank over instruments. Of BTC and ETH it is 0. And
              how unusual the volatility of BTC is, the same for all: part of the market's state.
    ranks     of each feature of one instrument its rank over instruments, -1..1, where it has none
              among the features yet
    tier      which quarter of the instruments it is in by dollar volume of the newest 64 bars, 1
              the least traded: four columns, 1 in its own and 0 in the others

A row depends to the bit on its last `FEATURE_MEMORY_BARS` bars only, as one of `features` does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from daemon.domain.bar import Floats
from daemon.domain.failures import ModelError
from strategies.forecast.inputs.features import (
    FEATURE_MEMORY_BARS,
    FEATURE_NAMES,
    RESIDUAL_BARS,
    RETURN_BARS,
    SIGMA_BARS,
    SIGMA_OBSERVATIONS_MIN,
    logged,
    mean,
    prepare,
    ranks,
    sum_over,
)
from strategies.forecast.inputs.windows import padded

MAJORS: Final = "majors"
RANKS: Final = "ranks"
TIER: Final = "tier"
TIERS: Final = 4

_APART_MIN: Final = 1e-6  # 1 - r^2 of the two majors; below it nothing tells one from the other
_QUOTES: Final = ("USDT", "USDC", "FDUSD", "BUSD", "TUSD", "USD")  # the first that is there
_MAJOR: Final = re.compile(rf"^(BTC|ETH)[/_-]?({'|'.join(_QUOTES)})(?![A-Z0-9])")
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
DERIVED: Final[Mapping[str, tuple[str, ...]]] = {
    MAJORS: (
        *(f"majors_{k}" for k in RESIDUAL_BARS),
        *(f"rank_majors_{k}" for k in RESIDUAL_BARS),
        "btc_volatility",
    ),
    RANKS: tuple(f"rank:{name}" for name in _RANKED),
    TIER: tuple(f"tier_{n + 1}" for n in range(TIERS)),
}


@dataclass(frozen=True, slots=True)
class Shown:
    """Hold feature rows (T, N, F) and bars (S, N, 5) of symbols (N,) that end with the same bar.

    Bars before the first row are what it was made of; those that are not there count as missing.
    """

    rows: Floats
    values: Floats
    symbols: tuple[str, ...]

    def bars(self) -> Floats:
        """Give the bars that the rows are made of, (T + FEATURE_MEMORY_BARS - 1, N, 5)."""
        return padded(self.values, len(self.rows) + FEATURE_MEMORY_BARS - 1)


def refuse_unmakeable(names: Sequence[str], symbols: Sequence[str]) -> None:
    """Raise ModelError where names ask for what these instruments do not have."""
    if MAJORS in names:
        majors_of(symbols)


def majors_of(symbols: Sequence[str]) -> tuple[int, int]:
    """Give the places of BTC and of ETH; raise ModelError where one is not there.

    Of several contracts of one the first by quote currency and name counts, in whatever order they
    stand.
    """
    found: dict[str, tuple[int, str, int]] = {}
    for place, symbol in enumerate(symbols):
        if match := _MAJOR.match(symbol):
            one = (_QUOTES.index(match[2]), symbol, place)
            found[match[1]] = min(found.get(match[1], one), one)
    if missing := [base for base in ("BTC", "ETH") if base not in found]:
        raise ModelError(
            f"covariate {MAJORS!r} is made of BTC and ETH, and there is no "
            f"{' and no '.join(missing)} among the instruments: {', '.join(symbols)}; trade them "
            f"too, or do without {MAJORS!r}"
        )
    return found["BTC"][2], found["ETH"][2]


def derived(name: str, shown: Shown) -> list[Floats]:
    """Give the columns of a name, (T, N) each, NaN where not known."""
    return _MAKERS[name](shown)


@np.errstate(all="ignore")
def _majors(shown: Shown) -> list[Floats]:
    places = majors_of(shown.symbols)
    prepared, rows = prepare(shown.bars()), len(shown.rows)
    over = prepared.bars.over  # (R, S, N)
    moves = np.where(np.isfinite(prepared.closed), over[0], np.nan)
    first, second = (moves[:, place : place + 1] for place in places)  # (S, 1)
    known = np.isfinite(moves) & np.isfinite(first) & np.isfinite(second)  # (S, N)
    y, b, e = (np.where(known, x, 0.0) for x in (moves, first, second))
    terms = np.concatenate([known, b * b, e * e, b * e, b * y, e * y], axis=1)
    sums = sum_over(terms, SIGMA_BARS)[len(terms) - rows :]
    count, bb, ee, be, by, ey = np.split(sums, 6, axis=1)  # (T, N) each
    apart = bb * ee - be * be
    told = (count >= SIGMA_OBSERVATIONS_MIN) & (apart > _APART_MIN * bb * ee)
    on_first = np.where(told, (by * ee - ey * be) / apart, np.nan)
    on_second = np.where(told, (ey * bb - by * be) / apart, np.nan)
    sigma, residuals = prepared.bars.sigma[len(terms) - rows :], []
    for k in RESIDUAL_BARS:
        moved = over[RETURN_BARS.index(k), len(terms) - rows :]  # (T, N)
        first, second = (moved[:, place : place + 1] for place in places)
        residual = (moved - on_first * first - on_second * second) / (sigma * np.sqrt(k))
        # they explain themselves: what is left of them is rounding, and would be ranked
        residual[:, places] = np.where(np.isfinite(residual[:, places]), 0.0, np.nan)
        residuals.append(residual)
    state = shown.rows[:, places[0], FEATURE_NAMES.index("volatility")]
    everywhere = np.broadcast_to(state[:, None], shown.rows.shape[:2])
    return [*residuals, *map(ranks, residuals), everywhere]


def _ranks(shown: Shown) -> list[Floats]:
    return [ranks(shown.rows[:, :, FEATURE_NAMES.index(name)]) for name in _RANKED]


@np.errstate(all="ignore")
def _tiers(shown: Shown) -> list[Floats]:
    _, turnover, present = logged(shown.bars())
    traded = np.isfinite(turnover)
    terms = np.concatenate([np.where(traded, turnover, 0.0), traded], axis=1)
    first = len(terms) - len(shown.rows)
    total, count = np.split(sum_over(terms, SIGMA_BARS)[first:], 2, axis=1)  # (T, N) each
    level = np.where(present[first:], mean(total, count, SIGMA_OBSERVATIONS_MIN), np.nan)
    ranked = ranks(level)
    known_n = np.isfinite(ranked).sum(axis=1, keepdims=True)
    # a place is whole, or half where two share it: without the rounding of a rank
    place = np.where(known_n > 1, np.round((ranked + 1.0) * (known_n - 1)) / 2, ranked)
    tier = np.floor(place * TIERS / known_n)
    return [np.where(np.isfinite(tier), tier == n, np.nan) for n in range(TIERS)]


_MAKERS: Final[Mapping[str, Callable[[Shown], list[Floats]]]] = {
    MAJORS: _majors,
    RANKS: _ranks,
    TIER: _tiers,
}
