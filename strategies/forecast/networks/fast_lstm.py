"""Run an LSTM over a large batch in parts, so that what it writes stays in memory it has already.

An array beyond some megabytes is given back to the system as soon as it is dropped, and the next
one of its size is cleared and mapped anew, page by page: with 600 sequences of 64 bars that costs
two fifths of `nn.LSTM` on top of its arithmetic. A part has few enough sequences that the allocator
hands the same memory out again. Sequences do not meet in an LSTM: the answer is the same.

    N sequences, L bars, C channels, H hidden, D directions
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

PART_BYTES: Final = 4 * 2**20  # of one layer's output; a batch within it is not cut
_MULTIPLE: Final = 8  # parts of whole vector widths
_SINGLE_BYTES: Final = 4


def part_rows(lstm: nn.LSTM, bars: int) -> int:
    """Give how many sequences of so many bars one part has."""
    directions = 2 if lstm.bidirectional else 1
    each = max(1, bars) * directions * lstm.hidden_size * _SINGLE_BYTES
    return max(1, PART_BYTES // (each * _MULTIPLE)) * _MULTIPLE


def run_lstm(lstm: nn.LSTM, x: Tensor) -> tuple[Tensor, Tensor]:
    """Give what `lstm(x)` gives without its cell states: (N, L, D * H) and ends (layers * D, N, H).

    x: (N, L, C) for an LSTM with batch_first and without projection. While gradients are recorded
    the batch stays whole.
    """
    rows = part_rows(lstm, x.shape[1])
    if len(x) <= rows or torch.is_grad_enabled():
        output, (ends, _) = lstm(x)
        return output, ends
    # (N, L, C) -> parts of (rows, L, D * H)
    answers = [lstm(x[start : start + rows]) for start in range(0, len(x), rows)]
    output = torch.cat([part for part, _ in answers])
    return output, torch.cat([ends for _, (ends, _) in answers], dim=1)
