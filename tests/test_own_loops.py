"""What a user's own loop and own layers do to a network is heeded, or refused in a sentence."""

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from snnlib.encoding import constant_encode
from snnlib.ff_post import PostNetwork
from snnlib.ff_presets import POST_PRESETS
from snnlib.fused import conv_snn_rate
from snnlib.known_layers import knows
from snnlib.networks import ConvSNN, FullyConnectedSNN
from snnlib.neurons import LIFParameters
from snnlib.readout import evaluation_mode, firing_rate, rate_mse
from snnlib.steady import steady_rate
from snnlib.training import evaluate, train_epoch


def toy():
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.BatchNorm1d(2))


def batches():
    return [(torch.rand(6, 1, 2, 2), torch.arange(6) % 2)]


def test_an_evaluation_leaves_a_frozen_norm_frozen():
    network = toy().train()
    network[2].eval()
    evaluate(network, network, batches(), rate_mse)
    assert [part.training for part in network] == [True, True, False]
    with evaluation_mode(network):
        assert not any(part.training for part in network.modules())
    assert [part.training for part in network] == [True, True, False]


def test_an_optimizer_of_another_network_is_refused():
    network, other = toy(), toy()
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="optimizer must hold parameters of network"):
        train_epoch(network, network, batches(), rate_mse, optimizer)
    with pytest.raises(ValueError, match="optimizer must be one whose step takes no closure"):
        train_epoch(network, network, batches(), rate_mse, torch.optim.LBFGS(network.parameters()))


def test_a_scheduler_that_wants_a_loss_is_refused():
    network = toy()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    with pytest.raises(ValueError, match="scheduler must be one that is stepped after every"):
        train_epoch(network, network, batches(), rate_mse, optimizer, scheduler=plateau)


def test_a_norm_without_running_statistics_sees_the_whole_batch_in_the_fused_engine():
    network = ConvSNN(channels=16).eval()
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean = part.running_var = part.num_batches_tracked = None
            part.track_running_stats = False
    images = torch.rand(40, 1, 28, 28) ** 3  # more than fit into the cache at once
    with torch.no_grad():
        own = firing_rate(network(constant_encode(images, 3)))
        quick = conv_snn_rate(network, images, 3)
    assert (own - quick).abs().max() < 1e-6 or (own != quick).float().mean() < 0.02


def test_the_posts_network_heeds_a_bias_and_a_pruned_layer():
    config = POST_PRESETS["ff-1"]
    images = torch.ones(3, 1, 28, 28)  # every pixel fires at every step: nothing is random
    network = PostNetwork(config)
    network.layers[0] = nn.Linear(784, 10)
    nn.init.zeros_(network.layers[0].weight)
    nn.init.constant_(network.layers[0].bias, 5.0)
    assert (network.rates(images, torch.Generator())[0] == 1).all()

    network = PostNetwork(config)
    nn.init.ones_(network.layers[0].weight)
    prune.custom_from_mask(network.layers[0], "weight", torch.zeros(10, 784))
    assert (network.rates(images, torch.Generator())[0] == 0).all()


@pytest.mark.parametrize("network", [FullyConnectedSNN().double(), ConvSNN(channels=16).half()])
def test_engines_in_float32_do_not_take_a_network_of_another_precision(network):
    assert not knows("events", network)
    assert not knows("fused", network)
    assert knows("scan", network)


def test_half_precision_rates_are_counted_in_full():
    current = torch.tensor([1.5, 2.5], dtype=torch.float16)
    exact = steady_rate(current.float(), 3000, LIFParameters())
    half = steady_rate(current, 3000, LIFParameters())
    assert half.dtype == torch.float16
    assert torch.equal(half, exact.half())
