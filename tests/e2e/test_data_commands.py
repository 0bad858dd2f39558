"""`import-data`, `check-data`, `list-data --deep` and `revisions`, as somebody types them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import feather

from adapters.history.parquet_file import Bars, Rates, read_bars, read_rates, write_rates
from adapters.history.store import bars_path, funding_path
from adapters.journal import SqliteJournal
from daemon.domain.bar import Proof
from daemon.domain.messages import BarsClosed, DecisionsFlagged, Revised
from daemon.domain.units import Timeframe
from daemon.engine.state import SCHEMA
from daemon.settings import effective_toml
from daemon.wiring.instruments import write_instruments
from tests.adapters.history.samples import M30, MIDNIGHT, bars_of, store
from tests.e2e.line import command, settings_of
from tests.wiring.test_cleansed_feed import instruments

UNTRUSTED, WRONG_WORD = 65, 78


def test_a_csv_is_imported_listed_and_checked(tmp_path: Path) -> None:
    bars = bars_of(200)
    rows = [
        ";".join(map(repr, [at // 1000, *row]))
        for at, row in zip(bars.open_ms.tolist(), bars.values.tolist(), strict=True)
    ]
    (tmp_path / "btc.csv").write_text("When;Open;High;Low;Close;Qty\n" + "\n".join(rows))
    words = ["import-data", "btc.csv", "--venue", "kraken", "--symbol", "BTC/USD:USD"]
    refused = command(*words, cwd=tmp_path)
    assert refused.code == UNTRUSTED
    assert "no column for time; there are: When, Open" in refused.complaint
    assert "--column time=NAME" in refused.complaint
    assert not (tmp_path / "data").exists()
    words += ["--column", "time=When", "--column", "volume=Qty", "--json"]
    done = command(*words, cwd=tmp_path)
    assert done.code == 0, done.complaint
    assert done.values["files"][0]["new"] == 200
    found = read_bars(bars_path(tmp_path / "data", "kraken", "BTCUSD", M30), M30)
    assert found.values.tobytes() == bars.values.tobytes()
    listed = command("list-data", "--deep", "--json", cwd=tmp_path).values
    assert [(one["symbol"], one["rows"]) for one in listed["files"]] == [("BTCUSD", 200)]
    checked = command("check-data", "--json", cwd=tmp_path)
    assert (checked.code, checked.values["bars"], checked.values["broken"]) == (0, 200, [])
    wrong = command(*words, "--label", "middle", cwd=tmp_path)
    assert wrong.code == WRONG_WORD
    assert "--label 'middle': accepted: open, close" in wrong.complaint


def test_a_damaged_number_is_found_by_deep_and_check_with_the_code_for_it(tmp_path: Path) -> None:
    path = store(tmp_path / "data", "v", "BTCUSDT", bars_of(300))
    store(tmp_path / "data", "v", "ETHUSDT", bars_of(300, 1))
    whole = path.read_bytes()
    at = len(whole) // 2
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 8]) + whole[at + 1 :])
    assert command("list-data", cwd=tmp_path).code == 0
    for words in (["list-data", "--deep"], ["check-data"]):
        done = command(*words, cwd=tmp_path)
        assert done.code == UNTRUSTED
        assert "BTCUSDT-30m.parquet" in done.out.replace("\n", "")


def test_list_data_lists_funding_and_says_below_the_table_what_is_broken(tmp_path: Path) -> None:
    store(tmp_path / "data", "v", "BTCUSDT", bars_of(50))
    rates = Rates.from_pairs([(MIDNIGHT + n * 28_800_000, 1e-4) for n in range(5)])
    for symbol in ("BTCUSDT", "ETHUSDT"):
        write_rates(funding_path(tmp_path / "data", "v", symbol), rates, {"venue": "v"})
    whole = command("list-data", cwd=tmp_path)
    assert whole.code == 0, whole.complaint
    assert any("ETHUSDT" in line and "funding" in line for line in whole.out.splitlines())
    broken = [funding_path(tmp_path / "data", "v", "ETHUSDT"),
              store(tmp_path / "data", "v", "XRPUSDT", bars_of(50))]  # fmt: skip
    for path in broken:
        path.write_bytes(path.read_bytes()[:-20])
    done = command("list-data", cwd=tmp_path, extra={"COLUMNS": "80"})
    assert done.code == UNTRUSTED
    for path in broken:
        assert any(line.startswith(f"{path.relative_to(tmp_path)}: ") for line in
                   done.out.splitlines()), done.out  # fmt: skip
    told = command("list-data", "--json", cwd=tmp_path).values
    assert told["problems"] == 2
    assert [(one["symbol"], one["rows"]) for one in told["funding"]] == [
        ("BTCUSDT", 5), ("ETHUSDT", 0),
    ]  # fmt: skip


def test_the_data_folder_of_freqtrade_is_imported_as_the_page_says(tmp_path: Path) -> None:
    """Run the first example of docs/data.md, word for word, over such a folder."""
    page = Path(__file__).parents[2] / "docs" / "data.md"
    lines = page.read_text(encoding="utf-8").splitlines()
    words = next(one for one in lines if one.strip().startswith("equipoise import-data")).split()
    folder = tmp_path / words[2]
    folder.mkdir(parents=True)
    hourly = Timeframe(60)
    bars = bars_of(48, source=hourly)
    settled = np.arange(6, dtype=np.int64) * 28_800_000 + MIDNIGHT
    for name in ("1h-futures", "1h-mark", "1h-funding_rate"):
        rows = bars
        if "funding" in name:
            rows = Bars(settled, np.tile([1e-4, 0.0, 0.0, 0.0, 0.0], (6, 1)))
        table = {"date": pa.array(rows.open_ms, pa.timestamp("ms", tz="UTC"))}
        for at, field in enumerate(("open", "high", "low", "close", "volume")):
            table[field] = pa.array(rows.values[:, at])
        feather.write_feather(pa.table(table), folder / f"BTC_USDT_USDT-{name}.feather")
    (folder / "leverage_tiers_USDT.json").write_text('{"updated": "x", "data": {}}')
    done = command(*words[1:], cwd=tmp_path)
    assert done.code == 0, done.complaint
    assert "leverage_tiers_USDT.json: left out: its name does not say" in done.out
    root = tmp_path / "data"
    found = read_bars(bars_path(root, "binanceusdm", "BTCUSDT", hourly), hourly)
    assert found.values.tobytes() == bars.values.tobytes()
    assert len(read_rates(funding_path(root, "binanceusdm", "BTCUSDT"))) == 6
    assert (root / "covariates/binanceusdm/BTCUSDT-mark.parquet").is_file()
    bad = folder / "ETH_USDT_USDT-1h-futures.csv"
    bad.write_text("date,open,high,low,close,volume\n2022-01-08,1,1,1,1,1\n"
                   "2022-01-08 01:00,1,x,1,1,1\n2022-01-08 02:00,1,1,1,1,1\n")  # fmt: skip
    refused = command(*words[1:], cwd=tmp_path)
    assert refused.code == UNTRUSTED
    assert "row 1, column 'high': 'x'" in refused.complaint
    assert "--skip-bad leaves such rows out" in refused.complaint
    skipped = command(*words[1:], "--skip-bad", cwd=tmp_path)
    assert (skipped.code, "2 rows, 2 new; 1 bad rows left out" in skipped.out) == (0, True)
    assert "  left out: row 1, column 'high': 'x'; accepted: a number" in skipped.out


def test_check_data_says_what_when_and_what_is_done(tmp_path: Path) -> None:
    for n in range(4):
        bars = bars_of(300, n)
        bars.values[100:103, :4] = bars.values[99, 3]
        bars.values[100:103, 4] = 0.0
        store(tmp_path / "data", "v", f"C{n}USDT", bars)
    done = command("check-data", "--severity", "serious", cwd=tmp_path)
    assert done.code == 0, done.complaint
    assert "2022-01-10 02:00 .. 2022-01-10 03:00  frozen_venue  v 30m  C0USDT" in done.out
    assert "removed: absent for trading and learning, kept in the file" in done.out
    off = command(
        "check-data", "--json", "--set", "data.remove_frozen_venue=false", cwd=tmp_path
    ).values
    assert "frozen_venue" not in {one["rule"] for one in off["findings"]}
    wrong = command("check-data", "--severity", "dire", cwd=tmp_path)
    assert wrong.code != 0
    assert "serious, warning, note" in wrong.complaint


def test_revisions_names_the_bar_its_values_and_the_decisions(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    write_instruments(state, instruments(3))
    values, nothing = bars_of(3).values, np.full(3, np.nan)
    close_ms = MIDNIGHT + 30 * 60_000
    proof = np.array([Proof.SUCCESSOR, Proof.SUCCESSOR, Proof.ABSENT], dtype=np.uint8)
    closed = BarsClosed(close_ms, np.where(proof[:, None] > 0, values, np.nan), proof, nothing)
    after = values[1] * 1.01
    revised = Revised(close_ms, 1, values[1], after, Proof.REREAD, close_ms + 7_200_000)
    flagged = DecisionsFlagged(1, close_ms, (close_ms + 1_800_000,))

    async def write() -> None:
        journal = SqliteJournal(
            state / "journal.sqlite",
            state_schema=SCHEMA,
            code_version="test",
            settings_text=effective_toml(settings_of(state)),
        )
        async with journal:
            await journal.append([(closed, ()), (revised, (flagged,))])

    asyncio.run(write())
    found = command("revisions", "--state", state, "--json", cwd=tmp_path)
    assert found.code == 0, found.complaint
    (bar,) = found.values["revised"]
    assert (bar["symbol"], bar["close_ms"], bar["shown_by"]) == ("C1/USDT:USDT", close_ms, "reread")
    assert (bar["before"], bar["after"]) == (values[1].tolist(), after.tolist())
    assert bar["decisions"] == [close_ms + 1_800_000]
    (venue,) = found.values["venues"]
    assert (venue["bars_n"], venue["revised_n"], venue["decisions_n"]) == (2, 1, 1)
    text = command("revisions", "--state", state, cwd=tmp_path).out
    assert "1 of 2 bars revised (500000.0 in a million), 1 decisions flagged" in text
    nowhere = command("revisions", "--state", tmp_path / "none", cwd=tmp_path)
    assert nowhere.code == UNTRUSTED
