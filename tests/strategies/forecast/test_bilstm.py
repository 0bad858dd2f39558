"""The network: both directions see the whole window, dropout is locked in time."""

from __future__ import annotations

import pytest
import torch

from strategies.forecast.networks.bilstm import LOG_VARIANCE_MAX, BiLstm, NetworkConfig
from strategies.forecast.training.network_training import loss

CONFIG = NetworkConfig(channels=6, timeframes=3, hidden=5, embedding=7, sequence_bars=9)


def network(config: NetworkConfig = CONFIG) -> BiLstm:
    torch.manual_seed(0)
    return BiLstm(config).eval()


def test_every_bar_reaches_both_directions() -> None:
    seen: list[torch.Tensor] = []
    model = network()
    model.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.randn(2, 9, 6, requires_grad=True)
    model(x, 0)
    joined = seen[0]  # (2, 2 * hidden): forward first, backward after it
    for direction in (joined[:, :5], joined[:, 5:]):
        (gradient,) = torch.autograd.grad(direction.sum(), x, retain_graph=True)
        reached = gradient.abs().sum(dim=(0, 2)) > 0
        assert reached.all(), reached


def test_the_join_is_the_newest_forward_and_the_oldest_backward_output() -> None:
    seen: list[torch.Tensor] = []
    model, x = network(), torch.randn(3, 9, 6)
    model.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    outputs: list[torch.Tensor] = []
    model.lstm.register_forward_hook(lambda _, __, answer: outputs.append(answer[0]))
    with torch.inference_mode():
        model(x, 1)
    expected = torch.cat([outputs[0][:, -1, :5], outputs[0][:, 0, 5:]], dim=-1)
    torch.testing.assert_close(seen[0], expected)


def test_reading_the_newest_output_would_show_the_backward_direction_one_bar_only() -> None:
    model = network()
    e = torch.randn(1, 9, 7, requires_grad=True)
    outputs, _ = model.lstm(e)
    (gradient,) = torch.autograd.grad(outputs[:, -1, 5:].sum(), e)
    assert (gradient.abs().sum(dim=(0, 2)) > 0).tolist() == [False] * 8 + [True]


def test_each_timeframe_has_its_own_answer_and_variance_is_bounded() -> None:
    model, x = network(), 1000 * torch.randn(4, 9, 6)
    with torch.inference_mode():
        answers = [model(x, place) for place in range(3)]
    assert not torch.equal(answers[0][0], answers[1][0])
    assert all(a[1].abs().max() <= LOG_VARIANCE_MAX and a[0].shape == (4,) for a in answers)


def test_feature_dropout_is_the_same_at_every_bar_and_spares_the_flag() -> None:
    config = NetworkConfig(
        channels=6, timeframes=1, hidden=5, embedding=7, sequence_bars=9, feature_dropout=0.5
    )
    model = network(config).train()
    x = torch.ones(50, 9, 6)
    dropped = model._drop_features(x)
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert (dropped[..., -1] == 1).all()
    assert 0 < (dropped == 0).float().mean() < 0.6
    assert torch.equal(model.eval()._drop_features(x), x)


def test_loss_ignores_missing_labels_and_the_common_part_of_forecasts() -> None:
    torch.manual_seed(1)
    mean, log_variance, y = torch.randn(5, 4), torch.randn(5, 4), torch.randn(5, 4)
    y[0, 1] = float("nan")
    other = mean.clone()
    other[0, 1] = 99.0
    for warm in (True, False):
        base = loss(mean, log_variance, y, warm=warm)
        assert torch.equal(base, loss(other, log_variance, y, warm=warm))
        assert loss(mean + 3.0, log_variance, y, warm=warm) == pytest.approx(float(base), rel=1e-4)


def test_loss_prefers_forecasts_that_order_the_instruments_rightly() -> None:
    y = torch.tensor([[1.0, 0.0, -1.0], [0.5, -1.0, 0.5]])
    flat = torch.zeros(2, 3)
    assert loss(0.1 * y, flat, y, warm=False) < loss(-0.1 * y, flat, y, warm=False) - 1.5
    assert loss(y, flat, y, warm=True) < loss(flat, flat, y, warm=True)
