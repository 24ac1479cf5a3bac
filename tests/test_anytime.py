"""Early readings and their work: counted by hand, by brute force, and against the evaluation."""

import itertools
import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

from snnlib.anytime import Reading, read_anytime
from snnlib.data import load_mnist, make_loader
from snnlib.encoding import constant_encode, poisson_encode
from snnlib.experiments.engines import (
    EncoderState,
    choose_engine,
    make_network,
    make_respond,
    reading_of,
)
from snnlib.experiments.run import run_experiment
from snnlib.networks import ConvSNN, FullyConnectedSNN, NonSpikingNetwork, SmallConvSNN
from snnlib.operations import energy_pj, fan_out
from snnlib.readout import firing_rate, predict
from snnlib.settings.claims import CLAIMS
from snnlib.settings.presets import PRESETS
from snnlib.training import evaluate

SMALL = {
    "fc": replace(PRESETS["fc"], n_steps=6),
    "csnn": replace(PRESETS["csnn"], n_steps=5, channels=3),
    "small-conv": replace(PRESETS["small-conv"], n_steps=4, normalise=True),
}


def strong_network(config):
    """An untrained network, in evaluation mode, whose neurons fire in every layer."""
    network = make_network(config).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight *= 4.0
    return network


@pytest.fixture(params=SMALL, scope="module")
def small(request, test_images):
    config = replace(SMALL[request.param], anytime_steps=SMALL[request.param].n_steps)
    network = strong_network(config)
    batches = make_loader(test_images, 12)
    return config, network, batches, reading_of(config, network, batches, "scan", seed=3)


def test_a_three_by_three_convolution_reaches_four_six_or_nine_places_from_each_pixel():
    conv = nn.Conv2d(1, 2, kernel_size=3, padding=1)
    expected = [[4, 6, 6, 4], [6, 9, 9, 6], [4, 6, 6, 4]]
    assert fan_out(conv, (1, 3, 4)).tolist() == [[[2 * n for n in row] for row in expected]]


def test_every_input_of_a_dense_layer_reaches_every_output():
    assert fan_out(layer.Linear(7, 5, step_mode="m"), (7,)).tolist() == [5] * 7


@pytest.mark.parametrize(
    ("kernel", "options"),
    [(3, {"padding": 1}), (2, {"stride": 2}), (3, {"stride": 2, "dilation": 2}), (4, {})],
)
def test_fan_out_is_what_counting_index_by_index_gives(kernel, options):
    conv = layer.Conv2d(2, 3, kernel, step_mode="m", **options)
    height, width = 7, 8
    stride, dilation = options.get("stride", 1), options.get("dilation", 1)
    padding, reach = options.get("padding", 0), options.get("dilation", 1) * (kernel - 1)
    counted = torch.zeros(2, height, width)
    rows = range(0, height + 2 * padding - reach, stride)
    columns = range(0, width + 2 * padding - reach, stride)
    for top, left, i, j in itertools.product(rows, columns, range(kernel), range(kernel)):
        row, column = top + dilation * i - padding, left + dilation * j - padding
        if 0 <= row < height and 0 <= column < width:
            counted[:, row, column] += 3  # one connection to each output channel
    assert torch.equal(fan_out(conv, (2, height, width)), counted.double())


def test_the_connections_of_each_network_by_arithmetic(test_images):
    # A 3 x 3 kernel with padding 1 meets 3n - 2 of 3n rows on an image of n rows.
    first, second = (3 * 28 - 2) ** 2, (3 * 14 - 2) ** 2
    expected = {
        FullyConnectedSNN(): {"dense1": 784 * 10},
        ConvSNN(2): {
            "conv1": 2 * first,
            "conv2": 4 * second,
            "dense1": 98 * 32,
            "dense2": 32 * 10,
        },
        SmallConvSNN(): {
            "conv1": 10 * first,
            "conv2": 10 * 20 * second,
            "dense1": 980 * 100,
            "dense2": 100 * 10,
        },
    }
    for network, counts in expected.items():
        reading = read_anytime(network, make_loader(test_images.subset(torch.arange(2)), 2), 1)
        assert reading.connections == counts
        assert reading.ordinary_energy_pj == pytest.approx(4.6 * sum(counts.values()))


class Tiny(nn.Module):
    """784 pixels, of which two matter; three IF neurons, of which two do; two outputs."""

    def __init__(self):
        super().__init__()
        dense1, dense2 = layer.Linear(784, 3, bias=False), layer.Linear(3, 2, bias=False)
        self.layers = nn.Sequential(
            layer.Flatten(), dense1, neuron.IFNode(), dense2, neuron.IFNode()
        )
        functional.set_step_mode(self, "m")
        with torch.no_grad():
            dense1.weight.zero_()
            dense1.weight[0, 0] = 1.0
            dense1.weight[1, :2] = 0.5
            dense2.weight.copy_(torch.tensor([[0.5, 0.0, 0.0], [0.0, 1.0, 1.0]]))


def test_a_tiny_network_by_hand():
    # Spikes in:  step 1: pixel 0;      step 2: pixels 0 and 1;  step 3: none.
    # Hidden 0 fires at 1 and 2. Hidden 1 has 0.5, then 1.5: fires at 2. Hidden 2 never.
    # Output 0 has 0.5, then 1.0: fires at 2. Output 1 has 0, then 1.0: fires at 2.
    spikes = torch.zeros(3, 1, 1, 28, 28)
    spikes[0, 0, 0, 0, 0] = spikes[1, 0, 0, 0, 0] = spikes[1, 0, 0, 0, 1] = 1
    batches = [(torch.zeros(1, 1, 28, 28), torch.tensor([0]))]

    reading = read_anytime(Tiny(), batches, 3, lambda images: spikes)

    assert reading.spikes == {"input": [1, 3, 3], "dense1": [1, 3, 3], "dense2": [0, 2, 2]}
    assert reading.synaptic_operations == {"dense1": [3, 9, 9], "dense2": [2, 6, 6]}
    assert reading.multiply_accumulates == {}
    assert reading.connections == {"dense1": 3 * 784, "dense2": 6}
    assert reading.neurons == {"dense1": 3, "dense2": 2}
    assert reading.n_correct == [1, 1, 1]  # silence and the tie go to class 0
    assert reading.energy_pj == pytest.approx([0.9 * 5, 0.9 * 15, 0.9 * 15])


def test_a_number_is_multiplied_once_and_the_same_current_comes_at_every_step():
    image = torch.zeros(1, 1, 28, 28)
    image[0, 0, 0, 0] = 0.5  # hidden 0 gets 0.5 at each step and fires at steps 2 and 4
    reading = read_anytime(Tiny(), [(image, torch.tensor([1]))], 4)
    assert reading.multiply_accumulates == {"dense1": 3 * 784}
    assert reading.nonzero_multiply_accumulates == {"dense1": 3}
    assert reading.spikes["dense1"] == [0, 1, 1, 3]  # hidden 1 gets 0.25 and fires at step 4
    assert reading.synaptic_operations == {"dense2": [0, 2, 2, 6]}
    assert reading.energy_pj[1] == pytest.approx(4.6 * 3 * 784 + 0.9 * 2)


def test_synaptic_operations_are_what_convolving_spikes_with_ones_adds_up_to(test_images):
    """With weights 1, each operation adds 1 to some output: count them there."""
    network, n_steps = strong_network(SMALL["csnn"]), 5
    batches = make_loader(test_images, 30)
    reading = read_anytime(network, batches, n_steps)
    x = constant_encode(test_images.images, n_steps)
    expected, name = {}, iter(("conv1", "conv2", "dense1", "dense2"))
    with torch.no_grad():
        for part in network.layers:
            if isinstance(part, nn.Conv2d):
                ones = torch.ones_like(part.weight, dtype=torch.float64)
                arrived = F.conv2d(x.flatten(0, 1).double(), ones, padding=1)
                expected[next(name)] = arrived.unflatten(0, (n_steps, -1))
            elif isinstance(part, nn.Linear):
                expected[next(name)] = x.double() @ torch.ones_like(part.weight).double().T
            x = part(x)
    for layer_name in ("conv2", "dense1", "dense2"):
        per_step = expected[layer_name].flatten(1).sum(1).cumsum(0) / len(test_images)
        assert per_step[-1] > 0
        assert reading.synaptic_operations[layer_name] == pytest.approx(
            per_step.tolist(), rel=1e-12
        )


def test_the_reading_at_every_step_is_the_prediction_from_the_spikes_so_far(small, test_images):
    config, network, batches, reading = small
    noise = EncoderState(torch.Generator())
    noise.restart(3)
    hits = torch.zeros(config.n_steps, dtype=torch.int64)
    for images, labels in batches:
        if config.encoding == "poisson":
            x = poisson_encode(images, config.n_steps, generator=noise.generator)
        else:
            currents = (images - 0.1307) / 0.3081 if config.normalise else images
            x = constant_encode(currents, config.n_steps)
        with torch.no_grad():
            spikes = network(x)  # the library's own neurons, step by step
        for t in range(config.n_steps):
            hits[t] += (predict(firing_rate(spikes[: t + 1])) == labels).sum()
    assert reading.n_correct == hits.tolist()
    assert reading.n_images == len(test_images)


def test_the_reading_at_the_last_step_is_the_ordinary_evaluation(small):
    config, network, batches, reading = small
    noise = EncoderState(torch.Generator())
    noise.restart(3)
    respond = make_respond(config, network, noise, "scan")
    metrics = evaluate(network, respond, batches, lambda rate, labels: rate.mean())
    assert reading.n_correct[-1] == metrics.n_correct


def test_work_only_grows_and_is_bounded_by_every_neuron_firing_at_every_step(small):
    config, _, _, reading = small
    for counts in (*reading.spikes.values(), *reading.synaptic_operations.values()):
        assert len(counts) == config.n_steps
        assert all(a <= b for a, b in itertools.pairwise(counts))
    for name, counts in reading.synaptic_operations.items():
        for t, count in enumerate(counts, start=1):
            assert 0 <= count <= t * reading.connections[name]
    for name, n_neurons in reading.neurons.items():
        assert 0 < reading.spikes[name][-1] <= config.n_steps * n_neurons
    assert list(reading.energy_pj) == sorted(reading.energy_pj)
    for name, count in reading.nonzero_multiply_accumulates.items():
        assert 0 < count <= reading.multiply_accumulates[name]


def test_more_steps_change_nothing_of_the_first_ones(test_images):
    network = strong_network(SMALL["csnn"])
    batches = make_loader(test_images, 30)
    short, long = (read_anytime(network, batches, n) for n in (2, 5))
    assert long.n_correct[:2] == short.n_correct
    for name, counts in short.synaptic_operations.items():
        assert long.synaptic_operations[name][:2] == counts


def test_the_event_engine_is_read_with_the_spikes_it_sees():
    pytest.importorskip("numba")
    images = load_mnist(train=False, limit=40)
    config = replace(PRESETS["fc"], n_steps=20, anytime_steps=20, weight_std=0.1)
    network = make_network(config)
    with torch.no_grad():  # multiples of 1/64 add up exactly in any order
        weight = network.get_parameter("layers.1.weight")
        weight.copy_((64 * weight).round() / 64)
    batches = make_loader(images, 16)
    noise = EncoderState(torch.Generator())
    noise.restart(11)
    respond = make_respond(config, network, noise, "events")
    metrics = evaluate(network, respond, batches, lambda rate, labels: rate.mean())
    reading = reading_of(config, network, batches, "events", seed=11)
    assert reading.n_correct[-1] == metrics.n_correct
    grey = images.images.sum().item() / len(images)
    # Spikes per image and step: a mean over 800 draws of 784 pixels, variance below 784 / 4.
    assert abs(reading.spikes["input"][-1] / 20 - grey) < 5 * (784 / 4 / 800) ** 0.5


def test_the_ordinary_network_is_relu_for_neurons_and_logits_at_the_end(test_images):
    spiking = strong_network(SMALL["csnn"])
    conv1, norm1, _, _, conv2, norm2, _, _, _, dense1, _, dense2, _ = spiking.layers
    x = test_images.images[:4]
    with torch.no_grad():
        h = F.conv2d(x, conv1.weight, padding=1)
        h = F.max_pool2d(_norm(norm1, h), 2)
        h = F.max_pool2d(_norm(norm2, F.conv2d(h, conv2.weight, padding=1)), 2)
        expected = F.relu(h.flatten(1) @ dense1.weight.T) @ dense2.weight.T
        logits = NonSpikingNetwork(spiking).eval()(x)
    torch.testing.assert_close(logits, expected)
    assert (logits < 0).any()


def _norm(norm, x):
    """Batch norm with its running statistics, and a rectifier."""
    return F.relu(
        F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
    )


def test_the_ordinary_network_starts_with_the_weights_of_the_spiking_one():
    config = PRESETS["ann-csnn-16"]
    twin = replace(PRESETS["csnn-16-anytime"], seed=config.seed)
    ordinary, spiking = make_network(config).state_dict(), make_network(twin).state_dict()
    assert ordinary.keys() == spiking.keys()
    assert all(torch.equal(ordinary[name], spiking[name]) for name in ordinary)


def test_an_ordinary_network_multiplies_at_every_connection_and_has_one_reading(test_images):
    config = replace(PRESETS["ann-csnn-16"], channels=2)
    network = make_network(config)
    batches = make_loader(test_images, 10)
    reading = reading_of(config, network, batches, choose_engine(config, torch.device("cpu")), 0)
    assert reading.multiply_accumulates == reading.connections
    assert reading.energy_pj == pytest.approx([reading.ordinary_energy_pj])
    assert reading.spikes == reading.synaptic_operations == {}
    network.eval()
    respond = make_respond(config, network, EncoderState(torch.Generator()), "torch")
    metrics = evaluate(network, respond, batches, F.cross_entropy)
    assert reading.n_correct == [metrics.n_correct]
    with pytest.raises(ValueError, match="n_steps must be 1"):
        read_anytime(network, batches, 2)


@pytest.mark.parametrize("name", CLAIMS["anytime"].presets)
def test_a_run_stores_its_readings_in_its_record(name, training_images, test_images):
    steps = min(3, PRESETS[name].anytime_steps)
    small = {"epochs": 1, "batch_size": 20, "channels": 2, "anytime_steps": steps}
    small |= {"n_steps": steps, "engine": "torch" if name.startswith("ann") else "scan"}
    config = replace(PRESETS[name], **small)
    record = run_experiment(config, training_images=training_images, test_images=test_images)
    stored = json.loads(json.dumps(record.to_dict(), allow_nan=False))["extra"]["anytime"]
    reading = Reading(**stored)
    assert reading.n_images == record.n_test == len(test_images)
    assert len(reading.accuracy) == len(reading.energy_pj) == steps
    assert reading.n_correct[-1] == record.result.n_correct


def test_the_twins_differ_in_what_makes_them_ordinary_only():
    ordinary = {"name", "question", "neuron", "encoding", "n_steps", "loss", "anytime_steps"}
    for spiking, plain in (("fc-anytime", "ann-fc"), ("csnn-16-anytime", "ann-csnn-16")):
        one, other = vars(PRESETS[spiking]), vars(PRESETS[plain])
        assert {name for name in one if one[name] != other[name]} <= ordinary
    told = {"name", "question", "claim", "anytime_steps", "protocol"}
    for spiking, base in (("fc-anytime", "fc-ce"), ("csnn-16-anytime", "csnn-16")):
        one, other = vars(PRESETS[spiking]), vars(PRESETS[base])
        assert {name for name in one if one[name] != other[name]} <= told


def test_an_addition_costs_less_than_a_fifth_of_a_multiply_accumulate():
    assert energy_pj(10, 0) == pytest.approx(9.0)
    assert energy_pj(0, 10) == pytest.approx(46.0)
    assert energy_pj(5, 0) < energy_pj(0, 1) < energy_pj(6, 0)


def test_the_network_returns_to_the_mode_it_had(test_images):
    network = ConvSNN(2).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    read_anytime(network, make_loader(test_images, 10), 2)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_bad_input_is_refused_by_name(test_images):
    batches = make_loader(test_images, 10)
    with pytest.raises(ValueError, match="n_steps must be a whole number of at least 1, got 0"):
        read_anytime(FullyConnectedSNN(), batches, 0)
    with pytest.raises(ValueError, match="batches must hold at least one batch"):
        read_anytime(FullyConnectedSNN(), [], 2)
    with pytest.raises(ValueError, match="encode must return n_steps=3 steps, got 2"):
        read_anytime(FullyConnectedSNN(), batches, 3, lambda x: poisson_encode(x, 2))
    with pytest.raises(ValueError, match="layer must be a convolution or a dense layer"):
        fan_out(nn.ReLU(), (3,))
    with pytest.raises(ValueError, match="spiking must end in a layer of neurons"):
        NonSpikingNetwork(NonSpikingNetwork(ConvSNN(2)))


@pytest.mark.parametrize(
    ("base", "changes", "named"),
    [
        ("ann-fc", {"n_steps": 2}, "n_steps"),
        ("ann-fc", {"encoding": "poisson"}, "encoding"),
        ("ann-fc", {"engine": "scan"}, "engine"),
        ("ann-fc", {"anytime_steps": 4}, "anytime_steps"),
        ("fc", {"loss": "logit_cross_entropy"}, "logit_cross_entropy"),
        ("fc", {"anytime_steps": 0}, "anytime_steps"),
        ("small-conv-conv-once", {"anytime_steps": 4}, "anytime_steps"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(base, changes, named):
    with pytest.raises(ValueError, match=named):
        replace(PRESETS[base], **changes)


def test_a_label_that_the_network_has_no_neuron_for_is_refused():
    pictures = torch.zeros(2, 1, 28, 28)
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.9, got 9 to 10"):
        read_anytime(FullyConnectedSNN(), [(pictures, torch.tensor([9, 10]))], 2)


def test_a_batch_without_images_adds_nothing():
    pictures, labels = torch.rand(2, 1, 28, 28), torch.tensor([0, 1])
    empty = (pictures[:0], labels[:0])
    with_it, without = (
        read_anytime(FullyConnectedSNN().requires_grad_(False), batches, 2).n_images
        for batches in ([empty, (pictures, labels)], [(pictures, labels)])
    )
    assert with_it == without == 2


def test_an_input_that_a_layer_does_not_take_is_refused_by_its_shape():
    with pytest.raises(ValueError, match=r"shape must be one that Linear.* takes, got \[4\]"):
        fan_out(torch.nn.Linear(3, 2), (4,))
