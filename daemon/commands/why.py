"""`equipoise why ORDER`: from bars to fills, what decided one order, from the journal alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.padding import Padding
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from daemon.commands.options import (
    AsJson,
    ConfigFiles,
    Overrides,
    StateFolder,
    console,
    print_json,
    state_folder,
)
from daemon.commands.replay import DIVERGED_EXIT
from daemon.domain.units import iso
from daemon.report.explanation import Explanation, explain
from daemon.report.figures import QUIET, WARN
from daemon.status.codec import plain
from daemon.wiring.explaining import story_of


def why(
    order: Annotated[str, typer.Argument(help="An order id, or SYMBOL@INSTANT, SYMBOL@latest.")],
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    state: StateFolder = None,
) -> int:
    """Tell why an order was sent: every step from its bars to its fills.

    All of it is read from the journal, whose hash chain is checked on the way.
    """
    folder = state_folder(config, overrides, state)
    told = explain(story_of(folder, order))
    if as_json:
        print_json(_values(told))
    else:
        _show(console(), told)
    return 0


def _values(told: Explanation) -> dict[str, object]:
    steps = [
        {"step": one.name, "values": plain(one.values), "words": list(one.lines), "gap": one.gap}
        for one in told.steps
    ]
    return {
        "asked": told.asked,
        "symbol": told.symbol,
        "as_of": iso(told.as_of_ms),
        "summary": told.summary,
        "steps": steps,
        "gaps": list(told.gaps),
    }


def _show(out: Console, told: Explanation) -> None:
    out.print(Text(told.summary, "bold"))
    for number, step in enumerate(told.steps, start=1):
        out.print(Text(f"{number:>2} {step.name}", "bold"))
        for line in step.lines:
            out.print(Padding(Text(line), (0, 0, 0, 3)))
        if step.gap:
            out.print(Padding(Text(f"MISSING: {step.gap}", WARN), (0, 0, 0, 3)))
    if not told.gaps:
        out.print(Text("the whole chain is in the journal", QUIET))
