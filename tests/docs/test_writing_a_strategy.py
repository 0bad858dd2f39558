"""The strategy of the page is built as a distribution, found by its name, and trades."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.wiring.small_market import VENUE, write_market

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "writing-a-strategy.md"
BLOCK = re.compile(r"`(pyproject\.toml|last_hour\.py)`:\n\n```\w+\n(.*?)```", re.DOTALL)
CHOSEN = (
    f"backtest.venue={VENUE}",
    "backtest.source=1h",
    "market.source=1h",
    'market.timeframes=["1h"]',
    "market.decision=1h",
    "market.window_bars=171",
    "strategy.name=last_hour",
    'strategy.parameters={"friction_max": 100.0}',
    "estimator.kind=none",
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel of the page's two files and unpack it, as an installer does."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    files = dict(BLOCK.findall(PAGE.read_text(encoding="utf-8")))
    assert sorted(files) == ["last_hour.py", "pyproject.toml"]
    for name, text in files.items():
        (source / name).write_text(text, encoding="utf-8")
    builder = ["-m", "hatchling", "build", "-t", "wheel", "-d", str(source / "dist")]
    subprocess.run([sys.executable, *builder], cwd=source, check=True, capture_output=True)
    (wheel,) = (source / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(out)
    return out


def run(folder: Path, data: Path, *more: str) -> subprocess.CompletedProcess[str]:
    chosen = [*CHOSEN, f"backtest.data_folder={data}", *more]
    trials = f"evaluation.trials_file={data / 'trials.jsonl'}"
    report = f"backtest.report={data / 'report.html'}"
    options = [part for one in (*chosen, trials, report) for part in ("--set", one)]
    return subprocess.run(
        [sys.executable, "-m", "daemon", "backtest", "--json", *options],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"},
        cwd=data,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_example_of_the_page_trades_in_a_backtest(installed: Path, tmp_path: Path) -> None:
    data = write_market(tmp_path / "market", days=14)
    done = run(installed, data)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["fills"] > 50


def test_its_name_and_its_settings_are_refused_like_any_other(
    installed: Path, tmp_path: Path
) -> None:
    data = write_market(tmp_path / "market", days=14)
    wrong = run(installed, data, 'strategy.parameters={"friction": 1.0}')
    assert wrong.returncode != 0
    assert "strategy 'last_hour' has no setting 'friction'" in wrong.stderr
    absent = run(tmp_path, data)
    assert absent.returncode != 0
    assert "unknown strategy 'last_hour'" in absent.stderr
