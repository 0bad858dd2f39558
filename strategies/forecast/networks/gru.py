"""Encoder: a GRU from the oldest bar to the newest."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from strategies.forecast.networks.config import NetworkConfig
from strategies.forecast.networks.recurrent import RecurrentLayer
from strategies.forecast.networks.regularisation import TimeLockedDropout


class Gru(nn.Module):
    """Read the bars in the order of time; D = hidden."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        H = config.hidden
        self.width = H
        self.between = TimeLockedDropout(config.time_dropout)
        self.layers = nn.ModuleList(
            RecurrentLayer(
                nn.GRU(config.embedding if layer == 0 else H, H, batch_first=True),
                weight_drop=config.weight_drop,
                zoneout=config.zoneout,
            )
            for layer in range(config.layers)
        )

    def forward(self, e: Tensor) -> Tensor:
        """Map (S, L, E) to the states after each bar (S, L, D)."""
        h = e
        for place, layer in enumerate(self.layers):
            h = layer(self.between(h) if place else h)  # (S, L, E or H) -> (S, L, H)
        return h

    def ends(self, h: Tensor) -> Tensor:
        """Take from (S, L, D) what has seen every bar: the newest state, (S, D)."""
        return h[:, -1]

    def last_layer(self) -> Iterator[nn.Parameter]:
        """Give the weights of the layer nearest to the forecast."""
        return self.layers[-1].parameters()
