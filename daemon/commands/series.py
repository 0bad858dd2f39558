"""`equipoise import-series` and `list-series`: series beside the bars, and when each was known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from daemon.commands.options import AsJson, console, print_json
from daemon.domain.failures import ConfigurationError, DataError
from daemon.domain.units import DAY_MS, iso
from daemon.wiring.series import (
    ImportedSeries,
    SeriesWish,
    StoredSeriesFile,
    import_file,
    import_plugin,
    stored_series,
)


def import_series(
    path: Annotated[
        Path | None, typer.Argument(help="A CSV, Feather or Parquet file.", show_default=False)
    ] = None,
    source: Annotated[
        str, typer.Option(help="Who publishes it, as cboe; of a venue its folder.")
    ] = "",
    name: Annotated[str, typer.Option(help="Name of the series, as vix.")] = "",
    symbol: Annotated[
        str, typer.Option(help="Whose it is, as BTCUSDT; ALL is the whole market.")
    ] = "ALL",
    known_after: Annotated[
        str,
        typer.Option(help="From when a value was known: 0s, 6h, 1d after it, or next-utc-day."),
    ] = "",
    known: Annotated[
        str, typer.Option(help="Column that says so; a plain day counts from the next UTC day.")
    ] = "",
    zone: Annotated[
        str, typer.Option(help="Zone of times that name none, as UTC or America/New_York.")
    ] = "",
    revised_at: Annotated[
        str,
        typer.Option(help="Changed values were known from then on: now, or as 2024-02-13T08:30Z."),
    ] = "",
    time: Annotated[str, typer.Option(help="Column of the instant a value is about.")] = "",
    value: Annotated[str, typer.Option(help="Column of the value.")] = "",
    unit: Annotated[
        str, typer.Option(help="How instants are written: auto, s, ms, us, ns or iso.")
    ] = "auto",
    stale_after: Annotated[
        str, typer.Option(help="Without a newer observation for so long there is no value.")
    ] = "7d",
    plugin: Annotated[
        str, typer.Option(help="An entry point in equipoise.series, instead of a file.")
    ] = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Drop what is stored of this series before.")
    ] = False,
    folder: Annotated[Path, typer.Option(help="Root of the bar store.")] = Path("data"),
    as_json: AsJson = False,
) -> int:
    """Bring a series into the store, each value with the instant from which it was known.

    Features read a value from that instant on and never before. Another value of an instant that
    became known later is kept as a version of it.
    """
    wish = SeriesWish(
        source, name, symbol, known_after, known, time, value, unit, stale_after, replace,
        zone, revised_at,
    )  # fmt: skip
    if (path is None) == (not plugin):
        raise ConfigurationError("import-series: give either a file or --plugin NAME")
    found = import_plugin(plugin, folder, wish) if path is None else import_file(path, folder, wish)
    if as_json:
        print_json(_imported(found))
    else:
        text = f"{found.origin} -> {found.target}: {found.rows:,} rows, {found.new_n:,} new"
        console().print(text, soft_wrap=True)
    return 0


def list_series(
    folder: Annotated[Path, typer.Option(help="Root of the bar store.")] = Path("data"),
    as_json: AsJson = False,
) -> int:
    """List stored series, their range and until when they were known.

    A broken file is named, and the exit code is that of data that cannot be trusted.
    """
    found = stored_series(folder)
    broken = [one for one in found if one.problem]
    if as_json:
        print_json({"series": [_row(one) for one in found], "problems": len(broken)})
        return DataError.exit_code if broken else 0
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 0, 0, 1), pad_edge=False)
    for heading in ("source", "name", "symbol", "rows", "versions", "first", "last", "known until"):
        table.add_column(heading, justify="right" if heading in ("rows", "versions") else "left")
    table.add_column("stale after")
    for one in found:
        row = _row(one)
        times = [str(row[key])[:16].replace("T", " ") for key in ("first", "last", "known_until")]
        stale = one.problem or f"{one.stale_ms / DAY_MS:g} days"
        counts = (f"{one.rows:,}", f"{one.versions_n:,}")
        table.add_row(one.source, one.name, one.symbol, *counts, *times, stale)
    nothing = f"no series in {folder}; `equipoise import-series` brings some"
    console().print(table if found else nothing)
    return DataError.exit_code if broken else 0


def _imported(one: ImportedSeries) -> dict[str, object]:
    return {"origin": one.origin, "target": str(one.target), "rows": one.rows, "new": one.new_n}


def _row(one: StoredSeriesFile) -> dict[str, object]:
    def text(at_ms: int | None) -> str:
        return "" if at_ms is None else iso(at_ms)

    return {
        "source": one.source,
        "name": one.name,
        "symbol": one.symbol,
        "rows": one.rows,
        "versions": one.versions_n,
        "first": text(one.first_ms),
        "last": text(one.last_ms),
        "known_until": text(one.known_until_ms),
        "stale_ms": one.stale_ms,
        "problem": one.problem,
    }
