"""Products of bars: what the newest bar shows times what the bars before it showed.

    p = tanh(U x_0 + b) * tanh(sum over lags l of k_l * (V x_l) + d),    the block gives A p

A move counts for more after some moves than after others. Layers that add must build such a
product from many bends, and among outcomes that are almost all noise they learn that late or
never; here it is one multiplication, as in gated and bilinear layers (Dauphin et al. 2017). The
answer is a part of the expectation of each outcome, which no other layer turns or mixes. A starts
at zero: a forecast without products is the start, and what they add is learned, unless products
were found in closed form before (`training.found_products`): then those are the start.

    S sequences, L bars, C channels, P products, H horizons
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from strategies.forecast.networks.config import FoundProduct
from strategies.forecast.networks.heads import HORIZONS

PRODUCTS: Final = 32


class Products(nn.Module):
    """Multiply readings of the newest bar with readings of the bars before it."""

    def __init__(self, channels: int, sequence_bars: int) -> None:
        super().__init__()
        self.newest = nn.Linear(channels, PRODUCTS)
        self.earlier = nn.Linear(channels, PRODUCTS, bias=False)
        self.lags = nn.Parameter(torch.empty(sequence_bars - 1, PRODUCTS))  # the oldest first
        self.level = nn.Parameter(torch.zeros(PRODUCTS))
        self.answer = nn.Linear(PRODUCTS, HORIZONS, bias=False)
        with torch.no_grad():
            nn.init.normal_(self.lags)
            self.lags.div_(torch.arange(sequence_bars - 1, 0, -1)[:, None])  # the nearer, the more
        nn.init.zeros_(self.answer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (S, L, C) to (S, H)."""
        newest = torch.tanh(self.newest(x[:, -1]))  # (S, C) -> (S, P)
        earlier = (self.earlier(x[:, :-1]) * self.lags).sum(dim=1)  # (S, L - 1, P) -> (S, P)
        found: Tensor = self.answer(newest * torch.tanh(earlier + self.level))
        return found.float()  # (S, H)

    @torch.no_grad()
    def begin(self, found: Sequence[FoundProduct]) -> None:
        """Take over products that were found, at most `PRODUCTS`; the others stay as drawn."""
        for number, one in enumerate(found[:PRODUCTS]):
            self.newest.weight[number] = _single(one.newest)
            self.newest.bias[number] = one.newest_level
            self.earlier.weight[number] = _single(one.earlier)
            self.level[number] = one.earlier_level
            self.lags[:, number] = 0.0
            self.lags[-len(one.lags) :, number] = _single(one.lags)
            self.answer.weight[0, number] = one.size


def _single(values: Sequence[float]) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float32))
