"""Attention in its two uses: over the bars of a sequence, over the instruments of an instant."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

HEADS: Final = 2


class SelfAttention(nn.Module):
    """Let every row of a set look at the others; without places it does not know their order."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = -(-width // HEADS) * HEADS
        self.ask = nn.Linear(width, 3 * self.inner)
        self.answer = nn.Linear(self.inner, width)

    def forward(self, h: Tensor, seen: Tensor | None = None) -> Tensor:
        """Map (B, N, D) to (B, N, D). seen (B, N): rows that may be looked at, all if not given.

        Where a set has no row to look at, the answer is that to zeros, never NaN.
        """
        B, N, _ = h.shape
        q, k, v = (
            part.view(B, N, HEADS, -1).transpose(
                1, 2
            )  # (B, N, inner) -> (B, heads, N, inner / heads)
            for part in self.ask(h).chunk(3, dim=-1)
        )
        mask = None if seen is None else seen[:, None, None, :]  # (B, 1, 1, N)
        if mask is None:
            mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        else:
            scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5  # (B, heads, N, N)
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
            mixed = (torch.softmax(scores, dim=-1) * mask) @ v
        answered: Tensor = self.answer(mixed.transpose(1, 2).reshape(B, N, self.inner))
        return answered  # (B, N, D)


class AttentionPooling(nn.Module):
    """Weigh the bars of a sequence by what a learned question finds in them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ask = nn.Linear(width, 1, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        """Map (S, L, D) to (S, D)."""
        weight = torch.softmax(self.ask(h), dim=1)  # (S, L, 1)
        return (weight * h).sum(dim=1)  # (S, L, D) -> (S, D)


class CrossAsset(nn.Module):
    """Let the instruments of one instant look at each other: one layer of set attention.

    The order of instruments does not matter, and one without bars neither sees nor is seen.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = SelfAttention(width)
        # A forecast of one instrument alone is the start; what others add is learned.
        nn.init.zeros_(self.attention.answer.weight)
        nn.init.zeros_(self.attention.answer.bias)

    def forward(self, h: Tensor, alive: Tensor) -> Tensor:
        """Map (B, N, D) with alive (B, N) to (B, N, D)."""
        found = self.attention(self.norm(h), alive)  # (B, N, D)
        return h + torch.where(alive[..., None], found, 0.0)
