"""`equipoise predict`: what a stored model says of any folder of bars, as a table."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from daemon.commands.evaluate.stress import shown_share
from daemon.commands.options import (
    AsJson,
    ConfigFiles,
    Overrides,
    console,
    print_json,
    read_settings,
)
from daemon.domain.units import Timeframe, instant_ms
from daemon.runtime.logs import configure_logs
from daemon.wiring.predicting import bars_in, instants_text, stored_model
from daemon.wiring.predicting import predict as write_table


def predict(
    bars: Annotated[
        Path,
        typer.Option(help="Folder of Parquet bars: of one venue, or a store with ohlcv/<venue>."),
    ],
    out: Annotated[Path, typer.Option(help="Parquet file to write.")],
    model: Annotated[
        str, typer.Option(help="Id of a stored model, its folder, or champion.")
    ] = "champion",
    source: Annotated[str, typer.Option(help="Bar length of the files.")] = "30m",
    venue: Annotated[str, typer.Option(help="Which venue, where the store has several.")] = "",
    since: Annotated[
        datetime | None, typer.Option(help="Predict after this instant of UTC; default: all.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(help="Predict until this instant of UTC; default: all.")
    ] = None,
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Write the predictions of a stored model for recorded bars; nothing is fitted.

    Columns: as_of (ms of UTC), symbol, prediction, and mean and variance of each timeframe.
    """
    settings = read_settings(config, overrides, base="backtest.toml")
    configure_logs(settings.run.log_level, as_json=settings.run.log_json)
    checkpoint = stored_model(settings, model)
    found = bars_in(bars, Timeframe.parse(source), venue)
    with shown_share("predicting", hidden=as_json) as done:
        predicted = write_table(
            settings,
            checkpoint,
            found,
            out,
            since_ms=_instant(since),
            until_ms=_instant(until),
            done=done,
        )
    if as_json:
        print_json(asdict(predicted))
        return
    screen = console()
    screen.print(
        f"model {predicted.model_id}: {predicted.rows} predictions of {predicted.symbols} symbols,"
        f" {instants_text(predicted)}",
        soft_wrap=True,
    )
    screen.print(f"written: {predicted.path} (table {predicted.table_id})", soft_wrap=True)


def _instant(moment: datetime | None) -> int | None:
    return None if moment is None else instant_ms(moment.replace(tzinfo=UTC))
