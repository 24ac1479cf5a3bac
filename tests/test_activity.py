"""What layers do, by hand counts and by independent sums."""

import pytest
import torch

from snnlib.activity import layer_spikes, rate_penalty, silent_and_saturated
from snnlib.encoding import constant_encode
from snnlib.hidden import DenseSNN
from snnlib.networks import SmallConvSNN
from snnlib.neurons import LIFParameters, simulate


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_silent_and_saturated_by_hand():
    spikes = torch.zeros(2, 3, 4)  # four neurons, seen for two steps of three images
    spikes[..., 1] = 1
    spikes[0, 2, 2] = 1
    spikes[..., 3] = 1
    spikes[1, 0, 3] = 0
    assert silent_and_saturated(spikes) == (0.25, 0.25)
    assert silent_and_saturated(spikes.bool().numpy()) == (0.25, 0.25)
    assert silent_and_saturated(spikes.reshape(2, 3, 2, 2)) == (0.25, 0.25)


def test_the_penalty_is_the_squared_distance_from_the_band_by_hand():
    spikes = torch.zeros(4, 1, 3)
    spikes[:1, 0, 1] = 1
    spikes[:, 0, 2] = 1  # rates 0, 0.25, 1
    expected = (0.125**2 + 0 + 0.5**2) / 3
    assert rate_penalty(spikes, 0.125, 0.5).item() == pytest.approx(expected)
    assert rate_penalty(spikes, 0.0, 1.0).item() == 0.0


def test_the_gradient_of_the_penalty_pulls_into_the_band():
    spikes = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64).expand(4, 1, 3).clone()
    spikes.requires_grad_()
    rate_penalty(spikes, 0.125, 0.5).backward()
    # Per spike: 2 (r - nearest bound) / 3 neurons / 4 steps.
    expected = 2 * torch.tensor([-0.125, 0.0, 0.5], dtype=torch.float64) / 3 / 4
    torch.testing.assert_close(spikes.grad, expected.expand(4, 1, 3))


def test_the_penalty_wakes_silent_neurons_and_calms_saturated_ones():
    torch.manual_seed(3)
    network = DenseSNN((784, 20, 10))
    images = torch.rand(30, 1, 28, 28, generator=seeded(1)).add(0.05).clamp(0, 1)
    with torch.no_grad():
        network.layers[1].weight.abs_()
        network.layers[1].weight[:10] *= -0.02
    sequence = constant_encode(images, 5)

    def hidden():
        return layer_spikes(network, sequence)[1][0]

    assert silent_and_saturated(hidden()) == (0.5, 0.5)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-4)
    for _ in range(100):
        optimizer.zero_grad()
        rate_penalty(hidden(), 0.1, 0.4).backward()
        optimizer.step()
    silent, saturated = silent_and_saturated(hidden())
    assert silent < 0.5
    assert saturated < 0.5


def test_pytorchs_weights_leave_every_hidden_neuron_silent_and_larger_ones_wake_most(
    training_images,
):
    # With uniform weights of variance 1 / (3 * 784) and a mean square of pixels of 0.1, the
    # current has a standard deviation near 0.18: a threshold of 1 is five of them away.
    sequence = constant_encode(training_images.images, 8)
    for scale, least, most in ((1.0, 0.95, 1.0), (5.0, 0.0, 0.1)):
        with torch.no_grad():
            _, spikes = layer_spikes(DenseSNN(weight_scale=scale), sequence)
        silent, saturated = silent_and_saturated(spikes[0])
        assert least <= silent <= most
        assert saturated == 0


@pytest.mark.parametrize("recurrent", [False, True])
def test_the_spikes_of_each_layer_are_those_that_the_network_sends_on(recurrent):
    network = DenseSNN((784, 12, 8, 10), weight_scale=6.0, recurrent=recurrent)
    sequence = constant_encode(torch.rand(5, 1, 28, 28, generator=seeded(2)), 6)
    output, (first, second, last) = layer_spikes(network, sequence)
    assert torch.equal(output, network(sequence))
    assert torch.equal(last, output)
    assert first.shape == (6, 5, 12)
    currents = second.detach() @ network.layers[5].weight.T
    assert torch.equal(simulate(currents, LIFParameters()).spikes, last)
    assert second.requires_grad
    assert not any(part._forward_hooks for part in network.modules())


def test_neurons_that_never_fire_are_no_layer_of_spikes():
    network = DenseSNN((784, 12, 10), readout_tau=2.0)
    output, spikes = layer_spikes(network, torch.zeros(3, 2, 1, 28, 28))
    assert output.shape == (3, 2, 10)
    assert [part.shape for part in spikes] == [(3, 2, 12)]


def test_maps_of_a_convolution_are_counted_too():
    _, spikes = layer_spikes(SmallConvSNN(), torch.rand(3, 2, 1, 28, 28, generator=seeded(5)))
    assert [tuple(part.shape[2:]) for part in spikes] == [(10, 28, 28), (20, 14, 14), (100,), (10,)]
    silent, saturated = silent_and_saturated(spikes[0])
    assert 0 <= silent + saturated <= 1


@pytest.mark.parametrize(("low", "high", "named"), [(0.5, 0.25, "high"), (-0.1, 1.0, "low")])
def test_a_band_is_a_part_of_0_to_1(low, high, named):
    with pytest.raises(ValueError, match=f"^{named} must be a finite number in"):
        rate_penalty(torch.zeros(1, 1, 1), low, high)


@pytest.mark.parametrize("shape", [(3, 2), (0, 2, 5), (3, 0, 5), (3, 2, 0)])
def test_no_neuron_no_rate(shape):
    for call in (silent_and_saturated, lambda spikes: rate_penalty(spikes, 0.1, 0.2)):
        with pytest.raises(ValueError, match=r"^spikes must be \[T, N, ...\]"):
            call(torch.zeros(shape))
