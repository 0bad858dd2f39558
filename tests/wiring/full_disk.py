"""Let a recorder meet a disk that is full, in a process of its own: `python -m ... FOLDER`.

A limit on the size of files stands for the disk: what is longer is cut by the kernel, as there.
Prints one JSON object that says what was told and what lies there.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np

from adapters.history.parquet_file import read_bars, read_rates
from adapters.history.recorder import Observation, Recorder
from adapters.history.store import bars_path, funding_path, list_bars
from daemon.domain.bar import FIELDS, Proof
from daemon.domain.instrument import Instrument, InstrumentKey, TradingRules
from daemon.domain.messages import BarsClosed, FundingRates, Revised
from daemon.domain.units import HOUR_MS, Timeframe
from daemon.wiring.bar_recorder import BarRecorder

M30 = Timeframe(30)
VENUE = "binanceusdm"
SYMBOLS = ("BTC/USDT:USDT", "ETH/USDT:USDT")
BEGIN_MS = 19_000 * 48 * M30.ms
FULL_BYTES = 4_000
PHASES = ("well", "full", "well again")
BARS_EACH = 400


def closed(number: int) -> BarsClosed:
    draw = np.random.default_rng(number)
    opens = np.exp(draw.normal(5, 1, len(SYMBOLS)))
    values = np.empty((len(SYMBOLS), FIELDS))
    values[:, 0] = values[:, 3] = opens
    values[:, 1], values[:, 2] = opens * 1.01, opens * 0.99
    values[:, 4] = draw.lognormal(3, 1, len(SYMBOLS))
    close_ms = BEGIN_MS + (number + 1) * M30.ms
    proof = np.full(len(SYMBOLS), Proof.SUCCESSOR, dtype=np.uint8)
    proven_ms = np.full(len(SYMBOLS), close_ms + 7, dtype=np.int64)
    return BarsClosed(close_ms, values, proof, opens, proven_ms=proven_ms)


def revised(number: int) -> Revised:
    bar = closed(number)
    after = bar.values[0].copy()
    after[4] += 1.0
    return Revised(bar.close_ms, 0, bar.values[0], after, Proof.REREAD, bar.close_ms + 5)


def coins() -> list[Instrument]:
    rules = TradingRules(Decimal("0.1"), Decimal("0.001"), Decimal("0.001"), Decimal(5))
    return [
        Instrument(InstrumentKey(VENUE, symbol), symbol[:3], "USDT", "USDT", rules)
        for symbol in SYMBOLS
    ]


async def main(root: Path) -> dict[str, object]:
    recorder = BarRecorder({VENUE: Recorder(root, VENUE, M30, True)}, coins(), HOUR_MS, root)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    told: list[tuple[str, bool]] = []
    gaps: dict[str, int] = {}
    shown: dict[str, dict[str, object]] = {}
    number = 0
    for phase in PHASES:
        size = FULL_BYTES if phase == "full" else hard
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        for _ in range(BARS_EACH):
            bar = closed(number)
            recorder(bar)
            if bar.close_ms % (8 * HOUR_MS) == 0:
                rates = np.array([1e-4, np.nan])
                recorder(FundingRates(bar.close_ms, rates, np.array([1.0, np.nan])))
            if number % 50 == 49:
                recorder(revised(number - 3))
                await recorder.observed(
                    [Observation(VENUE, "BTC", "mark", bar.close_ms, bar.close_ms + 1, 7.0)]
                )
            if number % 10 == 9:
                await recorder._written()
            told += [(phase, one.active) for one in recorder.take_notices()]
            number += 1
        shown[phase] = recorder.shown(VENUE)
        listed = list_bars(root, deep=True)
        gaps[phase] = BARS_EACH * (PHASES.index(phase) + 1) - min(one.rows for one in listed)
        assert all(one.problem is None for one in listed), listed
    await recorder.finish()
    told += [("end", one.active) for one in recorder.take_notices()]
    bars = read_bars(bars_path(root, VENUE, SYMBOLS[1], M30), M30)
    wanted = np.array([closed(n).values[1] for n in range(number)])
    revisions = list((root / "revisions" / VENUE).iterdir())
    return {
        "told": told,
        "missing": gaps,
        "shown": shown,
        "equal": bool(np.array_equal(bars.values, wanted)),
        "rates": len(read_rates(funding_path(root, VENUE, SYMBOLS[0]))),
        "revisions": [len(p.read_text().splitlines()) for p in revisions],
        "parts": [p.name for p in root.rglob("*.part")],  # noqa: ASYNC240
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(Path(sys.argv[1])))))
