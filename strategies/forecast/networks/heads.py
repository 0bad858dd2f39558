"""Heads: mean, log-variance and three quantiles for each horizon."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

LOG_VARIANCE_MAX: Final = 4.0
QUANTILES: Final = (0.1, 0.5, 0.9)
HORIZONS: Final = 2  # the primary (6 h) first, then the secondary (12 h): inputs/labels.py
_SPREAD_START: Final = 0.96  # softplus of it is 1.28: the quantiles of a standard normal


class Forecast(NamedTuple):
    """Hold what a network says of (.., H) outcomes, in units of the label.

    mean, log_variance: (.., H). quantiles: (.., H, 3) in the order of QUANTILES, never crossing.
    """

    mean: Tensor
    log_variance: Tensor
    quantiles: Tensor

    def moved(self, by: Tensor) -> Forecast:
        """Move the expectation and the quantiles by (.., H)."""
        return Forecast(self.mean + by, self.log_variance, self.quantiles + by[..., None])


class Heads(nn.Module):
    """Read a vector per instrument; quantiles are a middle and two positive distances from it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, 5 * HORIZONS)
        # Outcomes are almost all noise: a forecast starts small and earns its size.
        nn.init.normal_(self.out.weight, std=0.01)
        nn.init.zeros_(self.out.bias)
        with torch.no_grad():
            self.out.bias.view(5, HORIZONS)[3:] = _SPREAD_START

    def forward(self, h: Tensor) -> Forecast:
        """Map (.., D) to a forecast."""
        out = self.out(h).float().unflatten(-1, (5, HORIZONS))  # (.., D) -> (.., 5, H)
        mean, log_variance, middle, below, above = out.unbind(-2)
        below, above = nn.functional.softplus(below), nn.functional.softplus(above)
        quantiles = torch.stack([middle - below, middle, middle + above], dim=-1)  # (.., H, 3)
        return Forecast(mean, log_variance.clamp(-LOG_VARIANCE_MAX, LOG_VARIANCE_MAX), quantiles)

    @torch.no_grad()
    def expect_nothing(self) -> None:
        """Begin with an expectation of zero, whatever is read."""
        self.out.weight[:HORIZONS] = 0.0
