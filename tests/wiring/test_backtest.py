"""What a backtest says of itself: how much it would carry, and what its data are worth."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from adapters.history.parquet_file import Bars, write_bars
from adapters.history.store import bars_path, fingerprint, load_panel
from daemon.commands.backtest import backtest
from daemon.domain.bar import Field
from daemon.domain.failures import DataError
from daemon.domain.order import Fill
from daemon.domain.units import DAY_MS, HOUR_MS, Timeframe
from daemon.report.attribution import Attribution
from daemon.report.betas import trailing_betas
from daemon.report.capacity import UNLIMITED, volumes_met
from daemon.report.exports import write_exports
from daemon.report.files import exact
from daemon.report.judged import judge_run
from daemon.report.run_json import json_text
from daemon.report.tear_sheet import render
from daemon.research.point_in_time import caveats
from daemon.settings import Settings
from daemon.wiring.backtest import BacktestResult, instruments_of, load_history, run_backtest
from daemon.wiring.data_findings import data_findings
from tests.wiring.small_market import CHOSEN, FIRST_MS, SYMBOLS, VENUE, small_settings, write_market

FINE_RULES = """
[default]
price_step = "0.0000001"
quantity_step = "0.000001"
quantity_min = "0"
notional_min = "0"

[fees]
taker_bps = "0"
maker_bps = "0"

[instruments]
"""
IMPACT_BPS = 60
FREE_BUT_IMPACT = (
    "paper.fee_bps=0",
    "paper.half_spread_bps=0",
    "paper.latency_bps=0",
    f"paper.impact_bps={IMPACT_BPS}",
    "paper.participation_share=1",
    "backtest.funding_missing=zero",
)


@pytest.fixture(scope="module")
def trending(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write coins that rise and fall for good, opens at the last close, volumes wild by bar."""
    folder, hours = tmp_path_factory.mktemp("trending"), 24 * 30
    for place, symbol in enumerate(SYMBOLS):
        rng = np.random.default_rng([7, place])
        close = 100.0 * np.exp(np.cumsum(rng.normal((place - 2.5) * 2e-4, 0.004, hours)))
        open_ = np.concatenate(([100.0], close[:-1]))
        high, low = np.maximum(open_, close), np.minimum(open_, close)
        volume = rng.lognormal(8.0, 1.0, hours)
        values = np.column_stack([open_, high, low, close, volume])
        open_ms = FIRST_MS + np.arange(hours, dtype=np.int64) * HOUR_MS
        about = {"venue": VENUE, "symbol": symbol}
        path = bars_path(folder, VENUE, symbol, Timeframe(60))
        write_bars(path, Bars(open_ms, values), Timeframe(60), about)
    (folder / "rules.toml").write_text(FINE_RULES)
    return folder


def settings_of(folder: Path, *more: str) -> Settings:
    rules = f"backtest.rules_file={folder / 'rules.toml'}"
    return small_settings(folder, *FREE_BUT_IMPACT, rules, *more)


@pytest.fixture(scope="module")
def charged(trending: Path) -> BacktestResult:
    return run_backtest(settings_of(trending))


def test_with_impact_alone_capacity_has_a_closed_form_through_the_whole_backtest(
    charged: BacktestResult,
) -> None:
    # Nothing but impact is charged, so the engine's own running total of price against mark is the
    # impact paid. At m times the size it is m^1.5 of that, and the gain before it is m of this.
    record = charged.run.record
    equity, shortfall = record.column("equity"), record.column("shortfall")
    impact = shortfall[-1] - shortfall[0]
    gain = equity[-1] - equity[0] + impact
    assert gain > 2 * impact > 0
    expected = equity.mean() * (gain / 2 / impact) ** 2
    found = charged.run.capacity
    assert found.why == ""
    assert (found.unfilled, found.impact) == pytest.approx((0.0, 0.5))
    assert found.equity == pytest.approx(expected, rel=2e-3)


def test_a_volume_limit_and_other_costs_leave_less_and_no_costs_leave_no_limit(
    trending: Path, charged: BacktestResult
) -> None:
    limited = run_backtest(settings_of(trending, "paper.participation_share=0.02"))
    assert limited.run.capacity.unfilled + limited.run.capacity.impact == pytest.approx(0.5)
    assert limited.run.capacity.unfilled > 0.01
    dear = run_backtest(settings_of(trending, "paper.fee_bps=3"))
    assert 0 < dear.run.capacity.equity < charged.run.capacity.equity
    free = run_backtest(settings_of(trending, "paper.impact_bps=0", "paper.participation_share=0"))
    assert free.run.capacity == UNLIMITED


def test_volumes_are_those_of_the_bar_that_closed_when_the_fill_was_made(
    trending: Path, charged: BacktestResult
) -> None:
    # the price of a fill tells which volume the venue looked at: open x (1 +- impact sqrt(q / V))
    settings = settings_of(trending)
    panel = load_history(settings, instruments_of(settings), 0).panel
    fills = [e for e in charged.run.executions if isinstance(e, Fill)]
    assert len(fills) > 100
    together: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for fill in fills:
        place = int(np.searchsorted(panel.close_ms, fill.at_ms)), fill.index
        together.setdefault(place, []).append((abs(float(fill.quantity)), float(fill.price)))
    volumes = volumes_met(fills, panel.close_ms, panel.values[:, :, Field.VOLUME])
    for (row, index), filled in together.items():
        volume = panel.values[row, index, Field.VOLUME]
        size = sum(q for q, _ in filled)
        price = sum(q * p for q, p in filled) / size
        cost = abs(price / panel.opens[row, index] - 1)
        assert cost == pytest.approx(IMPACT_BPS * 1e-4 * np.sqrt(size / volume), rel=1e-3)
        assert volume in volumes


def test_the_answer_and_the_page_show_what_was_found_of_the_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_market(tmp_path / "market", days=25)
    settings = small_settings(folder)
    history = load_history(settings, instruments_of(settings), 0)
    page = tmp_path / "page.html"
    result = run_backtest(settings)
    found = caveats(data_findings(settings, history))
    assert result.run.facts.caveats == found
    assert any(line.startswith("SERIOUS: All 6 instruments survive") for line in found)
    overrides = [
        f"backtest.data_folder={folder}",
        f"evaluation.trials_file={folder / 'trials.jsonl'}",
        *CHOSEN,
    ]
    capsys.readouterr()  # a log line, where nobody set up logs before
    backtest(overrides=overrides, as_json=True, report=page)
    values = json.loads(capsys.readouterr().out)
    assert values["caveats"] == list(found)
    assert values["capacity"] == asdict(replace(result.run.capacity)) | {
        name: None
        for name, value in asdict(result.run.capacity).items()
        if isinstance(value, float) and not np.isfinite(value)
    }
    text = page.read_text(encoding="utf-8")
    for line in found:
        assert line.replace("'", "&#x27;").replace("<", "&lt;") in text


def test_a_book_s_own_instruments_were_named_and_their_rules_are_no_table(tmp_path: Path) -> None:
    folder = write_market(tmp_path / "market", days=25)
    settings = small_settings(folder)
    history = load_history(settings, instruments_of(settings), 0)
    lines = " ".join(caveats(data_findings(settings, history, is_book=True)))
    assert "somebody named them" in lines
    assert "one table of today" not in lines


# ---- the opening ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> BacktestResult:
    """Decide on every bar, and so on the first one as well, which closes in the middle of a day."""
    folder = write_market(tmp_path_factory.mktemp("hasty"), days=12)
    return run_backtest(
        small_settings(folder, "market.decision=1h", "backtest.since=2024-01-03T13:20:00Z")
    )


def test_page_tables_json_and_attribution_agree_and_the_parts_are_the_gain_on_what_was_paid_in(
    hasty: BacktestResult, tmp_path: Path
) -> None:
    run, ledger = hasty.run, hasty.engine.state.book.ledger
    record, fills = run.record, [one for one in run.executions if isinstance(one, Fill)]
    assert fills[0].at_ms == record.times_ms[1], "the first close trades already"
    assert record.times_ms[0] == FIRST_MS + (2 * 24 + 13) * HOUR_MS
    judged = judge_run(run)
    write_exports(judged, tmp_path)
    values = json.loads((tmp_path / "run.json").read_text())
    found = judged.attribution
    assert isinstance(found, Attribution)
    keys = [one.key for one in hasty.engine.universe.instruments]
    marks = [Decimal(repr(mark)) for mark in record.marks[-1].tolist()]
    worth = sum(
        (
            ledger.positions[key].quantity * mark
            for key, mark in zip(keys, marks, strict=True)
            if key in ledger.positions
        ),
        Decimal(0),
    )
    paid_in = ledger.transfers
    gain = sum(ledger.cash.values(), Decimal(0)) + worth - paid_in
    rounded = Decimal("1e-8")
    assert abs(sum(found.parts.values(), Decimal(0)) - gain) < rounded
    assert abs(found.fees + ledger.fees) < rounded
    assert abs(found.funding - ledger.funding) < rounded
    assert sum((one.total for one in found.by_name), Decimal(0)) == found.total
    assert values["attribution"]["total"] == exact(found.total)
    assert values["figures"]["equity_first"] == float(paid_in) == 10_000.0
    assert values["figures"]["total_return"] == pytest.approx(float(gain / paid_in), abs=1e-12)
    assert values["figures"]["fees"] == float(ledger.fees)
    fees = table_of(tmp_path, "fills.csv", "fee")
    assert sum(map(Decimal, fees), Decimal(0)) == ledger.fees
    # each day counts, the half one of the start as well, in returns and in parts alike
    days, parted = (table_of(tmp_path, name, "day") for name in ("daily.csv", "attribution.csv"))
    assert days[0] == "opening"
    assert days[1:] == parted
    assert values["figures"]["daily_returns"] == len(parted) == len(hasty.trial.returns)
    changes = [float(one) for one in table_of(tmp_path, "daily.csv", "return")[1:]]
    assert changes == pytest.approx(list(hasty.trial.returns), abs=1e-12)
    chained = float(np.prod(1.0 + np.array(changes))) - 1.0
    assert chained == pytest.approx(values["figures"]["total_return"], abs=1e-12)
    alpha = sum(map(float, table_of(tmp_path, "attribution.csv", "alpha")))
    assert alpha == pytest.approx(float(found.alpha), abs=1e-6)
    page = render([(judged, None)])
    for shown in (found.total, found.fees):
        assert f"{shown:+,.2f}" in page
    assert f"{judged.metrics.total_return:+.2%}" in page


def table_of(folder: Path, name: str, column: str) -> list[str]:
    with (folder / name).open(newline="", encoding="utf-8") as file:
        return [row[column] for row in csv.DictReader(file)]


def test_a_run_says_whose_bars_of_what_length_it_used_and_what_was_in_force(
    hasty: BacktestResult,
) -> None:
    facts = hasty.run.facts
    assert facts.prices == f"{VENUE}, 1h bars"
    assert facts.funding_source.startswith(VENUE)
    assert (facts.trial_id, facts.code_version) == (hasty.trial.id, hasty.trial.code_version)
    market, chosen = facts.settings["market"], facts.settings["backtest"]
    assert isinstance(market, dict)
    assert isinstance(chosen, dict)
    assert "source" not in market, "backtest.source takes its place"
    assert (chosen["source"], chosen["venue"]) == ("1h", VENUE)
    assert chosen["since"] == "2024-01-03T13:20:00Z"
    assert "/" not in chosen["data_folder"], "no folder of the machine"
    page = render([(judge_run(hasty.run), None)])
    for shown in (facts.prices, hasty.trial.id, facts.fingerprint[:16], "[backtest]"):
        assert shown in page


def test_thirty_days_before_the_run_stand_behind_its_betas_where_the_files_reach_back(
    tmp_path: Path,
) -> None:
    folder = write_market(tmp_path / "market", days=40)
    late = small_settings(folder, "backtest.since=2024-02-05")
    result = run_backtest(late)
    one = judge_run(result.run)
    assert (trailing_betas(result.run.record)[0] != 1.0).all()
    assert isinstance(one.attribution, Attribution)
    assert sum(one.attribution.parts.values()) == one.attribution.total
    told = json.loads(json_text(one))["exposures"]["betas"]
    assert told["full_at_the_start"] is True
    assert "from the first row on" in render([(one, None)])
    early = judge_run(run_backtest(small_settings(folder, "backtest.since=2024-01-20")).run)
    told = json.loads(json_text(early))["exposures"]["betas"]
    # the first bar closes an hour into the first of January
    assert (told["full_at_the_start"], told["full_from"]) == (False, "2024-02-01T00:00:00Z")
    text = render([(early, None)])
    assert "30 whole days stand behind the betas only from 2024-02-01T00:00:00Z" in text
    assert "It may differ, even in sign, from the beta under Links to markets" in text


def test_reading_further_back_for_betas_shows_nothing_more_to_who_trades(tmp_path: Path) -> None:
    folder = write_market(tmp_path / "market", days=40)
    settings = small_settings(folder, "backtest.since=2024-02-05")
    history = load_history(settings, instruments_of(settings), DAY_MS)
    since_ms = FIRST_MS + 35 * DAY_MS
    plain = load_panel(folder, VENUE, history.symbols, Timeframe(60), since_ms - DAY_MS, None)
    assert (history.panel.close_ms == plain.close_ms).all()
    assert np.array_equal(history.panel.values, plain.values)
    assert np.array_equal(history.panel.opens, plain.opens, equal_nan=True)
    assert history.fingerprint == fingerprint(plain, history.symbols, Timeframe(60))
    assert history.earlier is not None
    assert history.earlier.close_ms[-1] == since_ms - DAY_MS
    assert history.earlier.close_ms[0] == since_ms - 31 * DAY_MS + HOUR_MS
    beyond = small_settings(folder, "backtest.since=2024-02-20")
    with pytest.raises(DataError, match="closes after 2024-02-19"):
        load_history(beyond, instruments_of(beyond), DAY_MS)
