"""Events and commands: shapes that cannot be are refused where they are made."""

from __future__ import annotations

import re

import numpy as np
import pytest

from daemon.domain.bar import FIELDS, CrossSection, Field, Proof, Window
from daemon.domain.failures import InvariantViolated
from daemon.domain.log_events import LogEvent
from daemon.domain.messages import BarsClosed
from daemon.domain.units import HOUR_MS, Timeframe

N = 3


def test_bars_without_five_fields_are_refused() -> None:
    with pytest.raises(InvariantViolated, match="want \\(N, 5\\)"):
        BarsClosed(0, np.zeros((N, 4)), np.zeros(N, dtype=np.uint8), np.zeros(N))


def test_opens_of_another_length_are_refused() -> None:
    with pytest.raises(InvariantViolated, match="opens \\(4,\\)"):
        BarsClosed(0, np.zeros((N, FIELDS)), np.zeros(N, dtype=np.uint8), np.zeros(N + 1))


def test_proofs_of_another_length_are_refused() -> None:
    with pytest.raises(InvariantViolated, match="proof \\(2,\\)"):
        BarsClosed(0, np.zeros((N, FIELDS)), np.zeros(N - 1, dtype=np.uint8), np.zeros(N))


def section(close_ms: int = HOUR_MS, fields: int = FIELDS, proofs: int = N) -> CrossSection:
    proof = np.array([Proof.DERIVED, Proof.ABSENT, Proof.REREAD, 0][:proofs], dtype=np.uint8)
    return CrossSection(Timeframe(60), close_ms, np.zeros((N, fields)), proof)


def test_a_cross_section_tells_who_is_there() -> None:
    assert section().present.tolist() == [True, False, True]


def test_a_cross_section_off_the_grid_or_of_another_shape_is_refused() -> None:
    with pytest.raises(InvariantViolated, match="off the bar grid"):
        section(HOUR_MS + 1)
    with pytest.raises(InvariantViolated, match="want \\(N, 5\\)"):
        section(fields=6)
    with pytest.raises(InvariantViolated, match="proof \\(4,\\)"):
        section(proofs=4)


def test_a_window_shows_its_closes() -> None:
    values = np.arange(2 * N * FIELDS, dtype=float).reshape(2, N, FIELDS)
    window = Window(Timeframe(60), HOUR_MS, values)
    assert window.closes.tolist() == values[:, :, Field.CLOSE].tolist()


def test_log_event_names_are_snake_case_and_different() -> None:
    names = [str(event) for event in LogEvent]
    assert len(names) > 3
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)+", name) for name in names)
