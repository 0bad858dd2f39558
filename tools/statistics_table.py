"""Write docs/statistics.md: our statistics beside the libraries' and beside the worked figures.

    python -m tools.statistics_table

computes both sides anew; nothing on the page is typed in but the expected figures of the notes.
A test computes it again and compares. Figures are shown to five significant digits and differences
as powers of ten, which is as far as the page promises to be the same on another machine.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from tools.statistics_oracles import COMPARISONS, NO_LIBRARY, Comparison
from tools.statistics_vectors import ELSEWHERE, PENDING, VECTORS, Vector

PAGE = Path(__file__).resolve().parents[1] / "docs" / "statistics.md"
ROUNDING = 1e-9  # below it two computations of the same formula are equal
SHOWN = 3  # values of a long answer
LIBRARIES = ("arch", "statsmodels", "scikit-learn", "skfolio", "purgedcv", "scipy", "numpy")

HEAD = """# The statistics beside libraries and worked figures

Written by `python -m tools.statistics_table`, which computes both sides anew; a test compares this
page with what it writes. Differences are the largest over all values of an answer; "rounding" is
below 1e-9 of the value.
"""
PURGEDCV = (
    "purgedcv takes the deviation of a Sharpe ratio over T and corrects skewness and kurtosis for "
    "T, we do neither: above both sides have its ratio and moments. It rounds a shortest record up "
    "to whole observations; so is ours above."
)
DRAWS = (
    "Where others drew random numbers of their own (17, 19 to 22) the difference is one of draws, "
    "and the tolerance is that of the sample. The p-value of 12 is 0.151627 by SciPy's t "
    "distribution as well: the last digits of the expected one are rounded from less. A row that "
    "names a test is held by that one, beside its function."
)


def page() -> str:
    """Compute everything and give the page."""
    seen = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    libraries = [
        "## Against libraries",
        "",
        f"Versions: {seen}.",
        "",
        "| function | library | its function | input | ours | theirs | difference |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(_compared(one) for one in COMPARISONS),
        "",
        PURGEDCV,
        "",
        "Without a library to compare with:",
        "",
        *(f"- `{name}`: {why}" for name, why in NO_LIBRARY.items()),
    ]
    vectors = [
        "## The fifty worked figures",
        "",
        DRAWS,
        "",
        "| # | quantity | function | expected | ours | difference | tolerance |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(row for _, row in sorted([*map(_worked, VECTORS), *_others()])),
    ]
    return "\n".join([HEAD, *libraries, "", *vectors]) + "\n"


def _compared(one: Comparison) -> str:
    ours, theirs = (np.asarray(side, dtype=np.float64) for side in one.both())
    cells = (
        f"`{one.function}`",
        one.library,
        one.theirs,
        one.inputs,
        shown(ours),
        shown(theirs),
        difference(ours, theirs),
    )
    return _row(cells)


def _worked(one: Vector) -> tuple[int, str]:
    ours, expected = np.asarray(one.ours(), dtype=np.float64), np.asarray(one.expected)
    gap = float(np.abs(ours - expected).max())
    tolerance = f"{one.tolerance:g}" if one.tolerance else "exact"
    if gap > one.tolerance:
        tolerance = f"**exceeds {tolerance}**"
    far = "0" if gap <= 1e-12 else f"{gap:.0e}"
    cells = (str(one.number), one.quantity, f"`{one.function}`", shown(expected), shown(ours))
    return one.number, _row((*cells, far, tolerance))


def _others() -> list[tuple[int, str]]:
    """Give the rows of figures that other tests hold, or nobody."""
    told = {n: (quantity, f"`{test}`") for n, (quantity, test) in ELSEWHERE.items()} | PENDING
    return [(n, _row((str(n), *cells, "", "", "", ""))) for n, cells in told.items()]


def shown(values: Sequence[float] | np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> str:
    """Give the first values to five significant digits."""
    some = [f"{float(v) + 0.0:.5g}" for v in values[:SHOWN]]
    return ", ".join(some) + (f" ... ({len(values)})" if len(values) > SHOWN else "")


def difference(
    ours: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    theirs: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> str:
    """Give the largest difference relative to the largest value, in words below 1e-9."""
    if ours.shape != theirs.shape:
        return f"**{len(ours)} values against {len(theirs)}**"
    gap = float(np.abs(ours - theirs).max())
    scale = max(float(np.abs(theirs).max()), sys.float_info.min)
    if gap == 0.0:
        return "0"
    return "rounding" if gap <= ROUNDING * scale else f"1e{math.ceil(math.log10(gap))}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
