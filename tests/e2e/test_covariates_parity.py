"""A model that reads funding and outside series decides live as in a backtest, to the hash."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.domain.units import DAY_MS
from tests.e2e.line import command, sets
from tests.e2e.test_parity import BEGIN_MS, compared, play
from tests.wiring.series_market import write_beside

COINS = (
    "BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT", "ADAUSDT", "DOGEUSDT", "AVAXUSDT",
    "LINKUSDT", "DOTUSDT", "LTCUSDT", "TRXUSDT",
)  # fmt: skip
DAYS = 1
KINDS = {
    "ridge": ("training.kind=ridge",),
    "bilstm": (  # seconds of training, by torch, in a process of its own
        "training.kind=bilstm",
        "training.budget_s=2",
        "training.seeds_n=1",
        "training.hidden_size=8",
    ),
}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", ["ridge", pytest.param("bilstm", marks=pytest.mark.soak)])
async def test_days_with_covariates_are_decided_as_in_a_backtest(tmp_path: Path, kind: str) -> None:
    series = write_beside(tmp_path / "series", COINS, BEGIN_MS - 60 * DAY_MS, 60 + DAYS + 1)
    options = (
        "strategy.name=neutral",
        'strategy.parameters={"breadth_min": 3, "friction_max": 100.0}',
        "estimator.kind=model",
        "estimator.allow_foreign_model=true",
        f"estimator.models_folder={tmp_path / 'models'}",
        f"estimator.series_folder={series}",
        'market.timeframes=["1h"]',
        "market.window_bars=150",
        *KINDS[kind],
        "training.days=40",
        'training.covariates=["funding", "open_interest", "series:fear"]',
        f"evaluation.trials_file={tmp_path / 'trials.jsonl'}",
    )
    start = ("rehearsal.start=2024-01-25",)
    made = command(
        "train", "--on", "rehearsal", "--json", *sets([*options, *start]), cwd=tmp_path, seconds=100
    )
    assert made.code == 0, made.complaint
    assert made.values["kind"] == kind
    played = await play(tmp_path, DAYS, options)
    same = played.backtest(tmp_path, "same", played.data)
    code, found = compared(tmp_path, played.state, same)
    assert (code, found["first_difference"]) == (0, "")
    assert found["compared"] == found["equal"] >= DAYS * 24
    assert found["orders"] > 0
    # the same files with every value a day later known: other forecasts, other decisions
    late = tmp_path / "late"
    write_beside(late, COINS, BEGIN_MS - 61 * DAY_MS, 60 + DAYS + 1)
    other = played.options
    changed = type(played)(
        played.state, played.data, (*other, f"estimator.series_folder={late}")
    ).backtest(tmp_path, "late", played.data)
    code, wrong = compared(tmp_path, played.state, changed)
    assert code == 4
    assert wrong["equal"] < wrong["compared"]
