"""Products of bars: what the newest bar shows times what the bars before it showed.

    p = tanh(U x_0 + b) * tanh(sum over lags l of k_l * (V x_l) + d),    the block gives A p

A move counts for more after some moves than after others. Layers that add must build such a
product from many bends, and among outcomes that are almost all noise they learn that late or
never; here it is one multiplication, as in gated and bilinear layers (Dauphin et al. 2017). A
starts at zero: a forecast without products is the start, and what they add is learned.

    S sequences, L bars, C channels, P products, D what the heads read
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

PRODUCTS: Final = 32


class Products(nn.Module):
    """Multiply readings of the newest bar with readings of the bars before it."""

    def __init__(self, channels: int, sequence_bars: int, width: int) -> None:
        super().__init__()
        self.newest = nn.Linear(channels, PRODUCTS)
        self.earlier = nn.Linear(channels, PRODUCTS, bias=False)
        self.lags = nn.Parameter(torch.empty(sequence_bars - 1, PRODUCTS))  # the oldest first
        self.level = nn.Parameter(torch.zeros(PRODUCTS))
        self.answer = nn.Linear(PRODUCTS, width, bias=False)
        with torch.no_grad():
            nn.init.normal_(self.lags)
            self.lags.div_(torch.arange(sequence_bars - 1, 0, -1)[:, None])  # the nearer, the more
        nn.init.zeros_(self.answer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (S, L, C) to (S, D)."""
        newest = torch.tanh(self.newest(x[:, -1]))  # (S, C) -> (S, P)
        earlier = (self.earlier(x[:, :-1]) * self.lags).sum(dim=1)  # (S, L - 1, P) -> (S, P)
        found: Tensor = self.answer(newest * torch.tanh(earlier + self.level))
        return found  # (S, D)
