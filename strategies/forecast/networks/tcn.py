"""Encoder: a temporal convolutional network, causal and dilated (Bai, Kolter and Koltun 2018).

Each block is a convolution over three bars, 1, 2, 4 .. bars apart, added to its own input. A stack
has as many blocks as it takes for the newest bar to see the oldest; `layers` is the number of
stacks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from torch import Tensor, nn

from strategies.forecast.networks.config import NetworkConfig
from strategies.forecast.networks.regularisation import TimeLockedDropout

KERNEL: Final = 3


def blocks_for(sequence_bars: int) -> int:
    """Give how many blocks see so many bars: 1 + 2 * (1 + 2 + 4 ..) of them."""
    blocks = 1
    while 1 + (KERNEL - 1) * (2**blocks - 1) < sequence_bars:
        blocks += 1
    return blocks


class Tcn(nn.Module):
    """Convolve over the past of each bar; D = hidden."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        H = config.hidden
        self.width = H
        self.widen = nn.Linear(config.embedding, H)
        blocks = blocks_for(config.sequence_bars)
        self.blocks = nn.ModuleList(
            _Block(H, 2 ** (number % blocks), config.time_dropout if number else 0.0)
            for number in range(config.layers * blocks)
        )

    def forward(self, e: Tensor) -> Tensor:
        """Map (S, L, E) to (S, L, D); a bar's row has seen the bars up to it."""
        h: Tensor = self.widen(e)  # (S, L, E) -> (S, L, H)
        for block in self.blocks:
            h = block(h)  # (S, L, H)
        return h

    def ends(self, h: Tensor) -> Tensor:
        """Take from (S, L, D) what has seen every bar: the newest row, (S, D)."""
        return h[:, -1]

    def last_layer(self) -> Iterator[nn.Parameter]:
        """Give the weights of the layer nearest to the forecast."""
        return self.blocks[-1].parameters()


class _Block(nn.Module):
    def __init__(self, width: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.drop = TimeLockedDropout(dropout)
        self.convolve = nn.Conv1d(width, width, KERNEL, dilation=dilation)
        self.before = dilation * (KERNEL - 1)  # so many bars of zeros in front keep it causal

    def forward(self, h: Tensor) -> Tensor:
        moved = self.drop(self.norm(h)).transpose(1, 2)  # (S, L, H) -> (S, H, L)
        moved = self.convolve(nn.functional.pad(moved, (self.before, 0)))  # (S, H, L)
        return h + nn.functional.gelu(moved).transpose(1, 2)  # (S, H, L) -> (S, L, H)
