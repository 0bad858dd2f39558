"""Ranks are those of scipy, to the bit, whatever a row holds."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.stats import rankdata

from daemon.statistics.ranks import mean_ranks

VALUES = st.sampled_from([-np.inf, -2.5, -0.0, 0.0, 1.0, 1e-300, np.inf, np.nan])


@given(arrays(np.float64, array_shapes(min_dims=1, max_dims=2, max_side=9), elements=VALUES))
def test_ranks_are_scipys_and_what_is_unknown_has_none(x: npt.NDArray[np.float64]) -> None:
    kept = x.copy()
    np.testing.assert_array_equal(mean_ranks(x), rankdata(x, axis=-1, nan_policy="omit"))
    np.testing.assert_array_equal(x, kept)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
def test_where_nothing_is_nothing_is_ranked(shape: tuple[int, ...]) -> None:
    assert mean_ranks(np.empty(shape)).shape == shape


@pytest.mark.parametrize("command", ["replay", "models", "evaluate.report"])
def test_a_command_starts_without_what_takes_half_a_second_to_load(command: str) -> None:
    asks = f"import sys, daemon.commands.{command}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", asks], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"scipy.stats", "scipy.optimize", "torch", "ccxt"} & set(loaded)
