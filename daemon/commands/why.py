"""`equipoise why ORDER`: from bars to fills, what decided one order, from the journal alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.padding import Padding
from rich.progress import Progress
from rich.text import Text

from daemon.commands.completing import order_names
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
from daemon.report.figures import LONG, QUIET, SHORT, WARN
from daemon.report.recheck import Check, Outcome
from daemon.status.codec import plain
from daemon.wiring.explaining import story_of
from daemon.wiring.rechecking import Rechecked, recheck

_STYLES: Final = {
    Outcome.EQUAL: LONG,
    Outcome.CLOSE: LONG,
    Outcome.DIFFERS: f"bold {SHORT}",
    Outcome.UNKNOWN: WARN,
}


def why(
    order: Annotated[
        str,
        typer.Argument(
            help="An order id, or SYMBOL@INSTANT, SYMBOL@latest.", autocompletion=order_names
        ),
    ],
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    state: StateFolder = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Compute every number again; exit code 4 if one differs."),
    ] = False,
) -> int:
    """Tell why an order was sent: every step from its bars to its fills.

    All of it is read from the journal, whose hash chain is checked on the way. With --check the
    engine, the model and the fill rule compute it again from the recorded bars.
    """
    folder = state_folder(config, overrides, state)
    story = story_of(folder, order)
    told, checked = explain(story), None
    if check:
        with Progress(console=Console(stderr=True), disable=as_json, transient=True) as bar:
            task = bar.add_task("entries", total=None)
            checked = recheck(
                folder, story, lambda n, total: bar.update(task, completed=n, total=total)
            )
    if as_json:
        print_json(_values(told, checked))
    else:
        _show(console(), told, checked)
    return DIVERGED_EXIT if checked is not None and _differing(checked) else 0


def _differing(checked: Rechecked) -> list[Check]:
    return [one for one in checked.checks if one.outcome is Outcome.DIFFERS]


def _values(told: Explanation, checked: Rechecked | None) -> dict[str, object]:
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
        "check": None if checked is None else _check_values(checked),
    }


def _check_values(checked: Rechecked) -> dict[str, object]:
    rows = [plain({**asdict(one), "difference": one.difference}) for one in checked.checks]
    count = Counter(str(one.outcome) for one in checked.checks)
    return {
        "checks": rows,
        "count": dict(count),
        "features": plain(checked.features),
        "entries": checked.entries_n,
    }


def _show(out: Console, told: Explanation, checked: Rechecked | None) -> None:
    checks = () if checked is None else checked.checks
    out.print(Text(told.summary, "bold"))
    for number, step in enumerate(told.steps, start=1):
        out.print(Text(f"{number:>2} {step.name}", "bold"))
        for line in step.lines:
            out.print(Padding(Text(line), (0, 0, 0, 3)))
        if step.gap:
            out.print(Padding(Text(f"MISSING: {step.gap}", WARN), (0, 0, 0, 3)))
        if step.name == "features" and checked is not None:
            _show_features(out, checked)
        for one in checks:
            if one.step == step.name:
                out.print(Padding(Text(one.words, _STYLES[one.outcome]), (0, 0, 0, 3)))
    if not told.gaps:
        out.print(Text("the whole chain is in the journal", QUIET))
    if checked is not None:
        out.print(_verdict(checked))


def _show_features(out: Console, checked: Rechecked) -> None:
    """Show the values of the newest bar, a line a timeframe, wrapped as they fit."""
    for label, values in checked.features.items():
        told = "  ".join(f"{name} {value:+.3f}" for name, value in values.items())
        out.print(Padding(Text(f"{label}: {told}"), (0, 0, 0, 3)))


def _verdict(checked: Rechecked) -> Text:
    count = Counter(one.outcome for one in checked.checks)
    told = ", ".join(f"{number} {outcome}" for outcome, number in count.items())
    bad = _differing(checked)
    return Text(f"computed again: {told}", "bold red" if bad else "bold green")
