"""An LSTM in parts: the same numbers as the whole batch at once."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from strategies.forecast.networks import fast_lstm
from strategies.forecast.networks.fast_lstm import part_rows, run_lstm


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 70),
    bars=st.integers(1, 9),
    channels=st.integers(1, 20),
    hidden=st.integers(1, 24),
    layers=st.integers(1, 3),
    both=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_parts_give_what_the_whole_batch_gives(
    rows: int, bars: int, channels: int, hidden: int, layers: int, both: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    lstm = nn.LSTM(channels, hidden, layers, batch_first=True, bidirectional=both).eval()
    x = torch.randn(rows, bars, channels)
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast_lstm, "PART_BYTES", 1)  # parts of eight rows
        assert part_rows(lstm, bars) == 8
        output, ends = run_lstm(lstm, x)
        whole, (whole_ends, _) = lstm(x)
    torch.testing.assert_close(output, whole, rtol=0, atol=1e-6)
    torch.testing.assert_close(ends, whole_ends, rtol=0, atol=1e-6)


def test_a_decision_of_long_sequences_is_cut_and_differs_by_less_than_a_millionth() -> None:
    torch.manual_seed(0)
    lstm = nn.LSTM(16, 64, 2, batch_first=True, bidirectional=True).eval()
    assert part_rows(lstm, 64) == 128
    assert part_rows(lstm, 128) == 64
    assert part_rows(lstm, 12) > 600  # short sequences stay whole
    x = torch.randn(150, 64, 16)
    with torch.inference_mode():
        output, _ = run_lstm(lstm, x)
        whole, _ = lstm(x)
    assert float((output - whole).abs().max()) < 1e-6


def test_gradients_flow_as_through_the_lstm_itself() -> None:
    torch.manual_seed(0)
    lstm = nn.LSTM(3, 4, batch_first=True, bidirectional=True)
    x = torch.randn(20, 5, 3, requires_grad=True)
    output, ends = run_lstm(lstm, x)
    (ours,) = torch.autograd.grad(output.sum() + ends.sum(), x)
    whole, (whole_ends, _) = lstm(x)
    (theirs,) = torch.autograd.grad(whole.sum() + whole_ends.sum(), x)
    torch.testing.assert_close(ours, theirs)
