"""Each rung of the ladder does what its name says, in training only, and nothing at a rate of 0."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from strategies.forecast.networks.config import NetworkConfig
from strategies.forecast.networks.network import Network
from strategies.forecast.networks.recurrent import RecurrentLayer
from strategies.forecast.networks.regularisation import TimeLockedDropout, WeightDrop, Zoneout
from strategies.forecast.training.averaging import WeightAverage

CELLS = pytest.mark.parametrize("cells", [nn.LSTM, nn.GRU])
Cells = type[nn.LSTM] | type[nn.GRU]


def layer(cells: Cells, *, weight_drop: float = 0.0, zoneout: float = 0.0) -> RecurrentLayer:
    torch.manual_seed(0)
    own = cells(3, 40, batch_first=True)
    return RecurrentLayer(own, weight_drop=weight_drop, zoneout=zoneout)


def test_time_locked_dropout_blanks_the_same_channels_at_every_bar() -> None:
    torch.manual_seed(0)
    drop, x = TimeLockedDropout(0.3), torch.ones(200, 9, 20)
    dropped = drop(x)
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert float((dropped == 0).float().mean()) == pytest.approx(0.3, abs=0.03)
    torch.testing.assert_close(dropped[dropped > 0], torch.full_like(dropped[dropped > 0], 1 / 0.7))
    assert not torch.equal(dropped[0], dropped[1]), "sequences differ"
    assert torch.equal(drop.eval()(x), x)


def test_feature_dropout_never_hides_the_flag_of_a_usable_bar() -> None:
    config = NetworkConfig(6, 1, 5, 7, 9, feature_dropout=0.5)
    model = Network(config).train()
    dropped = model.drop_features(torch.ones(50, 9, 6))
    assert (dropped[..., -1] == 1).all()
    assert (dropped[..., :-1] == 0).any()


def test_weight_drop_blanks_a_share_of_the_recurrent_matrix_anew_each_step() -> None:
    torch.manual_seed(0)
    drop, weight = WeightDrop(0.4), torch.ones(100, 100)
    first, second = drop(weight), drop(weight)
    assert float((first == 0).float().mean()) == pytest.approx(0.4, abs=0.03)
    assert not torch.equal(first, second)
    assert torch.equal(drop.eval()(weight), weight)


@CELLS
def test_weight_drop_is_one_matrix_for_all_sequences_and_bars_of_a_step(cells: Cells) -> None:
    made = layer(cells, weight_drop=0.5)
    same = torch.randn(1, 6, 3).expand(8, 6, 3)
    first, second = made(same), made(same)
    torch.testing.assert_close(first, first[:1].expand_as(first))
    assert not torch.allclose(first, second), "the next step draws again"
    (gradient,) = torch.autograd.grad(first.sum(), made.cells.all_weights[0][1])
    assert 0.4 < float((gradient == 0).float().mean()) < 0.6, "blanked weights learn nothing"
    assert torch.equal(made.eval()(same), made(same))


@CELLS
@pytest.mark.parametrize("newest_first", [False, True])
def test_walking_through_the_bars_gives_what_the_fused_layer_gives(
    cells: Cells, newest_first: bool
) -> None:
    made = layer(cells)
    made.newest_first = newest_first
    x = torch.randn(5, 7, 3)
    torch.testing.assert_close(made._walk(x), made._fused(x))


def test_zoneout_keeps_a_share_of_the_states_and_blends_afterwards() -> None:
    torch.manual_seed(0)
    zone = Zoneout(0.2)
    before, after = torch.zeros(200, 50), torch.ones(200, 50)
    kept = zone(before, after)
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    assert float((kept == 0).float().mean()) == pytest.approx(0.2, abs=0.02)
    torch.testing.assert_close(zone.eval()(before, after), torch.full((200, 50), 0.8))


@CELLS
def test_a_layer_with_zoneout_repeats_a_share_of_its_states(cells: Cells) -> None:
    made, x = layer(cells, zoneout=0.25), torch.randn(64, 8, 3)
    h = made(x)
    repeated = (h[:, 1:] == h[:, :-1]).float().mean()
    assert float(repeated) == pytest.approx(0.25, abs=0.03)
    assert torch.equal(made.eval()(x), made(x))
    assert not torch.allclose(made(x), layer(cells).eval()(x)), "the blend goes on in evaluation"


def test_the_average_of_weights_is_their_mean() -> None:
    torch.manual_seed(0)
    network, average, seen = nn.Linear(4, 3), WeightAverage(), list[Tensor]()
    for _ in range(7):
        with torch.no_grad():
            network.weight += torch.randn(3, 4)
        average.add(network)
        seen.append(network.weight.detach().clone())
    torch.testing.assert_close(average.mean["weight"], torch.stack(seen).mean(dim=0))
    assert set(average.mean) == {"weight", "bias"}
    again = WeightAverage()
    again.restore(average.mean, average.steps_n)
    again.add(network)
    torch.testing.assert_close(again.mean["weight"], torch.stack([*seen, seen[-1]]).mean(dim=0))


@pytest.mark.parametrize("rung", ["feature_dropout", "time_dropout", "weight_drop", "zoneout"])
@pytest.mark.parametrize("kind", ["bilstm", "lstm", "gru"])
def test_each_rung_alone_changes_training(rung: str, kind: str) -> None:
    x = torch.randn(2, 3, 9, 6)
    place = torch.zeros(2, dtype=torch.long)

    def answer(rate: float, prepare: Callable[[Network], Network]) -> Tensor:
        torch.manual_seed(0)
        config = NetworkConfig(6, 1, 8, 7, 9, **{"kind": kind, rung: rate})  # type: ignore[arg-type]
        found: Tensor = prepare(Network(config))(x, place).mean
        return found

    plain = answer(0.0, lambda n: n.eval())
    assert torch.equal(answer(0.0, lambda n: n.train()), plain)
    assert not torch.allclose(answer(0.4, lambda n: n.train()), plain, atol=1e-6)
    assert torch.allclose(answer(0.4, lambda n: n.eval()), plain) is (rung != "zoneout")
