"""`equipoise evaluate friction`: the bands that trade, held to the law of what costs leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Final

import typer

from daemon.commands.evaluate.stress import shown_share
from daemon.commands.options import AsJson, console, print_json
from daemon.research.friction_law import (
    BARS,
    HALF_LIVES,
    PATHS,
    PUBLISHED,
    TOLERANCE,
    Cell,
    Range,
    cells,
    comparisons,
    full_rebalancing,
)

BEYOND_EXIT: Final = 1


def friction(
    paths: Annotated[int, typer.Option(min=10, help="Paths that are simulated.")] = PATHS,
    bars: Annotated[int, typer.Option(min=1, help="Bars of each path.")] = BARS,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the targets.")] = 7,
    as_json: AsJson = False,
) -> int:
    """Run the no-trade bands on targets whose truth is known, beside published figures.

    Exit code 1 where a share of the Sharpe ratio is further than 0.03 from the published one.
    """
    found = list[Cell]()
    with shown_share("half-lives", hidden=as_json) as progress:
        for done, half_life in enumerate(HALF_LIVES):
            progress(done / len(HALF_LIVES))
            found += cells(half_life, paths=paths, bars=bars, seed=seed)
    wrong = beyond(found)
    if as_json:
        print_json({"passed": not wrong, "beyond": wrong, "cells": cell_values(found)})
    else:
        _print(found, wrong)
    return BEYOND_EXIT if wrong else 0


def beyond(found: Sequence[Cell]) -> list[str]:
    """Say which figures are further from the published ones than is allowed."""
    return [
        f"half-life {cell.half_life}, F {cell.friction:g}: {one.name} {one.found:.3f},"
        f" published {one.published:.3f}"
        for cell in found
        for one in comparisons(cell)
        if not one.passed
    ]


def cell_values(found: Sequence[Cell]) -> list[dict[str, object]]:
    """Give every cell with its published row and the differences as plain values."""
    return [
        {
            **asdict(cell),
            "full_in_closed_form": full_rebalancing(cell.friction, cell.half_life),
            "published": PUBLISHED[cell.friction]._asdict(),
            "comparisons": [
                {**asdict(one), "difference": one.difference, "passed": one.passed}
                for one in comparisons(cell)
            ],
        }
        for cell in found
    ]


def _print(found: Sequence[Cell], wrong: Sequence[str]) -> None:
    shown = console()
    lines = ["Share of the gross Sharpe ratio that is left; half-widths in sds of the target."]
    for half_life in HALF_LIVES:
        lines += ["", f"half-life {half_life} bars", _HEAD]
        lines += [_line(cell) for cell in found if cell.half_life == half_life]
    shown.print("\n".join([*lines, "", _LEGEND]), soft_wrap=True, highlight=False)
    if wrong:
        shown.print("\n".join(wrong), style="bold red", soft_wrap=True)
        return
    shown.print(f"all within {TOLERANCE:g} of the published figures", style="bold green")


_HEAD: Final = (
    "   F   best published  differs width published      h keeps published  differs  seen  c/l"
)
_LEGEND: Final = (
    "best: the best constant band, and its width. h: (3F)^(1/3), and what it keeps; seen: the\n"
    "same with the target's speed measured as in trading. c/l: trading cost over tracking loss."
)


def _line(cell: Cell) -> str:
    row = PUBLISHED[cell.friction]
    best, _, rule, _, _ = comparisons(cell)
    return (
        f"{cell.friction:4g} {cell.best:6.3f} {_range(row.best)} {best.difference:+8.3f}"
        f" {cell.best_width:5.2f} {_range(row.best_width)} {cell.rule_width:6.2f} {cell.rule:5.3f}"
        f" {_range(row.rule)} {rule.difference:+8.3f} {cell.measured:5.3f} {cell.health:4.2f}"
    )


def _range(published: Range) -> str:
    return f"{published.low:.2f}-{published.high:.2f}"
