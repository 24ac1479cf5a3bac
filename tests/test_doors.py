"""What comes in at the doors of the engines: exact values of any type, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from snnlib.anytime import read_anytime
from snnlib.experiments.engines import EncoderState, make_network, make_respond
from snnlib.fast.constant import constant_rate
from snnlib.fast.events import poisson_linear_lif, poisson_spikes
from snnlib.fast.fused import conv_snn_rate, norm_if_pool
from snnlib.fast.scan import neuron_scan
from snnlib.fast.sparse import spike_conv2d, spike_linear
from snnlib.forward_forward.class_wise import LocalLinear
from snnlib.forward_forward.goodness import forward_forward_loss
from snnlib.forward_forward.judging import classify_by_goodness, classify_by_rate, label_goodness
from snnlib.forward_forward.network import ForwardForwardLayer, ForwardForwardNetwork, train_layers
from snnlib.networks import ConvSNN, FullyConnectedSNN, NonSpikingNetwork, SmallConvSNN
from snnlib.neurons import IFParameters, LIFParameters
from snnlib.operations import energy_pj, fan_out
from snnlib.settings.presets import PRESETS

SEED = torch.Generator().manual_seed(5)
SPIKES = (torch.rand(3, 2, 1, 28, 28, generator=SEED) < 0.3).float()
GREY = (torch.rand(2, 1, 28, 28, generator=SEED) * 256).floor() / 256  # exact in half precision
WEIGHT = torch.randn(5, 784, generator=SEED)
CURRENTS = (torch.randn(4, 3, 8, generator=SEED) * 8).round() / 4
TALL = torch.randn(64, 16, 3, 3, generator=SEED)
MAPS = (torch.rand(2, 2, 4, 4, 16, generator=SEED) < 0.3).float()


def network_of(kind, **options):
    torch.manual_seed(2)
    return kind(**options).eval()


FC, CONV = network_of(FullyConnectedSNN), network_of(ConvSNN, channels=16)
FF = ForwardForwardNetwork(
    [ForwardForwardLayer(784, 6, 3, lambda currents: neuron_scan(currents, LIFParameters()))]
)
LIF, IF = LIFParameters(), IFParameters()

# A door, what it is given, and what it does with it.
SPIKE_DOORS = {
    "network": (SPIKES, FC),
    "spike_conv2d": (MAPS, lambda x: spike_conv2d(x, TALL)),
    "spike_linear": (MAPS[:, 0, 0], lambda x: spike_linear(x, TALL[:, :, 0, 0].contiguous())),
    "neuron_scan of LIF": (SPIKES.flatten(2), lambda x: neuron_scan(x, LIF).float()),
    "neuron_scan of IF": (SPIKES.flatten(2), lambda x: neuron_scan(x, IF).float()),
    "constant_rate": (SPIKES[0], lambda x: constant_rate(x, 3, LIF).float()),
    "forward-forward": (SPIKES.flatten(2), lambda x: FF(x)[0]),
}
GREY_DOORS = {
    "network": (SPIKES * GREY, FC),
    "convolutional network": (GREY.expand(3, 2, 1, 28, 28), CONV),
    "ordinary network": (GREY, NonSpikingNetwork(ConvSNN(2)).eval()),
    "fused": (GREY, lambda x: conv_snn_rate(CONV, x, 3)),
    "events": (GREY, lambda x: poisson_linear_lif(x, WEIGHT, 5, LIF, seed=1)),
    "event spikes": (GREY, lambda x: poisson_spikes(x, 5, seed=1)),
    "label_goodness": (GREY, lambda x: label_goodness(FF, x)),
    "classify_by_goodness": (GREY, lambda x: classify_by_goodness(FF, x)),
    "classify_by_rate": (GREY, lambda x: classify_by_rate(FF, x)),
    "read_anytime": (
        GREY,
        lambda x: torch.tensor(read_anytime(FC, [(x, torch.tensor([1, 0]))], 3).n_correct),
    ),
}
ENGINES = [
    ("fc", "events"), ("fc", "scan"), ("fc", "torch"), ("fc", "spikingjelly"),
    ("csnn", "fused"), ("csnn", "scan"), ("csnn", "spikingjelly"), ("small-conv", "fused"),
    ("small-conv", "torch"), ("ann-csnn-16", "torch"),
]  # fmt: skip


def engine_door(name, engine):
    few = {"channels": 16} if "csnn" in name else {}
    steps = {} if name.startswith("ann") else {"n_steps": 2, "engine": engine}
    config = replace(PRESETS[name], **steps, **few)
    network = make_network(config).eval()

    def respond(images):
        noise = EncoderState(torch.Generator().manual_seed(3), seed=3)
        return make_respond(config, network, noise, engine)(images)

    return respond


GREY_DOORS |= {f"{name} by {engine}": (GREY, engine_door(name, engine)) for name, engine in ENGINES}


@pytest.mark.parametrize("door", SPIKE_DOORS)
def test_spikes_of_any_type_are_taken(door):
    spikes, run = SPIKE_DOORS[door]
    expected = run(spikes)
    types = [torch.float64, torch.float16, torch.bool, torch.uint8, torch.int64]
    for dtype in types:
        assert torch.equal(run(spikes.to(dtype)), expected), dtype
    for dtype in (np.float32, np.float64, np.bool_, np.uint8):
        assert torch.equal(run(spikes.numpy().astype(dtype)), expected), dtype


@pytest.mark.parametrize("door", GREY_DOORS)
def test_grey_values_that_are_exact_are_taken(door):
    grey, run = GREY_DOORS[door]
    expected = run(grey)
    for exact in (grey.double(), grey.half(), grey.numpy(), grey.double().numpy()):
        assert torch.equal(run(exact), expected)


@pytest.mark.parametrize("door", GREY_DOORS)
def test_images_that_are_not_finite_or_not_exact_are_refused_by_name(door):
    grey, run = GREY_DOORS[door]
    name = "sequence" if "network" in door and "ordinary" not in door else "images"
    for bad in (torch.nan, torch.inf, -torch.inf):
        broken = grey.clone()
        broken[..., 4, 5] = bad
        with pytest.raises(ValueError, match=f"^{name} must .*(NaN|infinity|nan|inf)"):
            run(broken)
    if door != "read_anytime":
        with pytest.raises(ValueError, match=f"^{name} must be float32, or exact in it.*round it"):
            run(grey.double() / 3)
    for thing in ("text", None, [1.0], True, 3):
        with pytest.raises(ValueError, match=f"^{name} must be a torch tensor or a NumPy array"):
            run(thing)
    if name == "images":
        with pytest.raises(ValueError, match=r"^images must be floating point.*divide by 255"):
            run((255 * grey).to(torch.uint8))


def test_one_nan_in_the_repeated_image_of_a_network_is_found():
    image = GREY.clone()
    image[1, 0, 3, 3] = torch.nan
    with pytest.raises(ValueError, match=r"sequence must be finite numbers, got NaN \(1 of 1568"):
        CONV(image.expand(50, 2, 1, 28, 28))


@pytest.mark.parametrize("shape", [(0, 2), (2, 0), (0, 0)])
def test_a_network_asks_for_a_step_and_an_image(shape):
    for network in (FC, CONV, SmallConvSNN()):
        with pytest.raises(ValueError, match=f"at least one step and one image, got T={shape[0]}"):
            network(torch.rand(*shape, 1, 28, 28))
    with pytest.raises(ValueError, match=r"images must be \[N, 1, 28, 28\] with N of at least 1"):
        engine_door("fc", "events")(torch.rand(0, 1, 28, 28))


def test_numbers_of_numpy_work_wherever_a_number_is_asked_for():
    three, two = np.int64(3), np.float32(2.0)
    assert torch.equal(constant_rate(CURRENTS, three, LIF), constant_rate(CURRENTS, 3, LIF))
    assert torch.equal(conv_snn_rate(CONV, GREY, three), conv_snn_rate(CONV, GREY, 3))
    ours = poisson_linear_lif(GREY, WEIGHT.numpy(), three, LIF, seed=three, first_index=three)
    assert torch.equal(ours, poisson_linear_lif(GREY, WEIGHT, 3, LIF, seed=3, first_index=3))
    assert network_of(FullyConnectedSNN, tau=two).layers[2].tau == 2.0
    assert network_of(ConvSNN, channels=three).layers[0].out_channels == 3
    assert read_anytime(FC, [(GREY, np.array([1, 2], np.uint8))], three).n_images == 2
    assert torch.equal(fan_out(FC.layers[1], (np.int64(784),)), fan_out(FC.layers[1], (784,)))
    assert energy_pj(two, 0) == 1.8
    assert ForwardForwardLayer(three, three, three, torch.relu).linear.weight.shape == (3, 3)
    answers = classify_by_goodness(FF, GREY, first_layer=np.int64(0))
    assert torch.equal(answers, classify_by_goodness(FF, GREY))


REFUSED = {
    "n_steps": [
        lambda bad: constant_rate(CURRENTS, bad, LIF),
        lambda bad: conv_snn_rate(CONV, GREY, bad),
        lambda bad: norm_if_pool(MAPS, None, IF, bad),
        lambda bad: poisson_linear_lif(GREY, WEIGHT, bad, LIF, seed=0),
        lambda bad: poisson_spikes(GREY, bad, seed=0),
        lambda bad: read_anytime(FC, [], bad),
        lambda bad: ForwardForwardLayer(3, 3, bad, torch.relu),
    ],
    "seed": [lambda bad: poisson_spikes(GREY, 2, seed=bad)],
    "first_index": [lambda bad: poisson_spikes(GREY, 2, seed=0, first_index=bad)],
    "tau": [lambda bad: FullyConnectedSNN(bad), lambda bad: SmallConvSNN(bad)],
    "reset": [lambda bad: FullyConnectedSNN(reset=bad), lambda bad: ConvSNN(reset=bad)],
    "channels": [lambda bad: ConvSNN(bad)],
    "last_fires": [lambda bad: ConvSNN(2, last_fires="no" if bad is True else bad)],
    "bfloat16": [lambda bad: conv_snn_rate(CONV, GREY, 2, bfloat16=1 if bad is True else bad)],
    "neuron": [
        lambda bad: neuron_scan(CURRENTS, bad),
        lambda bad: constant_rate(CURRENTS, 2, bad),
        lambda bad: poisson_linear_lif(GREY, WEIGHT, 2, bad, seed=0),
        lambda bad: norm_if_pool(MAPS, None, bad, 2),
    ],
    "surrogate": [
        lambda bad: neuron_scan(CURRENTS, LIF, bad),
        lambda bad: constant_rate(CURRENTS, 2, LIF, bad),
        lambda bad: poisson_linear_lif(GREY, WEIGHT, 2, LIF, seed=0, surrogate=bad),
        lambda bad: norm_if_pool(MAPS, None, IF, 2, bad),
    ],
    "engine": [lambda bad: neuron_scan(CURRENTS, LIF, engine=bad)],
    "input_rms": [lambda bad: ForwardForwardLayer(3, 3, 2, torch.relu, None, bad)],
    "in_features": [lambda bad: ForwardForwardLayer(bad, 3, 2, torch.relu)],
    "out_features": [lambda bad: ForwardForwardLayer(3, bad, 2, torch.relu)],
    "pass_on": [lambda bad: ForwardForwardNetwork([], bad)],
    "first_layer": [lambda bad: classify_by_goodness(FF, GREY, first_layer=bad)],
    "side": [lambda bad: LocalLinear(bad, 10, 2)],
    "field": [lambda bad: LocalLinear(6, 10, bad)],
    "n_out": [lambda bad: LocalLinear(6, bad, 2)],
    "shape": [lambda bad: fan_out(FC.layers[1], (bad,))],
    "accumulates": [lambda bad: energy_pj(bad, 0)],
    "multiply_accumulates": [lambda bad: energy_pj(0, bad)],
    "weight": [lambda bad: poisson_linear_lif(GREY, bad, 2, LIF, seed=0)],
    "currents": [lambda bad: neuron_scan(bad, LIF), lambda bad: norm_if_pool(bad, None, IF, 2)],
    "current": [lambda bad: constant_rate(bad, 2, LIF)],
}


@pytest.mark.parametrize("bad", ["text", True, float("nan"), [2], -1.5], ids=str)
@pytest.mark.parametrize("name", REFUSED)
def test_texts_booleans_and_what_is_no_such_number_are_refused_by_name(name, bad):
    for call in REFUSED[name]:
        with pytest.raises(ValueError, match=f"^{name} must"):
            call(bad)


def test_pairs_to_learn_from_are_checked_before_a_step_is_taken():
    before = FF.layers[0].linear.weight.clone()
    optimizer = torch.optim.SGD(FF.parameters(), lr=1.0)

    def train(positive, negative):
        train_layers(FF, [(positive, negative)], lambda a, b: forward_forward_loss(a, b, 0.1),
                     optimizer)  # fmt: skip

    broken = GREY.clone()
    broken[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="positive inputs must be finite numbers, got NaN"):
        train(broken, GREY)
    with pytest.raises(ValueError, match="negative inputs must be finite"):
        train(GREY, broken)
    with pytest.raises(ValueError, match="must have one shape"):
        train(GREY, GREY[:1])
    assert torch.equal(FF.layers[0].linear.weight, before)
    with pytest.raises(ValueError, match="inputs must be finite numbers, got NaN"):
        FF(broken)
