"""The networks: every encoder sees every bar, instruments see each other only where they should."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from daemon.domain.failures import ConfigurationError
from strategies.forecast.networks.attention import CrossAsset
from strategies.forecast.networks.bilstm import BiLstm
from strategies.forecast.networks.config import FoundProduct, NetworkConfig, NetworkKind
from strategies.forecast.networks.heads import LOG_VARIANCE_MAX
from strategies.forecast.networks.network import Network, parameters_n, with_parameters
from strategies.forecast.networks.products import Products
from strategies.forecast.networks.tcn import blocks_for

CONFIG = NetworkConfig(channels=6, timeframes=3, hidden=6, embedding=7, sequence_bars=9)
KINDS = pytest.mark.parametrize("kind", NetworkKind)


def network(config: NetworkConfig = CONFIG) -> Network:
    torch.manual_seed(0)
    return Network(config).eval()


def grown(made: Network) -> Network:
    """Move what starts at zero, as training would."""
    torch.manual_seed(5)
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return made


def instants(B: int, N: int, C: int = 6, L: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw sequences of usable bars of timeframe 0."""
    torch.manual_seed(1)
    x = torch.randn(B, N, L, C)
    x[..., -1] = 1.0
    return x, torch.zeros(B, dtype=torch.long)


@KINDS
@pytest.mark.parametrize("layers", [1, 2])
def test_what_is_read_of_a_sequence_depends_on_every_bar(kind: NetworkKind, layers: int) -> None:
    made = network(replace(CONFIG, kind=kind, layers=layers))
    torch.manual_seed(2)
    e = torch.randn(2, 9, 7, requires_grad=True)
    read = made.encoder.ends(made.encoder(e))
    assert read.shape == (2, made.encoder.width)
    for part in read.unbind(-1):
        (gradient,) = torch.autograd.grad(part.sum(), e, retain_graph=True)
        reached = gradient.abs().sum(dim=(0, 2)) > 0
        assert reached.all(), reached


def test_both_directions_of_a_bilstm_have_seen_every_bar_where_they_are_read() -> None:
    torch.manual_seed(0)
    model = BiLstm(CONFIG)
    e = torch.randn(1, 9, 7, requires_grad=True)
    h = model(e)
    (at_newest,) = torch.autograd.grad(h[:, -1, 6:].sum(), e, retain_graph=True)
    assert (at_newest.abs().sum(dim=(0, 2)) > 0).tolist() == [False] * 8 + [True]
    torch.testing.assert_close(model.ends(h), torch.cat([h[:, -1, :6], h[:, 0, 6:]], dim=-1))


def test_the_backward_half_is_torchs_own_bidirectional_lstm() -> None:
    torch.manual_seed(0)
    model, e = BiLstm(CONFIG), torch.randn(3, 9, 7)
    oracle = torch.nn.LSTM(7, 6, batch_first=True, bidirectional=True)
    for end, half in (("", model.forth[0]), ("_reverse", model.back[0])):
        mine = {f"{k.removeprefix('cells.')}{end}": v for k, v in half.state_dict().items()}
        oracle.load_state_dict(mine, strict=False)
    torch.testing.assert_close(model(e), oracle(e)[0])


@pytest.mark.parametrize("bars", [1, 2, 3, 4, 7, 8, 12, 15, 16, 64, 128])
def test_a_tcn_has_the_fewest_blocks_that_see_the_whole_sequence(bars: int) -> None:
    seen = [1 + 2 * sum(2**k for k in range(blocks)) for blocks in range(12)]
    assert seen[blocks_for(bars)] >= bars
    assert blocks_for(bars) == 1 or seen[blocks_for(bars) - 1] < bars


@KINDS
def test_forecasts_have_their_shapes_bounds_and_order(kind: NetworkKind) -> None:
    made = grown(network(replace(CONFIG, kind=kind, cross_asset=True)))
    x, place = instants(4, 5)
    with torch.inference_mode():
        found = made(1000 * x, place)
        other = made(1000 * x, place + 1)
    assert found.mean.shape == found.log_variance.shape == (4, 5, 2)
    assert found.quantiles.shape == (4, 5, 2, 3)
    assert not torch.equal(found.mean, other.mean), "each timeframe has its own answer"
    assert found.log_variance.abs().max() <= LOG_VARIANCE_MAX
    assert (found.quantiles.diff(dim=-1) > 0).all(), "quantiles never cross"


def test_a_network_begins_with_small_forecasts_and_the_quantiles_of_a_normal() -> None:
    x, place = instants(4, 5)
    found = network()(x, place)
    assert found.mean.abs().max() < 0.1
    expected = torch.tensor([-1.2816, 0.0, 1.2816]).expand(4, 5, 2, 3)
    torch.testing.assert_close(found.quantiles.detach(), expected, atol=0.1, rtol=0)


@KINDS
def test_without_the_cross_asset_block_an_instrument_is_alone(kind: NetworkKind) -> None:
    made = grown(network(replace(CONFIG, kind=kind)))
    x, place = instants(2, 4)
    with torch.inference_mode():
        before = made(x, place).mean
        x[:, 1] += 1.0
        after = made(x, place).mean
    moved = (before - after).abs().amax(dim=(0, 2)) > 1e-6
    assert moved.tolist() == [False, True, False, False]


def test_the_cross_asset_block_lets_instruments_see_each_other_in_any_order() -> None:
    made = grown(network(replace(CONFIG, cross_asset=True)))
    x, place = instants(2, 5)
    with torch.inference_mode():
        before = made(x, place).mean
        order = torch.tensor([3, 0, 4, 1, 2])
        torch.testing.assert_close(made(x[:, order], place).mean, before[:, order])
        x[:, 1, :, 0] += 1.0
        after = made(x, place).mean
    assert ((before - after).abs().amax(dim=(0, 2)) > 1e-6).all()


def test_an_absent_instrument_neither_sees_nor_is_seen() -> None:
    made = grown(network(replace(CONFIG, cross_asset=True)))
    x, place = instants(2, 5)
    x[:, 1, -1, -1] = 0.0  # no newest bar
    x[:, 3, :6, -1] = 0.0  # too few bars
    with torch.inference_mode():
        before = made(x, place).mean
        changed = x.clone()
        changed[:, [1, 3], :, 0] += 5.0
        after = made(changed, place).mean
        fewer = made(x[:, [0, 2, 4]], place).mean
    torch.testing.assert_close(before[:, [0, 2, 4]], after[:, [0, 2, 4]], atol=0, rtol=0)
    torch.testing.assert_close(before[:, [0, 2, 4]], fewer)
    alone = CrossAsset(4)(torch.randn(1, 3, 4), torch.zeros(1, 3, dtype=torch.bool))
    assert torch.isfinite(alone).all(), "nobody there is no NaN"


def test_the_cross_asset_block_begins_as_if_it_were_not_there() -> None:
    x, place = instants(2, 5)
    with_block = network(replace(CONFIG, cross_asset=True))
    without = network()
    without.load_state_dict(with_block.state_dict(), strict=False)
    torch.testing.assert_close(with_block(x, place).mean, without(x, place).mean)


def test_products_begin_as_if_they_were_not_there() -> None:
    x, place = instants(2, 5)
    made = network()
    before = made(x, place).mean
    with torch.no_grad():
        made.products.newest.weight.add_(1.0)
    torch.testing.assert_close(made(x, place).mean, before, atol=0, rtol=0)


def test_a_product_reads_the_newest_bar_and_all_before_it() -> None:
    block = Products(channels=3, sequence_bars=5)
    with torch.no_grad():
        block.answer.weight.normal_()
        block.newest.weight.zero_()
        block.newest.bias.fill_(0.5)
        block.earlier.weight.zero_()
        block.earlier.weight[:, 1] = 1.0
        block.lags.fill_(0.25)
    x = torch.arange(15.0).reshape(1, 5, 3) / 10
    # channel 1 of the four bars before the newest is 0.1, 0.4, 0.7, 1.0: a quarter of it is 0.55
    product = math.tanh(0.5) * math.tanh(0.55)
    expected = block.answer.weight.sum(dim=1)[None] * product
    torch.testing.assert_close(block(x), expected)


def test_a_network_that_begins_with_a_found_product_forecasts_it_and_nothing_else() -> None:
    x, place = instants(2, 5)
    made = network()
    found = FoundProduct(
        newest=(0.0, 1.0, 0.0, 0.0, 0.0, 0.0),
        newest_level=0.1,
        earlier=(0.0, 0.0, 0.5, 0.0, 0.0, 0.0),
        earlier_level=-0.2,
        lags=(0.3, -0.4),  # of the bar two before the newest, and of the one before it
        size=0.02,
    )
    spread = made(x, place).log_variance
    made.begin((found,))
    newest = x[:, :, -1, 1] + 0.1
    earlier = 0.5 * (0.3 * x[:, :, -3, 2] - 0.4 * x[:, :, -2, 2]) - 0.2
    said = made(x, place)
    torch.testing.assert_close(said.mean[..., 0], 0.02 * torch.tanh(newest) * torch.tanh(earlier))
    assert (said.mean[..., 1] == 0).all()
    torch.testing.assert_close(said.log_variance, spread)
    before = network()(x, place).mean
    made = network()
    made.begin(())
    torch.testing.assert_close(made(x, place).mean, before, atol=0, rtol=0)


def test_a_product_of_bars_is_learned_by_the_block_for_it() -> None:
    """The outcome is a move times the difference of the two before it, and as much noise."""

    def found(*learning: str) -> float:
        made = network().train()
        draw = torch.Generator().manual_seed(3)
        for name, weight in made.named_parameters():
            weight.requires_grad_(name.startswith(learning))
        optimiser = torch.optim.Adam([w for w in made.parameters() if w.requires_grad], lr=0.02)
        correlation = torch.zeros(())
        for _ in range(120):
            x = torch.randn(16, 16, 9, 6, generator=draw)
            y = x[:, :, -1, 2] * (x[:, :, -2, 2] - x[:, :, -3, 2])
            y = y + 1.4 * torch.randn(y.shape, generator=draw)
            mean = made(x, torch.zeros(16, dtype=torch.long)).mean[..., 0]
            correlation = torch.corrcoef(torch.stack([mean.flatten(), y.flatten()]))[0, 1]
            optimiser.zero_grad()
            (-correlation).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        return float(correlation.detach())

    with_it = found("products.", "heads.")
    assert with_it > 0.5, with_it  # of 0.71
    assert found("heads.") < 0.2


@KINDS
def test_sizes_are_found_at_which_kinds_have_equal_parameters(kind: NetworkKind) -> None:
    wide = replace(CONFIG, channels=31, embedding=32, sequence_bars=64)
    wanted = parameters_n(replace(wide, hidden=48))
    assert wanted == sum(p.numel() for p in Network(replace(wide, hidden=48)).parameters())
    found = with_parameters(replace(wide, kind=kind), wanted)
    assert abs(parameters_n(found) - wanted) <= 0.05 * wanted
    if kind is NetworkKind.BILSTM:
        assert found.hidden == 48


def test_a_size_that_no_network_has_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no gru has 50 parameters within 5 %: hidden = "):
        with_parameters(replace(CONFIG, kind=NetworkKind.GRU), 50)
