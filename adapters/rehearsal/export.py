"""A market written to Parquet, for a backtest that reads only files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from adapters.rehearsal.market import Market
from adapters.rehearsal.publication import Publication
from daemon.domain.units import Timeframe


def export_parquet(
    market: Market, folder: Path, timeframe: str, start_ms: int, end_ms: int
) -> list[Path]:
    """Write `<SYMBOL>-<timeframe>.parquet` and `<SYMBOL>-funding.parquet` of [start, end).

    The figures are those that the exchange publishes, to the bit. Gives the files of bars.
    """
    folder.mkdir(parents=True, exist_ok=True)
    publication = Publication(market)
    length_ms = Timeframe.parse(timeframe).ms
    written = []
    for symbol in market.coins:
        klines = publication.klines(
            symbol,
            length_ms,
            end_ms,
            start_ms=start_ms,
            end_ms=end_ms - 1,
            limit=(end_ms - start_ms) // length_ms,
        )
        bars = {
            "ts": klines.open_ms,
            "open": klines.open,
            "high": klines.high,
            "low": klines.low,
            "close": klines.close,
            "volume": klines.volume,
        }
        path = folder / f"{symbol}-{timeframe}.parquet"
        pq.write_table(pa.table(bars), path, compression="zstd")
        written.append(path)
        settled = market.settlements(symbol, start_ms, end_ms)
        funding = {
            "ts": pa.array([item.time_ms for item in settled], pa.int64()),
            "rate": pa.array([item.rate for item in settled], pa.float64()),
        }
        pq.write_table(pa.table(funding), folder / f"{symbol}-funding.parquet", compression="zstd")
    return written
