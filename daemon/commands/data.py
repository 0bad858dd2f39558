"""`equipoise download-data` and `list-data`: the bar store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
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
from daemon.wiring.data import (
    Fetched,
    StoredBars,
    StoredFunding,
    fetch_history,
    stored_bars,
    stored_funding,
)
from daemon.wiring.lives import stored_lives
from daemon.wiring.series_download import FetchedSeries, checked_names, fetch_series

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
    audit: Annotated[
        bool, typer.Option("--audit", help="Read stored bars again, to count those that changed.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Ask again for bars that are settled as absent too.")
    ] = False,
) -> int:
    """Fetch bars and funding rates into the bar store.

    The universe is that of the settings. A later download fills holes and goes on at the end.
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
                audit=audit,
                again=again,
            )
        )
    beside = (
        asyncio.run(fetch_series(settings, wanted, days, folder, again=again)) if wanted else ()
    )
    problems = [*fetched.bars.problems, *(f"{s}: {w}" for s, w in fetched.funding_problems.items())]
    problems += [f"{one.symbol}, {one.name}: {one.problem}" for one in beside if one.problem]
    repaired = [*fetched.repaired, *(one.repaired for one in beside if one.repaired)]
    if as_json:
        print_json(_values(fetched, beside, repaired, problems, has_series=bool(wanted)))
    else:
        _print(fetched, beside, repaired, problems, wanted)
    return PROBLEM_EXIT if problems else 0


def _values(
    fetched: Fetched,
    beside: Sequence[FetchedSeries],
    repaired: Sequence[str],
    problems: Sequence[str],
    *,
    has_series: bool,
) -> dict[str, object]:
    told: dict[str, object] = {"rows": {one.symbol: one.rows for one in fetched.bars.symbols}}
    told |= {"problems": list(problems), "repaired": list(repaired)}
    told |= {"requests": fetched.requests_n, "refused": fetched.refused_n}
    revised = {one.symbol: one.rows_revised for one in fetched.bars.symbols}
    told["revised"] = {symbol: rows for symbol, rows in revised.items() if rows}
    told["seconds"] = round(fetched.bars_s, 3)
    if has_series:
        told["series"] = {f"{one.symbol} {one.name}": one.new_n for one in beside}
    return told


def _print(
    fetched: Fetched,
    beside: Sequence[FetchedSeries],
    repaired: Sequence[str],
    problems: Sequence[str],
    wanted: Sequence[str],
) -> None:
    for one in fetched.bars.symbols:
        gaps = f", {len(one.gaps)} gaps" if one.gaps else ""
        gaps += f", {one.rows_revised:,} that the venue changed" if one.rows_revised else ""
        console().print(f"{one.symbol}: {one.rows:,} bars, {one.rows_new:,} new{gaps}")
    for name in wanted:
        new_n = sum(one.new_n for one in beside if one.name == name)
        console().print(f"{name}: {new_n:,} new observations")
    for text in repaired:
        console().print(text, style="yellow", soft_wrap=True)
    for problem in problems:
        console().print(problem, style="red", soft_wrap=True)
    new = sum(one.rows_new for one in fetched.bars.symbols)
    if new:
        pace = f"{new / max(fetched.bars_s, 1e-3):,.0f} bars a second"
        console().print(f"{new:,} new bars in {fetched.bars_s:.1f} s, {pace}")


def list_data(
    folder: Annotated[Path, typer.Option(help="Root of the bar store.")] = Path("data"),
    venue: Annotated[str, typer.Option(help="Only this venue folder.")] = "",
    deep: Annotated[
        bool, typer.Option("--deep", help="Read and check every value, not only the times.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """List stored bars and funding, their range and the holes of bars.

    A broken file is named, and the exit code is that of data that cannot be trusted.
    """
    found = stored_bars(folder, venue or None, deep=deep)
    funding = stored_funding(folder, venue or None)
    lives = stored_lives(folder, venue or None)
    faults = [one.problem for one in found if one.problem]
    faults += [one.problem for one in funding if one.problem]
    broken = [*faults]
    broken += [one.problem for one in lives if one.problem]
    if as_json:
        told = {"files": [_row(one) for one in found], "problems": len(broken)}
        print_json(
            {
                **told,
                "funding": list(map(_rates_row, funding)),
                "instruments": [asdict(one) for one in lives],
            }
        )
        return PROBLEM_EXIT if broken else 0
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 0, 0, 1), pad_edge=False)
    for name in ("venue", "symbol", "bars", "rows", "first opens", "last opens", "holes"):
        side: Literal["left", "right"] = "right" if name == "rows" else "left"
        table.add_column(name, no_wrap=name != "holes", justify=side)
    for one in found:
        holes = "broken" if one.problem else f"{len(one.gaps)}" if one.gaps else ""
        row = _row(one)
        times = (clock(str(row[k])).removesuffix(" UTC") for k in ("first", "last"))
        table.add_row(one.venue, one.symbol, one.timeframe.label, f"{one.rows:,}", *times, holes)
    for rates in funding:
        row = _rates_row(rates)
        times = (clock(str(row[k])).removesuffix(" UTC") for k in ("first", "last"))
        fault = "broken" if rates.problem else ""
        table.add_row(rates.venue, rates.symbol, "funding", f"{rates.rows:,}", *times, fault)
    nothing = f"no bars in {folder}; `equipoise download-data` fetches some"
    console().print(table if found or funding else nothing)
    for fault in faults:
        console().print(fault, style="red", soft_wrap=True)
    for kept in lives:
        console().print(str(kept), style="red" if kept.problem else "", soft_wrap=True)
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


def _rates_row(one: StoredFunding) -> dict[str, object]:
    return {
        "venue": one.venue,
        "symbol": one.symbol,
        "rows": one.rows,
        "first": iso(one.first_ms) if one.first_ms is not None else "",
        "last": iso(one.last_ms) if one.last_ms is not None else "",
        "problem": one.problem,
    }
