"""From ReLUs to spikes: closed forms, bounds from arithmetic, and the network it came from."""

import copy
import itertools

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn
from toys import toy_images

from snnlib.anytime import read_anytime
from snnlib.conversion import activation_scales, convert
from snnlib.encoding import constant_encode
from snnlib.readout import firing_rate, predict


def relu_network(*sizes, bias=True):
    """Dense layers with a ReLU between any two, in float64, so that rounding decides no spike."""
    torch.manual_seed(3)
    row = [nn.Linear(a, b, bias=bias) for a, b in itertools.pairwise(sizes)]
    parts = [part for linear in row for part in (linear, nn.ReLU())]
    return nn.Sequential(*parts[:-1]).double()


def rates_of(converted, images, n_steps):
    functional.reset_net(converted)
    with torch.no_grad():
        return firing_rate(converted(constant_encode(images, n_steps)))


def images_of(n, *shape):
    return torch.rand(n, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("n_steps", [1, 7, 64])
@pytest.mark.parametrize("v_initial", [0.0, 0.5])
def test_a_neuron_fires_as_often_as_steps_times_its_input_rounded_down(n_steps, v_initial):
    currents = torch.arange(-16, 24, dtype=torch.float64)[:, None] / 16  # exact in binary
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU()).double()
    nn.init.ones_(network[0].weight)
    converted = convert(network, [1.0], v_initial)
    counts = n_steps * rates_of(converted, currents, n_steps)
    expected = (n_steps * currents.clamp(0, 1) + v_initial).floor().clamp(max=n_steps)
    assert torch.equal(counts.round(), expected)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("percentile", [100.0, 90.0])
def test_rates_of_the_first_layer_are_its_activations_over_their_scale_within_a_spike(
    bias, percentile
):
    network, images = nn.Sequential(*relu_network(20, 50, 5, bias=bias)[:2]), images_of(40, 20)
    (scale,) = activation_scales(network, images, percentile)
    wanted = (network(images) / scale).clamp(max=1).detach()
    assert (wanted == 1).double().mean() == pytest.approx(1 - percentile / 100, abs=2e-3)
    for n_steps in (4, 50):
        error = wanted - rates_of(convert(network, [scale]), images, n_steps)
        # The largest is x = 1 up to rounding, and then lacks a whole spike.
        assert -1e-9 < error.min() < error.max() < 1 / n_steps + 1e-9


def test_rates_of_the_second_layer_are_right_within_a_number_of_spikes_that_does_not_grow():
    """The first layer lags by less than a spike each, so the input by less than B = sum |w|.

    A neuron then fires at most B spikes too early, and at most 1 + 2 B too late.
    """
    network, images = relu_network(20, 30, 10, 4)[:4], images_of(40, 20)
    scales = activation_scales(network, images, 100)
    converted = convert(network, scales)
    late = 1 + 2 * converted[2].weight.abs().sum(1)
    wanted = network(images).detach() / scales[1]
    for n_steps in (10, 100, 1000):
        error = (rates_of(converted, images, n_steps) - wanted).abs()
        assert (error <= late / n_steps).all()
    assert error.mean() < 0.01


def test_weights_and_biases_are_scaled_as_the_equation_says():
    network = relu_network(6, 5, 4, 3)
    converted = convert(network, [2.0, 0.25])
    for number, before, after in ((0, 1.0, 2.0), (2, 2.0, 0.25), (4, 0.25, 1.0)):
        old, new = network[number], converted[number]
        torch.testing.assert_close(new.weight, old.weight * before / after)
        torch.testing.assert_close(new.bias, old.bias / after)


def test_the_scale_is_the_smallest_activation_that_enough_others_do_not_exceed():
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU())
    nn.init.ones_(network[0].weight)
    images = torch.arange(1.0, 101.0)[:, None]
    for percentile in (1, 50, 99, 100):
        assert activation_scales(network, images, percentile) == [percentile]


def toy_network():
    """A small convolutional network that has learnt the toy images."""
    torch.manual_seed(1)
    network = nn.Sequential(
        nn.Conv2d(1, 6, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 12, 3, groups=2, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12 * 25, 10),
    )
    toys = toy_images(200, 7)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(toys.images), toys.labels).backward()
        optimizer.step()
    return network.eval(), toys


def test_a_converted_network_ends_in_the_predictions_of_the_one_it_came_from():
    network, toys = toy_network()
    images = toy_images(50, 8).images
    with torch.no_grad():
        logits = network(images)
    assert (predict(logits) == torch.arange(50) % 10).float().mean() > 0.9
    converted = convert(network, activation_scales(network, toys.images))
    agree, error = {}, {}
    for n_steps in (2, 16, 128, 256):
        outputs = rates_of(converted, images, n_steps)
        agree[n_steps] = int((predict(outputs) == predict(logits)).sum())
        error[n_steps] = (outputs - logits).abs().mean()
    assert agree[2] < agree[256] == 50
    assert error[256] < error[128] < error[16] < error[2]


def test_a_pool_before_its_relu_adds_up_currents_so_that_only_spikes_go_on():
    torch.manual_seed(5)
    network = nn.Sequential(
        *(nn.Conv2d(1, 4, 5), nn.AvgPool2d(2), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(4 * 144, 30), nn.Dropout(), nn.ReLU(), nn.Linear(30, 20), nn.Linear(20, 10)),
    )
    network = network.double().eval()
    toys = toy_images(10, 2)
    images = toys.images.double()
    converted = convert(network, activation_scales(network, images, 100))
    with torch.no_grad():
        error = {n: (rates_of(converted, images, n) - network(images)).abs() for n in (50, 500)}
    assert error[500].max() < error[50].max() / 5
    assert (error[500] < 0.01 * network(images).abs().max()).all()
    reading = read_anytime(converted[:-1], [(images, toys.labels)], 5)
    assert list(reading.multiply_accumulates) == ["conv1"]
    assert reading.synaptic_operations["dense1"][-1] > 0


def test_with_a_relu_at_the_end_the_outputs_fire():
    network, toys = toy_network()
    fires = nn.Sequential(*network, nn.ReLU())
    converted = convert(fires, activation_scales(fires, toys.images), 0.5)
    functional.reset_net(converted)
    spikes = converted(constant_encode(toys.images[:50], 256))
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(predict(firing_rate(spikes)), predict(network(toys.images[:50])))


def test_the_result_is_a_row_of_spikingjellys_layers_that_the_books_tools_take():
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 20), nn.ReLU(), nn.Linear(20, 10))
    toys = toy_images(30, 2)
    converted = convert(network, activation_scales(network, toys.images))
    kinds = [layer.Flatten, layer.Linear, neuron.IFNode, layer.Linear]
    assert [type(part) for part in converted] == kinds
    assert all(part.step_mode == "m" for part in converted)
    reading = read_anytime(converted, [(toys.images, toys.labels)], 8)
    expected = [rates_of(converted, toys.images, t + 1) for t in range(8)]
    assert reading.n_correct == [int((predict(x) == toys.labels).sum()) for x in expected]
    assert reading.synaptic_operations["dense2"][-1] == 10 * reading.spikes["dense1"][-1] > 0


def test_the_network_and_the_random_numbers_are_left_as_they_were():
    network = relu_network(6, 5, 3).train()
    before, drawn = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    converted = convert(network, activation_scales(network, images_of(9, 6)))
    assert network.training
    assert torch.equal(torch.get_rng_state(), drawn)
    converted[0].weight.data.zero_()
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


REFUSED = {
    "layer 2 .MaxPool2d.* cannot be converted exactly; .* AvgPool2d can be": nn.MaxPool2d(2),
    "layer 2 .BatchNorm2d.* cannot be .*fuse_conv_bn_eval": nn.BatchNorm2d(3),
    "layer 2 .Sigmoid. cannot be converted exactly": nn.Sigmoid(),
    "layer 2 .Sequential. cannot be converted exactly": nn.Sequential(nn.ReLU()),
    "layer 2 .ReLU. must have a Linear or a Conv2d of its own before it": nn.ReLU(),
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_layer_that_cannot_be_converted_is_named(message):
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), REFUSED[message])
    with pytest.raises(ValueError, match=message):
        convert(network, [1.0])
    with pytest.raises(ValueError, match=message):
        activation_scales(network, torch.rand(2, 1, 8, 8))


def test_scales_and_networks_that_do_not_fit_are_refused():
    network = relu_network(4, 3, 2)
    with pytest.raises(
        ValueError, match=r"scales must be one number for each of 1 ReLUs, got \[\]"
    ):
        convert(network, [])
    with pytest.raises(ValueError, match="scales must be a finite number greater than 0, got 0"):
        convert(network, [0.0])
    with pytest.raises(ValueError, match=r"network must be an nn\.Sequential without hooks, got"):
        convert(nn.Linear(2, 2), [])
    with pytest.raises(ValueError, match="network must be a row of layers with weights"):
        convert(nn.Sequential(nn.Flatten()), [])
    nn.init.constant_(network[0].bias, -9.0)
    with pytest.raises(ValueError, match=r"layer 1 \(ReLU\) has 99.9 % of zeros; a larger"):
        activation_scales(network, images_of(5, 4))
