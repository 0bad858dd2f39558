"""The card of a model: after a training and again later, with what its figures are worth."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from daemon import cli
from daemon.commands.model_card import show_card, verdict
from daemon.domain.units import DAY_MS, iso, utc
from daemon.wiring.model_card import ModelCard, card_from, half_width
from tests.simulation.paper_line import ORIGIN_MS, generated_market

ROOT = Path(__file__).resolve().parents[2]
DAYS = 36


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    place = tmp_path_factory.mktemp("market")
    generated_market(place, days=DAYS)
    chosen = {
        "backtest.data_folder": place,
        "backtest.rules_file": ROOT / "config" / "trading_rules.toml",
        "backtest.until": utc(ORIGIN_MS + DAYS * DAY_MS).isoformat(),
        "evaluation.trials_file": place / "trials.jsonl",
        "estimator.models_folder": place / "models",
        "exchange.generated": "true",
        "market.timeframes": '["1h", "90m"]',
        "strategy.parameters": json.dumps({"timeframes_minutes": [60, 90]}),
        "training.kind": "ridge",
        "training.days": DAYS,
    }
    return [word for key, value in chosen.items() for word in ("--set", f"{key}={value}")]


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.run(words) == 0
    return capsys.readouterr().out


def test_a_training_prints_the_card_that_the_registry_shows_later(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    first = said(["train", "--on", "files", *words], capsys)
    (model,) = json.loads(said(["models", "--json", *words], capsys))["models"]
    values = json.loads(said(["models", "show", "--json", *words], capsys))
    assert values["type"] == "model"
    assert values["model"] == model["model_id"]
    assert "tried on these bars so far, this training included: 1" in first
    assert f"ridge {model['model_id']}, trained on files" in first
    for at_ms in (values["from_ms"], values["learned_until_ms"], values["judged_until_ms"]):
        assert iso(at_ms)[:10] in first
    assert values["from_ms"] < values["learned_until_ms"] < values["judged_until_ms"]
    for score in values["scores"]:
        assert f"{score['model']['rank_ic']:+.4f}" in first
        assert f"{score['model']['instants']:,}" in first
    again = said(["models", "show", model["model_id"], *words], capsys)
    shown = [line for line in first.splitlines() if not line.startswith(("tried on", "it is the"))]
    assert again.split() == " ".join(shown).split()


def test_a_model_that_is_not_there_is_named(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["models", "show", "0123456789abcdef", *words]) != 0
    assert "no model '0123456789abcdef'" in capsys.readouterr().err


def test_without_a_champion_the_card_of_none_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["models", "show", "--set", f"estimator.models_folder={tmp_path}"]) != 0
    assert "no champion" in capsys.readouterr().err


def card(rank_ic: float | None, t: float | None, momentum: float | None) -> ModelCard:
    nothing = {"instants": 0, "score_ic": None, "score_ic_t": None, "rank_ic_t": None}
    score = {
        "timeframe_minutes": 60,
        "model": {**nothing, "rank_ic": rank_ic, "rank_ic_t": t},
        "last_return": {**nothing, "rank_ic": -0.02},
        "momentum": {**nothing, "rank_ic": momentum},
    }
    full = {
        "kind": "ridge",
        "origin": {"kind": "files", "name": "x"},
        "symbols": ["A"],
        "data": {"from_ms": 0, "learned_until_ms": 1, "to_ms": 2},
        "shape": {"members": 1},
        "scores": [score],
        "reading": {"rule": "mean", "half_width": 1.6, "coverage": 0.9},
    }
    return card_from("0" * 16, full)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (card(0.03, 3.0, 0.01), "walk it forward and backtest it"),
        (card(0.03, 1.9, 0.01), "chance alone"),
        (card(0.03, 3.0, 0.04), "does not beat"),
        (card(-0.01, -3.0, -0.04), "does not beat"),
        (card(None, None, None), "does not beat"),
        (replace(card(0.03, 3.0, 0.01), scores=()), "does not beat"),
    ],
)
def test_the_words_are_no_better_than_the_figures(found: ModelCard, words: str) -> None:
    assert words in verdict(found)


def test_the_luckiest_timeframe_tells_nothing_about_their_mean() -> None:
    (one,) = card(0.03, 3.0, 0.01).scores
    others = [
        {**one, "model": {**one["model"], "rank_ic": rank_ic, "rank_ic_t": t}}
        for rank_ic, t in ((0.001, 0.1), (0.02, None))
    ]
    found = replace(card(0.03, 3.0, 0.01), scores=(one, *others))  # a mean of 1.7 errors
    assert found.beats_the_baselines
    assert "chance alone" in verdict(found)
    surer = {**others[0], "model": {**one["model"], "rank_ic": 0.025, "rank_ic_t": 2.0}}
    assert "walk it forward" in verdict(replace(found, scores=(one, surer)))


@pytest.mark.parametrize(("kind", "is_stopped"), [("bilstm", True), ("ridge", False)])
def test_what_a_network_was_stopped_by_is_not_said_to_judge_it_alone(
    kind: str, is_stopped: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    show_card(replace(card(0.03, 3.0, 0.01), kind=kind), as_json=False)
    printed = " ".join(capsys.readouterr().out.split())
    assert ("learned until 1970-01-01, stopped and judged by what came after" in printed) is (
        is_stopped
    )
    assert "judged by what came after, until 1970-01-01" in printed


def test_an_interval_is_known_where_its_t_is() -> None:
    assert half_width(0.02, 2.0) == pytest.approx(0.0196, abs=1e-4)
    assert half_width(-0.02, -2.0) == pytest.approx(0.0196, abs=1e-4)
    for mean, t in ((None, 1.0), (0.1, None), (0.1, float("nan")), (0.0, 0.0)):
        assert half_width(mean, t) is None
