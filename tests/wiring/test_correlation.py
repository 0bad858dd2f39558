"""The race as users run it: over files, resumable, every arm a trial, a page at the end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters.trial_ledger import TrialLedger
from daemon import cli
from daemon.commands.evaluate.correlation import show
from daemon.domain.failures import ConfigurationError
from daemon.research.architectures.verdicts import Finding
from daemon.research.correlation.arms import BASELINE, Group, all_arms, chosen_arms
from daemon.research.correlation.market import HORIZONS_H
from daemon.research.correlation.results import Race
from daemon.wiring.correlation import (
    LOSSES_FILE,
    PAGE_FILE,
    RESOURCES_FILE,
    VALUES_FILE,
    WALKS_FOLDER,
    race,
)
from daemon.wiring.correlation_work import coin_of
from daemon.wiring.walk_forward import bars_to_walk
from strategies.covariance.known import known_estimators
from strategies.covariance.recurrent_store import load
from tests.simulation.paper_line import generated_market
from tests.wiring.architecture_market import settings_of

DAYS = 24
ARMS = ("ewma 2d", "sample 7d", "recurrent")
KEPT = (VALUES_FILE, LOSSES_FILE)
Raced = tuple[Race, Path]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("market")
    generated_market(place, days=DAYS)
    return place


def raced(folder: Path, out: Path, arms: tuple[str, ...] = ARMS) -> Race:
    settings = settings_of(folder)
    return race(settings, bars_to_walk(settings), out, arms=arms, window_days=15, processes=1)


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Raced:
    out = tmp_path_factory.mktemp("raced")
    return raced(folder, out), out


def test_every_arm_is_scored_on_the_same_blocks_and_is_a_trial(whole: Raced, folder: Path) -> None:
    found, out = whole
    assert [one.arm.name for one in found.arms] == ["ewma 2d", BASELINE, "sample 7d", "recurrent"]
    for judged in found.judged:
        assert 0 < judged.blocks_n == judged.all_n
    assert {one.finding for one in found.verdicts} == {Finding.NOT_TESTED}  # too short a market
    logged = TrialLedger(folder / "trials.jsonl").read().trials
    kinds = {one.training.kind for one in logged if one.training is not None}
    assert {f"covariance {one.arm.name}" for one in found.arms} <= kinds
    assert len({one.trial for one in found.arms}) == len(found.arms)
    rows = (out / LOSSES_FILE).read_text(encoding="utf-8").splitlines()
    blocks = sum(judged.all_n for judged in found.judged)
    assert len(rows) == 1 + blocks * len(found.arms)


def test_a_network_without_enough_to_learn_from_is_the_ewma(whole: Raced) -> None:
    found, _ = whole
    by_name = {one.arm.name: one.blocks for one in found.arms}
    for hours in HORIZONS_H:
        network, ewma = (by_name[name][hours]["qlike"] for name in ("recurrent", BASELINE))
        assert network.tobytes() == ewma.tobytes()


def test_a_run_that_was_killed_goes_on_and_ends_with_the_same_bytes(
    whole: Raced, folder: Path, tmp_path: Path
) -> None:
    _, out = whole
    before = {name: (out / name).read_bytes() for name in KEPT}
    walks = sorted((out / WALKS_FOLDER).iterdir())
    times = {one.name: one.stat().st_mtime_ns for one in walks[1:]}
    walks[0].unlink()  # as if it had been killed before this one
    raced(folder, out)
    assert {name: (out / name).read_bytes() for name in KEPT} == before
    assert walks[0].exists()
    assert {one.name: one.stat().st_mtime_ns for one in walks[1:]} == times


def test_page_and_terminal_say_the_same_and_the_command_prints_json(
    whole: Raced, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, out = whole
    page = (out / PAGE_FILE).read_text(encoding="utf-8")
    for text in ("Race of covariance estimators", "ewma 7d", "H7", "H8", "Books over 24 h"):
        assert text in page
    assert "<script" not in page
    assert set(json.loads((out / RESOURCES_FILE).read_text())) == {a.arm.name for a in found.arms}
    show(found)
    said = capsys.readouterr().out
    assert "H7: not tested" in said
    options = [f"--set={one}" for one in overrides(folder)]
    chosen = ["--arms", ",".join(ARMS), "--window-days", "15", "--processes", "1"]
    code = cli.run(["evaluate", "correlation", "--json", *chosen, "--out", str(out), *options])
    values = json.loads(capsys.readouterr().out)
    assert code == 0
    assert [one["name"] for one in values["arms"]] == [one.arm.name for one in found.arms]


def overrides(folder: Path) -> list[str]:
    """Give the settings of the market as the command line takes them."""
    return [
        f"backtest.data_folder={folder}",
        f"evaluation.trials_file={folder / 'trials.jsonl'}",
        "exchange.generated=true",
        "walkforward.refit_days=3",
        "walkforward.stop_days=2",
        "walkforward.embargo_h=2",
    ]


def test_unknown_arms_are_refused_and_every_estimator_takes_part() -> None:
    with pytest.raises(ConfigurationError, match=r"accepted are groups, historical.*recurrent"):
        chosen_arms(["nobody"], [])
    here = {arm.estimator for arm in all_arms(["vix"])}
    assert here == {*known_estimators(), "recurrent"}
    outside = [arm.name for arm in all_arms(["vix"]) if arm.outside]
    assert outside == ["recurrent outside"]
    assert not any(arm.outside for arm in all_arms([]))
    names = [arm.name for arm in chosen_arms(["permuted"], [])]
    assert names == [BASELINE, "permuted 1", "permuted 2", "permuted 3"]
    assert all(arm.group is not Group.PERMUTED for arm in chosen_arms(["shrunk"], []))


def test_a_coin_is_named_as_the_taxonomy_names_it() -> None:
    assert [coin_of(name) for name in ("BTCUSDT", "ETH/USDT:USDT")] == ["BTC", "ETH"]


def test_no_model_is_kept_where_none_was_fitted(whole: Raced) -> None:
    _, out = whole
    folders = list((out / "models").iterdir()) if (out / "models").is_dir() else []
    assert [load(one)[0].kind for one in folders] == []
