"""What was tried beside a run, and whether its pipeline was tested, through the real ledger."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from daemon.cli import run as run_command
from daemon.domain.failures import CorruptFile
from daemon.report.run import Run
from daemon.report.tried_list import LeakStatus, TriedList, TriedRow, best_first, differences
from daemon.settings import Settings
from daemon.wiring.backtest import instruments_of, run_backtest
from daemon.wiring.core import universe_of
from daemon.wiring.leak_tests import log_leak_test
from daemon.wiring.tried_beside import read_beside
from tests.wiring.small_market import CHOSEN, ROOT, small_settings, write_market

OTHER = 'strategy.parameters={"timeframe_minutes": 60, "lookback_bars": 12, "legs_each_side": 2}'


@pytest.fixture
def market(tmp_path: Path) -> Path:
    return write_market(tmp_path / "market", days=6)


def listed(settings: Settings, run: Run) -> TriedList:
    found = read_beside(Path(settings.evaluation.trials_file), run.facts.fingerprint)
    assert found is not None
    return found.listed(run)


def test_each_trial_says_how_it_differs_and_repeats_change_nothing(market: Path) -> None:
    settings = small_settings(market)
    mine = run_backtest(settings).run
    alone = listed(settings, mine)
    assert [(row.is_this, row.text) for row in alone.rows] == [(True, "this run")]
    run_backtest(small_settings(market, OTHER, "paper.fee_bps=1"), command="evaluate report")
    run_backtest(small_settings(market, "paper.fee_bps=9"), command="x", is_stress=True)
    found = listed(settings, mine)
    assert len(found.rows) == 2, "a stress arm is no attempt"
    other = next(row for row in found.rows if not row.is_this)
    assert other.differences == ("paper.fee_bps = 1.0", "strategy.parameters.lookback_bars = 12")
    assert (other.command, other.days) == ("evaluate report", 6)
    assert math.isfinite(other.sharpe)
    assert list(found.rows) == sorted(found.rows, key=lambda row: -row.sharpe)
    again = run_backtest(settings).run
    assert listed(settings, again) == found


def test_another_period_and_the_same_settings_by_another_program_are_told_apart(
    market: Path,
) -> None:
    settings = small_settings(market)
    run = run_backtest(settings).run
    shorter = run_backtest(small_settings(market, "backtest.until=2024-01-04")).run
    rows = listed(settings, run).rows
    assert [row.text for row in rows if not row.is_this] == [
        "backtest.until = 2024-01-04T00:00:00Z"
    ]
    assert [row.is_this for row in listed(settings, shorter).rows].count(True) == 1


def test_rows_are_ordered_by_ratio_and_those_without_one_come_last() -> None:
    rows = [TriedRow(str(s), "c", s, 1, ()) for s in (math.nan, -1.0, 2.0, math.nan, 0.5)]
    assert [row.name for row in best_first(rows)] == ["2.0", "0.5", "-1.0", "nan", "nan"]


def test_differences_name_what_was_changed_added_and_left_out() -> None:
    digest = "ab" * 32
    ours = {"a": {"x": 1, "y": {"z": 2}}, "b": [1], "model": None}
    theirs = {"a": {"x": 1, "y": {"z": 3}}, "model": digest, "new": 0.5}
    assert differences(ours, theirs) == (
        "a.y.z = 3",
        "b not set",
        f"model = {digest[:12]}",
        "new = 0.5",
    )
    assert differences(ours, ours) == ()


def test_many_differences_are_cut_short_and_counted() -> None:
    row = TriedRow("n", "c", 1.0, 1, tuple(f"x{i} = 1" for i in range(8)))
    assert row.text == "x0 = 1; x1 = 1; x2 = 1; x3 = 1; x4 = 1; and 3 more"


def test_the_verdict_of_a_look_ahead_test_belongs_to_its_configuration_and_the_latest_counts(
    market: Path,
) -> None:
    settings, other = small_settings(market), small_settings(market, OTHER)
    run, beside = run_backtest(settings).run, run_backtest(other).run
    assert listed(settings, run).leak_test.status is LeakStatus.NOT_RUN
    universe = universe_of(list(instruments_of(settings).instruments))
    for verdict, cuts in (("leak", 1), ("clean", 4)):
        log_leak_test(
            settings,
            universe,
            data_fingerprint=run.facts.fingerprint,
            verdict=verdict,
            cuts_n=cuts,
            decisions_n=12,
        )
    found = listed(settings, run).leak_test
    assert (found.status, found.cuts_n) == (LeakStatus.CLEAN, 4)
    assert "12 decisions before 4 cuts" in found.text
    assert listed(other, beside).leak_test.status is LeakStatus.NOT_RUN
    log_leak_test(
        other,
        universe,
        data_fingerprint=beside.facts.fingerprint,
        verdict="odd",
        cuts_n=1,
        decisions_n=1,
    )
    with pytest.raises(CorruptFile, match="'odd' is unknown"):
        listed(other, beside)


def test_the_command_leaves_its_verdict_for_the_report(
    market: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = (f"backtest.data_folder={market}", f"evaluation.trials_file={market / 'trials.jsonl'}")
    words = [word for one in (*CHOSEN, *own) for word in ("--set", one)]
    config = ["-c", str(ROOT / "config" / "backtest.toml")]
    given = ["evaluate", "lookahead", *config, *words, "--cuts", "2", "--days", "1", "--json"]
    assert run_command(given) == 0
    capsys.readouterr()
    settings = small_settings(market)
    found = listed(settings, run_backtest(settings).run).leak_test
    assert found.status is LeakStatus.CLEAN
    assert found.cuts_n == 2
    assert found.decisions_n > 0
