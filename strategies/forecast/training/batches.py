"""Give networks what they read: whole cross-sections of all timeframes, on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from daemon.domain.bar import Floats
from strategies.forecast.inputs.dataset import Table
from strategies.forecast.networks.network import Network
from strategies.forecast.training.job import Longs, TrainSettings

PREDICT_ROWS: Final = 4096  # sequences of one pass in evaluation, cut to whole cross-sections


@dataclass(frozen=True, slots=True)
class Batch:
    """Hold some instants: x (B, N, L, C), timeframes place (B,), labels y (B, N, H)."""

    x: Tensor
    place: Tensor
    y: Tensor


class Batches:
    """Gather batches from the tables, which lie on the device as a whole."""

    def __init__(
        self, tables: Sequence[Table], settings: TrainSettings, device: torch.device
    ) -> None:
        self.device = device
        N, K = tables[0].y.shape[1], len(tables)
        self.instants_each: int = max(2, round(settings.batch_rows / (N * K)))
        self._predicted = max(1, PREDICT_ROWS // N)
        self._back = torch.arange(1 - settings.sequence_bars, 1, device=device)  # (L,)
        self._inputs = [torch.from_numpy(t.inputs).to(device) for t in tables]
        self._labels = [
            torch.from_numpy(np.stack([t.y, t.y_secondary], axis=-1).astype(np.float32)).to(device)
            for t in tables
        ]

    @property
    def rows_n(self) -> int:
        """Give the sequences of a training step."""
        return self.instants_each * sum(inputs.shape[1] for inputs in self._inputs)

    def draw(self, random: np.random.Generator, rows: Sequence[Sequence[Longs]]) -> Batch:
        """Draw instants without repetition from each timeframe's rows, as many from each.

        Where a timeframe has several pools of rows, its instants come from all in equal parts, the
        first having the larger part and one that is too small giving what it has.
        """
        parts = []
        for place, pools in enumerate(rows):
            for number, mine in enumerate(pools):
                share = -(-(self.instants_each - number) // len(pools))
                size = min(share, len(mine))
                parts.append(self.take(place, random.choice(mine, size=size, replace=False)))
        x, places, y = (
            torch.cat([getattr(part, name) for part in parts]) for name in ("x", "place", "y")
        )
        return Batch(x, places, y)

    def take(self, place: int, rows: Longs) -> Batch:
        """Gather the sequences that end at `rows` of one timeframe."""
        at = torch.from_numpy(rows).to(self.device)
        x = self._inputs[place][at[:, None] + self._back]  # (B, L, N, C)
        places = torch.full((len(rows),), place, device=self.device)
        return Batch(x.transpose(1, 2).contiguous(), places, self._labels[place][at])

    def forecast(self, network: Network, table: Table, rows: Longs) -> tuple[Floats, Floats]:
        """Give raw means and variances (M, N) of rows (M,), meaningless without a sequence."""
        was_training = network.training
        network.eval()
        N = table.y.shape[1]
        mean, variance = np.empty((len(rows), N)), np.empty((len(rows), N))
        with torch.inference_mode():
            for start in range(0, len(rows), self._predicted):
                part = slice(start, start + self._predicted)
                batch = self.take(table.place, rows[part])
                said = network(batch.x, batch.place)  # (B, N, H)
                mean[part] = said.mean[..., 0].cpu().numpy()
                variance[part] = said.log_variance[..., 0].double().exp().cpu().numpy()
        network.train(was_training)
        return mean, variance

    def predict(self, network: Network, table: Table, rows: Longs) -> Floats:
        """Forecast rows (M,) of a table: (M, N) raw means, NaN where there is no label."""
        mean, _ = self.forecast(network, table, rows)
        return np.where(np.isfinite(table.y[rows]), mean, np.nan)
