"""The recurrent correlation: the EWMA until it has learned, and only what it was handed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from daemon.domain.failures import ModelError
from daemon.domain.units import DAY_MS, HOUR_MS
from daemon.research.correlation.learning import examples_of, learn
from daemon.research.correlation.market import Fold, Market
from strategies.covariance.known import make_estimator
from strategies.covariance.recurrent import (
    BOUNDS,
    CORRECTIONS,
    SEQUENCE,
    STATE,
    STEPS_N,
    RecurrentCorrelation,
    Scaling,
    clusters_of,
    corrected,
    ewma_states,
    forward,
    inputs_of,
    log_of,
)
from strategies.covariance.recurrent_store import (
    MANIFEST_FILE,
    WEIGHTS_FILE,
    RecurrentManifest,
    load,
    save,
)
from strategies.covariance.recurrent_training import HIDDEN, Corrector, Fitted, fit, outcome_of
from tests.research.correlation_market import blocks_of, equal, switching, walked_market

Floats = npt.NDArray[np.float64]
AS_OF_MS = 1_709_251_200_000  # 2024-03-01
WINDOW_H = 24 * 10
DAYS = 72


def returns_of(T: int, seed: int, N: int = 7) -> Floats:
    root = np.linalg.cholesky(blocks_of((3, N - 3), 0.7, 0.2))
    return np.asarray(np.random.default_rng(seed).standard_normal((T, N)) @ root.T * 0.01)


def network(seed: int, columns: int = 0) -> Corrector:
    """Give a network that says something."""
    torch.manual_seed(seed)
    model = Corrector(len(SEQUENCE) + columns).double()
    with torch.no_grad():
        model.head.weight.normal_(0.0, 0.5)
        model.head.bias.normal_(0.0, 0.5)
    return model


def estimator(seed: int, columns: tuple[str, ...] = ()) -> RecurrentCorrelation:
    model = network(seed, len(columns))
    weights = {name: one.detach().numpy() for name, one in model.named_parameters()}
    size = len(SEQUENCE) + len(columns) + len(STATE)
    return RecurrentCorrelation(weights, Scaling(np.zeros(size), np.ones(size)), columns)


def test_an_untrained_network_is_the_ewma_to_the_bit() -> None:
    returns = returns_of(400, 1)
    plain = make_estimator("ewma").forecast(returns, None, AS_OF_MS)
    torch.manual_seed(3)
    begun = {n: p.detach().numpy() for n, p in Corrector(len(SEQUENCE)).double().named_parameters()}
    size = len(SEQUENCE) + len(STATE)
    scaling = Scaling(np.zeros(size), np.ones(size))
    for one in (RecurrentCorrelation(), RecurrentCorrelation(begun, scaling)):
        found = one.forecast(returns, None, AS_OF_MS)
        assert found.volatility.tobytes() == plain.volatility.tobytes()
        assert found.correlation.tobytes() == plain.correlation.tobytes()
        assert found.estimator == "ewma+recurrent"


def test_whatever_it_says_is_a_correlation_matrix_with_the_volatilities_of_the_ewma() -> None:
    returns = returns_of(400, 1)
    returns[:380, 2] = np.nan  # too young: unknown
    plain = make_estimator("ewma").forecast(returns, None, AS_OF_MS)
    for seed in range(5):
        found = estimator(seed).forecast(returns, None, AS_OF_MS)
        assert found.problem(7) is None
        assert np.isnan(found.volatility[2])
        assert found.volatility.tobytes() == plain.volatility.tobytes()
        assert np.abs(found.correlation - plain.correlation).max() > 0.01


def test_the_forward_pass_is_that_of_the_fit() -> None:
    rng = np.random.default_rng(2)
    sequence, state = rng.standard_normal((STEPS_N, len(SEQUENCE))), rng.standard_normal(len(STATE))
    model = network(4)
    with torch.no_grad():
        there = model(torch.tensor(sequence[None]), torch.tensor(state[None])).numpy()[0]
    weights = {name: one.detach().numpy() for name, one in model.named_parameters()}
    here = forward(weights, sequence, state)
    assert here == pytest.approx(there, abs=1e-12)
    assert (np.abs(here) <= BOUNDS).all()


def test_each_correction_moves_what_it_says() -> None:
    returns = returns_of(600, 5)
    returns[-72:] += 0.02 * np.random.default_rng(8).standard_normal((72, 1))  # all move as one
    states = [one.forecast(returns, None, AS_OF_MS) for one in ewma_states()]
    inputs = inputs_of(returns, None, states)
    assert inputs is not None
    base = inputs.base.correlation
    labels = clusters_of(base)
    off = ~np.eye(7, dtype=bool)
    same = (labels[:, None] == labels) & off
    moved = {
        name: corrected(inputs, np.eye(len(CORRECTIONS))[g] * BOUNDS[g], "x").correlation - base
        for g, name in enumerate(CORRECTIONS)
    }
    assert moved["inside"][same].mean() > 0.01
    assert moved["between"][off & ~same].mean() > 0.01
    assert moved["fast"][off].mean() > 0.01  # nearer to the last days
    assert moved["slow"][off].mean() < -0.01
    spread = log_of(base + moved["pairs"])
    for at in range(labels.max() + 1):
        inside = (labels[:, None] == at) & (labels == at) & off
        if inside.sum() > 2:
            assert spread[inside].std() < 0.2 * log_of(base)[inside].std()


def test_steps_of_an_hour_give_what_a_fresh_one_gives() -> None:
    returns = returns_of(500, 6)
    running = estimator(1)
    for hour in range(60):
        window = returns[hour : hour + 400]
        stepped = running.forecast(window, None, AS_OF_MS + hour * HOUR_MS)
    cold = estimator(1).forecast(window, None, AS_OF_MS + 59 * HOUR_MS)
    assert stepped.correlation == pytest.approx(cold.correlation, abs=1e-9)
    assert stepped.volatility == pytest.approx(cold.volatility, abs=1e-9)


def test_the_order_of_instruments_does_not_matter_and_unknown_covariates_are_the_middle() -> None:
    returns, covariates = returns_of(400, 7), np.full((400, 2), np.nan)
    names = ("btc_volatility", "vix")
    found = estimator(2, names).forecast(returns, covariates, AS_OF_MS)
    order = np.array([3, 1, 6, 0, 2, 5, 4])
    changed = estimator(2, names).forecast(returns[:, order], covariates, AS_OF_MS)
    assert changed.correlation == pytest.approx(found.correlation[np.ix_(order, order)], abs=1e-9)
    middle = estimator(2, names).forecast(returns, np.zeros((400, 2)), AS_OF_MS)
    assert middle.correlation.tobytes() == found.correlation.tobytes()
    with pytest.raises(ModelError, match="0 covariates given; the network has learned 2"):
        estimator(2, names).forecast(returns, None, AS_OF_MS)


# ---- what it learns ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def told() -> Market:
    """Give a market that says beside its bars how tightly coins move together from now on."""
    states = switching(DAYS, 3, 4)
    ahead = np.append(states[1:], states[-1])[:, None].astype(float)
    return walked_market(
        [equal(0.1, 5), equal(0.8, 5)], states, seed=3, beside=ahead, columns=("state",)
    )


LearnedFold = tuple[Fold, RecurrentManifest, Fitted]


@pytest.fixture(scope="module")
def learned(told: Market) -> LearnedFold:
    fold = Fold(24 * 66 - 1, 24 * 70 - 1)
    examples = examples_of(told, window_h=WINDOW_H, before=fold.start + 1)
    assert all(one.at_ms + DAY_MS <= told.hour_ms[fold.start] for one in examples)
    return (fold, *learn(told, fold, examples, outside=True, data="bars", seed=1))


def test_a_network_learns_what_a_covariate_announces(told: Market, learned: LearnedFold) -> None:
    _, manifest, fitted = learned
    assert fitted.epochs > 0
    assert fitted.loss < fitted.ewma_loss - 0.02
    assert manifest.covariates == ("btc_volatility", "state")
    scaling = Scaling(np.array(manifest.centre), np.array(manifest.spread))
    network = RecurrentCorrelation(fitted.weights, scaling, manifest.covariates)
    row = 24 * 68 - 1
    window, at_ms = slice(row - WINDOW_H + 1, row + 1), int(told.hour_ms[row])
    means = []
    for state in (0.0, 1.0):
        beside = told.beside[window].copy()
        beside[-24:, 1] = state
        R = network.forecast(told.hourly[window], beside, at_ms).correlation
        means.append(float(R[~np.eye(5, dtype=bool)].mean()))
    assert means[1] > means[0] + 0.1


def test_a_fit_in_a_fold_knows_nothing_of_its_tests(told: Market, learned: LearnedFold) -> None:
    fold, manifest, fitted = learned
    later = walked_market([equal(0.1, 5), equal(0.8, 5)], switching(DAYS, 3, 4), seed=3)
    hourly, beside = told.hourly.copy(), told.beside.copy()
    hourly[fold.start + 1 :] = later.hourly[::-1][: len(hourly) - fold.start - 1]
    beside[fold.start + 1 :] = -7.0
    changed = Market(told.symbols, told.hour_ms, hourly, told.fine, beside, told.columns)
    examples = examples_of(changed, window_h=WINDOW_H, before=fold.start + 100)
    again = learn(changed, fold, examples, outside=True, data="bars", seed=1)
    assert again[0] == manifest
    for name, one in fitted.weights.items():
        assert one.tobytes() == again[1].weights[name].tobytes()


def test_where_there_is_nothing_to_learn_it_stays_the_ewma_or_near_it() -> None:
    with pytest.raises(ModelError, match="0 instants to learn from: at least 100"):
        fit([], 0, seed=1)
    holed = np.random.default_rng(1).standard_normal((24, 3))
    holed[4, 1] = np.nan
    assert np.isnan(outcome_of(holed)[1]).all()


# ---- files ---------------------------------------------------------------------------------------


def test_a_stored_network_says_the_same_and_a_damaged_one_is_refused(
    told: Market, learned: LearnedFold, tmp_path: Path
) -> None:
    _, manifest, fitted = learned
    folder = save(manifest, fitted.weights, tmp_path)
    assert save(manifest, fitted.weights, tmp_path) == folder
    described, network = load(folder)
    assert (described.hidden, described.learned_until_ms) == (HIDDEN, fitted.learned_until_ms)
    scaling = Scaling(np.array(manifest.centre), np.array(manifest.spread))
    fresh = RecurrentCorrelation(fitted.weights, scaling, manifest.covariates)
    rows = (told.hourly[:400], told.beside[:400], int(told.hour_ms[399]))
    said_here, said_there = (one.forecast(*rows).correlation for one in (network, fresh))
    assert said_here.tobytes() == said_there.tobytes()
    weights, text = folder / WEIGHTS_FILE, folder / MANIFEST_FILE
    whole, said = weights.read_bytes(), text.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ModelError, match="its hash is not the one in the manifest"):
        load(folder)
    weights.unlink()
    with pytest.raises(ModelError, match=WEIGHTS_FILE):
        load(folder)
    weights.write_bytes(whole)
    text.write_bytes(said.replace(b'"seed": 1', b'"seed": 2'))
    with pytest.raises(ModelError, match="not the folder's name"):
        load(folder)
    other = json.loads(said) | {"reads": ["something else"]}
    text.write_text(json.dumps(other))
    with pytest.raises(ModelError, match="fit it again"):
        load(folder)
    text.write_bytes(b"\x80\x04pickle")
    with pytest.raises(ModelError, match="no manifest of a recurrent correlation"):
        load(folder)


@pytest.mark.parametrize("broken", ["gone", "shape", "nan"])
def test_weights_that_do_not_fit_their_manifest_are_refused(
    learned: LearnedFold, tmp_path: Path, broken: str
) -> None:
    _, manifest, fitted = learned
    weights = dict(fitted.weights)
    if broken == "gone":
        del weights["head.bias"]
    elif broken == "shape":
        weights["head.bias"] = np.zeros(2)
    else:
        weights["head.bias"] = np.full(len(CORRECTIONS), np.nan)
    with pytest.raises(ModelError, match=r"the manifest asks for|not finite"):
        load(save(manifest, weights, tmp_path))
