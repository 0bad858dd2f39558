"""Columns made of the bars for models that ask for them: the same live, blind to the future."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from daemon.domain.bar import Field, Floats, Window
from daemon.domain.failures import InvariantViolated, ModelError
from daemon.domain.units import Timeframe
from strategies.forecast import checkpoint
from strategies.forecast.inference import ModelEstimator
from strategies.forecast.inputs import derived
from strategies.forecast.inputs.covariates import CovariateTable, column_names, with_covariates
from strategies.forecast.inputs.dataset import build_tables
from strategies.forecast.inputs.features import FEATURE_NAMES, FEATURES_N, feature_hash, features
from strategies.forecast.inputs.windows import SEQUENCE_BARS, WINDOW_BARS
from strategies.forecast.stretch import forecast_stretch
from strategies.forecast.training.job import Job, TrainSettings, fingerprint, read_job, write_job
from strategies.forecast.training.network_training import train_model
from strategies.forecast.training.ridge_training import train_ridge
from tests.strategies.forecast import markets

HOURLY = Timeframe(60)
NAMES = tuple(derived.DERIVED)
T, N = 420, 6
SYMBOLS = ("ETHUSDT", "C1USDT", "BTC/USDT:USDT", "C3USDT", "C4USDT", "C5USDT")


def columns(values: Floats, name: str, rows: int | None = None) -> Floats:
    """Give the columns (T, N, C) of the last rows, as training and worker get them."""
    newest_ms = markets.START_MS + len(values) * HOURLY.ms
    found = features(values, newest_close_ms=newest_ms, timeframe=HOURLY, newest=rows)
    close_ms = newest_ms + HOURLY.ms * np.arange(1 - len(found), 1, dtype=np.int64)
    table = CovariateTable([name], {}, SYMBOLS)
    return with_covariates(found, table, close_ms, values)[:, :, FEATURES_N:]


def window(values: Floats, t: int, bars: int = WINDOW_BARS) -> Floats:
    return values[t + 1 - bars : t + 1].copy()


def is_blind(name: str) -> bool:
    """Tell whether columns up to a bar stay the same to the bit when what follows changes."""
    values = markets.walk(T, N, seed=4, gaps=0.02)
    changed, t = values.copy(), 300
    changed[t + 1 :] *= np.random.default_rng(3).uniform(0.5, 2.0, changed[t + 1 :].shape)
    changed[t + 5, 2] = np.nan
    before, after = columns(values, name), columns(changed, name)
    assert not np.array_equal(before[t + 1 :], after[t + 1 :], equal_nan=True)
    return np.array_equal(before[: t + 1], after[: t + 1], equal_nan=True)


# ---- of every name -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gaps", [0.0, 0.05])
def test_a_live_window_gives_the_same_bits_as_the_whole_history(name: str, gaps: float) -> None:
    values = markets.walk(T, N, seed=5, gaps=gaps)
    whole = columns(values, name)
    assert whole.shape == (T, N, len(column_names([name])))
    assert np.isfinite(whole[200:]).mean(axis=(0, 1)).min() > 0.5, "every column says something"
    for t in range(WINDOW_BARS - 1, T, 13):
        for bars in (WINDOW_BARS, min(t + 1, 200)):
            live = columns(window(values, t, bars), name, SEQUENCE_BARS)
            np.testing.assert_array_equal(live, whole[t + 1 - SEQUENCE_BARS : t + 1])


@pytest.mark.parametrize("name", NAMES)
def test_a_window_that_is_too_short_gives_what_is_known_and_nothing_else(name: str) -> None:
    values = markets.walk(T, N, seed=5)
    assert columns(values[:5], name).shape == (5, N, len(column_names([name])))


@pytest.mark.parametrize("name", NAMES)
def test_changing_the_future_leaves_the_past_unchanged_to_the_bit(name: str) -> None:
    assert is_blind(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_planted_leak_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = derived.derived

    def early(name: str, shown: derived.Shown) -> list[Floats]:
        return [np.roll(column, -24, axis=0) for column in honest(name, shown)]

    monkeypatch.setattr("strategies.forecast.inputs.covariates.derived", early)
    assert not is_blind(name)


@pytest.mark.parametrize("name", NAMES)
def test_values_stay_within_the_clip(name: str) -> None:
    values = markets.walk(T, N, seed=6)
    values[300:, 0, : Field.VOLUME] *= 3.0
    assert np.nanmax(np.abs(columns(values, name))) <= 5.0


def test_no_name_changes_what_a_model_without_it_reads() -> None:
    """The hash of the features is that of before these names were there."""
    assert feature_hash() == "dc385d1db0f04c40"
    asked = {feature_hash(column_names([name])) for name in NAMES}
    assert len(asked | {feature_hash()}) == len(NAMES) + 1
    assert len(set(column_names(NAMES))) == len(column_names(NAMES))
    assert not set(column_names(NAMES)) & set(FEATURE_NAMES)


def test_what_is_made_of_bars_cannot_be_made_without_them() -> None:
    with pytest.raises(InvariantViolated, match="ranks is made of bars"):
        CovariateTable(["ranks"], {}, SYMBOLS).rows(np.array([markets.START_MS]))


# ---- a model -------------------------------------------------------------------------------------


class Beside:
    def __init__(self, name: str) -> None:
        self._name = name

    def table(self) -> CovariateTable:
        return CovariateTable([self._name], {}, SYMBOLS)


def job_of(name: str, out: Path) -> Job:
    values = markets.reverting(60, N, strength=0.02, seed=1)
    small = TrainSettings(seed=8, members=1, steps=20, hidden=8, embedding=8)
    plain = markets.job(values, out, small)
    bars = {frame: plain.bars[frame] for frame in (plain.source, HOURLY)}
    return Job(bars, SYMBOLS, plain.source, (HOURLY,), plain.origin, out, small, covariates=(name,))


@pytest.mark.parametrize(
    ("kind", "name"), [*(("ridge", name) for name in NAMES), ("bilstm", NAMES[0])]
)
def test_a_model_that_reads_them_forecasts_live_as_over_a_stretch(
    kind: str, name: str, tmp_path: Path
) -> None:
    job = job_of(name, tmp_path)
    model = checkpoint.load({"ridge": train_ridge, "bilstm": train_model}[kind](job))
    assert model.manifest.covariates == (name,)
    live = ModelEstimator(model, Beside(name))
    values = job.bars[HOURLY][1]
    newest_ms = int(job.bars[HOURLY][0][-1])
    table = CovariateTable([name], {}, SYMBOLS)
    close_ms, means, _ = forecast_stretch(
        live, values, newest_close_ms=newest_ms, timeframe=HOURLY, beside=table
    )
    assert (np.nan_to_num(means) != 0.0).any(), "it says something"
    for back in (7, 3, 2, 1, 0):
        t = len(values) - 1 - back
        at_ms = newest_ms - back * HOURLY.ms
        shown = Window(HOURLY, at_ms, window(values, t, 200))
        (said,) = live.estimate(at_ms, [shown]).predictions
        row = int(np.searchsorted(close_ms, at_ms))
        np.testing.assert_array_equal(said.mean, means[row])


@pytest.mark.parametrize("name", NAMES)
def test_the_tables_of_a_training_hold_what_inference_makes(name: str, tmp_path: Path) -> None:
    job = job_of(name, tmp_path)
    (table,) = build_tables(read_job(write_job(job, tmp_path / "job")))
    found = columns(job.bars[HOURLY][1], name)
    np.testing.assert_array_equal(table.rows[:, :, FEATURES_N:], found)
    assert fingerprint(job) == fingerprint(read_job(tmp_path / "job" / "job.json"))


# ---- majors --------------------------------------------------------------------------------------


def test_returns_after_btc_and_eth_are_the_residuals_of_least_squares() -> None:
    values = markets.walk(T, N, seed=9)
    found = columns(values, "majors")[-1]
    logs = np.log(values[:, :, Field.CLOSE])
    moves = np.diff(logs, axis=0)[-64:]
    sigma = np.sqrt((moves**2).mean(axis=0))
    majors = [SYMBOLS.index("BTC/USDT:USDT"), SYMBOLS.index("ETHUSDT")]
    for n in range(N):
        slopes = np.linalg.lstsq(moves[:, majors], moves[:, n], rcond=None)[0]
        for place, k in enumerate((1, 4, 24)):
            over = logs[-1] - logs[-1 - k]
            wanted = (over[n] - over[majors] @ slopes) / (sigma[n] * np.sqrt(k))
            np.testing.assert_allclose(found[n, place], wanted, atol=1e-9)
    assert (found[majors, :3] == 0.0).all(), "they explain themselves"
    assert (np.sort(found[:, 3]) >= -1).all()
    assert np.argmax(found[:, 3]) == np.argmax(found[:, 0])


def test_how_unusual_the_volatility_of_btc_is_everyone_is_told() -> None:
    values = markets.walk(T, N, seed=9)
    told = columns(values, "majors")[:, :, -1]
    newest_ms = markets.START_MS + T * HOURLY.ms
    own = features(values, newest_close_ms=newest_ms, timeframe=HOURLY)
    own = own[:, SYMBOLS.index("BTC/USDT:USDT")]
    wanted = own[:, FEATURE_NAMES.index("volatility")]
    assert np.array_equal(told, np.repeat(wanted[:, None], N, axis=1), equal_nan=True)
    assert np.nanstd(wanted) > 0


def test_what_the_majors_move_is_taken_out_and_what_a_coin_does_by_itself_stays() -> None:
    draw = np.random.default_rng(11)
    own = 0.001 * draw.standard_normal((T, N))
    btc, eth = SYMBOLS.index("BTC/USDT:USDT"), SYMBOLS.index("ETHUSDT")
    own[:, [btc, eth]] *= 5.0
    betas = draw.uniform(0.5, 1.5, (2, N))
    moves = own + own[:, [btc]] * betas[0] + own[:, [eth]] * betas[1]
    moves[:, [btc, eth]] = own[:, [btc, eth]]
    values = markets.bars_from_moves(moves, seed=2)
    coins = [n for n in range(N) if n not in (btc, eth)]
    after = columns(values, "majors")[200:, :, 0][:, coins]
    plain = moves[200:, coins] / moves[200:, coins].std(axis=0)
    wanted = own[200:, coins]
    assert np.corrcoef(after.ravel(), wanted.ravel())[0, 1] > 0.9
    assert np.corrcoef(plain.ravel(), wanted.ravel())[0, 1] < 0.5


def test_without_a_bar_of_a_major_what_hangs_on_it_is_unknown_and_comes_back() -> None:
    values = markets.walk(T, N, seed=9)
    values[300:310, SYMBOLS.index("ETHUSDT")] = np.nan
    found = columns(values, "majors")
    assert np.isfinite(found[299, 1]).all()
    assert np.isnan(found[305, 1, :-1]).all(), "its close was a stand-in for four bars"
    assert np.isfinite(found[310 + 24, 1]).all()


@pytest.mark.parametrize("gone", ["BTC", "ETH"])
def test_instruments_without_a_major_are_refused_by_name(gone: str, tmp_path: Path) -> None:
    others = tuple("BTCDOMUSDT" if one.startswith(gone) else one for one in SYMBOLS)
    said = f"no {gone} among the instruments: .*C1USDT.*do without 'majors'"
    with pytest.raises(ModelError, match=said):
        CovariateTable(["majors"], {}, others)
    with pytest.raises(ModelError, match=said):
        build_tables(replace(job_of("majors", tmp_path), symbols=others))
    assert CovariateTable(["ranks"], {}, others).symbols == others


def test_of_several_contracts_of_a_major_one_counts_in_whatever_order_they_stand() -> None:
    names = ["BTC/USDC:USDC", "ETHUSD", "ETHBTC", "BTC/USDT:USDT", "ETHWUSDT", "1000BTCUSDT"]
    for order in (names, names[::-1]):
        found = [order[place] for place in derived.majors_of(order)]
        assert found == ["BTC/USDT:USDT", "ETHUSD"]


# ---- ranks ---------------------------------------------------------------------------------------


def test_every_feature_of_one_instrument_has_its_rank_over_instruments() -> None:
    values = markets.walk(T, N, seed=7)
    rows = features(values, newest_close_ms=markets.START_MS + T * HOURLY.ms, timeframe=HOURLY)
    found = columns(values, "ranks")
    for place, name in enumerate(column_names(["ranks"])):
        of = rows[-1, :, FEATURE_NAMES.index(name.removeprefix("rank:"))]
        smaller = (of[:, None] > of[None, :]).sum(axis=1)
        same = (of[:, None] == of[None, :]).sum(axis=1) - 1
        wanted = (smaller + 0.5 * same) * 2.0 / (N - 1) - 1.0
        np.testing.assert_allclose(found[-1, :, place], wanted, atol=1e-12, err_msg=name)
    shared = ("day_", "market_", "rank_", "residual_", "volume")  # residuals and volume have one
    others = [name for name in FEATURE_NAMES if not name.startswith(shared)]
    assert column_names(["ranks"]) == tuple(f"rank:{name}" for name in others)


# ---- tiers ---------------------------------------------------------------------------------------


def test_a_tier_is_the_quarter_by_dollar_volume_and_a_new_listing_gets_one() -> None:
    values = markets.walk(T, N, seed=7)
    values[:, :, Field.VOLUME] *= 10.0 ** np.array([3, 0, 5, 1, 4, 2])
    values[: T - 30, 5] = np.nan
    found = columns(values, "tier")
    wanted = np.array([2, 0, 3, 0, 2, 1])  # of places 3, 0, 5, 1, 4, 2 of six
    np.testing.assert_array_equal(found[-1], np.eye(4)[wanted])
    assert np.isnan(found[T - 30 + 22, 5]).all(), "23 bars are too few"
    assert np.nansum(found[T - 30 + 23, 5]) == 1.0
