"""The IC on its way into the book: the strategy is run, and each step says what became of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from daemon.domain.bar import FIELDS, Floats
from daemon.domain.forecast import Reading
from daemon.domain.units import HOUR_MS, Timeframe
from daemon.research.architectures.book_steps import StepIc, Told, book_steps, strategy_fits
from strategies.neutral import RISK_BARS
from tests.strategies.views import universe

HOURS, N = 260, 16
H1, H2 = Timeframe(60), Timeframe(120)
SETTINGS = {"breadth_min": 4, "friction_max": 100.0, "name_weight_max": 0.08}


def told_of(mean: Floats) -> tuple[Told, Floats]:
    """Give decisions from forecasts (K, M, N) and outcomes that the first of them knows."""
    draw = np.random.default_rng(3)
    bars = HOURS + RISK_BARS
    sigma = np.linspace(0.004, 0.02, N)
    closes = 100 * np.exp(np.cumsum(sigma * draw.standard_normal((bars, N)), axis=0))
    values = np.repeat(closes[:, :, None], FIELDS, axis=2)
    hourly_ms = HOUR_MS * np.arange(1, bars + 1, dtype=np.int64)
    at_ms = hourly_ms[RISK_BARS - 1 : RISK_BARS - 1 + HOURS]
    outcomes = mean[0] / mean[0].std() * 0.5 + draw.standard_normal((HOURS, N))
    ages = np.stack([np.zeros(HOURS, np.int64), np.where(at_ms % H2.ms, HOUR_MS, 0)])
    told = Told(
        at_ms=at_ms,
        timeframes=(H1, H2),
        mean=mean,
        variance=np.full_like(mean, 1e-4),
        age_ms=ages,
        hourly_ms=hourly_ms,
        hourly=values,
        disagreement=(),
        cost=np.full(N, 0.0006),
        sigma=np.tile(sigma, (HOURS, 1)),
    )
    return told, outcomes


def forecasts() -> Floats:
    draw = np.random.default_rng(4)
    first = np.empty((HOURS, N))
    first[0] = draw.standard_normal(N)
    for t in range(1, HOURS):
        first[t] = 0.9 * first[t - 1] + np.sqrt(0.19) * draw.standard_normal(N)
    return 0.02 * np.stack([first, first + draw.standard_normal((HOURS, N))])


def named(found: tuple[StepIc, ...]) -> dict[str, StepIc]:
    return {one.step: one for one in found}


def test_every_step_from_a_forecast_to_what_is_held_has_its_ic() -> None:
    told, outcomes = told_of(forecasts())
    steps = named(book_steps(told, SETTINGS, universe(N), outcomes))
    assert list(steps) == ["raw 1h", "raw 2h", "combined", "neutralised", "capped", "held"]
    ics = {name: one.ic.mean for name, one in steps.items()}
    assert ics["raw 1h"] > ics["raw 2h"] + 0.05, "the second one is noisier"
    assert ics["combined"] > ics["raw 2h"]
    # weights by risk, a low cap and bands each cost some of it
    assert ics["combined"] > ics["neutralised"] > ics["held"] > 0.1
    assert ics["capped"] != ics["neutralised"]
    assert {one.ic.instants for one in steps.values()} == {HOURS}


def test_a_cap_that_never_binds_leaves_the_neutral_book() -> None:
    told, outcomes = told_of(forecasts())
    wide = {**SETTINGS, "name_weight_max": 5.0}
    steps = named(book_steps(told, wide, universe(N), outcomes))
    assert steps["capped"].ic.mean == pytest.approx(steps["neutralised"].ic.mean, rel=1e-9)


def test_the_strategy_combines_as_the_table_was_read() -> None:
    told, outcomes = told_of(forecasts())
    reading = Reading(rule="grinold_kahn", slopes=(0.03, 0.0))
    alone = replace(told, readings=((0, reading),))
    steps = named(book_steps(alone, SETTINGS, universe(N), outcomes))
    assert steps["combined"].ic.mean == pytest.approx(steps["raw 1h"].ic.mean, rel=1e-9)
    assert named(book_steps(told, SETTINGS, universe(N), outcomes))["combined"] != steps["combined"]


def test_an_hour_without_forecasts_is_in_no_step_and_none_is_read_as_zero() -> None:
    told, outcomes = told_of(forecasts())
    silent = told.mean.copy()
    silent[:, 100:110] = np.nan
    steps = named(book_steps(replace(told, mean=silent), SETTINGS, universe(N), outcomes))
    assert {one.ic.instants for one in steps.values()} == {HOURS - 10}
    old = replace(told, age_ms=np.where(told.at_ms % H2.ms, -1, told.age_ms))
    late = named(book_steps(old, SETTINGS, universe(N), outcomes))
    assert late["combined"].ic.instants == HOURS // 2


def test_the_future_of_a_decision_changes_nothing_in_it() -> None:
    told, outcomes = told_of(forecasts())
    half = HOURS // 2
    cut = replace(
        told,
        at_ms=told.at_ms[:half],
        mean=told.mean[:, :half],
        variance=told.variance[:, :half],
        age_ms=told.age_ms[:, :half],
        sigma=told.sigma[:half],
    )
    other = told.hourly.copy()
    other[RISK_BARS + half :] *= 3.0
    known = book_steps(cut, SETTINGS, universe(N), outcomes[:half])
    blind = book_steps(replace(cut, hourly=other), SETTINGS, universe(N), outcomes[:half])
    assert known == blind


def test_only_the_default_strategy_shows_its_steps() -> None:
    assert strategy_fits("neutral")
    assert not strategy_fits("relative_strength")


def test_a_book_weighed_by_risk_loses_nothing_of_what_its_forecasts_earn() -> None:
    """Weights go with 1 / volatility, outcomes are in units of it: together they are the alpha."""
    told, outcomes = told_of(forecasts())
    wide = {**SETTINGS, "name_weight_max": 5.0}
    steps = named(book_steps(told, wide, universe(N), outcomes))
    kept = steps["neutralised"].ic.mean / steps["combined"].ic.mean
    assert 0.97 < kept < 1.03
    scaled = replace(told, sigma=np.ones_like(told.sigma))  # weights as they are
    blunt = named(book_steps(scaled, wide, universe(N), outcomes))
    assert blunt["neutralised"].ic.mean < 0.95 * steps["neutralised"].ic.mean
