"""What the worker hosts: forecasts as before, the covariance at each hour, a baseline in need."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from daemon.domain.bar import FIELDS, Floats, Window
from daemon.domain.covariance import Covariance
from daemon.domain.forecast import Estimates
from daemon.domain.units import HOUR_MS, Timeframe
from strategies.covariance.hosted import HOUR, HourlyReturns, WithCovariance
from strategies.covariance.known import make_estimator
from strategies.covariance.monitor import Monitor
from strategies.factor_form import FactorForm
from tests.strategies.covariance.returns import MIDNIGHT_MS, drawn


class _Inner:
    model_id = "inner"

    def estimate(self, as_of_ms: int, windows: Sequence[Window]) -> Estimates:
        return Estimates(as_of_ms, (), gross_multiplier=0.5)


class _Broken:
    name = "broken"

    def forecast(self, returns: Floats, covariates: Floats | None, as_of_ms: int) -> Covariance:
        raise np.linalg.LinAlgError("a matrix that is singular")


class _Strange:
    name = "strange"

    def forecast(self, returns: Floats, covariates: Floats | None, as_of_ms: int) -> Covariance:
        N = returns.shape[1]
        return Covariance(as_of_ms, self.name, np.full(N, 0.01), np.full((N, N), 2.0))


def _closes(hours: int, n: int = 5) -> Floats:
    return np.asarray(100.0 * np.exp(np.cumsum(drawn(hours, n), axis=0)))


def _window(closes: Floats, until: int, length: int) -> Window:
    """Show the bars up to number `until`, which closed so many hours after midnight."""
    values = np.repeat(closes[until - length : until, :, None], FIELDS, axis=2)
    return Window(HOUR, MIDNIGHT_MS + until * HOUR_MS, values)


def test_returns_are_gathered_beyond_a_window_and_begun_anew_after_a_gap() -> None:
    closes = _closes(200)
    gathered = HourlyReturns(100)
    for until in range(60, 150):
        gathered.add(_window(closes, until, 50))
    expected = np.diff(np.log(closes[:149]), axis=0)
    np.testing.assert_array_equal(gathered.rows, expected[-100:])
    gathered.add(_window(closes, 149, 50))  # shown again: nothing is new
    assert len(gathered.rows) == 100
    gathered.add(_window(closes, 199, 20))
    np.testing.assert_array_equal(gathered.rows, np.diff(np.log(closes[179:199]), axis=0))


def test_forecasts_pass_and_a_covariance_comes_at_each_close_of_an_hour() -> None:
    closes = _closes(300)
    ewma = make_estimator("ewma")
    hosted = WithCovariance(_Inner(), ewma, make_estimator("ewma"), Monitor(), memory_bars=500)
    for until in range(100, 250):
        window = _window(closes, until, 80)
        said = hosted.estimate(window.newest_ms, [window])
        assert said.gross_multiplier == 0.5
        assert said.covariance is not None
        assert said.covariance.note == ""
    assert said.covariance is not None
    returns = np.diff(np.log(closes[20:249]), axis=0)
    alone = make_estimator("ewma").forecast(returns, None, MIDNIGHT_MS + 249 * HOUR_MS)
    np.testing.assert_allclose(said.covariance.matrix, alone.matrix, rtol=1e-9)
    assert said.covariance.watch is not None
    assert said.covariance.watch.hours_n == 149
    other = Window(Timeframe(90), MIDNIGHT_MS + 252 * HOUR_MS, window.values)
    assert hosted.estimate(other.newest_ms, [other]).covariance is None
    assert hosted.model_id.startswith("inner")


def test_a_covariance_comes_in_factor_form_where_that_is_wanted() -> None:
    window = _window(_closes(300), 200, 180)
    ewma, monitor = make_estimator("ewma"), Monitor()
    for wanted in (False, True):
        hosted = WithCovariance(None, ewma, ewma, monitor, memory_bars=500, factors=wanted)
        said = hosted.estimate(window.newest_ms, [window]).covariance
        assert said is not None
        assert (said.factors is not None) == wanted
    assert said is not None
    assert said.factors is not None
    form = FactorForm(said.factors.loadings, said.factors.specific)
    np.testing.assert_allclose(form.matrix, said.matrix, rtol=1e-9, atol=1e-15)


def test_without_forecasts_there_is_the_covariance_alone() -> None:
    hosted = WithCovariance(
        None, make_estimator("ewma"), make_estimator("ewma"), Monitor(), memory_bars=500
    )
    window = _window(_closes(100), 99, 80)
    said = hosted.estimate(window.newest_ms, [window])
    assert said.predictions == ()
    assert said.covariance is not None


def test_an_estimator_that_fails_or_gives_no_covariance_is_replaced_and_named() -> None:
    closes = _closes(100)
    for asked, why in ((_Broken(), "singular"), (_Strange(), "itself")):
        hosted = WithCovariance(None, asked, make_estimator("ewma"), Monitor(), memory_bars=500)
        window = _window(closes, 99, 80)
        said = hosted.estimate(window.newest_ms, [window]).covariance
        assert said is not None
        assert said.estimator == "ewma+ewma"
        assert asked.name in said.note
        assert why in said.note
        assert said.problem(5) is None


class _Wrong:
    name = "wrong"

    def forecast(self, returns: Floats, covariates: Floats | None, as_of_ms: int) -> Covariance:
        raise ValueError("array must not contain infs or NaNs")


def test_forecasts_come_though_no_covariance_can_be_made() -> None:
    window = _window(_closes(100), 99, 80)
    ewma = make_estimator("ewma")
    both = WithCovariance(_Inner(), _Wrong(), _Broken(), Monitor(), memory_bars=500)
    said = both.estimate(window.newest_ms, [window])
    assert said.gross_multiplier == 0.5
    assert said.covariance is None
    asked = WithCovariance(_Inner(), _Wrong(), ewma, Monitor(), memory_bars=500)
    found = asked.estimate(window.newest_ms, [window]).covariance
    assert found is not None
    assert "infs or NaNs" in found.note
    without = WithCovariance(_Inner(), ewma, _Wrong(), Monitor(), memory_bars=500)
    found = without.estimate(window.newest_ms, [window]).covariance
    assert found is not None
    assert found.problem(5) is None
    assert found.note == ""


class _Sometimes:
    """Fail at the hours that are named, each time for another reason."""

    name = "sometimes"

    def __init__(self, bad: set[int]) -> None:
        self._bad, self._good = bad, make_estimator("ewma")

    def forecast(self, returns: Floats, covariates: Floats | None, as_of_ms: int) -> Covariance:
        if (as_of_ms - MIDNIGHT_MS) // HOUR_MS in self._bad:
            raise ValueError(f"trouble at {as_of_ms}")
        return self._good.forecast(returns, covariates, as_of_ms)


def test_a_baseline_that_fails_alone_and_a_covariance_of_nobody_are_said() -> None:
    closes = _closes(100)
    asked, baseline = _Sometimes({93, 94}), _Sometimes({91, 92, 93, 94})
    hosted = WithCovariance(_Inner(), asked, baseline, Monitor(), memory_bars=500)
    silent, came = [], []
    for until in range(90, 97):
        window = _window(closes, until, 80)
        said = hosted.estimate(window.newest_ms, [window])
        silent.append(dict(said.silent))
        came.append(said.covariance is not None)
        other = Window(Timeframe(90), window.newest_ms, window.values)
        assert hosted.estimate(window.newest_ms, [other]).silent == said.silent
    assert came == [True, True, True, False, False, True, True]
    first = MIDNIGHT_MS + 91 * HOUR_MS
    alone = {"covariance baseline": f"the watch is without it: sometimes gave trouble at {first}"}
    assert silent[:3] == [{}, alone, alone]  # one reason, told once
    assert silent[3].keys() == {"covariance", "covariance baseline"}
    assert silent[3] == silent[4]
    assert silent[5:] == [{}, {}]
