"""The check for look-ahead over every kind of series and both kinds of model, and what it catches.

Funding settles every 1, 4 and 8 hours and one contract changes from one to the other; open interest
and mark are hourly, fear is revised, moon is daily and known a day late.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from adapters.history.covariates import series_path, write_series
from adapters.history.parquet_file import Rates, write_rates
from adapters.history.store import funding_path
from daemon.domain.bar import Window
from daemon.domain.covariates import Series, series_of
from daemon.domain.messages import EstimatesReady
from daemon.domain.units import DAY_MS, HOUR_MS, utc
from daemon.settings import Settings, load_settings
from daemon.wiring import estimator
from daemon.wiring import lookahead as wiring
from daemon.wiring.series_worker import HostedWithSeries
from daemon.wiring.training import bars_from_files, promote_first, train
from daemon.wiring.world_files import stored_world
from strategies.forecast.inputs.covariates import Known
from tests.e2e.line import ROOT
from tests.simulation.paper_line import ORIGIN_MS, generated_market
from tests.wiring.series_market import write_beside

HERE: Final = "tests.wiring.test_covariates_lookahead"
COVARIATES: Final = ["funding", "open_interest", "basis", "series:fear", "series:moon"]
DAYS, TRAINED_DAYS = 46, 42
END_MS = ORIGIN_MS + TRAINED_DAYS * DAY_MS
INTERVALS: Final = ((1,), (4,), (8,), (8, 4), (4, 1), (8, 1))  # hours, of each coin; at half-time
ASKED: Final[Mapping[str, Any]] = {"cuts_n": 1, "seed": 3, "days": 1}


def settings(market: Path, *more: str) -> Settings:
    chosen = [
        f"backtest.data_folder={market}",
        f"backtest.rules_file={ROOT / 'config' / 'trading_rules.toml'}",
        "backtest.report=",
        f"evaluation.trials_file={market / 'trials.jsonl'}",
        "estimator.kind=model",
        'strategy.parameters={"breadth_min": 3, "friction_max": 100.0}',
        'market.timeframes=["1h"]',
        "market.window_bars=150",
        f"training.days={TRAINED_DAYS}",
        "training.budget_s=2",
        "training.seeds_n=1",
        "training.hidden_size=8",
        f"training.covariates={json.dumps(COVARIATES)}",
        *more,
    ]
    return load_settings([ROOT / "config" / "backtest.toml"], overrides=chosen, environment={})


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("market")
    generated_market(folder, days=DAYS)
    symbols = stored_world(settings(folder, "training.covariates=[]", "estimator.kind=zero")).data
    names = tuple(symbols.symbols)
    write_beside(folder, names, ORIGIN_MS, DAYS)
    draw = np.random.default_rng(77)
    for n, symbol in enumerate(names):
        hours = _settlements(INTERVALS[n % len(INTERVALS)])
        settle_ms = ORIGIN_MS + HOUR_MS * np.array(hours, dtype=np.int64)
        rates = Rates(settle_ms, draw.normal(1e-5, 1e-4, len(hours)))
        write_rates(funding_path(folder, "binanceusdm", symbol), rates, {})
        ts = ORIGIN_MS + HOUR_MS * np.arange(24 * DAYS, dtype=np.int64)
        mark = 100.0 * np.exp(np.cumsum(draw.normal(0.0, 0.01, len(ts))))
        for name, values in (
            ("mark", mark),
            ("index", mark * np.exp(draw.normal(0, 5e-4, len(ts)))),
        ):
            path = series_path(folder, "binanceusdm", symbol, name)
            write_series(path, Series(ts, ts + HOUR_MS, values), {})
    ts = ORIGIN_MS + DAY_MS * np.arange(DAYS, dtype=np.int64)
    moon = Series(ts, ts + DAY_MS, draw.normal(50.0, 5.0, DAYS))
    write_series(series_path(folder, "sky", "ALL", "moon"), moon, {})
    return folder


def _settlements(lengths: tuple[int, ...]) -> list[int]:
    half = 24 * DAYS // 2
    if len(lengths) == 1:
        return list(range(0, 24 * DAYS, lengths[0]))
    return [*range(0, half, lengths[0]), *range(half, 24 * DAYS, lengths[1])]


@pytest.fixture(scope="module", params=["ridge", "bilstm"])
def chosen(request: pytest.FixtureRequest, market: Path) -> Settings:
    """Train a champion of a kind on the first weeks and give the settings of a later backtest."""
    mine = (f"training.kind={request.param}", f"estimator.models_folder={market / request.param}")
    until = settings(market, *mine, f"backtest.until={utc(END_MS).isoformat()}")
    made = train(until, bars_from_files(until), lambda _: None)
    assert made.kind == request.param
    assert promote_first(until, made.model_id)
    return settings(market, *mine, f"backtest.since={utc(END_MS).isoformat()}")


# ---- defects, each as a worker that has it -------------------------------------------------------


def changed(known: Known, only: str, how: Any) -> dict[str, tuple[Series | None, ...]]:
    made: dict[int, Series] = {}
    for one in known.get(only, ()):
        if one is not None and id(one) not in made:
            made[id(one)] = how(one)
    kept = {only: tuple(None if one is None else made[id(one)] for one in known[only])}
    return {**known, **kept}


def at_once(series: Series) -> Series:
    """Take values as known at the instant they are about, where the file says later."""
    return series_of(series.ts, series.ts, series.values, series.stale_ms)


def last_version(series: Series) -> Series:
    """Take the last version of a value as known when its first one was."""
    last = dict(zip(series.ts.tolist(), series.values.tolist(), strict=True))
    values = np.array([last[at] for at in series.ts.tolist()])
    return series_of(series.ts, series.known_ms, values, series.stale_ms)


class MoonAtOnce(HostedWithSeries):
    def _known(self) -> Known:
        return changed(super()._known(), "series:moon", at_once)


class FearRevised(HostedWithSeries):
    def _known(self) -> Known:
        return changed(super()._known(), "series:fear", last_version)


class InterestAtOnce(HostedWithSeries):
    def _known(self) -> Known:
        return changed(super()._known(), "open_interest", at_once)


class MarkAtOnce(HostedWithSeries):
    def _known(self) -> Known:
        return changed(super()._known(), "mark", at_once)


def moon_at_once(config: Mapping[str, Any]) -> HostedWithSeries:
    return MoonAtOnce(config)


def fear_revised(config: Mapping[str, Any]) -> HostedWithSeries:
    return FearRevised(config)


def interest_at_once(config: Mapping[str, Any]) -> HostedWithSeries:
    return InterestAtOnce(config)


def mark_at_once(config: Mapping[str, Any]) -> HostedWithSeries:
    return MarkAtOnce(config)


DEFECTS: Final = ("moon_at_once", "fear_revised", "interest_at_once", "mark_at_once")


@pytest.fixture
def with_defect(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda name: monkeypatch.setattr(estimator, "BUILD_WITH_SERIES", f"{HERE}:{name}")


class Inside:
    """Host what the worker's process hosts in this one: loading torch takes its time."""

    notes = True

    def __init__(self, hosted: HostedWithSeries) -> None:
        self._hosted = hosted
        self.note = hosted.note

    def estimate_sync(self, as_of_ms: int, windows: Sequence[Window]) -> EstimatesReady:
        return EstimatesReady(self._hosted.estimate(as_of_ms, windows))


@contextmanager
def inside(settings: Settings, beside: estimator.Beside | None = None) -> Iterator[Inside]:
    module, _, name = estimator.BUILD_WITH_SERIES.partition(":")
    build = getattr(importlib.import_module(module), name)
    yield Inside(build(estimator._config(settings, beside)))


def check(
    chosen: Settings, monkeypatch: pytest.MonkeyPatch, *, in_worker: bool = False
) -> wiring.Lookahead:
    if not in_worker:
        monkeypatch.setattr(wiring, "estimator_in_place", inside)
    return wiring.check_lookahead(chosen, **ASKED).lookahead


def test_every_kind_of_series_stands_the_check(
    chosen: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = check(chosen, monkeypatch, in_worker=chosen.training.kind == "ridge")
    assert found.is_clean
    assert found.orders_n > 5
    assert found.verdict is wiring.Verdict.CLEAN
    world = stored_world(chosen)
    assert len(world.data.series) == 3 * 6 + 2
    assert len(world.funded) == 6


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_series_that_is_read_before_it_was_known_turns_the_check_red(
    chosen: Settings,
    with_defect: Callable[[str], None],
    defect: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_defect(defect)
    assert check(chosen, monkeypatch).verdict is wiring.Verdict.LEAK


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_the_check_of_a_network_in_its_own_process(
    chosen: Settings, with_defect: Callable[[str], None]
) -> None:
    assert wiring.check_lookahead(chosen, **ASKED).lookahead.is_clean
    with_defect("moon_at_once")
    assert not wiring.check_lookahead(chosen, **ASKED).lookahead.is_clean
