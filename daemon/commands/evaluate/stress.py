"""`equipoise evaluate stress`: the configured backtest at other costs and sizes, and in parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer
from rich import box
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
from daemon.ports import Share
from daemon.report.capacity import in_words
from daemon.report.figures import UNDEFINED
from daemon.research.stress import CAPACITY_MEANS, Figures, StressReport, stress_values
from daemon.runtime.collector import collect_rarely
from daemon.runtime.logs import configure_logs
from daemon.wiring.arms import workers_of
from daemon.wiring.stress import run_stress, write_stress

OUT: Final = Path("reports/stress")
HEADINGS: Final = (
    "return",
    "Sharpe (95 %)",
    "drawdown",
    "turnover/y",
    "cost bps",
    "cost share",
    "gross",
    "corr mkt",
)

WHOLE: Final = "Sharpe"  # a heading that reads badly over two lines
GAP: Final = 3  # columns of the screen between two of a table


def stress(
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    processes: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Processes; 0 takes one a core. Default: evaluation.processes.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of stress.json and stress.csv.")] = OUT,
) -> None:
    """Run the backtest at other costs, latency and sizes, and cut it by time and by market.

    Every arm is logged as a trial. The files do not depend on the number of processes.
    """
    collect_rarely()
    settings = read_settings(config, overrides, base="backtest.toml")
    configure_logs(settings.run.log_level, as_json=settings.run.log_json)
    executor = workers_of(settings, processes)
    with shown_share("arms", hidden=as_json) as done:
        report = run_stress(settings, executor, done)
    paths = write_stress(report, out)
    if as_json:
        print_json({**stress_values(report), "files": [str(path) for path in paths]})
        return
    _print(report)
    for path in paths:
        console().print(f"written: {path}", soft_wrap=True)


@contextmanager
def shown_share(label: str, *, hidden: bool) -> Iterator[Share]:
    """Draw a bar on stderr for work that tells how much of it is done, from 0 to 1."""
    if hidden:
        yield lambda share: None
        return
    from rich import progress as rich_progress

    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.TaskProgressColumn(),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TimeRemainingColumn(),
    )
    with rich_progress.Progress(*columns, console=Console(stderr=True), transient=True) as drawn:
        task = drawn.add_task(label, total=1.0)
        yield lambda share: drawn.update(task, completed=share)


def _print(report: StressReport) -> None:
    out = console()
    values = stress_values(report)
    period = values["period"]
    span = f"{period['first']} to {period['last']}" if isinstance(period, dict) else ""
    out.print(f"Stress of {report.strategy}: {span}", style="bold", soft_wrap=True)
    arms = [
        (
            f"{one.arm.group}: {one.arm.name}",
            f"{one.arm.account.one_way_bps:.4g}",
            f"{one.fills:,}",
            *_cells(one.figures),
        )
        for one in report.arms
    ]
    parts = [
        (f"{part.group}: {part.name}", f"{part.figures.days:,}", *_cells(part.figures))
        for part in report.parts.slices
    ]
    for table in (
        *fitting_tables(("arm", "bps", "fills", *HEADINGS), arms, out.width),
        *fitting_tables(("part of the base run", "days", *HEADINGS), parts, out.width),
    ):
        out.print(table)
    for name, at in sorted(report.parts.boundaries.items()):
        if name != "market":
            edges = " and ".join(f"{edge:.2%}" for edge in at)
            out.print(f"{name} of a day: terciles meet at {edges}", style="dim")
    held = float(report.arms[0].arm.account.cash)
    said = in_words(report.arms[0].capacity, held, "starts with")
    out.print(f"By the fills of the base run: {said}", soft_wrap=True)
    out.print(CAPACITY_MEANS, style="dim", soft_wrap=True)
    for caveat in report.caveats:
        out.print(f"note: {caveat}", style="yellow", soft_wrap=True)


def fitting_tables(
    headings: Sequence[str], rows: Sequence[Sequence[str]], width: int
) -> list[Table]:
    """Set rows as one table, or as several below each other where the screen is too narrow.

    No figure and no word of a heading is ever cut; each table begins with the name of the row.
    width: columns of the screen.
    """
    widths = [_width_of(heading, [row[i] for row in rows]) for i, heading in enumerate(headings)]
    groups, used = list[list[int]](), width + 1
    for at, needed in enumerate(widths[1:], 1):
        if used + GAP + needed > width:  # what fits nowhere has a table of its own
            groups.append([])
            used = widths[0]
        groups[-1].append(at)
        used += GAP + needed
    return [_table(headings, rows, (0, *columns)) for columns in groups]


def _width_of(heading: str, cells: Sequence[str]) -> int:
    words = [heading] if heading.startswith(WHOLE) else heading.split()
    return max(map(len, (*words, *cells)))


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], columns: Sequence[int]) -> Table:
    table = Table(pad_edge=False, box=box.SIMPLE_HEAD)
    for at in columns:
        heading = headings[at]
        table.add_column(
            heading,
            justify="right" if at else "left",
            no_wrap=heading.startswith(WHOLE),
            overflow="fold",
        )
    group = None
    for row in rows:
        name = row[0].partition(":")[0]
        if group is not None and name != group:
            table.add_section()
        group = name
        table.add_row(*(row[at] for at in columns))
    return table


def _cells(f: Figures) -> tuple[str, ...]:
    interval = "too few days"
    if f.sharpe_low == f.sharpe_low:
        interval = f"{f.sharpe_low:+.1f} to {f.sharpe_high:+.1f}"
    return (
        _known(f.total_return, "+.1%"),
        f"{_known(f.sharpe, '+.2f')} ({interval})",
        _known(f.drawdown_max, ".1%"),
        _known(f.turnover_per_year, ",.0f"),
        _known(f.cost_bps, ".1f"),
        _known(f.cost_share, ".0%"),
        _known(f.gross_mean, ".2f"),
        _known(f.correlation_market, "+.2f"),
    )


def _known(value: float, spec: str) -> str:
    return format(value, spec) if value == value else UNDEFINED
