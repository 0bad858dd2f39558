"""`equipoise import-data`: bars and funding that other tools wrote, into the store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from daemon.commands.options import AsJson, console, print_json
from daemon.domain.failures import ConfigurationError
from daemon.wiring.importing import Imported, ImportedFile, imported

COLUMNS: Final = ("time", "open", "high", "low", "close", "volume", "rate")
BAD_SHOWN: Final = 100


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
    kind: Annotated[
        str,
        typer.Option(help="What it holds: bars, funding, mark or index; default from the name."),
    ] = "",
    label: Annotated[
        str,
        typer.Option(
            help="Which end of a bar its instant names: open or close; default from the column."
        ),
    ] = "",
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
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave bad rows out and list them.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Bring bars, funding rates, mark and index prices of other tools into the store.

    Files of a folder that hold something else are left out and named. Monthly or daily files of
    one instrument are put together. All files are read and checked before anything is written. A
    bar that the store has with other values stays, and the number of such bars is said; --replace
    prefers the imported one.
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
        kind=kind,
        skip_bad=skip_bad,
    )
    if as_json:
        files = [_row(one) for one in found.files]
        print_json({"files": files, "left_out": list(found.left_out)})
    else:
        _print(found)
    return 0


def _print(found: Imported) -> None:
    for one in found.files:
        console().print(_line(one), soft_wrap=True)
        for why in one.bad[:BAD_SHOWN]:
            console().print(f"  left out: {why}", style="yellow", soft_wrap=True)
        if len(one.bad) > BAD_SHOWN:
            console().print(f"  and {len(one.bad) - BAD_SHOWN:,} more; --json lists all")
    for why in found.left_out:
        console().print(why, style="yellow", soft_wrap=True)


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
    more = f" and {len(one.sources) - 1:,} more" if len(one.sources) > 1 else ""
    parts = [f"{one.source}{more} -> {one.target}: {one.rows:,} rows, {one.new_n:,} new"]
    if one.differ_n:
        what = "replaced" if one.is_replaced else "kept as they were (--replace prefers the new)"
        parts.append(f"{one.differ_n:,} differ from the store and were {what}")
    if one.twice_n:
        parts.append(f"{one.twice_n:,} were there twice")
    if one.unclosed_n:
        parts.append(f"{one.unclosed_n:,} not closed yet and left out")
    if one.bad:
        parts.append(f"{len(one.bad):,} bad rows left out")
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
        "bad": list(one.bad),
        "sources": [str(path) for path in one.sources or (one.source,)],
    }
