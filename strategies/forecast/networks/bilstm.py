"""The network: a small bidirectional LSTM over the last bars of one instrument.

One network serves all instruments and all timeframes; a learned offset tells it the timeframe.
Both directions live inside the past window. The forward direction is read at its last step, the
newest bar; the backward one at its last step too, the oldest bar: joined, both have seen every bar.
(Reading the output at the newest bar would show the backward direction one bar only.)

    N sequences (instruments times instants), L bars, C channels, E embedding, H hidden
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

LOG_VARIANCE_MAX = 4.0


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Hold the shape of a network; with the weights it is all that is needed to rebuild it."""

    channels: int
    timeframes: int
    hidden: int
    embedding: int
    sequence_bars: int
    feature_dropout: float = 0.0
    dropout: float = 0.0


class BiLstm(nn.Module):
    """Forecast mean and log-variance of the common label from one timeframe's sequences."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        E, H = config.embedding, config.hidden
        self.config = config
        self.project = nn.Linear(config.channels, E)
        self.timeframe = nn.Embedding(config.timeframes, E)
        self.norm = nn.LayerNorm(E)
        self.lstm = nn.LSTM(E, H, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(2 * H, 2)
        nn.init.normal_(self.timeframe.weight, std=0.1)
        # Outcomes are almost all noise: a forecast starts small and earns its size.
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, timeframe: int) -> tuple[Tensor, Tensor]:
        """Map x to mean and log-variance, each (N,), in units of the label."""
        x = self._drop_features(x)  # (N, L, C)
        place = torch.tensor(timeframe)
        e = self.project(x) + self.timeframe(place)  # (N, L, C) -> (N, L, E)
        e = nn.functional.gelu(self.norm(e))  # (N, L, E)
        _, (last, _) = self.lstm(e)  # (N, L, E) -> (2, N, H): forward's end, backward's end
        h = torch.cat([last[0], last[1]], dim=-1)  # (2, N, H) -> (N, 2H)
        mean, log_variance = self.head(self.dropout(h)).unbind(-1)  # (N, 2H) -> (N,), (N,)
        return mean, log_variance.clamp(-LOG_VARIANCE_MAX, LOG_VARIANCE_MAX)

    def _drop_features(self, x: Tensor) -> Tensor:
        """Blank whole features of a sequence, the same at every bar (time-locked dropout)."""
        if not self.training or self.config.feature_dropout == 0:
            return x
        ones = torch.ones(x.shape[0], 1, x.shape[2])
        mask = nn.functional.dropout(ones, self.config.feature_dropout)  # (N, 1, C)
        mask[..., -1] = 1.0  # the flag of a usable bar is never hidden
        return x * mask
