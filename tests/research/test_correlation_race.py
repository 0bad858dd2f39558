"""The race on markets whose correlation is known: who must win does, and nobody sees the future."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from daemon.domain.covariance import Covariance
from daemon.research.architectures.verdicts import Finding
from daemon.research.correlation.arms import BASELINE, TAXONOMY, Arm, Group
from daemon.research.correlation.judging import judge_horizon, verdicts_of
from daemon.research.correlation.market import Fold, Market
from daemon.research.correlation.walking import AT, COUNT, LOSSES, Make, Walked, walk
from strategies.covariance.known import make_estimator
from tests.research.correlation_market import (
    Floats,
    blocks_of,
    equal,
    odd_one_out,
    switching,
    walked_market,
)

WINDOW_H = 24 * 10
DAYS = 116
FIRST = 24 * 10 - 1  # the close of a midnight with a window behind it
LAST = 24 * 14 - 1
N = 6
CALM, TIGHT = (odd_one_out(at, N) for at in (1, 4))


class Foreseer:
    """Know which state the market is in, as a model would that reads what announces it."""

    name = "foreseer"

    def forecast(self, returns: Floats, covariates: Floats | None, as_of_ms: int) -> Covariance:
        """Take the volatility of the last days and the correlation of the state told last."""
        assert covariates is not None
        R = TIGHT if covariates[-1, 1] > 0.5 else CALM
        return Covariance(as_of_ms, self.name, returns[-72:].std(axis=0), R)


def walked(market: Market, fold: Fold, make: Make, beside: int = 0) -> Walked:
    return walk(
        market, fold, make, window_h=WINDOW_H, seed=7, beside=beside, processor_s=lambda: 0.0
    )


def named(name: str, **settings: object) -> Make:
    return lambda chosen: make_estimator(name, settings)


def announced(states: npt.NDArray[np.int64], seed: int) -> Market:
    """Give a market whose state of the next hour is told beside the bars."""
    told = np.append(states[1:], states[-1])[:, None].astype(float)
    return walked_market([CALM, TIGHT], states, seed=seed, beside=told, columns=("state",))


PAST = ((Arm(BASELINE, Group.HISTORICAL, "ewma"), named("ewma")),)
MODEL = Arm("foreseer", Group.PREDICTIVE, "foreseer")


def raced(states: npt.NDArray[np.int64], seed: int) -> tuple[list[Arm], dict[str, Walked]]:
    market = announced(states, seed)
    fold = Fold(FIRST, len(market.hour_ms) - 24)
    found = {arm.name: walked(market, fold, make) for arm, make in PAST}
    found["foreseer"] = walked(market, fold, lambda chosen: Foreseer(), beside=2)
    return [arm for arm, _ in PAST] + [MODEL], found


def test_where_regimes_change_a_model_that_foresees_them_wins_and_h7_has_support() -> None:
    states = switching(DAYS, 4, 3)
    arms, found = raced(states, 11)
    blocks = {name: one.blocks for name, one in found.items()}
    judged = [judge_horizon(arms, blocks, hours, 7) for hours in (6, 24)]
    by_name = {one.arm: one for one in judged[0].measures}
    assert by_name["foreseer"].less["qlike"].high < 0.0
    assert by_name["foreseer"].less["correlation_qlike"].high < 0.0
    assert by_name["foreseer"].neutral_risk < 1.0
    assert judged[0].sets["variance"].members == ("foreseer",)
    h7, h8 = verdicts_of(arms, judged, blocks)
    assert (h7.finding, h8.finding) == (Finding.SUPPORT, Finding.NOT_TESTED)


def test_where_nothing_changes_the_past_is_as_good_and_h7_has_none() -> None:
    states = np.zeros(24 * DAYS, dtype=np.int64)
    market = announced(states, 12)
    fold = Fold(FIRST, len(market.hour_ms) - 24)
    quick = (Arm("quick", Group.PREDICTIVE, "ewma"), named("ewma", half_life_hours=24.0))
    arms = [arm for arm, _ in (*PAST, quick)]
    blocks = {arm.name: walked(market, fold, make).blocks for arm, make in (*PAST, quick)}
    judged = [judge_horizon(arms, blocks, hours, 7) for hours in (6, 24)]
    by_name = {one.arm: one.mean["qlike"] for one in judged[0].measures}
    assert by_name[BASELINE] < by_name["quick"]
    assert verdicts_of(arms, judged, blocks)[0].finding is Finding.REFUTED


@pytest.fixture(scope="module")
def short() -> Market:
    return announced(switching(16, 3, 3), 5)


def test_no_forecast_knows_what_comes_after_its_instant(short: Market) -> None:
    fold = Fold(FIRST, LAST)
    before = walked(short, fold, named("ewma"))
    cut = LAST - 6  # the close at which the last forecast is made
    changed = announced(switching(16, 3, 3), 5)
    changed.hourly[cut + 1 :] *= -3.0
    changed.beside[cut + 1 :] += 9.0
    after = walked(changed, fold, named("ewma"))
    for name in ("variance_said", "neutral_variance_said", "moved", "turnover"):
        assert after.blocks[6][name].tobytes() == before.blocks[6][name].tobytes()


def test_an_arm_that_leaves_out_whom_others_know_has_no_loss_to_compare(short: Market) -> None:
    class Forgetful(Foreseer):
        def forecast(self, returns: Floats, covariates: Floats | None, as_of_ms: int) -> Covariance:
            base = super().forecast(returns, covariates, as_of_ms)
            volatility, R = base.volatility.copy(), base.correlation.copy()
            volatility[2] = np.nan
            R[2, :] = R[:, 2] = 0.0
            R[2, 2] = 1.0
            return Covariance(as_of_ms, self.name, volatility, R)

    fold = Fold(FIRST, LAST)
    found = walked(short, fold, lambda chosen: Forgetful(), beside=2).blocks[6]
    assert np.isnan(found["qlike"]).all()
    assert len(found[AT]) == 16
    whole = walked(short, fold, named("ewma")).blocks[6]
    assert np.isfinite(np.stack([whole[name] for name in LOSSES])).all()
    assert set(whole[COUNT].tolist()) == {6.0}


def test_a_coin_without_a_complete_block_is_left_out_for_that_block_alone(short: Market) -> None:
    holed = announced(switching(16, 3, 3), 5)
    row = FIRST + 24
    holed.fine[row + 2, 1, 3] = np.nan
    found = walked(holed, Fold(FIRST, LAST), named("ewma")).blocks
    assert found[6][COUNT].tolist() == [6.0] * 4 + [5.0] + [6.0] * 11
    assert found[24][COUNT].tolist() == [6.0, 5.0, 6.0, 6.0]
    assert np.isfinite(found[6]["qlike"]).all()


def test_the_truth_has_the_smallest_loss_and_its_book_the_least_variance() -> None:
    market = walked_market([TIGHT], np.zeros(24 * 50, dtype=np.int64), seed=2)

    class Fixed(Foreseer):
        def __init__(self, R: Floats) -> None:
            self._R = R

        def forecast(self, returns: Floats, covariates: Floats | None, as_of_ms: int) -> Covariance:
            return Covariance(as_of_ms, "fixed", np.full(N, 0.008), self._R)

    fold = Fold(FIRST, 24 * 49)
    truth, other = (
        walked(market, fold, lambda chosen, R=R: Fixed(R)).blocks[24]  # type: ignore[misc]
        for R in (TIGHT, equal(0.4, N))
    )
    for name in ("qlike", "correlation_qlike", "stein", "frobenius", "cmd"):
        assert truth[name].mean() < other[name].mean(), name
    assert truth["variance"].mean() / truth["variance_said"].mean() == pytest.approx(1.0, abs=0.1)
    assert truth["moved"][1:] == pytest.approx(0.0, abs=1e-12)
    assert truth["turnover"][1:] == pytest.approx(0.0, abs=1e-12)


COINS = ("DOGE", "SHIB", "ETH", "ETC", "UNI", "CRV", "FIL", "AR")  # two of a kind each
PAIRS = blocks_of((2, 2, 2, 2), 0.85, 0.25)


def of_kinds(R: Floats, seed: int) -> dict[str, Walked]:
    """Let the taxonomy and three permuted ones forecast a market with this correlation."""
    names = tuple(f"{coin}USDT" for coin in COINS)
    market = walked_market([R], np.zeros(24 * 114, dtype=np.int64), seed=seed, symbols=names)
    fold = Fold(FIRST, len(market.hour_ms) - 24)
    settings = {"window_hours": 72}

    def make(name: str, **more: object) -> Make:
        return lambda chosen: make_estimator(name, settings | more, [COINS[n] for n in chosen])

    arms = {TAXONOMY: make("theory")}
    arms |= {f"permuted {n}": make("theory_permuted", seed=n) for n in (1, 2, 3)}
    return {name: walked(market, fold, made) for name, made in arms.items()}


@pytest.mark.parametrize(
    ("is_true", "seed"), [(True, 21), pytest.param(False, 22, marks=pytest.mark.soak(minutes=1))]
)
def test_a_taxonomy_is_found_to_help_where_it_is_true_and_not_where_coins_are_alike(
    is_true: bool, seed: int
) -> None:
    found = of_kinds(PAIRS if is_true else equal(0.5, len(COINS)), seed)
    arms = [Arm(TAXONOMY, Group.TAXONOMY, "theory")]
    arms += [Arm(f"permuted {n}", Group.PERMUTED, "theory_permuted") for n in (1, 2, 3)]
    blocks = {name: one.blocks for name, one in found.items()}
    judged = [judge_horizon(arms, blocks, hours, 7) for hours in (6, 24)]
    h8 = verdicts_of(arms, judged, blocks)[1]
    if is_true:
        assert h8.finding is Finding.SUPPORT, h8.why
    else:
        assert h8.finding in (Finding.NO_EVIDENCE, Finding.REFUTED), h8.why
