"""Fit the network of `recurrent`: QLIKE of tomorrow's correlation, by walk-forward folds only.

The outcome of an instant is the correlation matrix of the next 24 hourly returns; an instant after
which an instrument has a missing return teaches nothing. The loss is QLIKE, an instrument, of the
corrected correlation; nothing is learned about volatilities. The newest fifth of the instants stops
the fit, with a day between the two parts so that no outcome is in both. An epoch counts only where
that part is better than with the EWMA itself: where none is, the weights stay as they began and the
network is the EWMA.

Instants have different instruments: matrices are filled up with rows of the identity, which add the
same to the loss whatever is forecast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from daemon.domain.failures import ModelError
from strategies.covariance.recurrent import (
    BOUNDS,
    CORRECTIONS,
    SEQUENCE,
    STATE,
    Floats,
    Inputs,
    Scaling,
    Weights,
)

Longs = npt.NDArray[np.int64]
OUTCOME_H = 24
HIDDEN = 8
BATCH = 48
EPOCHS_MAX = 40
PATIENCE = 8
RATE = 5e-3
DECAY = 1e-3
STOP_SHARE = 0.2
INSTANTS_MIN = 100


@dataclass(frozen=True, slots=True)
class Example:
    """Hold an instant: when, what the network reads, and what came: R (M, M) of its instruments."""

    at_ms: int
    inputs: Inputs
    outcome: Floats


@dataclass(frozen=True, slots=True)
class Fitted:
    """Hold a fit. loss, ewma_loss: QLIKE an instrument on the part that stops it, least first."""

    weights: Weights
    scaling: Scaling
    loss: float
    ewma_loss: float
    epochs: int
    learned_until_ms: int


class Corrector(nn.Module):
    """Read sequences and states and give bounded corrections; see `recurrent.forward`."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.gru = nn.GRU(columns, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN + len(STATE), len(CORRECTIONS))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.bounds = torch.tensor(BOUNDS)

    def forward(self, sequence: Tensor, state: Tensor) -> Tensor:
        """Map (B, S, F) and (B, F2) to (B, G)."""
        _, h = self.gru(sequence)  # (1, B, H)
        corrections: Tensor = self.bounds * torch.tanh(self.head(torch.cat([h[0], state], dim=1)))
        return corrections


def outcome_of(returns: Floats) -> Floats:
    """Give the correlation (M, M) of the next OUTCOME_H returns (OUTCOME_H, M), not centred.

    It is NaN for an instrument with a missing return, or without any movement.
    """
    S = returns.T @ returns
    sd = np.sqrt(np.diagonal(S))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(S / (sd[:, None] * sd))


def fit(examples: Sequence[Example], columns: int, *, seed: int) -> Fitted:
    """Fit on examples in the order of time; columns: covariates in their sequences.

    Raises ModelError for fewer than INSTANTS_MIN examples whose outcome is known.
    """
    examples = [one for one in examples if np.isfinite(one.outcome).all()]
    if len(examples) < INSTANTS_MIN:
        raise ModelError(f"{len(examples)} instants to learn from: at least {INSTANTS_MIN}")
    cut = math.ceil(len(examples) * (1.0 - STOP_SHARE))
    stop = examples[cut:]
    day_ms = OUTCOME_H * 3_600_000
    learned = [one for one in examples[:cut] if one.at_ms + day_ms <= stop[0].at_ms]
    scaling = _scaling(learned)
    torch.manual_seed(seed)
    model = Corrector(len(SEQUENCE) + columns).double()
    parts = [_tensors(part, scaling) for part in (learned, stop)]
    return _fitted(model, parts, scaling, int(learned[-1].at_ms), seed)


def _fitted(
    model: Corrector, parts: Sequence[_Tensors], scaling: Scaling, until_ms: int, seed: int
) -> Fitted:
    train, stop = parts
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    order = np.random.default_rng(seed)
    best = ewma = _mean_loss(model, stop)
    kept, kept_at = _weights_of(model), 0
    for epoch in range(1, EPOCHS_MAX + 1):
        places = order.permutation(len(train.sequence))
        for at in range(0, len(places), BATCH):
            optimiser.zero_grad()
            loss = _losses(model, train, places[at : at + BATCH]).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
        found = _mean_loss(model, stop)
        if found < best:
            best, kept, kept_at = found, _weights_of(model), epoch
        elif epoch - kept_at >= PATIENCE:
            break
    return Fitted(kept, scaling, best, ewma, kept_at, until_ms)


@dataclass(frozen=True, slots=True)
class _Tensors:
    """Hold M examples filled up to N instruments; count: (M,) how many are real."""

    sequence: Tensor  # (M, S, F)
    state: Tensor  # (M, F2)
    log_base: Tensor  # (M, N, N)
    directions: Tensor  # (M, G, N, N)
    outcome: Tensor  # (M, N, N)
    count: Tensor  # (M,)


def _scaling(examples: Sequence[Example]) -> Scaling:
    """Take centre and spread of each column from what is learned, robustly; see Scaling."""
    rows = np.concatenate([one.inputs.sequence for one in examples])
    states = np.stack([one.inputs.state for one in examples])
    centre, spread = [], []
    for column in (*rows.T, *states.T):
        known = column[np.isfinite(column)]
        low, middle, high = np.quantile(known, [0.16, 0.5, 0.84]) if len(known) else (0.0, 0.0, 0.0)
        width = float(high - low) / 2.0
        centre.append(float(middle))
        spread.append(width if width > 0.0 else 1.0)
    return Scaling(np.array(centre), np.array(spread))


def _tensors(examples: Sequence[Example], scaling: Scaling) -> _Tensors:
    N = max(len(one.inputs.known) for one in examples)
    M, G = len(examples), len(CORRECTIONS)
    logs, outcomes = np.zeros((M, N, N)), np.tile(np.eye(N), (M, 1, 1))
    directions, count = np.zeros((M, G, N, N)), np.zeros(M)
    scaled = [scaling.apply(one.inputs.sequence, one.inputs.state) for one in examples]
    for at, one in enumerate(examples):
        n = len(one.inputs.known)
        logs[at, :n, :n] = one.inputs.log_base
        directions[at, :, :n, :n] = one.inputs.directions
        outcomes[at, :n, :n], count[at] = one.outcome, n
    return _Tensors(
        torch.tensor(np.stack([sequence for sequence, _ in scaled])),
        torch.tensor(np.stack([state for _, state in scaled])),
        torch.tensor(logs),
        torch.tensor(directions),
        torch.tensor(outcomes),
        torch.tensor(count),
    )


def _losses(model: Corrector, t: _Tensors, places: npt.NDArray[np.int64]) -> Tensor:
    """Give QLIKE an instrument of each instant (B,)."""
    at = torch.as_tensor(places)
    corrections = model(t.sequence[at], t.state[at])  # (B, G)
    A = t.log_base[at] + torch.einsum("bg,bgij->bij", corrections, t.directions[at])
    exponential = torch.linalg.matrix_exp(A)
    size = torch.diagonal(exponential, dim1=1, dim2=2)  # (B, N)
    root = size.sqrt()
    # R = E / (root root'), so that R^-1 = exp(-A) times the roots, and ln|R| = tr A - sum ln size
    inverse = torch.linalg.matrix_exp(-A) * root[:, :, None] * root[:, None, :]
    trace = (inverse * t.outcome[at]).sum(dim=(1, 2))
    log_size = torch.diagonal(A, dim1=1, dim2=2).sum(dim=1) - size.log().sum(dim=1)
    loss: Tensor = (log_size + trace - A.shape[1]) / t.count[at]
    return loss


def _mean_loss(model: Corrector, t: _Tensors) -> float:
    with torch.no_grad():
        parts = [
            _losses(model, t, np.arange(at, min(at + BATCH, len(t.sequence))))
            for at in range(0, len(t.sequence), BATCH)
        ]
    return float(torch.cat(parts).mean())


def _weights_of(model: Corrector) -> Weights:
    return {name: one.detach().numpy().copy() for name, one in model.named_parameters()}
