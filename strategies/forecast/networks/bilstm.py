"""Encoder: a bidirectional LSTM, the default.

Both directions live inside the past window. At the newest bar the backward direction has seen that
bar only, at the oldest the forward one: `ends` says where each has seen every bar.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor, nn

from strategies.forecast.networks.config import NetworkConfig
from strategies.forecast.networks.recurrent import RecurrentLayer
from strategies.forecast.networks.regularisation import TimeLockedDropout


class BiLstm(nn.Module):
    """Read the bars in both directions; D = 2 * hidden."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        H = config.hidden
        self.width = 2 * H
        self.between = TimeLockedDropout(config.time_dropout)
        self.forth, self.back = (
            nn.ModuleList(
                RecurrentLayer(
                    nn.LSTM(config.embedding if layer == 0 else 2 * H, H, batch_first=True),
                    newest_first=newest_first,
                    weight_drop=config.weight_drop,
                    zoneout=config.zoneout,
                )
                for layer in range(config.layers)
            )
            for newest_first in (False, True)
        )

    def forward(self, e: Tensor) -> Tensor:
        """Map (S, L, E) to (S, L, D): the first half looks back from each bar, the second ahead."""
        h = e
        for layer, (forth, back) in enumerate(zip(self.forth, self.back, strict=True)):
            h = self.between(h) if layer else h
            h = torch.cat([forth(h), back(h)], dim=-1)  # (S, L, E or 2H) -> (S, L, 2H)
        return h

    def ends(self, h: Tensor) -> Tensor:
        """Take from (S, L, D) what has seen every bar: newest forward, oldest backward, (S, D)."""
        forth, back = h.chunk(2, dim=-1)
        return torch.cat([forth[:, -1], back[:, 0]], dim=-1)  # (S, L, 2H) -> (S, 2H)

    def last_layer(self) -> Iterator[nn.Parameter]:
        """Give the weights of the layer nearest to the forecast."""
        return chain(self.forth[-1].parameters(), self.back[-1].parameters())
