"""The registered hypotheses: a protocol that cannot be bent, and verdicts on planted cases."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import date
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from statsmodels.regression.linear_model import OLS

from adapters.executor import ProcessExecutor, SequentialExecutor
from adapters.trial_ledger import TrialLedger
from daemon.cli import run as run_command
from daemon.domain.failures import ConfigurationError
from daemon.domain.units import DAY_MS, HOUR_MS
from daemon.research.hypotheses import (
    Hypothesis,
    Judgement,
    Protocol,
    Registered,
    Verdict,
    holm,
    read_protocol,
)
from daemon.research.hypothesis_arms import Arm, breadth
from daemon.research.hypothesis_page import campaign_json, campaign_markdown
from daemon.research.hypothesis_tests import (
    TESTS,
    at_cost,
    newey_west_regression,
    random_effects,
    tuned,
)
from daemon.wiring import hypotheses as wiring
from daemon.wiring.hypotheses import registered_protocol, run_hypotheses, write_campaign
from daemon.wiring.trials import different_trials
from tests.research.hypothesis_world import REGISTERED, small_protocol
from tests.simulation.paper_line import generated_market

Floats = npt.NDArray[np.float64]
FIRST_DAY = 19_448  # 2023-04-01
DAYS = 519
ALL = (*(f"H{i}" for i in range(1, 18)), "H4b")


@pytest.fixture(scope="module")
def registered() -> Registered:
    return read_protocol(REGISTERED)


@pytest.fixture
def protocol(registered: Registered) -> Protocol:
    return msgspec.structs.replace(registered.protocol, repetitions=300)


def find(protocol: Protocol, name: str) -> Hypothesis:
    return protocol.chosen([name])[0]


def draw(seed: int, days: int = DAYS, spread: float = 0.01) -> Floats:
    return np.asarray(np.random.default_rng(seed).normal(0.0, spread, days))


def arm(name: str = "neutral_momentum", seed: int = 1, days: int = DAYS) -> Arm:
    """Make an arm without skill, exposure or preference; decisions fall on every hour."""
    rng = np.random.default_rng(seed)
    hours = days * 24
    instants = np.arange(1, hours + 1, dtype=np.int64) * HOUR_MS + FIRST_DAY * DAY_MS
    market = draw(900, days, 0.03)
    return Arm(
        name=name,
        fingerprint="planted",
        days=np.arange(FIRST_DAY, FIRST_DAY + days, dtype=np.int64),
        returns=draw(seed, days, 0.005),
        turnover=np.full(days, 2.0) + rng.uniform(0, 0.1, days),
        btc=market,
        eth=1.2 * market + draw(901, days),
        market=1.1 * market + draw(902, days),
        instants=instants,
        ic=rng.normal(0.0, 0.3, hours),
        dispersion=np.full(hours, 0.01),
        raw_n=rng.uniform(4.0, 6.0, hours),
        scaled_n=rng.uniform(4.0, 6.0, hours),
        raw_share=np.full(hours, 0.3),
        scaled_share=np.full(hours, 0.2),
    )


def judged(protocol: Protocol, name: str, *arms: Arm) -> Judgement:
    hypothesis = find(protocol, name)
    return TESTS[hypothesis.test](hypothesis, protocol, {one.name: one for one in arms})


# ---- the protocol --------------------------------------------------------------------------------


def test_all_claims_are_registered_with_everything_that_fixes_a_verdict(
    registered: Registered,
) -> None:
    protocol = registered.protocol
    assert sorted(h.id for h in protocol.hypothesis) == sorted(ALL)
    assert set(protocol.families["primary"]) == {"H1", "H2", "H4", "H5", "H7"}
    for h in protocol.hypothesis:
        for text in (h.claim, h.data, h.period, h.arms, h.metric, h.inference, h.support):
            assert text, h.id
        assert h.refutation
        assert h.comparisons >= 1
        assert (h.family == "primary") == (h.id in protocol.families["primary"])
    testable = {h.id for h in protocol.hypothesis if h.status == "testable"}
    assert testable == {"H4", "H11", "H14", "H15", "H16"}


def test_the_packaged_protocol_is_the_registered_one(registered: Registered) -> None:
    assert registered.sha256 == wiring.REGISTERED_SHA256
    assert registered_protocol() == registered


def test_a_packaged_protocol_that_was_changed_is_refused_unless_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = tmp_path / "hypotheses.toml"
    text = REGISTERED.read_text(encoding="utf-8")
    changed.write_text(text.replace("margin_sharpe = 0.5", "margin_sharpe = 5.0"), encoding="utf-8")
    monkeypatch.setattr(wiring, "packaged_file", lambda name: changed)
    with pytest.raises(ConfigurationError, match="fixed before the run"):
        registered_protocol()
    named = registered_protocol(changed)
    assert not wiring.is_registered(named)
    assert find(named.protocol, "H4").threshold("margin_sharpe") == 5.0


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("version = 1", "version = 2", "version = 2: 1 is accepted"),
        ("level = 0.05 ", "level = 5.0 ", "level = 5.0"),
        ('id = "H1"\n', 'id = "H11"\n', "registered twice"),
        ('period = "tuning"', 'period = "never"', "period 'never'"),
        ('runs = ["neutral_momentum"]', 'runs = ["nobody"]', "run 'nobody'"),
        ('"fixed_10", "fixed_30"', '"fixed_10"', "4 tuning and 3 candidate"),
        ('waits_for = "sizing: the learned controller"', 'waits_for = ""', "for what"),
        ("seed = 20260", 'seed = "x"', "Expected `int`"),
        ("comparisons = 3\n", "comparison = 3\n", "comparison"),
        ('"H1", "H2", "H4"', '"H0", "H2", "H4"', "H0"),
    ],
)
def test_a_protocol_with_a_mistake_is_refused_with_its_place(
    tmp_path: Path, old: str, new: str, says: str
) -> None:
    text = REGISTERED.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=says) as caught:
        read_protocol(path)
    assert str(path) in str(caught.value)


def test_an_unknown_id_is_refused_with_those_that_are_known(protocol: Protocol) -> None:
    with pytest.raises(ConfigurationError, match=r"'H99'.*H11"):
        protocol.chosen(["H99"])


def test_holm_multiplies_by_what_is_left_and_never_falls() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert holm([0.6, 0.5]) == pytest.approx((1.0, 1.0))
    assert holm([]) == ()


# ---- the tests against what others compute -------------------------------------------------------


def test_the_regression_agrees_with_the_library() -> None:
    x, noise = draw(1, 300), draw(2, 300)
    y = 0.3 * x + noise + 0.5 * np.roll(noise, 1)
    X = np.column_stack([np.ones(300), x, np.minimum(x, 0.0)])
    ours = newey_west_regression(y, X, 5)
    theirs = OLS(y, X).fit(cov_type="HAC", cov_kwds={"maxlags": 5})
    assert ours.coefficients == pytest.approx(theirs.params)
    assert ours.covariance == pytest.approx(theirs.cov_params(), rel=1e-9)


def test_random_effects_by_hand() -> None:
    # equal errors: the plain mean; Q = sum (m - mean)^2 / s^2 = 2, k - 1 = 1, tau2 = s^2
    pooled = random_effects(np.array([0.0, 2.0]), np.array([1.0, 1.0]))
    assert (pooled.mean, pooled.tau2, pooled.heterogeneity) == pytest.approx((1.0, 1.0, 0.5))
    assert pooled.error == pytest.approx(1.0)  # sqrt((1 + 1) / 2)
    same = random_effects(np.array([0.5, 0.5]), np.array([1.0, 2.0]))
    assert (same.tau2, same.heterogeneity) == (0.0, 0.0)
    assert same.error == pytest.approx(math.sqrt(1 / 1.25))


def test_breadth_counts_equal_positions_and_sees_one_that_is_all() -> None:
    assert breadth(np.array([0.25, -0.25, 0.25, -0.25])) == pytest.approx((4.0, 0.25))
    assert breadth(np.array([1.0, 0.0])) == (1.0, 1.0)
    assert all(math.isnan(x) for x in breadth(np.zeros(3)))


# ---- verdicts on planted cases -------------------------------------------------------------------


def h4_arms(protocol: Protocol, *, gain: float, turnover: float = 1.0) -> list[Arm]:
    """Plant four bands of which the third is the best, and an adaptive one better by `gain`."""
    h = find(protocol, "H4")
    made = [
        replace(arm(name), returns=draw(3) + 0.001 * (i == 2)) for i, name in enumerate(h.tuning)
    ]
    base = draw(4)
    for bps in h.costs_bps:
        made.append(replace(arm(at_cost("fixed_60", bps)), returns=base))
        better = base + gain + draw(int(5 + bps), spread=0.0004)
        made.append(
            replace(
                arm(at_cost("cube_root", bps)), returns=better, turnover=np.full(DAYS, turnover)
            )
        )
    return [*made, *(arm(at_cost(name, 7)) for name in ("full_hourly", "full_daily"))]


def test_the_band_is_tuned_on_the_tuning_runs_only(protocol: Protocol) -> None:
    arms = {one.name: one for one in h4_arms(protocol, gain=0.0)}
    assert tuned(find(protocol, "H4"), arms) == "fixed_60"
    still = {name: replace(one, returns=np.zeros(DAYS)) for name, one in arms.items()}
    assert tuned(find(protocol, "H4"), still) == ""


@pytest.mark.parametrize(
    ("gain", "turnover", "verdict"),
    [
        (0.0005, 1.0, Verdict.SUPPORTED),
        (-0.0010, 1.0, Verdict.REFUTED),
        (0.0005, 9.0, Verdict.NOT_SHOWN),  # better, but it trades more than in full
        (-0.00002, 1.0, Verdict.NOT_SHOWN),
    ],
)
def test_rebalancing(protocol: Protocol, gain: float, turnover: float, verdict: Verdict) -> None:
    found = judged(protocol, "H4", *h4_arms(protocol, gain=gain, turnover=turnover))
    assert found.verdict is verdict, found
    assert found.figures["tuned"] == "fixed_60"
    assert found.figures["interval_level"] == pytest.approx(0.99)  # Holm over five


def test_neutrality_is_supported_by_a_quiet_book(protocol: Protocol) -> None:
    found = judged(protocol, "H11", replace(arm(), returns=draw(8, spread=0.002)))
    assert found.verdict is Verdict.SUPPORTED, found


@pytest.mark.parametrize("kind", ["always", "falling"])
def test_a_planted_beta_is_found(protocol: Protocol, kind: str) -> None:
    quiet = arm()
    factor = quiet.btc if kind == "always" else np.minimum(quiet.btc, 0.0)
    found = judged(protocol, "H11", replace(quiet, returns=0.2 * factor + draw(8, spread=0.002)))
    assert found.verdict is Verdict.REFUTED
    assert ("beta_btc" if kind == "always" else "down_btc") in found.reason


def test_a_noisy_book_is_neither_neutral_nor_not(protocol: Protocol) -> None:
    found = judged(protocol, "H11", replace(arm(), returns=draw(8, spread=0.05)))
    assert found.verdict is Verdict.NOT_SHOWN
    assert "beyond" in found.reason


def test_neutrality_needs_days_and_a_book(protocol: Protocol) -> None:
    assert judged(protocol, "H11", arm(days=60)).verdict is Verdict.NOT_TESTABLE
    still = replace(arm(), returns=np.zeros(DAYS))
    assert judged(protocol, "H11", still).verdict is Verdict.NOT_TESTABLE
    no_eth = replace(arm(), eth=np.full(DAYS, np.nan))
    assert "eth" in judged(protocol, "H11", no_eth).reason


def test_stability(protocol: Protocol) -> None:
    plain, gains = arm(), np.full(DAYS, 0.0002)
    steady = replace(plain, ic=plain.ic + 0.03, returns=gains)
    found = judged(protocol, "H14", steady)
    assert found.verdict is Verdict.SUPPORTED, found
    assert found.figures["quarters"] == 6
    assert found.figures["sign_test_p"] == pytest.approx(2 / 64)
    assert judged(protocol, "H14", replace(steady, ic=plain.ic - 0.03)).verdict is Verdict.REFUTED
    once = replace(steady, returns=np.where(np.arange(DAYS) < 60, 0.01, -0.0001))
    assert judged(protocol, "H14", once).verdict is Verdict.NOT_SHOWN
    assert "one quarter" in judged(protocol, "H14", once).reason
    assert judged(protocol, "H14", arm(days=100)).verdict is Verdict.NOT_TESTABLE


def h15_arms(protocol: Protocol, *, by_skill: float, by_turnover: float) -> list[Arm]:
    """Plant months whose profit follows skill or turnover."""
    made = []
    for i, name in enumerate(find(protocol, "H15").runs):
        one, rng = arm(name, seed=20 + i), np.random.default_rng(60 + i)
        month = (one.days - FIRST_DAY) // 31
        skill, traded = rng.normal(0, 0.05, 20)[month], rng.uniform(1, 5, 20)[month]
        returns = by_skill * skill * 0.1 - by_turnover * traded * 1e-3
        made.append(
            replace(
                one,
                ic=one.ic + np.repeat(skill, 24),
                turnover=traded,
                returns=returns + draw(80 + i, spread=0.0005),
            )
        )
    return made


@pytest.mark.parametrize(
    ("by_skill", "by_turnover", "verdict"),
    [
        (1.0, 0.0, Verdict.SUPPORTED),
        (0.0, 1.0, Verdict.REFUTED),
        (0.0, 0.0, Verdict.NOT_SHOWN),
    ],
)
def test_accuracy(
    protocol: Protocol, by_skill: float, by_turnover: float, verdict: Verdict
) -> None:
    arms = h15_arms(protocol, by_skill=by_skill, by_turnover=by_turnover)
    found = judged(protocol, "H15", *arms)
    assert found.verdict is verdict, found
    assert found.figures["strategies"] == 6


@pytest.mark.parametrize(
    ("times", "verdict"),
    [(2.0, Verdict.SUPPORTED), (1.1, Verdict.REFUTED), (1.5, Verdict.NOT_SHOWN)],
)
def test_concentration(protocol: Protocol, times: float, verdict: Verdict) -> None:
    plain = arm()
    scaled = times * plain.raw_n * np.random.default_rng(3).uniform(0.9, 1.1, len(plain.raw_n))
    found = judged(protocol, "H16", replace(plain, scaled_n=scaled))
    assert found.verdict is verdict, found
    assert found.figures["ratio"] == pytest.approx(times, rel=0.02)
    unknown = replace(plain, raw_n=np.full(len(plain.raw_n), np.nan))
    assert judged(protocol, "H16", unknown).verdict is Verdict.NOT_TESTABLE


# ---- the whole line ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("market")
    generated_market(folder, days=21)
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work where the trials that are logged disturb nobody."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("elsewhere")
def test_the_line_runs_and_gives_the_same_bytes_with_one_process_and_with_two(
    market: Path, tmp_path: Path
) -> None:
    thresholds = "\nthresholds = { ratio_min"
    other = f'runs = ["neutral_last_return"]{thresholds}'  # so that there are two runs to do
    change = f'runs = ["neutral_momentum"]{thresholds}', other
    path = small_protocol(tmp_path / "small.toml", change)
    texts = []
    for processes in (1, 2):
        told: list[float] = []
        campaign = run_hypotheses(
            read_protocol(path),
            market,
            ProcessExecutor(processes),
            only=["H11", "H16", "H1"],
            done=told.append,
        )
        assert told == sorted(told)
        assert told[0] == 0.0
        assert told[-1] == 1.0
        assert len(told) > 10, "a run tells how far it is"
        pages = write_campaign(campaign, tmp_path / f"out{processes}")
        texts.append([page.read_bytes() for page in pages])
    assert texts[0] == texts[1]
    logged = TrialLedger(tmp_path / "state" / "trials.jsonl").read().trials
    assert [one.id for one in logged] == 2 * [one.id for one in logged[:2]]
    assert [one.repeats for one in different_trials(logged)] == [1, 1]
    values = json.loads(texts[0][1])
    verdicts = {one["id"]: one["verdict"] for one in values["hypotheses"]}
    assert verdicts["H1"] == "pending"
    assert {verdicts["H11"], verdicts["H16"]} <= {"supported", "refuted", "not shown"}
    figures = {one["id"]: one["figures"] for one in values["hypotheses"]}
    # six coins: no book can hold more positions than that, and a neutral one needs two
    assert 2 <= figures["H16"]["effective_raw"] <= 6
    assert 2 <= figures["H16"]["effective_scaled"] <= 6
    assert figures["H11"]["days"] >= 17
    assert not values["protocol"]["is_registered"]
    assert values["protocol"]["sha256"] in texts[0][0].decode()
    page = texts[0][0].decode()
    assert "ANOTHER protocol" in page
    assert "waits for forecasts" in page
    assert str(market) not in page + texts[0][1].decode()


@pytest.mark.usefixtures("elsewhere")
def test_data_that_lacks_the_bars_is_no_verdict(
    registered: Registered, market: Path, tmp_path: Path
) -> None:
    campaign = run_hypotheses(registered, market, SequentialExecutor(), only=["H11"])
    judgement = campaign.cards[0].judgement
    assert judgement.verdict is Verdict.NOT_TESTABLE
    assert str(market) not in campaign_markdown(campaign)
    assert campaign.is_registered
    assert campaign_json(campaign)["counts"]["not testable on this data"] == 1  # type: ignore[index]


def test_the_command_lists_what_waits_without_running_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    code = run_command(["evaluate", "hypotheses", "--only", "H5,H10", "--out", str(out), "--json"])
    assert code == 0
    values = json.loads(capsys.readouterr().out)
    assert values["counts"]["pending"] == 2
    assert values["protocol"]["sha256"] == wiring.REGISTERED_SHA256
    assert values["protocol"]["is_registered"]
    assert (out / "hypotheses.md").is_file()
    assert run_command(["evaluate", "hypotheses", "--only", "H99"]) == 78


def test_the_registered_periods_hold_the_quarters_they_claim(registered: Registered) -> None:
    since, until = registered.protocol.periods["whole"]
    assert (until - since).days == DAYS
    assert since.toordinal() - date(1970, 1, 1).toordinal() == FIRST_DAY
