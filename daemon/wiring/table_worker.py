"""What the worker hosts for `estimator.kind = "table"`: predictions that were made before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapters.history.predictions_file import read_predictions
from daemon.domain.units import Timeframe
from strategies.forecast.table import TableEstimator


def build(config: Mapping[str, Any]) -> TableEstimator:
    """Build the estimator that replays {"table": path}.

    Beside it: "symbols" of the windows as in file names, "timeframes_minutes". Raises CorruptFile,
    DataError or ModelError for a table that must not be used.
    """
    path = Path(str(config["table"]))
    stored = read_predictions(path)
    return TableEstimator(
        stored.table,
        stored.table_id,
        name=str(path),
        symbols=list(config["symbols"]),
        timeframes=[Timeframe(m) for m in config["timeframes_minutes"]],
    )
