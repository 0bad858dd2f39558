"""`equipoise check-data`: what is missing, wrong or strange in the bar store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import Progress

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
from daemon.research.data_quality import QualityFinding
from daemon.research.point_in_time import Severity
from daemon.wiring.cleansing import cleansing_rules
from daemon.wiring.quality import QualityReport, check_store
from daemon.wiring.repairing import Repair, repair_store
from daemon.wiring.rescaled import stated_for

COLOURS: Final = {Severity.SERIOUS: "red", Severity.WARNING: "yellow", Severity.NOTE: "default"}
SYMBOLS_SHOWN: Final = 4


def check_data(
    folder: Annotated[Path, typer.Option(help="Root of the bar store.")] = Path("data"),
    venue: Annotated[str, typer.Option(help="Only this venue folder.")] = "",
    severity: Annotated[
        str, typer.Option(help="Least severity to list: note, warning or serious.")
    ] = "note",
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="First fetch damaged files and holes again, from exchange.id."
        ),
    ] = False,
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> int:
    """Read every stored file and list holes, outages, wicks, other units and broken files.

    Each finding is dated and says what the cleansing rules of section data do about it. A broken
    file gives the exit code of data that cannot be trusted; findings do not. A repair keeps every
    damaged file under another name, and fetches all that it had held.
    """
    settings = read_settings(config, overrides, base="paper.toml")
    least = _least(severity)
    mended = Repair((), {}, ())
    with Progress(console=Console(stderr=True), disable=as_json, transient=True) as bar:
        task = bar.add_task("reading", total=None)
        if repair:
            mended = asyncio.run(
                repair_store(settings, folder, lambda what: bar.update(task, description=what))
            )
        rules = cleansing_rules(settings)
        found = check_store(
            folder,
            venue or None,
            rules,
            lambda what: bar.update(task, description=what),
            lambda venue, symbols, timeframe: stated_for(settings, venue, symbols, timeframe),
        )
    shown = [one for one in found.findings if one.severity in least]
    if as_json:
        print_json(_values(found, mended, shown))
    else:
        _print(found, mended, shown)
    return DataError.exit_code if found.broken or mended.problems else 0


def _values(
    found: QualityReport, mended: Repair, shown: Sequence[QualityFinding]
) -> dict[str, object]:
    return {
        "files": found.files_n,
        "bars": found.bars_n,
        "rates": found.rates_n,
        "broken": list(found.broken),
        "repaired": list(mended.repaired),
        "fetched": mended.rows_new,
        "problems": list(mended.problems),
        "findings": [_row(one) for one in shown],
    }


def _print(found: QualityReport, mended: Repair, shown: Sequence[QualityFinding]) -> None:
    out = console()
    for text in mended.repaired:
        out.print(text, style="yellow", soft_wrap=True)
    for file, rows in mended.rows_new.items():
        out.print(f"{file}: {rows:,} rows fetched", soft_wrap=True)
    for problem in (*mended.problems, *found.broken):
        out.print(problem, style="red", soft_wrap=True)
    for one in shown:
        out.print(_line(one), style=COLOURS[one.severity], soft_wrap=True)
    hidden = len(found.findings) - len(shown)
    out.print(
        f"{found.files_n} files, {found.bars_n:,} bars, {found.rates_n:,} funding rates: "
        f"{len(shown)} findings, {len(found.broken)} broken files"
        + (f" ({hidden} less severe ones not shown)" if hidden else ""),
        soft_wrap=True,
    )


def _least(severity: str) -> list[Severity]:
    order = list(Severity)
    if severity not in [str(one) for one in order]:
        raise typer.BadParameter(
            f"{severity!r}: accepted: {', '.join(order)}", param_hint="--severity"
        )
    return order[: order.index(Severity(severity)) + 1]


def _line(one: QualityFinding) -> str:
    times = iso(one.first_ms)[:16].replace("T", " ")
    if one.last_ms != one.first_ms:
        times += " .. " + iso(one.last_ms)[:16].replace("T", " ")
    where = f"{one.venue} {one.timeframe}"
    return f"{times}  {one.rule}  {where}  {_names(one.symbols)}: {one.text}; {one.action}"


def _names(symbols: tuple[str, ...]) -> str:
    more = len(symbols) - SYMBOLS_SHOWN
    return ", ".join(symbols[:SYMBOLS_SHOWN]) + (f" +{more}" if more > 0 else "")


def _row(one: QualityFinding) -> dict[str, object]:
    return {
        "rule": one.rule,
        "severity": str(one.severity),
        "venue": one.venue,
        "timeframe": one.timeframe,
        "symbols": list(one.symbols),
        "first": iso(one.first_ms),
        "last": iso(one.last_ms),
        "bars": one.bars_n,
        "text": one.text,
        "action": one.action,
    }
