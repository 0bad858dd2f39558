"""Decision trees as plain arrays, and what they say of rows: no library that grows trees is needed.

All trees of a sum lie in one list of nodes. Node i that splits sends a row to `left[i]` where
x[feature[i]] <= threshold[i], else to `right[i]`; where x is NaN, to the left if `nan_left[i]`. A
leaf has itself as both children. What the trees say of a row is the sum of `value` over the leaves
that it reaches, one in each tree. All comparisons are of doubles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Flags, Floats
from daemon.domain.failures import ModelError

NAMES: Final = ("feature", "threshold", "left", "right", "nan_left", "value", "roots")
_TYPES: Final = ("i", "f", "i", "i", "u", "f", "i")  # kinds of NumPy types, in the same order
_CELLS_MAX: Final = 1 << 18  # rows x trees that are walked at a time

Ints = npt.NDArray[np.int32]
Bytes = npt.NDArray[np.uint8]
Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Trees:
    """Hold a sum of R trees with I nodes: all (I,), but roots (R,) that rise from 0."""

    feature: Ints
    threshold: Floats
    left: Ints
    right: Ints
    nan_left: Bytes
    value: Floats
    roots: Ints

    @property
    def nodes_n(self) -> int:
        """Count nodes: a split has learned a threshold, a leaf a value."""
        return len(self.value)

    def named(self, prefix: str) -> dict[str, npt.NDArray[Any]]:
        """Give the arrays by name, to be stored."""
        return {f"{prefix}{name}": getattr(self, name) for name in NAMES}

    def predict(self, x: Floats) -> Floats:
        """Sum the leaves (S,) that rows x (S, P) reach. A row says the same in any company."""
        out = np.empty(len(x))
        step = max(1, _CELLS_MAX // max(1, len(self.roots)))
        for start in range(0, len(x), step):
            part = x[start : start + step]
            out[start : start + step] = self.value[self._leaves(part)].sum(axis=1)
        return out

    def _leaves(self, x: Floats) -> npt.NDArray[np.intp]:
        """Walk rows x (S, P) down every tree: (S, R) leaves."""
        S, P = x.shape
        flat = np.ascontiguousarray(x).ravel()
        rows = np.repeat(np.arange(S) * P, len(self.roots))
        at = np.tile(self.roots.astype(np.intp), S)
        leaves = at.copy()
        walking = np.flatnonzero(self.left[at] != at)
        has_nan = bool(np.isnan(flat).any())
        while len(walking):
            node = leaves[walking]
            seen = flat[rows[walking] + self.feature[node]]
            goes_left = seen <= self.threshold[node]
            if has_nan:
                goes_left = np.where(np.isnan(seen), self.nan_left[node] > 0, goes_left)
            node = np.where(goes_left, self.left[node], self.right[node])
            leaves[walking] = node
            walking = walking[self.left[node] != node]
        return leaves.reshape(S, len(self.roots))


def leaf(value: float) -> Trees:
    """Give one tree that says the same of every row."""
    none, zero = np.zeros(1, dtype=np.int32), np.zeros(1)
    return Trees(none, zero, none, none, np.zeros(1, np.uint8), np.array([value]), none)


def joined(parts: Sequence[Trees]) -> Trees:
    """Put sums of trees into one sum."""
    starts = np.cumsum([0, *(len(part.value) for part in parts)])[:-1].astype(np.int32)

    def together(name: str, shift: bool) -> npt.NDArray[Any]:
        own = [getattr(part, name) for part in parts]
        return np.concatenate(
            [values + start for values, start in zip(own, starts, strict=True)] if shift else own
        )

    moved = ("left", "right", "roots")
    return Trees(**{name: together(name, name in moved) for name in NAMES})


def read(arrays: Arrays, prefix: str, *, columns: int, where: str) -> Trees:
    """Take trees on rows of `columns` values out of stored arrays.

    Raises ModelError, which begins with `where`, for arrays that are missing, of another type or
    length, or are no trees: a child that lies outside or not behind its parent, so that a walk
    could go round for ever, or that has two parents, a feature that no row has, a value that is no
    number.
    """
    found = {}
    for name, kind in zip(NAMES, _TYPES, strict=True):
        array = arrays.get(f"{prefix}{name}")
        if array is None or array.ndim != 1 or array.dtype.kind != kind:
            what = "missing" if array is None else f"of type {array.dtype}, shape {array.shape}"
            raise ModelError(f"{where}: {prefix}{name} is {what}")
        found[name] = array
    trees = Trees(**found)
    problem = _problem(trees, columns)
    if problem:
        raise ModelError(f"{where}: {prefix}{problem}")
    return trees


def _problem(trees: Trees, columns: int) -> str:
    """Say what is wrong with trees; empty where they are sound."""
    nodes = len(trees.value)
    lengths = {name: len(getattr(trees, name)) for name in NAMES[:-1]}
    if set(lengths.values()) != {nodes} or not nodes or not len(trees.roots):
        return f"value: arrays of different lengths or empty: {lengths}"
    place = np.arange(nodes)
    splits = (trees.left != place) | (trees.right != place)
    for name in ("left", "right"):
        child = getattr(trees, name)
        bad = (child >= nodes) | (splits & (child <= place))
        if bad.any():
            at = int(np.flatnonzero(bad)[0])
            return f"{name}: node {at} has child {int(child[at])}, not behind it below {nodes}"
    bad = splits & ((trees.feature < 0) | (trees.feature >= columns))
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        return f"feature: node {at} asks for column {int(trees.feature[at])} of {columns}"
    for name, asked in (("threshold", splits), ("value", ~splits)):
        wrong = asked & ~np.isfinite(getattr(trees, name))
        if wrong.any():
            return f"{name}: node {int(np.flatnonzero(wrong)[0])} has no number"
    return _orphans(trees, splits)


def _orphans(trees: Trees, splits: Flags) -> str:
    """Say which node has not exactly one parent, or none where it is a root."""
    nodes = len(trees.value)
    children = np.concatenate([trees.left[splits], trees.right[splits]])
    parents = np.bincount(children, minlength=nodes)
    if trees.roots.min() < 0 or trees.roots.max() >= nodes:
        return f"roots: a root outside of 0 .. {nodes - 1}"
    wanted = np.ones(nodes, dtype=np.int64)
    wanted[trees.roots] = 0
    if (parents != wanted).any() or len(np.unique(trees.roots)) != len(trees.roots):
        at = int(np.flatnonzero(parents != wanted)[0]) if (parents != wanted).any() else 0
        return f"roots: node {at} belongs to no tree, or to several"
    return ""
