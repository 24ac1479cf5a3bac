"""The fused pass of the CSNN gives the spikes and gradients of its separate layers."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from snnlib.encoding import constant_encode
from snnlib.fast.fused import conv_snn_rate, norm_if_pool
from snnlib.networks import ConvSNN, SmallConvSNN
from snnlib.neurons import IFParameters, LIFParameters, simulate

NEURONS = [
    IFParameters(),
    IFParameters(detach_reset=True),
    IFParameters(v_reset=None, v_threshold=0.8),
    IFParameters(v_reset=-0.25),
]


def make_norm(channels, seed):
    generator = torch.Generator().manual_seed(seed)
    norm = nn.BatchNorm2d(channels)
    norm.weight.data.uniform_(0.5, 1.5, generator=generator)
    norm.bias.data.uniform_(-0.2, 0.6, generator=generator)
    norm.running_mean.uniform_(-0.2, 0.2, generator=generator)
    return norm


def layer_by_layer(currents, norm, neuron, n_steps):
    """Norm, neurons and pool one after the other, on all T steps."""
    x = currents.expand(n_steps, *currents.shape[1:]).permute(0, 1, 4, 2, 3)
    x = norm(x.flatten(0, 1)).unflatten(0, x.shape[:2])
    spikes = simulate(x, neuron).spikes
    pooled = functional.max_pool2d(spikes.flatten(0, 1), 2)
    return pooled.unflatten(0, spikes.shape[:2]).permute(0, 1, 3, 4, 2)


def gradients(run, currents, norm, weights):
    currents = currents.clone().requires_grad_()
    norm.zero_grad()
    spikes = run(currents)
    (spikes * weights.to(spikes)).sum().backward()
    return spikes.detach(), [currents.grad, norm.weight.grad, norm.bias.grad]


@pytest.mark.parametrize("channels", [16, 5])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("repeated", [True, False])
@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_fused_pass_equals_separate_layers_in_float64(neuron, repeated, training, channels):
    n_steps, generator = 5, torch.Generator().manual_seed(2)
    shape = (1 if repeated else n_steps, 20, 4, 6, channels)
    currents = torch.randn(shape, generator=generator)
    weights = torch.randn(n_steps, 20, 2, 3, channels, generator=generator)
    norm = make_norm(channels, 4).train(training)
    exact_norm = copy.deepcopy(norm).double()

    spikes, ours = gradients(
        lambda x: norm_if_pool(x, norm, neuron, n_steps), currents, norm, weights
    )
    exact_spikes, exact = gradients(
        lambda x: layer_by_layer(x, exact_norm, neuron, n_steps),
        currents.double(),
        exact_norm,
        weights,
    )

    assert 0 < spikes.mean() < 1
    assert torch.equal(spikes.double(), exact_spikes)
    for a, b in zip(ours, exact, strict=True):
        assert (a - b).abs().max() <= 1e-6 * b.abs().max()
    torch.testing.assert_close(norm.running_mean.double(), exact_norm.running_mean)
    torch.testing.assert_close(norm.running_var.double(), exact_norm.running_var)


def test_network_answers_and_learns_as_its_own_layers_do():
    torch.manual_seed(0)
    images = torch.rand(6, 1, 28, 28)
    network = ConvSNN(channels=16)
    exact = copy.deepcopy(network).double()

    rate = conv_snn_rate(network, images, 4)
    rate.square().sum().backward()
    exact_rate = exact(constant_encode(images.double(), 4)).mean(0)
    exact_rate.square().sum().backward()

    torch.testing.assert_close(rate.double(), exact_rate)
    for ours, theirs in zip(network.parameters(), exact.parameters(), strict=True):
        assert (ours.grad - theirs.grad).abs().max() <= 2e-5 * theirs.grad.abs().max()
    for name, buffer in network.named_buffers():
        torch.testing.assert_close(buffer.double(), exact.get_buffer(name).double())
    with torch.no_grad():
        torch.testing.assert_close(
            conv_snn_rate(network.eval(), images, 4).double(),
            exact.eval()(constant_encode(images.double(), 4)).mean(0),
        )


def test_one_and_two_threads_give_the_same_bits():
    currents = torch.randn(3, 24, 4, 4, 16, generator=torch.Generator().manual_seed(1))
    n_threads, results = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        norm = make_norm(16, 4)
        run = lambda x, norm=norm: norm_if_pool(x, norm, IFParameters(), 3)  # noqa: E731
        spikes, grads = gradients(run, currents, norm, torch.ones(3, 24, 2, 2, 16))
        results.append([spikes, *grads])
        assert torch.get_num_threads() == threads
    torch.set_num_threads(n_threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("shape", [(2, 1, 4, 4, 16), (4, 1, 3, 4, 16), (4, 4, 4, 16)])
def test_shapes_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError, match="currents"):
        norm_if_pool(torch.zeros(shape), nn.BatchNorm2d(16), IFParameters(), 4)


def test_what_the_kernels_would_misread_is_refused():
    x, norm = torch.zeros(1, 1, 4, 4, 16), nn.BatchNorm2d(16)
    with pytest.raises(ValueError, match="currents must be float32 on the CPU, got torch"):
        norm_if_pool(x.double(), norm, IFParameters(), 1)
    with pytest.raises(ValueError, match="neuron must be IFParameters, without a leak"):
        norm_if_pool(x, norm, LIFParameters(), 1)
    with pytest.raises(ValueError, match="n_steps must be a whole number of at least 1, got 0"):
        norm_if_pool(x, norm, IFParameters(), 0)


def test_a_norm_with_momentum_zero_keeps_its_statistics():
    norm = nn.BatchNorm2d(16, momentum=0.0).train()
    norm_if_pool(torch.randn(1, 2, 4, 4, 16), norm, IFParameters(), 2)
    assert torch.equal(norm.running_mean, torch.zeros(16))
    assert torch.equal(norm.running_var, torch.ones(16))


@pytest.mark.parametrize(
    ("make", "gain"),
    [
        (lambda: ConvSNN(channels=64), 1),
        (lambda: ConvSNN(16, reset="subtract"), 1),
        (lambda: ConvSNN(16, last_fires=False), 1),
        (SmallConvSNN, 6),
        (lambda: SmallConvSNN(reset="subtract"), 6),
    ],
)
def test_each_network_of_the_book_fits(make, gain):
    torch.manual_seed(1)
    images, n_steps = torch.rand(9, 1, 28, 28), 6
    network = make()
    for weight in network.parameters():
        weight.data *= gain  # enough current for the last layer to fire
    exact = copy.deepcopy(network).double()

    rate = conv_snn_rate(network, images, n_steps)
    exact_rate = exact(constant_encode(images.double(), n_steps)).mean(0)
    assert exact_rate.any()
    torch.testing.assert_close(rate.double(), exact_rate)
    rate.square().sum().backward()
    exact_rate.square().sum().backward()
    for ours, theirs in zip(network.parameters(), exact.parameters(), strict=True):
        assert (ours.grad - theirs.grad).abs().max() <= 2e-5 * theirs.grad.abs().max()


def test_a_network_that_learns_is_shown_at_least_one_image():
    network = ConvSNN(channels=16).train()
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(ValueError, match="images must be at least 1 while the network learns"):
        conv_snn_rate(network, torch.zeros(0, 1, 28, 28), 2)
    assert all(torch.equal(before[name], now) for name, now in network.state_dict().items())
    assert conv_snn_rate(network.eval(), torch.zeros(0, 1, 28, 28), 2).shape == (0, 10)


@pytest.mark.parametrize("norm", ["bn", nn.LayerNorm(4), nn.BatchNorm2d(5)])
def test_a_norm_of_another_kind_or_width_is_refused_by_name(norm):
    with pytest.raises(ValueError, match=r"norm must be None or an nn\.BatchNorm2d of 4 channels"):
        norm_if_pool(torch.rand(2, 3, 4, 4, 4), norm, IFParameters(), 2)


def test_a_norm_without_weights_of_its_own_norms_as_one_whose_weights_change_nothing():
    currents = torch.randn(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    plain, whole = nn.BatchNorm2d(4, affine=False), nn.BatchNorm2d(4)
    ours, theirs = (norm_if_pool(currents, norm, IFParameters(), 2) for norm in (plain, whole))
    assert torch.equal(ours, theirs)
