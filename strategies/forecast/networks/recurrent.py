"""What the recurrent encoders share: stacked layers of cells, one direction each.

A layer runs torch's fused sequence as long as it can. Zoneout needs the state after every bar, so
with it the layer walks through the bars itself; both ways give the same numbers at a rate of 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor, nn

from strategies.forecast.networks.config import NetworkConfig
from strategies.forecast.networks.fast_lstm import run_lstm
from strategies.forecast.networks.regularisation import TimeLockedDropout, WeightDrop, Zoneout

_RECURRENT: Final = "weight_hh_l0"


class RecurrentLayer(nn.Module):
    """Run one layer of LSTM or GRU cells over the bars, oldest first or newest first."""

    def __init__(
        self,
        cells: nn.LSTM | nn.GRU,
        *,
        newest_first: bool = False,
        weight_drop: float = 0.0,
        zoneout: float = 0.0,
    ) -> None:
        super().__init__()
        self.cells = cells
        self.newest_first = newest_first
        self.drop = WeightDrop(weight_drop)
        self.zoneout = Zoneout(zoneout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (S, L, E) to the states after every bar (S, L, H), in the order of time."""
        x = x.flip(1) if self.newest_first else x
        h = self._walk(x) if self.zoneout.rate > 0 else self._fused(x)
        return h.flip(1) if self.newest_first else h

    def _fused(self, x: Tensor) -> Tensor:
        if self.training and self.drop.rate > 0:
            dropped = {_RECURRENT: self.drop(self.cells.weight_hh_l0)}
            h: Tensor = torch.func.functional_call(self.cells, dropped, (x,))[0]
            return h
        if isinstance(self.cells, nn.LSTM):
            return run_lstm(self.cells, x)[0]  # (S, L, E) -> (S, L, H)
        fused: Tensor = self.cells(x)[0]
        return fused

    def _walk(self, x: Tensor) -> Tensor:
        own = self.cells
        weight_in, weight_back, bias_in, bias_back = own.all_weights[0]
        recurrent = self.drop(weight_back)
        moved = nn.functional.linear(x, weight_in, bias_in)  # (S, L, gates * H)
        step = _lstm_step if isinstance(own, nn.LSTM) else _gru_step
        h = cell = moved.new_zeros(x.shape[0], own.hidden_size)
        found = []
        for gates in moved.unbind(1):
            back = nn.functional.linear(h, recurrent, bias_back)
            new_h, new_cell = step(gates, back, h, cell)
            h, cell = self.zoneout(h, new_h), self.zoneout(cell, new_cell)
            found.append(h)
        return torch.stack(found, dim=1)  # L x (S, H) -> (S, L, H)


class OneWay(nn.Module):
    """Read the bars in the order of time, layer upon layer of one kind of cells; D = hidden."""

    def __init__(self, cells: type[nn.LSTM | nn.GRU], config: NetworkConfig) -> None:
        super().__init__()
        H = config.hidden
        self.width = H
        self.between = TimeLockedDropout(config.time_dropout)
        self.layers = nn.ModuleList(
            RecurrentLayer(
                cells(config.embedding if layer == 0 else H, H, batch_first=True),
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


def _lstm_step(moved: Tensor, back: Tensor, h: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    let_in, forget, new, out = (moved + back).chunk(4, dim=-1)  # each (S, H)
    cell = torch.sigmoid(forget) * cell + torch.sigmoid(let_in) * torch.tanh(new)
    return torch.sigmoid(out) * torch.tanh(cell), cell


def _gru_step(moved: Tensor, back: Tensor, h: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    (reset_x, keep_x, new_x), (reset_h, keep_h, new_h) = moved.chunk(3, -1), back.chunk(3, -1)
    keep = torch.sigmoid(keep_x + keep_h)
    new = torch.tanh(new_x + torch.sigmoid(reset_x + reset_h) * new_h)
    return keep * h + (1 - keep) * new, cell
