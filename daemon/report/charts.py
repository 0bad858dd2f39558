"""Charts of a report as inline SVG, drawn by matplotlib; colours come from the page's theme.

The SVG uses `currentColor` for text and axes, so that one picture is right on a light and a dark
page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_INK = "#010203"  # replaced by currentColor; no theme uses it
POINTS_MAX = 2_000


@dataclass(frozen=True, slots=True)
class Line:
    """Hold one line of a chart: values over the chart's times."""

    label: str
    values: Floats
    colour: str
    fill: bool = False


def line_chart(
    times_ms: Sequence[int], lines: Sequence[Line], *, unit: str, percent: bool = False
) -> str:
    """Draw lines over time and give the SVG element as text."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import dates
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter

    keep = _thinned(len(times_ms))
    when = np.asarray(times_ms, dtype="datetime64[ms]")[keep]
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "equipoise", "font.size": 9}):
        figure, axes = plt.subplots(figsize=(9.2, 2.7), layout="constrained")
        for line in lines:
            scale = 100.0 if percent else 1.0
            values = np.asarray(line.values)[keep] * scale
            axes.plot(when, values, color=line.colour, linewidth=1.2, label=line.label)
            if line.fill:
                axes.fill_between(when, values, 0.0, color=line.colour, alpha=0.25, linewidth=0)
        axes.margins(x=0)
        axes.grid(visible=True, alpha=0.18, color=_INK, linewidth=0.6)
        short_dates: Any = dates.ConciseDateFormatter
        axes.xaxis.set_major_formatter(short_dates(axes.xaxis.get_major_locator()))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.6g}"))
        axes.set_ylabel("%" if percent else unit, color=_INK)
        axes.tick_params(colors=_INK, labelcolor=_INK)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(_INK)
        if len(lines) > 1:
            axes.legend(  # above the axes, where it hides nothing
                frameon=False,
                labelcolor=_INK,
                ncols=len(lines),
                loc="lower left",
                bbox_to_anchor=(0.0, 1.0),
            )
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
        plt.close(figure)
    return _for_page(buffer.getvalue())


def _thinned(count: int) -> npt.NDArray[np.intp]:
    return np.unique(np.linspace(0, count - 1, min(count, POINTS_MAX)).round().astype(np.intp))


def _for_page(svg: str) -> str:
    body = svg[svg.index("<svg") :]
    body = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"|(<svg)', r"\1\2", body, count=1)
    body = re.sub(r' (width|height)="[\d.]+pt"', "", body, count=2)
    return body.replace(_INK, "currentColor")
