"""`import-data`, `check-data`, `list-data --deep` and `revisions`, as somebody types them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np

from adapters.history.parquet_file import read_bars
from adapters.history.store import bars_path
from adapters.journal import SqliteJournal
from daemon.domain.bar import Proof
from daemon.domain.messages import BarsClosed, DecisionsFlagged, Revised
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
