"""`equipoise import-data`: bars that other tools wrote, into the bar store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from daemon.commands.options import AsJson, console, print_json
from daemon.domain.failures import ConfigurationError
from daemon.wiring.importing import ImportedFile, imported

COLUMNS: Final = ("time", "open", "high", "low", "close", "volume")


def import_data(
    paths: Annotated[
        list[Path], typer.Argument(help="CSV, Feather, Parquet or JSON files, or folders of them.")
    ],
    folder: Annotated[Path, typer.Option(help="Root of the bar store.")] = Path("data"),
    venue: Annotated[
        str, typer.Option(help="Folder of the venue, as binanceusdm; needed for foreign files.")
    ] = "",
    symbol: Annotated[str, typer.Option(help="Whose bars; default from the file's name.")] = "",
    timeframe: Annotated[
        str, typer.Option(help="Length of the bars, as 30m; default from the name or the rows.")
    ] = "",
    label: Annotated[
        str, typer.Option(help="Which end of a bar its instant names: open or close.")
    ] = "open",
    unit: Annotated[
        str, typer.Option(help="How instants are written: auto, s, ms, us, ns or iso.")
    ] = "auto",
    column: Annotated[
        list[str] | None,
        typer.Option(help="time=NAME, open=NAME, ..: a column that has another name."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Where both have a bar, prefer the imported one.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Bring bars of other tools into the bar store.

    All files are read and checked before anything is written. A bar that the store has with other
    values stays, and the number of such bars is said; --replace prefers the imported one.
    """
    found = imported(
        paths,
        folder,
        venue=venue,
        symbol=symbol,
        timeframe=timeframe,
        label=label,
        unit=unit,
        columns=_columns(column or []),
        replace=replace,
    )
    if as_json:
        print_json({"files": [_row(one) for one in found]})
        return 0
    for one in found:
        console().print(_line(one), soft_wrap=True)
    return 0


def _columns(given: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in given:
        ours, equals, name = one.partition("=")
        if ours not in COLUMNS or not equals or not name:
            raise ConfigurationError(
                f"--column {one!r}: accepted is NAME=COLUMN with NAME one of {', '.join(COLUMNS)}"
            )
        found[ours] = name
    return found


def _line(one: ImportedFile) -> str:
    parts = [f"{one.source} -> {one.target}: {one.rows:,} rows, {one.new_n:,} new"]
    if one.differ_n:
        what = "replaced" if one.is_replaced else "kept as they were (--replace prefers the new)"
        parts.append(f"{one.differ_n:,} differ from the store and were {what}")
    if one.twice_n:
        parts.append(f"{one.twice_n:,} were there twice")
    if one.unclosed_n:
        parts.append(f"{one.unclosed_n:,} not closed yet and left out")
    return "; ".join(parts)


def _row(one: ImportedFile) -> dict[str, object]:
    return {
        "source": str(one.source),
        "target": str(one.target),
        "rows": one.rows,
        "new": one.new_n,
        "differ": one.differ_n,
        "replaced": one.is_replaced,
        "twice": one.twice_n,
        "unclosed": one.unclosed_n,
    }
