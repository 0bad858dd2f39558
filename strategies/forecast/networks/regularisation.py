"""The rungs of regularisation that live inside a network, one small class or function each.

What all share: in evaluation they do nothing, but zoneout blends by its rate instead of drawing.

    feature dropout   whole input features of a sequence, the same at every bar
    time dropout      channels of the encoder's input, the same at every bar (variational dropout:
                      Gal and Ghahramani 2016)
    weight drop       entries of the recurrent matrices, the same for all sequences and bars of a
                      step (Merity, Keskar and Socher 2018)
    zoneout           entries of a recurrent state keep their last value (Krueger et al. 2017)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TimeLockedDropout(nn.Module):
    """Blank channels of a sequence, the same ones at every bar; the rest is scaled up.

    spared: so many last channels are never blanked.
    """

    def __init__(self, rate: float, *, spared: int = 0) -> None:
        super().__init__()
        self.rate = rate
        self.spared = spared

    def forward(self, x: Tensor) -> Tensor:
        """Map (S, L, C) to (S, L, C)."""
        if not self.training or self.rate == 0:
            return x
        ones = torch.ones(x.shape[0], 1, x.shape[2] - self.spared, device=x.device, dtype=x.dtype)
        mask = nn.functional.dropout(ones, self.rate)  # (S, 1, C - spared)
        return x * nn.functional.pad(mask, (0, self.spared), value=1.0)


class WeightDrop(nn.Module):
    """Blank entries of a matrix for one pass; the rest is scaled up."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, weight: Tensor) -> Tensor:
        """Map a matrix to one of its shape."""
        return nn.functional.dropout(weight, self.rate, self.training)


class Zoneout(nn.Module):
    """Let entries of a state keep their last value; in evaluation blend both by the rate."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Map two states (S, H) to the one that goes on, (S, H)."""
        if not self.training:
            return self.rate * before + (1 - self.rate) * after
        return torch.where(torch.rand_like(after) < self.rate, before, after)
