"""`equipoise download-data` and `list-data`: the bar store."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from daemon.commands.options import (
    AsJson,
    ConfigFiles,
    Overrides,
    console,
    print_json,
    read_settings,
)
from daemon.domain.failures import DataError
from daemon.domain.units import iso
from daemon.report.figures import clock
from daemon.wiring.data import StoredBars, fetch_history, stored_bars
from daemon.wiring.series_download import checked_names, fetch_series

PROBLEM_EXIT = DataError.exit_code


def download_data(
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    days: Annotated[float, typer.Option(help="How many days back from now.", min=0.1)] = 150.0,
    folder: Annotated[Path, typer.Option(help="Root of the bar store.")] = Path("data"),
    exchange: Annotated[str, typer.Option(help="A ccxt exchange id; default from settings.")] = "",
    series: Annotated[
        str, typer.Option(help="Series as well: any of open_interest,mark,index.")
    ] = "",
) -> int:
    """Fetch bars and funding rates into the bar store.

    The universe is that of the settings. A later download goes on where the store ends.
    """
    chosen = [*(overrides or []), *([f"exchange.id={exchange}"] if exchange else [])]
    settings = read_settings(config, chosen, base="paper.toml")
    columns = (TextColumn("{task.description:>18}"), BarColumn(), TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}
    wanted = checked_names(series)
    with Progress(*columns, console=Console(stderr=True), disable=as_json, transient=True) as bar:

        def show(symbol: str, done: int, total: int) -> None:
            if symbol not in tasks:
                tasks[symbol] = bar.add_task(symbol, total=total)
            bar.update(tasks[symbol], completed=done, total=total)

        fetched = asyncio.run(
            fetch_history(
                settings,
                days,
                folder,
                lambda p: show(p.symbol, p.reached_ms - p.since_ms, p.until_ms - p.since_ms),
            )
        )
    beside = asyncio.run(fetch_series(settings, wanted, days, folder)) if wanted else ()
    problems = [*fetched.bars.problems, *(f"{s}: {w}" for s, w in fetched.funding_problems.items())]
    problems += [f"{one.symbol}, {one.name}: {one.problem}" for one in beside if one.problem]
    if as_json:
        rows = {one.symbol: one.rows for one in fetched.bars.symbols}
        repaired = [one.repaired for one in fetched.bars.symbols if one.repaired]
        told: dict[str, object] = {"requests": fetched.requests_n, "refused": fetched.refused_n}
        told["seconds"] = round(fetched.bars_s, 3)
        if wanted:
            told["series"] = {f"{one.symbol} {one.name}": one.new_n for one in beside}
        print_json({"rows": rows, "problems": problems, "repaired": repaired, **told})
    else:
        for one in fetched.bars.symbols:
            gaps = f", {len(one.gaps)} gaps" if one.gaps else ""
            console().print(f"{one.symbol}: {one.rows:,} bars, {one.rows_new:,} new{gaps}")
            if one.repaired:
                console().print(one.repaired, style="yellow", soft_wrap=True)
        for name in wanted:
            new_n = sum(one.new_n for one in beside if one.name == name)
            console().print(f"{name}: {new_n:,} new observations")
        for problem in problems:
            console().print(problem, style="red")
        new = sum(one.rows_new for one in fetched.bars.symbols)
        if new:
            pace = f"{new / max(fetched.bars_s, 1e-3):,.0f} bars a second"
            console().print(f"{new:,} new bars in {fetched.bars_s:.1f} s, {pace}")
    return PROBLEM_EXIT if problems else 0


def list_data(
    folder: Annotated[Path, typer.Option(help="Root of the bar store.")] = Path("data"),
    venue: Annotated[str, typer.Option(help="Only this venue folder.")] = "",
    deep: Annotated[
        bool, typer.Option("--deep", help="Read and check every value, not only the times.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """List stored bars, their range and their holes.

    A broken file is named, and the exit code is that of data that cannot be trusted.
    """
    found = stored_bars(folder, venue or None, deep=deep)
    broken = [one for one in found if one.problem]
    if as_json:
        print_json({"files": [_row(one) for one in found], "problems": len(broken)})
        return PROBLEM_EXIT if broken else 0
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 0, 0, 1), pad_edge=False)
    for name in ("venue", "symbol", "bars", "rows", "first opens", "last opens", "holes"):
        side: Literal["left", "right"] = "right" if name == "rows" else "left"
        table.add_column(name, no_wrap=name != "holes", justify=side)
    for one in found:
        holes = one.problem or (f"{len(one.gaps)}" if one.gaps else "")
        row = _row(one)
        times = (clock(str(row[k])).removesuffix(" UTC") for k in ("first", "last"))
        table.add_row(one.venue, one.symbol, one.timeframe.label, f"{one.rows:,}", *times, holes)
    nothing = f"no bars in {folder}; `equipoise download-data` fetches some"
    console().print(table if found else nothing)
    return PROBLEM_EXIT if broken else 0


def _row(one: StoredBars) -> dict[str, object]:
    first, last = one.first_open_ms, one.last_open_ms
    return {
        "venue": one.venue,
        "symbol": one.symbol,
        "timeframe": one.timeframe.label,
        "rows": one.rows,
        "first": iso(first) if first is not None else "",
        "last": iso(last) if last is not None else "",
        "gaps": [str(gap) for gap in one.gaps],
        "problem": one.problem,
    }
