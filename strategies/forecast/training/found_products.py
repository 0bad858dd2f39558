"""Find products of bars in closed form, before a network learns anything else. No torch here.

Where outcomes are almost all noise, steps along gradients wander in every direction a product could
have, and most of what they learn is noise. But the moments

    M_l = mean of y x_0 x_l'        (C, C) for each lag l of bars before the newest

are sums, made in one pass, and a product (u . x_0)(sum of k_l v . x_l) that the outcome y follows
stands in them as k_l u v': a tensor of rank one. It is found as such (alternating power steps from
the leading singular vectors: De Lathauwer, De Moor and Vandewalle 2000), in units in which the
noise of all directions is alike: channels that change slowly make moments of overlapping labels
noisier, which the scatter of moments over BLOCKS stretches of time shows. In those units a ridge
keeps directions of little noise from counting for too much.

One after the other, CANDIDATES products are found and taken off, the largest first: on the first
stretches of the time alone, then from nothing again with one stretch more, and so on. Each time all
are measured in the stretch that follows, which had no say in them, and each goes on in the place of
the one before that it is most like: where there is nothing, a measure has the expectation 0 given
all before it. Kept is what ends, learned from all stretches, in a place whose measures have a t
value of at least T_MIN. Where nothing passes, a network begins as if this had not been done. The
readings of what is kept get a spread of one, and the products the sizes of least squares.

    L bars of a sequence, C channels; x has each channel's mean taken off; B blocks
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from daemon.domain.bar import Floats
from strategies.forecast.inputs.dataset import Table
from strategies.forecast.networks.config import FoundProduct
from strategies.forecast.training.job import Longs

LAGS_MAX: Final = 24  # bars before the newest that are looked at
BLOCKS: Final = 40  # stretches of time
STRETCHES: Final = 20
FIRST: Final = 6  # stretches that are learned from before any is measured
CANDIDATES: Final = 8
T_MIN: Final = 4.5  # of measures in 14 stretches: one chance in 3,300 where there is nothing
RIDGE: Final = 1.0  # of the mean noise
STARTS: Final = 2  # leading singular vectors that power steps begin from
POWER_STEPS: Final = 60  # at most
SETTLED: Final = 1e-9  # share by which the size still grows when the steps end
ROWS_AT_ONCE: Final = 40_000
_SPREAD_MIN: Final = 1e-9
_TINY: Final = float(np.finfo(float).tiny)  # looking it up costs as much as a step

Rank1 = tuple[float, Floats, Floats, Floats]  # size, u (C,), k (lags,), v (C,)


def find_products(
    tables: Sequence[Table], rows: Sequence[Longs], sequence_bars: int
) -> tuple[FoundProduct, ...]:
    """Find the products that the labels of those rows of each table follow, the clearest first.

    Primary labels; one that is NaN does not count. Gives none where there are fewer instants than
    blocks.
    """
    lags = min(sequence_bars - 1, LAGS_MAX)
    if min(len(mine) for mine in rows) < BLOCKS:
        return ()
    moments = _moments(tables, rows, lags)
    newest, earlier = _units(moments)
    each = np.einsum("ij,bljk,km->blim", newest, moments.products, earlier, optimize=True)
    candidates, t = _tracked(each, moments.counts)
    kept = [place for place in np.argsort(-t) if t[place] >= T_MIN]
    found = [_described(candidates[place], newest, earlier, moments) for place in kept]
    if not found:
        return ()
    return _sized([_even(one, tables, rows) for one in found], tables, rows)


@dataclass(frozen=True, slots=True)
class _Moments:
    """Hold sums over each block: products (B, lags, C, C), labels' count (B,); and of the channels
    their mean (C,) and covariance (C, C).
    """

    products: Floats
    counts: Floats
    mean: Floats
    covariance: Floats


def _moments(tables: Sequence[Table], rows: Sequence[Longs], lags: int) -> _Moments:
    mean, covariance = _spread(tables, rows)
    C = len(mean)
    closes = np.concatenate([t.close_ms[mine] for t, mine in zip(tables, rows, strict=True)])
    edges = np.quantile(closes, np.linspace(0.0, 1.0, BLOCKS + 1)[1:-1])
    products, counts = np.zeros((BLOCKS, lags, C, C)), np.zeros(BLOCKS)
    for table, mine in zip(tables, rows, strict=True):
        blocks = np.searchsorted(edges, table.close_ms[mine], side="right")
        for block in range(BLOCKS):
            for part in _parts(mine[blocks == block], table.y.shape[1]):
                y = table.y[part]  # (M, N)
                counts[block] += np.isfinite(y).sum()
                weighed = (
                    _centred(table, part, mean) * np.nan_to_num(y).astype(np.float32)[..., None]
                )
                left = weighed.reshape(-1, C).T
                for lag in range(1, lags + 1):
                    right = _centred(table, part - lag, mean).reshape(-1, C)
                    products[block, lag - 1] += left @ right
    return _Moments(products, counts, mean, covariance)


def _spread(tables: Sequence[Table], rows: Sequence[Longs]) -> tuple[Floats, Floats]:
    """Give the mean (C,) and the covariance (C, C) of the channels of usable bars."""
    C = tables[0].inputs.shape[2]
    total, square, count = np.zeros(C), np.zeros((C, C)), 0
    for table, mine in zip(tables, rows, strict=True):
        for part in _parts(mine, table.y.shape[1]):
            x = table.inputs[part]
            x = x[x[..., -1] > 0]  # (S, C)
            total += x.sum(axis=0, dtype=np.float64)
            square += x.T @ x
            count += len(x)
    mean = total / max(count, 1)
    return mean, square / max(count, 1) - np.outer(mean, mean)


def _parts(rows: Longs, N: int) -> list[Longs]:
    size = max(1, ROWS_AT_ONCE // N)
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _centred(table: Table, rows: Longs, mean: Floats) -> np.typing.NDArray[np.float32]:
    """Give the channels of bars (M, N, C) without their mean, 0 where a bar is not usable."""
    x = table.inputs[rows]
    found: np.typing.NDArray[np.float32] = (x - mean.astype(np.float32)) * x[..., -1:]
    return found


def _units(moments: _Moments) -> tuple[Floats, Floats]:
    """Give the matrices (C, C) that bring newest and earlier channels to units of alike noise."""
    _, basis = np.linalg.eigh(moments.covariance)
    each = moments.products / np.maximum(moments.counts, 1.0)[:, None, None, None]
    turned = np.einsum("ji,bljk,km->blim", basis, each, basis, optimize=True)
    noise = turned.var(axis=0)  # (lags, C, C)
    units = []
    for axes in ((0, 2), (0, 1)):
        mine = noise.mean(axis=axes)
        mine = mine / max(float(mine.mean()), np.finfo(float).tiny)
        units.append(basis @ np.diag(1.0 / np.sqrt(mine + RIDGE)) @ basis.T)
    return units[0], units[1]


def _candidates(tensor: Floats) -> list[Rank1]:
    """Take products off a tensor (lags, C, C), the largest first."""
    found = list[Rank1]()
    left = tensor
    for _ in range(CANDIDATES):
        found.append(_largest(left))
        left = left - _tensor(found[-1])
    return found


def _tensor(one: Rank1) -> Floats:
    size, u, k, v = one
    return size * k[:, None, None] * (u[:, None] * v)


def _largest(tensor: Floats) -> Rank1:
    lags, C, _ = tensor.shape
    beside = tensor.transpose(1, 0, 2).reshape(C, lags * C)
    _, _, right = np.linalg.svd(beside, full_matrices=False)
    found = list[Rank1]()
    for row in right[:STARTS]:
        k, _, v = np.linalg.svd(row.reshape(lags, C), full_matrices=False)
        found.append(_power(tensor, k[:, 0], v[0]))
    return max(found, key=lambda one: one[0])


def _power(tensor: Floats, k: Floats, v: Floats) -> Rank1:
    """Go to the product of rank one that is nearest to a tensor, from lags k and channels v."""
    lags, C, _ = tensor.shape
    flat = tensor.reshape(lags, C * C)
    u, size = v, 0.0
    for _ in range(POWER_STEPS):
        matrix = (k[None] @ flat).reshape(C, C)
        u, _ = _unit(matrix @ v)
        v, _ = _unit(u @ matrix)
        before = size
        k, size = _unit((tensor @ v) @ u)
        if size - before <= SETTLED * size:
            break
    return size, u, k, v


def _unit(x: Floats) -> tuple[Floats, float]:
    """Give a vector of length one, and the length it had."""
    length = math.sqrt(x.dot(x))
    return x / max(length, _TINY), length


def _tracked(each: Floats, counts: Floats) -> tuple[list[Rank1], Floats]:
    """Find products in more and more of the time, and measure them in what follows.

    each: (B, lags, C, C) sums. Gives those of all of it and the t values (CANDIDATES,) of their
    places.
    """
    stretches = np.arange(BLOCKS) * STRETCHES // BLOCKS
    shown = np.zeros((STRETCHES - FIRST, CANDIDATES))
    found = list[Rank1]()
    for stretch in range(FIRST, STRETCHES + 1):
        before, here = stretches < stretch, stretches == stretch
        learned = each[before].sum(axis=0) / max(counts[before].sum(), 1.0)
        found = _in_places(_candidates(learned), found)
        if stretch < STRETCHES:
            held = each[here].sum(axis=0) / max(counts[here].sum(), 1.0)
            shown[stretch - FIRST] = [k @ ((held @ v) @ u) for _, u, k, v in found]
    spread = shown.std(axis=0, ddof=1) / np.sqrt(len(shown))
    t: Floats = shown.mean(axis=0) / np.maximum(spread, np.finfo(float).tiny)
    return found, t


def _in_places(fresh: Sequence[Rank1], before: Sequence[Rank1]) -> list[Rank1]:
    """Put products where those were that they are most like, the likest pair first."""
    if not before:
        return list(fresh)
    parts = [
        [np.array([one[part] for one in mine]) for part in (1, 2, 3)] for mine in (before, fresh)
    ]
    likeness: Floats = np.prod([old @ new.T for old, new in zip(*parts, strict=True)], axis=0)
    placed = list(fresh)
    for _ in fresh:
        old, new = divmod(int(np.argmax(likeness)), len(fresh))
        placed[old] = fresh[new]
        likeness[old, :] = likeness[:, new] = -np.inf
    return placed


def _described(one: Rank1, newest: Floats, earlier: Floats, moments: _Moments) -> FoundProduct:
    """Turn a product into readings of the channels as they are, of one bar with a spread of one."""
    size, u, k, v = one
    a, b = newest @ u, earlier @ v
    spreads = [max(float(np.sqrt(w @ moments.covariance @ w)), _SPREAD_MIN) for w in (a, b)]
    a, b = a / spreads[0], b / spreads[1]
    return FoundProduct(
        newest=tuple(a.tolist()),
        newest_level=-float(a @ moments.mean),
        earlier=tuple(b.tolist()),
        earlier_level=-float(k.sum() * (b @ moments.mean)),
        lags=tuple(k[::-1].tolist()),
        size=size / (spreads[0] * spreads[1]),
    )


def _even(one: FoundProduct, tables: Sequence[Table], rows: Sequence[Longs]) -> FoundProduct:
    """Give the reading of earlier bars a spread of one: a sum over bars that are alike is wider."""
    square, count = 0.0, 0
    for table, mine in zip(tables, rows, strict=True):
        earlier = _readings(one, table, mine)[1][np.isfinite(table.y[mine])]
        square += float(np.square(earlier).sum())
        count += len(earlier)
    spread = max(float(np.sqrt(square / max(count, 1))), _SPREAD_MIN)
    weights = tuple(weight / spread for weight in one.earlier)
    return replace(one, earlier=weights, earlier_level=one.earlier_level / spread)


def _sized(
    found: Sequence[FoundProduct], tables: Sequence[Table], rows: Sequence[Longs]
) -> tuple[FoundProduct, ...]:
    """Give products the sizes of least squares of the labels on all of them, as networks sum them.

    The moments alone do not tell: a product is of bounded readings, and overlaps with others.
    """
    gram, joint = np.zeros((len(found), len(found))), np.zeros(len(found))
    for table, mine in zip(tables, rows, strict=True):
        y = table.y[mine]
        known = np.isfinite(y)
        each = [np.tanh(_readings(one, table, mine)) for one in found]  # (2, M, N) each
        made = np.array([(newest * earlier)[known] for newest, earlier in each])  # (P, S)
        gram += made @ made.T
        joint += made @ y[known]
    sizes, *_ = np.linalg.lstsq(gram, joint, rcond=None)
    return tuple(replace(one, size=float(size)) for one, size in zip(found, sizes, strict=True))


def _readings(one: FoundProduct, table: Table, rows: Longs) -> Floats:
    """Give what networks read of the newest and of earlier bars at rows (M,), (2, M, N)."""
    weights = (np.array(w, dtype=np.float32) for w in (one.newest, one.earlier))
    newest, bar = (table.inputs @ w for w in weights)
    earlier = np.full((len(rows), table.y.shape[1]), one.earlier_level)
    for lag, weight in enumerate(reversed(one.lags), start=1):
        earlier += weight * bar[rows - lag]
    return np.array([newest[rows] + one.newest_level, earlier])
