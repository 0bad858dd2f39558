"""The whole daemon under random faults: it trades on, and its decisions lack no bar."""

from __future__ import annotations

from pathlib import Path

from daemon.wiring.rehearsal import exchange_settings
from tests.e2e.line import SMALL, command, rehearse, settings_of


def test_the_fault_seed_of_the_settings_is_the_exchanges(tmp_path: Path) -> None:
    without = exchange_settings(settings_of(tmp_path, *SMALL), resume_at_ms=None)
    assert without.fault_seed is None
    settings = settings_of(tmp_path, *SMALL, "rehearsal.fault_seed=9")
    assert exchange_settings(settings, resume_at_ms=None).fault_seed == 9


def test_a_daemon_under_random_faults_decides_with_every_bar(tmp_path: Path) -> None:
    words = rehearse(tmp_path / "state", *SMALL)
    done = command(*words, "--days", "0.5", "--quiet", "--faults", "3", cwd=tmp_path)
    assert done.code == 0, done.complaint
    assert "Traceback" not in done.complaint
    assert "row_unreadable" in done.complaint, "no fault struck"
    assert "12 decisions" in done.out
    assert "0 bars absent at decisions" in done.out


def test_a_seed_that_is_none_is_refused(tmp_path: Path) -> None:
    done = command("rehearse", "--faults", "-1", cwd=tmp_path)
    assert done.code == 2
    assert "--faults" in done.complaint
