"""The JSON of a run beside its page: nothing is shown that a program could not read."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from daemon.report import judgement_sections
from daemon.report.forecast_skill import ForecastSkill
from daemon.report.judged import Benchmark, Judged, coin_benchmark, judge_run, run_benchmark
from daemon.report.metrics import day_ends
from daemon.report.run_json import json_text
from daemon.report.tear_sheet import render
from daemon.report.trials import LedgerFacts, Trials
from daemon.report.tried_list import LeakStatus, LeakTest, TriedList, TriedRow
from daemon.settings import Settings, load_settings
from daemon.wiring.backtest import run_backtest
from tests.wiring.small_market import CHOSEN, ROOT, write_market

# where in the JSON the numbers of a section of the page stand
COUNTERPARTS: Final = {
    "What the statistics say": "statistics.findings",
    "Equity": "equity.band_at_the_end",
    "Drawdown": "figures.drawdown_max",
    "By month": "equity.months",
    "Exposure, fraction of equity": "exposures.beta.mean",
    "Links to markets": "exposures.links.equal-weight market.beta_down",
    "Effective number of bets": "exposures.bets_apart.mean",
    "Turnover over 24 hours, fraction of equity": "trading.turnover_daily.mean",
    "Costs so far, fraction of first equity": "figures.shortfall",
    "Capacity": "capacity.equity",
    "Where it came from": "attribution.alpha",
    "Where it came from, through time": "attribution.daily",
    "By instrument": "attribution.by_name",
    "Forecast skill": "skill.signals.combined.ic",
    "Score IC by forecaster and horizon": "skill.signals.1h.ic",
    "Calibration of 2h": "skill.signals.2h.calibration.slope",
    "Calibration of 1h": "skill.signals.1h.calibration.coverage",
    "Calibration of combined": "skill.signals.combined.calibration.reliability",
    "What was tried": "tried.rows",
    "Figures": "trading.band_health",
    "Origin": "facts.fingerprint",
}


FORECASTS: Final = (
    "strategy.name=neutral",
    'strategy.parameters={"friction_max": 1e9}',
    "estimator.kind=momentum",
    'market.timeframes=["1h", "2h"]',
)


def settings_of(folder: Path, *more: str) -> Settings:
    """Trade the small market by forecasts that are joined to one signal."""
    market = (one for one in CHOSEN if not one.startswith(("strategy.", "estimator.")))
    own = (f"backtest.data_folder={folder}", f"evaluation.trials_file={folder / 'trials.jsonl'}")
    given = [*market, *own, *FORECASTS, *more]
    return load_settings([ROOT / "config" / "backtest.toml"], overrides=given, environment={})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_market(tmp_path_factory.mktemp("market"), days=24)


@pytest.fixture(scope="module")
def judged(folder: Path) -> Judged:
    run = run_backtest(settings_of(folder)).run
    returns = judge_run(run).metrics.daily_returns
    noise = np.random.default_rng(3).normal(0, 0.01, (returns, 2))
    trials = Trials(("a", "b"), np.arange(returns), noise, 2, ledger=LedgerFacts("l.jsonl", 2))
    return judge_run(run, trials=trials)


@pytest.fixture(scope="module")
def tried() -> TriedList:
    return TriedList((TriedRow("rule 1", "backtest", 1.25, 11, ("risk.x = 2",)),))


@pytest.fixture(scope="module")
def values(judged: Judged, tried: TriedList) -> Any:
    return json.loads(json_text(judged, tried))


@pytest.fixture(scope="module")
def text(judged: Judged, tried: TriedList) -> str:
    return render([(judged, tried)])


def found_at(values: Any, path: str) -> Any:
    for name in path.split("."):
        assert name in values, f"{path}: {name}"
        values = values[name]
    return values


def test_every_section_of_the_page_has_its_counterpart(values: Any, text: str) -> None:
    sections = re.findall(r"<h2>(.*?)</h2>", text)
    assert len(sections) > 18
    for title in sections:
        known = COUNTERPARTS.get(title.partition(", strength")[0])
        assert known is not None, f"section {title!r}: say in run_json.py what its numbers are"
        assert found_at(values, known) not in (None, [], {}), title


def leaves(value: Any) -> Iterator[float]:
    match value:
        case bool():
            return
        case int() | float():
            yield float(value)
        case str() if re.fullmatch(r"-?[0-9.]+", value):
            yield float(value)
        case dict():
            for one in value.values():
                yield from leaves(one)
        case list():
            for one in value:
                yield from leaves(one)


def test_every_number_in_a_table_of_the_page_is_one_of_the_json(values: Any, text: str) -> None:
    del values["attribution"]["daily"], values["facts"]["symbols"]
    numbers = np.array(sorted(leaves(values)))
    cells = re.findall(r"<td(?! class=words)[^>]*>(.*?)</td>", text)
    cells += re.findall(r"<b>(.*?)</b><span>", text)  # the tiles
    seen = 0
    for cell in (re.sub("<.*?>", "", one) for one in cells):
        if re.search(r"[g-z]{3}|:", cell.replace("to", "").replace("bps", "")):
            continue  # words
        for shown in re.findall(r"[-+]?[0-9][0-9,]*(?:\.[0-9]+)?%?", cell):
            digits = shown.rstrip("%").replace(",", "")
            scale = 100.0 if shown.endswith("%") else 1.0
            places = len(digits.partition(".")[2])
            off = float(np.abs(numbers * scale - float(digits)).min())
            assert off <= 0.5 * 10.0**-places + 1e-9, f"{shown} in {cell!r} is nowhere in run.json"
            seen += 1
    assert seen > 150


def test_what_a_run_does_not_have_is_null_and_not_left_out(judged: Judged) -> None:
    values = json.loads(json_text(judged, None))
    assert values["tried"] is None
    assert values["figures"]["benchmark"] == "equal-weight market"
    lost = json.loads(json_text(replace(judged, attribution="not attributed: x", band=None)))
    assert lost["attribution"] == {"why": "not attributed: x"}
    assert lost["equity"]["band_at_the_end"] is None


def test_a_signal_and_its_strength_are_shown_once_and_both_kept(values: Any, text: str) -> None:
    assert "Calibration of combined, strength" in text
    assert "<h2>Calibration of strength" not in text
    assert set(values["skill"]["signals"]) > {"combined", "strength"}
    error = values["skill"]["signals"]["1h"]["calibration"]["calibration_error"]
    assert f"{error:.2%}" in text


def test_the_information_ratio_is_against_what_was_asked_for(judged: Judged, folder: Path) -> None:
    run = judged.run
    record = run.record
    rows = day_ends(record.times_ms)[1]

    def changes(values: Any) -> Any:
        return values[rows[1:]] / values[rows[:-1]] - 1.0

    def ratio(differences: Any) -> float:
        differences = differences[np.isfinite(differences)]  # before the first bar is no price
        return float(differences.mean() / differences.std(ddof=1) * math.sqrt(365))

    own = changes(record.column("equity"))
    market = changes(record.column("market"))
    assert judged.metrics.information_ratio == pytest.approx(ratio(own - market))
    coin = coin_benchmark(run, "ETH")
    assert coin is not None
    found = judge_run(run, benchmark=coin)
    assert found.benchmark == "ETHUSDT"
    held = changes(record.marks[:, run.facts.symbols.index("ETHUSDT")])
    assert found.metrics.information_ratio == pytest.approx(ratio(own - held))
    assert coin_benchmark(run, "DOGE") is None
    other = run_backtest(
        settings_of(folder, "backtest.until=2024-01-15", "estimator.kind=last_return")
    ).run
    beside = judge_run(run, benchmark=run_benchmark("calm", other))
    shared = changes_of(other)
    assert len(shared) < len(own), "the other one ends before"
    common = own[: len(shared)] - shared
    assert beside.metrics.information_ratio == pytest.approx(ratio(common))
    assert "information ratio against calm" in render([(with_fewer_charts(beside), None)])
    itself = judge_run(run, benchmark=run_benchmark("run", run)).metrics
    assert itself.why_unknown("information_ratio") == "not defined: no variance"


def with_fewer_charts(judged: Judged) -> Judged:
    """Leave out what half of the charts of a page are about, where only its words are read."""
    return replace(judged, skill=ForecastSkill(()))


def changes_of(run: Any) -> Any:
    equity = run.record.column("equity")
    rows = day_ends(run.record.times_ms)[1]
    return equity[rows[1:]] / equity[rows[:-1]] - 1.0


def test_days_that_a_benchmark_lacks_are_left_out() -> None:
    assert np.isnan(Benchmark("x", {3: 0.5}).on(np.array([2, 3]))).tolist() == [True, False]


# ---- what was tried ------------------------------------------------------------------------------


def test_the_best_are_shown_and_the_run_itself_and_the_rest_is_counted(judged: Judged) -> None:
    rows = [TriedRow(f"t{i}", "backtest", 5.0 - i, 30, (f"x = {i}",)) for i in range(29)]
    rows.append(TriedRow("mine", "backtest", -30.0, 30, (), is_this=True))
    listed = TriedList(tuple(rows))
    assert [row.name for row in listed.shown] == [*(f"t{i}" for i in range(20)), "mine"]
    text = judgement_sections.tried(judged.honesty, listed)
    assert ">this run<" in text
    assert ">t19<" in text
    assert ">t20<" not in text
    assert "9 more are in run.json" in text
    assert len(json.loads(json_text(judged, listed))["tried"]["rows"]) == 30


def test_a_page_says_whether_the_future_was_kept_out_and_shouts_where_not(judged: Judged) -> None:
    for status in LeakStatus:
        found = LeakTest(status, 8, 1_234, "1.0")
        section = judgement_sections.tried(judged.honesty, TriedList((), found))
        assert "Look-ahead test." in section
        assert ("1,234 decisions before 8 cuts" in section) == (status is not LeakStatus.NOT_RUN)
    leak = LeakTest(LeakStatus.LEAK, 8, 1_234, "1.0")
    few = with_fewer_charts(judged)
    text = render([(few, TriedList((), leak)), (few, TriedList())])
    boxes = re.findall(r'<p class="caveat grave">(.*?)</p>', text)
    assert [box.partition(":")[0] for box in boxes if "LEAK" in box] == ["run", "LEAK"]
    top, _, below = text.partition("Side by side")
    assert "run: LEAK" in top, "above all that is compared"
    assert below.count("LEAK: of 1,234") == 2, "above the run, and among what was tried"
