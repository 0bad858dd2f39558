"""Bad input through the real command line: one clear message, the documented exit code, no loss."""

from __future__ import annotations

import asyncio
import json
import resource
import shutil
import socket
import sqlite3
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from adapters.rehearsal.launch import LaunchedExchange, launch
from adapters.rehearsal.settings import RehearsalSettings
from adapters.state_lock import LOCK_NAME
from daemon.wiring.decisions import read_run
from tests.e2e.books import check_books_agree, copied, read_account, replay_book
from tests.e2e.line import SMALL, Finished, command, rehearse, sets, settings_of

USAGE, DATA, MODEL, VENUE, PORT, JOURNAL, SETTING = 2, 65, 66, 69, 71, 74, 78


def said(done: Finished, code: int, *words: str) -> str:
    """Check the exit code, and that one error names what it is about, without a traceback."""
    assert done.code == code, (done.code, done.complaint, done.out)
    assert "Traceback" not in done.complaint, done.complaint
    assert done.complaint.count("error:") == 1, done.complaint
    for word in words:
        assert word in done.complaint, f"{word!r} is not in: {done.complaint}"
    return done.complaint


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the state folder of a short run; tests work on copies of it."""
    folder = tmp_path_factory.mktemp("played")
    done = command(*rehearse(folder / "state", *SMALL), "--json", "--days", "0.4", cwd=folder)
    assert done.code == 0, done.complaint
    return folder / "state"


@pytest.fixture
def state(played: Path, tmp_path: Path) -> Path:
    shutil.copytree(played, tmp_path / "state")
    return tmp_path / "state"


# ---- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("paper.fee_bp=3", ["--set paper.fee_bp", "unknown key", "paper.fee_bps"]),
        ("papper.fee_bps=3", ["unknown section papper"]),
        ("paper.fee_bps=many", ["paper.fee_bps", "many", "-10 to 100"]),
        ("risk.net_weight_max=-1", ["risk.net_weight_max", "-1", "above 0"]),
        ("strategy.name=neutrall", ["neutrall", "neutral"]),
        ('strategy.parameters={"look_back": 3}', ["look_back", "lookback_bars"]),
        ("market.source=7m", ["market.source", "7m", "divides the day"]),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_accepted(
    tmp_path: Path, option: str, words: list[str]
) -> None:
    done = command(*rehearse(tmp_path / "state", *SMALL, option), cwd=tmp_path)
    said(done, SETTING, *words)
    assert not (tmp_path / "state").exists()


def test_a_wrong_setting_in_the_environment_and_in_a_file_is_named_with_its_place(
    tmp_path: Path,
) -> None:
    done = command("config", cwd=tmp_path, extra={"EQUIPOISE__PAPER__CASH": "-5"})
    said(done, SETTING, "EQUIPOISE__PAPER__CASH", "paper.cash", "-5")
    (tmp_path / "mine.toml").write_text("[redis]\nenabeld = true\n")
    done = command("doctor", "--offline", "-c", "mine.toml", cwd=tmp_path)
    said(done, SETTING, "mine.toml", "redis.enabeld", "redis.enabled")
    (tmp_path / "mine.toml").write_text("[redis\n")
    said(command("config", "-c", "mine.toml", cwd=tmp_path), SETTING, "mine.toml", "line 1")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["trad"], "trad"),
        (["rehearse", "--dais", "3"], "--dais"),
        (["rehearse", "--days", "many"], "--days"),
    ],
)
def test_an_unknown_command_or_option_is_a_usage_error(
    tmp_path: Path, words: list[str], named: str
) -> None:
    done = command(*words, cwd=tmp_path)
    assert done.code == USAGE
    assert named in done.complaint


# ---- the exchange --------------------------------------------------------------------------------


def test_an_unknown_exchange_is_named_with_the_nearest_ones(tmp_path: Path) -> None:
    done = command("trade", "--paper", "--exchange", "binanceusd", cwd=tmp_path)
    said(done, VENUE, "binanceusd", "binanceusdm")


@pytest.fixture(scope="module")
def exchange() -> Iterator[LaunchedExchange]:
    settings = RehearsalSettings(coins=2, history_days=20)
    with launch(settings) as running:
        yield running


def trade_at(exchange: LaunchedExchange, folder: Path) -> Finished:
    chosen = [
        *SMALL,
        f"run.state_folder={folder / 'state'}",
        "exchange.id=binanceusdm",
        f"exchange.options={json.dumps(exchange.ccxt_options())}",
        "exchange.market_time=venue",
        "exchange.generated=true",
    ]
    return command("trade", "--paper", *sets(chosen), cwd=folder)


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        ("http_451", VENUE, ["451", "legal restriction", "httpsProxy", "another exchange"]),
        ("http_403", VENUE, ["403", "firewall", "httpsProxy"]),
        ("not_json_200", DATA, ["not JSON", "One moment"]),
    ],
)
def test_an_exchange_that_refuses_or_answers_nonsense_is_explained(
    tmp_path: Path, exchange: LaunchedExchange, fault: str, code: int, words: list[str]
) -> None:
    switch_fault(exchange, fault, 1_000_000)
    try:
        done = trade_at(exchange, tmp_path)
    finally:
        switch_fault(exchange, "none", 1)
    said(done, code, "binanceusdm", *words)


def switch_fault(exchange: LaunchedExchange, kind: str, count: int) -> None:
    body = json.dumps({"kind": kind, "count": count}).encode()
    request = urllib.request.Request(f"{exchange.rest_url}/rehearsal/fault", data=body)
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


async def test_a_server_that_speaks_no_http_at_all_is_explained(tmp_path: Path) -> None:
    async with babbler() as port:
        url = f"http://127.0.0.1:{port}"
        names = ("fapiPublic", "fapiPublicV2", "public", "fapiData")
        options = json.dumps({"urls": {"api": dict.fromkeys(names, url)}})
        chosen = [*SMALL, f"run.state_folder={tmp_path / 'state'}", f"exchange.options={options}"]
        words = ["trade", "--paper", "--exchange", "binanceusdm", *sets(chosen)]
        done = await asyncio.to_thread(command, *words, cwd=tmp_path)
    said(done, VENUE, "binanceusdm")


@asynccontextmanager
async def babbler() -> AsyncIterator[int]:
    """Serve a port that answers everything with bytes that are no HTTP."""

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"220 mail.example ready\r\n\x00\xff\xfe\r\n" * 3)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    async with server:
        yield int(server.sockets[0].getsockname()[1])


def test_a_taken_port_for_the_rehearsal_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = command(
            *rehearse(tmp_path / "state", *SMALL, f"rehearsal.port={port}"), cwd=tmp_path
        )
    said(done, PORT, str(port), "0 for any")


def test_a_model_that_is_not_there_is_named(tmp_path: Path, exchange: LaunchedExchange) -> None:
    chosen = [
        f"run.state_folder={tmp_path / 'state'}",
        f"exchange.options={json.dumps(exchange.ccxt_options())}",
        "exchange.generated=true",
        "estimator.kind=model",
        "estimator.model=a-model-of-mine",
        "universe.symbols=top:2",
        f"estimator.models_folder={tmp_path / 'models'}",
    ]
    done = command("trade", "--paper", *sets(chosen), cwd=tmp_path)
    said(done, MODEL, "a-model-of-mine", str(tmp_path / "models"))


# ---- state folder --------------------------------------------------------------------------------


def resume(state: Path, *overrides: str) -> Finished:
    """Go on for a few decisions."""
    words = [*rehearse(state, *SMALL, *overrides), "--json", "--days", "0.1"]
    return command(*words, cwd=state.parent)


def verify(state: Path) -> Finished:
    """Play the journal again."""
    return command("replay", "--verify", "--json", "--state", state, cwd=state.parent)


def test_a_changed_byte_in_the_journal_is_found_and_nothing_is_traded_on_it(state: Path) -> None:
    journal = state / "journal.sqlite"
    assert verify(state).code == 0
    with sqlite3.connect(journal) as connection:
        (number, body) = connection.execute(
            "SELECT sequence, body FROM entries ORDER BY sequence DESC LIMIT 1 OFFSET 3"
        ).fetchone()
        forged = body[:-1] + bytes([body[-1] ^ 1])
        connection.execute("UPDATE entries SET body = ? WHERE sequence = ?", (forged, number))
        connection.execute("DELETE FROM snapshots WHERE sequence > ?", (number - 1,))
    connection.close()
    before = read_account(copied(state, state.parent / "before"))
    said(verify(state), JOURNAL, "journal.sqlite", str(number))
    said(resume(state), JOURNAL, "journal.sqlite", str(number))
    assert read_account(copied(state, state.parent / "after")) == before


def test_a_journal_that_is_no_database_is_named_and_left_alone(state: Path) -> None:
    journal = state / "journal.sqlite"
    for suffix in ("-wal", "-shm"):
        journal.with_name(journal.name + suffix).unlink(missing_ok=True)
    junk = b"this is a letter, not a journal\n" * 400
    journal.write_bytes(junk)
    said(verify(state), JOURNAL, "journal.sqlite")
    said(resume(state), JOURNAL, "journal.sqlite")
    assert journal.read_bytes() == junk


def test_a_paper_ledger_of_another_account_is_refused(state: Path) -> None:
    said(resume(state, "paper.cash=777"), SETTING, "777", "10000")
    check_books_agree(settings_of(state, *SMALL))


def test_over_a_paper_ledger_that_was_lost_trading_halts_and_names_the_differences(
    state: Path,
) -> None:
    for path in state.glob("paper.sqlite*"):
        path.unlink()
    done = resume(state)
    assert done.code == 0, done.complaint
    told = [json.loads(line) for line in done.out.splitlines()]
    (halted,) = [one for one in told if one["type"] == "alert" and one["kind"] == "halted"]
    assert "differs from the venue" in halted["text"]
    assert "venue 0" in halted["text"]
    decisions = [one for one in told if one["type"] == "decision"]
    assert decisions
    assert all(one["kind"] == "held" and not one["orders"] for one in decisions[1:])


def test_a_market_that_lies_before_what_the_book_has_seen_is_refused(state: Path) -> None:
    before = read_account(state)
    for path in state.glob("journal.sqlite*"):  # so that the rehearsal begins anew, in the past
        path.unlink()
    text = said(
        resume(state), VENUE, "binanceusdm", "its time is 2024-", "has seen 2024-", str(state)
    )
    assert text.index("its time is") < text.index("has seen")
    assert read_account(state) == before


def test_a_book_of_a_rehearsal_is_not_traded_on_a_venue(state: Path) -> None:
    chosen = [f"run.state_folder={state}", *SMALL, "market.source=30m"]
    done = command("trade", "--paper", *sets(chosen), "--json", cwd=state.parent)
    said(done, SETTING, "run.state_folder", str(state), "begun by a rehearsal")
    check_books_agree(settings_of(state, *SMALL))


def test_a_book_of_other_instruments_is_refused(state: Path) -> None:
    wanted = 'universe.symbols=["BTC/USDT:USDT", "ETH/USDT:USDT"]'
    said(resume(state, wanted), SETTING, "universe.symbols", "SOL/USDT:USDT", "run.state_folder")
    check_books_agree(settings_of(state, *SMALL))


@pytest.mark.parametrize(
    "content", [b"garbage", b"", b"[1, 2]", b"null", b"{}", b"\xff\xfe", b'{"seed": 7}']
)
def test_a_harmed_note_of_the_market_is_named_with_what_to_do(state: Path, content: bytes) -> None:
    note = state / "rehearsal-market.json"
    note.write_bytes(content)
    said(resume(state), DATA, str(note), "restore", "run.state_folder")


def test_a_rehearsal_that_would_end_before_it_starts_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    done = command(*rehearse(state, *SMALL, "rehearsal.until=2024-01-05"), cwd=tmp_path)
    said(done, SETTING, "rehearsal.until", "2024-01-05", "accepted is after 2024-01-24")


def test_bars_finer_than_the_market_s_own_are_refused_before_a_book_is_begun(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    done = command(*rehearse(state, *SMALL, "market.source=1m"), cwd=tmp_path)
    said(done, SETTING, "market.source = '1m'", "rehearsal.base_minutes", "multiple")
    assert not (state / "journal.sqlite").exists()


def test_a_state_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    done = command(*rehearse(tmp_path / "file" / "state", *SMALL), cwd=tmp_path)
    said(done, SETTING, str(tmp_path / "file" / "state"))


def test_a_state_folder_that_cannot_be_written_is_named(state: Path) -> None:
    lock = state / LOCK_NAME
    lock.unlink()
    lock.mkdir()  # refuses even the superuser, whom permissions do not stop
    said(resume(state), SETTING, str(state))
    lock.rmdir()
    check_books_agree(settings_of(state, *SMALL))


def test_a_full_disk_stops_trading_and_what_was_acknowledged_is_kept(state: Path) -> None:
    before = read_run(state)
    largest = max(path.stat().st_size for path in state.glob("*.sqlite*"))
    limit = largest + 96 * 1024

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    words = [*rehearse(state, *SMALL, "redis.enabled=false"), "--json"]
    done = command(*words, cwd=state.parent, before=small_disk, seconds=100)
    said(done, JOURNAL, "sqlite", "make room")
    told = [json.loads(line) for line in done.out.splitlines()]
    shown = {one["as_of_ms"]: one["digest"] for one in told if one["type"] == "decision"}
    assert shown, "it never got to a decision"
    kept = {line.as_of_ms: line.digest for line in read_run(state)}
    assert shown.items() <= kept.items(), "a decision was shown that the journal lost"
    assert {line.as_of_ms: line.digest for line in before}.items() <= kept.items()
    replay_book(settings_of(state, *SMALL))
    after = resume(state)
    assert after.code == 0, after.complaint
    check_books_agree(settings_of(state, *SMALL))


# ---- files ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a bar store with a few days of two coins, downloaded through the command line."""
    folder = tmp_path_factory.mktemp("files")
    with launch(RehearsalSettings(coins=2, history_days=20)) as running:
        chosen = [
            f"exchange.options={json.dumps(running.ccxt_options())}",
            "exchange.generated=true",
            "universe.symbols=top:2",
        ]
        words = ["--days", "6", "--folder", str(folder / "data"), "--json"]
        done = command("download-data", *words, *sets(chosen), cwd=folder)
        assert done.code == 0, done.complaint
        assert set(done.values["rows"].values()) == {288}
    return folder / "data"


def backtest(data: Path, *overrides: str) -> Finished:
    chosen = [*SMALL, f"backtest.data_folder={data}", "backtest.venue=binanceusdm"]
    chosen += ["universe.symbols=top:2", *overrides]
    return command("backtest", "--json", *sets(chosen), cwd=data.parent)


def test_good_files_are_listed_and_traded_over(data: Path) -> None:
    listed = command("list-data", "--folder", data, "--json", cwd=data.parent)
    assert listed.code == 0, listed.complaint
    assert [f["rows"] for f in listed.values["files"]] == [288, 288]
    done = backtest(data, f"backtest.report={data.parent / 'report.html'}")
    assert done.code == 0, done.complaint
    assert done.values["decisions"] > 24
    assert "<html" in (data.parent / "report.html").read_text()


# A listing reads the times only; all values are checked before they are used.
@pytest.mark.parametrize(
    ("harm", "problems"), [("truncated", 1), ("corrupt", 0), ("empty", 1), ("other", 1)]
)
def test_a_harmed_file_is_named_by_backtest_and_list_data(
    data: Path, tmp_path: Path, harm: str, problems: int
) -> None:
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    (path,) = copy.rglob("ETHUSDT-30m.parquet")
    raw = path.read_bytes()
    half = len(raw) // 2
    harmed = {
        "truncated": raw[:half],
        "corrupt": raw[:half] + bytes(b ^ 0x5A for b in raw[half : half + 64]) + raw[half + 64 :],
        "empty": b"",
        "other": b"open,high,low,close\n1,2,3,4\n" * 50,
    }
    path.write_bytes(harmed[harm])
    said(backtest(copy), DATA, path.name)
    listed = command("list-data", "--folder", copy, "--json", cwd=tmp_path)
    assert listed.code == (DATA if problems else 0)
    assert listed.values["problems"] == problems


@pytest.fixture
def rowless(data: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Give a copy of the bar store whose file of ETH has columns but no rows, and that file."""
    shutil.copytree(data, tmp_path / "data")
    (path,) = (tmp_path / "data").rglob("ETHUSDT-30m.parquet")
    whole = pq.read_table(path)
    pq.write_table(whole.slice(0, 0).replace_schema_metadata(None), path)  # foreign: no checksum
    return tmp_path / "data", path


@pytest.mark.parametrize(
    "named",
    [
        'backtest.symbols=["BTCUSDT", "ETHUSDT"]',
        'universe.symbols=["BTC/USDT:USDT", "ETH/USDT:USDT"]',
    ],
)
def test_a_named_symbol_without_any_bar_is_refused(rowless: tuple[Path, Path], named: str) -> None:
    folder, path = rowless
    said(backtest(folder, named), DATA, str(path), "no bar", "download-data")


def test_a_file_without_rows_among_all_files_is_a_caveat_of_the_answer_and_the_report(
    rowless: tuple[Path, Path],
) -> None:
    folder, path = rowless
    page = folder.parent / "report.html"
    done = backtest(folder, f"backtest.report={page}")
    assert done.code == 0, done.complaint
    assert [str(path) in caveat for caveat in done.values["caveats"]].count(True) == 1
    assert path.name in page.read_text()


def test_missing_files_folders_and_runs_are_named(data: Path, tmp_path: Path) -> None:
    done = backtest(tmp_path / "nowhere")
    said(done, DATA, "nowhere", "download-data")
    done = backtest(data, 'backtest.symbols=["BTCUSDT", "DOGEUSDT"]')
    said(done, DATA, "DOGEUSDT")
    done = command("compare", tmp_path / "left", tmp_path / "right", cwd=tmp_path)
    said(done, DATA, "left")
    done = command("replay", "--state", tmp_path / "none", cwd=tmp_path)
    said(done, DATA, "none")
