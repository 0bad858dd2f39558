"""Every run is a trial: which one it is, on which data, and what was tried there altogether."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from adapters.history.store import Panel, load_panel
from adapters.trial_ledger import Training, Trial, TrialLedger
from daemon.domain.failures import ConfigurationError
from daemon.domain.units import Timeframe
from daemon.report.honesty import Honesty, judge
from daemon.settings import Settings, load_settings
from daemon.wiring.backtest import run_backtest
from daemon.wiring.core import universe_of
from daemon.wiring.trial_verdicts import GroupVerdict, tried_so_far, verdict_of
from daemon.wiring.trials import (
    anchors_of,
    configuration_of,
    different_trials,
    judged,
    read_trials,
    same_data,
)
from tests.wiring.small_market import FIRST_MS, SYMBOLS, VENUE, small_settings, write_market
from tests.wiring.test_core import instruments

DAY_MS = 86_400_000


def trial_of(
    number: int,
    *,
    data: str = "d",
    anchors: tuple[str, ...] = ("a",),
    first_day: int = 0,
    days: int = 100,
    returns: list[float] | None = None,
    logged_ms: int = 0,
    is_stress: bool = False,
) -> Trial:
    rng = np.random.default_rng(number)
    made = rng.normal(0.0, 0.01, days).tolist() if returns is None else returns
    return Trial(
        id=f"{number:08d}{data}",
        command="backtest",
        configuration_fingerprint=f"c{number}",
        data_fingerprint=data,
        configuration={"strategy": {"name": "rule"}},
        symbols=["X"],
        anchors=list(anchors),
        first_ms=first_day * DAY_MS,
        last_ms=(first_day + days) * DAY_MS,
        days=list(range(first_day, first_day + days)),
        returns=made,
        sharpe=None,
        code_version="1",
        logged_ms=logged_ms,
        is_stress=is_stress,
    )


# ---- which trial it is ---------------------------------------------------------------------------


def made_of(*overrides: str) -> dict[str, object]:
    plain = ("strategy.name=relative_strength", "estimator.kind=none")
    settings = load_settings(overrides=[*plain, *overrides], environment={})
    return configuration_of(settings, universe_of(instruments()))


@pytest.mark.parametrize(
    "override",
    [
        "backtest.report=elsewhere.html",
        "backtest.data_folder=elsewhere",
        "run.run_name=other",
        "run.state_folder=elsewhere",
        "redis.enabled=false",
        "mqtt.url=mqtt://somewhere",
        "evaluation.trials_file=elsewhere",
        "evaluation.processes=2",
        "training.seed=9",
        "rehearsal.seed=9",
        "estimator.models_folder=elsewhere",
    ],
)
def test_what_cannot_change_a_result_makes_no_other_trial(override: str) -> None:
    assert made_of(override) == made_of()


@pytest.mark.parametrize(
    "override",
    [
        "paper.fee_bps=4.9",
        "paper.cash=10001",
        "market.decision=2h",
        "strategy.parameters.lookback_bars=12",
        "risk.net_weight_max=0.04",
        "backtest.since=2024-01-02",
        "backtest.until=2024-01-02",
        "backtest.source=15m",
        "backtest.venue=other",
        "backtest.funding_venue=other",
    ],
)
def test_what_can_change_a_result_makes_another_trial(override: str) -> None:
    assert made_of(override) != made_of()


def test_other_trading_rules_and_other_forecasts_make_another_trial() -> None:
    settings = load_settings(overrides=["estimator.kind=momentum"], environment={})
    other = load_settings(overrides=["estimator.kind=last_return"], environment={})
    three = universe_of(instruments())
    assert configuration_of(settings, three) != configuration_of(other, three)
    assert configuration_of(settings, three) != configuration_of(
        settings, universe_of(instruments(2))
    )


# ---- on which data -------------------------------------------------------------------------------


def panel_of(folder: Path, symbols: tuple[str, ...], since_day: int, until_day: int) -> Panel:
    first, last = (FIRST_MS + day * DAY_MS for day in (since_day, until_day))
    return load_panel(folder, VENUE, symbols, Timeframe(60), first, last)


def test_data_is_known_by_its_prices_whatever_part_of_it_is_read(tmp_path: Path) -> None:
    write_market(tmp_path / "one", seed=1, days=90)
    write_market(tmp_path / "two", seed=2, days=90)
    whole = set(anchors_of(panel_of(tmp_path / "one", SYMBOLS, 0, 89), SYMBOLS))
    other = set(anchors_of(panel_of(tmp_path / "two", SYMBOLS, 0, 89), SYMBOLS))
    assert whole
    assert not whole & other
    for symbols in (SYMBOLS[:3], SYMBOLS[::-1]):
        for since, until in ((0, 89), (20, 60)):
            part = panel_of(tmp_path / "one", symbols, since, until)
            assert whole & set(anchors_of(part, symbols)), (symbols, since, until)
    apart = panel_of(tmp_path / "one", SYMBOLS, 62, 89)
    early = panel_of(tmp_path / "one", SYMBOLS, 0, 58)
    assert not set(anchors_of(apart, SYMBOLS)) & set(anchors_of(early, SYMBOLS))


def test_trials_join_through_shared_prices_and_keep_their_order() -> None:
    ones = [
        trial_of(1, data="x", anchors=("a", "b")),
        trial_of(2, data="y", anchors=("q",)),
        trial_of(3, data="z", anchors=("c", "b")),
        trial_of(4, data="w", anchors=("c",)),
        trial_of(5, data="y", anchors=()),
    ]
    groups = same_data(different_trials(ones))
    assert [[one.trial.id[7] for one in group] for group in groups] == [["1", "3", "4"], ["2", "5"]]


# ---- how often -----------------------------------------------------------------------------------


def test_the_same_again_is_a_repeat_and_with_other_returns_a_trial_of_its_own() -> None:
    first = trial_of(1, logged_ms=10)
    again = trial_of(1, logged_ms=30)
    rounded = trial_of(1, returns=[r + 1e-15 for r in first.returns], logged_ms=20)
    changed = trial_of(1, returns=[r + 1e-4 for r in first.returns], logged_ms=40)
    found = different_trials([first, changed, again, rounded, changed])
    assert [(one.name, one.repeats) for one in found] == [
        ("rule 00000001", 2),
        ("rule 00000001 #2", 1),
    ]
    assert (found[0].trial.logged_ms, found[0].last_logged_ms) == (10, 30)


# ---- what is judged ------------------------------------------------------------------------------


def test_columns_are_trials_that_cover_the_days_and_all_are_counted() -> None:
    group = different_trials(
        [
            trial_of(1, days=100),
            trial_of(2, data="e", first_day=10, days=95),  # nine tenths of the days, and others
            trial_of(3, data="f", days=50),  # half of them
            trial_of(4, days=100, returns=[0.0] * 100),  # never traded
            trial_of(5, data="g", first_day=500, days=100),  # other days altogether
            trial_of(6, returns=[0.1] + [0.0] * 99),  # stands still on the common days
        ]
    )
    trials = judged(group, "d")
    assert trials.tried_n == 6
    assert trials.names == ("rule 00000001", "rule 00000002")
    assert trials.days.tolist() == list(range(10, 100))
    assert trials.returns[:, 0].tolist() == list(group[0].trial.returns)[10:]
    assert trials.returns[:, 1].tolist() == list(group[1].trial.returns)[:90]


def test_arms_of_a_stress_campaign_are_listed_but_no_attempts() -> None:
    arm = trial_of(2, is_stress=True)
    group = different_trials([trial_of(1), arm, arm, trial_of(3, is_stress=True)])
    assert [(one.is_stress, one.repeats) for one in group] == [(False, 0), (True, 1), (True, 0)]
    trials = judged(group, "d")
    assert (trials.tried_n, trials.names) == (1, ("rule 00000001",))
    # the same run on purpose makes it one
    group = different_trials([trial_of(1), arm, trial_of(2)])
    assert judged(group, "d").tried_n == 2


def test_data_that_nobody_tried_has_no_trials(tmp_path: Path) -> None:
    ledger = TrialLedger(tmp_path / "trials.jsonl")
    assert read_trials(ledger.path, data_fingerprint="d").tried_n == 0
    ledger.append(trial_of(1))
    assert read_trials(ledger.path, data_fingerprint="other").tried_n == 0
    found = read_trials(ledger.path, data_fingerprint="d")
    assert (found.tried_n, found.names, found.returns.shape) == (1, ("rule 00000001",), (100, 1))


def test_luck_among_many_is_told_from_skill() -> None:
    rng = np.random.default_rng(8)
    noise = [
        trial_of(number, days=400, returns=rng.normal(0, 0.01, 400).tolist())
        for number in range(30)
    ]
    nothing = verdict_of(1, judged(different_trials(noise), "d"))
    assert nothing.dsr is not None
    assert nothing.pbo is not None
    assert nothing.dsr < 0.9
    assert nothing.pbo > 0.2
    assert nothing.effective_n == pytest.approx(30, abs=1)
    skill = trial_of(99, days=400, returns=rng.normal(0.003, 0.01, 400).tolist())
    found = verdict_of(1, judged(different_trials([*noise, skill]), "d"))
    assert found.dsr is not None
    assert found.pbo is not None
    assert found.best == "rule 00000099"
    assert found.dsr > 0.95 > nothing.dsr
    assert found.pbo < 0.05 < nothing.pbo
    assert "is above that" in found.words[1]


def test_too_little_to_judge_is_said() -> None:
    short = verdict_of(1, judged(different_trials([trial_of(1, days=19)]), "d"))
    assert short.dsr is None
    assert "not judged" in short.words[0]
    alone = verdict_of(1, judged(different_trials([trial_of(1)]), "d"))
    assert alone.dsr is not None
    assert alone.pbo is None


# ---- runs ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_market(tmp_path_factory.mktemp("market"), days=12)


def ledger_path(settings: Settings) -> Path:
    return Path(settings.evaluation.trials_file)


def test_a_backtest_logs_itself_and_again_as_a_repeat(market: Path, tmp_path: Path) -> None:
    settings = small_settings(market, f"evaluation.trials_file={tmp_path / 't.jsonl'}")
    result = run_backtest(settings)
    again = run_backtest(small_settings(market, f"evaluation.trials_file={tmp_path / 't.jsonl'}"))
    other = run_backtest(settings.model_copy(update={"paper": settings.paper.model_copy(
        update={"fee_bps": 1.0})}), command="by hand")  # fmt: skip
    assert result.trial.id == again.trial.id != other.trial.id
    logged = TrialLedger(ledger_path(settings)).read().trials
    assert [one.command for one in logged] == ["backtest", "backtest", "by hand"]
    assert logged[0].returns == logged[1].returns
    assert len(logged[0].returns) == result.metrics.daily_returns
    assert logged[0].sharpe == pytest.approx(result.metrics.sharpe)
    assert logged[0].data_fingerprint == result.run.facts.fingerprint
    assert logged[0].logged_ms > 1_700_000_000_000
    trials = read_trials(ledger_path(settings), data_fingerprint=result.run.facts.fingerprint)
    assert trials.tried_n == len(trials.names) == 2
    said = tried_so_far(settings)
    assert [(row.data, row.repeats) for row in said.rows] == [(1, 1), (1, 0)]


def test_another_period_of_the_same_market_counts_on_the_same_data(
    market: Path, tmp_path: Path
) -> None:
    where = f"evaluation.trials_file={tmp_path / 't.jsonl'}"
    whole = run_backtest(small_settings(market, where))
    part = run_backtest(small_settings(market, where, "backtest.until=2024-01-12"))
    assert whole.run.facts.fingerprint != part.run.facts.fingerprint
    path = tmp_path / "t.jsonl"
    for result in (whole, part):
        print_ = result.run.facts.fingerprint
        assert read_trials(path, data_fingerprint=print_).tried_n == 2


def test_a_run_whose_trial_could_not_be_logged_does_not_begin(market: Path) -> None:
    settings = small_settings(market, f"evaluation.trials_file={market / 'ohlcv'}")
    told: list[int] = []
    with pytest.raises(ConfigurationError, match=r"evaluation\.trials_file"):
        run_backtest(settings, lambda done, total: told.append(done))
    assert told == []


# ---- one ledger, one answer ----------------------------------------------------------------------


def without_returns(number: int) -> Trial:
    """Make a trial whose days are elsewhere, so that nothing of it can be compared."""
    return trial_of(number, first_day=5_000, days=0, returns=[])


def said_twice(trials: list[Trial]) -> tuple[GroupVerdict, Honesty]:
    """Ask `evaluate trials` and the page of the best run about the same ledger."""
    beside = judged(different_trials(trials), "d")
    terminal = verdict_of(1, beside)
    best = beside.names.index(terminal.best or "")
    return terminal, judge(beside.returns[:, best], trials=beside)


@pytest.mark.parametrize(
    ("runs", "unseen", "days"), [(1, 50, 300), (1, 0, 300), (3, 0, 300), (6, 4, 40), (8, 0, 90)]
)
def test_the_terminal_and_the_page_say_the_same_of_one_ledger(
    runs: int, unseen: int, days: int
) -> None:
    rng = np.random.default_rng(3)
    tried = [
        trial_of(n, days=days, returns=rng.normal(0.001, 0.01, days).tolist()) for n in range(runs)
    ]
    tried += [without_returns(100 + n) for n in range(unseen)]
    terminal, page = said_twice(tried)
    assert terminal.tried_n == page.trials_n == runs + unseen
    assert terminal.effective_n == page.trials_effective
    assert terminal.hurdle == page.hurdle
    assert terminal.dsr == page["deflated_sharpe"].value
    assert terminal.pbo == (
        page["overfitting_probability"].value if page["overfitting_probability"].is_known else None
    )
    assert page["deflated_sharpe"].text in " ".join(terminal.words)
    assert page["overfitting_probability"].text in " ".join(terminal.words)


def test_what_left_no_returns_raises_the_hurdle_of_both() -> None:
    made = trial_of(1, days=300, returns=np.random.default_rng(3).normal(0.001, 0.01, 300).tolist())
    alone = said_twice([made])[0]
    many = said_twice([made, *(without_returns(100 + n) for n in range(50))])[0]
    assert alone.hurdle == 0.0
    assert many.hurdle is not None
    assert many.hurdle > 2.0
    assert many.dsr is not None
    assert alone.dsr is not None
    assert many.dsr < alone.dsr


# ---- trainings -----------------------------------------------------------------------------------


def training_of(
    number: int, *, model: str, data: str = "past", anchors: tuple[str, ...] = ("t",)
) -> Trial:
    made = trial_of(number, data=data, anchors=anchors, days=0, returns=[])
    return msgspec.structs.replace(
        made, command="train", configuration={}, training=Training(model, "ridge", [])
    )


def run_of(number: int, model: str) -> Trial:
    configuration = {"strategy": {"name": "rule"}, "estimator": {"kind": "model", "model": model}}
    return msgspec.structs.replace(trial_of(number), configuration=configuration)


def test_trainings_count_beside_the_run_that_trades_a_model_of_that_data() -> None:
    seeds = [training_of(n, model=f"m{n}") for n in range(50)]
    apart = training_of(90, model="other", data="far", anchors=("elsewhere",))
    (group, alone) = same_data(different_trials([*seeds, run_of(99, "m7"), apart]))
    trials = judged(group, "d")
    # the training of the traded model is one attempt together with the run
    assert (trials.tried_n, trials.trained_n, len(trials.names)) == (50, 49, 1)
    assert trials.returns.shape == (100, 1)
    assert [one.trial.training is not None for one in alone] == [True]
    verdict = verdict_of(1, trials)
    assert verdict.effective_n == 50
    assert "49 trainings count" in verdict.words[0]


def test_the_same_training_again_is_a_repeat_and_with_another_model_a_trial() -> None:
    again = different_trials([training_of(1, model="a"), training_of(1, model="a")])
    assert [(one.name, one.repeats) for one in again] == [("training ridge 00000001", 1)]
    assert len(different_trials([training_of(1, model="a"), training_of(1, model="b")])) == 2


# ---- samples of the prices -----------------------------------------------------------------------


def test_eight_prices_of_a_month_are_kept_so_that_parts_share_one(tmp_path: Path) -> None:
    write_market(tmp_path, seed=1, days=31)
    kept = anchors_of(panel_of(tmp_path, SYMBOLS, 0, 29), SYMBOLS)
    assert len(kept) == 8
    for since in range(0, 20, 5):  # every stretch of ten days of it is known again
        part = panel_of(tmp_path, SYMBOLS, since, since + 10)
        assert set(kept) & set(anchors_of(part, SYMBOLS)), since


def test_a_ledger_of_many_trainings_and_one_run_is_judged_on_the_days_of_the_run(
    tmp_path: Path,
) -> None:
    path = tmp_path / "trials.jsonl"
    ledger = TrialLedger(path)
    for number in range(20):
        ledger.append(training_of(number, model=f"m{number}"))
    ledger.append(run_of(99, "m7"))
    ledger.append(run_of(99, "m7"))
    found = tried_so_far(
        load_settings(overrides=[f"evaluation.trials_file={path}"], environment={})
    )
    (group,) = found.groups
    assert (group.tried_n, group.columns_n, group.days_n, group.effective_n) == (20, 1, 100, 20)
    assert (found.entries_n, len(found.rows), found.first_logged_ms) == (22, 21, 0)
    assert found.shown == "trials.jsonl"
