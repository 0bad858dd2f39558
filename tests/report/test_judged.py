"""What is said of an account that was paid into: what trading did, and nothing else."""

from __future__ import annotations

import asyncio
import re
import shutil
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.journal import SqliteJournal
from daemon.domain.bar import Proof
from daemon.domain.instrument import CashKey, InstrumentKey
from daemon.domain.messages import BarsClosed, Transferred
from daemon.domain.order import Fill, OrderId
from daemon.domain.units import DAY_MS, HOUR_MS
from daemon.engine.state import SCHEMA
from daemon.report.bookings import later_transfers
from daemon.report.exports import write_exports
from daemon.report.judged import Judged, judge_run
from daemon.report.run import Execution, Run, RunFacts
from daemon.report.run_record import BookRow, RunRecord
from daemon.report.tear_sheet import render
from daemon.settings import effective_toml
from daemon.wiring.run_report import write_run_report
from daemon.wiring.verification import read_journal_run
from tests.simulation.paper_line import BEGIN_MS, generated_market, run_until

MIDNIGHT = 19_000 * DAY_MS
DAYS, DEPOSIT_ROW = 60, 30
CASH_KEY = CashKey("paper", "USDT")
KEY = InstrumentKey("paper", "BTC/USDT:USDT")


def run_with(deposit: Decimal) -> Run:
    """Hold 5 coins at 1,000; after a deposit, as many more as keep the weight what it was.

    The deposit comes and is invested at the mark of its row. Prices are whole, so that all is
    exact.
    """
    rng = np.random.default_rng(11)
    marks = [Decimal(int(m)) for m in 100 * np.exp(np.cumsum(rng.normal(0.004, 0.03, DAYS)))]
    marks[DEPOSIT_ROW] = marks[0]  # so that equity is what it began with
    executions: list[Execution] = []
    record, cash, held, turnover = RunRecord(), Decimal(0), Decimal(0), Decimal(0)

    def move(row: int, amount: Decimal) -> None:
        nonlocal cash
        cash += amount
        at_ms = MIDNIGHT + (row + 1) * DAY_MS
        executions.append(Transferred(f"t{row}", CASH_KEY, at_ms, amount))

    def buy(row: int, quantity: Decimal) -> None:
        nonlocal cash, held, turnover
        cash, held = cash - quantity * marks[row], held + quantity
        turnover += quantity * marks[row]
        at_ms, name = MIDNIGHT + (row + 1) * DAY_MS, f"b{row}"
        executions.append(
            Fill(name, OrderId(name), KEY, 0, quantity, marks[row], Decimal(0), at_ms)
        )

    for row in range(DAYS):
        if row == 0:
            move(row, Decimal(1000))
            buy(row, Decimal(5))
        elif row == DEPOSIT_ROW and deposit:
            move(row, deposit)
            buy(row, 5 * deposit / 1000)
        equity, mark = float(cash + held * marks[row]), float(marks[row])
        record.add(
            MIDNIGHT + (row + 1) * DAY_MS,
            BookRow(
                equity=equity,
                net=float(held) * mark,
                fees=Decimal(0),
                funding=Decimal(0),
                turnover=turnover,
                shortfall=0.0,
                quantity=np.array([float(held)]),
                marks=np.array([mark]),
            ),
        )
    facts = RunFacts("deposit", "hold", "p", ("BTC/USDT:USDT",), 2, 2, 0.0, 0.0, 0.0, "")
    return Run(record, [], executions, facts)


@pytest.fixture(scope="module")
def plain() -> Judged:
    return judge_run(run_with(Decimal(0)))


@pytest.fixture(scope="module")
def plain_page(plain: Judged) -> str:
    return render([(plain, None)])


@pytest.mark.parametrize("deposit", [Decimal(1000), Decimal(-400)])
def test_an_account_that_was_paid_into_is_judged_as_if_nobody_had(
    plain: Judged, plain_page: str, deposit: Decimal, tmp_path: Path
) -> None:
    paid = judge_run(run_with(deposit))
    for name in ("total_return", "sharpe", "sharpe_low", "sharpe_high", "drawdown_max", "sortino"):
        assert getattr(paid.metrics, name) == pytest.approx(getattr(plain.metrics, name)), name
    assert paid.metrics.equity_last != pytest.approx(plain.metrics.equity_last)
    assert paid.honesty["sharpe"].value == pytest.approx(plain.honesty["sharpe"].value)
    for ours, theirs in zip(paid.exposures.links, plain.exposures.links, strict=True):
        assert ours.correlation == pytest.approx(theirs.correlation)
    assert paid.band is not None
    assert plain.band is not None
    assert paid.band[1] == pytest.approx(plain.band[1])
    pages = [render([(paid, None)]), plain_page]
    months = [text.partition("<h2>By month</h2>")[2].partition("</section>")[0] for text in pages]
    shown, expected = (re.findall(r">([+-][0-9.]+%)<", text) for text in months)
    assert shown == expected
    assert len(shown) == 4  # three months and their year
    assert "equity, without what was paid in or out" in pages[0]
    assert "without what was paid" not in pages[1]
    daily = []
    for place, one in enumerate((paid, plain)):
        write_exports(one, tmp_path / str(place))
        rows = (tmp_path / str(place) / "daily.csv").read_text().splitlines()
        at = rows[0].split(",").index("return")
        daily.append([float(row.split(",")[at]) for row in rows[2:]])
    assert daily[0] == pytest.approx(daily[1])


def test_an_account_left_alone_is_not_booked_again(plain: Judged) -> None:
    assert later_transfers(plain.run) is None
    assert plain.value is None


def test_where_rows_and_executions_differ_a_deposit_goes_by_its_instant(plain: Judged) -> None:
    paid = run_with(Decimal(1000))
    lost = replace(paid, executions=[e for e in paid.executions if not isinstance(e, Fill)])
    found = judge_run(lost)
    assert isinstance(found.attribution, str)
    assert found.metrics.total_return == pytest.approx(plain.metrics.total_return)


def test_the_report_of_a_journal_with_a_deposit_is_that_without_it(tmp_path: Path) -> None:
    market = generated_market(tmp_path / "data", days=5)
    state, end_ms = tmp_path / "state", BEGIN_MS + 30 * HOUR_MS
    asyncio.run(run_until(market, state, BEGIN_MS, end_ms))
    panel = market.history.panel
    row = int(np.searchsorted(panel.close_ms, end_ms)) + 1
    known = np.full(len(market.history.symbols), Proof.HISTORY, dtype=np.uint8)
    at_ms = int(panel.close_ms[row])
    bars = BarsClosed(at_ms, panel.values[row], known, panel.opens[row])
    cash = next(iter(market.history.universe.instruments)).cash_key
    deposit = Transferred("late", cash, at_ms - 1, Decimal(5000))

    async def go_on(folder: Path, paid: bool) -> None:
        journal = SqliteJournal(
            folder / "journal.sqlite",
            state_schema=SCHEMA,
            code_version="simulation",
            settings_text=effective_toml(market.settings(state)),
        )
        async with journal as log:
            await log.append([*([(deposit, ())] if paid else []), (bars, ())])

    values: list[dict[str, Any]] = []
    for paid in (True, False):
        folder = tmp_path / f"copy-{paid}"
        shutil.copytree(state, folder)
        asyncio.run(go_on(folder, paid))
        values.append(write_run_report(folder, tmp_path / f"{paid}.html", lambda n, total: None))
    paid_in, plain = values
    assert paid_in["equity"] == pytest.approx(plain["equity"] + 5000, abs=0.02)
    assert paid_in["total_return"] == plain["total_return"]
    assert paid_in["capacity"] == plain["capacity"]
    # the venue's volumes are in the journal, so that its capacity is that of its bars
    read = read_journal_run(tmp_path / "copy-True")
    fills = [e for e in read.executions if isinstance(e, Fill)]
    rows = np.searchsorted(panel.close_ms, [f.at_ms for f in fills])
    assert len(fills) > 10
    assert read.volumes.tolist() == [
        panel.values[row, fill.index, 4] for row, fill in zip(rows, fills, strict=True)
    ]
