"""Charts of a report as inline SVG, drawn by matplotlib; colours come from the page's theme.

The SVG uses `currentColor` for text and axes, so that one picture is right on a light and a dark
page. Each chart is drawn for a wide and for a narrow screen: text that is shrunk with its picture
cannot be read on a phone.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_INK = "#010203"  # replaced by currentColor; no theme uses it
POINTS_MAX = 2_000
NARROW_POINTS_MAX = 500
PAIRED_LABEL_MAX = 22  # characters of which two fit side by side on a narrow screen
_SIZES = {"wide": (9.2, 2.7), "narrow": (4.4, 2.6)}  # inches at the same size of text


@dataclass(frozen=True, slots=True)
class Line:
    """Hold one line of a chart: values over the chart's times; width in points."""

    label: str
    values: Floats
    colour: str
    fill: bool = False
    width: float = 1.2


@dataclass(frozen=True, slots=True)
class Band:
    """Hold an area between two lines over the chart's times."""

    label: str
    low: Floats
    high: Floats
    colour: str


@dataclass(frozen=True, slots=True)
class Bar:
    """Hold one bar; low and high are the ends of its interval, NaN for none."""

    label: str
    value: float
    colour: str
    low: float = float("nan")
    high: float = float("nan")


def line_chart(
    times_ms: Sequence[int],
    lines: Sequence[Line],
    *,
    unit: str,
    percent: bool = False,
    band: Band | None = None,
) -> str:
    """Draw lines over time and give the chart as HTML text."""
    scale = 100.0 if percent else 1.0

    def draw(axes: Any, points_max: int) -> None:
        from matplotlib import dates

        keep = _thinned(len(times_ms), points_max)
        when = np.asarray(times_ms, dtype="datetime64[ms]")[keep]
        if band is not None:
            low, high = band.low[keep] * scale, band.high[keep] * scale
            axes.fill_between(
                when, low, high, color=band.colour, alpha=0.16, linewidth=0, label=band.label
            )
        for line in lines:
            values = np.asarray(line.values)[keep] * scale
            axes.plot(when, values, color=line.colour, linewidth=line.width, label=line.label)
            if line.fill:
                axes.fill_between(when, values, 0.0, color=line.colour, alpha=0.25, linewidth=0)
        axes.margins(x=0)
        short_dates: Any = dates.ConciseDateFormatter
        axes.xaxis.set_major_formatter(short_dates(axes.xaxis.get_major_locator()))
        axes.set_ylabel("%" if percent else unit, color=_INK)

    return _both(draw, labelled=len(lines) + (band is not None) > 1)


def bar_chart(bars: Sequence[Bar], *, unit: str) -> str:
    """Draw horizontal bars from top to bottom and give the chart as HTML text."""

    def draw(axes: Any, _: int) -> None:
        places = np.arange(len(bars))
        axes.barh(places, [b.value for b in bars], color=[b.colour for b in bars], height=0.62)
        for place, one in zip(places, bars, strict=True):
            if one.low == one.low and one.high == one.high:
                axes.plot([one.low, one.high], [place, place], color=_INK, linewidth=1.0)
        axes.set_yticks(places, [b.label for b in bars])
        axes.invert_yaxis()
        axes.axvline(0.0, color=_INK, linewidth=0.8)
        axes.set_xlabel(unit, color=_INK)

    return _both(draw, labelled=False, height=max(1.4, 0.5 + 0.24 * len(bars)), across=True)


def points_chart(
    x: Sequence[float], y: Sequence[float], *, names: tuple[str, str], diagonal: bool = False
) -> str:
    """Draw points joined in their order, with the diagonal of perfect agreement if asked for."""

    def draw(axes: Any, _: int) -> None:
        if diagonal:
            ends = [min(*x, *y), max(*x, *y)]
            axes.plot(ends, ends, color=_INK, linewidth=0.8, linestyle=":", label="perfect")
        axes.plot(x, y, color="#3b82c4", marker="o", markersize=3.5, linewidth=1.0, label="seen")
        axes.set_xlabel(names[0], color=_INK)
        axes.set_ylabel(names[1], color=_INK)

    return _both(draw, labelled=diagonal)


Draw = Callable[[Any, int], None]


def _both(draw: Draw, *, labelled: bool, height: float = 0.0, across: bool = False) -> str:
    parts = []
    for name, (width, usual) in _SIZES.items():
        points_max = POINTS_MAX if name == "wide" else NARROW_POINTS_MAX
        with _axes(width, height or usual, across=across) as (axes, finished):
            draw(axes, points_max)
            if labelled:
                _legend(axes, is_wide=name == "wide")
        parts.append(f"<div class={name}>{_for_page(finished())}</div>")
    return "".join(parts)


@contextmanager
def _axes(width: float, height: float, *, across: bool) -> Iterator[tuple[Any, Callable[[], str]]]:
    """Give axes to draw on, and a function that gives the finished SVG afterwards."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "equipoise", "font.size": 9}):
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
        axes = figure.subplots()
        axes.set_facecolor("none")
        yield axes, buffer.getvalue
        axes.grid(visible=True, axis="x" if across else "both", alpha=0.18, color=_INK, lw=0.6)
        axis = axes.xaxis if across else axes.yaxis
        axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.6g}"))
        axes.tick_params(colors=_INK, labelcolor=_INK)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(_INK)
        canvas: Any = FigureCanvasSVG(figure)
        # `savefig` would draw everything twice, once for the layout alone
        canvas.print_svg(buffer, metadata={"Date": None})


def _legend(axes: Any, *, is_wide: bool) -> None:
    longest = max(len(label) for label in axes.get_legend_handles_labels()[1])
    columns = 4 if is_wide else 2 if longest <= PAIRED_LABEL_MAX else 1
    axes.legend(  # above the axes, where it hides nothing
        frameon=False,
        labelcolor=_INK,
        ncols=columns,
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        borderaxespad=0.2,
    )


def _thinned(count: int, points_max: int) -> npt.NDArray[np.intp]:
    return np.unique(np.linspace(0, count - 1, min(count, points_max)).round().astype(np.intp))


def _for_page(svg: str) -> str:
    body = svg[svg.index("<svg") :]
    body = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"|(<svg)', r"\1\2", body, count=1)
    body = re.sub(r' (width|height)="[\d.]+pt"', "", body, count=2)
    return body.replace(_INK, "currentColor")
