"""The small commands, as a newcomer types them in an empty folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.books import check_books_agree
from tests.e2e.line import NEUTRAL, SMALL, command, rehearse, sets, settings_of, unread

EXISTS = 78
READER_GONE = 141


def test_init_writes_a_settings_file_that_every_command_then_reads(tmp_path: Path) -> None:
    done = command("init", cwd=tmp_path)
    assert done.code == 0, done.complaint
    written = tmp_path / "equipoise.toml"
    before = command("config", "--json", cwd=tmp_path).values
    json.loads((tmp_path / "equipoise.schema.json").read_text())
    starter = written.read_text()
    assert starter.count('# cash = "10000.0"') == 1
    mine = starter.replace('# cash = "10000.0"', 'cash = "4321"')
    written.write_text(mine)
    after = command("config", "--json", cwd=tmp_path).values
    assert float(after["paper"].pop("cash")) == 4321
    assert float(before["paper"].pop("cash")) == 10_000
    assert after == before
    again = command("init", cwd=tmp_path)
    assert again.code == EXISTS
    assert "--force" in again.complaint
    assert written.read_text() == mine


def test_later_layers_win_and_what_config_prints_is_a_settings_file(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[paper]\nfee_bps = 2\ncash = 500\n")
    words = ["config", "-c", "mine.toml", "--set", "paper.cash=600"]
    extra = {"EQUIPOISE__PAPER__FEE_BPS": "3", "EQUIPOISE__PAPER__CASH": "550"}
    done = command(*words, cwd=tmp_path, extra=extra)
    assert done.code == 0, done.complaint
    (tmp_path / "printed.toml").write_text(done.out)
    read = command("config", "-c", "printed.toml", "--json", cwd=tmp_path).values
    assert float(read["paper"]["fee_bps"]) == 3
    assert float(read["paper"]["cash"]) == 600


def test_help_lists_every_command_and_no_command_is_an_error(tmp_path: Path) -> None:
    done = command("--help", cwd=tmp_path)
    assert done.code == 0
    for name in ("init", "doctor", "download-data", "train", "backtest", "trade", "rehearse"):
        assert name in done.out
    assert command(cwd=tmp_path).code != 0


@pytest.mark.parametrize(
    "words",
    [["--help"], ["config"], ["config", "--json"], ["models"], ["list-data", "--json"], ["init"]],
    ids=" ".join,
)
def test_a_reader_that_goes_away_ends_a_command_quietly_with_its_own_code(
    words: list[str], tmp_path: Path
) -> None:
    done = unread(*words, cwd=tmp_path)
    assert (done.code, done.complaint) == (READER_GONE, "")


@pytest.mark.parametrize(
    "shape",
    [
        [],
        pytest.param(["--json"], marks=pytest.mark.soak),
        pytest.param(["--quiet"], marks=pytest.mark.soak),
    ],
    ids=str,
)
def test_a_rehearsal_without_a_reader_ends_and_its_book_goes_on(
    shape: list[str], tmp_path: Path
) -> None:
    words = [*rehearse(tmp_path / "state", *SMALL), "--days", "4", *shape]
    done = unread(*words, cwd=tmp_path, lines=1)
    assert (done.code, done.complaint) == (READER_GONE, "")
    assert done.out
    again = command(*rehearse(tmp_path / "state", *SMALL), "--days", "0.5", "--json", cwd=tmp_path)
    assert again.code == 0, again.complaint
    check_books_agree(settings_of(tmp_path / "state", *SMALL))


@pytest.mark.parametrize("options", [SMALL, NEUTRAL], ids=["rule", "forecasts"])
def test_doctor_looks_at_a_rehearsal_and_tells_the_least_capital(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    words = ["doctor", "--rehearsal", "--json", *sets(options)]
    done = command(*words, cwd=tmp_path)
    assert done.code == 0, done.complaint + done.out
    found = {one["name"]: one for one in done.values["findings"]}
    assert {"python", "strategy", "model", "journal", "exchange", "clock"} <= set(found)
    assert all(one["verdict"] != "bad" for one in found.values())
    assert "12 instruments" in found["exchange"]["text"]
    assert "USDT" in found["minimum capital"]["text"]


def test_doctor_says_when_the_capital_is_too_small_and_exits_with_one(tmp_path: Path) -> None:
    words = ["doctor", "--rehearsal", "--json", *sets([*SMALL, "paper.cash=30"])]
    done = command(*words, cwd=tmp_path)
    assert done.code == 1
    (capital,) = [f for f in done.values["findings"] if f["name"] == "minimum capital"]
    assert capital["verdict"] == "bad"
    assert "30" in capital["text"]


def test_doctor_names_what_is_bad_without_asking_anybody(tmp_path: Path) -> None:
    chosen = ["strategy.name=nonsense", "redis.binary=nowhere/valkey"]
    done = command("doctor", "--offline", "--json", *sets(chosen), cwd=tmp_path)
    assert done.code == 1
    bad = {f["name"]: f["text"] for f in done.values["findings"] if f["verdict"] == "bad"}
    assert "nonsense" in bad["strategy"]
    assert any("nowhere/valkey" in text for text in bad.values())


def test_live_trading_is_refused_without_a_key_and_at_a_venue_without_tables(
    tmp_path: Path,
) -> None:
    done = command("trade", "--live", cwd=tmp_path)
    assert done.code == EXISTS
    assert "EQUIPOISE_BINANCEUSDM_API_KEY" in done.complaint
    done = command("trade", "--live", "--exchange", "gate", cwd=tmp_path)
    assert done.code == EXISTS
    assert "gate cannot be traded live" in done.complaint
