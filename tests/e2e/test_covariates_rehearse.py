"""Covariates from the command line alone: what is fetched, what is refused, who falls silent."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from adapters.history.covariates import read_series, series_path
from daemon.domain.units import DAY_MS, HOUR_MS, iso
from tests.e2e.line import ROOT, command, sets
from tests.e2e.test_parity import BEGIN_MS
from tests.simulation.paper_line import ORIGIN_MS, generated_market

MISCONFIGURED = 78
DAYS = 2
COINS = 6


def options(tmp_path: Path, covariates: str) -> list[str]:
    return sets(
        [
            f"run.state_folder={tmp_path / 'state'}",
            f"estimator.models_folder={tmp_path / 'models'}",
            f"evaluation.trials_file={tmp_path / 'trials.jsonl'}",
            f"rehearsal.start={iso(BEGIN_MS)}",
            f"universe.symbols=top:{COINS}",
            'market.timeframes=["1h"]',
            "market.window_bars=150",
            "training.kind=ridge",
            "training.days=40",
            f"training.covariates={covariates}",
        ]
    )


def bring_fear(tmp_path: Path, until_ms: int) -> None:
    """Import a daily series whose last value is known at `until_ms`, unknown after four days."""
    draw = np.random.default_rng(5)
    rows = [f"{iso(until_ms - day * DAY_MS)},{draw.normal()}" for day in range(60, 0, -1)]
    file = tmp_path / "fear.csv"
    file.write_text("\n".join(["ts,value", *rows, ""]), encoding="utf-8")
    words = ["--source", "survey", "--name", "fear", "--known-after", "1d", "--stale-after", "4d"]
    done = command(
        "import-series", file, *words, "--folder", tmp_path / "state" / "bars", cwd=tmp_path
    )
    assert done.code == 0, done.complaint


@pytest.mark.timeout(120)
def test_a_rehearsal_trains_and_trades_with_covariates_out_of_the_box(tmp_path: Path) -> None:
    bring_fear(tmp_path, BEGIN_MS - 3 * DAY_MS)
    wanted = '["funding", "open_interest", "basis", "series:fear"]'
    chosen = options(tmp_path, wanted)
    done = command("rehearse", "--days", str(DAYS), "--json", *chosen, cwd=tmp_path, seconds=100)
    assert done.code == 0, done.complaint
    lines = [json.loads(line) for line in done.out.splitlines()]
    (trained,) = (line for line in lines if line["type"] == "trained")
    manifest = tmp_path / "models" / trained["model"] / "manifest.json"
    told = json.loads(manifest.read_text(encoding="utf-8"))
    assert told["covariates"] == json.loads(wanted)
    root = tmp_path / "state" / "bars"
    for name in ("open_interest", "mark", "index"):
        found = read_series(series_path(root, "binanceusdm", "BTCUSDT", name))
        assert found.ts[0] <= BEGIN_MS - 20 * DAY_MS  # the market is as old as that
        assert found.known_ms[-1] >= BEGIN_MS - HOUR_MS
    # a daily series that ended three days before is overdue at once and unknown a day later
    said = [line for line in lines if line["type"] == "alert" and line["kind"] == "series"]
    fear = [(one["at"], one["text"]) for one in said if one["text"].startswith("series:fear")]
    assert len(fear) == 2, "each of the two is told once"
    assert iso(BEGIN_MS) < fear[0][0] <= iso(BEGIN_MS + HOUR_MS)  # with the first forecasts
    assert fear[1][0] == iso(BEGIN_MS + DAY_MS)
    assert f"overdue for {COINS} of {COINS}" in fear[0][1]
    assert f"unknown for {COINS} of {COINS}" in fear[1][1]
    assert all(iso(BEGIN_MS - 3 * DAY_MS) in text for _, text in fear)


@pytest.mark.parametrize("words", [["rehearse", "--days", "1"], ["train", "--on", "rehearsal"]])
def test_a_missing_outside_series_is_named_before_anything_is_read(
    tmp_path: Path, words: list[str]
) -> None:
    done = command(*words, *options(tmp_path, '["series:moon"]'), cwd=tmp_path)
    assert done.code == MISCONFIGURED
    for part in (
        "training.covariates",
        "'series:moon'",
        "import-series",
        "estimator.series_folder",
    ):
        assert part in " ".join(done.complaint.split())
    assert not (tmp_path / "models").exists()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    generated_market(folder, days=44)
    draw = np.random.default_rng(6)
    rows = [f"{iso(ORIGIN_MS + day * DAY_MS)},{draw.normal()}" for day in range(44)]
    (folder / "moon.csv").write_text("\n".join(["ts,value", *rows, ""]), encoding="utf-8")
    words = ["--source", "sky", "--name", "moon", "--known-after", "1d"]
    done = command("import-series", folder / "moon.csv", *words, "--folder", folder, cwd=folder)
    assert done.code == 0, done.complaint
    return folder


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["ridge", pytest.param("bilstm", marks=pytest.mark.soak)])
def test_both_kinds_are_trained_checked_and_traded_on_files(
    files: Path, tmp_path: Path, kind: str
) -> None:
    chosen = sets(
        [
            f"backtest.data_folder={files}",
            f"backtest.rules_file={ROOT / 'config' / 'trading_rules.toml'}",
            "backtest.report=",
            "estimator.kind=model",
            'strategy.parameters={"breadth_min": 3, "friction_max": 100.0}',
            f"estimator.models_folder={tmp_path / 'models'}",
            f"evaluation.trials_file={tmp_path / 'trials.jsonl'}",
            'market.timeframes=["1h"]',
            "market.window_bars=150",
            "training.days=42",
            "training.budget_s=2",
            "training.seeds_n=1",
            "training.hidden_size=8",
            'training.covariates=["funding", "series:moon"]',
        ]
    )
    until = ["--set", f"backtest.until={iso(ORIGIN_MS + 42 * DAY_MS)}"]
    words = ["train", "--on", "files", "--kind", kind, "--json"]
    made = command(*words, *chosen, *until, cwd=tmp_path, seconds=100)
    assert made.code == 0, made.complaint
    assert made.values["kind"] == kind
    since = ["--set", f"backtest.since={iso(ORIGIN_MS + 42 * DAY_MS)}"]
    if kind == "bilstm":
        done = command("backtest", "--json", *chosen, *since, cwd=tmp_path, seconds=100)
    else:
        words = ["evaluate", "lookahead", "--cuts", "1", "--json"]
        done = command(*words, *chosen, *since, cwd=tmp_path, seconds=100)
    assert done.code == 0, done.complaint
    # the store is not where it was: neither goes on without what the model reads
    (tmp_path / "empty").mkdir()
    away = ["--set", f"estimator.series_folder={tmp_path / 'empty'}"]
    done = command("backtest", "--json", *chosen, *since, *away, cwd=tmp_path, seconds=100)
    assert done.code != 0
    assert "'series:moon'" in done.complaint
