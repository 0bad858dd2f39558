"""Show that an installed wheel works outside the checkout: it finds the settings it came with."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "config"


def call(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a program without our settings and without the checkout on its path."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("EQUIPOISE", "PYTHON"))}
    return subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**kept, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel as a release would, without a network."""
    out = tmp_path_factory.mktemp("wheel")
    builder = ["-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    done = call(sys.executable, *builder, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("equipoise-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel alone into an environment that borrows our libraries; give its command."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False)
    packages = next(home.glob("lib/python*/site-packages"))
    with zipfile.ZipFile(wheel) as content:
        content.extractall(packages)
    # a plain path in a .pth file: our own .pth, which leads to the checkout, is not read from there
    borrowed = sysconfig.get_path("purelib")
    (packages / "borrowed.pth").write_text(borrowed + "\n", encoding="utf-8")
    command = home / "bin" / "equipoise"
    command.write_text(
        f"#!{home / 'bin' / 'python'}\nfrom daemon.cli import main\nmain()\n", encoding="utf-8"
    )
    command.chmod(0o755)
    return command


def test_the_wheel_carries_every_settings_file_and_nothing_of_the_tests(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"daemon/config/{path.name}" for path in CONFIG.iterdir()} <= names
    tops = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"daemon", "strategies", "adapters"}


def test_the_installed_command_is_the_wheels_and_not_the_checkouts(
    installed: Path, tmp_path: Path
) -> None:
    python = installed.with_name("python")
    done = call(python, "-c", "import daemon.cli; print(daemon.cli.__file__)", cwd=tmp_path)
    assert Path(done.stdout.strip()).is_relative_to(installed.parents[1])


@pytest.mark.parametrize("base", ["paper", "rehearsal", "backtest"])
def test_an_installed_command_finds_its_settings(
    installed: Path, tmp_path: Path, base: str
) -> None:
    done = call(installed, "config", "--base", base, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f'state_folder = "state/{base}"' in done.stdout


def test_an_installed_doctor_finds_nothing_bad(installed: Path, tmp_path: Path) -> None:
    done = call(installed, "doctor", "--offline", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_installed_backtest_finds_its_trading_rules(installed: Path, tmp_path: Path) -> None:
    chosen = ["--set", 'universe.symbols=["BTCUSDT"]', "--set", "backtest.data_folder=nowhere"]
    done = call(installed, "backtest", *chosen, cwd=tmp_path)
    assert "rules_file" not in done.stderr
    assert "nowhere" in done.stderr
