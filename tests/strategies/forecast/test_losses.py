"""Losses: figures from shared/SCIENCE.md (vectors 41 to 43), and what each is blind to."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from strategies.forecast.networks.config import ListLoss
from strategies.forecast.networks.heads import Forecast
from strategies.forecast.networks.losses import (
    centred,
    correlation,
    list_loss,
    list_mle,
    list_net,
    nll,
    pinball,
    total_loss,
)

SCORES = torch.tensor([[1.2, 0.3, -0.5]])
ALL = torch.ones(1, 3, dtype=torch.bool)
ONE = torch.ones(1, 1, dtype=torch.bool)


def forecast(mean: Tensor, log_variance: Tensor | None = None) -> Forecast:
    """Give a forecast of both horizons with the quantiles of its normal distribution."""
    log_variance = torch.zeros_like(mean) if log_variance is None else log_variance
    sd = torch.exp(0.5 * log_variance)
    quantiles = torch.stack([mean - 1.2816 * sd, mean, mean + 1.2816 * sd], dim=-1)
    return Forecast(*(torch.stack([one, one], dim=2) for one in (mean, log_variance, quantiles)))


def both(y: Tensor) -> Tensor:
    return torch.stack([y, y], dim=-1)


def test_the_gaussian_likelihood_of_vector_41() -> None:
    mean, log_variance, y = (torch.tensor([[v]]) for v in (0.1, math.log(0.25), 0.4))
    found = float(nll(mean, log_variance, y, ONE, beta=0.0))
    assert found == pytest.approx(-0.513147, abs=1e-6)
    assert found + 0.5 * math.log(2 * math.pi) == pytest.approx(0.405791, abs=1e-6)
    weighed = float(nll(mean, log_variance, y, ONE, beta=0.5))
    assert weighed == pytest.approx(-0.513147 * 0.5, abs=1e-6), "times variance to the half"


def test_beta_nll_passes_no_gradient_through_its_weight() -> None:
    log_variance = torch.zeros(1, 1, requires_grad=True)
    value = nll(torch.zeros(1, 1), log_variance, torch.full((1, 1), 2.0), ONE, beta=0.5)
    (gradient,) = torch.autograd.grad(value, log_variance)
    # d/dv 0.5 (v + 4 exp(-v)) at 0
    assert float(gradient) == pytest.approx(0.5 * (1 - 4))


def test_list_mle_of_vector_42() -> None:
    right, reversed_ = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[0.0, 1.0, 2.0]])
    assert float(list_mle(SCORES, right, ALL)) == pytest.approx(0.834365, abs=1e-6)
    assert float(list_mle(SCORES, reversed_, ALL)) == pytest.approx(3.404418, abs=1e-6)


def test_list_net_of_vector_43() -> None:
    found = list_net(SCORES, torch.tensor([[2.0, 1.0, 0.0]]), ALL)
    assert float(found) == pytest.approx(0.836572, abs=1e-6)


@pytest.mark.parametrize("kind", [ListLoss.LISTMLE, ListLoss.LISTNET])
def test_list_losses_see_the_ends_of_the_order_only_and_no_scale(kind: ListLoss) -> None:
    torch.manual_seed(0)
    y = torch.arange(10.0)[None]
    f, known = torch.randn(1, 10), torch.ones(1, 10, dtype=torch.bool)
    f = f - f.mean()
    base = list_loss(f, y, known, kind)
    assert torch.isfinite(base)
    torch.testing.assert_close(list_loss(7 * f, y, known, kind), base)
    swapped = f.clone()
    swapped[0, [4, 5]] = f[0, [5, 4]]  # neither in the highest nor in the lowest fifth
    torch.testing.assert_close(list_loss(swapped, y, known, kind), base)
    swapped[0, [0, 9]] = f[0, [9, 0]]
    assert not torch.allclose(list_loss(swapped, y, known, kind), base)
    known[0, 9] = False
    unknown = y.clone()
    unknown[0, 9] = -3.0
    assert torch.equal(list_loss(f, y, known, kind), list_loss(f, unknown, known, kind))


def test_pinball_is_least_at_the_quantiles() -> None:
    y = torch.linspace(-2, 2, 401)[None]
    known = torch.ones_like(y, dtype=torch.bool)

    def at(low: float, middle: float, high: float) -> float:
        return float(pinball(torch.tensor([low, middle, high]).expand(1, 401, 3), y, known))

    best = at(-1.6, 0.0, 1.6)
    for worse in ((-1.3, 0.0, 1.6), (-1.6, 0.2, 1.6), (-1.6, 0.0, 1.9)):
        assert at(*worse) > best
    # by hand: y = 1, quantiles 0: (0.1 + 0.5 + 0.9) / 3
    single = pinball(torch.zeros(1, 1, 3), torch.ones(1, 1), ONE)
    assert float(single) == pytest.approx(0.5)


def test_correlation_is_pearsons_mean_over_instants() -> None:
    f = torch.tensor([[0.3, 0.1, -0.2, 0.4, 0.0]])
    y = torch.tensor([[0.02, -0.01, -0.03, 0.01, 0.0]])
    known = torch.ones_like(f, dtype=torch.bool)
    found = correlation(f - f.mean(), 100 * y, known)
    assert float(found) == pytest.approx(0.881895, abs=1e-5)  # vector 44


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("listed", ListLoss)
def test_the_loss_ignores_missing_labels_and_the_common_part_of_means(
    warm: bool, listed: ListLoss
) -> None:
    torch.manual_seed(1)
    mean, log_variance, y = torch.randn(5, 6), torch.randn(5, 6), torch.randn(5, 6)
    y[0, 1] = float("nan")
    y[3] = float("nan")
    one = forecast(mean, log_variance)
    base = total_loss(one, both(y), warm=warm, listed=listed)
    assert torch.isfinite(base)
    wild = one.mean.clone()
    wild[0, 1] = 99.0
    other = one._replace(mean=wild)
    assert torch.equal(base, total_loss(other, both(y), warm=warm, listed=listed))
    shifted = total_loss(one._replace(mean=one.mean + 3.0), both(y), warm=warm, listed=listed)
    assert float(shifted) == pytest.approx(float(base), rel=1e-4)


def test_the_loss_prefers_forecasts_that_order_the_instruments_rightly() -> None:
    y = torch.tensor([[1.0, 0.0, -1.0], [0.5, -1.0, 0.5]])
    right, wrong, flat = (forecast(v) for v in (0.1 * y, -0.1 * y, 0 * y))
    none = ListLoss.NONE

    def value(f: Forecast, *, warm: bool) -> float:
        return float(total_loss(f, both(y), warm=warm, listed=none))

    assert value(right, warm=False) < value(wrong, warm=False) - 1.5
    assert value(forecast(y), warm=True) < value(flat, warm=True)


def test_without_the_correlation_the_likelihood_goes_on_and_a_list_loss_may_join_it() -> None:
    torch.manual_seed(2)
    y = torch.randn(4, 6)
    said, none = forecast(0.1 * torch.randn(4, 6), torch.randn(4, 6)), ListLoss.NONE
    first = total_loss(said, both(y), warm=True, listed=none)
    assert torch.equal(first, total_loss(said, both(y), warm=False, listed=none, by_ic=False))
    assert not torch.allclose(first, total_loss(said, both(y), warm=False, listed=none))
    listed = total_loss(said, both(y), warm=False, listed=ListLoss.LISTMLE, by_ic=False)
    known = torch.ones_like(y, dtype=torch.bool)
    own = list_loss(centred(said.mean[..., 0], known), y, known, ListLoss.LISTMLE)
    torch.testing.assert_close(listed - first, 0.1 * own)


def test_the_secondary_horizon_counts_a_fifth() -> None:
    y = torch.tensor([[1.0, 0.0, -1.0]])
    silent = torch.full_like(y, float("nan"))
    first, second, together = (
        float(total_loss(forecast(y), torch.stack(pair, -1), warm=True, listed=ListLoss.NONE))
        for pair in ((y, silent), (silent, y), (y, y))
    )
    assert second == pytest.approx(0.2 * first)
    assert together == pytest.approx(first + second)
