"""Open interest, mark and index come through the real client, each known when it was published."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from adapters.history.covariates import read_series, series_path
from adapters.history.parquet_file import read_bars
from adapters.history.store import bars_path
from adapters.rehearsal.series import INTEREST_TIMES
from daemon.domain.bar import Field
from daemon.domain.units import Timeframe
from daemon.settings import effective_toml
from daemon.wiring.rehearsal import rehearsal_exchange
from tests.e2e.line import SMALL, command, settings_of

M30 = Timeframe(30)


def test_series_of_the_venue_are_those_of_its_market_and_go_on_where_they_end(
    tmp_path: Path,
) -> None:
    with rehearsal_exchange(settings_of(tmp_path / "state", *SMALL)) as rehearsal:
        file = tmp_path / "exchange.toml"
        file.write_text(effective_toml(rehearsal.settings), encoding="utf-8")
        words = ["download-data", "-c", str(file), "--folder", str(tmp_path / "data"), "--json"]
        wanted = ["--series", "open_interest,mark,index"]
        made = command(*words, "--days", "12", *wanted, cwd=tmp_path)
        assert made.code == 0, made.complaint
        again = command(*words, "--days", "12", *wanted, cwd=tmp_path)
    assert set(made.values["series"].values()) == {12 * 48}
    assert set(again.values["series"].values()) == {0}
    bars = read_bars(bars_path(tmp_path / "data", "binanceusdm", "BTCUSDT", M30), M30)
    found = {
        name: read_series(series_path(tmp_path / "data", "binanceusdm", "BTCUSDT", name))
        for name in ("open_interest", "mark", "index")
    }
    mark = found["mark"]
    assert mark.ts.tolist() == bars.open_ms.tolist()
    np.testing.assert_array_equal(mark.values, bars.values[:, Field.CLOSE])
    assert all((one.known_ms - one.ts == M30.ms).all() for one in found.values())
    away = np.log(mark.values / found["index"].values)
    assert 0 < np.abs(away).max() < 0.01
    interest = dict(
        zip(found["open_interest"].ts.tolist(), found["open_interest"].values, strict=True)
    )
    volumes = zip(bars.open_ms + M30.ms, bars.values[:, Field.VOLUME], strict=True)
    pairs = [(interest[at], INTEREST_TIMES * v) for at, v in volumes if at in interest]
    assert len(pairs) > 500
    np.testing.assert_allclose([told for told, _ in pairs], [true for _, true in pairs], rtol=1e-9)


def test_an_unknown_series_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    done = command("download-data", "--series", "moon", cwd=tmp_path)
    assert done.code == 78
    assert "--series 'moon': accepted: open_interest, mark, index" in done.complaint
