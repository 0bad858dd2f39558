"""Encoder: an LSTM from the oldest bar to the newest."""

from __future__ import annotations

from torch import nn

from strategies.forecast.networks.config import NetworkConfig
from strategies.forecast.networks.recurrent import OneWay


class Lstm(OneWay):
    """Read the bars in the order of time; D = hidden."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(nn.LSTM, config)
