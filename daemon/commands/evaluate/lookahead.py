"""`equipoise evaluate lookahead`: the proof that decisions do not depend on what came after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Final, assert_never

import typer
from rich.console import Console
from rich.table import Table

from daemon.commands.options import (
    AsJson,
    ConfigFiles,
    Overrides,
    console,
    print_json,
    read_settings,
)
from daemon.domain.units import iso
from daemon.research.lookahead import Place
from daemon.research.point_in_time import Finding, Severity
from daemon.runtime.collector import collect_rarely
from daemon.runtime.logs import configure_logs
from daemon.wiring.backtest import instruments_of
from daemon.wiring.core import universe_of
from daemon.wiring.leak_tests import log_leak_test
from daemon.wiring.lookahead import (
    Checked,
    Lookahead,
    Progress,
    Verdict,
    check_lookahead,
)

LEAK_EXIT: Final = 4  # as `compare`: two runs differ that must be the same
PLACES: Final[Mapping[Place, str]] = {
    Place.DECISION: "decision",
    Place.WITHIN: "mid-bar",
    Place.FILL: "fill",
    Place.SETTLEMENT: "funding",
}
COLOURS: Final[Mapping[Severity, str]] = {
    Severity.SERIOUS: "red",
    Severity.WARNING: "yellow",
    Severity.NOTE: "default",
}


def lookahead(
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    cuts: Annotated[int, typer.Option(min=1, max=1000, help="Instants to cut at.")] = 8,
    days: Annotated[int, typer.Option(min=0, help="Days compared before each cut; 0: all.")] = 3,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the cuts; default evaluation.seed.")
    ] = None,
    train: Annotated[
        bool, typer.Option("--train", help="Check the training step as well (estimator model).")
    ] = False,
) -> int:
    """Cut the data at random instants and demand identical decisions.

    The configured backtest runs on its files as they are, on files without what came after the cut
    and on files with something else there; decisions, fills, funding and the book must be the same.
    Exit code 4 says that one of them knew the future. Ends with what in the data is not as it was
    known at the time.
    """
    collect_rarely()
    settings = read_settings(config, overrides, base="backtest.toml")
    configure_logs(settings.run.log_level, as_json=settings.run.log_json)
    with _shown_progress(hidden=as_json) as progress:
        checked = check_lookahead(
            settings,
            cuts_n=cuts,
            seed=settings.evaluation.seed if seed is None else seed,
            days=days,
            with_training=train,
            progress=progress,
        )
    found = checked.lookahead
    log_leak_test(
        settings,
        universe_of(list(instruments_of(settings).instruments)),
        data_fingerprint=found.fingerprint,
        verdict=str(found.verdict),
        cuts_n=len(found.results),
        decisions_n=found.decisions_n,
    )
    if as_json:
        print_json(_values(checked))
    else:
        _print(checked)
    return 0 if checked.lookahead.is_clean else LEAK_EXIT


@contextmanager
def _shown_progress(*, hidden: bool) -> Iterator[Progress]:
    """Draw a bar on stderr; imports what draws it only now, because that takes its time."""
    from rich import progress as rich_progress

    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeRemainingColumn(),
    )
    wide = Console(stderr=True)
    with rich_progress.Progress(*columns, console=wide, transient=True, disable=hidden) as drawn:
        task = drawn.add_task("", total=None)
        yield lambda stage, done, total: drawn.update(
            task, description=stage, completed=done, total=total
        )


def _values(checked: Checked) -> dict[str, object]:
    found = checked.lookahead
    return {
        **asdict(found),
        "type": "lookahead",
        "clean": found.is_clean,
        "decisions": found.decisions_n,
        "decisions_beyond_warm_up": found.traded_n,
        "orders": found.orders_n,
        "fills": found.fills_n,
        "funding": found.funding_n,
        "verdict": found.verdict,
        "data": [asdict(one) for one in checked.findings],
    }


def _print(checked: Checked) -> None:
    out, found = console(), checked.lookahead
    what = f"strategy {found.strategy}, forecasts {found.forecasts}, {found.symbols_n} instruments"
    if found.without_bars:
        what += f" ({len(found.without_bars)} without a bar: {', '.join(found.without_bars)})"
    out.print(f"{what}, {iso(found.first_ms)} to {iso(found.last_ms)}", soft_wrap=True)
    _print_cuts(out, found)
    _print_verdict(out, found)
    out.print("covered: " + "; ".join(found.covered) + ".", soft_wrap=True)
    out.print("not covered: " + "; ".join(found.uncovered) + ".", soft_wrap=True)
    out.print("the data:", style="bold")
    for finding in checked.findings:
        _print_finding(out, finding)


def _print_cuts(out: Console, found: Lookahead) -> None:
    counted = ("decisions", "orders", "fills", "funding")
    names = ("cut after", "at", *counted, "removed", "replaced")
    table = Table(*names, box=None, padding=(0, 1, 0, 0))
    for one in found.results:
        leaks = {d.change for d in one.differences}
        shown = ["[red]differs[/red]" if c in leaks else "same" for c in ("removed", "replaced")]
        counts = (one.decisions_n, one.orders_n, one.fills_n, one.funding_n)
        place = PLACES[one.cut.place]
        table.add_row(iso(one.cut.at_ms), place, *(f"{n:,}" for n in counts), *shown)
    out.print(table)


def _print_verdict(out: Console, found: Lookahead) -> None:
    differences = [*(d for one in found.results for d in one.differences), *found.training]
    for difference in differences:
        out.print(f"LEAK: {difference}", style="bold red", soft_wrap=True)
    text = verdict_text(found)
    if text:
        is_clean = found.verdict is Verdict.CLEAN
        out.print(text, style="bold green" if is_clean else "bold yellow", soft_wrap=True)
    if found.trained_ms and not found.training:
        until = ", ".join(iso(at_ms) for at_ms in found.trained_ms)
        out.print(f"clean: training until {until} makes the same model", style="bold green")


def verdict_text(found: Lookahead) -> str:
    """Say what was compared and found the same; empty where something differs."""
    same = f"the same to the bit before {len(found.results)} cuts without and with another future"
    decisions = f"{found.decisions_n:,} decisions"
    if found.traded_n < found.decisions_n:
        decisions += f" ({found.decisions_n - found.traded_n:,} of them waited for bars)"
    match found.verdict:
        case Verdict.LEAK:
            return ""
        case Verdict.CLEAN:
            return (
                f"clean: {decisions}, {found.orders_n:,} orders, {found.fills_n:,} fills and "
                f"{found.funding_n:,} payments of funding are {same}"
            )
        case Verdict.NOTHING_FILLED:
            return (
                f"nothing filled: {decisions} and {found.orders_n:,} orders are {same}; fills and "
                "fees were not compared, because there were none"
            )
        case Verdict.NOTHING_TRADED:
            return (
                "nothing traded: forecasts and decisions were compared, orders and fills were not; "
                f"{decisions} are {same}"
            )
        case _:
            assert_never(found.verdict)


def _print_finding(out: Console, finding: Finding) -> None:
    text = f"{finding.severity}: {finding.text}"
    out.print(text, style=COLOURS[finding.severity], soft_wrap=True)
