"""Say what a network is: its kind, its shape and its regularisation. No torch here.

With the weights this is all that is needed to rebuild a network.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class NetworkKind(StrEnum):
    """Name the encoders; each is one file of this room."""

    BILSTM = "bilstm"
    LSTM = "lstm"
    GRU = "gru"
    TCN = "tcn"
    TRANSFORMER = "transformer"


RECURRENT: Final = (NetworkKind.BILSTM, NetworkKind.LSTM, NetworkKind.GRU)


class ListLoss(StrEnum):
    """Name the list-wise losses that may join the second stage of a training."""

    NONE = "none"
    LISTMLE = "listmle"
    LISTNET = "listnet"


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Hold kind, shape and regularisation of a network.

    hidden: width of the encoder, of each direction where there are two. layers: of the encoder; a
    TCN has as many blocks as it takes to see the whole sequence, this many times. Rates are shares
    in 0 .. 1, 0 switches a rung off. All rungs act in training only, but zoneout: where it is on,
    the states of recurrent networks stay blended afterwards too.
    """

    channels: int
    timeframes: int
    hidden: int
    embedding: int
    sequence_bars: int
    kind: NetworkKind = NetworkKind.BILSTM
    layers: int = 1
    cross_asset: bool = False
    feature_dropout: float = 0.0
    time_dropout: float = 0.0
    weight_drop: float = 0.0
    zoneout: float = 0.0
    dropout: float = 0.0


@dataclass(frozen=True, slots=True)
class FoundProduct:
    """Hold a product of two readings that was found before a training; see `products`.

    newest, earlier: (C,) weights of channels; lags: of the bars before the newest, the oldest
    first, at most all of them. Readings have a spread of about one. size: the expectation of the
    primary outcome where the product is one, in units of the label.
    """

    newest: tuple[float, ...]
    newest_level: float
    earlier: tuple[float, ...]
    earlier_level: float
    lags: tuple[float, ...]
    size: float
