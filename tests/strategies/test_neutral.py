"""Hold the default strategy to a lively, neutral, thrifty book in a market whose truth is known."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
from msgspec.structs import replace

from daemon.domain.bar import Floats
from daemon.domain.covariance import Covariance
from daemon.domain.failures import ConfigurationError, InvariantViolated
from daemon.domain.forecast import Prediction
from daemon.domain.portfolio import TargetPortfolio
from daemon.domain.units import HOUR_MS, Timeframe
from daemon.domain.view import View
from daemon.ports import Strategy
from strategies.neutral import RISK_BARS, NeutralSettings, NeutralStrategy, build
from strategies.rules import Rule
from tests.strategies.views import make_view

FRAMES = tuple(Timeframe(m) for m in (60, 90, 120))
N = 12


@dataclass
class World:
    """Hold an hourly market whose residual returns follow AR(1) alphas, and forecasts of them."""

    closes: Floats
    alphas: Floats  # in residual volatility over six hours
    forecast_sd: float
    rng: np.random.Generator
    newest: dict[Timeframe, Prediction] = field(default_factory=dict)

    @classmethod
    def make(cls, hours: int, *, alpha_sd: float, seed: int, error_share: float = 0.5) -> "World":
        rng = np.random.default_rng(seed)
        phi, sigma = 0.5 ** (1 / 12), rng.uniform(0.005, 0.011, N)
        per_hour = np.sqrt(6.0) * (1 - phi) / (1 - phi**6)
        bars = hours + RISK_BARS
        alphas, returns = np.empty((bars, N)), np.zeros((bars, N))
        alpha = alpha_sd * rng.standard_normal(N)
        market = 0.005 * rng.standard_normal(bars)
        for t in range(bars):
            alphas[t] = alpha
            if t + 1 < bars:
                noise = rng.standard_normal(N)
                returns[t + 1] = market[t + 1] + sigma * (alpha * per_hour + noise)
            alpha = phi * alpha + np.sqrt(1 - phi**2) * alpha_sd * rng.standard_normal(N)
        closes = 100 * np.exp(np.cumsum(returns, axis=0))
        return cls(closes, alphas, alpha_sd * error_share, rng)

    def view(self, t: int, **changes: object) -> View:
        as_of_ms = t * HOUR_MS
        for frame in FRAMES:
            if frame.closes_at(as_of_ms) or frame not in self.newest:
                mean = self.alphas[t] + self.forecast_sd * self.rng.standard_normal(N)
                variance = np.full(N, self.forecast_sd**2)
                self.newest[frame] = Prediction(frame, as_of_ms, mean, variance, "truth")
        plain: dict[str, object] = {"predictions": tuple(self.newest.values())}
        window = self.closes[t - RISK_BARS + 1 : t + 1]
        return make_view(window, as_of_ms=as_of_ms, **(plain | changes))


@dataclass
class Run:
    """Hold what one run of decisions showed; one entry per decision."""

    gross: list[float] = field(default_factory=list)
    ideal_gross: list[float] = field(default_factory=list)
    net: list[float] = field(default_factory=list)
    traded: list[float] = field(default_factory=list)
    earned: list[float] = field(default_factory=list)
    targets: list[TargetPortfolio] = field(default_factory=list)


def run(world: World, hours: int, strategy: NeutralStrategy, **changes: object) -> Run:
    state: Mapping[str, Floats] = strategy.initial_state(N)
    weights, paid, seen = np.zeros(N), np.zeros(N), Run()
    for t in range(RISK_BARS, RISK_BARS + hours):
        view = world.view(t, weights=weights, paid=paid, **changes)
        state, target = strategy.decide(state, view)
        paid = paid + view.cost * np.abs(target.weights - weights)
        seen.gross.append(float(np.abs(target.weights).sum()))
        seen.ideal_gross.append(float(np.abs(target.ideal).sum()))
        seen.net.append(float(target.weights.sum()))
        seen.traded.append(float(np.abs(target.weights - weights).sum()))
        seen.earned.append(float(target.weights @ world.alphas[t]))
        seen.targets.append(target)
        moved = world.closes[t + 1] / world.closes[t] if t + 1 < len(world.closes) else np.ones(N)
        weights = target.weights * moved
        weights /= 1.0 + float(target.weights @ (moved - 1.0))
    return seen


@pytest.fixture(scope="module")
def default_run() -> Run:
    return run(World.make(300, alpha_sd=0.06, seed=5), 300, NeutralStrategy())


def test_it_is_a_strategy_by_shape() -> None:
    strategy: Strategy = NeutralStrategy()
    assert strategy.name == "neutral"
    assert strategy.needs_estimates
    assert strategy.windows_needed == {Timeframe(60): 169}


def test_the_default_book_is_nearly_always_near_its_gross(default_run: Run) -> None:
    share = np.array(default_run.gross) / 1.0
    assert np.mean(share >= 0.8) >= 0.99
    assert max(share) <= 1.1


def test_the_default_book_is_neutral_at_every_decision(default_run: Run) -> None:
    assert max(abs(n) for n in default_run.net) <= 0.0055  # drift that no leg's trade removes yet
    traded = np.array(default_run.traded) > 0
    assert np.abs(np.array(default_run.net))[traded].max() <= 1e-12


def test_the_default_book_earns_and_trades_far_less_than_full_rebalancing(
    default_run: Run,
) -> None:
    eager = run(World.make(300, alpha_sd=0.06, seed=5), 300, NeutralStrategy(), cost=np.zeros(N))
    assert np.mean(default_run.earned) > 0.6 * np.mean(eager.earned) > 0
    assert np.mean(default_run.traded) < 0.25 * np.mean(eager.traded)
    assert np.mean(np.array(default_run.traded) > 0) > 0.1  # thrifty, not frozen


@pytest.mark.parametrize("names_cap", [0.09, 0.1, 0.125])
def test_a_small_book_of_capped_targets_does_not_freeze(names_cap: float) -> None:
    strategy = NeutralStrategy(NeutralSettings(name_weight_max=names_cap))
    seen = run(World.make(200, alpha_sd=0.05, seed=9), 200, strategy, cost=np.full(N, 1e-3))
    wanted = np.array(seen.ideal_gross)
    assert np.mean(np.array(seen.gross) >= 0.8 * wanted) >= 0.95
    follows = [np.corrcoef(s.weights, s.ideal)[0, 1] for s in seen.targets[20:]]
    assert np.mean(follows) > 0.5
    # flips of the ideal side are followed: hardly any leg stays long against a full short target
    wrong = [
        np.mean((s.weights > 0.5 * names_cap) & (s.ideal < -0.9 * names_cap)) for s in seen.targets
    ]
    assert np.mean(wrong) < 0.05
    assert max(float(np.abs(s.weights).max()) for s in seen.targets) <= 1.6 * names_cap


def test_a_full_book_on_the_wrong_side_of_capped_targets_is_turned() -> None:
    strategy = NeutralStrategy(NeutralSettings(name_weight_max=0.085, friction_max=100.0))
    state, view = first(strategy)
    ideal = strategy.decide(state, view)[1].ideal
    assert np.mean(np.abs(ideal) > 0.0849) > 0.8  # nearly all targets stand at a cap
    turned = replace(view, weights=-ideal, cost=np.full(N, 3e-2))
    _, target = strategy.decide(state, turned)
    legs = np.abs(ideal) > 0.0849
    assert (np.abs(target.weights - turned.weights)[legs] > 0.01).all()


def test_signals_too_weak_for_their_cost_build_no_book() -> None:
    seen = run(World.make(60, alpha_sd=0.002, seed=2), 60, NeutralStrategy())
    assert max(seen.gross) == 0.0
    assert seen.targets[-1].note == "hold: costs exceed what the signals can earn"
    assert seen.targets[-1].reduce_only is not None
    assert seen.targets[-1].reduce_only.all()


def test_a_leg_too_dear_to_trade_may_only_shrink() -> None:
    cost = np.full(N, 7e-4)
    cost[3] = 0.05
    seen = run(World.make(40, alpha_sd=0.06, seed=4), 40, NeutralStrategy(), cost=cost)
    assert all(s.weights[3] == 0.0 for s in seen.targets)
    assert all(s.ideal[3] == 0.0 for s in seen.targets)
    assert all(s.reduce_only is not None and s.reduce_only[3] for s in seen.targets)
    assert "1 reduce-only" in seen.targets[-1].note


def first(strategy: NeutralStrategy, **changes: object) -> tuple[Mapping[str, Floats], View]:
    """Give the state before the first decision and a view on a lively market."""
    world = World.make(2, alpha_sd=0.06, seed=6)
    return strategy.initial_state(N), world.view(RISK_BARS, **changes)


def test_deciding_changes_nothing_and_gives_the_same_bits_again() -> None:
    strategy = NeutralStrategy()
    state, view = first(strategy)
    for array in state.values():
        array.setflags(write=False)
    before = {k: v.tobytes() for k, v in state.items()}
    once, again = strategy.decide(state, view), strategy.decide(state, view)
    assert {k: v.tobytes() for k, v in state.items()} == before
    assert once[1].weights.tobytes() == again[1].weights.tobytes()
    assert {k: v.tobytes() for k, v in once[0].items()} == {
        k: v.tobytes() for k, v in again[0].items()
    }
    assert all(v.dtype == np.float64 for v in once[0].values())


def test_without_any_forecast_the_book_is_kept_and_after_two_more_may_only_shrink() -> None:
    strategy = NeutralStrategy()
    weights = np.zeros(N)
    weights[[0, 1]] = 0.4, -0.4
    state, view = first(strategy, weights=weights, predictions=())
    flags = []
    for _ in range(3):
        state, target = strategy.decide(state, view)
        assert target.weights is view.weights
        assert target.note == "hold: no forecast is fresh enough"
        flags.append(target.reduce_only is not None and bool(target.reduce_only.all()))
    assert flags == [False, False, True]
    state, target = strategy.decide(
        state, replace(view, predictions=first(strategy)[1].predictions)
    )
    assert float(state["holds"][0]) == 0.0
    assert not target.note.startswith("hold")


def test_forecasts_without_a_number_are_no_forecasts() -> None:
    strategy = NeutralStrategy()
    state, view = first(strategy)
    empty = tuple(replace(p, mean=np.full(N, np.nan)) for p in view.predictions)
    _, target = strategy.decide(state, replace(view, predictions=empty))
    assert target.note == "hold: no forecast is fresh enough"


def test_too_few_forecasts_hold_the_book() -> None:
    strategy = NeutralStrategy()
    state, view = first(strategy)
    few = []
    for p in view.predictions:
        mean = p.mean.copy()
        mean[5:] = np.nan
        few.append(replace(p, mean=mean))
    _, target = strategy.decide(state, replace(view, predictions=tuple(few)))
    assert target.note == "hold: 5 usable forecasts; 6 are needed"
    assert not target.weights.any()
    assert target.signals is not None


def test_an_instrument_without_forecast_keeps_its_weight_and_the_others_offset_it() -> None:
    strategy = NeutralStrategy()
    weights = np.zeros(N)
    weights[7] = 0.08
    state, view = first(strategy, weights=weights)
    holes = []
    for p in view.predictions:
        mean = p.mean.copy()
        mean[7] = np.nan
        holes.append(replace(p, mean=mean))
    _, target = strategy.decide(state, replace(view, predictions=tuple(holes)))
    assert target.weights[7] == 0.08
    assert target.weights.sum() == pytest.approx(0.0, abs=1e-12)
    assert target.reduce_only is not None
    assert target.reduce_only[7]
    assert "1 kept as they are: no forecast" in target.note


def test_one_missing_timeframe_changes_the_book_but_does_not_empty_it() -> None:
    strategy = NeutralStrategy()
    state, view = first(strategy)
    _, whole = strategy.decide(state, view)
    _, part = strategy.decide(state, replace(view, predictions=view.predictions[:2]))
    assert np.abs(part.weights).sum() >= 0.8
    assert np.corrcoef(part.ideal, whole.ideal)[0, 1] > 0.7


def test_the_ineligible_go_to_zero_trading_or_on_hold_and_the_rest_stays_neutral() -> None:
    strategy = NeutralStrategy()
    weights = np.zeros(N)
    weights[:4] = 0.2, 0.1, -0.2, -0.1
    eligible = np.ones(N, dtype=bool)
    eligible[0] = False
    state, view = first(strategy, weights=weights, eligible=eligible)
    _, trading = strategy.decide(state, view)
    assert trading.weights[0] == 0.0
    assert trading.weights.sum() == pytest.approx(0.0, abs=1e-12)
    _, holding = strategy.decide(state, replace(view, predictions=()))
    assert holding.weights[0] == 0.0
    assert holding.weights.sum() == pytest.approx(0.0, abs=1e-12)
    assert (np.abs(holding.weights) <= np.abs(weights)).all()
    assert (holding.weights * weights >= 0).all()


def test_a_book_on_hold_is_trimmed_once_it_drifts_from_neutral() -> None:
    strategy = NeutralStrategy()
    weights = np.zeros(N)
    weights[:4] = 0.30, 0.22, -0.25, -0.25
    state, view = first(strategy, weights=weights, predictions=())
    _, target = strategy.decide(state, view)
    assert target.weights.sum() == pytest.approx(0.0, abs=1e-12)
    assert (target.weights != weights).sum() == 1
    assert target.weights[0] == pytest.approx(0.28)
    lone = np.zeros(N)
    lone[2] = 0.1
    only = np.ones(N, dtype=bool)
    only[2] = False
    _, empty = strategy.decide(state, replace(view, weights=lone, eligible=only))
    assert not empty.weights.any()


def test_the_sizing_control_may_only_shrink_the_book() -> None:
    strategy = NeutralStrategy()
    state, view = first(strategy)
    grosses = []
    for multiplier in (0.5, 1.0, 3.0, -1.0):
        _, target = strategy.decide(state, replace(view, gross_multiplier=multiplier))
        grosses.append(float(np.abs(target.ideal).sum()))
    assert grosses == pytest.approx([0.5, 1.0, 1.0, 0.0])


@pytest.mark.parametrize("rule", ["volatility_target", "kelly", "risk_leverage"])
def test_sizing_holds_less_of_the_gross_says_why_and_keeps_the_book_neutral(rule: str) -> None:
    plain, (state, view) = NeutralStrategy(), first(NeutralStrategy())
    full = plain.decide(state, view)[1]
    tight = {"volatility_target": 0.02, "kelly_fraction": 0.001, "volatility_max": 0.02}
    strategy = build({"sizing": rule, **tight})
    after, target = strategy.decide(state, view)
    gross = float(np.abs(target.ideal).sum())
    assert 0.0 < gross < 0.5 * np.abs(full.ideal).sum()
    assert target.ideal.sum() == pytest.approx(0.0, abs=1e-10)
    assert f"{rule}" in target.note
    assert "by residual variances alone" in target.note
    assert after["sizing"][1] == pytest.approx(gross, rel=0.01)
    eye = np.eye(N)
    wild = Covariance(view.as_of_ms, "test", np.full(N, 0.08), 0.5 * eye + 0.5)
    _, riskier = strategy.decide(state, replace(view, covariance=wild))
    assert np.abs(riskier.ideal).sum() < gross
    assert "alone" not in riskier.note


def test_beta_neutral_books_carry_no_beta() -> None:
    strategy = NeutralStrategy(NeutralSettings(beta_neutral=True))
    state, view = first(strategy)
    _, target = strategy.decide(state, view)
    plain = NeutralStrategy().decide(state, view)[1]
    assert target.ideal.sum() == pytest.approx(0.0, abs=1e-10)
    assert target.ideal.tolist() != plain.ideal.tolist()
    assert np.abs(target.ideal).sum() == pytest.approx(1.0)


def test_remembered_alphas_move_less_when_forecast_errors_are_fresh_each_hour() -> None:
    plain, remembering = (
        run(
            World.make(150, alpha_sd=0.06, seed=8, error_share=1.5),
            150,
            NeutralStrategy(NeutralSettings(combination=rule)),
        )
        for rule in (Rule.STRENGTH, Rule.KALMAN)
    )
    assert np.mean(remembering.traded) < 0.8 * np.mean(plain.traded)
    assert np.mean(remembering.earned) > 0.8 * np.mean(plain.earned)


def test_the_disagreement_of_the_estimates_is_used_and_nonsense_is_not() -> None:
    strategy = NeutralStrategy()
    state, view = first(strategy)
    prior = strategy.decide(state, view)[1].ideal
    given_R = np.array([[1.0, 0.9, 0.1], [0.9, 1.0, 0.1], [0.1, 0.1, 1.0]])
    other = strategy.decide(state, replace(view, disagreement=given_R))[1].ideal
    assert other.tolist() != prior.tolist()
    broken = strategy.decide(state, replace(view, disagreement=np.full((3, 3), np.nan)))[1].ideal
    assert broken.tolist() == prior.tolist()


def test_a_forecast_of_an_unknown_timeframe_is_not_mixed_in() -> None:
    strategy = NeutralStrategy()
    state, view = first(strategy)
    stranger = replace(view.predictions[0], timeframe=Timeframe(30), mean=np.full(N, 9.0))
    with_it = replace(view, predictions=(*view.predictions, stranger))
    expected = strategy.decide(state, view)[1].weights
    assert strategy.decide(state, with_it)[1].weights.tolist() == expected.tolist()


def test_forecasts_from_the_future_and_decisions_backwards_in_time_are_refused() -> None:
    strategy = NeutralStrategy()
    state, view = first(strategy)
    early = tuple(replace(p, as_of_ms=view.as_of_ms + 1) for p in view.predictions)
    with pytest.raises(InvariantViolated, match="from the future"):
        strategy.decide(state, replace(view, predictions=early))
    after, _ = strategy.decide(state, view)
    with pytest.raises(InvariantViolated, match="not after the last one"):
        strategy.decide(after, view)


def test_a_state_of_another_version_or_universe_is_refused() -> None:
    strategy = NeutralStrategy()
    state, view = first(strategy)
    with pytest.raises(InvariantViolated, match=r"state version 99\.0"):
        strategy.decide({**state, "version": np.array([99.0])}, view)
    with pytest.raises(InvariantViolated, match="state is of 3 instruments"):
        strategy.decide(strategy.initial_state(3), view)
    with pytest.raises(InvariantViolated, match="state has the arrays"):
        strategy.decide({"version": np.ones(1)}, view)


@pytest.mark.parametrize(
    ("version", "lacks"),
    [
        (1.0, ["health", "widening", "sizing", "tracked", "tracked_ms", "filled"]),
        (2.0, ["tracked", "tracked_ms", "filled"]),
    ],
)
def test_a_state_of_a_version_before_is_read_on(version: float, lacks: list[str]) -> None:
    strategy = NeutralStrategy()
    state, view = first(strategy)
    old = {k: v for k, v in state.items() if k not in lacks}
    old["version"] = np.array([version])
    after, target = strategy.decide(old, view)
    assert after.keys() == state.keys()
    assert after["version"].tolist() == [3.0]
    assert target.weights.tolist() == strategy.decide(state, view)[1].weights.tolist()


def test_equal_forecasts_leave_no_book_to_build() -> None:
    strategy = NeutralStrategy()
    state, view = first(strategy)
    same = tuple(replace(p, mean=np.full(N, 0.05)) for p in view.predictions)
    _, target = strategy.decide(state, replace(view, predictions=same))
    assert np.isfinite(target.weights).all()
    assert target.weights.sum() == pytest.approx(0.0, abs=1e-12)


def test_settings_are_read_and_checked() -> None:
    made = build({"gross_weight": 2, "timeframes_minutes": [60, 120], "beta_neutral": True})
    assert made.settings == NeutralSettings(
        gross_weight=2.0, timeframes_minutes=(60, 120), beta_neutral=True
    )
    with pytest.raises(ConfigurationError, match=r"did you mean 'gross_weight'"):
        build({"gros_weight": 1.0})
    with pytest.raises(ConfigurationError, match=r"breadth_min = '6': want int"):
        build({"breadth_min": "6"})
    with pytest.raises(ConfigurationError, match="want a list of whole numbers"):
        build({"timeframes_minutes": [60, "90"]})
    with pytest.raises(
        ConfigurationError, match=r"gross_weight = -1.0: accepted are values from 0"
    ):
        build({"gross_weight": -1.0})


def test_instruments_without_a_price_history_are_not_traded_on_forecasts_alone() -> None:
    strategy = NeutralStrategy()
    state, view = first(strategy)
    window = view.windows[Timeframe(60)]
    empty = replace(window, values=np.full_like(window.values, np.nan))
    _, target = strategy.decide(state, replace(view, windows={Timeframe(60): empty}))
    assert target.note == "hold: 0 usable forecasts; 6 are needed"
    assert not target.weights.any()
