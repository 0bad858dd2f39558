"""What networks are fitted to: a likelihood first, then the order within each cross-section.

All take forecasts and labels (B, N) of some instants; a label that is NaN does not count. The label
has no market part, so a forecast's mean over the known instruments of an instant is taken off.

    stage 1   beta-NLL + pinball          Seitzer et al. 2022, beta = 0.5; Koenker and Bassett 1978
    stage 2   -IC + 0.1 (NLL + pinball)   IC: Pearson's correlation per instant, averaged; optional
    optional  + list loss, over the instruments with the highest and lowest fifth of the labels:
              ListMLE (Xia et al. 2008) or ListNet's top one (Cao et al. 2007)

The list losses see forecasts in units of their spread over the instant: they order, they do not set
a scale; nor does IC, and calibration comes after all of them.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from strategies.forecast.networks.config import ListLoss
from strategies.forecast.networks.heads import QUANTILES, Forecast

BETA: Final = 0.5
NLL_WEIGHT: Final = 0.1  # of the likelihood in stage 2
HORIZON_WEIGHTS: Final = (1.0, 0.2)  # primary, secondary
LIST_WEIGHT: Final = 0.1
LIST_SHARE: Final = 0.2  # of the instruments at either end
_SPREAD_MIN: Final = 1e-6


def total_loss(
    forecast: Forecast, y: Tensor, *, warm: bool, listed: ListLoss, by_ic: bool = True
) -> Tensor:
    """Give the loss of forecasts of (B, N, H) outcomes for labels y (B, N, H).

    warm: stage 1, the likelihood alone. by_ic: else stage 2 goes on with the likelihood of stage 1.
    """
    total = torch.zeros((), device=y.device)
    for horizon, weight in enumerate(HORIZON_WEIGHTS):
        outcome = y[..., horizon]
        known = torch.isfinite(outcome)
        outcome = torch.where(known, outcome, 0.0)
        mean = centred(forecast.mean[..., horizon], known)
        log_variance = forecast.log_variance[..., horizon]
        quantiles = forecast.quantiles[..., horizon, :]
        beta = 0.0 if by_ic and not warm else BETA
        likelihood = nll(mean, log_variance, outcome, known, beta=beta)
        likelihood = likelihood + pinball(quantiles, outcome, known)
        value = likelihood
        if by_ic and not warm:
            value = NLL_WEIGHT * likelihood - correlation(mean, outcome, known)
        if not warm and horizon == 0 and listed is not ListLoss.NONE:
            value = value + LIST_WEIGHT * list_loss(mean, outcome, known, listed)
        total = total + weight * value
    return total


def centred(mean: Tensor, known: Tensor) -> Tensor:
    """Take the mean over the known instruments off forecasts (B, N); 0 where unknown."""
    count = known.sum(dim=1, keepdim=True).clamp(min=1)
    centre = torch.where(known, mean, 0.0).sum(dim=1, keepdim=True) / count  # (B, 1)
    return torch.where(known, mean - centre, 0.0)


def nll(mean: Tensor, log_variance: Tensor, y: Tensor, known: Tensor, *, beta: float) -> Tensor:
    """Average the Gaussian likelihood over known labels, without its constant.

    beta: each term weighs variance^beta, through which no gradient goes; 0 is the plain NLL.
    """
    terms = 0.5 * (log_variance + (y - mean) ** 2 * torch.exp(-log_variance))
    weighed = terms * torch.exp(beta * log_variance).detach()
    return torch.where(known, weighed, 0.0).sum() / known.sum().clamp(min=1)


def pinball(quantiles: Tensor, y: Tensor, known: Tensor) -> Tensor:
    """Average the quantile loss of (B, N, 3) quantiles over known labels and the three levels."""
    levels = torch.tensor(QUANTILES, device=y.device)
    above = y[..., None] - quantiles  # (B, N, 3)
    losses = torch.maximum(levels * above, (levels - 1) * above).mean(dim=-1)
    return torch.where(known, losses, 0.0).sum() / known.sum().clamp(min=1)


def correlation(f: Tensor, y: Tensor, known: Tensor) -> Tensor:
    """Average Pearson's correlation of centred f and y (B, N) over instants."""
    y = centred(y, known)
    size = ((f * f).sum(dim=1) * (y * y).sum(dim=1) + 1e-8).sqrt()
    return ((f * y).sum(dim=1) / size).mean()  # (B, N) -> (B,) -> ()


def list_loss(f: Tensor, y: Tensor, known: Tensor, kind: ListLoss) -> Tensor:
    """Average a list loss of forecasts f (B, N) over instants, on the ends of the labels' order."""
    count = known.sum(dim=1, keepdim=True)
    places = torch.where(known, y, torch.inf).argsort(dim=1).argsort(dim=1)  # 0: the lowest
    each = torch.ceil(LIST_SHARE * count)
    ends = known & ((places < each) | (places >= count - each))
    spread = ((f * f).sum(dim=1, keepdim=True) / count.clamp(min=1)).sqrt()
    scores = f / spread.clamp(min=_SPREAD_MIN)
    each_instant = list_mle if kind is ListLoss.LISTMLE else list_net
    return each_instant(scores, y, ends).mean()


def list_mle(scores: Tensor, y: Tensor, counted: Tensor) -> Tensor:
    """Give minus the log-chance (B,) of the labels' order when places are drawn by the scores.

    Plackett and Luce: the highest label first, each among those that are left.
    """
    order = torch.where(counted, y, -torch.inf).argsort(dim=1, descending=True)
    sorted_in = counted.gather(1, order)
    sorted_scores = torch.where(sorted_in, scores.gather(1, order), -1e9)
    left = torch.logcumsumexp(sorted_scores.flip(1), dim=1).flip(1)  # of this place and after it
    return torch.where(sorted_in, left - sorted_scores, 0.0).sum(dim=1)


def list_net(scores: Tensor, y: Tensor, counted: Tensor) -> Tensor:
    """Give the cross-entropy (B,) of who comes first: by the labels, by the scores."""
    lowest = torch.tensor(-1e9, device=y.device)
    wanted = torch.softmax(torch.where(counted, y, lowest), dim=1)
    said = torch.log_softmax(torch.where(counted, scores, lowest), dim=1)
    return -torch.where(counted, wanted * said, 0.0).sum(dim=1)
