"""The network: one trunk for all encoders, from input rows to a forecast of every instrument.

One network serves all instruments and all timeframes; a learned offset tells it the timeframe.

    B instants, N instruments, S = B * N sequences, L bars, C channels, E embedding, D encoder's
    width

An encoder maps (S, L, E) to (S, L, D) and says in `ends` which rows have seen every bar. What is
read is that vector plus a learned share of an attention pooling over all bars. Products of the
newest bar with those before it are added to the expectation alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol

import torch
from torch import Tensor, nn

from daemon.domain.failures import ConfigurationError
from strategies.forecast.inputs.windows import USABLE_SHARE_MIN
from strategies.forecast.networks.attention import AttentionPooling, CrossAsset
from strategies.forecast.networks.bilstm import BiLstm
from strategies.forecast.networks.config import FoundProduct, NetworkConfig, NetworkKind
from strategies.forecast.networks.gru import Gru
from strategies.forecast.networks.heads import Forecast, Heads
from strategies.forecast.networks.lstm import Lstm
from strategies.forecast.networks.products import Products
from strategies.forecast.networks.regularisation import TimeLockedDropout
from strategies.forecast.networks.tcn import Tcn
from strategies.forecast.networks.transformer import Transformer

HIDDEN_MAX: Final = 1024
PARAMETERS_TOLERANCE: Final = 0.05


class Encoder(Protocol):
    """Turn sequences into a vector for each bar."""

    width: int

    def __call__(self, e: Tensor) -> Tensor:
        """Map (S, L, E) to (S, L, D)."""
        ...

    def ends(self, h: Tensor) -> Tensor:
        """Take from (S, L, D) what has seen every bar, (S, D)."""
        ...

    def last_layer(self) -> Iterator[nn.Parameter]:
        """Give the weights of the layer nearest to the forecast."""
        ...


ENCODERS: Final[Mapping[NetworkKind, Callable[[NetworkConfig], Encoder]]] = {
    NetworkKind.BILSTM: BiLstm,
    NetworkKind.LSTM: Lstm,
    NetworkKind.GRU: Gru,
    NetworkKind.TCN: Tcn,
    NetworkKind.TRANSFORMER: Transformer,
}


class Network(nn.Module):
    """Forecast the outcomes of the instruments of some instants from one timeframe's sequences."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        E = config.embedding
        self.config = config
        self.drop_features = TimeLockedDropout(config.feature_dropout, spared=1)  # not the flag
        self.project = nn.Linear(config.channels, E)
        self.timeframe = nn.Embedding(config.timeframes, E)
        self.norm = nn.LayerNorm(E)
        self.drop_embedding = TimeLockedDropout(config.time_dropout)
        self.encoder = ENCODERS[config.kind](config)
        D = self.encoder.width
        self.pool = AttentionPooling(D)
        self.pool_share = nn.Parameter(torch.zeros(D))
        self.products = Products(config.channels, config.sequence_bars)
        self.cross_asset = CrossAsset(D) if config.cross_asset else None
        self.dropout = nn.Dropout(config.dropout)
        self.heads = Heads(D)
        nn.init.normal_(self.timeframe.weight, std=0.1)

    def forward(self, x: Tensor, place: Tensor) -> Forecast:
        """Map x (B, N, L, C) of timeframes place (B,) to a forecast of (B, N, H) outcomes.

        The last channel is the flag of a usable bar. Instruments whose sequence allows no forecast
        get one all the same, of no meaning, but no other sees them.
        """
        B, N, L, C = x.shape
        s = self.drop_features(x.view(B * N, L, C))
        h = self.read(s, place.repeat_interleave(N)).view(B, N, -1)  # (B, N, D)
        if self.cross_asset is not None:
            flags = x[..., -1] > 0  # (B, N, L)
            alive = flags[..., -1] & (flags.float().mean(dim=-1) >= USABLE_SHARE_MIN)
            h = self.cross_asset(h, alive)
        found: Forecast = self.heads(self.dropout(h))
        return found.moved(self.products(s).view(B, N, -1))

    def begin(self, found: Sequence[FoundProduct]) -> None:
        """Forecast by products that were found, and by them alone until more is learned."""
        self.products.begin(found)
        if found:
            self.heads.expect_nothing()

    def read(self, x: Tensor, place: Tensor) -> Tensor:
        """Map sequences x (S, L, C) of timeframes place (S,) to what is read of them, (S, D)."""
        e = self.project(x)  # (S, L, C) -> (S, L, E)
        e = nn.functional.gelu(self.norm(e + self.timeframe(place)[:, None]))
        h = self.encoder(self.drop_embedding(e))  # (S, L, E) -> (S, L, D)
        pooled: Tensor = self.pool_share * self.pool(h)  # (S, L, D) -> (S, D)
        return self.encoder.ends(h) + pooled


def parameters_n(config: NetworkConfig) -> int:
    """Count the parameters of a network; moves no random number on."""
    with torch.random.fork_rng(devices=[]):
        return sum(p.numel() for p in Network(config).parameters())


def with_parameters(config: NetworkConfig, wanted: int) -> NetworkConfig:
    """Choose `hidden` so that the network has `wanted` parameters within 5 %.

    For comparisons of kinds at equal size: a Bi-LSTM has twice the recurrent weights of an LSTM.
    Raises ConfigurationError when no size comes that close.
    """
    low, high = 1, HIDDEN_MAX
    while high - low > 1:  # parameters grow with hidden
        middle = (low + high) // 2
        if parameters_n(replace(config, hidden=middle)) <= wanted:
            low = middle
        else:
            high = middle
    sizes = {hidden: parameters_n(replace(config, hidden=hidden)) for hidden in (low, high)}
    best = min(sizes, key=lambda hidden: abs(sizes[hidden] - wanted))
    if abs(sizes[best] - wanted) > PARAMETERS_TOLERANCE * wanted:
        raise ConfigurationError(
            f"no {config.kind} has {wanted} parameters within 5 %: hidden = {best} has"
            f" {sizes[best]}"
        )
    return replace(config, hidden=best)
