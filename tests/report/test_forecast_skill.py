"""Skill of a run: what was planted is recovered, what was reversed is negative, noise is noise."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from daemon.domain.decision import Decision, DecisionKind
from daemon.domain.failures import InvariantViolated
from daemon.domain.forecast import Prediction, Signals
from daemon.domain.portfolio import TargetPortfolio
from daemon.domain.units import HOUR_MS, Timeframe
from daemon.report.forecast_skill import COMBINED, STRENGTH, ForecastSkill, forecast_skill
from daemon.report.run import Run, RunFacts
from daemon.report.run_record import BookRow, RunRecord
from daemon.statistics.calibration import mincer_zarnowitz
from daemon.statistics.outcomes import ahead_of, residual_outcome, residual_risk

Floats = npt.NDArray[np.float64]
START_MS = 1_704_067_200_000
BAR_MS = HOUR_MS // 2
COINS = 20
HOURS = 24 * 30
HOURLY, SLOW = Timeframe(60), Timeframe(120)
PLANTED = 0.1  # the true IC


def prices(seed: int = 1) -> Floats:
    """Draw marks (T, N) of half hours: a common factor and own moves."""
    draw = np.random.default_rng(seed)
    shape = (2 * HOURS + 1, COINS)
    moves = 0.004 * draw.standard_normal((shape[0], 1)) + 0.005 * draw.standard_normal(shape)
    return np.asarray(100 * np.exp(np.cumsum(moves, axis=0)))


def outcomes(marks: Floats, hours: int = 6, lag: int = 0) -> Floats:
    """Give the outcomes of forecasts made at every full hour."""
    logs = np.log(marks)
    beta, sigma = residual_risk(logs, bar_ms=BAR_MS)
    ahead = ahead_of(logs, 2 * hours + lag) - ahead_of(logs, lag)
    return residual_outcome(ahead, beta, sigma, horizon_bars=2 * hours)[::2]


def planted(marks: Floats, ic: float = PLANTED, seed: int = 2) -> Floats:
    """Draw hourly forecasts (M, N) whose correlation with the six-hour outcome is `ic`.

    They are the honest mean: ic times a standard normal score of outcome and noise.
    """
    noise = np.random.default_rng(seed).standard_normal((HOURS + 1, COINS))
    y = np.nan_to_num(outcomes(marks))
    return np.asarray(ic * (ic * y + np.sqrt(1 - ic**2) * noise))


def prediction(at_ms: int, mean: Floats, timeframe: Timeframe = HOURLY) -> Prediction:
    return Prediction(timeframe, at_ms, mean, np.full(len(mean), 0.05**2), "planted")


def signals(at_ms: int, alpha: Floats) -> Signals:
    half, ones = np.full(len(alpha), 0.5), np.ones(len(alpha))
    return Signals(at_ms, np.abs(alpha), ones, ones, alpha, 0.01 * ones, half, np.abs(alpha))


def decision(
    at_ms: int, predictions: Sequence[Prediction], alpha: Floats | None = None
) -> Decision:
    zero = np.zeros(COINS)
    target = None
    if alpha is not None:
        target = TargetPortfolio(at_ms, zero, zero, zero, signals(at_ms, alpha))
    return Decision(
        as_of_ms=at_ms,
        sequence=1,
        kind=DecisionKind.HELD,
        bars_digest="",
        absent=(),
        equity=1.0,
        marks=zero,
        weights_before=zero,
        predictions=tuple(predictions),
        target=target,
        orders=(),
        refusals=(),
    )


def hourly(forecasts: Floats) -> list[Decision]:
    """Wrap forecasts (M, N), one each hour from the start on."""
    instants = [START_MS + hour * HOUR_MS for hour in range(len(forecasts))]
    return [
        decision(at, [prediction(at, mean)]) for at, mean in zip(instants, forecasts, strict=True)
    ]


def run_of(marks: Floats, decisions: Sequence[Decision], skip: Sequence[int] = ()) -> Run:
    record, zero = RunRecord(), Decimal(0)
    for row, mark in enumerate(marks):
        if row not in skip:
            book = BookRow(1.0, 0.0, zero, zero, zero, 0.0, np.zeros(COINS), mark)
            record.add(START_MS + row * BAR_MS, book)
    facts = RunFacts("", "", "", tuple(map(str, range(COINS))), 0, 0, 0.0, 0.0, 0.0, "")
    return Run(record, decisions, (), facts)


def of_forecasts(forecasts: Floats, marks: Floats) -> ForecastSkill:
    return forecast_skill(run_of(marks, hourly(forecasts)))


@pytest.fixture(scope="module")
def marks() -> Floats:
    return prices()


def test_a_planted_forecast_is_recovered_at_its_horizon(marks: Floats) -> None:
    found = of_forecasts(planted(marks), marks).named("1h")
    six = found.at(6)
    assert six.score.low < PLANTED < six.score.high
    assert six.score.low > 0
    assert six.rank.t > 4
    assert six.rank.instants == HOURS + 1 - 48 - 6  # two days of risk, then the last six hours
    assert six.rank.lags == 6
    assert found.instants == HOURS + 1


def test_a_reversed_forecast_is_negative_to_the_same_amount(marks: Floats) -> None:
    right, wrong = (
        of_forecasts(sign * planted(marks), marks).named("1h").at(6) for sign in (1.0, -1.0)
    )
    assert wrong.score.high < 0
    assert wrong.score.mean == pytest.approx(-right.score.mean, rel=1e-12)
    assert wrong.rank.low == pytest.approx(-right.rank.high, rel=1e-12)


def test_forecasts_shuffled_over_instruments_cover_zero(marks: Floats) -> None:
    draw = np.random.default_rng(8)
    shuffled = draw.permuted(planted(marks), axis=1)
    for horizon in (1, 6, 12, 24):
        found = of_forecasts(shuffled, marks).named("1h").at(horizon)
        assert found.rank.low < 0 < found.rank.high
        assert found.score.low < 0 < found.score.high


def test_perfect_foresight_decays_with_the_horizon_and_the_late_entry(marks: Floats) -> None:
    found = of_forecasts(np.nan_to_num(outcomes(marks)), marks).named("1h")
    assert found.at(6).rank.mean == pytest.approx(1.0)
    # of six hours one half is lost at the front: eleven of twelve half hours are shared
    assert found.at(6, 1).rank.mean == pytest.approx(11 / 12, abs=0.03)
    # 24 hours share six: the correlation is the root of a quarter
    assert found.at(24).rank.mean == pytest.approx(0.5, abs=0.08)
    horizons = [(one.horizon_hours, one.lag_bars) for one in found.decay]
    assert horizons == [(h, lag) for h in (1, 6, 12, 24) for lag in (0, 1)]


def test_the_late_entry_is_measured_one_bar_later(marks: Floats) -> None:
    late = np.nan_to_num(outcomes(marks, lag=1))
    found = of_forecasts(late, marks).named("1h")
    assert found.at(6, 1).score.mean > found.at(6, 0).score.mean
    assert found.at(6, 1).rank.mean == pytest.approx(1.0)


def test_an_honest_forecast_is_calibrated_and_a_bold_one_is_not(marks: Floats) -> None:
    honest = of_forecasts(planted(marks), marks).named("1h").calibration
    bold = of_forecasts(4 * planted(marks), marks).named("1h").calibration
    assert honest.slope is not None
    assert bold.slope is not None
    assert abs(honest.slope.slope - 1.0) < 3 * honest.slope.slope_error
    assert bold.slope.slope == pytest.approx(honest.slope.slope / 4)
    levels = [one.level for one in honest.coverage]
    assert levels == [0.5, 0.9]
    for one in honest.coverage:
        assert one.found.low < one.level + 0.03
        assert one.found.high > one.level - 0.03
    assert honest.reliability is not None
    curve = honest.reliability
    assert len(curve.sizes) == 10
    assert curve.frequency[-1] > curve.frequency[0]
    assert all(a < b for a, b in pairwise(curve.confidence.tolist()))


def test_a_forecast_that_is_shown_again_counts_once_from_its_first_decision(marks: Floats) -> None:
    forecasts = np.nan_to_num(outcomes(marks))
    decisions = []
    for hour in range(len(forecasts)):
        at, shown = START_MS + hour * HOUR_MS, hour - hour % 2
        made = START_MS + shown * HOUR_MS
        slow = prediction(made, forecasts[shown], SLOW)
        decisions.append(decision(at, [prediction(at, forecasts[hour]), slow]))
    found = forecast_skill(run_of(marks, decisions))
    assert [one.name for one in found.signals] == ["1h", "2h"]
    assert found.named("2h").instants == HOURS // 2 + 1
    assert found.named("2h").at(6).rank.mean == pytest.approx(1.0)
    # three decisions of two hours share an outcome; what counts is the automatic number of lags
    assert found.named("2h").at(24).rank.lags == 11
    assert found.named("1h").at(24).rank.lags == 23


def test_the_combined_signal_is_judged_with_its_sign(marks: Floats) -> None:
    alphas = np.nan_to_num(outcomes(marks))
    decisions = [
        decision(START_MS + hour * HOUR_MS, [], alpha) for hour, alpha in enumerate(alphas)
    ]
    found = forecast_skill(run_of(marks, decisions))
    assert [one.name for one in found.signals] == [COMBINED, STRENGTH]
    assert found.named(COMBINED).at(6).rank.mean == pytest.approx(1.0)
    assert found.named(STRENGTH).at(6).rank.mean == pytest.approx(1.0)


def test_rows_that_a_live_run_missed_leave_a_hole_and_no_lie(marks: Floats) -> None:
    forecasts = np.nan_to_num(outcomes(marks))
    run = run_of(marks, hourly(forecasts), skip=(1000, 1001))
    assert forecast_skill(run).named("1h").at(6).rank.mean > 0.99


def test_what_cannot_be_known_says_why(marks: Floats) -> None:
    nothing = forecast_skill(run_of(marks, [decision(START_MS, [])]))
    assert nothing.signals == ()
    assert "no decision" in nothing.why
    short = of_forecasts(planted(marks)[:60], marks[:90]).named("1h")
    assert np.isnan(short.at(6).rank.mean)
    assert "two days" in short.at(6).why
    assert short.calibration.slope is None
    assert short.calibration.why == "0 instants with forecasts and outcomes: 8 are needed"
    silent = of_forecasts(np.full((HOURS, COINS), np.nan), marks).named("1h").at(6)
    assert silent.why == "nothing was forecast"
    level = of_forecasts(np.ones((HOURS, COINS)), marks).named("1h").at(6)
    assert level.why.startswith("0 instants had three or more forecasts that differ")
    one_row = forecast_skill(run_of(marks[:1], hourly(planted(marks)[:1])))
    assert one_row.why == "the run recorded fewer than two instants"


def test_names_and_horizons_that_were_not_measured_are_refused(marks: Floats) -> None:
    found = of_forecasts(planted(marks)[:200], marks)
    with pytest.raises(InvariantViolated, match="'3h': there are 1h"):
        found.named("3h")
    with pytest.raises(InvariantViolated, match="horizon of 7 h"):
        found.named("1h").at(7)
    with pytest.raises(InvariantViolated, match="whole bars of 7200000 ms"):
        forecast_skill(run_of(marks, hourly(planted(marks)), skip=_thinned(marks)), (1,))


def _thinned(marks: Floats) -> list[int]:
    """Name all rows but every fourth, so that bars are of two hours."""
    return [row for row in range(len(marks)) if row % 4]


def test_the_error_of_the_slope_allows_for_outcomes_that_overlap(marks: Floats) -> None:
    forecasts = planted(marks)
    y = outcomes(marks)
    known = np.isfinite(y)
    m, outcome = forecasts[known], y[known]
    found = of_forecasts(forecasts, marks).named("1h").calibration.slope
    # hourly forecasts of six hours: six instants of all instruments share bars
    assert found == mincer_zarnowitz(m, outcome, lags=6 * COINS)
    assert found is not None
    assert found.slope_error != mincer_zarnowitz(m, outcome, lags=0).slope_error


def test_coverage_counts_each_stretch_of_six_hours_once(marks: Floats) -> None:
    found = of_forecasts(planted(marks), marks).named("1h").calibration
    known = np.isfinite(outcomes(marks))
    apart = int(known[::6].sum())
    assert 5 * apart < int(known.sum())
    assert [one.found.outcomes for one in found.coverage] == [apart] * len(found.coverage)
