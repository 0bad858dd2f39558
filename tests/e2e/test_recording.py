"""The bars of a running daemon in the store: the exchange's truth to the bit, whatever ends it."""

import signal
from pathlib import Path

import numpy as np

from adapters.history.parquet_file import Bars, is_generated, read_bars
from adapters.history.store import bars_path, list_bars
from adapters.journal import JournalReader
from adapters.rehearsal.build import build_market
from daemon.domain.bar import Floats, Proof
from daemon.domain.messages import BarsClosed
from daemon.domain.units import Timeframe, iso
from daemon.wiring.rehearsal import exchange_settings, last_instant_ms
from tests.adapters.history.samples import MIDNIGHT, bars_of, store
from tests.e2e.line import SMALL, Daemon, daemon, rehearse, settings_of

M30 = Timeframe(30)
QUICK = (*SMALL, "data.record_every_h=3")


def truth_of(state: Path, symbol: str, open_ms: int) -> Floats:
    """Give the market's own bar that opens at an instant: (5,)."""
    market = build_market(exchange_settings(settings_of(state, *QUICK), resume_at_ms=None))
    steps = market.steps(symbol, open_ms, open_ms + M30.ms)
    lots = 10.0 ** (market.coins[symbol].quantity_decimals or 0)
    volume = np.rint(steps.volume.sum() * lots) / lots
    return np.array([steps.open[0], steps.high.max(), steps.low.min(), steps.close[-1], volume])


def stored(state: Path, symbol: str) -> Bars:
    path = bars_path(state / "bars", "binanceusdm", symbol, M30)
    assert is_generated(path)
    return read_bars(path, M30)


async def test_stored_bars_are_the_markets_own_through_a_kill_and_a_stop(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with daemon(*rehearse(state, *QUICK), cwd=tmp_path) as running:
        await running.decided(14)
        await running.kill()
    after_kill = list_bars(state / "bars", deep=True)
    assert [one.problem for one in after_kill] == [None] * 12
    assert not list((state / "bars").rglob("*.corrupt-*"))
    async with daemon(*rehearse(state, *QUICK), cwd=tmp_path) as running:
        await running.decided(10)
        assert await running.end(signal.SIGTERM) == 0, running.said
    reached_ms = last_instant_ms(state)
    assert reached_ms is not None
    rng = np.random.default_rng(3)
    for listing in list_bars(state / "bars", deep=True):
        bars = stored(state, listing.symbol)
        assert listing.gaps == (), "what the kill took was read again"
        assert iso(int(bars.open_ms[-1]) + M30.ms) == iso(reached_ms)
        noted = bars.provenance
        assert noted is not None
        assert set(noted.proof.tolist()) <= {Proof.SUCCESSOR, Proof.REREAD}
        live = noted.proven_ms > 0
        assert live.sum() >= 24
        assert (noted.proof[live] == Proof.SUCCESSOR).mean() > 0.8
        assert (noted.proven_ms[live] >= bars.open_ms[live] + M30.ms).all()
        assert not noted.revised_ms.any()
        if listing.symbol not in ("BTCUSDT", "ETHUSDT"):
            continue
        for row in [*np.flatnonzero(live)[-6:].tolist(), *rng.integers(0, len(bars), 6).tolist()]:
            wanted = truth_of(state, listing.symbol, int(bars.open_ms[row]))
            assert bars.values[row].tobytes() == wanted.tobytes()


async def test_a_store_that_cannot_be_written_stops_nothing_is_told_and_is_made_good(
    tmp_path: Path,
) -> None:
    state, blocked = tmp_path / "state", tmp_path / "file"
    blocked.write_text("no folder")
    chosen = (*QUICK, f"data.folder={blocked}")
    async with daemon(*rehearse(state, *chosen), cwd=tmp_path) as running:
        await running.until(lambda d: len(stories(d)) > 0)
        refused_n = running.count["decision"]
        await running.decided(refused_n + 8)
        assert blocked.read_text() == "no folder"
        blocked.unlink()
        await running.until(lambda d: len(stories(d)) > 1)
        assert await running.end(signal.SIGTERM) == 0, running.said
        assert running.said.count("bars_not_stored") == 1
        refused, again = stories(running)
    assert str(blocked) in refused
    assert "trading goes on" in refused
    assert "is stored again" in again
    listed = list_bars(blocked, deep=True)
    assert len(listed) == 12
    assert [(one.problem, one.gaps) for one in listed] == [(None, ())] * 12
    reached_ms = last_instant_ms(state)
    assert {(one.last_open_ms or 0) + M30.ms for one in listed} == {M30.last_close(reached_ms or 0)}


def stories(running: Daemon) -> list[str]:
    """Give the alerts about the store."""
    return [one["text"] for one in running.of("alert") if "stored" in one["text"]]


OUTAGE = range(300, 304)
SYMBOLS = ("BTCUSDT", "ETHUSDT", "ADAUSDT", "SOLUSDT")


def write_frozen_market(folder: Path) -> None:
    for n, symbol in enumerate(SYMBOLS):
        bars = bars_of(330, n)
        for row in OUTAGE:
            bars.values[row, :4] = bars.values[OUTAGE[0] - 1, 3]
        bars.values[1:, 0] = bars.values[:-1, 3]  # a market opens where it closed
        bars.values[:, :4] = np.round(bars.values[:, :4], 2)
        bars.values[:, 1] = bars.values[:, :4].max(axis=1)
        bars.values[:, 2] = bars.values[:, :4].min(axis=1)
        bars.values[:, 4] = np.round(bars.values[:, 4] * 1000, 0)
        bars.values[OUTAGE, 4] = 0.0
        store(folder, "somewhere", symbol, bars)


async def test_an_outage_is_stored_as_the_venue_showed_it_and_absent_for_the_engine(
    tmp_path: Path,
) -> None:
    write_frozen_market(tmp_path / "recorded")
    state = tmp_path / "state"
    chosen = (
        *SMALL,
        f"rehearsal.data_folder={tmp_path / 'recorded' / 'ohlcv' / 'somewhere'}",
        'market.timeframes=["1h"]',
        'universe.symbols="top:4"',
    )
    async with daemon(*rehearse(state, *chosen), cwd=tmp_path) as running:
        await running.until(lambda d: d.ended, 90)
        said = running.said
    assert said.count("bar_removed") == len(OUTAGE) * len(SYMBOLS), said
    assert said.count("frozen_venue") == len(OUTAGE) * len(SYMBOLS)
    dark = {MIDNIGHT + (row + 1) * M30.ms for row in OUTAGE}
    absent = {
        entry.event.close_ms
        for entry in JournalReader(state / "journal.sqlite").read_from(1)
        if isinstance(entry.event, BarsClosed) and not entry.event.proof.any()
    }
    assert dark <= absent
    for symbol in SYMBOLS:
        bars = read_bars(bars_path(state / "bars", "binanceusdm", symbol, M30), M30)
        shown = bars.values[np.isin(bars.open_ms + M30.ms, sorted(dark))]
        assert len(shown) == len(OUTAGE)
        assert (shown[:, 4] == 0).all(), "the store keeps what the venue showed"
