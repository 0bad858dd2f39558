"""The honest statistics: hand-checked values, and NaN with a reason where nothing can be known."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from daemon.domain.failures import InvariantViolated
from daemon.report.honesty import Honesty, chance, equity_band, judge
from daemon.report.trials import LedgerFacts, Trials, shown_file
from daemon.statistics.sharpe_inference import expected_maximum

Floats = npt.NDArray[np.float64]
NAMES = (
    "sharpe",
    "sharpe_error",
    "probabilistic_sharpe",
    "deflated_sharpe",
    "track_record_days",
    "backtest_years",
    "overfitting_probability",
    "newey_west_t",
    "trials_in_ledger",
)


def with_ratio(daily_ratio: float, days: int, seed: int = 1, spread: float = 0.01) -> Floats:
    """Draw normal returns whose measured daily ratio is exactly the wanted one."""
    x = np.random.default_rng(seed).normal(size=days)
    x = (x - x.mean()) / x.std(ddof=1)
    return np.asarray(spread * (x + daily_ratio))


def trials_of(returns: Floats, tried_n: int | None = None) -> Trials:
    names = tuple(f"trial {i}" for i in range(returns.shape[1]))
    days = np.arange(len(returns), dtype=np.int64)
    return Trials(names, days, returns, returns.shape[1] if tried_n is None else tried_n)


def noise(days: int, trials: int, seed: int = 5) -> Floats:
    return np.random.default_rng(seed).normal(0.0, 0.01, (days, trials))


def texts(honesty: Honesty) -> str:
    return " ".join(finding.text for finding in honesty.findings)


def test_every_statistic_is_there_in_order_and_agrees_with_its_formula() -> None:
    x = with_ratio(0.1, 400)
    found = judge(x, trials=trials_of(x[:, None]))
    assert tuple(f.name for f in found.findings) == NAMES
    assert found["sharpe"].value == pytest.approx(0.1 * math.sqrt(365))
    z = (x - x.mean()) / x.std()
    g3, g4 = float((z**3).mean()), float((z**4).mean())
    error = math.sqrt((1 - g3 * 0.1 + (g4 - 1) / 4 * 0.01) / 399)
    assert found["sharpe_error"].value == pytest.approx(error * math.sqrt(365))
    psr = 0.5 * (1 + math.erf(0.1 / error / math.sqrt(2)))
    assert found["probabilistic_sharpe"].value == pytest.approx(psr)
    least = 1 + error**2 * 399 * (1.6448536 / 0.1) ** 2
    assert found["track_record_days"].value == pytest.approx(least, rel=1e-6)
    assert found["sharpe"].low < found["sharpe"].value < found["sharpe"].high
    assert found["newey_west_t"].value == pytest.approx(2.0, abs=0.6)  # 0.1 sqrt(400), little lag


def test_one_trial_takes_nothing_off() -> None:
    x = with_ratio(0.05, 300)
    found = judge(x, trials=trials_of(x[:, None]))
    assert (found.trials_n, found.trials_effective, found.hurdle) == (1, 1, 0.0)
    assert found["deflated_sharpe"].value == found["probabilistic_sharpe"].value
    assert found["backtest_years"].value == 0.0
    assert math.isnan(found["overfitting_probability"].value)
    assert "two are needed" in found["overfitting_probability"].text


def test_a_hundred_copies_are_one_trial() -> None:
    x = with_ratio(0.05, 300)
    found = judge(x, trials=trials_of(np.repeat(x[:, None], 100, axis=1)))
    assert (found.trials_n, found.trials_effective, found.hurdle) == (100, 1, 0.0)
    assert found["deflated_sharpe"].value == found["probabilistic_sharpe"].value
    assert math.isnan(found["overfitting_probability"].value)
    assert "one idea" in found["overfitting_probability"].text


def test_the_best_of_many_trials_without_skill_is_told_as_luck() -> None:
    returns = noise(500, 60)
    ratios = returns.mean(axis=0) / returns.std(axis=0, ddof=1)
    best = returns[:, int(ratios.argmax())]
    found = judge(best, trials=trials_of(returns))
    assert found.trials_effective == pytest.approx(60, abs=2)
    assert found["probabilistic_sharpe"].value > 0.95  # alone it would look like a discovery
    assert found["deflated_sharpe"].value < 0.8
    hurdle = found.hurdle
    assert hurdle == pytest.approx(expected_maximum(60) * math.sqrt(365 / 499), rel=0.1)
    assert found["overfitting_probability"].value > 0.2
    assert found["backtest_years"].value > 500 / 365
    assert "without any skill" in found["backtest_years"].text
    assert f"{hurdle:.2f}" in found.headline


def test_trials_that_left_no_returns_raise_the_hurdle_in_full() -> None:
    x = with_ratio(0.1, 250)
    alone = judge(x, trials=trials_of(x[:, None]))
    found = judge(x, trials=trials_of(x[:, None], tried_n=50))
    assert found.trials_effective == 50
    wanted = math.sqrt(1 / 249) * expected_maximum(50) * math.sqrt(365)
    assert found.hurdle == pytest.approx(wanted)
    assert found["deflated_sharpe"].value < alone["deflated_sharpe"].value


def test_trials_that_never_traded_count_as_tried() -> None:
    x = with_ratio(0.1, 250)
    returns = np.column_stack([x, np.zeros((250, 3)), noise(250, 2)])
    found = judge(x, trials=trials_of(returns))
    assert (found.trials_n, found.trials_effective) == (6, 6)
    assert found["deflated_sharpe"].is_known


def test_nobody_counted_so_nothing_is_deflated() -> None:
    found = judge(with_ratio(0.1, 250), trials=None)
    for name in ("deflated_sharpe", "backtest_years", "overfitting_probability"):
        assert math.isnan(found[name].value)
        assert "nobody counted" in found[name].text
    assert found.headline == found["probabilistic_sharpe"].text


@pytest.mark.parametrize("days", [0, 1, 3, 19])
def test_too_few_days_say_nothing(days: int) -> None:
    x = np.array([0.01, -0.02, 0.03, 0.005] * 5)[:days]
    found = judge(x, trials=trials_of(np.zeros((0, 1)), tried_n=2))
    for name in NAMES:
        finding = found[name]
        assert finding.text
        assert math.isnan(finding.low)
        if name != "sharpe":
            assert math.isnan(finding.value), name
    assert f"{days} daily returns" in found["sharpe"].text
    if days == 3:
        assert found["sharpe"].value == pytest.approx(np.mean(x) / np.std(x, ddof=1) * 365**0.5)


def test_a_flat_series_has_nothing_to_measure() -> None:
    found = judge(np.zeros(100), trials=trials_of(np.zeros((100, 1))))
    assert all(math.isnan(f.value) for f in found.findings)
    assert "never vary" in found.headline


def test_a_huge_ratio_stays_finite_and_is_not_called_certain() -> None:
    x = with_ratio(3.0, 200)
    found = judge(x, trials=trials_of(x[:, None]))
    assert found["sharpe"].value == pytest.approx(57.3, abs=0.1)
    assert math.isfinite(found["sharpe_error"].value)
    assert found["probabilistic_sharpe"].value == pytest.approx(1.0)
    assert "fewer than one of 2,000" in found["probabilistic_sharpe"].text
    assert "never" not in texts(found)


def test_a_losing_book_is_called_one() -> None:
    x = with_ratio(-0.3, 400)
    found = judge(x, trials=trials_of(x[:, None]))
    assert found["sharpe"].high < 0
    assert "losing" in found["sharpe"].text
    assert math.isinf(found["track_record_days"].value)
    assert math.isnan(found["backtest_years"].value)
    assert "not above 0" in found["track_record_days"].text


def test_an_interval_around_zero_is_not_made_to_sound_like_a_gain() -> None:
    found = judge(with_ratio(0.02, 300), trials=None)["sharpe"]
    assert found.low < 0 < found.high
    assert "earns or loses" in found.text


def test_the_same_days_give_the_same_bits_and_the_band_follows_its_seed() -> None:
    x = with_ratio(0.05, 120)
    assert judge(x, trials=trials_of(x[:, None])) == judge(x, trials=trials_of(x[:, None]))
    first, again, other = (equity_band(x, seed)[0] for seed in (3, 3, 4))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


def test_a_hole_among_the_returns_is_refused() -> None:
    with pytest.raises(InvariantViolated, match="daily_returns at 1"):
        judge([0.01, math.nan, 0.02], trials=None)


def test_the_band_contains_the_median_path_and_starts_at_one() -> None:
    x = with_ratio(0.1, 2000, spread=0.005)
    low, high = equity_band(x, 7)
    assert low.shape == high.shape == (2001,)
    assert low[0] == high[0] == 1.0
    assert (low <= high).all()
    end = float(np.prod(1 + x))
    assert low[-1] < end < high[-1]
    # a book of independent days: the spread of log equity is sd sqrt(T) to either side
    half = (np.log(high[-1]) - np.log(low[-1])) / 2
    assert half == pytest.approx(1.96 * 0.005 * math.sqrt(2000), rel=0.15)
    assert (equity_band(x, 7)[0] == low).all()


def test_the_band_of_a_few_days_is_not_known() -> None:
    low, high = equity_band([0.01, 0.02, 0.03], 7)
    assert low[0] == high[0] == 1.0
    assert np.isnan(low[1:]).all()
    assert low.shape == (4,)


@pytest.mark.parametrize(
    ("p", "words"),
    [
        (1.0, "in practically all cases"),
        (0.62, "in 62% of cases"),
        (0.2, "in 20.0% of cases (about one of 5)"),
        (0.001, "in 0.1% of cases (about one of 1,000)"),
        (0.0, "in fewer than one of 2,000 cases"),
    ],
)
def test_chances_are_told_so_that_anybody_understands(p: float, words: str) -> None:
    assert chance(p) == words


def test_the_band_keeps_days_together_that_hang_together() -> None:
    rng = np.random.default_rng(9)
    x = rng.normal(0.0, 0.01, 1_000)
    for day in range(1, len(x)):
        x[day] += 0.6 * x[day - 1]
    low, high = equity_band(x, 7)
    half = float(np.log(high[-1]) - np.log(low[-1])) / 2
    alone = 1.96 * float(x.std()) * math.sqrt(len(x))
    # sums of such days scatter sqrt((1 + 0.6) / (1 - 0.6)) = 2 times as widely as of single ones
    assert 1.5 * alone < half < 2.2 * alone


# ---- what was tried ------------------------------------------------------------------------------


def family(rho: float, trials: int, days: int, seed: int = 5) -> Floats:
    """Draw trials without skill of which any two correlate by rho."""
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((days, 1))
    own = rng.standard_normal((days, trials))
    return np.asarray(0.01 * (math.sqrt(rho) * common + math.sqrt(1 - rho) * own))


def test_settings_of_one_idea_are_not_told_as_one_idea() -> None:
    returns = family(0.9, 6, 365)
    found = judge(returns[:, 0], trials=trials_of(returns))
    assert found.hurdle > 0.2
    assert found.trials_effective >= 2
    assert "One idea" not in texts(found)
    assert "6 things were tried, as good as 2 independent ones" in found.headline


def test_two_trials_over_a_few_weeks_have_a_hurdle_as_large_as_luck_is() -> None:
    returns = noise(44, 2)
    returns -= returns.mean(axis=0) - 1e-4 * returns.std(axis=0)  # two equal ratios
    found = judge(returns[:, 0], trials=trials_of(returns))
    # the larger of two normals is expected at 1/sqrt(pi), and 43 days scatter by 1/sqrt(43)
    assert found.hurdle == pytest.approx(math.sqrt(365 / 43 / math.pi), rel=0.05)


def test_few_splits_tell_nothing_about_overfitting() -> None:
    for days, known in ((63, False), (64, True)):
        returns = noise(days, 4)
        found = judge(returns[:, 0], trials=trials_of(returns))["overfitting_probability"]
        assert found.is_known is known
    assert "70 splits" in found.text
    short = judge(noise(63, 4)[:, 0], trials=trials_of(noise(63, 4)))
    assert "too few days: 63 in common, 64 are needed" in short["overfitting_probability"].text


def test_a_blind_pick_among_three_is_poor_in_two_of_three_cases() -> None:
    told = judge(noise(400, 3)[:, 0], trials=trials_of(noise(400, 3)))["overfitting_probability"]
    assert "picking one blindly would in 67%" in told.text
    assert "the middle one included" in told.text
    even = judge(noise(400, 4)[:, 0], trials=trials_of(noise(400, 4)))["overfitting_probability"]
    assert "picking one blindly would in 50%" in even.text
    assert "middle" not in even.text


def test_the_ledger_is_named_with_what_it_holds() -> None:
    x = with_ratio(0.05, 300)
    trials = replace(trials_of(x[:, None], 5), trained_n=3, ledger=LedgerFacts("state/t.jsonl", 12))
    told = judge(x, trials=trials)["trials_in_ledger"]
    assert told.value == 12
    assert "state/t.jsonl holds 12 different trials, of which 5 attempts on this data" in told.text
    assert "(3 trainings)" in told.text


def test_a_ledger_outside_of_the_working_folder_is_named_without_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown_file(Path("state/trials.jsonl")) == "state/trials.jsonl"
    assert shown_file(tmp_path / "state" / "trials.jsonl") == "state/trials.jsonl"
    assert shown_file(Path("/elsewhere/trials.jsonl")) == "trials.jsonl"
    assert shown_file(Path("../other/trials.jsonl")) == "trials.jsonl"
