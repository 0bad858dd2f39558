"""Weight averaging: the mean of a network's weights over the last steps of a training.

Izmailov et al. 2018. The mean lies in the middle of what the last steps wander around, and
generalises better than where they happen to stop.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from torch import Tensor, nn

AVERAGED_SHARE: Final = 0.25  # of the steps, the last ones


class WeightAverage:
    """Keep the running mean of a network's weights."""

    def __init__(self) -> None:
        self.mean: dict[str, Tensor] = {}
        self.steps_n = 0

    def add(self, network: nn.Module) -> None:
        """Take the present weights in."""
        self.steps_n += 1
        for name, weight in network.state_dict().items():
            if self.steps_n == 1:
                self.mean[name] = weight.clone()
            else:
                self.mean[name] += (weight - self.mean[name]) / self.steps_n

    def restore(self, mean: Mapping[str, Tensor], steps_n: int) -> None:
        """Go on from a mean that was kept."""
        self.mean, self.steps_n = dict(mean), steps_n
