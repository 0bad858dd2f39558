"""The files of a real small run: exact to the last digit, the same twice, harmless in a sheet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from daemon.domain.instrument import InstrumentKey
from daemon.domain.messages import FundingPaid, Transferred
from daemon.domain.order import Fill, OrderId
from daemon.report.exports import write_exports
from daemon.report.files import csv_text, exact, guarded, instant, plain, write_text
from daemon.report.judged import Judged, judge_run
from daemon.report.run import Run
from tests.report.made_runs import Replayed, replay
from tests.runtime.rig import panel_of

BARS = 48 * 4
FILES = (
    "fills.csv",
    "fees.csv",
    "funding.csv",
    "transfers.csv",
    "daily.csv",
    "exposures.csv",
    "attribution.csv",
    "decisions.csv",
    "run.json",
)
Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def replayed() -> Replayed:
    """Replay four days over the real engine, venue and journal."""
    return replay(
        panel_of(BARS),
        run_seconds=1.5,
        memory_mb=99.0,
        fingerprint="0123",
        loading_seconds=0.5,
        settings={"estimator": {"models_folder": "/somewhere/private/models"}},
        venue="spot_files",
        bar="30m",
    )


@pytest.fixture(scope="module")
def judged(replayed: Replayed) -> Judged:
    return judge_run(replayed.run)


def with_run(judged: Judged, run: Run) -> Judged:
    """Show another run in the place of the one that was judged."""
    return replace(judged, run=run)


@pytest.fixture(scope="module")
def folder(judged: Judged, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("exports") / "new"
    paths = write_exports(judged, made)
    assert [path.name for path in paths] == list(FILES)
    return made


def rows_of(folder: Path, name: str) -> Rows:
    with (folder / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def total(rows: Rows, column: str) -> Decimal:
    return sum((Decimal(row[column]) for row in rows), Decimal(0))


def test_the_totals_of_the_files_are_those_of_the_ledger_to_the_last_digit(
    replayed: Replayed, folder: Path
) -> None:
    fills, ledger = rows_of(folder, "fills.csv"), replayed.engine.state.book.ledger
    assert len(fills) == ledger.fills > 20
    assert total(fills, "fee") == ledger.fees > 0
    assert total(fills, "notional") == ledger.turnover
    assert total(rows_of(folder, "funding.csv"), "amount") == ledger.funding != 0
    assert total(rows_of(folder, "transfers.csv"), "amount") == ledger.transfers == 10_000
    days = rows_of(folder, "daily.csv")
    assert total(days, "fees") == ledger.fees
    assert total(days, "funding") == ledger.funding
    assert total(days, "transfers") == ledger.transfers
    fees = rows_of(folder, "fees.csv")
    for span in ("day", "month", "all"):
        part = [row for row in fees if row["span"] == span]
        assert total(part, "fees") == ledger.fees
        assert total(part, "notional") == ledger.turnover
        assert sum(int(row["fills"]) for row in part) == ledger.fills
        assert abs(total(part, "realised_gain") - total(fills, "realised_gain")) < Decimal("1e-18")
    assert len([row for row in fees if row["span"] == "all"]) == 1


def test_fills_say_whose_prices_they_were_made_at(folder: Path) -> None:
    rows = rows_of(folder, "fills.csv")
    assert {row["price_source"] for row in rows} == {"spot_files"}
    assert {row["venue"] for row in rows} != {"spot_files"}


def test_positions_and_cash_follow_from_the_fills_alone(replayed: Replayed, folder: Path) -> None:
    fills, ledger = rows_of(folder, "fills.csv"), replayed.engine.state.book.ledger
    for key, position in ledger.positions.items():
        mine = [row for row in fills if row["symbol"] == key.symbol]
        signed = sum(
            (Decimal(r["quantity"]) * (1 if r["side"] == "buy" else -1) for r in mine), Decimal(0)
        )
        assert signed == position.quantity == Decimal(mine[-1]["position_after"])
        assert Decimal(mine[-1]["position_cost_after"]) == position.cost
    # what was realised, what it cost and what came in: that is the venue's wallet balance
    gains = total(fills, "realised_gain")
    wallet = gains - ledger.fees + ledger.funding + ledger.transfers
    cost = sum((p.cost for p in ledger.positions.values()), Decimal(0))
    assert abs(wallet - (sum(ledger.cash.values()) + cost)) < Decimal("1e-18")
    assert gains != 0


def test_rows_are_numbered_in_booked_order_and_say_when_in_utc(
    replayed: Replayed, folder: Path
) -> None:
    fills = rows_of(folder, "fills.csv")
    booked = [one for one in replayed.run.executions if isinstance(one, Fill)]
    assert [row["trade_id"] for row in fills] == [fill.trade_id for fill in booked]
    assert [row["order_id"] for row in fills] == [fill.order_id for fill in booked]
    assert [int(row["booked"]) for row in fills] == list(range(1, len(fills) + 1))
    assert fills[0]["at"] == instant(booked[0].at_ms)
    assert fills[0]["at"].endswith(".000Z")
    assert datetime.fromisoformat(fills[0]["at"]).timestamp() * 1000 == booked[0].at_ms
    assert fills[0]["currency"] == "USDT"
    text = (folder / "fills.csv").read_text(encoding="utf-8")
    assert "e-" not in text.lower().replace("-e", "")
    assert "nan" not in text.lower()


def test_days_and_decisions_are_those_of_the_run(replayed: Replayed, folder: Path) -> None:
    record = replayed.run.record
    days = rows_of(folder, "daily.csv")
    assert [row["day"] for row in days] == [
        "opening",
        "2023-11-15",
        "2023-11-16",
        "2023-11-17",
        "2023-11-18",
    ]
    assert (days[0]["equity"], days[0]["transfers"], days[0]["return"]) == ("10000", "10000", "")
    assert total(days[:1], "turnover") == total(days[:1], "fees") == 0
    assert float(days[-1]["equity"]) == record.column("equity")[-1]
    moved = float(days[1]["equity"]) / float(days[0]["equity"]) - 1.0
    assert float(days[1]["return"]) == moved
    whole = np.prod([1.0 + float(row["return"]) for row in days[1:]]) - 1.0
    assert whole == pytest.approx(record.column("equity")[-1] / 10_000 - 1.0)
    assert sum(float(row["shortfall"]) for row in days) == pytest.approx(
        record.column("shortfall")[-1]
    )
    exposed = rows_of(folder, "exposures.csv")
    assert [row["day"] for row in exposed] == [row["day"] for row in days]
    for row, other in zip(exposed, days, strict=True):
        assert float(row["gross"]) == pytest.approx(float(other["gross"]) / float(other["equity"]))
    decisions = rows_of(folder, "decisions.csv")
    assert len(decisions) == len(replayed.run.decisions)
    traded = next(d for d in replayed.run.decisions if d.orders)
    row = next(r for r in decisions if r["as_of"] == instant(traded.as_of_ms))
    assert traded.target is not None
    assert int(row["orders"]) == len(traded.orders)
    assert float(row["gross_weight_target"]) == float(np.abs(traded.target.weights).sum())


def test_the_figures_name_no_time_memory_or_folder_of_the_machine(folder: Path) -> None:
    values = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert values["facts"]["venue"] == "spot_files"
    assert not {"run_seconds", "loading_seconds", "memory_mb"} & set(values["facts"])
    assert values["facts"]["settings"]["estimator"]["models_folder"] == "models"
    assert values["statistics"]["hurdle"] is None  # nobody counted: null, not NaN
    names = [finding["name"] for finding in values["statistics"]["findings"]]
    assert "deflated_sharpe" in names
    assert "private" not in (folder / "run.json").read_text(encoding="utf-8")


def test_a_repeat_gives_the_same_bytes_and_leaves_nothing_else(
    replayed: Replayed, folder: Path, tmp_path: Path
) -> None:
    other = replace(replayed.run.facts, run_seconds=77.0, loading_seconds=7.0, memory_mb=1.0)
    for run in (replayed.run, replace(replayed.run, facts=other)):
        write_exports(judge_run(run), tmp_path)
    for name in FILES[:-1]:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    first = (tmp_path / "run.json").read_bytes()
    write_exports(judge_run(replayed.run), tmp_path)
    assert (tmp_path / "run.json").read_bytes() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)


def test_a_file_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    write_text(path, "old")

    def refuse(number: int) -> None:
        raise OSError("no space")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(OSError, match="no space"):
        write_text(path, "new")
    assert path.read_text() == "old"


def a_fill(quantity: str, price: str, fee: str = "0", number: int = 1) -> Fill:
    key = InstrumentKey("here", "BTC/USDT:USDT")
    return Fill(
        f"t{number}", OrderId(f"o{number}"), key, 0, Decimal(quantity), Decimal(price),
        Decimal(fee), 1_700_000_000_123 + number,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fills", "realised"),
    [
        ([("2", "100"), ("-1", "110"), ("-1", "130")], ["0", "10", "30"]),
        ([("2", "100"), ("2", "120"), ("-4", "115")], ["0", "0", "20"]),  # average 110
        ([("-3", "50"), ("1", "40"), ("2", "60")], ["0", "10", "-20"]),  # a short
        ([("2", "100"), ("-3", "110"), ("1", "100")], ["0", "20", "10"]),  # turned around
    ],
)
def test_gains_are_realised_by_average_cost(
    replayed: Replayed,
    judged: Judged,
    tmp_path: Path,
    fills: list[tuple[str, str]],
    realised: list[str],
) -> None:
    booked = [a_fill(q, p, number=i) for i, (q, p) in enumerate(fills)]
    write_exports(with_run(judged, replace(replayed.run, executions=booked)), tmp_path)
    rows = rows_of(tmp_path, "fills.csv")
    assert [row["realised_gain"] for row in rows] == realised
    assert rows[0]["at"] == "2023-11-14T22:13:20.123Z"
    assert rows[-1]["position_after"] == "0"


def test_funding_and_withdrawals_keep_their_sign(
    replayed: Replayed, judged: Judged, tmp_path: Path
) -> None:
    funding = [one for one in replayed.run.executions if isinstance(one, FundingPaid)][:2]
    moved = next(one for one in replayed.run.executions if isinstance(one, Transferred))
    back = Transferred("w1", moved.cash_key, moved.at_ms + 1, Decimal("-2500.000"))
    write_exports(
        with_run(judged, replace(replayed.run, executions=[moved, *funding, back])), tmp_path
    )
    rows = rows_of(tmp_path, "transfers.csv")
    assert [(r["kind"], r["amount"], r["total_after"]) for r in rows] == [
        ("deposit", "10000", "10000"),
        ("withdrawal", "-2500", "7500"),
    ]
    paid = rows_of(tmp_path, "funding.csv")
    assert [Decimal(r["amount"]) for r in paid] == [one.amount for one in funding]
    assert Decimal(paid[-1]["total_after"]) == sum(one.amount for one in funding)


@pytest.mark.parametrize("text", ["=1+1", "+A1", "-cmd", "@sum", "\t=1", "\r=1", "  =HYPERLINK()"])
def test_text_that_a_spreadsheet_would_run_is_disarmed(text: str) -> None:
    assert guarded(text) == f"'{text}"
    read = list(csv.reader(io.StringIO(csv_text(["a", "b"], [[text, "x"]]), newline="")))
    assert read == [["a", "b"], [f"'{text}", "x"]]


def test_numbers_below_zero_and_plain_words_stay_as_they_are() -> None:
    assert (
        csv_text(["a", "b"], [[Decimal("-1.50"), "held: a=b, c"]]) == 'a,b\n-1.5,"held: a=b, c"\n'
    )


def test_a_decision_note_cannot_become_a_formula(
    replayed: Replayed, judged: Judged, tmp_path: Path
) -> None:
    decision = replayed.run.decisions[0]
    fields: Mapping[str, object] = {
        name: getattr(decision, name) for name in decision.__struct_fields__
    }
    bad = type(decision)(**{**fields, "note": "=cmd|' /c calc'!A0"})  # type: ignore[arg-type]
    write_exports(with_run(judged, replace(replayed.run, decisions=[bad])), tmp_path)
    assert rows_of(tmp_path, "decisions.csv")[0]["note"].startswith("'=")


@pytest.mark.parametrize(
    ("value", "text"),
    [("1E+3", "1000"), ("-0.00", "0"), ("0E-8", "0"), ("1.2300", "1.23"), ("100", "100")],
)
def test_decimals_are_written_in_full(value: str, text: str) -> None:
    assert exact(Decimal(value)) == text


def test_what_json_does_not_know_is_null() -> None:
    assert plain({"a": float("nan"), "b": float("inf"), "c": (np.float64(1.5),)}) == {
        "a": None,
        "b": None,
        "c": [1.5],
    }
