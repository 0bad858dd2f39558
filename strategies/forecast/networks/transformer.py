"""Encoder: a small Transformer whose bars all look at each other, inside the past window."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from strategies.forecast.networks.attention import SelfAttention
from strategies.forecast.networks.config import NetworkConfig
from strategies.forecast.networks.regularisation import TimeLockedDropout


class Transformer(nn.Module):
    """Attend over the bars, with a learned offset for each place in the window; D = hidden."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        H = config.hidden
        self.width = H
        self.widen = nn.Linear(config.embedding, H)
        self.place = nn.Embedding(config.sequence_bars, H)
        nn.init.normal_(self.place.weight, std=0.1)
        self.blocks = nn.ModuleList(
            _Block(H, config.time_dropout if number else 0.0) for number in range(config.layers)
        )

    def forward(self, e: Tensor) -> Tensor:
        """Map (S, L, E) to (S, L, D); every row has seen every bar."""
        h: Tensor = self.widen(e) + self.place.weight  # (S, L, E) -> (S, L, H)
        for block in self.blocks:
            h = block(h)  # (S, L, H)
        return h

    def ends(self, h: Tensor) -> Tensor:
        """Take from (S, L, D) the row of the newest bar, (S, D)."""
        return h[:, -1]

    def last_layer(self) -> Iterator[nn.Parameter]:
        """Give the weights of the layer nearest to the forecast."""
        return self.blocks[-1].parameters()


class _Block(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.drop = TimeLockedDropout(dropout)
        self.norm, self.norm_wide = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = SelfAttention(width)
        self.wide, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, h: Tensor) -> Tensor:
        h = h + self.attention(self.drop(self.norm(h)))  # (S, L, H)
        wide = nn.functional.gelu(self.wide(self.norm_wide(h)))  # (S, L, H) -> (S, L, 2H)
        narrow: Tensor = self.narrow(wide)  # (S, L, 2H) -> (S, L, H)
        return h + narrow
